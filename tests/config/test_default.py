"""The declaration of the keys: each whole and true of its own default, VinVL-Paddle's kept, old files readable."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oscar_paddle.config.default import KEYS, RUN, SCORES, get_cfg_defaults, keys_deciding, value_of
from oscar_paddle.config.errors import ConfigError
from oscar_paddle.config.loader import load_config

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


# What trainer_state.json and provenance.json hold. Without one of these, a run goes on, or scores are used again, with
# another value; one more refuses all that were written before it.
DECIDING_A_RUN = """
    INPUT.MAX_REGION INPUT.MAX_SEQ_LEN INPUT.IMG_FEATURE_DIM INPUT.ADD_OD_LABEL INPUT.DO_LOWER_CASE INPUT.ATT_MASK_TYPE
    INPUT.NUM_CAPTIONS_PER_IMAGE_TRN OUTPUT.NUM_LABELS OPTIMIZATION.LR OPTIMIZATION.EPSILON OPTIMIZATION.LOSS_TYPE
    OPTIMIZATION.BATCH_SIZE OPTIMIZATION.WARMUP_STEPS OPTIMIZATION.LR_SCHEDULER OPTIMIZATION.WEIGHT_DECAY
    OPTIMIZATION.EPOCHS OPTIMIZATION.CLIP_MAX_NORM OPTIMIZATION.OPTIMIZER OPTIMIZATION.GRADIENT_ACCUMULATION_STEPS
    OPTIMIZATION.DROPOUT OPTIMIZATION.ATTENTION_DROPOUT OPTIMIZATION.AMP OPTIMIZATION.NEGATIVES OPTIMIZATION.MAX_STEPS
    CAPTION.MAX_SEQ_A_LEN CAPTION.MASK_PROB CAPTION.MAX_MASKED_TOKENS CAPTION.LABEL_SMOOTHING CAPTION.DROP_WORST_RATIO
    CAPTION.DROP_WORST_AFTER CAPTION.DROP_WORST_ROUNDING CAPTION.TIE_WEIGHTS CAPTION.FREEZE_EMBEDDING
    CAPTION.SCST CAPTION.SCST_SAMPLES CAPTION.SCST_BASELINE CAPTION.SCST_SHARED_PREFIX
    MISC.SEED"""
DECIDING_SCORES = """
    INPUT.MAX_REGION INPUT.MAX_SEQ_LEN INPUT.IMG_FEATURE_DIM INPUT.ADD_OD_LABEL INPUT.DO_LOWER_CASE
    INPUT.ATT_MASK_TYPE"""


@pytest.mark.parametrize(("name", "key"), KEYS.items(), ids=KEYS)
def test_every_key_is_declared_in_full_and_its_default_is_allowed(name, key):
    assert re.fullmatch(r"[A-Z]+\.[A-Z0-9_]+", name)
    assert re.fullmatch(r"\S.{10,}[.)]", key.meaning) and "  " not in key.meaning
    upstream = "vilbert|ViLBERT|REFER API|vlbert_tasks|scene_graph_benchmark"  # whose settings are no flags
    assert re.fullmatch(f"--[a-z].*|fixed to .*|VinVL-Paddle|this project|.*({upstream}).*", key.source)
    assert type(key.default) in (bool, int, float, str)  # yacs stops checking the type of None, and so would we
    assert key.rule or type(key.default) in (bool, str), "a number without a range"
    assert key.problem(key.default) is None


@settings(max_examples=60)
@given(st.sampled_from([name for name in KEYS if KEYS[name].rule and KEYS[name].rule.options]), st.data())
def test_a_key_with_options_refuses_anything_else_and_names_them(tmp_path_factory, name, data):
    options = KEYS[name].rule.options
    other = st.integers(-(10**6), 10**6) if type(options[0]) is int else st.text(max_size=20)
    value = data.draw(other.filter(lambda value: value not in options))
    path = tmp_path_factory.getbasetemp() / "exp.yaml"
    path.touch()
    with pytest.raises(ConfigError) as refusal:
        load_config(path, [name, value])
    assert str(refusal.value).startswith(f"--opts: {name}: found ")
    assert str(refusal.value).endswith(f"; allowed: {', '.join(map(repr, options))}")
    assert {option: KEYS[name].problem(option) for option in options} == dict.fromkeys(options)


def test_what_decides_a_run_and_what_decides_scores():
    assert keys_deciding(RUN) == DECIDING_A_RUN.split()
    assert keys_deciding(SCORES) == DECIDING_SCORES.split()


def test_vinvl_paddle_keys_keep_name_type_and_value():
    kept = {name: value_of(get_cfg_defaults(), name) for name in VINVL_PADDLE}
    assert kept == VINVL_PADDLE
    assert {name: type(value) for name, value in kept.items()} == {k: type(v) for k, v in VINVL_PADDLE.items()}


def test_each_call_returns_a_fresh_unfrozen_node():
    first = get_cfg_defaults()
    first.INPUT.MAX_REGION = 1
    assert get_cfg_defaults().INPUT.MAX_REGION == 70


def test_only_the_meaning_of_a_key_names_a_task(repository):
    files = {path.name: path.read_text(encoding="utf-8") for path in (repository / "config").glob("*.py")}
    named = {name for name, text in files.items() if re.search("vqa|gqa|nlvr", text, re.IGNORECASE)}
    assert named == {"default.py"}
