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
import shutil
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path

import filelock
import numpy as np

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.corpus.blocks import content_digest, load, read_blocks
from oscar_paddle.datasets.corpus.places import CorpusFeatures, open_places
from oscar_paddle.datasets.corpus.rows import NO_CHUNK, parse_answer_row, parse_label_row
from oscar_paddle.datasets.corpus.texts import id_type, read_corpus_rows, read_label_rows
from oscar_paddle.datasets.first_look import MANY_UNKNOWN
from oscar_paddle.datasets.formats.reading import MissingFile, RandomAccessFile
from oscar_paddle.datasets.formats.whole_files import flush, user_cache, whole_file, whole_folder

log = logging.getLogger(__name__)
FORMAT = 1  # raise it when the arrays change
LABELS, ANSWERS = "predictions_gt.tsv", "QA_fileB.tsv"
_MANIFEST = "corpus.json"
_ARRAYS = (
    ("ids", "offsets", "row", "start", "image", "label", "questions")  # of texts and documents
    + ("image_document", "image_data_set", "image_chunk", "image_hash")  # of images
)


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
        self.path, self.definition, self._manifest = definition.corpus_file, definition, manifest
        arrays = {name: np.asarray(np.load(folder / f"{name}.npy", mmap_mode="r")) for name in _ARRAYS}
        self.tokens = TextTokens(arrays["ids"], arrays["offsets"])
        self.image, self.questions = arrays["image"], arrays["questions"]
        self._label, self._first_answer = arrays["label"], manifest["first_answer"]
        self._row, self._start = arrays["row"], arrays["start"]
        self.image_document, self.image_hash = arrays["image_document"], arrays["image_hash"]
        self.image_data_set, self.image_chunk = arrays["image_data_set"], arrays["image_chunk"]
        self.regions = None
        self._file = RandomAccessFile(self.path)

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


def columns_at(file, start):
    """The columns of the row that begins at a byte of a RandomAccessFile: list of str."""
    line = b""
    while b"\n" not in line and (more := file.read(1 << 10, start + len(line))):
        line += more
    line = line.partition(b"\n")[0].removeprefix(b"\xef\xbb\xbf")
    return [column.strip().decode("utf-8", "replace") for column in line.split(b"\t")]


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
            manifest = _build(place, definition, tokenizer, settings)
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
        lock.acquire()
    except (NotImplementedError, OSError) as error:
        log.info("%s: cannot be locked (%s)", place, error)
    try:
        yield
    finally:
        lock.release()


def _digest(value):
    return hashlib.blake2b(json.dumps(value, sort_keys=True).encode(), digest_size=6).hexdigest()


def _state(path):
    """[size, time of the last change] of a file, which a copy has anew."""
    found = os.stat(path)
    return [found.st_size, found.st_mtime_ns]


def _kept(place, settings, root):
    """The manifest of what is there, or None where it is to be made."""
    try:
        manifest = json.loads((place / _MANIFEST).read_text())
        if manifest["settings"] != settings:
            return None
        for name, known in manifest["files"].items():
            path = os.path.join(root, name)
            size, date = _state(path)
            if size != known[0] or (date != known[1] and content_digest(path) != known[2]):
                log.info("%s has changed; the corpus is read again", path)
                return None
            known[1] = date
        for name in _ARRAYS:
            np.load(place / f"{name}.npy", mmap_mode="r")  # says so where it is cut off
    except (OSError, ValueError, KeyError, TypeError):
        return None
    with suppress(OSError), whole_file(place / _MANIFEST) as unfinished:
        unfinished.write_text(json.dumps(manifest))
    return manifest


# ---- the first start


def _build(place, definition, tokenizer, settings):
    """Read and tokenise everything, join labels to documents, and write the arrays: the manifest."""
    work = place.with_name(f"{place.name}.blocks")
    files = {}
    read = partial(_read_file, work, files, os.path.dirname(definition.path))
    captions = read(
        definition.corpus_file,
        partial(read_corpus_rows, definition=definition, tokenizer=tokenizer, most=settings["most"]),
    )
    documents = _documents(captions, settings["chunks"])
    if not len(documents["row"]):
        raise DataError(
            f"{definition.corpus_file}: no rows of {', '.join(settings['data_sets'])} (chunks {settings['chunks']})"
        )
    sources = []
    for is_answer in (False, True):
        for number, each in enumerate(definition.data_sets):
            asked = (documents["data_set"] == number) & (documents["is_answer"] == is_answer)
            if asked.any():
                path = os.path.join(each.label_folder, ANSWERS if is_answer else LABELS)
                parse = (
                    parse_answer_row if is_answer else partial(parse_label_row, use_gtlabels=settings["use_gtlabels"])
                )
                if not os.path.isfile(path):
                    row = f"{definition.corpus_file} row {documents['row'][np.argmax(asked)]}"
                    raise MissingFile(f"{path}: no such file; {row} asks for an answer in it")
                blocks = read(path, partial(read_label_rows, parse=parse, tokenizer=tokenizer, most=settings["most"]))
                sources.append((path, blocks, asked))
    label = np.empty(len(documents["row"]), np.int32)
    used, count, first_answer = [], 0, 0
    for path, blocks, asked in sources:
        rows = _label_rows(path, blocks, documents, asked, definition.corpus_file)
        chosen, label[asked] = np.unique(rows, return_inverse=True)
        label[asked] += count
        count += len(chosen)
        used.append(chosen)
        if os.path.basename(path) == LABELS:
            first_answer = count
    manifest = {"settings": settings, "first_answer": first_answer, "files": files}
    with whole_folder(place) as folder:
        del documents["label_hash"]
        parts = [(captions, documents.pop("kept"))]
        parts += [(blocks, chosen) for (_, blocks, _), chosen in zip(sources, used, strict=True)]
        _write_tokens(folder, parts, id_type(tokenizer.vocab_size), definition)
        _write_documents(folder, documents, label)
        (folder / _MANIFEST).write_text(json.dumps(manifest))
        for each in folder.iterdir():
            flush(each)
    shutil.rmtree(work, ignore_errors=True)
    return manifest


