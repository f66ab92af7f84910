"""Captioning: images with tags and regions, captions with masked words, and what captions are written after.

Shape letters: K images, C captions, B rows of a batch, Pt text positions of all rows, M masked positions of all rows.
"""

import hashlib
import logging
import os
import random
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from oscar_paddle.config.errors import DataError
from oscar_paddle.config.progress import tqdm
from oscar_paddle.datasets.caption_prefix import CaptionPrefix
from oscar_paddle.datasets.captions.caption_yaml import (
    is_yaml,
    read_caption_list,
    read_caption_yaml,
    read_references,
    references_file,
)
from oscar_paddle.datasets.captions.own_pictures import read_names, read_split_captions, use_names
from oscar_paddle.datasets.captions.published import read_image_keys
from oscar_paddle.datasets.collate import collate
from oscar_paddle.datasets.empty_images import settle_empty_images
from oscar_paddle.datasets.first_look import look_at_texts
from oscar_paddle.datasets.regions.layouts import open_regions, open_source
from oscar_paddle.datasets.regions.source import RegionSource, image_key, stem
from oscar_paddle.datasets.regions.vinvl import ObjectTags, Rows
from oscar_paddle.datasets.tensorize import TextBuilder
from oscar_paddle.datasets.token_cache import TokenTable, cache_folder, token_table

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CaptionBuilder(TextBuilder):
    """Text rows of captioning: the caption in a slot of `caption_len` positions, tags behind the slot.

    Tags stand at position `caption_len` whatever the caption's length; nothing stands in what is left of the slot.
    Source: docs/reference.md, caption rows.
    """

    caption_len: int = 40

    @property
    def caption_room(self):
        """As `TextBuilder.caption_room`."""
        return self.caption_len, "CAPTION.MAX_SEQ_A_LEN"

    def row_lengths(self, caption_lengths, tag_lengths, has_tags):
        """As `TextBuilder.row_lengths`."""
        caption_kept = np.minimum(caption_lengths, self.caption_len - 2)
        tags_kept = np.where(has_tags, np.minimum(tag_lengths, self.max_seq_len - self.caption_len - 1), -1)
        return caption_kept, tags_kept, caption_kept + 2 + tags_kept + 1

    def build_rows(self, caption_tokens, captions, tag_tokens, tags, has_tags):
        """As `TextBuilder.build_rows`, tags at their own positions."""
        rows = super().build_rows(caption_tokens, captions, tag_tokens, tags, has_tags)
        skipped = np.repeat(self.caption_len - rows.caption_length, rows.text_length)
        positions = np.where(rows.token_type_ids == 1, rows.position_ids + skipped, rows.position_ids)
        return rows._replace(position_ids=positions)


class Masking(NamedTuple):
    """How words of a caption are masked: a share of its positions, from 1 to `most`."""

    share: float = 0.15
    most: int = 3


def masked_words(length, masking, draws, num_words):
    """Which positions of a caption are masked, and how.

    Candidates are all but [CLS], the [SEP] included; so many as `share` of the length rounded to the even neighbour.

    Args:
        length: positions of [CLS] caption [SEP].
        draws: random.Random, or what gives the same `shuffle`, `random` and `randint`.
        num_words: size of the vocabulary; one more than the ids there are may be drawn, which then is [UNK].
    Returns:
        list of (position, what stands there then: "mask", "keep" or an id), by position.
    Source: docs/reference.md, masked words.
    """
    candidates = list(range(1, length))
    draws.shuffle(candidates)
    count = min(max(round(masking.share * length), 1), masking.most)
    actions = []
    for position in sorted(candidates[:count]):
        if draws.random() <= 0.8:
            actions.append((position, "mask"))
        else:
            actions.append((position, draws.randint(0, num_words) if draws.random() <= 0.5 else "keep"))
    return actions


class Vocabulary(NamedTuple):
    """Ids that masking needs."""

    size: int
    mask_id: int
    unk_id: int


