"""Captioning's tools as a person starts them, on the golden data: run folder, kill -9, two ranks, every layout."""

import base64
import json
import shutil
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pytest
import starting
from runs import records

GOLDEN = Path(__file__).parents[1] / "golden" / "captioning"
EXPECTED = json.loads((GOLDEN / "expected.json").read_text())
SETTINGS = """
INPUT: {MAX_REGION: 8, IMG_FEATURE_DIM: 2054}
DATASET: {NAME: captioning, TRAIN: train.yaml, DEV: test.yaml, TEST: test.yaml}
CAPTION: {TIE_WEIGHTS: True, FREEZE_EMBEDDING: True, LABEL_SMOOTHING: 0.1, DROP_WORST_RATIO: 0.2, DROP_WORST_AFTER: 3}
OPTIMIZATION: {BATCH_SIZE: 8, EPOCHS: 2, LR: 1.0e-3}
MISC: {SEED: 7, NUM_WORKERS: 1, NUM_THREADS: 1}
"""


@pytest.fixture
def folder(tmp_path):
    for part in ("checkpoint", "coco_caption"):
        shutil.copytree(GOLDEN / part, tmp_path / part)
    (tmp_path / "run.yaml").write_text(SETTINGS)
    return tmp_path


@pytest.fixture
def command(folder):
    """Function: tool, settings -> the words of the command."""

    def command(tool, *words, **settings):
        settings = {
            "DATASET.DATA_DIR": folder / "coco_caption",
            "PRETRAINED.DIR": folder / "checkpoint",
            "EVAL.CHECKPOINT_DIR": folder / "checkpoint",
            "OUTPUT.CHECKPOINT_DIR": folder,
            **{key.replace("__", "."): value for key, value in settings.items()},
        }
        return [f"tools/{tool}.py", "--cfg_file", folder / "run.yaml", *words, "--opts", *starting.words_of(settings)]

    return command


def test_training_killed_and_started_again_is_the_same_run(command, run, folder):
    """The counter of dropped words goes on, too: they are dropped from micro-batch 4 on."""

    def train(name):
        return command("train_captioning", OUTPUT__SAVE_NAME=name, PRETRAINED__RESUME="auto", OUTPUT__SAVE_STEPS=2)

    done = run(train("unbroken"))
    assert done.returncode == 0, done.stderr
    names = {path.name for path in (folder / "unbroken").iterdir()}
    assert names >= {"config.yaml", "curves.png", "log.txt", "metrics.jsonl", "last", "best"}
    assert " captions in " in done.stderr and "captions of test.yaml: " in done.stderr and "CIDEr" in done.stderr
    process = starting.start(train("killed"), stderr=subprocess.DEVNULL)
    while not (folder / "killed" / "last").is_symlink() and process.poll() is None:
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    done = run(train("killed"))
    assert done.returncode == 0, done.stderr
    assert records(folder / "killed") == records(folder / "unbroken")
    weights = [(folder / name / "last" / "model.safetensors").read_bytes() for name in ("killed", "unbroken")]
    assert weights[0] == weights[1]


def beams(number):
    """The reference's beam search, without penalties: {"ids": ..., "scores": ...} of the best captions."""
    plain = {"num_beams": number, "length_penalty": 1.0, "repetition_penalty": 1.0}
    cases = EXPECTED["generation"]["beam"]
    return next(case["keep1"] for case in cases if plain.items() <= case.items())


def test_evaluation_alone_and_with_two_ranks(command, run, folder, capfd):
    """Captions, scores and the files that the reference writes, whatever the number of processes."""
    words = command("eval_captioning", CAPTION__NUM_BEAMS=5)
    code, out, err = starting.said_in_process(capfd, "eval_captioning", *words[1:])
    assert code == 0 and "captions of test.yaml: " in out and "CIDEr" in out, err
    stem = "pred.coco_caption.test.beam5.max20.odlabels"
    results = folder / "checkpoint" / "eval" / stem
    rows = [line.split("\t") for line in (results / f"{stem}.tsv").read_text().splitlines()]
    assert [key for key, _ in rows] == EXPECTED["image_keys"] and set(json.loads(rows[0][1])[0]) == {"caption", "conf"}
    scores = json.loads((results / f"{stem}.eval.json").read_text())
    assert {"Bleu_4", "ROUGE_L", "CIDEr"} <= set(scores)
    ids = np.load(results / "generated.npy").reshape(8, 21)[:, :20]
    assert (ids == np.array(beams(5)["ids"])[:, 0]).all()
    ranks = starting.launcher(2, folder / "log")
    done = run(command("eval_captioning", "--output_dir", folder / "two", CAPTION__NUM_BEAMS=5), ranks)
    assert done.returncode == 0, done.stderr + done.stdout
    assert (np.load(folder / "two" / "generated.npy").reshape(8, 21)[:, :20] == ids).all()


