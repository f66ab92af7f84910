"""Bad configurations: each ends in one line that names the key, the file or `--opts`, and the remedy."""

import os
import re
import tempfile

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from oscar_paddle.config.errors import ConfigError
from oscar_paddle.tools.shell.command_line import load_task_config

TRAIN_READY = ["DATASET.DATA_DIR", "d", "PRETRAINED.DIR", "p", "EVAL.EVAL_CAPTION_INDEX_FILE", "top20.pt"]
EVAL_READY = ["DATASET.DATA_DIR", "d", "EVAL.CHECKPOINT_DIR", "c", "EVAL.EVAL_CROSS_IMAGE", "True"]


def error_of(path, opts=(), task=None):
    with pytest.raises(ConfigError) as caught:
        load_task_config(path, opts, task)
    line = str(caught.value)
    assert "\n" not in line
    assert caught.value.exit_code == 2
    return line


# ---- unknown keys


@pytest.mark.parametrize(
    ("text", "line", "wrong", "nearest"),
    [
        ("INPUT:\n  MAX_REGIONS: 3", 2, "INPUT.MAX_REGIONS", "INPUT.MAX_REGION"),
        ("MISC:\n  SEED: 1\n\nOPTIMIZATION:\n  LEARNING_RATE_SCHEDULER: linear", 5, None, "OPTIMIZATION.LR_SCHEDULER"),
        ("INPUT:\n  BATCH_SIZE: 3", 2, "INPUT.BATCH_SIZE", "OPTIMIZATION.BATCH_SIZE"),  # right key, wrong section
        ("LR: 1.0e-4", 1, "LR", "OPTIMIZATION.LR"),  # no section
        ("OPTIM:\n  BATCHSIZE: 4", 2, "OPTIM.BATCHSIZE", "OPTIMIZATION.BATCH_SIZE"),
        ("optimization:\n  lr: 4", 2, "optimization.lr", "OPTIMIZATION.LR"),
        ("EVALL: {}", 1, "EVALL", None),
        ("EVALL:", 1, "EVALL", None),
        ("INPUT:\n  3: 4", 2, "INPUT.3", None),
        ("INPUT:\n  MAX.REGION: 4", 2, "INPUT.MAX.REGION", "INPUT.MAX_REGION"),
    ],
)
def test_unknown_key_in_a_file(write, text, line, wrong, nearest):
    path = write(text)
    message = error_of(path)
    assert message.startswith(f"{path}:{line}: unknown key {wrong or ''}")
    assert message.endswith(f"the nearest known key is {nearest or message.rsplit(' ', 1)[1]}")


def test_unknown_key_in_opts_and_in_a_base(write):
    path = write("")
    expected = "--opts: unknown key OPTIMIZATION.LRR; the nearest known key is OPTIMIZATION.LR"
    assert error_of(path, ["OPTIMIZATION.LRR", "1"]) == expected
    base = write("MISC: {SED: 1}", "base.yaml")
    assert error_of(write("_BASE_: base.yaml")).startswith(f"{base}:1: unknown key MISC.SED; ")


def test_sections_are_not_keys(write):
    path = write("MISC:\n  SEED: 1\nINPUT: 5\n")
    assert error_of(path) == f"{path}:3: INPUT is a section of keys like INPUT.BERT_MODEL, found int 5"
    assert "INPUT is a section" in error_of(write("INPUT: [1, 2]"))
    assert error_of(write(""), ["INPUT", "x"]).startswith("--opts: INPUT is a section")
    assert "write 'MISC:' and 'SEED:' below it" in error_of(write("MISC.SEED: 1"))


