"""Checks the corpora of pre-training that a config names: rows, labels, chunks and regions.

Every row and every label is read; of the regions those of some images, drawn at random, for they may be terabytes. Ids
are compared as in datasets/corpus/texts.py, so millions of rows fit into memory. As in dataset.py, findings are
collected and nothing stops at the first.
"""

import os
import time
from array import array
from collections import Counter
from functools import partial

import ijson
import numpy as np

from oscar_paddle.config.errors import ConfigError, DataError
from oscar_paddle.config.progress import tqdm
from oscar_paddle.datasets.checks.figures import Figures
from oscar_paddle.datasets.checks.findings import Findings, file_and_text
from oscar_paddle.datasets.checks.questions import QuestionCheck
from oscar_paddle.datasets.checks.rows import FeatureChecker
from oscar_paddle.datasets.corpus.definition import ANSWERS, LABELS, read_definition
from oscar_paddle.datasets.corpus.places import MAP, ids_and_rows, read_map
from oscar_paddle.datasets.corpus.rows import NO_CHUNK, first_name, parse_answer_row, parse_corpus_row, parse_label_row
from oscar_paddle.datasets.corpus.texts import hashes
from oscar_paddle.datasets.formats.reading import MissingFile, reading
from oscar_paddle.datasets.formats.tsv_file import TsvFile
from oscar_paddle.datasets.pretraining_dataset import rules_of
from oscar_paddle.datasets.regions.rows import columns_of, first_rows

LOOKED_AT = 1000  # images of each corpus whose regions are read, where the caller names no number
SPLITS = {"train": ("DATASET_FILE", "EXTRA_DATASET_FILE"), "dev": ("DEV_DATASET_FILE",)}
_MODES = {"EXTRA_DATASET_FILE": "EXTRA_TEXTB_SAMPLE_MODE"}  # of the others it is TEXTB_SAMPLE_MODE


def check_corpora(cfg, split_names=None, max_images=0, seed=0):
    """Check the corpora of some splits (all that the config names). Writes nothing.

    Args:
        max_images: images of each corpus whose regions are read, drawn at random; 0 = LOOKED_AT.
    Returns:
        QuestionCheck.
    Raises:
        ConfigError: no corpus is named, or a split is none of SPLITS.
    """
    start, check = time.perf_counter(), _Check(cfg, max_images or LOOKED_AT, np.random.default_rng(seed))
    for name in split_names or SPLITS:
        if name not in SPLITS:
            raise ConfigError(f"--splits {name}: pre-training has {', '.join(SPLITS)}")
        for key in SPLITS[name]:
            if cfg.CORPUS[key]:
                check.corpus(key)
    if not check.files:
        raise ConfigError("no corpus to check: set CORPUS.DATASET_FILE")
    regions = {image.key: image.count for image in check.figures.features}
    return QuestionCheck(
        **vars(check.figures),
        findings=check.findings,
        sections=[("Corpora", check.lines)],
        images=range(check.images),
        chosen=set(regions),
        regions=regions,
        seconds=time.perf_counter() - start,
    )


class _Rows:
    """What is kept of the rows of a corpus TSV: numbers of the rows, data sets, chunks, hashes of ids."""

    def __init__(self):
        self._numbers, self._sets, self._chunks, self._answers = array("q"), array("b"), array("i"), array("b")
        self._images, self._labels = [], []
        self._names = [], []

    def add(self, number, data_set, row):
        self._numbers.append(number)
        self._sets.append(data_set)
        self._chunks.append(row.chunk)
        self._answers.append(row.is_answer)
        self._names[0].append(row.image_id)
        self._names[1].append(row.label_id)
        if len(self._names[0]) == 1 << 16:
            self._hash()

    def _hash(self):
        for names, parts in zip(self._names, (self._images, self._labels), strict=True):
            parts.append(hashes(names))
            names.clear()

    def finish(self):
        self._hash()
        self.number, self.data_set = np.array(self._numbers), np.array(self._sets)
        self.chunk, self.is_answer = np.array(self._chunks), np.array(self._answers, bool)
        self.image, self.label = np.concatenate(self._images), np.concatenate(self._labels)


