"""The shared command line, through real processes: exit codes, one line on stderr, nothing heavy imported."""

import os
import signal
import subprocess
import sys
from types import SimpleNamespace

import pytest

from oscar_paddle.config.default import get_cfg_defaults
from oscar_paddle.config.errors import ConfigError
from oscar_paddle.tools import doors, inference_retrieval, score_pairs
from oscar_paddle.tools.command_line import load_task_config

TOOL = '''
import atexit, sys, time
from oscar_paddle.tools.command_line import run_tool
from oscar_paddle.config.errors import ConfigError, DataError

def main(cfg, args):
    if args.last_words:
        atexit.register(print, "torn down")
    if args.fail == "data":
        raise DataError("captions.pt: row 3: expected a list,\\nfound 7")
    if args.fail == "config":
        raise ConfigError("INPUT.MAX_SEQ_LEN: 600 positions, the model has 512")
    if args.fail == "bug":
        raise RuntimeError("first\\n  second")
    if args.fail == "paddle":
        raise RuntimeError("C++ Traceback\\n0 a()\\n---\\nError Message Summary:\\n---\\nInvalidArgumentError: shapes.")
    if args.fail == "wait":
        print("ready", flush=True)
        time.sleep(30)
    print(cfg.MISC.SEED, cfg.INPUT.MAX_REGION, args.output_dir, "paddle" in sys.modules or "numpy" in sys.modules)
    return "ignored"

def extra(parser):
    parser.add_argument("--fail", default="")
    parser.add_argument("--last_words", action="store_true")
    parser.add_argument("--output_dir", default="out")

EXAMPLE = """
    python tools/nothing.py --cfg_file configs/a.yaml
    python -m paddle.distributed.launch tools/nothing.py --cfg_file configs/a.yaml"""
sys.exit(run_tool("Does nothing.", main, {task!r}, EXAMPLE, extra))
'''


@pytest.fixture
def tool(write, tmp_path):
    """Starts the tool above in its own folder: tool("--cfg_file", ...) -> finished process."""

    def run(*words, task=None, env=None, start=subprocess.run, **more):
        write(TOOL.replace("{task!r}", repr(task)), "tool.py")
        write("MISC: {SEED: 7}\n", "exp.yaml")
        clean = {key: value for key, value in os.environ.items() if not key.startswith("PADDLE_")}
        command = [sys.executable, "tool.py", *words]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        return start(command, cwd=tmp_path, env={**clean, **(env or {})}, **pipes, **more)

    return run


def fails(done, code, line):
    """One line on stderr, nothing on stdout, this code."""
    assert (done.returncode, done.stdout, done.stderr) == (code, "", line + "\n")


def test_success(tool):
    opts = ["--opts", "INPUT.MAX_REGION", "9", "PRETRAINED.USE_IMG_LAYERNORM", "-1"]
    done = tool("--cfg_file", "exp.yaml", *opts, "--output_dir", "here")
    assert (done.returncode, done.stdout, done.stderr) == (0, "7 9 here False\n", "")


def test_opts_may_be_given_twice(tool):
    done = tool("--opts", "MISC.SEED", "8", "--cfg_file", "exp.yaml", "--opts", "INPUT.MAX_REGION", "4")
    assert done.stdout == "8 4 out False\n"


def test_help_shows_a_whole_command(tool):
    done = tool("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "\n  python tools/nothing.py --cfg_file configs/a.yaml\n  python -m paddle" in done.stdout
    assert "--output_dir" in done.stdout


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("", "the following arguments are required: --cfg_file (--help shows a working command)"),
        ("--cfg_file exp.yaml --lr 3", "unrecognized arguments: --lr 3 (--help shows a working command)"),
        ("--cfg exp.yaml", "the following arguments are required: --cfg_file (--help shows a working command)"),
        ("--cfg_file no.yaml", "no.yaml: no such file"),
        ("--cfg_file exp.yaml --opts MISC.SEED x", "--opts: MISC.SEED: expected int, found str 'x'"),
        ("--cfg_file exp.yaml --fail config", "INPUT.MAX_SEQ_LEN: 600 positions, the model has 512"),
    ],
)
def test_bad_arguments_and_bad_configuration(tool, words, line):
    fails(tool(*words.split()), 2, f"error: {line}")


@pytest.mark.parametrize(("task", "files"), [("eval", "caption"), ("train_vqa", "question")])
def test_the_task_decides_what_must_be_set(tool, task, files):
    done = tool("--cfg_file", "exp.yaml", task=task)
    line = f"exp.yaml: DATASET.DATA_DIR is '' (default): set it to the folder with the {files} files"
    fails(done, 2, f"error: {line}")


def refusal(path, task, opts):
    """What is said against these settings where all else is as the question tasks need it; '' when nothing is."""
    folders = "DATASET.DATA_DIR d PRETRAINED.DIR p EVAL.CHECKPOINT_DIR c "
    ready = folders + "DATASET.DEV val DATASET.TEST val OPTIMIZATION.LOSS_TYPE xe "
    try:
        load_task_config(path, (ready + opts).split(), task)
    except ConfigError as error:
        return str(error)
    return ""


