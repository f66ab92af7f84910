"""Merging: what wins, what is converted, and that a dumped configuration loads to the same values."""

import os
import tempfile

import pytest
import yaml
from hypothesis import example, given, settings
from hypothesis import strategies as st

from oscar_paddle.config.default import KEYS, get_cfg_defaults, value_of
from oscar_paddle.config.errors import ConfigError, UserError
from oscar_paddle.config.loader import load_config
from oscar_paddle.solvers.run_folder import dump_config
from oscar_paddle.tools.shell.command_line import load_task_config

# The three YAML files that VinVL-Paddle ships: their keys and values.
VINVL_TRAIN = """
INPUT: {NUM_CAPTIONS_PER_IMAGE_TRN: 5, NUM_CAPTIONS_PER_IMAGE_DEV: 20}
DATASET:
  NAME: 'COCO'
  DATA_DIR: 'data/coco_ir_paddle/'
  FEAT_FILE: 'data/model_0060000/features.tsv'
  TRAIN: 'train'
  DEV: 'minival'
  TEST: 'test'
OUTPUT: {SAVE_NAME: 'finetune_retrieval', NUM_LABELS: 2, CHECKPOINT_DIR: '/root/paddlejob/workspace/output/'}
PRETRAINED: {DIR: 'data/pretrained_model_paddle'}
EVAL: {EVAL_CAPTION_INDEX_FILE: 'minival_caption_indexs_top20.pd'}
"""
VINVL_TEST = """
INPUT: {NUM_CAPTIONS_PER_IMAGE_TRN: 5, NUM_CAPTIONS_PER_IMAGE_DEV: 5}
DATASET: {NAME: 'COCO', DATA_DIR: 'coco_ir_paddle/', TRAIN: 'train', DEV: 'minival', TEST: 'test'}
OUTPUT: {SAVE_NAME: 'finetune_retrieval', NUM_LABELS: 2}
OPTIMIZATION: {BATCH_SIZE: 32}
EVAL:
  CHECKPOINT_DIR: 'exp/finetune_retrieval_22Y_01M_02D_23H/checkpoint-30'
  EVAL_CROSS_IMAGE: True
  EVAL_IMG_KEYS_FILE: test_img_keys_1k.tsv
"""
VINVL_INFERENCE = """
INPUT: {NUM_CAPTIONS_PER_IMAGE_TRN: 5, NUM_CAPTIONS_PER_IMAGE_DEV: 5}
DATASET:
  NAME: 'COCO'
  DATA_DIR: 'data/coco_ir_paddle/'
  FEAT_FILE: 'data/model_0060000/features.tsv'
  TRAIN: 'train'
  DEV: 'minival'
  TEST: 'test'
OUTPUT: {SAVE_NAME: 'finetune_retrieval', NUM_LABELS: 2}
OPTIMIZATION: {BATCH_SIZE: 32}
EVAL:
  CHECKPOINT_DIR: 'exp/finetune_retrieval_22Y_02M_13D_23H/checkpoint-30'
  EVAL_CROSS_IMAGE: True
  EVAL_IMG_KEYS_FILE: minitest_img_keys_10.tsv
"""


@pytest.mark.parametrize(
    ("text", "task"),
    [(VINVL_TRAIN, "train"), (VINVL_TEST, "eval"), (VINVL_INFERENCE, "eval")],
    ids=["retrieval_train", "retrieval_test", "inference"],
)
def test_vinvl_paddle_files_run_unchanged(write, text, task):
    cfg = load_task_config(write(text), task=task)
    written = {(s, k): value for s, keys in yaml.safe_load(text).items() for k, value in keys.items()}
    untouched = get_cfg_defaults()
    for section in cfg:
        for key in cfg[section]:
            assert cfg[section][key] == written.get((section, key), untouched[section][key])


