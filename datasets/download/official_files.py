"""What the authors published for image-text retrieval: addresses, and where the settings in `configs/` expect them.

Source: DOWNLOAD.md, VinVL_DOWNLOAD.md, MODEL_ZOO.md and VinVL_MODEL_ZOO.md of github.com/microsoft/Oscar. The authors
gave out neither exact sizes nor checksums, so none stand here; sizes come from the server when a download starts. The
VinVL addresses are folders meant for `azcopy --recursive`, and no list of their files was published: those below are
the ones that the reference code reads. A file marked optional may be absent without harm.

Only the standard library is imported, so that the downloader runs before anything is installed.
"""

from dataclasses import dataclass

STORAGE = "https://biglmdiag.blob.core.windows.net"

PARTS = {
    "captions": "COCO captions, image lists and candidate lists (VinVL's folder)",
    "vinvl": "VinVL region features and object tags of COCO, about 50 GB",
    "oscar": "Oscar v1 region features and object tags of COCO, in one archive with the same captions",
    "weights": "VinVL and Oscar v1 checkpoints, base and large, for retrieval",
    "ablations": "Oscar v1 checkpoints trained with Open Images tags and without tags",
}


@dataclass(frozen=True)
class OfficialFile:
    """One published file.

    Attributes:
        part: key of PARTS.
        address: path below STORAGE or a mirror of it, no leading slash.
        place: path below the target folder.
        optional: whether everything works without it.
        about: published approximate size in bytes; None where none was published.
        routes: for an archive, `(pattern, folder)` in order: members whose name matches go to that folder.
        expects: for an archive, places that must be there once it is unpacked.
        note: what is known about trouble with this file; shown when it cannot be had.
    """

    part: str
    address: str
    place: str
    optional: bool = False
    about: int | None = None
    routes: tuple = ()
    expects: tuple = ()
    note: str = ""


@dataclass(frozen=True)
class Check:
    """A settings file whose data can be checked once `places` are there.

    Attributes:
        settings: path below the repository.
        parts: of which at least one must have been asked for.
        places: what must be there, below the target folder.
        opts: (setting, place), for a target folder other than the one the settings name; those that are there.
    """

    settings: str
    parts: tuple
    places: tuple
    opts: tuple


def _folder(part, address, place, names, **more):
    return [OfficialFile(part, f"{address}/{name}", f"{place}/{name}", **more) for name in names]


def _checkpoint(address, place):
    needed = _folder("weights", address, place, ["pytorch_model.bin", "config.json", "vocab.txt"])
    extras = ["special_tokens_map.json", "added_tokens.json", "training_args.bin"]
    return needed + _folder("weights", address, place, extras, optional=True)


def _oscar_weights(name, part="weights", checkpoint=None):
    folder = f"pretrained/{name}"
    files = ("pytorch_model.bin", "config.json", "vocab.txt") if checkpoint else ()
    return OfficialFile(
        part,
        f"oscar/pretrained_models/{name}.zip",
        f"downloads/{name}.zip",
        routes=(("*", folder),),
        expects=tuple(f"{folder}/{checkpoint}/{file}" for file in files),
    )


_CAPTIONS = "vinvl/datasets/coco_ir"
_CHECKPOINTS = "vinvl/model_ckpts/coco_ir"
_FEATURES = (
    "vinvl/image_features/coco_X152C4_frcnnbig2_exp168model_0060000model.roi_heads.nm_filter_2_model"
    ".roi_heads.score_thresh_0.2/model_0060000"
)

FILES = [
    *_folder(
        "captions",
        _CAPTIONS,
        "coco_ir",
        [
            "train_captions.pt",
            "minival_captions.pt",
            "test_captions.pt",
            "minival_caption_indexs_top20.pt",
            "test_img_keys_1k.tsv",
            "test_img_keys.tsv",
        ],
    ),
    *_folder("captions", _CAPTIONS, "coco_ir", ["val_captions.pt", "minival_img_keys.tsv"], optional=True),
    # The small files first: a refusal shows before 50 GB have been read.
    *_folder("vinvl", _FEATURES, "model_0060000", ["imageid2idx.json", "predictions.tsv"]),
    # The readers rebuild these two where they are missing.
    *_folder("vinvl", _FEATURES, "model_0060000", ["predictions.lineidx", "features.lineidx"], optional=True),
    OfficialFile(
        "vinvl",
        f"{_FEATURES}/features.tsv",
        "model_0060000/features.tsv",
        about=50 * 10**9,
        note="people have found the folder without its features.tsv (github.com/microsoft/Oscar/issues/141)",
    ),
    OfficialFile(
        "oscar",
        "oscar/datasets/coco_ir.zip",
        "downloads/coco_ir.zip",
        routes=(
            ("*_img_*_feats.pt", "oscar_features"),
            ("*_labels.pt", "oscar_features"),
            ("*_captions.pt", "coco_ir"),
            ("*_caption_indexs_*.pt", "coco_ir"),
            ("*_img_keys*.tsv", "coco_ir"),
            ("*", "oscar_features"),
        ),
        expects=(
            "coco_ir/train_captions.pt",
            "coco_ir/test_captions.pt",
            "oscar_features/train_img_frcnn_feats.pt",
            "oscar_features/train_vg_labels.pt",
            "oscar_features/test_img_frcnn_feats.pt",
            "oscar_features/test_vg_labels.pt",
        ),
    ),
    # What fine-tuning starts from, and the fine-tuned models the authors released.
    *_checkpoint(f"{_CHECKPOINTS}/base/checkpoint-1340000", "pretrained/vinvl_base/checkpoint-1340000"),
    *_checkpoint(f"{_CHECKPOINTS}/large/checkpoint-0660000", "pretrained/vinvl_large/checkpoint-0660000"),
    *_checkpoint(f"{_CHECKPOINTS}/base/checkpoint-0132780", "pretrained/vinvl_base/checkpoint-0132780"),
    *_checkpoint(f"{_CHECKPOINTS}/large/checkpoint-0132780", "pretrained/vinvl_large/checkpoint-0132780"),
    _oscar_weights("base-vg-labels", checkpoint="ep_67_588997"),
    _oscar_weights("large-vg-labels", checkpoint="ep_7_816000"),
    _oscar_weights("base-oid-labels", part="ablations"),
    _oscar_weights("base-no-labels", part="ablations"),
]

CHECKS = [
    Check(
        "configs/retrieval_train.yaml",
        ("captions", "vinvl"),
        ("coco_ir/train_captions.pt", "model_0060000/features.tsv", "model_0060000/predictions.tsv"),
        (
            ("DATASET.DATA_DIR", "coco_ir"),
            ("DATASET.FEAT_FILE", "model_0060000/features.tsv"),
            ("PRETRAINED.DIR", "pretrained/vinvl_base/checkpoint-1340000"),
        ),
    ),
    Check(
        "configs/retrieval_oscar_base.yaml",
        ("oscar",),
        ("coco_ir/train_captions.pt", "oscar_features/train_img_frcnn_feats.pt"),
        (
            ("DATASET.DATA_DIR", "coco_ir"),
            ("DATASET.FEAT_FILE", "oscar_features"),
            ("PRETRAINED.DIR", "pretrained/base-vg-labels/ep_67_588997"),
        ),
    ),
]
