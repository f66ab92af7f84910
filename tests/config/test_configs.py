"""The files in configs/: each loads for its task, holds the published numbers, and opens with what a reader needs."""

import pathlib
import re

import pytest

from oscar_paddle.tools.shell.command_line import load_task_config

ROOT = pathlib.Path(__file__).parents[2]
FILES = sorted((ROOT / "configs").rglob("*.yaml"))


def task_of(path):
    """The task of the tool that the file's own command names."""
    tool = re.search(r"tools/(train|eval)_(\w+)\.py", path.read_text(encoding="utf-8"))
    if not tool:
        return None
    return tool[1] if tool[2] == "retrieval" else f"{tool[1]}_{tool[2]}"


def load(name):
    path = ROOT / "configs" / name
    return load_task_config(path, task=task_of(path))


def holds(section, **expected):
    """Asserts that a section has these values."""
    assert {key: section[key] for key in expected} == expected


def test_there_are_files():
    assert len(FILES) >= 9


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_file_loads_and_keeps_paths_relative(path):
    cfg = load_task_config(path, task=task_of(path))
    holds(cfg.OUTPUT, SAVE_NAME=path.stem)  # so no two of them share a run folder
    for section in cfg.values():
        assert not [value for value in section.values() if str(value).startswith(("/", "~"))]


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_file_opens_with_command_hardware_duration_and_score(path):
    head = re.match(r"(#.*\n)+", path.read_text(encoding="utf-8"))[0]
    for part in ("Command", "Hardware", "Duration", "Expected"):
        assert re.search(rf"^# {part} +\S", head, re.MULTILINE), part
    assert f"configs/{path.name}" in head  # the command names this very file
    assert re.search("about|not measured", re.search("# Duration.*", head)[0])


@pytest.mark.parametrize(
    ("name", "cards", "lr", "regions", "layernorm"),
    [
        ("retrieval_train.yaml", 8, 2e-5, 70, 1),
        ("retrieval_train_large.yaml", 8, 7.5e-6, 70, 1),
        ("retrieval_oscar_base.yaml", 4, 2e-5, 50, 0),
        ("retrieval_oscar_large.yaml", 8, 1e-5, 50, 0),
    ],
)
def test_published_training_settings(name, cards, lr, regions, layernorm):
    cfg = load(name)
    positives_per_step = cfg.OPTIMIZATION.BATCH_SIZE * cards * cfg.OPTIMIZATION.GRADIENT_ACCUMULATION_STEPS
    assert positives_per_step == 128
    holds(cfg.OPTIMIZATION, LR=lr, EPOCHS=30, WEIGHT_DECAY=0.05, WARMUP_STEPS=0, DROPOUT=0.1, EPSILON=1e-8)
    holds(cfg.OPTIMIZATION, CLIP_MAX_NORM=1.0, LR_SCHEDULER="linear", LOSS_TYPE="sfmx", NEGATIVES=1)
    holds(cfg.INPUT, MAX_SEQ_LEN=70, MAX_REGION=regions, NUM_CAPTIONS_PER_IMAGE_DEV=20, NUM_CAPTIONS_PER_IMAGE_TRN=5)
    holds(cfg.PRETRAINED, USE_IMG_LAYERNORM=layernorm)
    holds(cfg.MISC, SEED=88)


@pytest.mark.parametrize(
    ("name", "keys_file"),
    [("retrieval_test.yaml", "test_img_keys_1k.tsv"), ("retrieval_test_5k.yaml", "test_img_keys.tsv")],
)
def test_published_evaluation_settings(name, keys_file):
    cfg = load(name)
    holds(cfg.EVAL, EVAL_CROSS_IMAGE=True, EVAL_IMG_KEYS_FILE=keys_file, CHECKPOINT_DIR="exp/retrieval_train/best")
    holds(cfg.INPUT, MAX_SEQ_LEN=70, MAX_REGION=70, NUM_CAPTIONS_PER_IMAGE_DEV=5)