class _Check:
    def __init__(self, cfg, looked_at, rng):
        self.cfg, self.looked_at, self.rng = cfg, looked_at, rng
        self.findings, self.figures, self.lines, self.files, self.images = Findings(), Figures(), [], [], 0

    def corpus(self, key):
        """The corpus that a key of CORPUS names."""
        self.files.append(self.cfg.CORPUS[key])
        try:
            definition = read_definition(self.cfg.CORPUS[key], self.cfg.DATASET.DATA_DIR)
            rows = self._rows(definition)
        except DataError as error:
            self.findings.add("missing_file" if isinstance(error, MissingFile) else "bad_corpus", *file_and_text(error))
            return
        path, questions = definition.corpus_file, int(rows.is_answer.sum())
        if not len(rows.number):
            self.findings.add("bad_corpus", definition.path, f"{path} has no row of its data sets that can be used")
            return
        mode = _MODES.get(key, "TEXTB_SAMPLE_MODE")
        if self.cfg.CORPUS[mode] >= 2 and questions < 2:
            text = f"{questions} rows; CORPUS.{mode} {self.cfg.CORPUS[mode]} draws wrong answers among at least 2"
            self.findings.add("few_answers", path, text)
        for number, each in enumerate(definition.data_sets):
            for is_answer in (False, True):
                asked = (rows.data_set == number) & (rows.is_answer == is_answer)
                if asked.any():
                    self._labels(path, rows, asked, each, is_answer)
            for chunk in np.unique(rows.chunk[rows.data_set == number]).tolist():
                asked = (rows.data_set == number) & (rows.chunk == chunk)
                self._features(path, rows, asked, each, chunk)
        images = len(np.unique(np.stack([rows.image, rows.data_set.astype(np.uint64)]), axis=1).T)
        self.images += images
        if images < 2 and rules_of(self.cfg, self.cfg.CORPUS[mode]).needs_other_images:
            self.findings.add("one_image", path, "all rows that are read show one image")
        name = os.path.basename(definition.path)
        self.lines.append(
            (f"{name}: rows / questions / images", f"{len(rows.number):,} / {questions:,} / {images:,}", "")
        )

    def _rows(self, definition):
        rows, unlisted = _Rows(), Counter()
        numbers = {each.name: number for number, each in enumerate(definition.data_sets)}
        first, last = self.cfg.CORPUS.CHUNK_START_ID, self.cfg.CORPUS.CHUNK_END_ID
        for number, line in _lines(definition.corpus_file):
            try:
                row = parse_corpus_row(line, numbers)
                row or definition.check_known(first_name(line))
                row and row.text.decode()
            except (DataError, UnicodeDecodeError) as error:
                self.findings.add("bad_corpus_row", definition.corpus_file, error, number - 1)
                continue
            if row is None:
                unlisted[first_name(line)] += 1
            elif row.chunk == NO_CHUNK or (row.chunk >= first and (last < 0 or row.chunk < last)):
                rows.add(number, numbers[row.data_set], row)
        for name, count in unlisted.items():
            self.findings.add("unlisted", definition.corpus_file, f"{count:,} rows of {name}", count=count)
        rows.finish()
        return rows

    def _labels(self, corpus_file, rows, asked, data_set, is_answer):
        path = os.path.join(data_set.label_folder, ANSWERS if is_answer else LABELS)
        parse = parse_answer_row if is_answer else partial(parse_label_row, use_gtlabels=self.cfg.CORPUS.USE_GTLABELS)
        parts, names = [], []
        try:
            for number, line in _lines(path):
                try:
                    name, text = parse(line)
                except DataError as error:
                    self.findings.add("bad_label_row", path, error, number - 1)
                    continue
                if text.strip():
                    names.append(name)
                if len(names) == 1 << 16:
                    parts.append(hashes(names))
                    names.clear()
        except DataError as error:
            row = rows.number[np.argmax(asked)]
            said = str(error).removeprefix(f"{path}: ")
            self.findings.add("missing_file", path, f"{said}; {corpus_file} row {row} asks for labels in it")
            return
        missing = asked & ~np.isin(rows.label, np.concatenate([*parts, hashes(names)]))
        self._absent("no_label", path, corpus_file, rows.number[missing], 1)

    def _absent(self, kind, path, corpus_file, numbers, column):
        """Findings of rows (their numbers) whose image or label, named in a column, is not in a file."""
        shown = set(numbers[:5].tolist())
        for number, line in _lines(corpus_file) if shown else ():
            if number in shown:
                shown.remove(number)
                name = line.split(b"\t")[column].strip().decode("utf-8", "replace")
                self.findings.add(kind, path, f"{name}, which {corpus_file} row {number} asks for")
            if not shown:
                break
        if len(numbers) > 5:
            self.findings.add(kind, path, "...", count=len(numbers) - 5)

    def _features(self, corpus_file, rows, asked, data_set, chunk):
        path = data_set.features(chunk)
        if not os.path.isfile(path):
            row = f"{corpus_file} row {rows.number[np.argmax(asked)]}"
            text = f"no such file; {row} asks for it, as {asked.sum():,} rows do"
            self.findings.add("no_chunk" if data_set.has_chunks else "missing_file", path, text)
            return
        try:
            found, numbers, tsv = self._ids(path)
        except (OSError, ValueError, DataError, ijson.JSONError) as error:
            self.findings.add("unreadable", path, str(error))
            return
        missing = asked & ~np.isin(rows.image, found)
        self._absent("no_features", path, corpus_file, rows.number[missing], 0)
        if tsv is not None:
            wanted = numbers[np.isin(found, rows.image[asked])]
            share = max(1, round(self.looked_at * asked.sum() / len(rows.number)))
            self._regions(path, tsv, self.rng.permutation(wanted)[:share], data_set.name)

    def _ids(self, path):
        """(hashes of a feature file's ids, their rows, the TsvFile or None where it has no index to read by)."""
        if os.path.isfile(os.path.splitext(path)[0] + ".lineidx"):
            tsv = TsvFile(path)
            return *ids_and_rows(path, tsv), tsv
        self.findings.add("no_lineidx", path, "its regions are not looked into")
        map_file = os.path.join(os.path.dirname(path), MAP)
        if os.path.isfile(map_file):
            return *read_map(map_file), None
        names = [line.split(b"\t", 1)[0].strip() for _, line in _lines(path)]
        return hashes(names), np.arange(len(names)), None

    def _regions(self, path, tsv, numbers, name):
        checker = FeatureChecker(self.cfg.INPUT.IMG_FEATURE_DIM, columns_of(first_rows(path)))
        for number in numbers.tolist():
            fields = tsv.row(number)
            key = f"{name}_{fields[0].decode(errors='replace')}"
            self.figures.read_bytes += sum(map(len, fields))
            try:
                for kind, text in checker.check(key, fields, self.figures):
                    self.findings.add(kind, path, f"image {key}: {text}", number)
            except DataError as error:
                self.findings.add("bad_row", path, error, number)


def _lines(path):
    """(number from 1, line) of a text file without the blank lines at its end."""
    blank = []
    with reading(path), open(path, "rb") as file:
        size, name = os.fstat(file.fileno()).st_size, os.path.basename(path)
        with tqdm(total=size, desc=f"checking {name}", unit="B", unit_scale=True, delay=2, leave=False) as progress:
            for number, line in enumerate(file, start=1):
                progress.update(len(line))
                if not line.strip():
                    blank.append(number)
                    continue
                yield from ((each, b"") for each in blank)
                blank.clear()
                yield number, line.removeprefix(b"\xef\xbb\xbf") if number == 1 else line
