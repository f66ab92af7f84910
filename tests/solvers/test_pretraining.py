"""Pre-training runs: several processes are one, kills leave no trace, checkpoints go everywhere."""

import json
import shutil
import signal
import subprocess
import time

import numpy as np
import pytest
import starting
from runs import assert_equal_but_for_rounding, records, values
from safetensors.numpy import load_file, save_file

from oscar_paddle.models.checkpoints.weights import read_state, to_state
from oscar_paddle.models.oscar import OscarForClassification
from oscar_paddle.solvers.build import load_tokenizer, model_for_training
from oscar_paddle.solvers.tasks.pretraining import PretrainingTask
from oscar_paddle.solvers.tasks.task import Head
from oscar_paddle.tools.shell.command_line import load_task_config

SETTINGS = """
INPUT: {MAX_SEQ_LEN: 35, MAX_REGION: 6, IMG_FEATURE_TYPE: faster_r-cnn}
DATASET: {NAME: golden, DATA_DIR: %(data)s, CACHE_DIR: %(cache)s}
CORPUS: {DATASET_FILE: corpus/main.yaml, DEV_DATASET_FILE: corpus/extra.yaml, TEXTB_SAMPLE_MODE: 1,
  TEXTA_FALSE_PROB: 0.25, MATCHING_CAPTIONS: 3, MEAN_OVER: update}
OUTPUT: {SAVE_STEPS: 3, SAVE_FREQ: 0}
OPTIMIZATION: {GLOBAL_BATCH_SIZE: 8, MAX_STEPS: 6, LR: 1.0e-4, WARMUP_STEPS: 2, WEIGHT_DECAY: 0.01, CLIP_MAX_NORM: 10.0,
  DROPOUT: 0.0, ATTENTION_DROPOUT: 0.0}
MONITOR: {PRINT_STEP: 2, EVAL_FREQ: 0, EVAL_STEPS: 3}
PRETRAINED: {DIR: %(golden)s/checkpoint, RESUME: auto}
MISC: {SEED: 7, NUM_WORKERS: 1, DEVICE: cpu, NUM_THREADS: 1}
"""
TWO_CORPORA = ("CORPUS.EXTRA_DATASET_FILE", "corpus/extra.yaml", "CORPUS.EXTRA_LOSS_WEIGHT", 0.3)
DROPOUT = ("OPTIMIZATION.DROPOUT", 0.1, "OPTIMIZATION.ATTENTION_DROPOUT", 0.1)
NO_EVALUATION = ("MONITOR.EVAL_STEPS", 0)


class Runs:
    """Starts tools/train_pretraining.py on the golden corpus."""

    def __init__(self, folder, golden):
        self.folder, self.golden = folder, golden
        shutil.copytree(golden / "data", folder / "data")
        self.cfg_file = folder / "run.yaml"
        places = {"data": folder / "data", "cache": folder / "cache", "golden": golden}
        self.cfg_file.write_text(SETTINGS % places)

    def words(self, run, *opts):
        return (
            "--cfg_file",
            self.cfg_file,
            "--opts",
            "OUTPUT.CHECKPOINT_DIR",
            run.parent,
            "OUTPUT.SAVE_NAME",
            run.name,
            *opts,
        )

    def here(self, capfd, run, *opts):
        """In this process: (exit code, what it said on stderr)."""
        code, _, said = starting.said_in_process(capfd, "train_pretraining", *self.words(run, *opts))
        return code, said

    def start(self, run, processes, *opts):
        """As a process, or several."""
        before = starting.launcher(processes, f"{run}-log") if processes > 1 else ()
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        return starting.start(["tools/train_pretraining.py", *self.words(run, *opts)], before, **pipes)


@pytest.fixture(scope="module")
def runs(repository, tmp_path_factory):
    return Runs(tmp_path_factory.mktemp("pretraining"), repository / "tests" / "golden" / "pretraining")


@pytest.fixture(scope="module")
def single(runs):
    """Six updates of 8 triples in one process."""
    run = runs.folder / "single"
    assert starting.in_process("train_pretraining", *runs.words(run)) == 0
    return run