# ---- wrong types and values


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ("OPTIMIZATION: {LR: fast}", "OPTIMIZATION.LR: expected float, found str 'fast'"),
        ("OPTIMIZATION: {LR: True}", "OPTIMIZATION.LR: expected float, found bool True"),
        ("OPTIMIZATION: {LR: null}", "OPTIMIZATION.LR: expected float, found nothing"),
        ("OPTIMIZATION: {EPOCHS: 3.0}", "OPTIMIZATION.EPOCHS: expected int, found float 3.0"),
        ("OPTIMIZATION: {EPOCHS: 1e3}", "OPTIMIZATION.EPOCHS: expected int, found str '1e3'"),
        ("OPTIMIZATION: {EPOCHS: True}", "OPTIMIZATION.EPOCHS: expected int, found bool True"),
        ("OPTIMIZATION: {EPOCHS: [1, 2]}", "OPTIMIZATION.EPOCHS: expected int, found a list [1, 2]"),
        ("OPTIMIZATION: {EPOCHS: {A: 2}}", "OPTIMIZATION.EPOCHS: expected int, found a mapping {A: 2}"),
        ("OPTIMIZATION: {EPOCHS: !!int no}", "OPTIMIZATION.EPOCHS: expected int, found a value !!int no"),
        ("MISC: {SEED: 0x" + "f" * 5000 + "}", "MISC.SEED: expected int, found a value 0x" + "f" * 78 + "..."),
        ("INPUT: {ADD_OD_LABEL: 1}", "INPUT.ADD_OD_LABEL: expected bool, found int 1"),
        ("INPUT: {ADD_OD_LABEL: maybe}", "INPUT.ADD_OD_LABEL: expected bool, found str 'maybe'"),
        ("OUTPUT: {SAVE_NAME: 2024}", "expected str, found int 2024; put it in quotes to make it text"),
        ("OUTPUT: {SAVE_NAME: 2024-05-06}", "expected str, found date 2024-05-06; put it in quotes to make it text"),
        ("DATASET: {DATA_DIR: }", "DATASET.DATA_DIR: expected str, found nothing; write '' for an empty text"),
        ("DATASET: {DATA_DIR: [a]}", "DATASET.DATA_DIR: expected str, found a list [a]"),
    ],
)
def test_wrong_type(write, setting, message):
    path = write(setting)
    assert error_of(path).startswith(f"{path}:1: ")
    assert error_of(path).endswith(message)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("INPUT.ATT_MASK_TYPE", "clr", "found 'clr'; allowed: 'CLR', 'CL', 'CR', 'LR'"),
        ("OUTPUT.NUM_LABELS", "3", "found 3; allowed: 1, 2"),
        ("OPTIMIZATION.LOSS_TYPE", "xent", "found 'xent'; allowed: 'sfmx', 'xe', 'kl', 'bce'"),
        ("OPTIMIZATION.LR", "0", "found 0.0; must be greater than 0"),
        ("OPTIMIZATION.LR", "nan", "found nan; must be a finite number"),
        ("OPTIMIZATION.WEIGHT_DECAY", "inf", "found inf; must be a finite number"),
        ("OPTIMIZATION.WEIGHT_DECAY", "-0.1", "found -0.1; must be at least 0"),
        ("OPTIMIZATION.BATCH_SIZE", "0", "found 0; must be at least 1"),
        ("OPTIMIZATION.WARMUP_STEPS", "-1", "found -1; must be at least 0"),
        ("OPTIMIZATION.DROPOUT", "1", "found 1.0; must be in [0, 1)"),
        ("OPTIMIZATION.ATTENTION_DROPOUT", "1.5", "found 1.5; must be in [0, 1), or negative"),
        ("OPTIMIZATION.CLIP_MAX_NORM", "-1", "found -1.0; must be at least 0"),
        ("INPUT.MAX_SEQ_LEN", "2", "found 2; must be at least 3"),
        ("INPUT.IMG_FEATURE_TYPE", "dis_code_t", "found 'dis_code_t'; must be the name of a kind of region vectors"),
        ("MISC.SEED", "4294967296", "found 4294967296; must be in 0 .. 4294967295"),
        ("OUTPUT.SAVE_NAME", "../other", "found '../other'; must be a name inside OUTPUT.CHECKPOINT_DIR"),
        ("OUTPUT.SAVE_NAME", "/tmp/other", "found '/tmp/other'; must be a name inside OUTPUT.CHECKPOINT_DIR"),
        ("DATASET.TRAIN", "", "found ''; must be the name of a split"),
    ],
)
def test_value_out_of_range(write, key, value, message):
    assert error_of(write(""), [key, value]).startswith(f"--opts: {key}: {message}")


def test_a_wrong_value_is_refused_even_where_it_is_overridden(write):
    path = write("MISC: {SEED: -3}")
    assert error_of(path, ["MISC.SEED", "3"]).startswith(f"{path}:1: MISC.SEED: found -3")


# ---- files


def test_files_that_cannot_be_read(write, tmp_path):
    assert error_of(tmp_path / "no.yaml") == f"{tmp_path}/no.yaml: no such file"
    path = write("MISC: {SEED: 1}\n_BASE_: no.yaml\n")
    assert error_of(path) == f"{tmp_path}/no.yaml: no such file (_BASE_ of {path})"
    assert "cannot be read: Is a directory" in error_of(tmp_path)
    (tmp_path / "latin.yaml").write_bytes(b"DATASET: {NAME: caf\xe9}")
    assert re.search(r"latin\.yaml: not UTF-8 text: .* at byte 19$", error_of(tmp_path / "latin.yaml"))
    assert "cannot be read: embedded null byte" in error_of(write('_BASE_: "a\\0b"'))


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        ("INPUT:\n  MAX_REGION: 3\n MAX_SEQ_LEN: 4\n", 3, "not YAML: "),
        ("INPUT:\n\tMAX_REGION: 3\n", 2, "not YAML: "),
        ("INPUT: {\n\n", 3, "not YAML: "),
        ("INPUT:\n  BERT_MODEL: a\0b", 2, "not YAML: character '\\x00' is not allowed"),
        ("MISC: {}\n---\nMISC: {}\n", 2, "not YAML: "),
        ("MISC: {<<: 3}", 1, "not YAML: "),
        ("- INPUT\n- MISC\n", 1, "expected sections of keys (INPUT: ...), found a list - INPUT - MISC"),
        ("just words", 1, "expected sections of keys (INPUT: ...), found a value just words"),
        ("? [1, 2]\n: 3", 1, "expected the name of a key, found a list [1, 2]"),
        ("\n_BASE_: [a.yaml, 3]", 2, "_BASE_: expected a path or a list of paths, found a list [a.yaml, 3]"),
        ("_BASE_:", 1, "_BASE_: expected a path or a list of paths, found a value"),
    ],
)
def test_files_that_are_no_configuration(write, text, line, message):
    path = write(text)
    assert error_of(path).startswith(f"{path}:{line}: {message}")


