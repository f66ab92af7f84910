"""The figures that a check gathers: of rows of features, of rows of tags, and of a file with both."""

import math
from array import array
from collections import Counter
from dataclasses import dataclass, field

KEPT_DRAWINGS = 6  # of images with box problems


def _array(code):
    return field(default_factory=lambda: array(code))


@dataclass
class FeatureFigures:
    """Figures of the features that were looked into.

    Attributes:
        keys: list of image ids. counts: regions of each. marks: checksum of each one's values.
        boxes: 4 floats each, the first region's corners as fractions of the picture (NaN where there are none).
        negative: images whose first region has a negative value. norm: sum of the regions' L2 norms.
    """

    keys: list = field(default_factory=list)
    counts: array = _array("q")
    marks: array = _array("Q")
    boxes: array = _array("f")
    negative: int = 0
    norm: float = 0.0

    def regions(self):
        """dict image id -> regions it has."""
        return dict(zip(self.keys, self.counts, strict=True))

    def first_boxes(self):
        """(image id, (x1, y1, x2, y2)) of the images that have box values."""
        for key, *box in zip(self.keys, *[iter(self.boxes)] * 4, strict=True):
            if not math.isnan(box[0]):
                yield key, box

    def merge(self, other):
        """Take over the figures of what follows."""
        self.keys += other.keys
        self.counts += other.counts
        self.marks += other.marks
        self.boxes += other.boxes
        self.negative += other.negative
        self.norm += other.norm


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
    counts: array = _array("q")
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

    def merge(self, other):
        """Take over the figures of what follows."""
        self.tags |= other.tags
        self.classes.update(other.classes)
        self.counts += other.counts
        self.boxes |= other.boxes
        self.sizes |= other.sizes
        self.drawings |= other.drawings
        for key, drawing in other.marked.items():
            self.mark(key, drawing)


@dataclass
class FileFigures:
    """A file (or folder) of features and the tags that belong to it.

    Attributes:
        path: of the features.
        features: FeatureFigures. tags: TagFigures.
        agreement: (images whose first box is the same in features and tags, images compared).
        other_rows: rows that belong to no checked split.
        read_bytes: how much was read.
        store: path of the packed store that is read in its place, or None.
    """

    path: str
    features: FeatureFigures = field(default_factory=FeatureFigures)
    tags: TagFigures = field(default_factory=TagFigures)
    agreement: tuple = (0, 0)
    other_rows: int = 0
    read_bytes: int = 0
    store: str | None = None
