"""Oscar's first release and its Paddle re-packings: region features and tags, one file (or folder) for each split.

`{split}_img_frcnn_feats.pt` is a dictionary image id -> float tensor [R, 2054]; the order of its keys is the image
order. `{split}_vg_labels.pt` is a dictionary image id -> one string of tags, or a list of detections with a `class`.
The Paddle ports have the same in `{split}_img_frcnn_feats/{image id}.npy` and `{split}_vg_labels.pd`.
"""

import logging
import os

import numpy as np

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.formats import torch_files
from oscar_paddle.datasets.formats.reading import first_file
from oscar_paddle.datasets.regions.source import ByName, RegionSource, image_key
from oscar_paddle.datasets.regions.values import as_regions

_LOG = logging.getLogger(__name__)


class DictionaryFeatures(RegionSource):
    """Regions from a dictionary of tensors in a `.pt` or `.pd` file (see `RegionSource`).

    A large `.pt` file is memory-mapped: opening it reads where the tensors are, and an image costs its own bytes.

    Args:
        orders_images: whether it is the file of one split, so that its keys are the images in their order.
    """

    _opened = ("_places",)

    def __init__(self, path, orders_images=True, **options):
        super().__init__(path, **options)
        self.orders_images = orders_images

    def _open(self):
        return _dictionary(self.path, "a tensor [regions, 2054]")

    def open_tags(self, data_dir, split, label_type):
        return open_labels([os.path.dirname(self.path), data_dir], split, label_type, self._names)

    def _read(self, key):
        where = f"{self.path} {self._label(key)}"
        return as_regions(self._place(key), self.feature_dim, where), where

    def _count(self, key):
        value = self._place(key)
        return len(value) if isinstance(value, np.ndarray) and value.ndim == 2 else super()._count(key)


class Labels(ByName):
    """Object tags by image id, from `{split}_vg_labels.pt` or `.pd`; DataError if it holds no dictionary by id."""

    def __init__(self, path):
        self.path = str(path)
        self._tags = _dictionary(self.path, "a string of tags")

    @property
    def ids(self):
        return list(self._tags)

    def _has(self, key):
        return key in self._tags

    def __getitem__(self, image_id):
        """The tags in file order, duplicates kept, joined by single blanks; a string is taken as it is.

        Raises:
            DataError: the id is missing or has something else; names it.
        """
        names = self.names(image_id)
        return names if isinstance(names, str) else " ".join(names)

    def names(self, image_id):
        """The same as a list where the file has one (otherwise as `[image_id]`)."""
        key = self._key(image_id)
        if key not in self._tags:
            raise DataError(self._missing(key))
        value = self._tags[key]
        if isinstance(value, str):
            return value
        items = value if isinstance(value, (list, tuple)) else [None]
        names = [item.get("class") if isinstance(item, dict) else item for item in items]
        if all(isinstance(name, str) for name in names):
            return names
        found = f"found a {type(value).__name__}"
        expected = "expected a string of tags, or a list of detections with 'class'"
        raise DataError(f"{self.path} {self._label(key)}: {expected}; {found}")


def open_labels(folders, split, label_type, names=()):
    """The `Labels` of a split, from the first folder that has them; DataError with all places if none has.

    `names` are as for `ByName.use_names`.
    """
    name = f"{split}_{label_type}_labels"
    places = [
        os.path.join(str(folder), name + ending) for folder in dict.fromkeys(folders) for ending in (".pt", ".pd")
    ]
    what = "it holds the object tags, which INPUT.ADD_OD_LABEL: True asks for (DATASET.OD_LABEL_TYPE)"
    labels = Labels(first_file(places, f"; {what}"))
    labels.use_names(dict(names))
    return labels


def _dictionary(path, what):
    """The dictionary in a file with its keys as image ids, in the order of the file."""
    _LOG.info("reading the table of contents of %s", path)
    found = torch_files.load_dictionary(path, what)
    values = {image_key(key): value for key, value in found.items()}
    if len(values) != len(found):
        raise DataError(f"{path}: {len(found) - len(values)} image ids are there twice, as numbers and as text")
    return values