def test_flickr8k_settings():
    cfg = load("retrieval_flickr8k_train.yaml")
    holds(cfg.OPTIMIZATION, BATCH_SIZE=32, LR=1e-4, WARMUP_STEPS=100, EPOCHS=6, WEIGHT_DECAY=0.05)
    holds(cfg.INPUT, MAX_SEQ_LEN=40, MAX_REGION=16, NUM_CAPTIONS_PER_IMAGE_DEV=20)
    holds(cfg.DATASET, DEV="minival", DATA_DIR="../shared/data/flickr8k_regions/coco_ir")
    for name, keys_file in (("test", "test_img_keys.tsv"), ("test100", "test_img_keys_100.tsv")):
        test = load(f"retrieval_flickr8k_{name}.yaml")
        holds(test.INPUT, MAX_SEQ_LEN=40, MAX_REGION=16, NUM_CAPTIONS_PER_IMAGE_DEV=5)
        holds(test.EVAL, EVAL_IMG_KEYS_FILE=keys_file, CHECKPOINT_DIR="exp/retrieval_flickr8k_train/best")


@pytest.mark.parametrize(
    ("name", "batch", "lr", "train", "weights"),
    [
        ("vqa_train.yaml", 32, 5e-5, "train", "vqa/base/checkpoint-2000000"),
        ("vqa_train_large.yaml", 24, 3e-5, "train+val", "vqa/large/checkpoint-2000000"),
        ("vqa_oscar_base.yaml", 32, 5e-5, "train", "base-vg-labels/ep_107_1192087"),
        ("vqa_oscar_large.yaml", 24, 3e-5, "train+val", "large-vg-labels/ep_20_590000"),
    ],
)
def test_published_vqa_settings(name, batch, lr, train, weights):
    cfg = load(name)
    holds(cfg.INPUT, MAX_SEQ_LEN=128, MAX_REGION=50, ADD_OD_LABEL=True, IMG_FEATURE_TYPE="faster_r-cnn")
    holds(cfg.OPTIMIZATION, BATCH_SIZE=batch, LR=lr, EPOCHS=25, DROPOUT=0.3, WEIGHT_DECAY=0.05, WARMUP_STEPS=0)
    holds(cfg.OPTIMIZATION, LOSS_TYPE="bce", LR_SCHEDULER="linear", CLIP_MAX_NORM=1.0, EPSILON=1e-8)
    holds(cfg.OUTPUT, CLASSIFIER="linear", CLS_HIDDEN_SCALE=3)
    holds(cfg.DATASET, TRAIN=train, DEV="val", DATA_LABEL_TYPE="mask")
    holds(cfg.MONITOR, EVAL_STEPS=4000)
    assert cfg.PRETRAINED.DIR.endswith(weights) and cfg.MISC.SEED == 88


@pytest.mark.parametrize("name", ["gqa_train.yaml", "gqa_oscar_base.yaml"])
def test_published_gqa_settings(name):
    cfg = load(name)
    holds(cfg.INPUT, MAX_SEQ_LEN=165, MAX_REGION=45, ADD_OD_LABEL=True)
    holds(cfg.OPTIMIZATION, BATCH_SIZE=48, LR=5e-5, EPOCHS=5, DROPOUT=0.3, WEIGHT_DECAY=0.05, LOSS_TYPE="xe")
    holds(cfg.DATASET, TRAIN_DATA_TYPE="all", EVAL_DATA_TYPE="bal", DATA_LABEL_TYPE="all", TEST="test-dev")
    holds(cfg.MONITOR, EVAL_STEPS=4000)
    assert cfg.MISC.SEED == 88


