"""What stands around pre-training: its measuring tool, starting weights, comparison of evaluations, make target."""

import json
import subprocess

import numpy as np
import pytest
import starting
from safetensors.numpy import load_file


@pytest.mark.slow
def test_bench():
    """On a tiny model: both ways have the same loss, and waiting for data is told."""
    sizes = {"--layers": 1, "--width": 64, "--rows": 4, "--parts": 2, "--rounds": 1}
    done = starting.run(["tools/bench_pretraining.py", *starting.words_of(sizes)])
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert result["loss"] > 5 and result["loss_difference"] < 1e-4
    speed = result["rows_per_second"]
    assert result["ratio"] == pytest.approx(speed["ours"] / speed["published"])
    assert len(result["updates_in_a_row"]) == 2
    assert all(0 <= update["waited_for_data"] < update["seconds"] for update in result["updates_in_a_row"])


def test_starting_weights(golden, tmp_path, capfd):
    """Those of a seed, with both heads; nothing is overwritten."""
    made = {}
    for name, words in (("a", ()), ("b", ()), ("c", ("--seed", 2)), ("d", ("--alike",))):
        words = ("--config", golden / "checkpoint", "--output", tmp_path / name, *words)
        code, _, said = starting.said_in_process(capfd, "make_start", *words)
        assert code == 0, said
        made[name] = load_file(tmp_path / name / "model.safetensors")
    query, key = (f"bert.encoder.layer.0.attention.self.{part}.weight" for part in ("query", "key"))
    assert np.array_equal(made["a"][query], made["b"][query]) and not np.array_equal(made["a"][query], made["c"][query])
    assert np.array_equal(made["d"][query], made["d"][key]) and not np.array_equal(made["a"][query], made["a"][key])
    assert made["a"]["cls.seq_relationship.weight"].shape[0] == 3 and (tmp_path / "a" / "vocab.txt").is_file()
    code, _, said = starting.said_in_process(capfd, "make_start", *words)
    assert code == 2 and f"{tmp_path / 'd'}: is there already" in said


def test_comparison(tmp_path, capfd):
    """Means, and the difference in standard errors, worked by hand."""
    for name, text, image in (("a1", 0.6, 0.5), ("a2", 0.8, 0.5), ("b1", 0.3, 0.5), ("b2", 0.3, 0.5)):
        (tmp_path / name).mkdir()
        found = {"i2t_retrieval": {"R@1": text}, "t2i_retrieval": {"R@1": image}}
        (tmp_path / name / "metrics.json").write_text(json.dumps(found))
    words = ("--first", tmp_path / "a1", tmp_path / "a2", "--second", tmp_path / "b1", tmp_path / "b2")
    code, out, _ = starting.said_in_process(capfd, "compare_evaluations", *words)
    assert code == 0
    assert out.splitlines() == [  # variances 200 and 0 (in points), so an error of sqrt(200 / 2) = 10
        "text retrieval R@1: 70.0 (60.0, 80.0) against 30.0 (30.0, 30.0): +40.0 points, 4.0 standard errors",
        "image retrieval R@1: 50.0 (50.0, 50.0) against 50.0 (50.0, 50.0): +0.0 points, no spread",
    ]
    code, _, said = starting.said_in_process(capfd, "compare_evaluations", *words[:2], *words[3:])
    assert code == 2 and "--first: at least two folders" in said
    (tmp_path / "b1" / "metrics.json").write_text("{}")
    code, _, said = starting.said_in_process(capfd, "compare_evaluations", *words)
    assert code == 1 and "metrics.json: no i2t_retrieval.R@1" in said


def test_quickstart_gives_both_ways_the_same_start_and_steps(repository, tmp_path):
    """What make would do: three seeds; the two fine-tuning runs of a seed differ in weights only; no test data."""
    (tmp_path / ".installed").touch()
    words = ["make", "-n", "-C", repository, f"VENV={tmp_path}", f"ROOT={tmp_path / 'root'}", "quickstart-pretraining"]
    done = subprocess.run(list(map(str, words)), text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.replace("\\\n", " ").splitlines()
    tuning = [line.split() for line in lines if "train_retrieval.py" in line]
    before = {opts(line)["OUTPUT.SAVE_NAME"]: opts(line) for line in tuning}
    assert set(before) == {f"{way}-{seed}" for way in ("with", "without") for seed in (1, 2, 3)}
    for seed in "123":
        first, second = before[f"with-{seed}"], before[f"without-{seed}"]
        assert {key for key in first if first[key] != second[key]} == {"OUTPUT.SAVE_NAME", "PRETRAINED.DIR"}
        (pretraining,) = [
            opts(line.split()) for line in lines if "train_pretraining" in line and f"pre-{seed} " in line
        ]
        assert pretraining["PRETRAINED.DIR"] == second["PRETRAINED.DIR"] and first["MISC.SEED"] == seed
        assert first["PRETRAINED.DIR"].endswith(f"/pre-{seed}/last")
    corpora = [line.split() for line in lines if "prepare_corpus.py" in line]
    assert [line[-1] for line in corpora] == ["train", "minival"]
    assert "compare_evaluations" in done.stdout and "s in all" in done.stdout


def opts(words):
    """{key: value} of what stands behind --opts."""
    words = words[words.index("--opts") + 1 :]
    return dict(zip(words[::2], words[1::2], strict=True))
