"""Region features in one file for each image: `.npz` of one's own, and the `.npy` of the Paddle ports."""

import os

import numpy as np

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.formats.array_files import read_npy, read_npz, read_shape
from oscar_paddle.datasets.formats.reading import reading
from oscar_paddle.datasets.regions.oscar_v1 import open_labels
from oscar_paddle.datasets.regions.source import OwnTags, RegionSource, image_key
from oscar_paddle.datasets.regions.values import BOX_DIM, as_regions, checked_box_values, explain_width

REGION_ARRAYS = ("features", "boxes", "image_w", "image_h")  # of one image's .npz
_OTHER_NAMES = {  # what others call them
    "features": ("x", "feat", "feats", "feature", "roi_features", "region_features"),
    "boxes": ("bbox", "bboxes", "box", "rois"),
    "image_w": ("width", "img_w", "w"),
    "image_h": ("height", "img_h", "h"),
}


class _FolderFeatures(RegionSource):
    """The files of one ending in a folder; the name without it is the image id, or the picture's name.

    Raises:
        DataError: no such folder, no such files, or two for one image.
    """

    ending = None
    counted = None  # the array in a file that has a row for each region

    def _open(self):
        files = {}
        for name in list_files(self.path, self.ending):
            key = image_key(name.removesuffix(self.ending))
            other = files.setdefault(key, name)
            if other != name:
                raise DataError(f"{self.path}: {other} and {name} are for the same image {key}")
        if not files:
            raise DataError(f"{self.path}: no {self.ending} files; expected one for each image")
        return files

    def _file_of(self, key):
        """(path of an image's file, what messages call it)."""
        path, number = self._shown(key), len(self._places)
        if key not in self._places:
            there = f"the folder has {number} files, such as {next(iter(self._places.values()))}"
            raise DataError(f"{path}: no such file ({self._label(key)}); {there}")
        return path, self._where(path, key)

    def _count(self, key):
        shape = read_shape(self._file_of(key)[0], self.counted)
        return shape[0] if shape else super()._count(key)

    def _shown(self, key):
        return os.path.join(self.path, self._places.get(key, f"{key}{self.ending}"))


class NpyFeatures(_FolderFeatures):
    """Regions from `{split}_img_frcnn_feats/{image id}.npy`, each [R, feature_dim] (see `RegionSource`)."""

    ending = ".npy"

    def open_tags(self, data_dir, split, label_type):
        folders = [os.path.dirname(os.path.normpath(self.path)), data_dir]
        return open_labels(folders, split, label_type, self._names)

    def _read(self, key):
        path, where = self._file_of(key)
        return as_regions(read_npy(path), self.feature_dim, where), where


class NpzFeatures(_FolderFeatures):
    """Regions, boxes and tags of one's own images, `<name>.npz` each (see `RegionSource`).

    Its arrays: `features` [R, 2048 or 2054]; with 2048 also `boxes` [R, 4] (x1, y1, x2, y2 in pixels), `image_w` and
    `image_h`, of which the six box values are computed; `tags`, a list of text or one text, where tags are used.
    """

    ending, counted = ".npz", "features"
    names_images = True

    def open_tags(self, data_dir, split, label_type):
        return OwnTags(self, self.path)

    def _read(self, key):
        path, where = self._file_of(key)
        return regions_of_arrays(read_npz(path, REGION_ARRAYS), self.feature_dim, where), where

    def tags_of(self, key):
        """The tags in the file of a key, a list or one text (raises DataError)."""
        path, where = self._file_of(key)
        tags = names_of_arrays(read_npz(path, ("tags",)), where)
        if tags is None:
            raise DataError(f"{where}: no array 'tags'; expected a list of text (or set INPUT.ADD_OD_LABEL False)")
        return tags

    def labelled_boxes(self, image_id):
        """What is drawn over a picture: ([(tag, [x1, y1, x2, y2]), ...] in shares of its sides, its height, its width).

        The size is in pixels, or None where the file does not say it; a tag is "" where there is none for each region.
        """
        path, where = self._file_of(self._key(image_id))
        arrays = read_npz(path, (*REGION_ARRAYS, "tags"))
        corners = regions_of_arrays(arrays, self.feature_dim, where)[:, -BOX_DIM:][:, :4]
        tags = arrays.get("tags", np.array(""))
        tags = tags.tolist() if tags.shape == (len(corners),) else [""] * len(corners)
        size = (float(arrays[name].item()) if name in arrays else None for name in ("image_h", "image_w"))
        return list(zip(tags, corners.tolist(), strict=True)), *size