@pytest.mark.parametrize(
    ("actions", "task", "opts"),
    [
        ("train", "vqa", "DATASET.TRAIN minival"),
        ("train", "gqa", "DATASET.TRAIN train+val"),
        ("train", "gqa", "OPTIMIZATION.LOSS_TYPE kl"),
        ("train", "nlvr2", "OPTIMIZATION.LOSS_TYPE bce"),
        ("train", "nlvr2", "DATASET.DEV test1"),
        ("eval", "vqa", "DATASET.TEST test1"),
        ("eval", "gqa", "DATASET.TEST test2015"),
        ("eval", "nlvr2", "DATASET.TEST test-dev"),
        ("train eval", "vqa", "DATASET.DATA_LABEL_TYPE bal"),
        ("train eval", "gqa", "DATASET.EVAL_DATA_TYPE unbal"),
        ("train eval", "nlvr2", "OUTPUT.NUM_LABELS 1"),
        ("train eval", "vqa", "INPUT.ATT_MASK_TYPE CL"),
        ("train eval", "gqa", "INPUT.ATT_MASK_TYPE CR"),
        ("train eval", "nlvr2", "INPUT.ATT_MASK_TYPE LR"),
        ("", "nlvr2", "OPTIMIZATION.LOSS_TYPE kl"),
        ("", "gqa", "DATASET.DEV minival MONITOR.EVAL_FREQ 0"),  # never read
    ],
)
def test_a_task_refuses_what_the_tool_at_hand_would_read(write, actions, task, opts):
    path = write("")
    refused = {action: refusal(path, f"{action}_{task}", opts) for action in ("train", "eval")}
    assert " ".join(action for action in refused if refused[action]) == actions
    for message in filter(None, refused.values()):
        key, value = opts.split()
        assert message.startswith(f"{path}: {key} is {value if value.isdigit() else repr(value)} (--opts): ")
        assert f": {task} has " in message or "set 'CLR'" in message


def test_the_remedy_lists_what_a_task_has(write):
    path = write("")
    expected = f"{path}: DATASET.TRAIN is 'minival' (--opts): vqa has 'train', 'train+val'"
    assert refusal(path, "train_vqa", "DATASET.TRAIN minival") == expected


@pytest.mark.parametrize("task", ["trian", "trian_vqa", "train_vqaa"])
def test_an_unknown_task_is_a_programming_error(write, task):
    with pytest.raises((ValueError, ModuleNotFoundError), match="trian|vqaa"):
        load_task_config(write(""), task=task)


def test_failures_at_run_time(tool):
    run = ["--cfg_file", "exp.yaml", "--fail"]
    fails(tool(*run, "data"), 1, "error: captions.pt: row 3: expected a list, found 7")
    again = "(run again with --debug for the traceback)"
    fails(tool(*run, "bug"), 1, f"error: unexpected RuntimeError: first second {again}")
    fails(tool(*run, "paddle"), 1, f"error: unexpected RuntimeError: InvalidArgumentError: shapes. {again}")


def test_debug_shows_the_traceback_and_keeps_the_code(tool):
    done = tool("--cfg_file", "exp.yaml", "--debug", "--fail", "data")
    assert done.returncode == 1
    assert done.stderr.startswith("Traceback (most recent call last):")
    assert done.stderr.endswith("\nerror: captions.pt: row 3: expected a list, found 7\n")


def test_the_failing_rank_names_itself(tool):
    second = {"PADDLE_TRAINERS_NUM": "4", "PADDLE_TRAINER_ID": "2"}
    run = ["--cfg_file", "exp.yaml", "--fail", "data"]
    fails(tool(*run, env=second), 1, "error: rank 2: captions.pt: row 3: expected a list, found 7")
    assert tool(env=second).stderr.startswith("error: rank 2: the following arguments")
    assert tool(*run, "--last_words", env=second).stdout == ""  # at once: communicators would wait for other ranks
    assert tool(*run, "--last_words").stdout == "torn down\n"
    alone = {"PADDLE_TRAINERS_NUM": "1", "PADDLE_TRAINER_ID": "0"}
    assert tool(*run, env=alone).stderr.startswith("error: captions.pt")


def test_ctrl_c(tool):
    # Below a script's "&" Ctrl-C is ignored, and so by what starts there; the tool itself must heed it.
    heeds = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)}
    running = tool("--cfg_file", "exp.yaml", "--fail", "wait", start=subprocess.Popen, **heeds)
    assert running.stdout.readline() == "ready\n"
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=20)
    assert (running.returncode, err) == (130, "interrupted\n")


def test_what_scores_computes_exact_float32(monkeypatch, tmp_path):
    """Training leaves TF32 as the card has it, see `solvers.machine.prepare`."""
    asked = []

    def prepare(num_threads=0, *, exact=False):
        asked.append(exact)
        raise ConfigError("enough")

    for module in (doors, score_pairs, inference_retrieval):
        monkeypatch.setattr(module, "prepare", prepare)
    monkeypatch.setattr(doors, "run_tool", lambda description, main, **_: main(get_cfg_defaults(), None))
    for door in (
        lambda: doors.eval_door("", "retrieval", ()),
        lambda: score_pairs.main(SimpleNamespace(max_seq_len=None, max_region=None)),
        lambda: inference_retrieval.main(
            get_cfg_defaults(), SimpleNamespace(query_txt="a", query_img="", top=1, images="")
        ),
        lambda: doors.train_door("", "retrieval"),
    ):
        with pytest.raises(ConfigError, match="enough"):
            door()
    assert asked == [True, True, True, False]