@dataclass(kw_only=True, eq=False)
class CaptionDataset:
    """One split.

    Attributes:
        image_keys: list of K str, the images as their files name them. image_ids: the same as ids, see `image_key`.
        captions: list of C str; caption_images: [C] int, the image of each.
        caption_tokens, tag_tokens: TokenTables of `captions` and `tags` (K).
        tags: list of K str, "" where there are none.
        regions: RegionSource.
        text: CaptionBuilder.
        masking: Masking. vocabulary: Vocabulary.
        references: {image index: list of str}, what people wrote; empty where it is not known.
        seed: MISC.SEED.
        tag_room: word pieces of tags that captions are written after, at most; None: as many as in training.
    """

    image_keys: list
    captions: list
    caption_images: np.ndarray
    caption_tokens: TokenTable
    tags: list
    tag_tokens: TokenTable
    regions: RegionSource
    text: CaptionBuilder
    masking: Masking
    vocabulary: Vocabulary
    references: dict
    seed: int = 0
    tag_room: int | None = None

    def __post_init__(self):
        self.image_ids = [image_key(key) for key in self.image_keys]
        self.num_images, self.num_captions = len(self.image_keys), len(self.captions)
        self.has_tags = np.array([bool(tag) for tag in self.tags], bool)

    def where(self, caption):
        """A caption by its number, for messages."""
        return f"caption {caption} (image {self.image_keys[self.caption_images[caption]]})"

    def draws(self, caption, epoch):
        """The generator of a caption's masking: a function of (seed, epoch, caption)."""
        return random.Random(f"{self.seed} {epoch} {caption}")

    def batch(self, examples, epoch, draws=None):
        """Captions with masked words.

        Args:
            examples: [B] int, captions.
            draws: [B] generators instead of those of the epoch (tests).
        Returns:
            (named arrays, see `datasets.collate.collate`; places [M] int64 among the text positions, and labels [M]
            int64: the words that were there).
        """
        examples = np.asarray(examples)
        images = self.caption_images[examples]
        rows = self.text.build_rows(self.caption_tokens, examples, self.tag_tokens, images, self.has_tags[images])
        ids, places, labels = rows.input_ids, [], []
        starts = np.cumsum(rows.text_length) - rows.text_length
        for number, (start, length) in enumerate(zip(starts.tolist(), rows.caption_length.tolist(), strict=True)):
            generator = draws[number] if draws else self.draws(examples[number], epoch)
            for position, action in masked_words(length, self.masking, generator, self.vocabulary.size):
                place = start + position
                places.append(place)
                labels.append(ids[place])
                if action != "keep":
                    ids[place] = self._word(action)
        distinct, img_index = np.unique(images, return_inverse=True)
        batch = collate(rows, self.features(distinct), img_index)
        return batch, np.array(places, np.int64), np.array(labels, np.int64)

    def _word(self, action):
        if action == "mask":
            return self.vocabulary.mask_id
        return action if action < self.vocabulary.size else self.vocabulary.unk_id

    def features(self, images):
        """List of the regions [R, D] of images [b] int."""
        return [self.regions[self.image_ids[image]] for image in images]

    def prefix(self, images):
        """What captions of images [B] int are written after, as CaptionPrefix."""
        text = self.text
        room = text.max_seq_len - text.caption_len - 1 if self.tag_room is None else self.tag_room
        images = np.asarray(images)
        has_tags = self.has_tags[images]
        kept = np.where(has_tags, np.minimum(self.tag_tokens.lengths(images), room), -1)
        length = kept + 1
        row = np.repeat(np.arange(len(images)), length)
        place = np.arange(len(row)) - (np.cumsum(length) - length)[row]
        ids = np.full(len(row), text.sep_id, np.int64)
        is_tag = place < kept[row]
        ids[is_tag] = self.tag_tokens.ids[(self.tag_tokens.starts(images)[row] + place)[is_tag]]
        features = self.features(images)
        return CaptionPrefix(
            input_ids=ids,
            token_type_ids=np.ones_like(ids),
            position_ids=text.caption_len + place,
            text_length=length,
            img_feats=np.concatenate(features),
            num_regions=np.array([len(regions) for regions in features]),
        )

    def fingerprint(self):
        """Hex digest of images, captions and tags: what a run's numbers depend on, besides the features."""
        digest = hashlib.blake2b(digest_size=16)
        for part in (self.image_keys, self.captions, self.tags, self.caption_images.tolist()):
            digest.update(repr(part).encode("utf-8", "surrogatepass"))
        return digest.hexdigest()


def build_caption_data(cfg, tokenizer, split, training=False):
    """CaptionDataset of a split.

    Args:
        split: name of a YAML in DATASET.DATA_DIR, or of a split as retrieval has them ("train": train_captions.pt, or
            one's own captions).
        training: whether its captions are trained on; otherwise they are what people wrote, where they are known.
    Raises:
        DataError: a file is missing or damaged, or files do not belong together.
        ConfigError: the settings leave a caption no room.
    """
    read = _read_yaml if is_yaml(split) else _read_split
    found = read(cfg, split, training)
    left_out = settle_empty_images(cfg, f"split {split!r}", found.regions, list(map(image_key, found.keys)), training)
    if left_out:
        found = found.without(left_out)
    if training and not found.captions:
        raise DataError(f"split {split!r}: no captions to train on")
    return _dataset(cfg, tokenizer, split, found, training)


