"""Document frequencies for the reward of self-critical training: of how many images' captions have an n-gram.

The published file (`coco-train-words.p` of self-critical.pytorch) is a pickle of {"document_frequency": {n-gram: number
of images}, "ref_len": number of images}; ours is the same content, written by tools/caption_frequencies.py.
"""

from collections import Counter

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.formats import torch_files

END = "<eos>"  # the word behind a caption


def read_frequencies(path):
    """(document frequencies {tuple of words: count}, number of images) of such a file.

    Raises:
        DataError: no such file, damaged, or another content.
    """
    content = torch_files.load(path)
    found = content.get("document_frequency") if isinstance(content, dict) else None
    images = content.get("ref_len") if isinstance(content, dict) else None
    if not isinstance(found, dict) or not found or not isinstance(images, (int, float)) or not images > 1:
        raise DataError(
            f"{path}: expected a dictionary with document_frequency (n-gram -> number of images) and ref_len (number "
            "of images), as tools/caption_frequencies.py writes it"
        )
    gram = next(iter(found))
    if not isinstance(gram, tuple) or not all(isinstance(word, str) for word in gram):
        raise DataError(f"{path}: document_frequency has keys such as {gram!r:.40}; expected tuples of words")
    return found, images


def reward_words(caption):
    """A caption as the reward reads it (see `solvers.self_critical.reward_text`), as words."""
    return [*caption.strip().removesuffix(".").split(), END]


def word_frequencies(references):
    """The same of captions; references: iterable of the lists of captions of each image."""
    found, images = Counter(), 0
    for texts in references:
        images += 1
        grams = set()
        for text in texts:
            words = reward_words(text)
            grams.update(tuple(words[i : i + n]) for n in range(1, 5) for i in range(len(words) - n + 1))
        found.update(grams)
    if images < 2:
        raise DataError(f"{images} image(s) with captions; frequencies need two at least")
    return dict(found), images
