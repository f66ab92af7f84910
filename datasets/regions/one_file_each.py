"""Region features in one file for each image: `.npz` of one's own, and the `.npy` of the Paddle ports."""

import os

import numpy as np

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.formats.array_files import read_npy, read_npz
from oscar_paddle.datasets.formats.reading import reading
from oscar_paddle.datasets.regions.oscar_v1 import open_labels
from oscar_paddle.datasets.regions.source import (
    BOX_DIM,
    OwnTags,
    RegionSource,
    as_regions,
    explain_width,
    image_key,
    stem,
)

REGION_ARRAYS = ("features", "boxes", "image_w", "image_h")  # of one image's .npz


class _FolderFeatures(RegionSource):
    """The files of one ending in a folder; the name without it is the image id, or the picture's name.

    Raises:
        DataError: no such folder, no such files, or two for one image.
    """

    ending = None

    def _open(self):
        files = {}
        for name in list_files(self.path, self.ending):
            other = files.setdefault(image_key(stem(name)), name)
            if other != name:
                raise DataError(f"{self.path}: {other} and {name} are for the same image {image_key(stem(name))}")
        if not files:
            raise DataError(f"{self.path}: no {self.ending} files; expected one for each image")
        return files

    def _file_of(self, key):
        """(path of an image's file, what messages call it)."""
        if key not in self._places:
            raise DataError(f"{os.path.join(self.path, f'{key}{self.ending}')}: no such file (image {key})")
        path = os.path.join(self.path, self._places[key])
        return path, f"{path} (image {key})"


class NpyFeatures(_FolderFeatures):
    """Regions from `{split}_img_frcnn_feats/{image id}.npy`, each [R, feature_dim] (see `RegionSource`)."""

    ending = ".npy"

    def open_tags(self, data_dir, split, label_type):
        return open_labels([os.path.dirname(os.path.normpath(self.path)), data_dir], split, label_type)

    def _read(self, key):
        path, where = self._file_of(key)
        return as_regions(read_npy(path), self.feature_dim, where), where


class NpzFeatures(_FolderFeatures):
    """Regions, boxes and tags of one's own images, `<name>.npz` each (see `RegionSource`).

    Its arrays: `features` [R, 2048 or 2054]; with 2048 also `boxes` [R, 4] (x1, y1, x2, y2 in pixels), `image_w` and
    `image_h`, of which the six box values are computed; `tags`, a list of text or one text, where tags are used.
    """

    ending = ".npz"
    names_images = True

    def open_tags(self, data_dir, split, label_type):
        return OwnTags(self, self.path)

    def _read(self, key):
        path, where = self._file_of(key)
        return regions_of_arrays(read_npz(path, REGION_ARRAYS), self.feature_dim, where), where

    def tags_of(self, key):
        """The tags in the file of a key, joined by single blanks (raises DataError)."""
        path, where = self._file_of(key)
        tags = tags_of_arrays(read_npz(path, ("tags",)), where)
        if tags is None:
            raise DataError(f"{where}: no array 'tags'; expected a list of text (or set INPUT.ADD_OD_LABEL False)")
        return tags


def regions_of_arrays(arrays, feature_dim, where):
    """The regions that the arrays of one image describe: [R, feature_dim] float32.

    Args:
        arrays: dict name -> array, of `REGION_ARRAYS` those that there are; with feature_dim - 6 values in `features`,
            the six box values are computed.
        where: what to call the image in messages.
    Raises:
        DataError: something is missing, or of another shape or type.
    """
    if "features" not in arrays:
        raise DataError(f"{where}: no array 'features'; expected [regions, 2048 or 2054]")
    features = arrays["features"]
    if features.ndim == 2 and features.shape[1] == feature_dim - BOX_DIM and len(features):
        if "boxes" not in arrays:
            raise DataError(f"{where}: {explain_width(features.shape[1], feature_dim)}, and no array 'boxes'")
        visual = as_regions(features, features.shape[1], where)
        features = np.concatenate([visual, _box_values_of(arrays, len(features), where)], axis=1)
    return as_regions(features, feature_dim, where)


def tags_of_arrays(arrays, where):
    """The array `tags` of one image, joined by single blanks; None without it, DataError if it is no text."""
    tags = arrays.get("tags")
    if tags is None:
        return None
    if tags.size == 0:  # NumPy makes floats of an empty list
        return ""
    if tags.dtype.kind != "U" or tags.ndim > 1:
        raise DataError(f"{where}: 'tags' is {tags.dtype} {list(tags.shape)}; expected a list of text")
    return " ".join(np.atleast_1d(tags).tolist())


def box_values(boxes, image_w, image_h):
    """The six box values of regions.

    Args:
        boxes: [R, 4] x1, y1, x2, y2 in pixels.
        image_w, image_h: size of the picture in pixels.
    Returns:
        [R, 6] float32: x1/W, y1/H, x2/W, y2/H, (x2-x1)/W, (y2-y1)/H.
    Source: docs/reference.md, regions.
    """
    corners = np.asarray(boxes, np.float64) / np.array([image_w, image_h, image_w, image_h], np.float64)
    return np.concatenate([corners, corners[:, 2:] - corners[:, :2]], axis=1).astype(np.float32)


def list_files(folder, ending):
    """The names of a folder's files with this ending, sorted, without hidden ones; DataError if there is no folder."""
    with reading(folder):
        return sorted(name for name in os.listdir(folder) if name.endswith(ending) and not name.startswith("."))


def _box_values_of(arrays, num_regions, where):
    boxes = arrays["boxes"]
    if boxes.shape != (num_regions, 4) or boxes.dtype.kind not in "fiu":
        raise DataError(f"{where}: 'boxes' is {boxes.dtype} {list(boxes.shape)}; expected [{num_regions}, 4] numbers")
    sizes = {}
    for name in ("image_w", "image_h"):
        value = arrays.get(name)
        if value is None or value.size != 1 or value.dtype.kind not in "fiu" or not 0 < float(value.item()) < 1e9:
            found = "is missing" if value is None else f"is {value.tolist() if value.size == 1 else value.shape}"
            raise DataError(f"{where}: {name!r} {found}; expected the size of the picture in pixels")
        sizes[name] = float(value.item())
    limits = np.array([sizes["image_w"], sizes["image_h"]] * 2)
    good = np.isfinite(boxes).all(1) & (boxes[:, 2:] >= boxes[:, :2]).all(1) & (np.abs(boxes) <= 2 * limits).all(1)
    if not good.all():
        region = int(np.argmin(good))
        raise DataError(
            f"{where}: the box of region {region + 1} is {boxes[region].tolist()}; expected x1, y1, x2, y2 in pixels, "
            f"in a picture of {sizes['image_w']:g} x {sizes['image_h']:g}"
        )
    return box_values(boxes, sizes["image_w"], sizes["image_h"])