def _dataset(cfg, tokenizer, split, found, training=False):
    """CaptionDataset of a _Split."""
    cache_dir = cache_folder(cfg)
    name = Path(split).stem
    caption_tokens = token_table(found.captions, tokenizer, cache_dir, f"{name}_captions")
    tag_tokens = token_table(found.tags, tokenizer, cache_dir, f"{name}_tags")
    options = cfg.CAPTION
    text = CaptionBuilder(tokenizer.cls_id, tokenizer.sep_id, cfg.INPUT.MAX_SEQ_LEN, options.MAX_SEQ_A_LEN)
    lengths = caption_tokens.lengths()
    room, key = text.caption_room
    tables = {"captions": caption_tokens, "tags": tag_tokens}
    look_at_texts(split, tables, tokenizer.unk_id, lengths, np.minimum(lengths, room - 2), key)
    if training and (empty := np.flatnonzero(lengths == 0)).size:
        log.warning("%s: %s of %s captions have no word piece; they train [SEP] alone", split, len(empty), len(lengths))
    return CaptionDataset(
        image_keys=found.keys,
        captions=found.captions,
        caption_images=found.images,
        caption_tokens=caption_tokens,
        tags=found.tags,
        tag_tokens=tag_tokens,
        regions=found.regions,
        text=text,
        masking=Masking(options.MASK_PROB, options.MAX_MASKED_TOKENS),
        vocabulary=Vocabulary(tokenizer.vocab_size, tokenizer.mask_id, tokenizer.unk_id),
        references=found.references,
        seed=cfg.MISC.SEED,
    )


def build_image_data(cfg, tokenizer, path):
    """CaptionDataset of pictures without captions: all of a file or folder of regions.

    Args:
        path: whatever `open_regions` takes as DATASET.FEAT_FILE, the .npz of a single picture, or a YAML.
    Raises:
        DataError: no such file, damaged, or no picture in it.
    """
    path = os.path.normpath(path)
    if is_yaml(path):
        files = read_caption_yaml(path)
        regions = open_source(files["feature"], **_region_options(cfg))
        keys, tags = _keys_and_tags(cfg, path, files, regions)
    else:
        folder, name = os.path.split(path)
        alone = name.endswith(".npz") and os.path.isfile(path)
        place = folder or "." if alone else path
        split = name.partition("_img_")[0] if "_img_" in name else cfg.DATASET.TEST
        data_dir = os.path.dirname(os.path.abspath(place))
        kind, packed = cfg.INPUT.IMG_FEATURE_TYPE, cfg.DATASET.PACKED
        regions = open_regions(data_dir, split, place, kind, packed, **_region_options(cfg))
        keys = [stem(name)] if alone else list(map(str, regions.ids))
        tags = [""] * len(keys)
        if cfg.INPUT.ADD_OD_LABEL:
            tags = _read_tags(regions.open_tags(data_dir, split, cfg.DATASET.OD_LABEL_TYPE), keys, path)
    if not keys:
        raise DataError(f"{path}: no picture in it; expected the regions of one at least")
    settle_empty_images(cfg, path, regions, list(map(image_key, keys)), False)
    return _dataset(cfg, tokenizer, stem(path), _Split(keys, [], np.zeros(0, np.int64), tags, regions, {}))


class _Split(NamedTuple):
    """What the files of a split say; fields as of CaptionDataset, `images` its caption_images."""

    keys: list
    captions: list
    images: np.ndarray
    tags: list
    regions: RegionSource
    references: dict

    def without(self, image_ids):
        """The same without some images and their captions."""
        stays = [image_key(key) not in image_ids for key in self.keys]
        number = np.cumsum(stays) - 1
        captions = [caption for caption, image in enumerate(self.images) if stays[image]]
        return self._replace(
            keys=[key for key, keep in zip(self.keys, stays, strict=True) if keep],
            captions=[self.captions[caption] for caption in captions],
            images=number[self.images[captions]],
            tags=[tag for tag, keep in zip(self.tags, stays, strict=True) if keep],
            references={int(number[image]): texts for image, texts in self.references.items() if stays[image]},
        )