def write_layouts(folder):
    """The golden regions and tags in other layouts: {name: path}."""
    data, own, vinvl = folder / "coco_caption", folder / "own" / "features", folder / "vinvl"
    own.mkdir(parents=True)
    vinvl.mkdir()
    rows, tags = [], []
    for feature, label in zip(*((data / f"coco.{name}.tsv").open() for name in ("feature", "label")), strict=True):
        key, value = feature.rstrip("\n").split("\t")
        value, found = json.loads(value), json.loads(label.split("\t")[1])
        regions = np.frombuffer(base64.b64decode(value["features"]), np.float32).reshape(value["num_boxes"], -1)
        np.savez(own / f"{key}.npz", features=regions, tags=[entry["class"] for entry in found])
        rows.append(f"{key}\t{value['num_boxes']}\t{value['features']}\n")
        tags.append(f"{key}\t{json.dumps(found)}\n")
    (vinvl / "features.tsv").write_text("".join(rows))
    (vinvl / "predictions.tsv").write_text("".join(tags))
    return {"json rows": data / "coco.feature.tsv", "yaml": data / "test.yaml", "own": own, "vinvl": vinvl}


@pytest.mark.parametrize("layout", ["json rows", "yaml", "own", "vinvl"])
def test_pictures_in_every_layout(command, folder, capfd, layout):
    path = write_layouts(folder)[layout]
    words = command("caption_images", "--features", path, CAPTION__NUM_BEAMS=3)
    code, out, err = starting.said_in_process(capfd, "caption_images", *words[1:])
    assert code == 0, err
    scores = dict(zip(EXPECTED["image_keys"], np.array(beams(3)["scores"])[:, 0], strict=True))
    shown = [line.split("\t") for line in out.splitlines() if line.count("\t") == 2]
    assert {key: float(score) for key, score, _ in shown} == pytest.approx(scores, abs=2e-3)
    assert "captions.json" in out.splitlines()[-1]


def test_one_picture_and_wrong_ones(command, folder, capfd):
    own = write_layouts(folder)["own"]
    words = command("caption_images", "--features", own / "98557.npz", CAPTION__NUM_BEAMS=3, CAPTION__NUM_KEEP_BEST=2)
    code, out, err = starting.said_in_process(capfd, "caption_images", *words[1:])
    assert code == 0 and [line.split("\t")[0] for line in out.splitlines() if line.count("\t") == 2] == ["98557"] * 2
    np.savez(own / "98557.npz", features=np.ones((2, 2054), np.float32))
    code, _, err = starting.said_in_process(capfd, "caption_images", *words[1:])
    assert code == 1 and "98557.npz" in err and "no array 'tags'" in err
    words = command("caption_images", "--features", folder / "nowhere")
    code, _, err = starting.said_in_process(capfd, "caption_images", *words[1:])
    assert code == 1 and "nowhere: no such file" in err


def test_constraints_of_pictures_are_those_of_the_yaml_or_an_error(command, folder, capfd):
    settings = {"CAPTION__USE_CBS": True, "CAPTION__NUM_BEAMS": 3, "DATASET__TEST": "cbs.yaml"}
    data = folder / "coco_caption"
    words = command("caption_images", "--features", data / "cbs.yaml", **settings)
    code, _, err = starting.said_in_process(capfd, "caption_images", *words[1:])
    assert code == 0 and "6 of 8 captions have to say" in err
    words = command("caption_images", "--features", data / "coco.feature.tsv", **settings)
    code, _, err = starting.said_in_process(capfd, "caption_images", *words[1:])
    assert code != 0 and "only a YAML names the cbs_* files" in err and "coco.feature.tsv" in err


@pytest.mark.parametrize(
    ("tool", "settings", "code", "message"),
    [
        ("train_captioning", {"DATASET__DEV": "none.yaml"}, 1, "none.yaml: no such file"),
        ("train_captioning", {"DATASET__DEV": "nolabel.yaml"}, 1, "names no 'label' file"),
        ("train_captioning", {"DATASET__DEV": "cbs.yaml"}, 1, "0 images with captions that people wrote, which"),
        ("train_captioning", {"CAPTION__MAX_SEQ_A_LEN": 71}, 2, "CAPTION.MAX_SEQ_A_LEN is 71"),
        ("eval_captioning", {"CAPTION__MAX_GEN_LENGTH": 41}, 2, "MAX_GEN_LENGTH is 41"),
        ("eval_captioning", {"CAPTION__NUM_BEAMS": 3, "CAPTION__NUM_KEEP_BEST": 4}, 2, "NUM_KEEP_BEST is 4"),
        ("eval_captioning", {"CAPTION__NUM_KEEP_BEST": 2}, 2, "a greedy one (NUM_BEAMS 1) a single caption"),
        ("eval_captioning", {"CAPTION__USE_CBS": True, "DATASET__TEST": "test.yaml"}, 1, "names no cbs_box"),
    ],
)
def test_errors_are_one_line(command, capfd, tool, settings, code, message):
    found, _, err = starting.said_in_process(capfd, tool, *command(tool, **settings)[1:])
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert found == code and message in line and "Traceback" not in err
