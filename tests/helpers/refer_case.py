"""The golden set of referring expressions as the project's own files and settings name it."""

from oscar_paddle.config.default import get_cfg_defaults


def refer_config(repository, **opts):
    """The config of a golden run; opts: DATASET__FEAT_FILE="..." and the like."""
    folder = repository / "tests" / "golden" / "vilbert_rec"
    cfg = get_cfg_defaults()
    words = {
        "DATASET.DATA_DIR": str(folder / "data" / "referExpression"),
        "DATASET.DEV": "val",
        "DATASET.TEST": "val",
        "INPUT.MAX_SEQ_LEN": 20,
        "INPUT.MAX_REGION": 100,
        "INPUT.IMG_FEATURE_DIM": 2048,
        "PRETRAINED.DIR": str(folder / "checkpoint"),
        "EVAL.CHECKPOINT_DIR": str(folder / "checkpoint"),
        **{name.replace("__", "."): value for name, value in opts.items()},
    }
    cfg.merge_from_list([part for pair in words.items() for part in pair])
    return cfg
