"""The tools of referring expressions on the golden data, as a person starts them: kill -9, two ranks, pages, errors."""

import json
import shutil
import signal
import subprocess
import time

import pytest
import starting
from PIL import Image
from runs import assert_equal_but_for_rounding, records

EXACT = ("OPTIMIZATION.DROPOUT", "0", "OPTIMIZATION.ATTENTION_DROPOUT", "0")


@pytest.fixture
def golden_refer(repository):
    return repository / "tests" / "golden" / "vilbert_rec"


@pytest.fixture
def command(golden_refer, tmp_path):
    """Function: run name, --opts words -> the words of the command."""

    def command(run, *opts, tool="train"):
        words = {
            "DATASET.DATA_DIR": golden_refer / "data" / "referExpression",
            "DATASET.CACHE_DIR": tmp_path / "cache",
            "OUTPUT.CHECKPOINT_DIR": tmp_path,
            "OUTPUT.SAVE_NAME": run,
            "OUTPUT.KEEP": 1,
            "OPTIMIZATION.BATCH_SIZE": 4,
            "OPTIMIZATION.EPOCHS": 3,
            "REFER.DECAY_EPOCHS": "2",
            "MISC.NUM_WORKERS": 1,
            "PRETRAINED.DIR": golden_refer / "checkpoint",
            "PRETRAINED.RESUME": "auto",
            "EVAL.CHECKPOINT_DIR": golden_refer / "checkpoint",
        }
        flat = [str(word) for item in words.items() for word in item]
        return [f"tools/{tool}_refer.py", "--cfg_file", "configs/refer_train.yaml", "--opts", *flat, *map(str, opts)]

    return command


def test_killed_and_started_again_is_the_same_run(command, run, tmp_path):
    done = run(command("unbroken"))
    assert done.returncode == 0, done.stderr
    assert "training is complete at step 15 of 15; best dev score" in done.stderr
    assert "RefExp refcoco+ val: accuracy" in done.stderr and "the proposals allow 85.71 %" in done.stderr
    process = starting.start(command("killed"), stderr=subprocess.DEVNULL)
    while not (tmp_path / "killed" / "last").is_symlink() and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = run(command("killed"))
    assert done.returncode == 0, done.stderr
    assert records(tmp_path / "killed") == records(tmp_path / "unbroken")
    weights = [(tmp_path / name / "last" / "model.safetensors").read_bytes() for name in ("killed", "unbroken")]
    assert weights[0] == weights[1]


def test_two_ranks_and_accumulation_are_one(command, run, golden_refer, tmp_path):
    """19 expressions in updates of 4: one rank has nothing to do in the last of an epoch, in one of the runs."""
    one = run(command("one", *EXACT))
    assert one.returncode == 0, one.stderr
    cases = {"two": (2, 1), "accumulated": (1, 4)}
    for name, (batch, accumulation) in cases.items():
        opts = ("OPTIMIZATION.BATCH_SIZE", batch, "OPTIMIZATION.GRADIENT_ACCUMULATION_STEPS", accumulation)
        before = starting.launcher(2, tmp_path / "log") if name == "two" else ()
        done = run(command(name, *EXACT, *opts), before)
        assert done.returncode == 0, done.stderr + done.stdout
        assert_equal_but_for_rounding(tmp_path / name, tmp_path / "one", golden_refer / "checkpoint")
    done = run(command("other", *EXACT, "OPTIMIZATION.BATCH_SIZE", "3"))
    with pytest.raises(AssertionError):  # the comparison can fail
        assert_equal_but_for_rounding(tmp_path / "other", tmp_path / "one", golden_refer / "checkpoint")


def test_two_ranks_evaluate_as_one(command, run, tmp_path):
    """Bit for bit; the second rank finds nothing to do and waits."""
    for name, before in {"one": (), "two": starting.launcher(2, tmp_path / "log")}.items():
        words = ["--output_dir", tmp_path / name]
        done = run([*map(str, [*command("eval", tool="eval"), *words])], before)
        assert done.returncode == 0, done.stderr + done.stdout
    one, two = ((tmp_path / name / "scores.npy").read_bytes() for name in ("one", "two"))
    assert one == two


@pytest.fixture
def evaluated(command, capfd, tmp_path):
    """Function: --opts words -> (exit code, stdout, stderr, folder) of an evaluation in this process."""

    def evaluate(*opts):
        tool, *words = command("eval", *opts, tool="eval")
        folder = tmp_path / "eval"
        return *starting.said_in_process(capfd, "eval_refer", *words, "--output_dir", folder), folder

    return evaluate