def test_brackets_without_end(write):
    assert error_of(write("[" * 5000)).endswith("brackets nested too deeply")


def test_repeated_keys_are_refused(write):
    path = write("MISC:\n  SEED: 1\n  NUM_WORKERS: 2\n  SEED: 1\n")
    assert error_of(path) == f"{path}:4: SEED is given twice, the first time in line 2"
    path = write("MISC:\n  SEED: 1\nINPUT:\nMISC:\n  NUM_WORKERS: 2\n")
    assert error_of(path) == f"{path}:4: MISC is given twice, the first time in line 1"


def test_bases_that_go_round(write, tmp_path):
    first, second = write("_BASE_: sub/b.yaml", "a.yaml"), write("_BASE_: ../a.yaml", "sub/b.yaml")
    again = f"{tmp_path}/sub/../a.yaml"
    assert error_of(first) == f"{second}: _BASE_ goes round in a circle: {first} -> {second} -> {again}"
    own = write("_BASE_: own.yaml", "own.yaml")
    assert error_of(own) == f"{own}: _BASE_ goes round in a circle: {own} -> {own}"


def test_opts_that_are_no_pairs(write):
    message = "--opts: MISC.NUM_WORKERS has no value: expected pairs KEY VALUE KEY VALUE ..."
    assert error_of(write(""), ["MISC.SEED", "1", "MISC.NUM_WORKERS"]) == message
    message = "--opts: MISC.SEED=1: put a blank between key and value, KEY VALUE"
    assert error_of(write(""), ["MISC.SEED=1"]) == message


# ---- settings that contradict each other


@pytest.mark.parametrize(
    ("opts", "words"),
    [
        ("EVAL.EVAL_CROSS_IMAGE True EVAL.EVAL_CAPTION_INDEX_FILE top20.pt", "EVAL.EVAL_CROSS_IMAGE is True"),
        ("OUTPUT.NUM_LABELS 1 OPTIMIZATION.LOSS_TYPE kl", "OPTIMIZATION.LOSS_TYPE is 'kl'"),
        ("OUTPUT.NUM_LABELS 1 OPTIMIZATION.LOSS_TYPE bce", "always trained by squared error"),
        ("OPTIMIZATION.WARMUP_STEPS 100 OPTIMIZATION.MAX_STEPS 100", "OPTIMIZATION.WARMUP_STEPS is 100"),
        ("OPTIMIZATION.EARLY_STOP_PATIENCE 2 MONITOR.EVAL_FREQ 0", "set EVAL_FREQ or EVAL_STEPS above 0"),
        ("OPTIMIZATION.AMP fp16 MISC.DEVICE cpu", "on the CPU set AMP to 'off'"),
        ("OPTIMIZATION.AMP bf16 MISC.DEVICE cpu", "on the CPU set AMP to 'off'"),
        ("EVAL.PRECISION float16 MISC.DEVICE cpu", "set PRECISION to 'float32' or 'bfloat16'"),
        ("PRETRAINED.SCRATCH_WEIGHTS alike", "set FROM_SCRATCH True, or SCRATCH_WEIGHTS 'plain'"),
        ("EVAL.FOLDS 5", "set EVAL_CROSS_IMAGE True, or FOLDS 1"),
        ("EVAL.BATCH_TOKENS 139", "one pair can fill 140 positions"),
    ],
)
def test_contradictions(write, opts, words):
    path = write("")
    message = error_of(path, opts.split())
    assert message.startswith(f"{path}: ")
    assert words in message
    assert error_of(path, [*TRAIN_READY, *opts.split()], "train") == message  # whatever it is used for


