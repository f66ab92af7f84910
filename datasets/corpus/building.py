"""The first start of a corpus: its texts read and tokenised, labels joined to documents, and the arrays written.

Shape letters: D documents, L labels that documents use, K distinct image keys.

    ids, offsets                    token ids of D + L texts, uint16 or int32; where each begins, [D + L + 1]
    row, start                      [D] the row of the corpus TSV, from 1, and the byte at which it begins
    image, label                    [D] int32, numbers of the image key and of the label
    questions                       [Q] int32, documents whose label is an answer
    image_document, image_data_set, image_chunk, image_hash    [K] the first document of an image key; what that says
"""

import hashlib
import json
import logging
import os
import shutil
from functools import partial

import numpy as np

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.corpus.blocks import load, read_blocks
from oscar_paddle.datasets.corpus.definition import ANSWERS, LABELS
from oscar_paddle.datasets.corpus.places import check_there
from oscar_paddle.datasets.corpus.rows import NO_CHUNK, columns_at, parse_answer_row, parse_label_row
from oscar_paddle.datasets.corpus.texts import find, id_type, read_corpus_rows, read_label_rows
from oscar_paddle.datasets.first_look import MANY_UNKNOWN
from oscar_paddle.datasets.formats.reading import MissingFile, RandomAccessFile
from oscar_paddle.datasets.formats.whole_files import flush, whole_folder

log = logging.getLogger(__name__)
MANIFEST = "corpus.json"
ARRAYS = (
    ("ids", "offsets", "row", "start", "image", "label", "questions")  # of texts and documents
    + ("image_document", "image_data_set", "image_chunk", "image_hash")  # of images
)


def build(place, definition, tokenizer, settings):
    """Make a corpus; what an earlier start has done is not done again.

    Args:
        place: Path of the folder to write.
        settings: most (word pieces of a text), use_gtlabels, chunks; kept in the manifest.
    Returns:
        the manifest, a dict: settings, first_answer (number of the first label that is an answer), files (path ->
        size, date, checksums).
    Raises:
        DataError: a file is missing or damaged, a row names what is not there.
    """
    work, files = place.with_name(f"{place.name}.blocks"), {}
    read = partial(_read_file, work, files, os.path.dirname(definition.path))
    tokenise = {"tokenizer": tokenizer, "most": settings["most"]}
    captions = read(definition.corpus_file, partial(read_corpus_rows, definition=definition, **tokenise))
    documents = _Documents(captions, settings["chunks"], definition.corpus_file)
    if not documents.count:
        names = ", ".join(each.name for each in definition.data_sets)
        raise DataError(f"{definition.corpus_file}: no rows of {names} (chunks {settings['chunks']})")
    _check_features(documents, definition)
    label, parts, count, first_answer = np.empty(documents.count, np.int32), [], 0, 0
    for path, is_answer, asked in _label_files(documents, definition):
        parse = parse_answer_row if is_answer else partial(parse_label_row, use_gtlabels=settings["use_gtlabels"])
        blocks = read(path, partial(read_label_rows, parse=parse, **tokenise))
        rows, is_used = _label_rows(path, blocks, documents, asked)
        label[asked] = count + (np.cumsum(is_used) - 1)[rows]
        count += np.count_nonzero(is_used)
        first_answer = first_answer if is_answer else count
        parts.append((blocks, is_used))
    manifest = {"settings": settings, "first_answer": int(first_answer), "files": files}
    with whole_folder(place) as folder:
        _write_tokens(folder, [(captions, documents.inside), *parts], id_type(tokenizer.vocab_size), definition)
        _write_documents(folder, documents, label)
        (folder / MANIFEST).write_text(json.dumps(manifest))
        for each in folder.iterdir():
            flush(each)
    shutil.rmtree(work, ignore_errors=True)
    return manifest


def state_of(path):
    """[size, time of the last change] of a file; a copy has the time anew. Raises OSError."""
    found = os.stat(path)
    return [found.st_size, found.st_mtime_ns]


def _read_file(work, files, root, path, read_row):
    """The blocks of a file; its state goes into `files`. Blocks of an earlier state of it are not used."""
    if not os.path.isfile(path):
        raise MissingFile(f"{path}: no such file; it holds the rows of the corpus (corpus_file)")
    state = state_of(path)
    folder = work / hashlib.blake2b(json.dumps([path, *state]).encode(), digest_size=6).hexdigest()
    folder.mkdir(parents=True, exist_ok=True)
    blocks = read_blocks(path, read_row, folder)
    if state_of(path) != state:
        raise DataError(f"{path}: changed while it was being read; start again")
    files[os.path.relpath(path, root)] = [*state, [int(load(block, "crc")[0]) for block in blocks]]
    return blocks


