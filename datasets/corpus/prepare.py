"""Makes a pre-training corpus of what the other tasks read: captions, questions with answers, tags and regions;
tools/prepare_corpus.py asks for it. The files have the published form (docs/reference.md, corpus files)."""

import base64
import json
import os
from collections import Counter
from contextlib import ExitStack
from dataclasses import dataclass, field

import numpy as np
import yaml

from oscar_paddle.config.errors import ConfigError, DataError
from oscar_paddle.config.progress import tqdm
from oscar_paddle.datasets.captions.own_pictures import read_names, read_split_captions, use_names
from oscar_paddle.datasets.corpus.definition import ANSWERS, IN_CHUNKS, LABELS, OTHER_NAMES
from oscar_paddle.datasets.corpus.places import MAP
from oscar_paddle.datasets.formats.tsv_file import TsvFile
from oscar_paddle.datasets.formats.whole_files import whole_folder
from oscar_paddle.datasets.questions.prepare import open_tags
from oscar_paddle.datasets.regions.layouts import find_regions, open_source
from oscar_paddle.datasets.regions.source import image_key
from oscar_paddle.datasets.regions.vinvl import RegionFeatures

CORPUS_FILE, DEFINITION = "corpus.tsv", "corpus.yaml"


@dataclass
class Source:
    """What a data set of the corpus is made of.

    Attributes:
        name: of the data set. features: file or folder of region features, in any layout.
        tags: list of places as for `open_tags`; [] = with the features.
        captions: list of (DATASET.DATA_DIR, split). questions: list of what iterates over `Question`s.
        feature_dim: values of a region.
    """

    name: str
    features: str
    feature_dim: int = 2054
    tags: list = field(default_factory=list)
    captions: list = field(default_factory=list)
    questions: list = field(default_factory=list)


def check_name(name, option):
    """Raises ConfigError where a data set cannot be called so."""
    if not (name.isascii() and name.isalnum()) or name in (*IN_CHUNKS, *OTHER_NAMES, "qa"):
        reserved = ", ".join((*IN_CHUNKS, *OTHER_NAMES, "qa"))
        raise ConfigError(f"{option} {name}: expected a name of letters and digits, and none of {reserved}")


def prepare_corpus(sources, folder, label_type="vg"):
    """Write a corpus, whole or not at all.

    Args:
        sources: list of Source, each with another name.
        folder: where to write; it must not hold anything yet. DATASET.DATA_DIR of the runs to come.
        label_type: tags of Oscar v1: the xx of {split}_xx_labels.pt.
    Returns:
        Counter of rows by (data set, kind): "captions", "questions", "without tags", "without an answer", "images".
    Raises:
        DataError: a file is missing or damaged, an image has no features, the folder holds something already.
    """
    if os.path.exists(folder) and (not os.path.isdir(folder) or os.listdir(folder)):
        raise DataError(f"{folder}: is already there; choose another --output_dir, or delete it")
    counts, features = Counter(), {}
    try:
        with whole_folder(folder, replace=False) as new:
            with Table(new / CORPUS_FILE) as corpus:
                for source in sources:
                    features[source.name] = _write_source(new, folder, corpus, source, label_type, counts)
                if not corpus.rows:
                    raise DataError("no caption and no question is left; see what was said of the images")
            names = [source.name for source in sources]
            described = {
                "corpus": "_".join(names),
                "corpus_file": CORPUS_FILE,
                "image_label_path": {name: f"labels_{name}" for name in names},
                "image_feature_path": features,
            }
            (new / DEFINITION).write_text(yaml.safe_dump(described, sort_keys=False))
    except OSError as error:
        raise DataError(f"{folder}: cannot be written ({error.strerror or error})") from None
    return counts


class Table:
    """Writes the rows of a `.tsv` file and its `.lineidx`; `rows` counts them."""

    def __init__(self, path):
        self.path, self.rows, self._place = path, 0, 0

    def __enter__(self):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with ExitStack() as stack:
            self._file = stack.enter_context(open(self.path, "wb"))
            self._index = stack.enter_context(open(self.path.with_suffix(".lineidx"), "w"))
            self._stack = stack.pop_all()
        return self

    def __exit__(self, *error):
        self._stack.close()

    def write(self, *columns):
        self._index.write(f"{self._place}\n")
        self._place += self._file.write("\t".join(columns).encode() + b"\n")
        self.rows += 1


