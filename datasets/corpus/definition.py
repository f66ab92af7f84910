"""What a corpus consists of: its YAML file and the files of each data set in it (docs/reference.md, corpus files)."""

import os
from dataclasses import dataclass

import yaml

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.formats.reading import read_text

IN_ONE_PIECE = ("coco", "flickr30k", "gqa")
IN_CHUNKS = ("googlecc", "sbu", "oi", "objects365", "tagoi")
LABELS, ANSWERS = "predictions_gt.tsv", "QA_fileB.tsv"  # in a label folder
OTHER_NAMES = {"cc": "googlecc"}  # in image and label keys
_KEYS = ("corpus", "corpus_file", "image_label_path", "image_feature_path")


@dataclass(frozen=True, kw_only=True)
class DataSet:
    """One data set of a corpus: its name, the folder of its labels, that of its features (of the chunks' folders where
    `has_chunks`)."""

    name: str
    label_folder: str
    feature_folder: str
    has_chunks: bool

    def features(self, chunk):
        """Path of features.tsv; `chunk` is an int, -1 where there are none."""
        parts = (str(chunk),) if self.has_chunks else ()
        return os.path.join(self.feature_folder, *parts, "features.tsv")


@dataclass(frozen=True, kw_only=True)
class Definition:
    """A corpus as its YAML file says it: the file, the corpus TSV, and the DataSets in the order of their names."""

    path: str
    corpus_file: str
    data_sets: tuple

    def check_known(self, name):
        """Raises DataError where a key's first field is no name of a published data set, nor of one of this corpus."""
        listed = [each.name for each in self.data_sets]
        if name not in (*IN_ONE_PIECE, *IN_CHUNKS, *OTHER_NAMES, *listed):
            known = ", ".join(IN_ONE_PIECE + IN_CHUNKS)
            raise DataError(
                f"unknown data set {name[:40]!r}; {self.path} lists {', '.join(listed)}; others are {known}"
            )


def read_definition(dataset_file, data_dir):
    """The Definition in a YAML file.

    Args:
        dataset_file: CORPUS.DATASET_FILE, relative to `data_dir`, DATASET.DATA_DIR, as its feature folders are; the
            corpus TSV and the label folders are relative to the YAML's own folder.
    Raises:
        DataError: no such file, not such a YAML, a data set that is unknown or has no folders; names file and key.
    """
    path = path_from(str(data_dir), str(dataset_file))
    text = read_text(path, "; it describes the corpus (CORPUS.DATASET_FILE)")
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise DataError(f"{path}: not YAML ({' '.join(str(error).split())[:200]})") from None
    if not isinstance(found, dict):
        raise DataError(f"{path}: expected the keys {', '.join(_KEYS)}")
    name, corpus_file, labels, features = (
        _value(found, key, dict if key.endswith("_path") else str, path) for key in _KEYS
    )
    here = os.path.dirname(path)
    names = sorted({OTHER_NAMES.get(each, each) for each in name.split("_")})
    data_sets = []
    for each in names:
        for key, folders in (("image_label_path", labels), ("image_feature_path", features)):
            if each in folders and not (isinstance(folders[each], str) and folders[each]):
                raise DataError(f"{path}: {key}: {each} is {folders[each]!r}; expected a folder")
        if each not in labels or each not in features:
            known = ", ".join(IN_ONE_PIECE + IN_CHUNKS)
            missing = " and ".join(
                key for key, folders in zip(_KEYS[2:], (labels, features), strict=True) if each not in folders
            )
            published = each in IN_ONE_PIECE + IN_CHUNKS
            what = f"data set {each!r} has no folder in {missing}"
            remedy = "add it" if published else f"the published ones are {known}; one of your own needs both folders"
            raise DataError(f"{path}: corpus: {'' if published else 'unknown '}{what}; {remedy}")
        data_sets.append(
            DataSet(
                name=each,
                label_folder=path_from(here, labels[each]),
                feature_folder=path_from(str(data_dir), features[each]),
                has_chunks=each in IN_CHUNKS,
            )
        )
    return Definition(path=path, corpus_file=path_from(here, corpus_file), data_sets=tuple(data_sets))


def path_from(folder, name):
    """The path of a relative name, without "..", which behind a link would lead out of what the link points to."""
    return os.path.normpath(os.path.join(folder, name))


def _value(found, key, kind, path):
    value = found.get(key)
    if not isinstance(value, kind) or not value:
        expected = {str: "text", dict: "a mapping data set -> folder"}[kind]
        raise DataError(f"{path}: {key} is {value!r}; expected {expected}")
    return value