def finish(process, seconds=300):
    output, _ = process.communicate(timeout=seconds)
    assert process.returncode == 0, output
    return output


@pytest.mark.parametrize("processes", [2, 4])
def test_processes_are_one_batch_where_the_mean_is_over_the_update(runs, single, tmp_path, processes):
    finish(runs.start(tmp_path / "run", processes))
    assert_equal_but_for_rounding(tmp_path / "run", single, runs.golden / "checkpoint")


def test_means_of_batches_are_those_of_micro_batches_cut_alike(runs, single, tmp_path, capfd):
    """Two processes, or two micro-batches of one; a mean over each is another loss than one over both."""
    by_batch = ("CORPUS.MEAN_OVER", "batch", *TWO_CORPORA, *NO_EVALUATION)
    process = runs.start(tmp_path / "two", 2, *by_batch)
    code, said = runs.here(capfd, tmp_path / "cut", *by_batch, "OPTIMIZATION.GRADIENT_ACCUMULATION_STEPS", 2)
    assert code == 0, said
    finish(process)
    assert_equal_but_for_rounding(tmp_path / "two", tmp_path / "cut", runs.golden / "checkpoint")
    code, said = runs.here(capfd, tmp_path / "whole", *by_batch)
    assert code == 0, said
    losses = [values(tmp_path / name, "loss")[1] for name in ("cut", "whole")]
    assert losses[0] != pytest.approx(losses[1], rel=1e-4)


def test_a_killed_run_ends_like_an_unbroken_one(runs, tmp_path):
    """kill -9, two corpora, dropout, accumulation: the same losses and weights, bit for bit."""
    opts = (*TWO_CORPORA, *DROPOUT, "OPTIMIZATION.GRADIENT_ACCUMULATION_STEPS", 2, "OPTIMIZATION.MAX_STEPS", 30)
    opts += ("MONITOR.EVAL_STEPS", 15)
    unbroken = runs.start(tmp_path / "unbroken", 1, *opts)
    killed = runs.start(tmp_path / "run", 1, *opts)
    deadline = time.monotonic() + 120
    while not (tmp_path / "run" / "checkpoint-6").exists():
        assert time.monotonic() < deadline and killed.poll() is None
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert "training is complete" not in (tmp_path / "run" / "log.txt").read_text()
    finish(runs.start(tmp_path / "run", 1, *opts))
    finish(unbroken)
    for name in ("model.safetensors", "optimizer.safetensors"):
        assert (tmp_path / "run" / "last" / name).read_bytes() == (tmp_path / "unbroken" / "last" / name).read_bytes()
    keys = ("step", "loss", "losses", "figures", "lr", "score", "metrics")
    assert records(tmp_path / "run", keys) == records(tmp_path / "unbroken", keys)


def test_what_a_run_reports(runs, single):
    """Both losses and accuracies by name, a first rate of zero, what was waited for, held-out figures, the curves."""
    lines = [json.loads(line) for line in (single / "metrics.jsonl").read_text().splitlines()]
    steps, held_out = ([line for line in lines if key in line] for key in ("lr", "score"))
    assert [step["lr"] for step in steps] == pytest.approx([0, 5e-5, 1e-4, 7.5e-5, 5e-5, 2.5e-5])
    for step in steps:
        assert set(step["losses"]) == {"masked_words", "contrast"}
        assert set(step["figures"]) == {"masked_accuracy", "contrast_accuracy"}
        assert step["loss"] == pytest.approx(sum(step["losses"].values())) and step["waited_s"] >= 0
    assert [line["step"] for line in held_out] == [3, 6]
    assert set(held_out[0]["metrics"]["curves"]) == {"masked accuracy", "contrast accuracy", "matching R@1"}
    assert held_out[0]["score"] == -held_out[0]["metrics"]["loss"]
    log = (single / "log.txt").read_text()
    assert "masked_words " in log and "% of the time waiting for data" in log and "matching R@1" in log
    assert (single / "curves.png").stat().st_size > 10_000