def test_later_wins_defaults_base_yaml_opts(write):
    write("INPUT: {MAX_REGION: 10, MAX_SEQ_LEN: 10}\nMISC: {SEED: 10, NUM_WORKERS: 1}", "base.yaml")
    path = write("_BASE_: base.yaml\nINPUT: {MAX_SEQ_LEN: 20}\nMISC: {SEED: 20}")
    cfg = load_config(path, ["MISC.SEED", "30"])
    assert (cfg.INPUT.MAX_REGION, cfg.INPUT.MAX_SEQ_LEN, cfg.MISC.SEED, cfg.MISC.NUM_WORKERS) == (10, 20, 30, 1)
    assert cfg.INPUT.IMG_FEATURE_DIM == 2054


def test_bases_chain_relative_to_the_file_that_names_them(write, monkeypatch, tmp_path):
    write("MISC: {SEED: 1, NUM_WORKERS: 1, NUM_THREADS: 1}", "deep/er/root.yaml")
    write("_BASE_: er/root.yaml\nMISC: {NUM_WORKERS: 2, NUM_THREADS: 2}", "deep/middle.yaml")
    path = write("_BASE_: deep/middle.yaml\nMISC: {NUM_THREADS: 3}")
    monkeypatch.chdir(tmp_path.parent)  # not the folder of any of them
    assert dict(load_config(path).MISC) == {"SEED": 1, "NUM_WORKERS": 2, "DEVICE": "auto", "NUM_THREADS": 3}


def test_of_several_bases_the_later_wins_and_shared_ones_are_fine(write):
    write("MISC: {SEED: 1}", "root.yaml")
    write("_BASE_: root.yaml\nMISC: {NUM_WORKERS: 1, NUM_THREADS: 1}", "left.yaml")
    write("_BASE_: root.yaml\nMISC: {NUM_THREADS: 2}", "right.yaml")
    misc = load_config(write("_BASE_: [left.yaml, right.yaml]")).MISC
    assert (misc.SEED, misc.NUM_WORKERS, misc.NUM_THREADS) == (1, 1, 2)


def test_base_may_be_an_absolute_path_or_in_the_home_folder(write, monkeypatch, tmp_path):
    base = write("MISC: {SEED: 5}", "base.yaml")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert load_config(write(f"_BASE_: {base}", "sub/a.yaml")).MISC.SEED == 5
    assert load_config(write("_BASE_: ~/base.yaml", "sub/b.yaml")).MISC.SEED == 5


@pytest.mark.parametrize("text", ["", "# nothing but this\n", "---\n", "null", "INPUT:\nMISC: {}\n", "\ufeffMISC:\n"])
def test_empty_files_and_sections_leave_the_defaults(write, text):
    cfg, defaults = load_config(write(text, "exp.yaml")), get_cfg_defaults()
    defaults.OUTPUT.SAVE_NAME = "exp"
    assert cfg == defaults


def test_save_name_comes_from_the_file_unless_given(write):
    path = write("", "runs/large.model.yaml")
    assert load_config(path).OUTPUT.SAVE_NAME == "large.model"
    assert load_config(path, ["OUTPUT.SAVE_NAME", "coco/first"]).OUTPUT.SAVE_NAME == "coco/first"


def test_the_result_is_frozen(write):
    cfg = load_config(write(""))
    with pytest.raises(AttributeError):
        cfg.MISC.SEED = 1


def test_a_merged_mapping_gives_way_to_own_keys(write):
    cfg = load_config(write("INPUT: {<<: {MAX_SEQ_LEN: 30, MAX_REGION: 20}, MAX_REGION: 25}"))
    assert (cfg.INPUT.MAX_SEQ_LEN, cfg.INPUT.MAX_REGION) == (30, 25)


@pytest.mark.parametrize(
    ("key", "written", "value"),
    [
        ("OPTIMIZATION.LR", "2e-5", 2e-5),  # text in YAML 1.1: no dot
        ("OPTIMIZATION.LR", "2.0e-5", 2e-5),
        ("OPTIMIZATION.LR", "'1e-5'", 1e-5),
        ("OPTIMIZATION.CLIP_MAX_NORM", "1", 1.0),
        ("OPTIMIZATION.EPOCHS", "'30'", 30),  # yacs evaluates quoted values
        ("OPTIMIZATION.ATTENTION_DROPOUT", "-1", -1.0),
        ("INPUT.ADD_OD_LABEL", "no", False),
        ("INPUT.ADD_OD_LABEL", "'False'", False),
        ("OUTPUT.SAVE_NAME", "'2024'", "2024"),
        ("DATASET.DATA_DIR", "数据/coco ir", "数据/coco ir"),
    ],
)
def test_values_become_the_type_of_their_key(write, key, written, value):
    section, name = key.split(".")
    from_file = value_of(load_config(write(f"{section}:\n  {name}: {written}\n")), key)
    from_opts = value_of(load_config(write(""), [key, written.strip("'")]), key)
    assert (from_file, type(from_file)) == (from_opts, type(from_opts)) == (value, type(value))


