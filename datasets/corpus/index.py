"""A corpus on disk: texts as token ids, documents, and where their images' features lie; memory-mapped and shared.

The first start reads the texts and tokenises them (blocks.py keeps what is done), then writes a folder of arrays into
DATASET.CACHE_DIR; later starts only open it. What is there belongs to the files it was made of, by size and date, and
where a date is new by content; anything else is made again.

Shape letters: D documents, L labels that documents use, K distinct image keys.
"""

import hashlib
import json
import logging
import os
from contextlib import contextmanager, suppress
from pathlib import Path

import filelock
import numpy as np

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.corpus.blocks import content_digest
from oscar_paddle.datasets.corpus.building import ARRAYS, MANIFEST, build, state_of
from oscar_paddle.datasets.corpus.definition import LABELS, path_from
from oscar_paddle.datasets.corpus.places import CorpusFeatures, open_places
from oscar_paddle.datasets.corpus.rows import columns_at
from oscar_paddle.datasets.formats.reading import MissingFile, RandomAccessFile
from oscar_paddle.datasets.formats.whole_files import user_cache, whole_file

log = logging.getLogger(__name__)
FORMAT = 1  # raise it when the arrays change


class TextTokens:
    """Token ids of numbered texts, as `datasets.tensorize.TextBuilder` reads them."""

    def __init__(self, ids, offsets):
        self.ids, self._offsets = ids, offsets

    def __len__(self):
        return len(self._offsets) - 1

    def starts(self, texts):
        return self._offsets[texts].astype(np.int64)

    def lengths(self, texts):
        return self._offsets[np.asarray(texts) + 1].astype(np.int64) - self.starts(texts)