@pytest.mark.parametrize(
    ("name", "batch", "warmup", "scale"),
    [
        ("nlvr2_train.yaml", 72, 10000, 3),
        ("nlvr2_oscar_base.yaml", 72, 10000, 3),
        ("nlvr2_train_large.yaml", 24, 5000, 2),
        ("nlvr2_oscar_large.yaml", 24, 5000, 2),
    ],
)
def test_published_nlvr2_settings(name, batch, warmup, scale):
    cfg = load(name)
    holds(cfg.INPUT, MAX_SEQ_LEN=55, MAX_REGION=40, ADD_OD_LABEL=False, USE_PAIR=True)
    holds(cfg.OPTIMIZATION, BATCH_SIZE=batch, WARMUP_STEPS=warmup, LR=3e-5, EPOCHS=20, DROPOUT=0.3, WEIGHT_DECAY=0.05)
    holds(cfg.OUTPUT, CLASSIFIER="mlp", CLS_HIDDEN_SCALE=scale)
    holds(cfg.DATASET, EVAL_DATA_TYPE="all", DATA_LABEL_TYPE="all", TEST="test1")
    assert cfg.MISC.SEED == 88


COMMON_OF_CAPTIONING = {"WEIGHT_DECAY": 0.05, "WARMUP_STEPS": 0, "DROPOUT": 0.1, "EPSILON": 1e-8, "CLIP_MAX_NORM": 1.0}
LENGTHS_OF_CAPTIONING = {"MAX_SEQ_A_LEN": 40, "MAX_GEN_LENGTH": 20}


@pytest.mark.parametrize(
    ("name", "batch", "lr", "epochs", "weights", "is_vinvl"),
    [
        ("captioning_train.yaml", 64, 3e-5, 60, "image_captioning/pretrained_base", True),
        ("captioning_train_large.yaml", 64, 1e-5, 60, "image_captioning/pretrained_large", True),
        ("captioning_oscar_base.yaml", 64, 3e-5, 30, "base-vg-labels/ep_67_588997", False),
        ("captioning_oscar_large.yaml", 32, 1e-5, 30, "large-vg-labels/ep_7_816000", False),
    ],
)
def test_published_captioning_settings(name, batch, lr, epochs, weights, is_vinvl):
    cfg = load(name)
    holds(cfg.OPTIMIZATION, BATCH_SIZE=batch, LR=lr, EPOCHS=epochs, **COMMON_OF_CAPTIONING)
    smoothing, drop = (0.1, 0.2) if is_vinvl else (0.0, 0.0)
    holds(cfg.CAPTION, SCST=False, LABEL_SMOOTHING=smoothing, DROP_WORST_RATIO=drop, **LENGTHS_OF_CAPTIONING)
    holds(cfg.CAPTION, TIE_WEIGHTS=is_vinvl, FREEZE_EMBEDDING=is_vinvl, MASK_PROB=0.15, MAX_MASKED_TOKENS=3)
    assert is_vinvl != cfg.CAPTION.PAD_ENDS
    assert not is_vinvl or cfg.CAPTION.DROP_WORST_AFTER == 20000
    holds(cfg.PRETRAINED, FRESH_HEAD=not is_vinvl, USE_IMG_LAYERNORM=-1)
    holds(cfg.INPUT, MAX_SEQ_LEN=70, MAX_REGION=50, ADD_OD_LABEL=True, DO_LOWER_CASE=True)
    assert cfg.PRETRAINED.DIR.endswith(weights) and cfg.MISC.SEED == 88


@pytest.mark.parametrize(
    ("name", "batch", "lr", "epochs", "schedule", "start"),
    [
        ("captioning_scst.yaml", 16, 3e-6, 75, "linear", "exp/captioning_train/best"),
        ("captioning_scst_large.yaml", 6, 8e-7, 25, "linear", "exp/captioning_train_large/best"),
        ("captioning_oscar_scst.yaml", 16, 5e-6, 5, "linear", "exp/captioning_oscar_base/best"),
        ("captioning_oscar_scst_large.yaml", 8, 5e-6, 5, "linear", "exp/captioning_oscar_large/best"),
        ("captioning_nocaps_scst.yaml", 14, 5e-6, 50, "constant", "exp/captioning_nocaps_train/best"),
    ],
)
def test_published_self_critical_settings(name, batch, lr, epochs, schedule, start):
    cfg = load(name)
    holds(cfg.OPTIMIZATION, BATCH_SIZE=batch, LR=lr, EPOCHS=epochs, LR_SCHEDULER=schedule, **COMMON_OF_CAPTIONING)
    holds(cfg.CAPTION, SCST=True, SCST_SAMPLES=5, SCST_BASELINE="greedy", SCST_SHARED_PREFIX=False, NUM_BEAMS=1)
    assert not cfg.CAPTION.PAD_ENDS, "what is drawn ends at [SEP] alone"
    holds(cfg.CAPTION, CIDER_FREQUENCIES="coco-train-words.p", **LENGTHS_OF_CAPTIONING)
    holds(cfg.CAPTION, TIE_WEIGHTS="oscar" not in name, FREEZE_EMBEDDING="oscar" not in name)
    holds(cfg.PRETRAINED, DIR=start, FRESH_HEAD=False)


