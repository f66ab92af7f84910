"""What a retrieval result may be called, so that only comparable results share a name."""

import re
from typing import NamedTuple


class Protocol(NamedTuple):
    """A published evaluation; every field must agree before a result may carry its label."""

    label: str
    dataset: str  # "coco" or "flickr30k", as said by DATASET.NAME
    image_lists: tuple  # file names; "" is the whole test split without a list
    num_images: int
    num_captions: int
    folds: int


PROTOCOLS = (
    Protocol("COCO 1K (one fixed list, as in Oscar)", "coco", ("test_img_keys_1k.tsv",), 1000, 5000, 1),
    Protocol("COCO 1K (mean of five folds)", "coco", ("test_img_keys.tsv", ""), 5000, 25000, 5),
    Protocol("COCO 5K", "coco", ("test_img_keys.tsv", ""), 5000, 25000, 1),
    Protocol("Flickr30k 1K", "flickr30k", ("test_img_keys_1k.tsv", "test_img_keys.tsv", ""), 1000, 5000, 1),
)


def protocol_label(num_images, num_captions, dataset_name="", image_list="", folds=1, candidates_per_image=0):
    """Name what was measured.

    Args:
        num_images, num_captions: what was ranked, for all folds together.
        dataset_name: DATASET.NAME, for example "coco_ir".
        image_list: path or file name of the image-key list; "" for the whole test split.
        folds: parts averaged by `five_fold_metrics`; 1 for none.
        candidates_per_image: length of each image's own candidate list; 0 when every caption was ranked.
    Returns:
        The label of a published protocol if all of its fields agree, otherwise a plain count.
    """
    if candidates_per_image:
        return f"dev candidates ({candidates_per_image} per image; not comparable with 1K/5K)"
    file_name = re.split(r"[/\\]", image_list or "")[-1]
    found = (_dataset_of(dataset_name), num_images, num_captions, folds)
    for protocol in PROTOCOLS:
        wanted = (protocol.dataset, protocol.num_images, protocol.num_captions, protocol.folds)
        if found == wanted and file_name in protocol.image_lists:
            return protocol.label
    return f"{num_images} images x {num_captions} captions" + (f" (mean of {folds} folds)" if folds > 1 else "")


def _dataset_of(name):
    """The family a data set's name states: "coco" for "COCO" or "mscoco_ir", "flickr30k", or "" for any other."""
    words = re.findall(r"[a-z]+|[0-9]+", name.lower())
    if {"cn", "zh", "chinese"} & set(words):  # COCO-CN, Flickr30k-CN: other captions, other splits
        return ""
    if {"coco", "mscoco"} & set(words):
        return "coco"
    return "flickr30k" if "flickr 30 k" in " ".join(words) else ""