@pytest.mark.parametrize(
    "opts",
    [
        "OUTPUT.NUM_LABELS 1",
        "OUTPUT.NUM_LABELS 2 OPTIMIZATION.LOSS_TYPE kl",
        "OPTIMIZATION.WARMUP_STEPS 100",  # MAX_STEPS 0: EPOCHS decides
        "OPTIMIZATION.WARMUP_STEPS 99 OPTIMIZATION.MAX_STEPS 100",
        "OPTIMIZATION.EARLY_STOP_PATIENCE 2 MONITOR.EVAL_FREQ 0 MONITOR.EVAL_STEPS 10",
        "OPTIMIZATION.AMP bf16 MISC.DEVICE gpu",
        "OPTIMIZATION.AMP fp16 MISC.DEVICE gpu",
        "EVAL.BATCH_TOKENS 140",
        "PRETRAINED.RESUME auto PRETRAINED.FROM_SCRATCH True",
        "PRETRAINED.FROM_SCRATCH True PRETRAINED.SCRATCH_WEIGHTS alike",
        "MONITOR.EVAL_FREQ 0 EVAL.EVAL_CAPTION_INDEX_FILE ''",
    ],
)
def test_combinations_that_are_fine(write, opts):
    words = [word.strip("'") for word in opts.split()]
    load_task_config(write(""), [*TRAIN_READY, *words], "train")


def test_where_both_sides_of_a_contradiction_come_from(write):
    path = write("\nEVAL:\n  EVAL_CROSS_IMAGE: True\n")
    message = error_of(path, ["EVAL.EVAL_CAPTION_INDEX_FILE", "x.pt"])
    expected = f"{path}: EVAL.EVAL_CROSS_IMAGE is True ({path}:3), EVAL.EVAL_CAPTION_INDEX_FILE is 'x.pt' (--opts): "
    assert message.startswith(expected)


@pytest.mark.parametrize("key", ["DATASET.DATA_DIR", "PRETRAINED.DIR"])
def test_what_training_needs(write, key):
    path = write("")
    assert error_of(path, [*TRAIN_READY, key, ""], "train").startswith(f"{path}: {key} is '' (--opts): set it to the ")
    load_task_config(path, [key, ""])  # no task, no need


@pytest.mark.parametrize("key", ["DATASET.DATA_DIR", "EVAL.CHECKPOINT_DIR"])
def test_what_evaluation_needs(write, key):
    path = write("")
    assert error_of(path, [*EVAL_READY, key, ""], "eval").startswith(f"{path}: {key} is '' (--opts): set it to the ")


def test_an_evaluation_without_a_mode_is_refused(write):
    """The reference reshapes such scores into one giant row (docs/reference.md, retrieval metrics)."""
    path = write("")
    message = error_of(path, [*EVAL_READY, "EVAL.EVAL_CROSS_IMAGE", "False"], "eval")
    assert "EVAL.EVAL_CROSS_IMAGE is False (--opts), EVAL.EVAL_CAPTION_INDEX_FILE is '' (default)" in message
    while_training = [*TRAIN_READY, "EVAL.EVAL_CAPTION_INDEX_FILE", ""]
    assert "set MONITOR.EVAL_FREQ and EVAL_STEPS to 0" in error_of(path, while_training, "train")
    by_steps = [*while_training, "MONITOR.EVAL_FREQ", "0", "MONITOR.EVAL_STEPS", "5"]
    assert "EVAL.EVAL_CROSS_IMAGE" in error_of(path, by_steps, "train")


# ---- whatever else a file may hold

YAML_PIECES = st.sampled_from(
    ["INPUT", "MISC", "SEED", "MAX_REGION", "LR", "_BASE_", ": ", ":\n  ", "\n", "\n  ", "- ", "[", "]", "{", "}", ", "]
    + ["1", "-3.5", "1e-5", "'x'", '"', "'", "&a ", "*a", "<<", "!!int ", "!!set ", "!x ", "? ", "| ", "> ", "#", "---"]
    + ["2024-13-45", "1:30", "0x1F", "=", "null", "~", "\t", "é", "\x07", "exp.yaml", "."]
)


@settings(max_examples=250)
@given(st.one_of(st.lists(YAML_PIECES, max_size=14).map("".join), st.text(max_size=30)))
@example("MISC: {SEED: !!timestamp x}")
@example("INPUT: &a\n  <<: *a\n")
@example("INPUT: {MAX_REGION: " + "[" * 250 + "]" * 250 + "}")
@example("MISC: {SEED: !!bool x}")
@example("MISC: {SEED: " + "9" * 5000 + "}")
@example("A: &x {<<: &b {K: 1}}\nB: *x")
def test_any_text_loads_or_fails_in_one_line(text):
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "exp.yaml")
        with open(path, "w", encoding="utf-8", newline="") as file:
            file.write(text)
        try:
            assert load_task_config(path).is_frozen()
        except ConfigError as error:
            assert len(str(error).splitlines()) == 1
            assert folder in str(error)
