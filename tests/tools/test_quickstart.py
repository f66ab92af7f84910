"""The quick start: a whole run in small, its second run, what it says when a tool fails, and its small parts."""

import importlib.util
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from oscar_paddle.tools import stages
from oscar_paddle.tools.command_line import load_task_config


@pytest.fixture(scope="module")
def quickstart(repository):
    """tools/quickstart.py as a module."""
    spec = importlib.util.spec_from_file_location("quickstart", repository / "tools" / "quickstart.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def run(repository, folder, *arguments):
    """The tool as a person starts it, from another folder than the project's."""
    command = [sys.executable, str(repository / "tools" / "quickstart.py"), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


# ---- the whole of it ----


@pytest.fixture(scope="module")
def finished(repository, tmp_path_factory):
    folder = tmp_path_factory.mktemp("quickstart")
    done = run(repository, folder, "--fast")
    assert done.returncode == 0, done.stderr
    return folder, done


@pytest.mark.slow
def test_fast_run_does_everything(finished):
    folder, done = finished
    root = folder / "quickstart" / "fast"
    metrics = json.loads((root / "eval" / "metrics.json").read_text())
    for direction, name in (("i2t_retrieval", "text retrieval"), ("t2i_retrieval", "image retrieval")):
        (row,) = re.findall(rf"^{name} .*", done.stdout, re.MULTILINE)
        assert re.findall(r"[\d.]+(?= %)", row) == [f"{100 * value:.1f}" for value in metrics[direction].values()]
    chance = re.findall(r"(?<=  by chance).*", done.stdout)
    assert [re.findall(r"[\d.]+", row)[0] for row in chance] == ["8.3", "8.3"]  # 5 of 60 captions, 1 of 12 pictures
    page = (root / "report.html").read_text(encoding="utf-8")
    assert page.count("<article") >= 12 + 12 and 'class="boxes"' in page and 'id="curves"' in page
    assert str(root / "report.html") in done.stdout
    for stage in ("scenes", "training", "evaluation", "report"):
        assert re.search(rf"^time: .*{stage} (\d+ min )?\d+ s", done.stdout, re.MULTILINE), stage
    assert {path.name for path in root.iterdir()} == {"scenes", "scenes_train", "eval", "report.html", "stages.json"}


@pytest.mark.slow
def test_second_run_uses_what_is_finished(repository, finished):
    folder, first = finished
    root = folder / "quickstart" / "fast"
    made = {path: path.stat().st_mtime_ns for path in root.rglob("*.safetensors")}
    (root / "report.html").unlink()
    done = run(repository, folder, "--fast")
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("used as it is") == 3 and "$ python" not in done.stdout
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*.safetensors")} == made
    assert (root / "report.html").is_file()
    table = re.compile(r"^text retrieval[^$]*?\n\n", re.MULTILINE)
    assert table.search(done.stdout)[0] == table.search(first.stdout)[0]


@pytest.mark.slow
def test_only_what_is_missing_is_made_again(repository, finished):
    (finished[0] / "quickstart" / "fast" / "eval" / "metrics.json").unlink()
    done = run(repository, finished[0], "--fast")
    assert done.returncode == 0 and done.stdout.count("used as it is") == 2
    assert re.findall(r"^\$ python .*?(\w+)\.py", done.stdout, re.MULTILINE) == ["eval_retrieval"]


@pytest.mark.slow
def test_scenes_of_other_sizes_are_not_replaced(repository, finished):
    done = run(repository, finished[0], "--fast", "--test", "13")
    assert done.returncode == 1 and done.stderr.count("\n") == 1
    assert "num_test 12 (asked 13)" in done.stderr and "--root DIR" in done.stderr


# ---- questions about the scenes ----


def ask(repository, folder, *arguments):
    command = [sys.executable, str(repository / "tools" / "quickstart_tasks.py"), *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
@pytest.mark.parametrize("task", ["vqa", "gqa", "nlvr2"])
def test_the_model_goes_on_to_answer_questions(repository, finished, task):
    folder, root = finished[0], finished[0] / "quickstart" / "fast"
    done = ask(repository, folder, task, "--fast")
    assert done.returncode == 0, done.stderr
    metrics = json.loads((root / f"{task}_eval" / "metrics.json").read_text())
    score = metrics["score" if task == "vqa" else "accuracy"]
    (row,) = re.findall(r"^all questions .*", done.stdout, re.MULTILINE)
    shown = re.findall(r"[\d.,]+", row)
    assert shown[0] == f"{100 * score:.1f}" and shown[2] == f"{metrics['num_examples']:,}"
    guesses = json.loads((root / "scenes" / task / "task.json").read_text())["files"]
    file = json.loads((root / f"{task}_eval" / "provenance.json").read_text())["data"]["files"][0]
    assert shown[1] == f"{100 * guesses[file]['majority']['accuracy']:.1f}"
    page = (root / f"{task}.html").read_text(encoding="utf-8")
    assert page.count("<article") >= 12 and 'class="boxes"' in page and "guessing" in page
    assert page.count("<img") >= 12 * (2 if task == "nlvr2" else 1)
    again = ask(repository, folder, task, "--fast")
    assert again.returncode == 0 and again.stdout.count("used as it is") == 2 and "$ python" not in again.stdout


def test_questions_need_the_quick_start(repository, tmp_path):
    done = ask(repository, tmp_path, "vqa")
    assert done.returncode == 1 and "`make quickstart` trains it" in done.stderr and done.stderr.count("\n") == 1


# ---- what goes wrong ----


@pytest.mark.parametrize(
    ("arguments", "words"),
    [(["--train", "1"], "--train is 1; expected at least 2"), (["--dev", "3"], "--dev is 3; expected at least 4")],
)
def test_bad_sizes_are_one_line(repository, tmp_path, arguments, words):
    done = run(repository, tmp_path, *arguments)
    assert (done.returncode, done.stderr) == (2, f"error: {words}\n") and not list(tmp_path.iterdir())


def small_start(quickstart, root, **sizes):
    return quickstart.QuickStart(root, {**quickstart.FAST_SIZES, **sizes}, quickstart.FAST_MODEL, quickstart.FAST_OPTS)


@pytest.mark.parametrize(("code", "exit_code", "words"), [(2, 2, "code 2"), (-9, 1, "signal 9"), (0, 1, "code 0")])
def test_a_tool_that_fails_ends_the_quick_start(quickstart, monkeypatch, tmp_path, code, exit_code, words):
    commands = []
    monkeypatch.setattr(stages, "_run", lambda command: commands.append(command) or code)
    start = small_start(quickstart, tmp_path, train=4, dev=4, test=2)
    with pytest.raises(stages.StageError, match=f"training .*{words}.* goes on from here") as caught:
        start.run()
    assert caught.value.exit_code == exit_code
    assert len(commands) == 1 and commands[0][1].endswith("train_retrieval.py")
    assert not stages.Diary(tmp_path / "stages.json").has_finished("training", start.key("training"))


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="looks for the process in /proc")
def test_a_stopped_quick_start_leaves_no_tool_behind(repository, tmp_path):
    script = f"""
import importlib.util, signal, sys
from oscar_paddle.tools import stages
spec = importlib.util.spec_from_file_location("quickstart", {str(repository / "tools" / "quickstart.py")!r})
quickstart = importlib.util.module_from_spec(spec); spec.loader.exec_module(quickstart)
class Long:
    def __init__(self, *arguments): pass
    def run(self):
        tool = "import os, time; open('new', 'w').write(str(os.getpid())); os.rename('new', 'pid'); time.sleep(99)"
        stages._run([sys.executable, "-c", tool])
quickstart.QuickStart = Long
sys.exit(quickstart.run_plain_tool("x", quickstart.main, quickstart.add_arguments, "x", []))
"""
    process = subprocess.Popen([sys.executable, "-c", script], cwd=tmp_path)
    end = time.monotonic() + 30
    while not (tmp_path / "pid").exists() and time.monotonic() < end:
        time.sleep(0.05)
    tool = (tmp_path / "pid").read_text()
    assert os.path.exists(f"/proc/{tool}")
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == 128 + signal.SIGTERM
    assert not os.path.exists(f"/proc/{tool}")


# ---- small parts ----


def test_settings_follow_the_root(quickstart, tmp_path):
    # The files' own commands work as they are.
    assert not stages.moved_settings(quickstart.TRAIN_FILE, Path("quickstart"))
    start = small_start(quickstart, tmp_path)
    for cfg in (start.train, start.test):
        values = [str(value) for section in cfg.values() for value in section.values()]
        assert not [value for value in values if value.startswith("quickstart")]
    assert Path(start.train.PRETRAINED.DIR) == tmp_path / "scenes" / "init"
    assert Path(start.train.OUTPUT.CHECKPOINT_DIR) == tmp_path
    assert Path(start.test.EVAL.CHECKPOINT_DIR).parent == tmp_path / "scenes_train"


def test_files_keep_the_quick_start_going(repository):
    train = load_task_config(repository / "configs" / "scenes_train.yaml", task="train")
    assert train.PRETRAINED.RESUME == "auto" and train.PRETRAINED.FROM_SCRATCH
    test = load_task_config(repository / "configs" / "scenes_test.yaml", task="eval")
    assert test.EVAL.EVAL_CROSS_IMAGE and test.INPUT.NUM_CAPTIONS_PER_IMAGE_DEV == 5
    for key in ("MAX_SEQ_LEN", "MAX_REGION"):
        assert test.INPUT[key] == train.INPUT[key]


def test_diary_adds_up_what_was_stopped(quickstart, monkeypatch, tmp_path):
    clock = iter([0, 5, 100, 107, 200, 203, 300, 301])
    monkeypatch.setattr(quickstart.time, "monotonic", lambda: next(clock))
    path = tmp_path / "new" / "stages.json"
    with pytest.raises(KeyboardInterrupt), stages.Diary(path).stage("training", "a"):
        raise KeyboardInterrupt
    diary = stages.Diary(path)
    assert diary.seconds("training") == 5 and not diary.has_finished("training", "a")
    with diary.stage("training", "a"):
        pass
    diary = stages.Diary(path)
    assert diary.seconds("training") == 12 and diary.has_finished("training", "a")
    assert not diary.has_finished("training", "b") and not diary.has_finished("evaluation", "a")
    with diary.stage("training", "b"):  # other settings: the earlier time is not this result's
        pass
    with diary.stage("report"):
        pass
    assert diary.summary() == "training 3 s, report 1 s; all together 4 s"
    path.write_text('{"training": 3}')
    assert stages.Diary(path).stages == {}


def test_durations_are_said_in_words(quickstart):
    assert [stages.duration(seconds) for seconds in (0.2, 59.6, 245)] == ["0 s", "1 min 0 s", "4 min 5 s"]


def test_table_shows_both_directions_above_chance(quickstart):
    recalls = {"R@1": 0.5, "R@5": 0.825, "R@10": 1.0}
    chance = {key: {"R@1": 0.005, "R@5": 0.025, "R@10": 0.05} for key in ("i2t_retrieval", "t2i_retrieval")}
    lines = quickstart.recall_table({"i2t_retrieval": recalls, "t2i_retrieval": recalls}, chance).splitlines()
    assert len(lines) == 5 and len({len(line) for line in lines}) == 1
    assert lines[0].split() == ["R@1", "R@5", "R@10"]
    assert re.findall(r"[\d.]+ %", lines[3]) == ["50.0 %", "82.5 %", "100.0 %"]
    assert re.findall(r"[\d.]+ %", lines[4]) == ["0.5 %", "2.5 %", "5.0 %"]
