"""Images, captions and tags of one split, and the pairs that training and evaluation make of them.

Shape letters: K images, C captions, B rows of a batch. Captions are numbered image-major.
"""

import hashlib
import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np

from oscar_paddle.config.errors import ConfigError, DataError
from oscar_paddle.config.progress import tqdm
from oscar_paddle.datasets.captions.own_pictures import read_names, read_split_captions, use_names
from oscar_paddle.datasets.captions.prepared import OTHER_LISTS, captions_digest
from oscar_paddle.datasets.captions.published import read_caption_index, read_image_keys
from oscar_paddle.datasets.collate import collate
from oscar_paddle.datasets.empty_images import settle_empty_images
from oscar_paddle.datasets.first_look import MANY_REPEATED, look_at_texts, plain
from oscar_paddle.datasets.regions.layouts import open_regions
from oscar_paddle.datasets.regions.source import RegionSource
from oscar_paddle.datasets.sampling import draw_negative
from oscar_paddle.datasets.tensorize import TextBuilder
from oscar_paddle.datasets.token_cache import TokenTable, cache_folder, token_table

log = logging.getLogger(__name__)


@dataclass(kw_only=True, eq=False)
class RetrievalDataset:
    """One split, ready to build batches of (image, caption) pairs.

    Attributes:
        image_ids: list of K int, in the order that defines the image index.
        captions: list of C str; caption_ids: list of C [image id, number of the caption within its image].
        caption_tokens, tag_tokens: TokenTables of `captions` and `tags`.
        tags: list of K str; "" means no second sentence.
        regions: RegionSource, cut to the first R regions.
        text: TextBuilder.
        mask_type: INPUT.ATT_MASK_TYPE.
        candidates: [K, m] int64, the captions that each image is compared with, or None for all captions.
        positives: [K, m] bool, or None.
    """

    image_ids: list
    captions: list
    caption_ids: list
    caption_tokens: TokenTable
    tags: list
    tag_tokens: TokenTable
    regions: RegionSource
    text: TextBuilder
    mask_type: str
    candidates: np.ndarray | None = None
    positives: np.ndarray | None = None

    def __post_init__(self):
        self.num_images, self.num_captions = len(self.image_ids), len(self.captions)
        # A tag string of blanks has no word pieces and still gets its [SEP]; an empty one has no second sentence.
        self.has_tags = np.array([bool(tag) for tag in self.tags])

    def caption_image(self):
        """[C] int64, index of the image that each caption belongs to."""
        index = {image_id: i for i, image_id in enumerate(self.image_ids)}
        return np.array([index[image_id] for image_id, _ in self.caption_ids])

    def text_rows(self, images, captions):
        """Text of the pairs (images[b], captions[b]), as TextRows; an image brings its tags."""
        return self.text.build_rows(self.caption_tokens, captions, self.tag_tokens, images, self.has_tags[images])

    def where(self, image, caption):
        """An image and a caption by their indices, for messages."""
        owner, number = self.caption_ids[caption]
        return f"image {self.image_ids[image]}, caption {number} of image {owner}"

    def batch(self, images, captions):
        """The pairs (images[b], captions[b]) as named arrays, see `datasets.collate.collate`.

        Args:
            images, captions: [B] int, indices; an image brings its tags and its regions.
        """
        images, captions = np.asarray(images), np.asarray(captions)
        distinct, img_index = np.unique(images, return_inverse=True)
        features = [self.regions[self.image_ids[image]] for image in distinct]
        return collate(self.text_rows(images, captions), features, img_index)

    def training_pairs(self, examples, seed, epoch, negatives=1):
        """The rows of a training step: all positives, then all negatives.

        Args:
            examples: [M] int, caption indices; each is a positive pair with its own image.
            seed, epoch: what the negatives depend on, with the example's index.
            negatives: how many for each positive; the reference has 1.
        Returns:
            images, captions, labels: [M * (1 + negatives)] int64 each.
        Source: docs/reference.md, retrieval negatives.
        """
        starts, owners = self._starts_and_owners
        positives = [(int(owners[c]), int(c)) for c in examples]
        draws = ((*pair, which) for which in range(negatives) for pair in positives)
        drawn = [draw_negative(seed, epoch, c, image, c, starts, which) for image, c, which in draws]
        images, captions = np.array(positives + drawn, np.int64).reshape(-1, 2).T
        return images, captions, np.repeat([1, 0], [len(positives), len(drawn)])

    @cached_property
    def _starts_and_owners(self):
        """(where the captions of each image start, [K + 1]; image of each caption, [C])."""
        owners = self.caption_image()
        return np.searchsorted(owners, np.arange(self.num_images + 1)), owners

    def repeated_captions(self):
        """(numbers of the sentences [C] int64, equal for captions that are word for word the same but for case and
        spaces; whether another image has the same one, [C] bool)."""
        numbers, owners = {}, {}
        sentences = np.array([numbers.setdefault(plain(text), len(numbers)) for text in self.captions])
        owner = np.array([owners.setdefault(image_id, len(owners)) for image_id, _ in self.caption_ids])
        sentence_of_each_owner = np.unique(np.stack([sentences, owner]), axis=1)[0]
        return sentences, (np.bincount(sentence_of_each_owner) > 1)[sentences]

    def fingerprint(self):
        """Hex digest of image list, captions and tags: what a run's numbers depend on, besides the features."""
        digest = hashlib.blake2b(digest_size=16)
        for part in (self.image_ids, self.captions, self.tags, self.caption_ids):
            digest.update(repr(part).encode("utf-8", "surrogatepass"))
        if self.candidates is not None:
            digest.update(self.candidates.tobytes())
        return digest.hexdigest()


