"""What the authors published for image-text retrieval: addresses, and where the settings in `configs/` expect them.

Source: DOWNLOAD.md, VinVL_DOWNLOAD.md, MODEL_ZOO.md and VinVL_MODEL_ZOO.md of github.com/microsoft/Oscar. The authors
gave out neither exact sizes nor checksums, so none stand here; sizes come from the server when a download starts. The
VinVL addresses are folders meant for `azcopy --recursive`, and no list of their files was published: those below are
the ones that the reference code reads. A file marked optional may be absent without harm. Standard library only.
"""

from typing import NamedTuple

STORAGE = "https://biglmdiag.blob.core.windows.net"

PARTS = {
    "captions": "COCO captions, image lists and candidate lists (VinVL's folder)",
    "vinvl": "VinVL region features and object tags of COCO, about 50 GB",
    "oscar": "Oscar v1 region features and object tags of COCO, in one archive with the same captions",
    "weights": "VinVL and Oscar v1 checkpoints, base and large, for retrieval",
    "ablations": "Oscar v1 checkpoints trained with Open Images tags and without tags",
}


class OfficialFile(NamedTuple):
    part: str  # key of PARTS
    address: str  # path below STORAGE or a mirror of it, no leading slash
    place: str  # path below the target folder
    optional: bool = False  # whether everything works without it
    about: int | None = None  # published approximate size in bytes; None where none was published
    routes: tuple = ()  # for an archive, (pattern, folder) in order: members whose name matches go to that folder
    expects: tuple = ()  # for an archive, places that must be there once it is unpacked
    note: str = ""  # what is known about trouble with this file; shown when it cannot be had


class Check(NamedTuple):
    """A settings file whose data can be checked once some places, below the target folder, are there."""

    settings: str  # path below the repository
    parts: tuple  # of which at least one must have been asked for
    places: tuple  # what must be there
    opts: dict  # setting -> place, for a target folder other than the one the settings name


def _folder(part, address, place, names, **more):
    return [OfficialFile(part, f"{address}/{name}", f"{place}/{name}", **more) for name in names]


_WEIGHTS = ("pytorch_model.bin", "config.json", "vocab.txt")


def _checkpoint(size, step):
    address, place = f"vinvl/model_ckpts/coco_ir/{size}/checkpoint-{step}", f"pretrained/vinvl_{size}/checkpoint-{step}"
    extras = ("special_tokens_map.json", "added_tokens.json", "training_args.bin")
    yield from _folder("weights", address, place, _WEIGHTS)
    yield from _folder("weights", address, place, extras, optional=True)


def _archive(part, name, inner=()):
    folder, address = f"pretrained/{name}", f"oscar/pretrained_models/{name}.zip"
    expects = tuple(f"{folder}/{checkpoint}/{file}" for checkpoint in inner for file in _WEIGHTS)
    return OfficialFile(part, address, f"downloads/{name}.zip", routes=(("*", folder),), expects=expects)


_CAPTIONS = "vinvl/datasets/coco_ir"
_FEATURES = (
    "vinvl/image_features/coco_X152C4_frcnnbig2_exp168model_0060000model.roi_heads.nm_filter_2_model"
    ".roi_heads.score_thresh_0.2/model_0060000"
)
_FEATURES_TSV = "model_0060000/features.tsv"
_OSCAR = [
    f"oscar_features/{split}_{kind}.pt" for split in ("train", "test") for kind in ("img_frcnn_feats", "vg_labels")
]
_COCO_NAMES = ("*_captions.pt", "*_caption_indexs_*.pt", "*_img_keys*.tsv")

FILES = [
    *_folder("captions", _CAPTIONS, "coco_ir", ["train_captions.pt", "minival_captions.pt", "test_captions.pt"]),
    *_folder("captions", _CAPTIONS, "coco_ir", ["minival_caption_indexs_top20.pt"]),
    *_folder("captions", _CAPTIONS, "coco_ir", ["test_img_keys_1k.tsv", "test_img_keys.tsv"]),
    *_folder("captions", _CAPTIONS, "coco_ir", ["val_captions.pt", "minival_img_keys.tsv"], optional=True),
    # The small files first: a refusal shows before 50 GB have been read.
    *_folder("vinvl", _FEATURES, "model_0060000", ["imageid2idx.json", "predictions.tsv"]),
    # The readers rebuild these two where they are missing.
    *_folder("vinvl", _FEATURES, "model_0060000", ["predictions.lineidx", "features.lineidx"], optional=True),
    OfficialFile(
        "vinvl",
        f"{_FEATURES}/features.tsv",
        _FEATURES_TSV,
        about=50 * 10**9,
        note="people have found the folder without its features.tsv (github.com/microsoft/Oscar/issues/141)",
    ),
    OfficialFile(
        "oscar",
        "oscar/datasets/coco_ir.zip",
        "downloads/coco_ir.zip",
        routes=(*((pattern, "coco_ir") for pattern in _COCO_NAMES), ("*", "oscar_features")),
        expects=("coco_ir/train_captions.pt", "coco_ir/test_captions.pt", *_OSCAR),
    ),
    # What fine-tuning starts from, and the fine-tuned models the authors released.
    *_checkpoint("base", "1340000"),
    *_checkpoint("large", "0660000"),
    *_checkpoint("base", "0132780"),
    *_checkpoint("large", "0132780"),
    _archive("weights", "base-vg-labels", ["ep_67_588997"]),
    _archive("weights", "large-vg-labels", ["ep_7_816000"]),
    _archive("ablations", "base-oid-labels"),
    _archive("ablations", "base-no-labels"),
]


def _opts(features, weights):
    return {"DATASET.DATA_DIR": "coco_ir", "DATASET.FEAT_FILE": features, "PRETRAINED.DIR": f"pretrained/{weights}"}


CHECKS = [
    Check(
        "configs/retrieval_train.yaml",
        ("captions", "vinvl"),
        ("coco_ir/train_captions.pt", _FEATURES_TSV, "model_0060000/predictions.tsv"),
        _opts(_FEATURES_TSV, "vinvl_base/checkpoint-1340000"),
    ),
    Check(
        "configs/retrieval_oscar_base.yaml",
        ("oscar",),
        ("coco_ir/train_captions.pt", "oscar_features/train_img_frcnn_feats.pt"),
        _opts("oscar_features", "base-vg-labels/ep_67_588997"),
    ),
]
