"""Images, captions and tags of one split, and the pairs that training and evaluation make of them.

Shape letters: K images, n captions an image, C captions, B rows of a batch.
Captions are numbered image-major: caption c belongs to image c // n.
"""

import hashlib
from pathlib import Path

import numpy as np
from tqdm import tqdm

from oscar_paddle.config.errors import ConfigError, DataError
from oscar_paddle.datasets.captions.own_pictures import read_names, read_split_captions
from oscar_paddle.datasets.captions.published import read_caption_index, read_image_keys
from oscar_paddle.datasets.collate import collate
from oscar_paddle.datasets.regions.layouts import open_regions
from oscar_paddle.datasets.sampling import draw_negative
from oscar_paddle.datasets.tensorize import TextBuilder
from oscar_paddle.datasets.token_cache import token_table


class RetrievalDataset:
    """One split, ready to build batches of (image, caption) pairs.

    Attributes:
        image_ids: list of K int, in the order that defines the image index.
        captions: list of C str; caption_ids: list of C [image id, number of the caption within its image].
        candidates: [K, m] int64, the captions that each image is compared with, or None for all captions.
        positives: [K, m] bool, or None.
    """

    def __init__(self, *, image_ids, captions, caption_ids, caption_tokens, tags, tag_tokens, regions, text, mask_type):
        """
        Args:
            image_ids, captions, caption_ids: as above.
            caption_tokens, tag_tokens: TokenTables of `captions` and `tags`.
            tags: list of K str; "" means no second sentence.
            regions: RegionSource, cut to the first R regions.
            text: TextBuilder.
            mask_type: INPUT.ATT_MASK_TYPE.
        """
        self.image_ids, self.captions, self.caption_ids = image_ids, captions, caption_ids
        self.caption_tokens, self.tags, self.tag_tokens = caption_tokens, tags, tag_tokens
        self.regions, self.text, self.mask_type = regions, text, mask_type
        # A tag string of blanks has no word pieces and still gets its [SEP]; an empty one has no second sentence.
        self.has_tags = np.array([bool(tag) for tag in tags])
        self.candidates = self.positives = None

    @property
    def num_images(self):
        return len(self.image_ids)

    @property
    def num_captions(self):
        return len(self.captions)

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

    def text_lengths(self, images, captions):
        """Positions of the text of every pair, [B] int64."""
        lengths = self.caption_tokens.lengths(captions), self.tag_tokens.lengths(images)
        return self.text.row_lengths(*lengths, self.has_tags[images])[2]

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
        per_image = self.num_captions // self.num_images
        pairs = [(int(c) // per_image, int(c)) for c in examples]
        for which in range(negatives):
            pairs += [
                draw_negative(seed, epoch, c, image, c, self.num_images, per_image, which)
                for image, c in pairs[: len(examples)]
            ]
        images, captions = np.array(pairs, np.int64).reshape(-1, 2).T
        labels = np.zeros(len(pairs), np.int64)
        labels[: len(examples)] = 1
        return images, captions, labels

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
    captions = read_split_captions(cfg.DATASET.DATA_DIR, split)
    regions = _regions(cfg, split)
    image_ids = _images_of(split, captions, regions)
    if len(image_ids) < 2:
        raise DataError(f"split {split!r}: {len(image_ids)} image; negatives need at least 2 images")
    return _build(cfg, tokenizer, split, image_ids, captions, cfg.INPUT.NUM_CAPTIONS_PER_IMAGE_TRN, regions)


def build_evaluation_data(cfg, tokenizer, split):
    """A split for evaluation: every image with every caption, or with its own list of candidates.

    Cross-image evaluation takes the images of EVAL.EVAL_IMG_KEYS_FILE in its order (without one: all of the split);
    with EVAL.EVAL_CAPTION_INDEX_FILE each image meets the captions of its list, whosever they are.

    Raises:
        DataError: an image of the list without captions, or a candidate that does not exist.
        ConfigError: neither or both of the two protocols are set.
    """
    if bool(cfg.EVAL.EVAL_CAPTION_INDEX_FILE) == cfg.EVAL.EVAL_CROSS_IMAGE:
        raise ConfigError("set exactly one of EVAL.EVAL_CROSS_IMAGE and EVAL.EVAL_CAPTION_INDEX_FILE")
    captions = read_split_captions(cfg.DATASET.DATA_DIR, split)
    regions = _regions(cfg, split)
    if cfg.EVAL.EVAL_IMG_KEYS_FILE:
        listed_in = Path(cfg.DATASET.DATA_DIR) / cfg.EVAL.EVAL_IMG_KEYS_FILE
        image_ids = read_image_keys(listed_in)
        unknown = [image_id for image_id in image_ids if image_id not in captions]
        if unknown:
            raise DataError(f"{listed_in}: image {unknown[0]} has no captions in split {split!r}")
    else:
        image_ids = _images_of(split, captions, regions)
    per_image = cfg.INPUT.NUM_CAPTIONS_PER_IMAGE_DEV
    if cfg.EVAL.EVAL_CROSS_IMAGE:
        return _build(cfg, tokenizer, split, image_ids, captions, per_image, regions)
    path = Path(cfg.DATASET.DATA_DIR) / cfg.EVAL.EVAL_CAPTION_INDEX_FILE
    lists = _candidate_lists(path, image_ids, captions, per_image)
    wanted = list(dict.fromkeys(pair for pairs in lists for pair in pairs))
    data = _build(cfg, tokenizer, split, image_ids, captions, per_image, regions, wanted)
    number = {pair: i for i, pair in enumerate(wanted)}
    data.candidates = np.array([[number[pair] for pair in pairs] for pairs in lists])
    data.positives = np.array(
        [[pair[0] == image_id for pair in pairs] for image_id, pairs in zip(image_ids, lists, strict=True)]
    )
    return data


def _candidate_lists(path, image_ids, captions, per_image):
    """For each image its first `per_image` [image id, caption number] pairs, checked against the captions."""
    index = read_caption_index(path)
    lists = []
    for image_id in image_ids:
        pairs = [tuple(pair) for pair in index.get(image_id, ())][:per_image]
        if len(pairs) < per_image:
            raise DataError(
                f"{path}: image {image_id} has {len(pairs)} candidates, expected {per_image} "
                "(INPUT.NUM_CAPTIONS_PER_IMAGE_DEV)"
            )
        for other, number in pairs:
            if number >= len(captions.get(other, ())):
                raise DataError(f"{path}: image {image_id}: candidate [{other}, {number}] is not among the captions")
        lists.append(pairs)
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
    if regions.names_images:
        regions.use_names(read_names(cfg.DATASET.DATA_DIR))
    return regions


def _images_of(split, captions, regions):
    """The images of a split in their order: that of the captions (VinVL), or of the feature file (Oscar v1)."""
    if not regions.orders_images:
        return list(captions)
    image_ids = regions.ids
    for image_id in image_ids:
        if image_id not in captions:
            raise DataError(f"{regions.path}: image {image_id} has no captions in split {split!r}")
    return image_ids


def _build(cfg, tokenizer, split, image_ids, captions, per_image, regions, caption_ids=None):
    """A RetrievalDataset over `image_ids`; its captions are the first `per_image` of each, or `caption_ids`."""
    if not image_ids:
        raise DataError(f"split {split!r}: no images")
    if caption_ids is None:
        for image_id in image_ids:
            if len(captions[image_id]) < per_image:
                key = "INPUT.NUM_CAPTIONS_PER_IMAGE_" + ("TRN" if split == cfg.DATASET.TRAIN else "DEV")
                found = len(captions[image_id])
                raise DataError(f"split {split!r}: image {image_id} has {found} captions, expected {per_image} ({key})")
        caption_ids = [(image_id, number) for image_id in image_ids for number in range(per_image)]
    texts = [captions[image_id][number] for image_id, number in caption_ids]
    cache_dir = cfg.DATASET.CACHE_DIR or Path(cfg.DATASET.DATA_DIR) / ".oscar_cache"
    for image_id in image_ids:
        if image_id not in regions:
            raise DataError(f"{regions.path}: image {image_id} of split {split!r} is missing")
    tags = [""] * len(image_ids)
    if cfg.INPUT.ADD_OD_LABEL:
        labels = regions.open_tags(cfg.DATASET.DATA_DIR, split, cfg.DATASET.OD_LABEL_TYPE)
        progress = tqdm(image_ids, f"reading tags of {split}", unit=" images", delay=2, leave=False)
        tags = [labels[image_id] for image_id in progress]
    tag_tokens = token_table(tags, tokenizer, cache_dir, f"{split}_tags")
    text = TextBuilder(tokenizer.cls_id, tokenizer.sep_id, cfg.INPUT.MAX_SEQ_LEN)
    caption_tokens = token_table(texts, tokenizer, cache_dir, f"{split}_captions")
    return RetrievalDataset(
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
