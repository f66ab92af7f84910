"""The defaults: documented one by one, VinVL-Paddle's kept, the rules about them complete and true of them."""

import inspect
import re

import pytest

from oscar_paddle.config import default
from oscar_paddle.config.checks import OPTIONS, RANGES, value_problem
from oscar_paddle.config.default import get_cfg_defaults

# What VinVL-Paddle's YAML files rely on: names, types and values.
VINVL_PADDLE = {
    "INPUT.BERT_MODEL": "bert-base-uncased",
    "INPUT.MAX_REGION": 70,
    "INPUT.MAX_SEQ_LEN": 70,
    "INPUT.IMG_FEATURE_DIM": 2054,
    "INPUT.IMG_FEATURE_TYPE": "frcnn",
    "INPUT.ADD_OD_LABEL": True,
    "INPUT.DO_LOWER_CASE": True,
    "INPUT.ATT_MASK_TYPE": "CLR",
    "INPUT.NUM_CAPTIONS_PER_IMAGE_TRN": 5,
    "INPUT.NUM_CAPTIONS_PER_IMAGE_DEV": 5,
    "DATASET.NAME": "COCO",
    "DATASET.DATA_DIR": "",
    "DATASET.FEAT_FILE": "",
    "DATASET.TRAIN": "train",
    "DATASET.DEV": "minival",
    "DATASET.TEST": "test",
    "OUTPUT.SAVE_NAME": "",
    "OUTPUT.SAVE_FREQ": 1,
    "OUTPUT.NUM_LABELS": 2,
    "OUTPUT.CHECKPOINT_DIR": "./exp",
    "OPTIMIZATION.LR": 2e-5,
    "OPTIMIZATION.EPSILON": 1e-8,
    "OPTIMIZATION.LOSS_TYPE": "sfmx",
    "OPTIMIZATION.BATCH_SIZE": 32,
    "OPTIMIZATION.WARMUP_STEPS": 0,
    "OPTIMIZATION.LR_SCHEDULER": "linear",
    "OPTIMIZATION.WEIGHT_DECAY": 0.05,
    "OPTIMIZATION.EPOCHS": 30,
    "OPTIMIZATION.CLIP_MAX_NORM": 1.0,
    "OPTIMIZATION.OPTIMIZER": "adamw",
    "OPTIMIZATION.GRADIENT_ACCUMULATION_STEPS": 1,
    "MONITOR.PRINT_STEP": 100,
    "MONITOR.EVAL_FREQ": 1,
    "PRETRAINED.DIR": "",
    "PRETRAINED.RESUME": "",
    "EVAL.CHECKPOINT_DIR": "",
    "EVAL.EVAL_CROSS_IMAGE": False,
    "EVAL.EVAL_IMG_KEYS_FILE": "",
    "EVAL.EVAL_CAPTION_INDEX_FILE": "",
    "MISC.SEED": 123,
    "MISC.NUM_WORKERS": 8,
}


def flat(cfg):
    return {f"{section}.{name}": value for section, keys in cfg.items() for name, value in keys.items()}


def comments():
    """{full key: the comment right above it in default.py}, '' where there is none."""
    found, section, comment = {}, None, []
    for line in inspect.getsource(default).splitlines():
        section_start = re.fullmatch(r'    "([A-Z]+)": \{', line)
        key = re.match(r'        "([A-Z0-9_]+)": ', line)
        if section_start:
            section = section_start[1]
        if key:
            found[f"{section}.{key[1]}"] = " ".join(comment)
        comment = [*comment, line.strip(" #")] if line.startswith("        # ") else []
    return found


def test_every_key_has_a_comment_with_its_source():
    assert set(comments()) == set(flat(get_cfg_defaults()))
    bare = [key for key, comment in comments().items() if not re.search(r".{15,}\[.+\]$", comment)]
    assert not bare, f"no comment, or none that ends with its [source]: {bare}"


@pytest.mark.parametrize("key", OPTIONS)
def test_the_comment_names_every_option(key):
    missing = [str(option) for option in OPTIONS[key] if not re.search(rf"(?<!\w){option}(?!\w)", comments()[key])]
    assert not missing


def test_vinvl_paddle_keys_keep_name_type_and_value():
    ours = flat(get_cfg_defaults())
    kept = {key: ours.get(key) for key in VINVL_PADDLE}
    assert kept == VINVL_PADDLE
    assert {key: type(value) for key, value in kept.items()} == {k: type(v) for k, v in VINVL_PADDLE.items()}


def test_every_number_has_a_range_and_every_default_is_allowed():
    values = flat(get_cfg_defaults())
    assert set(OPTIONS) | set(RANGES) <= set(values)
    numbers = {key for key, value in values.items() if type(value) in (int, float)}
    assert numbers - set(OPTIONS) - set(RANGES) == set()
    assert {key: value_problem(key, value) for key, value in values.items() if value_problem(key, value)} == {}


def test_each_call_returns_a_fresh_unfrozen_node():
    first = get_cfg_defaults()
    first.INPUT.MAX_REGION = 1
    assert get_cfg_defaults().INPUT.MAX_REGION == 70


def test_no_default_is_none():  # yacs stops checking the type of such a key, and so would we
    assert {type(value) for value in flat(get_cfg_defaults()).values()} <= {bool, int, float, str}
