"""Referring expressions: a text, the regions of its picture, and which of them it means (RefCOCO, RefCOCO+, RefCOCOg).

Shape letters: B expressions of a batch, Pt text positions of all of them, Pu region rows of the distinct images, P
region rows of all expressions, D values of a region.

Source: docs/reference.md, referring expressions.
"""

import functools
import hashlib
import logging
import os
from typing import NamedTuple

import numpy as np

from oscar_paddle.config.errors import ConfigError, DataError
from oscar_paddle.datasets.first_look import look_at_texts
from oscar_paddle.datasets.formats.array_files import read_npy
from oscar_paddle.datasets.formats.reading import MissingFile
from oscar_paddle.datasets.refer.annotations import Referred, read_expressions
from oscar_paddle.datasets.regions.lmdb_store import LmdbRegions
from oscar_paddle.datasets.regions.source import image_key
from oscar_paddle.datasets.tensorize import TextBuilder
from oscar_paddle.datasets.token_cache import TokenTable, cache_folder, token_table

log = logging.getLogger(__name__)
POSITIVE = 0.5  # IoU from which a region is a target in training, and above which an answer counts


class RegionRows(NamedTuple):
    """What the model sees of an image: row 0 is the whole picture, then come its regions.

    Attributes:
        features: [r, D] float32; of row 0 the mean of the proposals'.
        locations: [r, 5] float32, x1/W, y1/H, x2/W, y2/H and area/(W H).
        boxes: [r, 4] float32, x1, y1, x2, y2 in pixels.
    """

    features: np.ndarray
    locations: np.ndarray
    boxes: np.ndarray


class CutAfterBuilder(TextBuilder):
    """`[CLS] expression [SEP]`, cut with its special tokens.

    Upstream: a long expression loses its [SEP] (vilbert_beta and its Paddle port).
    """

    def row_lengths(self, caption_lengths, tag_lengths, has_tags):
        kept = np.minimum(caption_lengths, self.max_seq_len - 1)
        return kept, np.full_like(kept, -1), np.minimum(kept + 2, self.max_seq_len)


CUTS = {"after": CutAfterBuilder, "before": TextBuilder}  # REFER.CUT