class _Documents:
    """Columns of the documents, see `read_corpus_rows`, read from the blocks when they are asked for.

    Attributes:
        count: D. inside: bool [rows], those of the chosen chunks. path: the corpus TSV.
    """

    def __init__(self, blocks, chunks, path):
        self._blocks, self.path, self.inside = blocks, path, None
        chunk, (first, last) = self["chunk"], chunks
        self.inside = (chunk == NO_CHUNK) | ((chunk >= first) & ((chunk < last) | (last < 0)))
        self.count = int(np.count_nonzero(self.inside))

    def __getitem__(self, name):
        """[D]; `row` counts from 1 in the whole file."""
        parts, lines_before = [], 0
        for block in self._blocks:
            values, lines = load(block, name, "lines")
            parts.append(values + np.int32(lines_before) if name == "row" else values)
            lines_before += int(lines)
        values = np.concatenate(parts)
        return values if self.inside is None or self.inside.all() else values[self.inside]

    def columns(self, document):
        """(number of the row, its columns as text) of a document, for messages."""
        return int(self["row"][document]), columns_at(RandomAccessFile(self.path), int(self["start"][document]))


def _check_features(documents, definition):
    """Raises MissingFile where a feature file is not there, before hours of work rather than after them."""
    data_set, chunk = documents["data_set"].astype(np.int64), documents["chunk"]
    _, first = np.unique(data_set << 32 | chunk.astype(np.int64) + 1, return_index=True)
    for document in first.tolist():
        row, columns = documents.columns(document)
        path = definition.data_sets[data_set[document]].features(int(chunk[document]))
        check_there(path, int(chunk[document]), f"{documents.path} row {row} (image {columns[0]})")


def _label_files(documents, definition):
    """(path, whether it holds answers, bool [D]: the documents that ask for a label in it); tags first."""
    data_set, is_question = documents["data_set"], documents["is_answer"]
    for is_answer in (False, True):
        for number, each in enumerate(definition.data_sets):
            asked = (data_set == number) & (is_question == is_answer)
            if asked.any():
                path = os.path.join(each.label_folder, ANSWERS if is_answer else LABELS)
                if not os.path.isfile(path):
                    row, _ = documents.columns(np.argmax(asked))
                    raise MissingFile(f"{path}: no such file; {documents.path} row {row} asks for a label in it")
                yield path, is_answer, asked


def _label_rows(path, blocks, documents, asked):
    """(row of the label file that each asking document means, of equal ids the last; bool [rows]: is it used)."""
    hashed, is_empty = zip(*(load(block, "id_hash", "is_empty") for block in blocks), strict=True)
    hashed, is_empty = np.concatenate(hashed), np.concatenate(is_empty)
    rows = find(hashed, documents["label_hash"][asked])
    for bad, what in ((rows < 0, "has no row for"), (is_empty[rows], "has no text for")):
        if bad.any():
            row, columns = documents.columns(np.flatnonzero(asked)[np.argmax(bad)])
            others = f", and {np.count_nonzero(bad) - 1:,} others" if np.count_nonzero(bad) > 1 else ""
            remedy = "leave these rows out, or add the labels (the ids must be written alike)"
            who = f"{documents.path} row {row} asks for{others}"
            raise DataError(f"{path}: {what} the label {columns[1]}, which {who}; {remedy}")
    is_used = np.zeros(len(hashed), bool)
    is_used[rows] = True
    return rows, is_used


def _write_tokens(folder, parts, dtype, definition):
    """ids.npy and offsets.npy of the chosen texts of files: parts is a list of (blocks, bool [rows])."""
    counts, figures = [], np.zeros(2, np.int64)
    for blocks, chosen in parts:
        found = [load(block, "count", "figures") for block in blocks]
        counts.append(np.concatenate([count for count, _ in found])[chosen])
        figures += sum(figure for _, figure in found)
    offsets = np.concatenate([[0], np.cumsum(np.concatenate(counts), dtype=np.int64)])
    np.save(folder / "offsets.npy", offsets.astype(np.uint32) if offsets[-1] < 1 << 32 else offsets)
    kind = np.lib.format.dtype_to_descr(np.dtype(dtype))
    header = {"descr": kind, "fortran_order": False, "shape": (int(offsets[-1]),)}
    with open(folder / "ids.npy", "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for blocks, chosen in parts:
            before = 0
            for block in blocks:
                count, values = load(block, "count", "ids")
                values[np.repeat(chosen[before : before + len(count)], count)].tofile(file)
                before += len(count)
    if figures[1] > MANY_UNKNOWN * figures[0]:
        share = 100 * figures[1] / figures[0]
        log.warning("%s: %.1f %% of the word pieces are [UNK]; is this the right vocab.txt?", definition.path, share)


def _write_documents(folder, documents, label):
    """The other arrays, one after the other: each is as long as the corpus."""

    def save(name, values):
        np.save(folder / f"{name}.npy", values)

    save("label", label)
    save("row", documents["row"])
    save("start", documents["start"])
    save("questions", np.flatnonzero(documents["is_answer"]).astype(np.int32))
    first, image = numbered(documents["image_hash"])
    save("image", image)
    save("image_document", first)
    for name, column in (("image_data_set", "data_set"), ("image_chunk", "chunk"), ("image_hash", "id_hash")):
        save(name, documents[column][first])


def numbered(values):
    """Distinct values numbered: (the first place of each [K] int32, the number of each of the values [n] int32)."""
    order = np.argsort(values, kind="stable")
    is_first = np.ones(len(values), bool)
    is_first[1:] = values[order[1:]] != values[order[:-1]]
    numbers = np.empty(len(values), np.int32)
    numbers[order] = np.cumsum(is_first, dtype=np.int32) - 1
    return order[is_first].astype(np.int32), numbers