def _read_file(work, files, root, path, read_row):
    """The blocks of a file; its state goes into `files`. Blocks of an earlier state of it are not used."""
    state = _state_or_missing(path)
    folder = work / _digest([path, *state])
    folder.mkdir(parents=True, exist_ok=True)
    blocks = read_blocks(path, read_row, folder)
    if _state(path) != state:
        raise DataError(f"{path}: changed while it was being read; start again")
    files[os.path.relpath(path, root)] = [*state, [int(load(block, "crc")[0]) for block in blocks]]
    return blocks


def _state_or_missing(path):
    try:
        return _state(path)
    except FileNotFoundError:
        raise MissingFile(f"{path}: no such file; it holds the rows of the corpus (corpus_file)") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def _documents(blocks, chunks):
    """dict of arrays [D]: those of `read_corpus_rows`, row numbers in the file, and `kept`, their places among all."""
    names = ("row", "start", "image_hash", "id_hash", "label_hash", "data_set", "chunk", "is_answer")
    found = {name: np.concatenate([load(block, name)[0] for block in blocks]) for name in names}  # one after the other
    counts, lines = np.array([(*load(block, "row")[0].shape, load(block, "lines")[0]) for block in blocks]).T
    found["row"] += np.repeat(np.cumsum(lines) - lines, counts).astype(np.int32)
    chunk, (first, last) = found["chunk"], chunks
    inside = (chunk == NO_CHUNK) | ((chunk >= first) & ((chunk < last) | (last < 0)))
    if not inside.all():
        found = {name: values[inside] for name, values in found.items()}
    return {**found, "kept": np.flatnonzero(inside)}


def _label_rows(path, blocks, documents, asked, corpus_file):
    """[documents that ask] int64: the row of a label file that each of them means; of equal ids the last."""
    hashed, is_empty = zip(*(load(block, "id_hash", "is_empty") for block in blocks), strict=True)
    hashed, is_empty = np.concatenate(hashed), np.concatenate(is_empty)
    order = np.argsort(hashed, kind="stable")
    hashed, wanted = hashed[order], documents["label_hash"][asked]
    place = np.searchsorted(hashed, wanted, side="right") - 1
    missing = (place < 0) | (hashed[place] != wanted)
    rows = order[place]
    for bad, what in ((missing, "has no row for"), (is_empty[rows], "has no text for")):
        if bad.any():
            first, others = np.flatnonzero(asked)[np.argmax(bad)], np.count_nonzero(bad) - 1
            key = columns_at(RandomAccessFile(corpus_file), int(documents["start"][first]))[1]
            who = f"{corpus_file} row {documents['row'][first]} asks for" + (
                f", and {others:,} others" if others else ""
            )
            remedy = "leave these rows out, or add the labels (the ids must be written alike)"
            raise DataError(f"{path}: {what} the label {key}, which {who}; {remedy}")
    return rows


def _write_tokens(folder, parts, dtype, definition):
    """ids.npy and offsets.npy of the chosen texts of files: parts is a list of (blocks, rows chosen among all)."""
    counts, figures = [], np.zeros(2, np.int64)
    for blocks, chosen in parts:
        found = [load(block, "count", "figures") for block in blocks]
        counts.append(np.concatenate([count for count, _ in found])[chosen])
        figures += sum(figure for _, figure in found)
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(counts), dtype=np.int64)])
    np.save(folder / "offsets.npy", offsets.astype(np.uint32) if offsets[-1] < 1 << 32 else offsets)
    header = {
        "descr": np.lib.format.dtype_to_descr(np.dtype(dtype)),
        "fortran_order": False,
        "shape": (int(offsets[-1]),),
    }
    with open(folder / "ids.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for blocks, chosen in parts:
            before = 0
            for block in blocks:
                count, values = load(block, "count", "ids")
                here = chosen[slice(*np.searchsorted(chosen, [before, before + len(count)]))] - before
                before += len(count)
                if len(here) < len(count):
                    is_chosen = np.zeros(len(count), bool)
                    is_chosen[here] = True
                    values = values[np.repeat(is_chosen, count)]
                values.tofile(file)
    if figures[1] > MANY_UNKNOWN * figures[0]:
        share = 100 * figures[1] / figures[0]
        log.warning("%s: %.1f %% of the word pieces are [UNK]; is this the right vocab.txt?", definition.path, share)


def _write_documents(folder, documents, label):
    """The other arrays."""
    keys, first, image = np.unique(documents["image_hash"], return_index=True, return_inverse=True)
    del keys
    arrays = {
        "row": documents["row"],
        "start": documents["start"],
        "image": image.astype(np.int32),
        "label": label,
        "questions": np.flatnonzero(documents["is_answer"]).astype(np.int32),
        "image_document": first.astype(np.int32),
        "image_data_set": documents["data_set"][first],
        "image_chunk": documents["chunk"][first],
        "image_hash": documents["id_hash"][first],
    }
    for name, values in arrays.items():
        np.save(folder / f"{name}.npy", values)
