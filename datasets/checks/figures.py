"""What the steps of a check of features and tags are given, and the figures that they give back."""

import operator
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

KEPT_DRAWINGS = 6  # of images with box problems


class Scope(NamedTuple):
    """A frozen configuration, the Findings to add to, how many processes read, the set of image ids that are looked
    into (None = all of the splits), and the set of those whose boxes are kept for drawing."""

    cfg: object
    findings: object
    processes: int
    chosen: set | None
    show: set

    @property
    def empty_kind(self):
        """The kind of finding that an image without detections is."""
        return "empty_image" if self.cfg.DATASET.EMPTY_IMAGES == "error" else "skipped_image"


class ImageRegions(NamedTuple):
    """What is kept of the regions of an image: how many, and of the first one a checksum, whether it has a negative
    value, and its corners as fractions of the picture (None without box values); the sum of the regions' L2 norms."""

    key: int | str
    count: int
    checksum: int
    negative: bool
    corners: tuple | None
    norm: float


@dataclass
class Figures:
    """What is counted and kept while features and tags are read: of some rows, of a file with both, of a data set.

    Attributes:
        features: list of ImageRegions.
        tags: image id -> the tag string as the readers give it.
        classes: Counter of class names (of words, where a file keeps no classes apart).
        tag_counts: list, tags of each image.
        boxes: image id -> the first detection's corners as fractions of the picture.
        sizes: image id -> (height, width), where the row says.
        drawings: image id -> ([(class, [x1, y1, x2, y2] in pixels), ...], height, width); shares without a size.
        marked: the same, of the first images whose boxes are wrong.
        other_rows: rows that belong to no checked split.
        stores: list of paths of packed stores that are read in place of their sources.
        read_bytes: how much was read.
    """

    features: list = field(default_factory=list)
    tags: dict = field(default_factory=dict)
    classes: Counter = field(default_factory=Counter)
    tag_counts: list = field(default_factory=list)
    boxes: dict = field(default_factory=dict)
    sizes: dict = field(default_factory=dict)
    drawings: dict = field(default_factory=dict)
    marked: dict = field(default_factory=dict)
    other_rows: int = 0
    stores: list = field(default_factory=list)
    read_bytes: int = 0

    def add_tags(self, key, text, names):
        """The tag string of an image and the names in it."""
        self.tags[key] = text
        self.classes.update(names)
        self.tag_counts.append(len(names))

    def __iadd__(self, other):
        """Take over the figures of what follows."""
        for name, value in vars(other).items():
            own = getattr(self, name)
            if isinstance(own, dict):
                own.update(value)  # of a Counter: adds
            else:
                setattr(self, name, operator.iadd(own, value))
        return self