def test_evaluation_is_that_of_training(runs, single, capfd):
    """And is taken again where nothing has changed, and refused where the classes are others."""
    opts = ("EVAL.CHECKPOINT_DIR", single / "last")
    words = [*runs.words(single, *opts), "--output_dir", runs.folder / "eval"]
    tool = "eval_pretraining"
    code, out, said = starting.said_in_process(capfd, tool, *words)
    assert code == 0, said
    wanted = [line["metrics"] for line in records(single) if "metrics" in line][-1]
    found = json.loads((runs.folder / "eval" / "metrics.json").read_text())
    assert found == wanted
    assert out.startswith("extra: loss ") and "(12 triples)" in out
    assert np.load(runs.folder / "eval" / "results.npy").shape == (12, 8)
    code, _, said = starting.said_in_process(capfd, tool, *words)
    assert code == 0 and "holds results of the same checkpoint" in said
    code, _, said = starting.said_in_process(capfd, tool, *runs.words(single, *opts, "CORPUS.TEXTA_FALSE_PROB", 0.0))
    assert code == 1 and "num_contrast_classes is 3, but CORPUS.TEXTA_FALSE_PROB 0 draws items of 2 classes" in said


@pytest.mark.parametrize(
    ("opts", "code", "words"),
    [
        (("CORPUS.DEV_DATASET_FILE", ""), 2, "set it to the YAML file of a corpus that is not trained on"),
        (("CORPUS.DATASET_FILE", ""), 2, "CORPUS.DATASET_FILE"),
        (("CORPUS.EXTRA_DATASET_FILE", "corpus/extra.yaml"), 2, "set EXTRA_LOSS_WEIGHT above 0"),
        (("CORPUS.CHUNK_START_ID", 5, "CORPUS.CHUNK_END_ID", 3), 2, "these choose no chunk"),
        (("CORPUS.CHUNK_END_ID", 0), 2, "these choose no chunk"),
        (("OPTIMIZATION.GRADIENT_ACCUMULATION_STEPS", 3), 2, "GLOBAL_BATCH_SIZE is 8, which 1 processes x GRADIENT"),
    ],
)
def test_settings_that_cannot_be_meant(runs, tmp_path, capfd, opts, code, words):
    found, said = runs.here(capfd, tmp_path / "run", *opts)
    assert found == code and words in said


def test_a_run_goes_on_only_with_what_decides_its_numbers(runs, single, tmp_path, capfd):
    for opts, words in (
        (("CORPUS.MEAN_OVER", "batch"), "CORPUS.MEAN_OVER) was 'update' and is 'batch'"),
        (("CORPUS.TEXTB_SAMPLE_MODE", 0), "the content of the "),
        (("OPTIMIZATION.GLOBAL_BATCH_SIZE", 4), "must stay 8 (it would be 4)"),
    ):
        code, said = runs.here(capfd, single, *opts)
        assert code == 2 and words in said, said


def test_a_checkpoint_goes_to_upstream_names_and_back(runs, single, tmp_path, capfd):
    """Both heads included: strictly, tensor by tensor."""
    for source, target, kind in ((single / "last", "torch", "pytorch"), (tmp_path / "torch", "back", "oscar-paddle")):
        words = ("--input", source, "--output", tmp_path / target, "--to", kind)
        code, _, said = starting.said_in_process(capfd, "convert_weights", *words)
        assert code == 0, said
    ours, back = (load_file(folder / "model.safetensors") for folder in (single / "last", tmp_path / "back"))
    assert ours.keys() == back.keys() and all(np.array_equal(ours[name], back[name]) for name in ours)
    assert {"cls.seq_relationship.weight", "cls.seq_relationship.bias", "cls.predictions.decoder.weight"} < ours.keys()
    assert np.array_equal(ours["cls.predictions.decoder.weight"], ours["bert.embeddings.word_embeddings.weight"])
    assert json.loads((tmp_path / "torch" / "config.json").read_text())["num_contrast_classes"] == 3
    words = [*runs.words(single, "EVAL.CHECKPOINT_DIR", tmp_path / "torch"), "--output_dir", tmp_path / "eval"]
    assert starting.said_in_process(capfd, "eval_pretraining", *words)[0] == 0


