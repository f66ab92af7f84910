"""Places that are named where others are meant: a run for its checkpoint, a file for its folder, and so on."""

import json
import shutil

import pytest
from filelock import FileLock
from starting import in_process

from oscar_paddle.solvers.run_folder import RunFolder

unlock = RunFolder.unlock
STEPS = "checkpoint-2", "checkpoint-10"


@pytest.fixture
def run_folder(golden, tmp_path):
    """The folder of a training run with two checkpoints."""
    for name in STEPS:
        shutil.copytree(golden / "checkpoint", tmp_path / "run" / name)
    return tmp_path / "run"


@pytest.fixture
def tools(golden, tmp_path, capsys):
    """Function: (name of a tool, place of the checkpoint) -> (exit code, the last line on stderr)."""
    cfg_file = tmp_path / "exp.yaml"
    cfg_file.write_text(f"""
INPUT: {{MAX_SEQ_LEN: 40, MAX_REGION: 12}}
DATASET: {{DATA_DIR: {golden}/coco_ir, CACHE_DIR: {tmp_path}/cache}}
OUTPUT: {{CHECKPOINT_DIR: {tmp_path}, SAVE_NAME: new}}
MONITOR: {{EVAL_FREQ: 0}}
EVAL: {{EVAL_CROSS_IMAGE: true}}
""")
    keys = {"train_retrieval": "PRETRAINED.DIR", "eval_retrieval": "EVAL.CHECKPOINT_DIR"}
    keys["inference_retrieval"] = keys["eval_retrieval"]

    def tool(name, place):
        if name == "score_pairs":
            words = ["--checkpoint", place, "--features", tmp_path / "no.npz", "--caption", "a dog"]
        elif name == "convert_weights":
            words = ["--input", place, "--output", tmp_path / "out", "--to", "pytorch"]
        elif name == "resume":
            opts = ["--opts", "PRETRAINED.DIR", golden / "checkpoint", "PRETRAINED.RESUME", place]
            name, words = "train_retrieval", ["--cfg_file", cfg_file, *opts]
        else:
            words = ["--cfg_file", cfg_file, *(["--query_txt", "a dog"] if name == "inference_retrieval" else [])]
            words += ["--opts", keys[name], place]
        return in_process(name, *words), capsys.readouterr().err.splitlines()[-1]

    return tool


TOOLS = "train_retrieval", "eval_retrieval", "inference_retrieval", "score_pairs", "convert_weights", "resume"


@pytest.mark.parametrize("name", TOOLS)
def test_the_folder_of_a_run_is_no_checkpoint(tools, run_folder, name):
    said = f"error: {run_folder}: holds checkpoints and is none; give one of them: {run_folder}/"
    both = f"checkpoint-2 or {run_folder}/checkpoint-10"
    assert tools(name, run_folder) == (1, said + both)
    (run_folder / "last").symlink_to(STEPS[1])
    assert tools(name, run_folder) == (1, said + "last")
    (run_folder / "best").symlink_to(STEPS[0])
    assert tools(name, run_folder) == (1, said + f"best or {run_folder}/last")


def test_a_run_that_failed_leaves_its_folder_free(tools, run_folder, tmp_path):
    kept = []  # an error that somebody holds keeps all that it went through, a lock's object too
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "oscar_paddle.solvers.training.RunFolder.unlock", lambda folder: kept.append(folder) or unlock(folder)
        )
        tools("resume", run_folder)
    assert len(kept) == 1 and FileLock(tmp_path / "new" / ".lock").acquire(timeout=0)


@pytest.mark.parametrize("name", TOOLS)
def test_a_file_of_a_checkpoint_is_no_checkpoint(tools, run_folder, name):
    place = run_folder / STEPS[0] / "config.json"
    code, line = tools(name, place)
    if name in ("score_pairs", "convert_weights"):  # options know it beforehand
        option = {"score_pairs": "--checkpoint", "convert_weights": "--input"}[name]
        expected = f"{option} {place}: is a file; expected a folder (--help shows a working command)"
        assert (code, line) == (2, f"error: {expected}")
    else:
        assert (code, line) == (1, f"error: {place}: is a file; a checkpoint is a folder: give {place.parent}")


@pytest.mark.parametrize("name", [name for name in TOOLS if name != "resume"])
def test_a_place_that_is_not_there(tools, tmp_path, name):
    code, line = tools(name, tmp_path / "nowhere")
    assert code == 1 and line.startswith(f"error: {tmp_path}/nowhere: no such checkpoint folder")
    key = {"train_retrieval": "PRETRAINED.DIR", "convert_weights": "", "score_pairs": ""}.get(
        name, "EVAL.CHECKPOINT_DIR"
    )
    assert (f"; {key} says so" in line) == bool(key)
    assert ("--what weights" in line) == (name == "train_retrieval")


def test_evaluations_inside_a_checkpoint_or_a_run_are_found(run_folder, capsys):
    for name in ("test-1k", "val-all"):
        (run_folder / STEPS[0] / "eval" / name).mkdir(parents=True)
        (run_folder / STEPS[0] / "eval" / name / "metrics.json").write_text("{}")
    (run_folder / "metrics.jsonl").write_text(json.dumps({"step": 1, "loss": 1.0}) + "\n")
    for place in (run_folder, run_folder / STEPS[0]):
        for report in ("report_retrieval", "report_answers"):
            words = ["--eval_dir", place, "--images", run_folder, "--output", run_folder / "page.html"]
            assert in_process(report, *words) == 1
            line = capsys.readouterr().err
            evaluations = f"{run_folder}/checkpoint-2/eval/test-1k and {run_folder}/checkpoint-2/eval/val-all\n"
            assert line.endswith(f"--output_dir writes it; evaluations are in {evaluations}")


def test_the_run_of_a_checkpoint_is_found(run_folder):
    from oscar_paddle.config.errors import DataError
    from oscar_paddle.tools.pages.charts import read_run

    (run_folder / "metrics.jsonl").write_text(json.dumps({"step": 1, "loss": 1.0}) + "\n")
    with pytest.raises(DataError, match=f"--run_folder is the folder that training wrote: {run_folder}$"):
        read_run(run_folder / STEPS[0])