def _write_source(new, folder, corpus, source, label_type, counts):
    """Captions, questions, labels and, where they have to be copied, features of a data set: the feature folder."""
    images, labels = _Images(source, label_type), new / f"labels_{source.name}"
    with Table(labels / LABELS) as tags:
        tagged = {}
        for data_dir, split in source.captions:
            found = read_split_captions(data_dir, split)
            images.open(split, read_names(data_dir, split), data_dir)
            for key, captions in tqdm(found.items(), desc=f"{split} captions", unit=" images", delay=2, leave=False):
                image_id, names = images.find((key,), f"{data_dir}, split {split!r}: image {key}", with_tags=True)
                if not names:
                    counts[source.name, "without tags"] += len(captions)
                    continue
                if tagged.setdefault(image_id, tags.rows) == tags.rows:
                    tags.write(image_id, json.dumps({"objects": [{"class": name} for name in names]}))
                for caption in filter(None, map(_plain, captions)):
                    corpus.write(f"{source.name}_{image_id}", f"{source.name}_{image_id}", caption)
                    counts[source.name, "captions"] += 1
    (labels / MAP).write_text(json.dumps(tagged))
    if source.questions:
        images.open("train", {}, "")
        _write_questions(labels, corpus, source, images, counts)
    counts[source.name, "images"] = len(images.used)
    return images.folder(new, folder)


def _write_questions(labels, corpus, source, images, counts):
    name = source.name
    with Table(labels / ANSWERS) as answers:
        for question in (question for questions in source.questions for question in questions):
            text, answer = _plain(question.text), _plain(next(iter(question.answers or ()), ""))  # the commonest one
            if not text or not answer:
                counts[name, "without an answer"] += 1
                continue
            for candidates in question.images:
                image_id, _ = images.find(candidates, question.where)
                corpus.write(f"{name}_{image_id}", f"{name}_qa_{image_id}_{answers.rows}", text)
                answers.write(str(answers.rows), json.dumps({"labels": [answer]}))
                counts[name, "questions"] += 1
    (labels / "QA_qaid2idx.json").write_text(json.dumps({str(row): row for row in range(answers.rows)}))


class _Images:
    """The images of a data set: ids in the corpus, tags, regions. `used`: id -> (RegionSource, image id there)."""

    def __init__(self, source, label_type):
        self._source, self._label_type = source, label_type
        self.used, self._texts, self._regions = {}, {}, None

    def open(self, split, names, annotations):
        """Open the regions and tags of a split; `names` as for `ByName.use_names`."""
        features = self._source.features
        self._regions = open_source(find_regions(features, split, features), feature_dim=self._source.feature_dim)
        use_names(self._regions, names, annotations)
        self._in_place = isinstance(self._regions, RegionFeatures) and self._regions.path.endswith("features.tsv")
        self._texts = {}
        if self._in_place:  # ids as they are written there
            self._texts = {image_key(text): text for text in TsvFile(self._regions.path).first_fields()}
            self._in_place = not any("_" in text for text in self._texts.values())
        folder = os.path.dirname(self._regions.path)
        self._tags = [open_tags(place, split, self._label_type) for place in self._source.tags]
        if not self._tags and self._source.captions:
            self._tags = [self._regions.open_tags(folder, split, self._label_type)]

    def find(self, candidates, where, with_tags=False):
        """(id in the corpus, list of tags) of an image that may have several names."""
        found = next((each for each in candidates if each in self._regions), None)
        if found is None:
            raise DataError(f"{where}: {self._regions.missing(candidates[0], 'has no features')}")
        key = self._regions._key(found)
        image_id = self._texts[key] if self._in_place else str(found).replace("_", "-")
        regions, other = self.used.setdefault(image_id, (self._regions, found))
        if other != found:
            raise DataError(f"{where}: the images {other} and {found} both become {image_id}; rename one")
        names = next((tags.names(found) for tags in self._tags if with_tags and found in tags), [])
        names = [names] if isinstance(names, str) else names
        return image_id, list(filter(None, map(_plain, names)))

    def folder(self, new, folder):
        """The folder of features.tsv with all used images, relative to the corpus, written where there is none."""
        name = self._source.name
        if self._in_place and len({regions.path for regions, _ in self.used.values()}) == 1:
            return os.path.relpath(os.path.dirname(self._regions.path) or ".", folder)
        place = os.path.join("features", name)
        with Table(new / place / "features.tsv") as table:
            progress = tqdm(self.used.items(), desc=f"features of {name}", unit=" images", delay=2, leave=False)
            for image_id, (regions, key) in progress:
                values = regions.complete(key, allow_empty=True)
                table.write(image_id, str(len(values)), base64.b64encode(np.ascontiguousarray(values)).decode())
        (new / place / MAP).write_text(json.dumps({image_id: row for row, image_id in enumerate(self.used)}))
        return place


def _plain(text):
    """A text without tabs and line ends."""
    return " ".join(text.split())
