"""After any change that can move a score, an evaluation into the same folder scores again; without one it does not."""

import json
import shutil

import numpy as np
import pytest
from published import change_rows, features, store
from safetensors.numpy import load_file, save_file
from starting import in_process, words_of

from oscar_paddle.solvers.scoring import code_version

RETRIEVAL = {
    "INPUT.MAX_SEQ_LEN": 40,
    "INPUT.MAX_REGION": 12,
    "DATASET.DATA_DIR": "coco_ir",
    "EVAL.EVAL_CROSS_IMAGE": True,
    "EVAL.EVAL_IMG_KEYS_FILE": "test_img_keys.tsv",
}
TASKS = {
    "retrieval": RETRIEVAL,
    "vqa": {"INPUT.MAX_SEQ_LEN": 24, "INPUT.MAX_REGION": 6, "DATASET.DATA_DIR": "vqa", "DATASET.TEST": "val"},
    "gqa": {
        "INPUT.MAX_SEQ_LEN": 26,
        "INPUT.MAX_REGION": 7,
        "DATASET.DATA_DIR": "gqa",
        "DATASET.TEST": "val",
        "DATASET.EVAL_DATA_TYPE": "bal",
        "DATASET.DATA_LABEL_TYPE": "all",
    },
    "nlvr2": {
        "INPUT.MAX_SEQ_LEN": 24,
        "INPUT.MAX_REGION": 6,
        "DATASET.DATA_DIR": "nlvr2",
        "DATASET.TEST": "val",
        "DATASET.EVAL_DATA_TYPE": "all",
        "DATASET.DATA_LABEL_TYPE": "all",
    },
}


class Evaluation:
    """A copy of a task's golden folder, evaluated by its tool in this process."""

    def __init__(self, task, root, golden, monkeypatch):
        shutil.copytree(golden, root, dirs_exist_ok=True)
        self.task, self.root = task, root
        (root / "run.yaml").write_text("")
        monkeypatch.chdir(root)

    def __call__(self, out, **settings):
        """What is in the results file, as bytes."""
        words = {**TASKS[self.task], "EVAL.CHECKPOINT_DIR": "checkpoint", "EVAL.BACKEND": "eager", "MISC.DEVICE": "cpu"}
        words |= {key.replace("__", "."): value for key, value in settings.items()}
        place = ("--cfg_file", "run.yaml", "--output_dir", out)
        assert in_process(f"eval_{self.task}", *place, "--opts", *words_of(words)) == 0
        name = "margins.npy" if self.task == "retrieval" else "predictions.npy"
        return (self.root / out / name).read_bytes()

    def change_config(self):
        path = self.root / "checkpoint" / "config.json"
        config = json.loads(path.read_text())
        path.write_text(json.dumps({**config, "num_attention_heads": config["num_attention_heads"] // 2}))

    def change_weights(self):
        from oscar_paddle.models.checkpoints.weights import read_state

        path = self.root / "checkpoint" / "model.safetensors"
        state = load_file(path) if path.exists() else read_state(self.root / "checkpoint")
        save_file({name: np.ascontiguousarray(value * np.float32(1.1)) for name, value in state.items()}, path)

    def change_words(self):
        """The vocabulary in another order: another id for every word."""
        path = self.root / "checkpoint" / "vocab.txt"
        words = path.read_text().splitlines()
        first = next(number for number, word in enumerate(words) if word.isalpha())
        path.write_text("\n".join(words[:first] + words[first:][::-1]) + "\n")

    def change_features(self):
        """One value of every image."""
        if self.task != "retrieval":
            for path in (self.root / self.task).glob("*_img_frcnn_feats.pt"):
                self._change_dictionary(path)
            return
        path = self.root / "model_0060000" / "features.tsv"

        def change(fields):
            regions = features(fields)
            regions[0, 7] += 2
            store(fields, regions)

        change_rows(path, change)

    def _change_dictionary(self, path):
        from oscar_paddle.datasets.formats import torch_files

        folder = path.with_suffix("")  # the same images, one file each
        folder.mkdir()
        for key, values in torch_files.load(path).items():
            changed = np.array(values, np.float32)
            changed[0, 7] += 2
            np.save(folder / f"{key}.npy", changed)
        path.unlink()
        path.with_suffix(".tsv").unlink(missing_ok=True)


@pytest.fixture
def evaluation(request, repository, tmp_path, monkeypatch):
    return Evaluation(request.param, tmp_path, repository / "tests" / "golden" / request.param, monkeypatch)


@pytest.mark.parametrize("what", ["config", "weights", "words", "features"])
@pytest.mark.parametrize("evaluation", TASKS, indirect=True)
def test_changed_files_are_scored_again(evaluation, what):
    before = evaluation("out")
    getattr(evaluation, f"change_{what}")()
    assert evaluation("out") == evaluation("fresh") != before


@pytest.mark.parametrize("mask_type", ["CL", "CR", "LR"])
@pytest.mark.parametrize("evaluation", ["retrieval"], indirect=True)
def test_another_mask_type_is_scored_again(evaluation, mask_type):
    before = evaluation("out")
    changed = {"INPUT__ATT_MASK_TYPE": mask_type}
    assert evaluation("out", **changed) == evaluation("fresh", **changed) != before


@pytest.mark.parametrize("evaluation", TASKS, indirect=True)
def test_other_code_is_not_trusted(evaluation, monkeypatch):
    before = evaluation("out")
    path = next(path for path in (evaluation.root / "out").glob("*.npy"))
    marked = np.load(path)
    marked[0, 1] = 77.0
    np.save(path, marked)
    monkeypatch.setattr("oscar_paddle.solvers.scoring.evaluation.code_version", lambda: "another")
    assert evaluation("out") == before


def test_the_version_follows_the_models_code(repository, tmp_path, monkeypatch):
    """Not that of tools or of tests."""
    for part in ("models", "solvers", "datasets", "tools"):
        shutil.copytree(repository / part, tmp_path / part, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(code_version, "_ROOT", tmp_path)
    found = [code_version.code_version.__wrapped__()]
    changed = ("tools/eval_vqa.py", "models/heads.py", "models/checkpoints/weights.py", "solvers/scoring/examples.py")
    for name in (*changed, "datasets/tensorize.py"):
        (tmp_path / name).write_text((tmp_path / name).read_text() + "\n# changed\n")
        found.append(code_version.code_version.__wrapped__())
    assert found[0] == found[1] and len(set(found)) == len(found) - 1


@pytest.mark.parametrize("evaluation", TASKS, indirect=True)
def test_unchanged_files_are_not(evaluation):
    """Results that nobody could have computed stay."""
    evaluation("out")
    path = next(path for path in (evaluation.root / "out").glob("*.npy"))
    marked = np.load(path)
    marked[0, 1] = 77.0
    np.save(path, marked)
    assert evaluation("out") == path.read_bytes()