class ReferDataset:
    """One split, ready to build batches.

    Args:
        name: data set and split, for messages.
        expressions: list of Referred.
        pictures: {image id: name of its picture}.
        proposals: LmdbRegions of the detections.
        ground_truth: LmdbRegions of the annotated boxes, which training adds to the rows; None in evaluation.
        tokens: TokenTable of the expressions. text: TextBuilder. max_region: rows of an image, the first so many.
        control: REFER.CONTROL: "none"; "expressions": each with the text of one about another picture; "features": each
            image with the features of another one, in its own boxes. So one sees what the other half alone reaches.
    """

    def __init__(
        self, *, name, expressions, pictures, proposals, tokens, text, max_region, ground_truth=None, control="none"
    ):
        self.name, self.expressions, self.pictures = name, expressions, pictures
        self.proposals, self.ground_truth, self.max_region = proposals, ground_truth, max_region
        self.tokens, self.text, self.control = tokens, text, control
        self.num_examples = len(expressions)
        self.texts = others(self.expressions) if control == "expressions" else np.arange(len(expressions))
        self.shown_texts = [expressions[number].text for number in self.texts.tolist()]
        self._images, self._boxes = list(dict.fromkeys(each.image_id for each in expressions)), {}
        self._lenders = dict(zip(self._images, np.roll(self._images, 1).tolist(), strict=True))

    def image_ids(self):
        """The distinct images, in the order in which they appear."""
        return self._images

    @property
    def regions(self):
        """The proposals, under the name that every data set has for its features."""
        return self.proposals

    @functools.cached_property
    def feature_dim(self):
        """D of the first image that has regions."""
        return next(width for each in self._images if (width := self.proposals[each].features.shape[1]))

    def rows(self, image_id):
        """RegionRows of an image, cut to max_region (raises DataError)."""
        found = self.proposals[image_id]
        features, boxes, size = found.features, found.boxes, (found.width, found.height)
        if self.control == "features":
            lent = self.proposals[self._lenders[image_id]].features
            features = np.resize(lent, features.shape) if len(lent) else features
        whole = features.mean(axis=0, keepdims=True) if len(features) else np.zeros((1, self.feature_dim), np.float32)
        features, boxes = [whole, features], [np.array([[0, 0, *size]], np.float32), boxes]
        if self.ground_truth is not None:
            true = self.ground_truth[image_id]
            features, boxes = [*features, true.features], [*boxes, true.boxes]
        widths = {part.shape[1] for part in features if len(part)}
        if len(widths) > 1:
            both = f"{self.proposals.path} and {self.ground_truth.path}" if self.ground_truth else self.proposals.path
            raise DataError(f"{both}: image {image_id} has regions of {' and '.join(map(str, sorted(widths)))} values")
        kept = slice(None, self.max_region)
        features, boxes = np.concatenate([part for part in features if len(part)]), np.concatenate(boxes)[kept]
        return RegionRows(features[kept], locations(boxes, *size), boxes)

    def boxes(self, image_id):
        """The boxes of `rows`, [r, 4] float32; kept, as they are small."""
        if image_id not in self._boxes:
            self._boxes[image_id] = self.rows(image_id).boxes
        return self._boxes[image_id]

    def sizes(self, examples):
        """(regions [B] int64, text positions [B] int64) of these expressions."""
        texts, none = self.texts[np.asarray(examples)], np.zeros(len(examples), bool)
        regions = [len(self.boxes(self.expressions[example].image_id)) for example in np.asarray(examples).tolist()]
        lengths = self.tokens.lengths(texts)
        return np.array(regions), self.text.row_lengths(lengths, np.zeros_like(lengths), none)[2]

    @functools.cached_property
    def num_columns(self):
        """Rows of the image that has most."""
        return max(len(self.boxes(image_id)) for image_id in self._images)

    def overlaps(self):
        """[N, R] float32, the IoU of each row with the expression's object; 0 where an image has fewer rows."""
        found = np.zeros((self.num_examples, self.num_columns), np.float32)
        for number, each in enumerate(self.expressions):
            boxes = self.boxes(each.image_id)
            found[number, : len(boxes)] = iou(boxes, corners(each.box))
        return found

    def largest(self):
        """[N] int64, the row of the largest proposal of each expression's image; 0 where it has none."""
        found = {}
        for image_id in self._images:
            areas = (self.boxes(image_id)[1:, 2:] - self.boxes(image_id)[1:, :2]).prod(axis=1)
            found[image_id] = 1 + int(areas.argmax()) if len(areas) else 0
        return np.array([found[each.image_id] for each in self.expressions])

    def text_rows(self, examples):
        """Text of these expressions, as TextRows."""
        texts, none = self.texts[np.asarray(examples)], np.zeros(len(examples), bool)
        return self.text.build_rows(self.tokens, texts, self.tokens, texts, none)

    def batch(self, examples):
        """These expressions as a dict of named arrays, without padding.

        Returns:
            the fields of TextRows; num_regions, region_start [B] int64; img_feats [Pu, D] and img_locs [Pu, 5]
            float32, of which expression b shows the rows from region_start[b] on; targets [P] float32, see `targets`.
        """
        number, index, rows = {}, [], []
        for example in np.asarray(examples).tolist():
            image_id = self.expressions[example].image_id
            if image_id not in number:
                number[image_id] = len(rows)
                rows.append(self.rows(image_id))
            index.append(number[image_id])
        counts = np.array([len(each.boxes) for each in rows])
        pairs = zip(np.asarray(examples).tolist(), index, strict=True)
        return {
            **self.text_rows(examples)._asdict(),
            "num_regions": counts[index],
            "region_start": (np.cumsum(counts) - counts)[index],
            "img_feats": np.concatenate([each.features for each in rows]),
            "img_locs": np.concatenate([each.locations for each in rows]),
            "targets": np.concatenate([self.targets(example, rows[place].boxes) for example, place in pairs]),
        }

    def targets(self, example, boxes):
        """[r] float32: IoU of pixel boxes [r, 4] with that of an expression.

        In training a value below one half counts as 0 and the others stay as they are, soft.
        """
        found = iou(boxes, corners(self.expressions[example].box)).astype(np.float32)
        return np.where(found < POSITIVE, np.float32(0), found) if self.ground_truth is not None else found

    def where(self, example):
        """An expression in words, for messages."""
        each = self.expressions[example]
        return f"{self.name}: {each.text[:60]!r} (sent_id {each.sent_id}, image {each.image_id})"

    def fingerprint(self):
        """Hex digest of the expressions, their boxes and images, and of what is left of them by `control`."""
        digest = hashlib.blake2b(f"{self.control} {self.ground_truth is not None}".encode(), digest_size=16)
        for each in self.expressions:
            digest.update(repr(tuple(each)).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()


def corners(box):
    """(x, y, width, height) -> [4] float64, x1, y1, x2, y2."""
    x, y, width, height = box
    return np.array([x, y, x + width, y + height])


def iou(boxes, box):
    """[r] float64 in [0, 1]: intersection over union of pixel boxes [r, 4] with one [4].

    Upstream: a box of x1 to x2 is x2 - x1 + 1 pixels wide, whatever the fractions.
    """
    boxes, box = np.asarray(boxes, np.float64), np.asarray(box, np.float64)
    sides = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2]) + 1
    shared = np.maximum(sides, 0).prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2] + 1).prod(axis=1) + (box[2:] - box[:2] + 1).prod()
    return shared / (areas - shared)


