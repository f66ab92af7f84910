"""Token ids of many strings, computed once and kept on disk.

A cache file belongs to one tokenizer (vocabulary, casing, version) and one list of strings, in that order;
anything else has another name. It is memory-mapped, so data-loader workers and ranks share its pages.

File layout, a one-dimensional .npy of int32:
    header   5 x int64: format, CRC-32 of what follows the header, number of strings, of distinct strings, of ids
    offsets  int64 [distinct + 1]: where the ids of a distinct string start
    rows     int32 [strings]: string -> distinct string
    ids      int32 [ids]
"""

import hashlib
import logging
import os
import re
import zlib
from array import array
from contextlib import suppress
from pathlib import Path

import numpy as np

from oscar_paddle.config.errors import DataError
from oscar_paddle.config.progress import tqdm
from oscar_paddle.datasets.formats.whole_files import remove_leftovers, user_cache, whole_file

logger = logging.getLogger(__name__)

FORMAT = 1
HEADER_WORDS = 10  # int32 words
STRINGS_PER_HASH = 65536


class TokenTable:
    """Token ids of a list of strings; equal strings share their storage.

    `table[i]` is the int32 array of the ids of string i, a read-only view; `len(table)` counts strings.

    Args:
        ids: int32 [number of ids].
        offsets: int64 [distinct + 1], rising from 0 to the number of ids.
        rows: int32 [strings], string -> distinct string.
    """

    def __init__(self, ids, offsets, rows):
        self.ids, self.offsets, self.rows = ids.view(), offsets.view(), rows.view()
        for values in (self.ids, self.offsets, self.rows):
            values.flags.writeable = False

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        row = self.rows[index]
        return self.ids[self.offsets[row] : self.offsets[row + 1]]

    def starts(self, indices):
        """Where in `ids` the ids of these strings begin, int64 with the shape of `indices`."""
        return self.offsets[self.rows[indices]]

    def lengths(self, indices=slice(None)):
        """Number of ids of these strings (all of them by default), int64."""
        rows = self.rows[indices]
        return self.offsets[rows + 1] - self.offsets[rows]

    def share_of(self, token):
        """The share of a token id among the ids of all strings, repeated ones each time."""
        before = np.concatenate([[0], np.cumsum(self.ids == token)])
        found = np.diff(before[self.offsets])[self.rows].sum()
        return found / max(1, self.lengths().sum())


def cache_folder(cfg):
    """The folder in which a configuration's token ids are kept, a str or Path."""
    return cfg.DATASET.CACHE_DIR or Path(cfg.DATASET.DATA_DIR) / ".oscar_cache"


def token_table(strings, tokenizer, cache_dir, name):
    """Token ids of all strings, from the cache where it has them.

    Several processes may call this at once: each writes the same file, whole. Older files of the name are deleted.

    Args:
        strings: list of str; each distinct one is tokenised once.
        tokenizer: has `encode(text) -> list of int` and `fingerprint`.
        cache_dir: folder for the cache; if it cannot be written, one under ~/.cache/oscar_paddle, or else memory.
        name: short name for the file and the progress bar, such as "train_captions".
    Returns:
        TokenTable.
    Raises:
        DataError: an entry is not a string.
    """
    path = Path(cache_dir) / f"{re.sub(r'[^A-Za-z0-9_-]', '_', name)}.{_content_key(strings, tokenizer, name)}.npy"
    paths = [path, user_cache("tokens", cache_dir) / path.name]
    for path in paths:
        if (table := _load(path)) is not None:
            return table
    table = _tokenise(strings, tokenizer, name)
    for path in paths:
        try:
            _store(path, table)
        except OSError as error:
            logger.info("cannot keep token ids of %s in %s: %s", name, path.parent, error.strerror or error)
            continue
        _remove_older(path)
        return _load(path) or table  # the copy in memory goes, the mapped one is shared
    logger.warning("token ids of %s stay in memory and are computed again next time: no folder can be written", name)
    return table


def _content_key(strings, tokenizer, name):
    """Hex digest of tokenizer and strings; 600,000 captions take a fraction of a second."""
    for number, value in enumerate(strings):
        if not isinstance(value, str):
            raise DataError(f"{name}: entry {number} is {type(value).__name__} {value!r}, expected a string")
    digest = hashlib.blake2b(f"{FORMAT} {tokenizer.fingerprint} {len(strings)}".encode(), digest_size=16)
    for start in range(0, len(strings), STRINGS_PER_HASH):
        chunk = strings[start : start + STRINGS_PER_HASH]
        # The lengths tell where one string ends: ["ab", "c"] is not ["a", "bc"].
        digest.update(np.fromiter(map(len, chunk), np.int64, len(chunk)).tobytes())
        digest.update("".join(chunk).encode("utf-8", "surrogatepass"))
    return digest.hexdigest()


def _tokenise(strings, tokenizer, name):
    """The table in memory, every distinct string encoded once."""
    row_of = {}
    rows = np.fromiter((row_of.setdefault(text, len(row_of)) for text in strings), np.int32, len(strings))
    ids, offsets = array("i"), array("q", [0])
    tokenizer.encode("a")  # imports and tables now, so that the bar's first estimate is not off by hours
    other_rank = os.environ.get("PADDLE_TRAINER_ID", "0") != "0"
    for text in tqdm(row_of, desc=f"tokenising {name}", unit=" texts", unit_scale=True, delay=1, disable=other_rank):
        ids.extend(tokenizer.encode(text))
        offsets.append(len(ids))
    return TokenTable(np.array(ids, np.int32), np.array(offsets, np.int64), rows)


def _store(path, table):
    """Write the file whole; raises OSError if it or its folder cannot be written."""
    body = np.concatenate([table.offsets.view(np.int32), table.rows, table.ids])
    header = np.array([FORMAT, zlib.crc32(body), len(table), len(table.offsets) - 1, len(table.ids)], np.int64)
    with whole_file(path) as unfinished, open(unfinished, "wb") as file:
        np.save(file, np.concatenate([header.view(np.int32), body]))


def _load(path):
    """The memory-mapped table, or None when there is no file or it is damaged (said in the log)."""
    try:
        words = np.load(path, mmap_mode="r", allow_pickle=False)
        if words.dtype != np.int32 or words.ndim != 1 or len(words) < HEADER_WORDS:
            raise ValueError("not a token cache")
        words = np.asarray(words)  # the same memory, without the slow slicing of numpy.memmap
        version, checksum, num_strings, num_distinct, num_ids = words[:HEADER_WORDS].view(np.int64).tolist()
        body, rows_at = words[HEADER_WORDS:], 2 * (num_distinct + 1)
        ids_at = rows_at + num_strings
        if version != FORMAT or len(body) != ids_at + num_ids or zlib.crc32(body) != checksum:
            raise ValueError("damaged token cache")
        return TokenTable(body[ids_at:], body[:rows_at].view(np.int64), body[rows_at:ids_at])
    except (FileNotFoundError, NotADirectoryError):
        return None
    except Exception as error:  # numpy reads the header as Python text: damage raises anything, tokenize.TokenError too
        logger.warning("%s cannot be used (%s); computing the token ids again", path, error)
        return None


def _remove_older(path):
    """Delete other cache files of the same name, and temporary ones that nobody is writing any more."""
    name = path.name.split(".")[0]
    remove_leftovers(path.parent, f"{name}.*.npy")
    with suppress(OSError):  # another process was faster, or may not delete here: old files only take room
        for other in {*path.parent.glob(f"{name}.{'[0-9a-f]' * 32}.npy")} - {path}:
            other.unlink(missing_ok=True)