def _read_yaml(cfg, split, training):
    path = Path(cfg.DATASET.DATA_DIR) / split
    files = read_caption_yaml(path)
    regions = open_source(files["feature"], **_region_options(cfg))
    keys, tags = _keys_and_tags(cfg, path, files, regions)
    number = {image_key(key): place for place, key in enumerate(keys)}
    captions, images, references = [], [], {}
    if training:
        if not files["caption"]:
            raise DataError(f"{path}: names no 'caption' file, and training needs one")
        for image_id, caption, where in read_caption_list(files["caption"]):
            if image_id not in number:
                raise DataError(
                    f"{where}: image {image_id} has no row in {regions.path}, whose keys look like {keys[0]!r}"
                )
            captions.append(caption)
            images.append(number[image_id])
    if files["caption"]:
        found = read_references(references_file(files["caption"]))
        references = {number[image_id]: texts for image_id, texts in found.items() if image_id in number}
        missing = [key for key in keys if image_key(key) not in found] if not training else []
        if missing and len(missing) < len(keys):
            source = references_file(files["caption"])
            raise DataError(
                f"{source}: image {missing[0]} of {regions.path} has no captions ({len(missing)} have none)"
            )
        if missing:
            theirs = next(iter(found))
            raise DataError(
                f"{references_file(files['caption'])}: has captions of other images, such as {theirs!r}, than "
                f"{regions.path}, such as {keys[0]!r}"
            )
    return _Split(keys, captions, np.array(images, np.int64), tags, regions, references)


def _keys_and_tags(cfg, path, files, regions):
    """(keys of the images, their tags) of the files that the YAML at `path` names, row by row."""
    keys = regions.row_keys() if isinstance(regions, Rows) else list(map(str, regions.ids))
    tags = [""] * len(keys)
    if cfg.INPUT.ADD_OD_LABEL:
        if not files["label"]:
            raise DataError(
                f"{path}: names no 'label' file, which holds the tags that INPUT.ADD_OD_LABEL True asks for"
            )
        labels = ObjectTags(files["label"])
        _check_alike(regions.path, keys, labels)
        tags = _read_tags(labels, keys, stem(path))
    repeated = len(keys) - len(set(map(image_key, keys)))
    if repeated:
        raise DataError(f"{regions.path}: {repeated} rows repeat the key of another row")
    return keys, tags


def _read_split(cfg, split, training):
    """A split in the layouts of retrieval: VinVL's captions and regions, or one's own."""
    folder = cfg.DATASET.DATA_DIR
    regions = open_regions(
        folder, split, cfg.DATASET.FEAT_FILE, cfg.INPUT.IMG_FEATURE_TYPE, cfg.DATASET.PACKED, **_region_options(cfg)
    )
    use_names(regions, read_names(folder, split), folder)
    captions = read_split_captions(folder, split)
    ids = list(captions)
    if not training and cfg.EVAL.EVAL_IMG_KEYS_FILE:
        ids = read_image_keys(Path(folder) / cfg.EVAL.EVAL_IMG_KEYS_FILE)
    for image_id in ids:
        if image_id not in captions:
            raise DataError(f"{cfg.EVAL.EVAL_IMG_KEYS_FILE}: image {image_id} has no captions in split {split!r}")
        if image_id not in regions:
            raise DataError(regions.missing(image_id, f"of split {split!r} is missing"))
    most = cfg.INPUT.NUM_CAPTIONS_PER_IMAGE_TRN or None
    chosen = {image_id: captions[image_id][:most] if training else captions[image_id] for image_id in ids}
    tags = [""] * len(ids)
    if cfg.INPUT.ADD_OD_LABEL:
        tags = _read_tags(regions.open_tags(folder, split, cfg.DATASET.OD_LABEL_TYPE), ids, split)
    owners = [place for place, image_id in enumerate(ids) for _ in chosen[image_id]]
    return _Split(
        keys=list(map(str, ids)),
        captions=[caption for image_id in ids for caption in chosen[image_id]] if training else [],
        images=np.array(owners if training else [], np.int64),
        tags=tags,
        regions=regions,
        references={place: captions[image_id] for place, image_id in enumerate(ids)},
    )


def _region_options(cfg):
    options = cfg.INPUT
    return {
        "feature_dim": options.IMG_FEATURE_DIM,
        "max_region": options.MAX_REGION,
        "cache_bytes": options.FEATURE_CACHE_MB * 2**20,
    }


def _read_tags(labels, images, split):
    return [labels[image] for image in tqdm(images, f"reading tags of {split}", unit=" images", delay=2, leave=False)]


def _check_alike(path, keys, labels):
    """Rows of features and tags must be of the same images."""
    others = list(labels.row_keys())
    if len(others) != len(keys):
        raise DataError(
            f"{path} has {len(keys)} rows and {labels.path} {len(others)}; expected the same images in both"
        )
    for row, (key, other) in enumerate(zip(keys, others, strict=True), start=1):
        if image_key(key) != image_key(other):
            raise DataError(
                f"row {row} of {path} is image {key}, but row {row} of {labels.path} is image {other}; expected the "
                "same images in the same order"
            )
