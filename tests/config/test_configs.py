"""The files in configs/: each loads for its task, holds the published numbers, and opens with what a reader needs."""

import pathlib
import re

import pytest

from oscar_paddle.config.loader import load_config

ROOT = pathlib.Path(__file__).parents[2]
FILES = sorted((ROOT / "configs").rglob("*.yaml"))


def task_of(path):
    """Which tool the file's own command names."""
    tool = re.search(r"tools/(train|eval)_\w+\.py", path.read_text(encoding="utf-8"))
    return tool[1] if tool else None


def load(name):
    path = ROOT / "configs" / name
    return load_config(path, task=task_of(path))


def holds(section, **expected):
    """Asserts that a section has these values."""
    assert {key: section[key] for key in expected} == expected


def test_there_are_files():
    assert len(FILES) >= 9


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.name)
def test_file_loads_and_keeps_paths_relative(path):
    cfg = load_config(path, task=task_of(path))
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
