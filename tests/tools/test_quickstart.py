"""The quick starts as make targets: real runs in small, and what is made again after what."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from oscar_paddle.tools.shell.command_line import load_task_config

# Stands for python: notes the tool, and leaves what make looks for. Files "fail" and "wait" name a tool that does so.
FAKE = r"""#!/bin/sh
here=$(dirname "$0"); tool=$(basename "$1" .py);
named() { [ "$tool" = "$(cat "$here/$1" 2>/dev/null)" ]; }
echo "$tool" >> "$here/log"
if named wait; then echo $$ > "$here/new"; mv "$here/new" "$here/pid"; exec sleep 99; fi
case "$*" in
  *--tasks*) mkdir -p "$3/${*##*--tasks }"; touch "$3/${*##*--tasks }/task.json" ;;
  *make_scenes*) mkdir -p "$3/init"; [ -e "$3/init/config.json" ] || touch "$3/init/config.json" ;;
  *--output_dir*) mkdir -p "$5"; touch "$5/metrics.json" ;;
esac
if named fail; then echo "error: no luck" >&2; exit 1; fi
"""


def make(repository, place, *words, python=Path(sys.executable).parent):
    """The command of a person, in small, below another folder; nothing is installed. make -n only shows commands."""
    (place / ".installed").touch()
    command = ["make", "-C", repository, "--no-print-directory", "FAST=1", f"VENV={place}", f"BIN={python}"]
    command = [*map(str, command), f"ROOT={place / 'root'}", *words]
    clean = {name: value for name, value in os.environ.items() if "MAKE" not in name}  # we may be below `make test`
    return subprocess.Popen(command, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, env=clean)


def finish(process):
    """The process when it has ended, with all its output."""
    process.out, process.err = process.communicate(timeout=300)
    return process


# ---- real runs ----


@pytest.fixture(scope="module")
def finished(repository, tmp_path_factory):
    place = tmp_path_factory.mktemp("quickstart")
    done = finish(make(repository, place, "quickstart"))
    assert done.returncode == 0, done.err
    return place, done


@pytest.mark.slow
def test_a_run_does_everything(finished):
    place, done = finished
    root = place / "root"
    metrics = json.loads((root / "eval" / "metrics.json").read_text())
    for direction, name in (("i2t_retrieval", "text retrieval"), ("t2i_retrieval", "image retrieval")):
        (row,) = re.findall(rf"^{name} .*", done.out, re.MULTILINE)
        assert re.findall(r"[\d.]+(?= %)", row) == [f"{100 * value:.1f}" for value in metrics[direction].values()]
    chance = re.findall(r"(?<=  by chance).*", done.out)
    assert [re.findall(r"[\d.]+", row)[0] for row in chance] == ["8.3", "8.3"]  # 5 of 60 captions, 1 of 12 pictures
    page = (root / "report.html").read_text(encoding="utf-8")
    assert page.count("<article") >= 12 + 12 and 'class="boxes"' in page and 'id="curves"' in page
    assert "1 layer of width 32, from scratch" in page and "s, breaks included" in page
    assert f"{root / 'report.html'}:" in done.out
    assert {path.name for path in root.iterdir()} == {"scenes", "scenes_train", "eval", "report.html"}


@pytest.mark.slow
def test_scenes_of_other_sizes_are_not_replaced(repository, finished):
    done = finish(make(repository, finished[0], "quickstart", "SIZES=--train 60 --dev 10 --test 13"))
    assert done.returncode == 2 and "num_test 12 (asked 13)" in done.err and "train_retrieval" not in done.out


@pytest.mark.slow
@pytest.mark.parametrize("task", ["vqa", "gqa", "nlvr2"])
def test_the_model_goes_on_to_answer_questions(repository, finished, task):
    place, root = finished[0], finished[0] / "root"
    done = finish(make(repository, place, f"quickstart-{task}"))
    assert done.returncode == 0, done.err
    assert "train_retrieval" not in done.out and "eval_retrieval" not in done.out  # finished, used as it is
    metrics = json.loads((root / f"{task}_eval" / "metrics.json").read_text())
    score = metrics["score" if task == "vqa" else "accuracy"]
    (row,) = re.findall(r"^all questions .*", done.out, re.MULTILINE)
    shown = re.findall(r"[\d.,]+", row)
    assert shown[0] == f"{100 * score:.1f}" and shown[2] == f"{metrics['num_examples']:,}"
    guesses = json.loads((root / "scenes" / task / "task.json").read_text())["files"]
    file = json.loads((root / f"{task}_eval" / "provenance.json").read_text())["data"]["files"][0]
    assert shown[1] == f"{100 * guesses[file]['majority']['accuracy']:.1f}"
    page = (root / f"{task}.html").read_text(encoding="utf-8")
    assert page.count("<article") >= 12 and 'class="boxes"' in page and "guessing" in page
    assert page.count("<img") >= 12 * (2 if task == "nlvr2" else 1)
    assert f"{root / task}.html:" in done.out


@pytest.mark.slow
def test_a_model_learns_to_point(repository, finished):
    """On the same scenes, from random weights; with both controls."""
    place, root = finished[0], finished[0] / "root"
    done = finish(make(repository, place, "quickstart-refer"))
    assert done.returncode == 0, done.err
    assert "train_retrieval" not in done.out
    folders = {"all expressions": "refer_eval", "pictures alone": "refer_eval_expressions"}
    for name, folder in {**folders, "text and boxes alone": "refer_eval_features"}.items():
        metrics = json.loads((root / folder / "metrics.json").read_text())
        (row,) = re.findall(rf"^{name} .*", done.out, re.MULTILINE)
        shown = re.findall(r"[\d.,]+", row)
        wanted = [f"{100 * metrics[score]:.1f}" for score in ("accuracy", "oracle_accuracy")]
        assert shown == [*wanted, f"{metrics['num_expressions']:,}"]
    task = json.loads((root / "scenes" / "refer" / "task.json").read_text())
    assert task["need_a_relation"]["test"] > 0.5 * task["all"]["test"]
    page = (root / "refer.html").read_text(encoding="utf-8")
    assert page.count("<article") > 24 and 'class="meant"' in page and 'id="curves"' in page and "worst misses" in page


# ---- what is made after what ----

TRUNK, REPORT = ["train_retrieval", "eval_retrieval"], ["report_retrieval"]


@pytest.fixture
def fake(repository, tmp_path):
    """Runs make with a python that only notes which tools were asked for; returns them, and the process."""
    python = tmp_path / "bin"
    python.mkdir()
    (python / "python").write_text(FAKE)
    (python / "python").chmod(0o755)

    def run(*words):
        (python / "log").write_text("")
        done = finish(make(repository, tmp_path, *words or ["quickstart-gqa"], python=python))
        return (python / "log").read_text().split(), done

    run.start = lambda: make(repository, tmp_path, "quickstart", python=python)
    run.root, run.python = tmp_path / "root", python
    return run


def test_what_is_finished_is_not_done_again(fake):
    scenes = ["make_scenes"]
    task = [*scenes, "train_gqa", "eval_gqa"]
    assert sorted(fake()[0]) == sorted([*scenes, *TRUNK, *task, *REPORT, "report_answers"])
    assert fake()[0] == [*scenes, *REPORT, "report_answers"]
    (fake.root / "eval" / "metrics.json").unlink()
    assert fake("quickstart")[0] == [*scenes, "eval_retrieval", *REPORT]
    (fake.root / "scenes_gqa_train" / "trained").unlink()  # as if it had been interrupted
    assert fake()[0] == [*scenes, *REPORT, "train_gqa", "eval_gqa", "report_answers"]


def test_pointing_needs_no_other_model(fake):
    made = ["make_scenes", "make_scenes", "train_refer", *["eval_refer"] * 3, "report_refer"]
    assert fake("quickstart-refer")[0] == made
    assert fake("quickstart-refer")[0] == ["make_scenes", "report_refer"]
    (fake.root / "refer_eval_features" / "metrics.json").unlink()
    assert fake("quickstart-refer")[0] == ["make_scenes", "eval_refer", "report_refer"]
    assert fake("quickstart-refer", "-W", "configs/scenes_refer_train.yaml")[0] == made[1:]


@pytest.mark.parametrize(
    ("changed", "made"),
    [
        ("scenes_train", [*TRUNK, *REPORT, "train_gqa", "eval_gqa"]),
        ("scenes_test", ["eval_retrieval", *REPORT]),
        ("scenes_gqa_train", [*REPORT, "train_gqa", "eval_gqa"]),
        ("scenes_vqa_train", [*REPORT, "train_gqa", "eval_gqa"]),  # its _BASE_
        ("scenes_gqa_test", [*REPORT, "eval_gqa"]),
    ],
)
def test_changed_settings_start_a_run_afresh_and_what_follows(fake, changed, made):
    fake()
    weights = {task: fake.root / f"scenes_{task}train" / "weights" for task in ("", "gqa_")}
    for path in weights.values():
        path.touch()
    assert fake("quickstart-gqa", "-W", f"configs/{changed}.yaml")[0] == ["make_scenes", *made, "report_answers"]
    assert weights[""].exists() == ("train_retrieval" not in made)
    assert weights["gqa_"].exists() == ("train_gqa" not in made)


def test_another_model_or_other_scenes_are_trained_on(fake):
    fake("quickstart")
    later = time.time() + 1
    os.utime(fake.root / "scenes" / "init" / "config.json", (later, later))
    assert fake("quickstart")[0] == ["make_scenes", *TRUNK, *REPORT]


@pytest.mark.parametrize("tool", TRUNK)
def test_a_tool_that_fails_ends_the_quick_start(fake, tool):
    """Half of what it has made does not count: the fake evaluation fails after writing metrics.json."""
    (fake.python / "fail").write_text(tool)
    made, done = fake("quickstart")
    assert done.returncode == 2 and "error: no luck" in done.err and made[-1] == tool
    assert not (fake.root / "eval" / "metrics.json").exists()
    (fake.python / "fail").unlink()
    assert fake("quickstart")[0] == ["make_scenes", *TRUNK[TRUNK.index(tool) :], *REPORT]


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for the process in /proc")
def test_a_stopped_quick_start_leaves_no_tool_behind_and_goes_on(fake):
    fake("quickstart")
    (fake.root / "scenes_train" / "trained").unlink()
    (fake.root / "scenes_train" / "checkpoint-5").mkdir()
    (fake.python / "wait").write_text("train_retrieval")
    process = fake.start()
    end = time.monotonic() + 30
    while not (fake.python / "pid").exists() and time.monotonic() < end:
        time.sleep(0.05)
    tool = (fake.python / "pid").read_text().strip()
    assert os.path.exists(f"/proc/{tool}")
    process.send_signal(signal.SIGTERM)
    assert finish(process).returncode != 0 and not os.path.exists(f"/proc/{tool}")
    (fake.python / "wait").unlink()
    assert fake("quickstart")[0] == ["make_scenes", *TRUNK, *REPORT]
    assert (fake.root / "scenes_train" / "checkpoint-5").exists()  # the trainer goes on from it


# ---- settings ----


def test_settings_follow_the_root(repository, tmp_path):
    """No path of the YAML files stays behind, and without ROOT they are used as they are."""
    words = [f"quickstart-{task}" for task in ("vqa", "gqa", "nlvr2", "refer")]
    shown = finish(make(repository, tmp_path, "-n", *words)).out
    commands = re.findall(r"tools/(train|eval)_(\w+)\.py --cfg_file (\S+).*? --opts (.*)", shown)
    assert len(commands) == 12
    for tool, task, file, opts in commands:
        cfg = load_task_config(repository / file, opts.split(), tool if task == "retrieval" else f"{tool}_{task}")
        values = [value for section in cfg.values() for value in section.values() if isinstance(value, str)]
        assert not [value for value in values if value.startswith("quickstart")]
        assert str(tmp_path / "root") == cfg.OUTPUT.CHECKPOINT_DIR
        assert cfg.PRETRAINED.RESUME == "auto"
    plain = finish(make(repository, tmp_path, "-n", "quickstart-gqa", "FAST=", "ROOT=quickstart")).out
    assert "tools/train_gqa.py" in plain and "--opts" not in plain


def test_files_keep_the_quick_start_going(repository):
    train = load_task_config(repository / "configs" / "scenes_train.yaml", task="train")
    assert train.PRETRAINED.RESUME == "auto" and train.PRETRAINED.FROM_SCRATCH
    test = load_task_config(repository / "configs" / "scenes_test.yaml", task="eval")
    assert test.EVAL.EVAL_CROSS_IMAGE and test.INPUT.NUM_CAPTIONS_PER_IMAGE_DEV == 5
    for key in ("MAX_SEQ_LEN", "MAX_REGION"):
        assert test.INPUT[key] == train.INPUT[key]
