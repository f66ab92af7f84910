"""Token ids of a corpus' texts, and the numbers by which its rows find one another: what a block of a file becomes.

Ids of images, labels and answers are kept as 64-bit hashes: among 8.85 million rows the chance that any two differ and
have one hash is one in a million, and the row of features that is read is compared with the id itself.
"""

import hashlib
from array import array

import numpy as np

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.corpus.rows import first_name, parse_corpus_row


def hashes(names):
    """[n] uint64 of n bytes objects, the same everywhere."""
    digests = b"".join([hashlib.blake2b(name, digest_size=8).digest() for name in names])
    return np.frombuffer(digests, "<u8")


def find(hashed, wanted):
    """[n] int64: where each of `wanted` [n] is among `hashed`, the last place of several; -1 where it is not there."""
    order = np.argsort(hashed, kind="stable")
    place = np.searchsorted(hashed, wanted, side="right", sorter=order) - 1
    found = order[place]
    return np.where((place >= 0) & (hashed[found] == wanted), found, -1)


class TokenWriter:
    """Collects the token ids of texts, of each the first `most`: no row has room for more (see `id_type` for the type).

    Cutting each text to the room for both changes nothing of what is left of a pair when the longer one is cut first.
    """

    def __init__(self, tokenizer, most):
        self._encode, self._most, self._unk = tokenizer.encode, most, tokenizer.unk_id
        self._ids, self._counts = array(np.dtype(id_type(tokenizer.vocab_size)).char), array("H")
        self._all = self._unknown = 0

    def add(self, text):
        try:
            ids = self._encode(text.decode() if isinstance(text, bytes) else text)
        except UnicodeDecodeError as error:
            raise DataError(f"not UTF-8 text ({error.reason} at byte {error.start} of {text[:40]!r})") from None
        self._all += len(ids)
        self._unknown += ids.count(self._unk)
        ids = ids[: self._most]
        self._ids.extend(ids)
        self._counts.append(len(ids))

    def arrays(self):
        """dict: ids [pieces], count [texts] uint16, figures [2]: word pieces in all, unknown ones."""
        return {
            "ids": np.array(self._ids),
            "count": np.array(self._counts),
            "figures": np.array([self._all, self._unknown], np.int64),
        }


def id_type(vocab_size):
    return np.uint16 if vocab_size <= 1 << 16 else np.int32


def read_corpus_rows(lines, definition, tokenizer, most):
    """Arrays of the rows of a corpus TSV whose data sets are listed: `TokenWriter`'s and

    image_hash, id_hash, label_hash: uint64, of the whole image key, of the image id and of the label's id.
    data_set: int8, its number in the definition. chunk: int32. is_answer: bool. kept: bool [lines].
    """
    numbers = {each.name: number for number, each in enumerate(definition.data_sets)}
    writer, kept, rows = TokenWriter(tokenizer, most), [], []
    for line in lines:
        row = parse_corpus_row(line, numbers)
        kept.append(row is not None)
        if row is None:
            definition.check_known(first_name(line))
            continue
        writer.add(row.text)
        rows.append((row.image_key, row.image_id, row.label_id, numbers[row.data_set], row.chunk, row.is_answer))
    keys, images, labels, sets, chunks, answers = zip(*rows, strict=True) if rows else [()] * 6
    return {
        **writer.arrays(),
        "image_hash": hashes(keys),
        "id_hash": hashes(images),
        "label_hash": hashes(labels),
        "data_set": np.array(sets, np.int8),
        "chunk": np.array(chunks, np.int32),
        "is_answer": np.array(answers, bool),
        "kept": np.array(kept, bool),
    }


def read_label_rows(lines, parse, tokenizer, most):
    """Arrays of the rows of a label file: `TokenWriter`'s and id_hash: uint64; is_empty: bool, no text; kept.

    Args:
        parse: function line -> (id, text), see `rows`.
    """
    writer, names, is_empty = TokenWriter(tokenizer, most), [], []
    for line in lines:
        name, text = parse(line)
        names.append(name)
        is_empty.append(not text.strip())
        writer.add(text)
    kept = np.ones(len(names), bool)
    return {**writer.arrays(), "id_hash": hashes(names), "is_empty": np.array(is_empty, bool), "kept": kept}