def regions_of_arrays(arrays, feature_dim, where):
    """The regions that the arrays of one image describe: [R, feature_dim] float32.

    Args:
        arrays: dict name -> array, of `REGION_ARRAYS` those that there are, and anything under other names; with
            feature_dim - 6 values in `features`, the six box values are computed.
        where: what to call the image in messages.
    Raises:
        DataError: something is missing, or of another shape or type.
    """
    if "features" not in arrays:
        raise DataError(f"{where}: no array 'features'; expected [regions, 2048 or 2054]{_instead(arrays)}")
    features = arrays["features"]
    if features.ndim == 2 and features.shape[1] == feature_dim - BOX_DIM and len(features):
        if "boxes" not in arrays:
            missing = f"{explain_width(features.shape[1], feature_dim)}, and no array 'boxes'"
            raise DataError(f"{where}: {missing}{_instead(arrays)}")
        visual = as_regions(features, features.shape[1], where)
        features = np.concatenate([visual, _box_values_of(arrays, len(features), where)], axis=1)
    return as_regions(features, feature_dim, where)


def tags_of_arrays(arrays, where):
    """The array `tags` of one image, joined by single blanks; None without it, DataError if it is no text."""
    names = names_of_arrays(arrays, where)
    return " ".join(names) if isinstance(names, list) else names


def names_of_arrays(arrays, where):
    """The same as a list where the array is one."""
    tags = arrays.get("tags")
    if tags is None:
        return None
    if tags.size == 0:  # NumPy makes floats of an empty list
        return []
    if tags.dtype.kind != "U" or tags.ndim > 1:
        raise DataError(f"{where}: 'tags' is {tags.dtype} {list(tags.shape)}; expected a list of text")
    return tags.tolist()


def _instead(arrays):
    """What is there instead of the arrays that are missing, and what of it may only have another name."""
    renames = [
        f"rename {other} to {name}"
        for name, others in _OTHER_NAMES.items()
        for other in others
        if name not in arrays and other in arrays
    ]
    return f"; found {', '.join(arrays) or 'no arrays'}" + (": " + " and ".join(renames) if renames else "")


def list_files(folder, ending):
    """The files in a folder, and for `.npz` in folders in it, with this ending: sorted names ("a/x.npz" below `a`),
    without hidden ones; DataError if there is no such folder."""
    names = []
    with reading(folder), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith("."):
                continue
            if entry.name.endswith(ending):
                names.append(entry.name)
            elif ending == ".npz" and entry.is_dir(follow_symlinks=False):
                names += [f"{entry.name}/{name}" for name in list_files(entry.path, ending)]
    return sorted(names)


def _box_values_of(arrays, num_regions, where):
    boxes = arrays["boxes"]
    if boxes.shape != (num_regions, 4) or boxes.dtype.kind not in "fiu":
        raise DataError(f"{where}: 'boxes' is {boxes.dtype} {list(boxes.shape)}; expected [{num_regions}, 4] numbers")
    sizes = {}
    for name in ("image_w", "image_h"):
        value = arrays.get(name)
        if value is None or value.size != 1 or value.dtype.kind not in "fiu" or not 0 < float(value.item()) < 1e9:
            found = "is missing" if value is None else f"is {value.tolist() if value.size == 1 else value.shape}"
            instead = _instead(arrays) if value is None else ""
            raise DataError(f"{where}: {name!r} {found}; expected the size of the picture in pixels{instead}")
        sizes[name] = float(value.item())
    return checked_box_values(boxes, sizes["image_w"], sizes["image_h"], where)