def test_it_starts_fine_tuning(runs, single, tmp_path):
    """The encoder is taken over whole, image LayerNorm included; every task brings its own head."""
    (tmp_path / "run.yaml").write_text("{}")
    opts = ["DATASET.DATA_DIR", str(tmp_path), "PRETRAINED.DIR", str(single / "last"), "MONITOR.EVAL_FREQ", "0"]
    for task, labels in (("train", 2), ("train_vqa", 17), ("train_gqa", 5)):
        cfg = load_task_config(tmp_path / "run.yaml", [*opts, "INPUT.MAX_SEQ_LEN", "35"], task)
        head = Head(OscarForClassification, {"num_labels": labels}, adds_layernorm=task == "train")
        model = model_for_training(cfg, load_tokenizer(cfg, cfg.PRETRAINED.DIR), head)
        state = read_state(single / "last")
        for name, parameter in model.bert.named_parameters():
            if "embeddings" in name or name.endswith(("bias", "LayerNorm.weight")):
                np.testing.assert_array_equal(parameter.numpy(), state[f"bert.{name}"])
        assert model.classifier.weight.shape == [32, labels] and model.config.use_img_layernorm == 1


def test_the_check_says_which_part_will_start_afresh(runs, capfd):
    for prob, words in ((0.25, f"of {runs.golden / 'checkpoint'}"), (0.0, "3: cls.seq_relationship starts afresh")):
        opts = ("--opts", "CORPUS.TEXTA_FALSE_PROB", prob)
        code, out, said = starting.said_in_process(capfd, "check_dataset", "--cfg_file", runs.cfg_file, *opts)
        assert code == 0 and words in out, (out, said)
        assert ("starts afresh" in out) == (prob == 0.0)


@pytest.mark.parametrize(("asked", "has_norm"), [(1, True), (0, False), (-1, False)])
def test_it_starts_from_any_bert(runs, tmp_path, asked, has_norm):
    """One without regions and without heads, in another language."""
    state = read_state(runs.golden / "checkpoint")
    kept = {
        n: a for n, a in state.items() if n.startswith("bert.") and not n.startswith(("bert.img", "bert.LayerNorm"))
    }
    save_file({name: np.ascontiguousarray(array) for name, array in kept.items()}, tmp_path / "model.safetensors")
    config = json.loads((runs.golden / "checkpoint" / "config.json").read_text())
    wanted = {key: value for key, value in config.items() if "img" not in key and key != "num_contrast_classes"}
    (tmp_path / "config.json").write_text(json.dumps(wanted))
    words = (runs.golden / "checkpoint" / "vocab.txt").read_text().split()
    words[-8:] = "\u4e00\u4e2a\u7ea2\u8272\u7684\u5706\u5f62\u3002"  # "a red circle."
    (tmp_path / "vocab.txt").write_text("\n".join(words), encoding="utf-8")
    opts = ["PRETRAINED.DIR", tmp_path, "PRETRAINED.USE_IMG_LAYERNORM", asked, "DATASET.CACHE_DIR", tmp_path / "cache"]
    cfg = load_task_config(runs.cfg_file, list(map(str, opts)), "train_pretraining")
    tokenizer, task = load_tokenizer(cfg, cfg.PRETRAINED.DIR), PretrainingTask(cfg)
    task.load(tokenizer)
    model = model_for_training(cfg, tokenizer, task.head())
    assert bool(model.config.use_img_layernorm) == has_norm == hasattr(model.bert, "LayerNorm")
    assert model.config.num_contrast_classes == 3
    found = to_state(model)
    assert all(np.array_equal(found[name], array) for name, array in kept.items())
    assert tokenizer.encode("\u7ea2\u8272\u7684\u5706\u5f62") == list(range(len(words) - 6, len(words) - 1))