def locations(boxes, width, height):
    """[r, 5] float32 of pixel boxes [r, 4] in a picture of this size: x1/W, y1/H, x2/W, y2/H, area/(W H)."""
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]) / (float(width) * float(height))
    size = np.array([width, height, width, height], np.float32)
    return np.concatenate([boxes / size, area[:, None]], axis=1).astype(np.float32)


def others(expressions):
    """[N] int64: for each of a list of Referred one that is about another picture, every one of them once, but for
    pictures that have more than half of all."""
    by_image = np.argsort([each.image_id for each in expressions], kind="stable")
    largest = np.unique([each.image_id for each in expressions], return_counts=True)[1].max()
    found = np.empty(len(expressions), np.int64)
    found[by_image] = np.roll(by_image, -max(largest, len(expressions) // 2))
    return found


# ---- from the settings


def published_store(cfg, kind=""):
    """Where the store of a data set lies as published; kind: "" (proposals) or "gt_"."""
    name = f"{cfg.REFER.DATASET}_{kind}resnet101_faster_rcnn_genome.lmdb"
    return os.path.join(cfg.DATASET.DATA_DIR, name)


def annotation_folder(cfg):
    """The folder with refs(...).p and instances.json."""
    return os.path.join(cfg.DATASET.DATA_DIR, cfg.REFER.DATASET)


def open_proposals(cfg):
    """LmdbRegions of the detections (raises DataError)."""
    path, hint = cfg.DATASET.FEAT_FILE or published_store(cfg), "; it holds the proposals (DATASET.FEAT_FILE)"
    return LmdbRegions(path, cfg.INPUT.FEATURE_CACHE_MB << 20, hint)


def open_ground_truth(cfg):
    """LmdbRegions of the annotated boxes (raises DataError)."""
    path = cfg.REFER.GROUND_TRUTH or published_store(cfg, "gt_")
    hint = "; it holds the annotated boxes that training adds (REFER.GROUND_TRUTH)"
    return LmdbRegions(path, cfg.INPUT.FEATURE_CACHE_MB << 18, hint)


def build_refer_data(cfg, tokenizer, split, training=False):
    """The ReferDataset of a split; every image is looked up before the first step.

    Args:
        training: whether the annotated boxes join the rows. They never do in evaluation, of whichever split.
    Raises:
        ConfigError: no such split. DataError: a file is missing or damaged, of another data set, or another detector's.
    """
    name = f"{cfg.REFER.DATASET} {split}"
    expressions, pictures = read_expressions(annotation_folder(cfg), cfg.REFER.SPLIT_BY, split)
    proposals, ground_truth = open_proposals(cfg), open_ground_truth(cfg) if training else None
    stores = [proposals, ground_truth] if training else [proposals]
    check_detector(cfg, stores)
    if training and cfg.REFER.LEAVE_OUT:
        expressions = _without(expressions, cfg.REFER.LEAVE_OUT)
    look_up(expressions, stores, name)
    expressions = settle_empty(cfg, expressions, proposals, name, training)
    cache_dir = cache_folder(cfg)
    tokens = token_table([each.text for each in expressions], tokenizer, cache_dir, f"{cfg.REFER.DATASET}_{split}")
    text = CUTS[cfg.REFER.CUT](tokenizer.cls_id, tokenizer.sep_id, cfg.INPUT.MAX_SEQ_LEN)
    lengths, none = tokens.lengths(), np.zeros(len(expressions), bool)
    kept = text.row_lengths(lengths, np.zeros_like(lengths), none)[0]
    look_at_texts(name, {"expressions": tokens}, tokenizer.unk_id, lengths, kept)
    data = ReferDataset(
        name=name,
        expressions=expressions,
        pictures=pictures,
        proposals=proposals,
        ground_truth=ground_truth,
        tokens=tokens,
        text=text,
        max_region=cfg.INPUT.MAX_REGION,
        control="none" if training else cfg.REFER.CONTROL,
    )
    if data.feature_dim != cfg.INPUT.IMG_FEATURE_DIM:
        found = f"{proposals.path}: its features have {data.feature_dim} values"
        raise DataError(f"{found}; INPUT.IMG_FEATURE_DIM is {cfg.INPUT.IMG_FEATURE_DIM}")
    return data


def data_of_texts(cfg, tokenizer, image_id, texts):
    """(ReferDataset of texts about one image of the proposals, list with the Referred of each text that the split of
    DATASET.TEST has about this image, or None).

    Raises:
        DataError: no such image in the store, or nothing was detected in it.
    """
    proposals, key = open_proposals(cfg), image_key(image_id)
    check_detector(cfg, [proposals])
    if key not in proposals:
        raise DataError(proposals.missing(key))
    known, pictures = {}, {}
    try:
        split, names = read_expressions(annotation_folder(cfg), cfg.REFER.SPLIT_BY, cfg.DATASET.TEST)
        known = {each.text.lower().strip(): each for each in split if each.image_id == key}
        pictures = {key: names[key]} if key in names else {}
    except MissingFile:  # a store of one's own pictures
        pass
    found = [known.get(text.lower().strip()) for text in texts]
    expressions = [Referred(text, number, 0, 0, key, (0.0, 0.0, 0.0, 0.0), "", 0) for number, text in enumerate(texts)]
    ids = [np.array(tokenizer.encode(text), np.int32) for text in texts]
    tokens = TokenTable(np.concatenate(ids), np.cumsum([0, *map(len, ids)]), np.arange(len(ids)))
    data = ReferDataset(
        name=f"image {key}",
        expressions=expressions,
        pictures=pictures,
        proposals=proposals,
        tokens=tokens,
        text=CUTS[cfg.REFER.CUT](tokenizer.cls_id, tokenizer.sep_id, cfg.INPUT.MAX_SEQ_LEN),
        max_region=cfg.INPUT.MAX_REGION,
    )
    return data, found


def check_detector(cfg, stores):
    """Refuse features of another detector than REFER.DETECTOR where a store says so, and warn where it says nothing.

    Features of two detectors may have the same width: nothing else would tell.
    """
    wanted = cfg.REFER.DETECTOR
    for store in stores:
        said = store.detector
        if wanted and said and said != wanted:
            raise DataError(
                f"{store.path}: features of {said!r}, but REFER.DETECTOR is {wanted!r}: a model of one detector's "
                "features gives nonsense with another's; take the store that belongs to the weights, or set the key"
            )
        if wanted and not said:
            words = "%s: does not say which detector made its features; taken for those of %r (REFER.DETECTOR)"
            log.warning(words, store.path, wanted)


def look_up(expressions, stores, name):
    """Raise DataError where a store lacks the image of an expression; names the first, and says how many there are."""
    for store in stores:
        absent = [each for each in expressions if each.image_id not in store]
        if absent:
            first = absent[0]
            images = len({each.image_id for each in absent})
            said = f"is missing, which {first.text[:60]!r} (sent_id {first.sent_id}, {name}) asks for; in all "
            said += f"{images:,} images of {len(absent):,} of {len(expressions):,} expressions are"
            raise DataError(store.missing(first.image_id, said))


def settle_empty(cfg, expressions, proposals, name, training):
    """The expressions without those about pictures in which nothing was detected, as DATASET.EMPTY_IMAGES says."""
    images = dict.fromkeys(each.image_id for each in expressions)
    empty = [image_id for image_id in images if proposals.is_empty(image_id)]
    if not empty:
        return expressions
    shown = ", ".join(map(str, empty[:3])) + (", ..." if len(empty) > 3 else "")
    found = f"{proposals.path}: nothing was detected in {len(empty):,} of {len(images):,} images of {name} ({shown})"
    if cfg.DATASET.EMPTY_IMAGES == "error":
        raise DataError(f"{found}; leave them out of the data, or set DATASET.EMPTY_IMAGES 'skip'")
    log.warning("%s: %s", found, "they are not trained on" if training else "each has the whole picture alone")
    proposals.fills_empty = not training
    kept = [each for each in expressions if each.image_id not in set(empty)] if training else expressions
    if not kept or len(empty) == len(images):
        raise DataError(f"{found}: nothing is left")
    return kept


def _without(expressions, path):
    """The expressions without those about the images in an .npy of ids."""
    ids = read_npy(path)
    if ids.dtype.kind not in "iu" or ids.ndim != 1:
        raise ConfigError(f"REFER.LEAVE_OUT: {path} holds {ids.dtype} {list(ids.shape)}; expected a list of image ids")
    left_out = set(ids.tolist())
    kept = [each for each in expressions if each.image_id not in left_out]
    log.info("%s: %d of %d expressions are left out", path, len(expressions) - len(kept), len(expressions))
    if not kept:
        raise DataError(f"{path}: leaves no expression to train on")
    return kept
