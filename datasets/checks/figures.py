"""What the steps of a check are given, and the figures that they give back: of images, of tags, of a file with both."""

from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import NamedTuple

KEPT_DRAWINGS = 6  # of images with box problems


@dataclass(frozen=True)
class Scope:
    """What a check of features and tags looks into.

    Attributes:
        cfg: frozen configuration. findings: Findings to add to. processes: how many read.
        chosen: set of image ids; None = all of the splits.
        show: set of image ids whose boxes are kept for drawing.
    """

    cfg: object
    findings: object
    processes: int
    chosen: set | None
    show: set


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
class TagFigures:
    """Figures of the tags that were looked into.

    Attributes:
        tags: image id -> the tag string as the readers give it.
        classes: Counter of class names (of words, in layouts that keep no classes apart).
        counts: tags of each image.
        boxes: image id -> the first detection's corners as fractions of the picture.
        sizes: image id -> (height, width), where the row says.
        drawings: image id -> ([(class, [x1, y1, x2, y2] in pixels), ...], height, width).
        marked: the same, of the first images whose boxes are wrong.
    """

    tags: dict = field(default_factory=dict)
    classes: Counter = field(default_factory=Counter)
    counts: array = field(default_factory=lambda: array("q"))
    boxes: dict = field(default_factory=dict)
    sizes: dict = field(default_factory=dict)
    drawings: dict = field(default_factory=dict)
    marked: dict = field(default_factory=dict)

    def add(self, key, text, names):
        """The tag string of an image and the names in it."""
        self.tags[key] = text
        self.classes.update(names)
        self.counts.append(len(names))

    def mark(self, key, drawing):
        if len(self.marked) < KEPT_DRAWINGS:
            self.marked[key] = drawing

    def __iadd__(self, other):
        """Take over the figures of what follows."""
        for own, others in (
            (self.tags, other.tags),
            (self.classes, other.classes),
            (self.boxes, other.boxes),
            (self.sizes, other.sizes),
            (self.drawings, other.drawings),
        ):
            own.update(others)
        self.counts += other.counts
        for key, drawing in other.marked.items():
            self.mark(key, drawing)
        return self


@dataclass
class FileFigures:
    """A file (or folder) of features and the tags that belong to it.

    Attributes:
        path: of the features.
        features: list of ImageRegions. tags: TagFigures.
        agreement: (images whose first box is the same in features and tags, images compared).
        other_rows: rows that belong to no checked split.
        read_bytes: how much was read.
        store: path of the packed store that is read in its place, or None.
    """

    path: str
    features: list = field(default_factory=list)
    tags: TagFigures = field(default_factory=TagFigures)
    agreement: tuple = (0, 0)
    other_rows: int = 0
    read_bytes: int = 0
    store: str | None = None