class Corpus:
    """Documents of a corpus; in memory is only what was used, in pages that all processes share.

    Attributes:
        path: the corpus TSV. definition: Definition.
        tokens: TextTokens of D + L texts: number d < D is the caption (or question) of document d, the others are
            tags and answers, as `text_b` gives them.
        image: [D] int32, the image key of each document by number; equal numbers are equal keys.
        questions: [Q] int32, rising, the documents whose text_b is an answer.
        regions: CorpusFeatures, by image number.
    """

    def __init__(self, folder, manifest, definition):
        self._folder = folder
        self.path, self.definition, self._manifest = definition.corpus_file, definition, manifest
        arrays = {name: np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r")) for name in ARRAYS}
        self.tokens = TextTokens(arrays["ids"], arrays["offsets"])
        self.image, self.questions = arrays["image"], arrays["questions"]
        self._label, self._first_answer = arrays["label"], manifest["first_answer"]
        self._row, self._start = arrays["row"], arrays["start"]
        self.image_document, self.image_hash = arrays["image_document"], arrays["image_hash"]
        self.image_data_set, self.image_chunk = arrays["image_data_set"], arrays["image_chunk"]
        self.regions = None
        self._file = RandomAccessFile(self.path)

    def __reduce__(self):
        return _reopened, (self._folder, self._manifest, self.definition, self.regions)  # mapped again, not copied

    def __len__(self):
        return len(self.image)

    def text_b(self, document):
        """The number of the tags or of the answer of a document."""
        return len(self.image) + int(self._label[document])

    def is_question(self, document):
        return bool(self._label[document] >= self._first_answer)

    def images_differ(self, document, other):
        return bool(self.image[document] != self.image[other])

    def columns(self, document):
        """The row of a document as it is in the file: list of str."""
        return columns_at(self._file, int(self._start[document]))

    def image_key(self, image):
        """The image key with this number, as the first of its rows has it."""
        return self.columns(int(self.image_document[image]))[0]

    def where(self, document):
        """File, row and image key of a document, for messages."""
        return f"{self.path} row {int(self._row[document])} (image {self.columns(document)[0]})"

    def fingerprint(self):
        """Hex digest of texts, labels and of what is read of them."""
        found = [self._manifest["settings"], [content for _, _, content in self._manifest["files"].values()]]
        return hashlib.blake2b(json.dumps(found, sort_keys=True).encode(), digest_size=16).hexdigest()

    def features_fingerprint(self):
        """Hex digest of names and sizes of the feature files; the rows themselves may be terabytes."""
        return self.regions.files_digest


def _reopened(folder, manifest, definition, regions):
    corpus = Corpus(folder, manifest, definition)
    corpus.regions = regions
    return corpus


def open_corpus(definition, tokenizer, *, cache_dir, max_seq_len, use_gtlabels=True, chunks=(-1, -1), **options):
    """The Corpus of a Definition; made first, or what is missing of it, where it is not there yet.

    Args:
        cache_dir: folder for what is made; where it cannot be written, one under ~/.cache/oscar_paddle.
        max_seq_len: INPUT.MAX_SEQ_LEN; of each text so many word pieces are kept as a row has room for.
        use_gtlabels, chunks: CORPUS.USE_GTLABELS; (CHUNK_START_ID, CHUNK_END_ID).
        options: feature_dim, max_region, cache_bytes, see `RegionSource`.
    Raises:
        DataError: a file is missing or damaged, a row names what is not there; says file, row and key.
    """
    settings = {
        "format": FORMAT,
        "tokenizer": tokenizer.fingerprint,
        "most": max_seq_len - 2,
        "use_gtlabels": bool(use_gtlabels),
        "chunks": [int(each) for each in chunks],
        "data_sets": [each.name for each in definition.data_sets],
    }
    for each in definition.data_sets:
        if not os.path.isfile(path := os.path.join(each.label_folder, LABELS)):
            raise MissingFile(f"{path}: no such file; it holds the tags of data set {each.name!r} ({definition.path})")
    name = f"corpus-{Path(definition.path).stem}-{_digest([settings, os.path.relpath(definition.path, cache_dir)])}"
    place = _writable(Path(cache_dir), name)
    with _alone(place):
        manifest = _kept(place, settings, os.path.dirname(definition.path))
        if manifest is None:
            manifest = build(place, definition, tokenizer, settings)
        corpus = Corpus(place, manifest, definition)
        where = open_places(place.with_name(f"{name}.features"), corpus)
    corpus.regions = CorpusFeatures(corpus, where, **options)
    return corpus


# ---- where it is kept, and whether it is still right


def _writable(cache_dir, name):
    for folder in (cache_dir, user_cache("corpus", cache_dir)):
        with suppress(OSError):
            folder.mkdir(parents=True, exist_ok=True)
            with whole_file(folder / f"{name}.probe") as probe:
                probe.write_bytes(b"")
            (folder / f"{name}.probe").unlink(missing_ok=True)
            return folder / name
    raise DataError(f"{cache_dir}: cannot be written, nor can the user's cache folder; set DATASET.CACHE_DIR")


@contextmanager
def _alone(place):
    """One process at a time makes or opens it; where the file system has no locks, each does."""
    lock = filelock.FileLock(f"{place}.lock")
    try:
        try:
            lock.acquire(timeout=2)
        except filelock.Timeout:
            log.info("%s: another process is making or opening it; waiting", place)
            lock.acquire()
    except (NotImplementedError, OSError) as error:
        log.info("%s: cannot be locked (%s)", place, error)
    try:
        yield
    finally:
        lock.release()


def _digest(value):
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=6).hexdigest()


def _kept(place, settings, root):
    """The manifest of what is there, or None where it is to be made."""
    try:
        manifest = json.loads((place / MANIFEST).read_text())
        if manifest["settings"] != settings:
            return None
        for name, known in manifest["files"].items():
            path = path_from(root, name)
            size, date = state_of(path)
            if size != known[0] or (date != known[1] and content_digest(path) != known[2]):
                log.info("%s has changed; the corpus is read again", path)
                return None
            known[1] = date
        for name in ARRAYS:
            np.load(place / f"{name}.npy", mmap_mode="r")  # says so where it is cut off
    except (OSError, ValueError, KeyError, TypeError):
        return None
    with suppress(OSError), whole_file(place / MANIFEST) as unfinished:
        unfinished.write_text(json.dumps(manifest))
    return manifest