def test_published_nocaps_and_test_settings():
    train, test = load("captioning_nocaps_train.yaml"), load("captioning_nocaps_test.yaml")
    holds(train.OPTIMIZATION, BATCH_SIZE=64, LR=1e-4, EPOCHS=30, **COMMON_OF_CAPTIONING)
    holds(train.CAPTION, TIE_WEIGHTS=True, FREEZE_EMBEDDING=True, LABEL_SMOOTHING=0.0, DROP_WORST_RATIO=0.0)
    holds(train.PRETRAINED, DIR="bert-base-uncased", USE_IMG_LAYERNORM=-1)
    holds(test.CAPTION, USE_CBS=True, MIN_CONSTRAINTS=2, NUM_BEAMS=5, NUM_KEEP_BEST=1, **LENGTHS_OF_CAPTIONING)
    holds(test.DATASET, DATA_DIR="data/nocaps", TEST="val.yaml")
    holds(load("captioning_test.yaml").CAPTION, NUM_BEAMS=5, USE_CBS=False, LENGTH_PENALTY=1.0, MAX_GEN_LENGTH=20)


@pytest.mark.parametrize(
    ("name", "lr", "batch", "mode", "prob", "layernorm", "clip"),
    [
        ("pretraining_train.yaml", 1e-4, 1024, 1, 0.25, 1, 10.0),
        ("pretraining_train_large.yaml", 3e-5, 1024, 1, 0.25, 1, 10.0),
        ("pretraining_oscar_base.yaml", 5e-5, 768, 0, 0.0, 0, 0.0),
        ("pretraining_two_corpora.yaml", 1e-4, 1024, 2, 0.25, 1, 10.0),
        ("pretraining_mengzi.yaml", 1e-4, 1024, 1, 0.25, 1, 10.0),
    ],
)
def test_published_pretraining_settings(name, lr, batch, mode, prob, layernorm, clip):
    cfg = load(name)
    holds(cfg.INPUT, MAX_SEQ_LEN=35, MAX_REGION=50, IMG_FEATURE_TYPE="faster_r-cnn")
    holds(cfg.OPTIMIZATION, LR=lr, GLOBAL_BATCH_SIZE=batch, WEIGHT_DECAY=0.01, WARMUP_STEPS=0, CLIP_MAX_NORM=clip)
    holds(cfg.OPTIMIZATION, DROPOUT=0.1, LR_SCHEDULER="linear", EPSILON=1e-8, GRADIENT_ACCUMULATION_STEPS=1)
    holds(cfg.CORPUS, TEXTB_SAMPLE_MODE=mode, TEXTA_FALSE_PROB=prob, USE_B=True, MEAN_OVER="batch")
    extra = name == "pretraining_two_corpora.yaml"
    holds(cfg.CORPUS, EXTRA_LOSS_WEIGHT=0.5 if extra else 0.0, EXTRA_TEXTB_SAMPLE_MODE=1)
    assert bool(cfg.CORPUS.EXTRA_DATASET_FILE) == extra
    holds(cfg.PRETRAINED, USE_IMG_LAYERNORM=layernorm)
    assert cfg.MISC.SEED == 42 and cfg.OUTPUT.SAVE_STEPS == 10000