def test_evaluation_controls_and_page(evaluated, capfd, tmp_path, golden_refer):
    code, said, _, folder = evaluated()
    assert code == 0 and "RefExp refcoco+ val: accuracy 42.86 % (14 expressions); the proposals allow 85.71 %" in said
    assert "objects of its class: 1 object" in said and "by length: 1 word" in said
    plain = json.loads((folder / "metrics.json").read_text())
    shutil.copytree(folder, tmp_path / "plain")
    others = {}
    for control in ("expressions", "features"):
        code, said, _, folder = evaluated("REFER.CONTROL", control)
        assert code == 0 and f"{control} of other pictures: accuracy" in said
        others[control] = json.loads((folder / "metrics.json").read_text())
        assert others[control]["oracle_accuracy"] == plain["oracle_accuracy"]
        assert others[control]["loss"] != plain["loss"]
    images = tmp_path / "images"
    images.mkdir()
    for image_id in json.loads((folder / "image_names.json").read_text()):
        Image.new("RGB", (480, 640)).save(images / f"{image_id}.png")
    page = tmp_path / "page.html"
    words = ("--eval_dir", tmp_path / "plain", "--images", images, "--output", page, "--controls", folder)
    code, said, error = starting.said_in_process(capfd, "report_refer", *words)
    assert code == 0, error
    text = page.read_text()
    for part in (
        "The worst misses",
        "always the largest box",
        "text and boxes alone",
        'class="chosen"',
        'class="meant"',
    ):
        assert part in text, part
    assert "all expressions" in said and text.count('class="query"') > 14
    entries = json.loads((tmp_path / "plain" / "predictions.json").read_text())
    assert {entry["sent_id"] for entry in entries} == {e["sent_id"] for e in golden_entries(golden_refer)}


def golden_entries(folder):
    return json.loads((folder / "expected.json").read_text())["entries"]["val"]


def test_pointing_in_one_picture(command, capfd, tmp_path, golden_refer):
    """A known expression shows its true box; any other text gets an answer, too."""
    wanted = json.loads((golden_refer / "expected.json").read_text())["val"]["results"][0]
    tool, *words = command("eval", tool="eval")
    page = tmp_path / "found.html"
    words += ["--image", "292466", "--expression", "on", "the man in <red>", "--html", page]
    code, said, error = starting.said_in_process(capfd, "refer_image", *words)
    assert code == 0, error
    assert f"1: region {wanted['target']}" in said and said.count("1: region") + said.count("1: whole") == 2
    assert f"meant: 30.0 40.0 149.0 129.0; overlap of the first (IoU) {wanted['IOU']:.2f}" in said
    assert "the man in &lt;red&gt;" in page.read_text() and 'class="meant"' in page.read_text()


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--image", "5", "--expression", "x"), 1, "image 5 is missing (the store has 11 images)"),
        (("--image", "292466", "--expression", " "), 2, "--expression is empty"),
        (("--image", "292466", "--expression", "x", "--top", "0"), 2, "--top is 0"),
        (("--image", "292466", "--expression", "x", "--images", "y"), 2, "name it with --html"),
    ],
)
def test_what_is_asked_wrongly(command, capfd, words, code, message):
    tool, *rest = command("eval", tool="eval")
    found, _, error = starting.said_in_process(capfd, "refer_image", *rest, *words)
    assert found == code and message in error and "Traceback" not in error


@pytest.mark.parametrize(
    ("opts", "code", "message"),
    [
        (("DATASET.TEST", "minival"), 2, "refs(unc).p has 'train', 'val', 'testA', 'testB', 'test'"),
        (("REFER.DETECTOR", "resnext152"), 1, "features of 'resnet101', but REFER.DETECTOR is 'resnext152'"),
        (("REFER.SPLIT_BY", "umd"), 1, "refs(umd).p: no such file"),
        (("INPUT.IMG_FEATURE_DIM", "2054"), 1, "its features have 2048 values"),
        (("EVAL.PRECISION", "bfloat16"), 2, "this task has 'float32'"),
        (("REFER.DATASET", "refcocog"), 1, "refcocog/refs(unc).p: no such file"),
        (("REFER.DECAY_EPOCHS", "soon"), 2, "expected epochs, such as '12, 16'"),
        (("REFER.DECAY_EPOCHS", "-1"), 2, "expected epochs, such as '12, 16'"),
        (("INPUT.MAX_REGION", "1"), 2, "no proposal is seen"),
        (("EVAL.CHECKPOINT_DIR", "tests/golden/retrieval/checkpoint"), 1, "config.json: of a model of one stream"),
        (("DATASET.FEAT_FILE", "none.lmdb"), 1, "none.lmdb: no such file; it holds the proposals"),
    ],
)
def test_errors_are_one_line(evaluated, opts, code, message):
    found, _, error, folder = evaluated(*opts)
    (line,) = [line for line in error.splitlines() if line.startswith("error: ")]
    assert found == code and message in line, error
    assert not folder.exists()