def build_training_data(cfg, tokenizer):
    """The training split as the config names it."""
    split = cfg.DATASET.TRAIN
    captions, regions = read_split_captions(cfg.DATASET.DATA_DIR, split), _regions(cfg, split)
    image_ids = _images_of(split, captions, regions)
    left_out = _check_regions(cfg, split, image_ids, regions, training=True)
    image_ids = [image_id for image_id in image_ids if image_id not in left_out]
    if len(image_ids) < 2:
        raise DataError(f"split {split!r}: {len(image_ids)} image; negatives need at least 2 images")
    caption_ids = _first_captions(split, image_ids, captions, cfg.INPUT, "NUM_CAPTIONS_PER_IMAGE_TRN")
    return _build(cfg, tokenizer, split, image_ids, captions, caption_ids, regions)


def build_evaluation_data(cfg, tokenizer, split):
    """A split for evaluation: every image with every caption, or with its own list of candidates.

    Cross-image evaluation takes the images of EVAL.EVAL_IMG_KEYS_FILE in its order (without one: all of the split);
    with EVAL.EVAL_CAPTION_INDEX_FILE each image meets the captions of its list, whosever they are.

    Raises:
        DataError: an image of the list without captions, or a candidate that does not exist.
        ConfigError: neither or both of the two protocols are set.
    """
    folder, protocol, listed_in = Path(cfg.DATASET.DATA_DIR), cfg.EVAL, cfg.EVAL.EVAL_IMG_KEYS_FILE
    if bool(protocol.EVAL_CAPTION_INDEX_FILE) == protocol.EVAL_CROSS_IMAGE:
        raise ConfigError("set exactly one of EVAL.EVAL_CROSS_IMAGE and EVAL.EVAL_CAPTION_INDEX_FILE")
    captions, regions = read_split_captions(folder, split), _regions(cfg, split)
    image_ids = _images_of(split, captions, regions, listed_in and folder / listed_in)
    _check_regions(cfg, split, image_ids, regions)
    key = "NUM_CAPTIONS_PER_IMAGE_DEV"
    if protocol.EVAL_CROSS_IMAGE:
        key = "NUM_CAPTIONS_PER_IMAGE_TRN" if split == cfg.DATASET.TRAIN else key
        caption_ids = _first_captions(split, image_ids, captions, cfg.INPUT, key)
        return _build(cfg, tokenizer, split, image_ids, captions, caption_ids, regions)
    path = folder / protocol.EVAL_CAPTION_INDEX_FILE
    lists = _candidate_lists(path, split, image_ids, captions, cfg.INPUT[key])
    number = {pair: i for i, pair in enumerate(dict.fromkeys(pair for pairs in lists for pair in pairs))}
    data = _build(cfg, tokenizer, split, image_ids, captions, list(number), regions)
    data.candidates = np.array([[number[pair] for pair in pairs] for pairs in lists])
    data.positives = np.array([[pair[0] == own for pair in pairs] for own, pairs in zip(image_ids, lists, strict=True)])
    if missing := np.count_nonzero(~data.positives.any(axis=1)):
        lists_of = f"{missing:,} of {len(image_ids):,} images have no caption of their own among their candidates"
        log.warning("%s: %s; they count as not found", path, lists_of)
    return data


def _first_captions(split, image_ids, captions, settings, key):
    """[(image id, number), ...] of the first INPUT.<key> captions of each image, of all of them if that is 0."""
    counts = {image_id: settings[key] or len(captions[image_id]) for image_id in image_ids}
    for image_id, count in counts.items():
        if (found := len(captions[image_id])) < count:
            expected = f"expected {count} (INPUT.{key}; 0 takes all that there are)"
            raise DataError(f"split {split!r}: image {image_id} has {found} captions, {expected}")
    return [(image_id, number) for image_id, count in counts.items() for number in range(count)]


