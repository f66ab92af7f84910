"""Document frequencies of the self-critical reward: in how many images' captions each run of words stands.

The file is a pickle {"document_frequency": {(word, ...): images}, "ref_len": images}, as published for COCO
(`coco-train-words.p`); ours has the same layout, and the reference reads it.

Source: docs/reference.md, self-critical reward.
"""

from typing import NamedTuple

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.formats import restricted_pickle
from oscar_paddle.datasets.formats.pickle_writer import Call, Name, write_pickle
from oscar_paddle.datasets.formats.reading import reading
from oscar_paddle.datasets.formats.whole_files import whole_file


class Frequencies(NamedTuple):
    """document_frequency: {n-gram, a tuple of 1 to 4 words: images that have it}. num_images: that were counted."""

    document_frequency: dict
    num_images: int


def read_frequencies(path):
    """Read a file of document frequencies.

    Raises:
        DataError: no such file, truncated, not such a pickle, or a key that is no n-gram.
    """
    with reading(path, " (document frequencies; tools/caption_frequencies.py makes them)"), open(path, "rb") as file:
        content = restricted_pickle.load(file, path)
    expected = 'expected a dictionary with "document_frequency" and "ref_len"'
    if not isinstance(content, dict) or not {"document_frequency", "ref_len"} <= content.keys():
        raise DataError(f"{path}: holds no document frequencies; {expected}")
    frequencies, images = content["document_frequency"], content["ref_len"]
    if isinstance(images, bool) or not isinstance(images, (int, float)) or not 1 < images < 2**53:
        raise DataError(f'{path}: "ref_len" is {str(images)[:40]}; expected the number of images, more than 1')
    if not isinstance(frequencies, dict) or not frequencies:
        raise DataError(f'{path}: "document_frequency" holds no n-grams; {expected}')
    for gram, count in frequencies.items():
        if not isinstance(gram, tuple) or not all(isinstance(word, str) for word in gram) or not 1 <= len(gram) <= 4:
            raise DataError(f"{path}: the key {str(gram)[:60]!r} is no tuple of one to four words")
        if not isinstance(count, (int, float)) or not 0 <= count < 2**53:
            raise DataError(f"{path}: {gram} has the frequency {str(count)[:40]!r}; expected a number of images")
    return Frequencies(frequencies, images)


def write_frequencies(path, frequencies):
    """Write Frequencies, whole or not at all, as a pickle of protocol 2 whose mapping gives 0.0 for other n-grams."""
    counts = {gram: float(count) for gram, count in sorted(frequencies.document_frequency.items())}
    mapping = Call(Name("collections", "defaultdict"), (Name("__builtin__", "float"),), items=counts)
    with whole_file(path) as temporary, open(temporary, "wb") as file:
        write_pickle(file, {"document_frequency": mapping, "ref_len": frequencies.num_images}, 2)
