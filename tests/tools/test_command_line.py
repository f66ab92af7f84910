"""The shared command line, through real processes: exit codes, one line on stderr, nothing heavy imported."""

import os
import signal
import subprocess
import sys
import time
from types import SimpleNamespace
from unittest import mock

import pytest
from starting import in_process

from oscar_paddle.config.default import get_cfg_defaults
from oscar_paddle.config.errors import ConfigError
from oscar_paddle.tools import inference_retrieval, score_pairs
from oscar_paddle.tools.shell import command_line, doors
from oscar_paddle.tools.shell.command_line import REPOSITORY, STARTS_AGAIN, load_task_config

TOOL = '''
import atexit, sys, time
from oscar_paddle.tools.shell.command_line import run_tool
from oscar_paddle.config.errors import ConfigError, DataError

def main(cfg, args):
    if args.last_words:
        atexit.register(print, "torn down")
    if args.fail == "data":
        raise DataError("captions.pt: row 3: expected a list,\\nfound 7")
    if args.missing:
        raise DataError(args.missing + ": no such file")
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
    parser.add_argument("--missing")
    parser.add_argument("--place", metavar="DIR")
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
        kept = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "cwd": tmp_path}
        kept["env"] = {**clean, **(env or {})}
        return start([sys.executable, tmp_path / "tool.py", *words], **{**kept, **more})

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
        ("--cfg_file exp.yaml 3", "unrecognized arguments: 3 (--help shows a working command)"),
        ("--cfg-file no.yaml", "no.yaml: no such file; looked for in {folder}"),
        ("--cfg_file exp.yaml --opts MISC.SEED x", "--opts: MISC.SEED: expected int, found str 'x'"),
        ("--cfg_file exp.yaml --fail config", "INPUT.MAX_SEQ_LEN: 600 positions, the model has 512"),
    ],
)
def test_bad_arguments_and_bad_configuration(tool, tmp_path, words, line):
    fails(tool(*words.split()), 2, f"error: {line.format(folder=tmp_path)}")


@pytest.mark.parametrize(
    ("words", "typed", "meant"),
    [
        ("--cfg exp.yaml", "unknown option --cfg", "--cfg_file"),
        ("-cfg_file exp.yaml", "unknown option -cfg_file", "--cfg_file"),
        ("--config=exp.yaml", "unknown option --config", ""),
        ("--cfg_file exp.yaml --output-dri out", "unknown option --output-dri", "--output_dir"),
        ("--cfg_file exp.yaml --lr 3", "unknown option --lr", "--opts OPTIMIZATION.LR VALUE"),
        ("--cfg_file exp.yaml --MISC.SEED=3", "unknown option --MISC.SEED", "--opts MISC.SEED VALUE"),
        ("--cfg_file exp.yaml --batch-size 3", "unknown option --batch-size", "--opts OPTIMIZATION.BATCH_SIZE VALUE"),
        ("--cfg_file exp.yaml MISC.SEED 3", "unrecognized arguments: MISC.SEED 3", "--opts MISC.SEED VALUE"),
    ],
)
def test_an_unknown_option_is_named_with_what_may_be_meant(tool, words, typed, meant):
    meant = f"; did you mean {meant}?" if meant else ""
    fails(tool(*words.split()), 2, f"error: {typed}{meant} (--help shows a working command)")


def test_dashes_and_underscores_are_one(tool):
    for name in ("--output_dir", "--output-dir"):
        assert tool("--cfg-file", "exp.yaml", name, "here").stdout == "7 70 here False\n"
    assert tool("--cfg-file=exp.yaml", "--output-dir=-a-b").stdout == "7 70 -a-b False\n"
    wrong = tool("--cfg_file", "exp.yaml", "--opts", "optimization.batch-size", "3")
    nearest = "unknown key optimization.batch-size; the nearest known key is OPTIMIZATION.BATCH_SIZE"
    fails(wrong, 2, f"error: --opts: {nearest}")


def test_files_and_folders_are_told_apart(tool, tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("")
    wanted = "--cfg_file folder: is a folder; expected a file"
    fails(tool("--cfg_file", "folder"), 2, f"error: {wanted} (--help shows a working command)")
    done = tool("--cfg_file", "folder", "--place", "file")
    both = f"{wanted}, and --place file: is a file; expected a folder: are they exchanged?"
    fails(done, 2, f"error: {both} (--help shows a working command)")


@pytest.mark.parametrize(
    ("task", "opts", "path", "keys", "part"),
    [
        ("eval", "", "data/x.pt", "DATASET.DATA_DIR says so", "captions"),
        ("eval_gqa", "", "data/x", "DATASET.DATA_DIR says so", "gqa"),
        ("train_vqa", "DATASET.DEV val PRETRAINED.DIR p/b", "p/b", "PRETRAINED.DIR says so", "task-weights"),
        (
            "train_vqa",
            "DATASET.DEV val PRETRAINED.DIR pretrained/base-vg-labels/ep_1",
            "pretrained/base-vg-labels/ep_1",
            "PRETRAINED.DIR says so",
            "weights",
        ),
        (
            "train_vqa",
            "DATASET.DEV val DATASET.LABEL_FILE data/vqa/cache/l.pkl",
            "data/vqa/cache/l.pkl",
            "DATASET.LABEL_FILE says so",
            "oscar-vqa",
        ),
        ("train", "DATASET.FEAT_FILE data/oscar_features", "data/oscar_features", "DATASET.FEAT_FILE says so", "oscar"),
        ("eval", "DATASET.FEAT_FILE f/b", "f/b", "DATASET.FEAT_FILE says so", "vinvl"),
        ("train", "PRETRAINED.DIR p/b MONITOR.EVAL_FREQ 0", "p/b", "PRETRAINED.DIR says so", "weights"),
        (
            "eval",
            "EVAL.EVAL_IMG_KEYS_FILE data/keys.tsv",
            "data/data/keys.tsv",
            "EVAL.EVAL_IMG_KEYS_FILE is the name of a file in DATASET.DATA_DIR",
            "",
        ),
        ("eval", "EVAL.EVAL_IMG_KEYS_FILE keys.tsv", "data/keys.tsv", "EVAL.EVAL_IMG_KEYS_FILE says so", ""),
        (
            "eval",
            "DATASET.DATA_DIR exp.yaml",
            "exp.yaml/x.pt",
            "DATASET.DATA_DIR says so; exp.yaml is a file, where a folder is meant",
            "captions",
        ),
        ("eval", "EVAL.CHECKPOINT_DIR exp/x/best", "exp/x/best", "EVAL.CHECKPOINT_DIR says so", ""),
    ],
)
def test_what_is_missing_is_named_with_its_key_and_who_has_it(tool, tmp_path, task, opts, path, keys, part):
    ready = "DATASET.DATA_DIR data EVAL.CHECKPOINT_DIR c PRETRAINED.DIR p EVAL.EVAL_CROSS_IMAGE True DATASET.TEST val"
    done = tool("--cfg_file", "exp.yaml", "--missing", path, "--opts", *ready.split(), *opts.split(), task=task)
    who = f"; published files: ./download_dataset.sh --what {part}" if part else ""
    fails(done, 1, f"error: {path}: no such file; {keys}{who}; looked for in {tmp_path}")


def test_a_path_of_another_working_folder(tool, tmp_path):
    """What stands beside the YAML file, or in the repository, is pointed out."""
    (tmp_path / "data").mkdir()
    (tmp_path / "elsewhere").mkdir()
    words = ["--cfg_file", str(tmp_path / "exp.yaml"), "--missing"]
    done = tool(*words, "data", cwd=tmp_path / "elsewhere")
    where = f"looked for in {tmp_path}/elsewhere, it is in {tmp_path}: start the tool there"
    fails(done, 1, f"error: data: no such file; {where}")
    done = tool(*words, "configs/retrieval_test.yaml", cwd=tmp_path / "elsewhere")
    assert f", it is in {REPOSITORY}: start the tool there" in done.stderr
    fails(tool(*words, "/no/such/file"), 1, "error: /no/such/file: no such file")
    long = "x" * 300  # more than a file system takes
    fails(tool(*words, long), 1, f"error: {long}: no such file; looked for in {tmp_path}")


def test_what_is_missing_for_a_tool_without_a_task(tmp_path, capsys):
    (tmp_path / "run.yaml").write_text(f"DATASET: {{DATA_DIR: {tmp_path}}}")
    assert in_process("pack_features", "--cfg_file", tmp_path / "run.yaml") == 1
    err = capsys.readouterr().err
    assert err.startswith("error: ") and err.endswith("; published files: ./download_dataset.sh --what vinvl\n")


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


STOPS = [(signal.SIGINT, 130, "interrupted"), (signal.SIGTERM, 143, "terminated")]


@pytest.mark.parametrize(("sign", "code", "word"), STOPS)
def test_a_tool_that_is_stopped_says_what_is_lost_and_how_to_go_on(tool, sign, code, word):
    running = tool("--cfg_file", "exp.yaml", "--fail", "wait", start=subprocess.Popen)
    assert running.stdout.readline() == "ready\n"
    running.send_signal(sign)
    if sign == signal.SIGTERM:
        running.send_signal(sign)  # as `timeout` does
    out, err = running.communicate(timeout=20)
    assert (running.returncode, err) == (code, f"{word}: {STARTS_AGAIN}\n")


def test_a_training_that_is_stopped_before_its_settings_are_read(monkeypatch, capsys):
    """Also as what Paddle makes of a stop while it loads."""
    monkeypatch.setattr("sys.argv", ["train_retrieval.py", "--cfg_file", "exp.yaml"])
    loading = ImportError("initialization failed")
    loading.__cause__ = KeyboardInterrupt(143)
    for stop, code, word in [(KeyboardInterrupt(), 130, "interrupted"), (loading, 143, "terminated")]:
        monkeypatch.setattr(command_line, "load_task_config", mock.Mock(side_effect=stop))
        assert doors.train_door("Trains.", "retrieval") == code
        assert capsys.readouterr().err.startswith(f"{word}: nothing is kept before the first checkpoint")


@pytest.mark.skipif(not os.path.isdir("/proc"), reason="looks into /proc for what threads block")
def test_threads_of_numpy_leave_sigterm_to_the_main_thread():
    """Paddle's handler would answer it there, while it loads and the main thread lets the signal wait."""
    program = """
import os, signal, sys
from oscar_paddle.tools.shell.command_line import task_class
signal.signal(signal.SIGTERM, lambda *_: None)
task_class("retrieval")
for thread in sorted(os.listdir("/proc/self/task"), key=int)[1:]:
    words = open(f"/proc/self/task/{thread}/status").read().split()
    print(int(words[words.index("SigBlk:") + 1], 16) >> (signal.SIGTERM - 1) & 1)
assert "numpy" in sys.modules and signal.SIGTERM not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) <= {"1"}, done.stdout


def test_sigterm_that_is_ignored_stays_ignored_and_one_of_several_processes_ends_without_a_word(tool):
    ignores = {"preexec_fn": lambda: signal.signal(signal.SIGTERM, signal.SIG_IGN)}
    running = tool("--cfg_file", "exp.yaml", "--fail", "wait", start=subprocess.Popen, **ignores)
    assert running.stdout.readline() == "ready\n"
    running.send_signal(signal.SIGTERM)
    time.sleep(0.2)
    assert running.poll() is None
    running.kill()
    running.communicate()
    second = {"PADDLE_TRAINERS_NUM": "2", "PADDLE_TRAINER_ID": "1"}
    running = tool("--cfg_file", "exp.yaml", "--fail", "wait", start=subprocess.Popen, env=second)
    assert running.stdout.readline() == "ready\n"
    running.send_signal(signal.SIGTERM)
    assert (running.communicate(timeout=20)[1], running.returncode) == ("", -signal.SIGTERM)


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