def test_opts_take_values_paths_and_repeated_keys(write, tmp_path):
    opts = ("OPTIMIZATION.LR", 1, "DATASET.DATA_DIR", tmp_path, "MISC.SEED", "1", "MISC.SEED", "2")
    cfg = load_config(write(""), opts)
    lr = cfg.OPTIMIZATION.LR
    assert (lr, type(lr), cfg.DATASET.DATA_DIR, cfg.MISC.SEED) == (1.0, float, str(tmp_path), 2)


# ---- dumping


def allowed_values(key):
    """A hypothesis strategy for values of one key."""
    if key.rule and key.rule.options:
        return st.sampled_from(key.rule.options)
    kinds = {bool: st.booleans(), int: st.integers(0, 2**31), str: st.text(), float: st.floats(0, 1e300)}
    return kinds[type(key.default)].filter(lambda value: not key.problem(value))


CHANGES = st.sets(st.sampled_from(sorted(KEYS)), max_size=8).flatmap(
    lambda keys: st.fixed_dictionaries({key: allowed_values(KEYS[key]) for key in sorted(keys)})
)


@settings(max_examples=80)
@given(CHANGES)
@example({"DATASET.CACHE_DIR": "a\x85b\u2028c"})
def test_opts_arrive_and_dumping_then_loading_changes_nothing(changes):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "exp.yaml")
        open(path, "w").close()
        try:
            cfg = load_config(path, [word for key, value in changes.items() for word in (key, str(value))])
        except ConfigError as error:
            assert ": " in str(error) and " is " in str(error)  # only contradictions: each value alone is allowed
            return
        for key, value in changes.items():
            expected = "exp" if key == "OUTPUT.SAVE_NAME" and value == "" else value
            assert (value_of(cfg, key), type(value_of(cfg, key))) == (expected, type(expected))
        dumped = os.path.join(folder, "run", "config.yaml")
        dump_config(cfg, dumped)
        assert load_config(dumped) == cfg
        assert os.listdir(os.path.dirname(dumped)) == ["config.yaml"]


def test_dump_keeps_the_order_of_the_documentation(write, tmp_path):
    dump_config(load_config(write("")), tmp_path / "config.yaml")
    lines = (tmp_path / "config.yaml").read_text().split("\n")
    assert [line.rstrip(":") for line in lines if line and line[0] != " "] == list(get_cfg_defaults())


def test_a_dump_that_fails_leaves_the_old_file_and_nothing_else(write, tmp_path, monkeypatch):
    cfg = load_config(write("", "exp.yaml"))
    target = tmp_path / "run" / "config.yaml"
    target.parent.mkdir()
    target.write_text("old")

    def full_disk(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(UserError, match=r"config\.yaml: cannot write.*No space left"):
        dump_config(cfg, target)
    assert target.read_text() == "old"
    assert os.listdir(target.parent) == ["config.yaml"]


def test_a_dump_replaces_the_file_and_never_writes_into_it(write, tmp_path):
    target, reader = tmp_path / "config.yaml", tmp_path / "opened_earlier.yaml"
    target.write_text("old")
    os.link(target, reader)  # whoever reads the old file meanwhile
    dump_config(load_config(write("")), target)
    assert (target.read_text()[:6], reader.read_text()) == ("INPUT:", "old")


def test_dump_into_something_that_is_no_folder(write, tmp_path):
    with pytest.raises(UserError, match=r"exp\.yaml.config\.yaml: cannot write"):
        dump_config(load_config(write("", "exp.yaml")), tmp_path / "exp.yaml" / "config.yaml")