def _candidate_lists(path, split, image_ids, captions, size):
    """For each image its first `size` (0: all) (image id, caption number) pairs, checked against the captions."""
    index = read_caption_index(path)
    if index.captions not in ("", captions_digest(captions)):
        log.warning("%s: %s", path, OTHER_LISTS.format(split=split))
    size = size or max(map(len, index.values()))
    lists = [index.get(image_id, [])[:size] for image_id in image_ids]
    for image_id, pairs in zip(image_ids, lists, strict=True):
        if len(pairs) < size:
            what = f"image {image_id} has {len(pairs)} candidates, expected {size} (INPUT.NUM_CAPTIONS_PER_IMAGE_DEV)"
            others = "" if image_id in index or not index else f"; the lists are of other images, such as {min(index)}"
            raise DataError(f"{path}: {what}{others}")
        for other, number in pairs:
            if number >= len(captions.get(other, ())):
                raise DataError(f"{path}: image {image_id}: candidate [{other}, {number}] is not among the captions")
    return lists


def _regions(cfg, split):
    """The region features of a split as the config names them."""
    regions = open_regions(
        cfg.DATASET.DATA_DIR,
        split,
        cfg.DATASET.FEAT_FILE,
        cfg.INPUT.IMG_FEATURE_TYPE,
        cfg.DATASET.PACKED,
        feature_dim=cfg.INPUT.IMG_FEATURE_DIM,
        max_region=cfg.INPUT.MAX_REGION,
        cache_bytes=cfg.INPUT.FEATURE_CACHE_MB * 2**20,
    )
    use_names(regions, read_names(cfg.DATASET.DATA_DIR, split), cfg.DATASET.DATA_DIR)
    return regions


def _images_of(split, captions, regions, listed_in=""):
    """The images of a split in the order of a list, or else of the captions (VinVL), or of the features (Oscar v1)."""
    if not (listed_in or regions.orders_images):
        return list(captions)
    image_ids = read_image_keys(listed_in) if listed_in else regions.image_ids()
    for image_id in image_ids:
        if image_id not in captions:
            raise DataError(f"{listed_in or regions.path}: image {image_id} has no captions in split {split!r}")
    return image_ids


def _check_regions(cfg, split, image_ids, regions, training=False):
    """Look every image up in the features: the set of those to leave out."""
    if not image_ids:
        raise DataError(f"split {split!r}: no images")
    for image_id in image_ids:
        if image_id not in regions:
            raise DataError(regions.missing(image_id, f"of split {split!r} is missing"))
    return settle_empty_images(cfg, f"split {split!r}", regions, image_ids, training)


def _build(cfg, tokenizer, split, image_ids, captions, caption_ids, regions):
    """A RetrievalDataset of these images and captions."""
    tags = [""] * len(image_ids)
    if cfg.INPUT.ADD_OD_LABEL:
        labels = regions.open_tags(cfg.DATASET.DATA_DIR, split, cfg.DATASET.OD_LABEL_TYPE)
        progress = tqdm(image_ids, f"reading tags of {split}", unit=" images", delay=2, leave=False)
        tags = [labels[image_id] for image_id in progress]
    texts = [captions[image_id][number] for image_id, number in caption_ids]
    cache_dir = cache_folder(cfg)
    text = TextBuilder(tokenizer.cls_id, tokenizer.sep_id, cfg.INPUT.MAX_SEQ_LEN)
    caption_tokens = token_table(texts, tokenizer, cache_dir, f"{split}_captions")
    tag_tokens = token_table(tags, tokenizer, cache_dir, f"{split}_tags")
    lengths = caption_tokens.lengths()
    kept = text.row_lengths(lengths, np.zeros_like(lengths), False)[0]
    look_at_texts(split, {"captions": caption_tokens, "tags": tag_tokens}, tokenizer.unk_id, lengths, kept)
    data = RetrievalDataset(
        image_ids=image_ids,
        captions=texts,
        caption_ids=caption_ids,
        caption_tokens=caption_tokens,
        tags=tags,
        tag_tokens=tag_tokens,
        regions=regions,
        text=text,
        mask_type=cfg.INPUT.ATT_MASK_TYPE,
    )
    if (repeated := np.count_nonzero(data.repeated_captions()[1])) > MANY_REPEATED * data.num_captions:
        what = "captions are word for word those of another image, which scores and negatives count as wrong"
        log.warning("%s: %s of %s %s", split, f"{repeated:,}", f"{data.num_captions:,}", what)
    return data
