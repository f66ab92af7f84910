"""What decides the numbers of a training run, seen from outside: the tool, in this process, on the golden data."""

import json

import numpy as np
import pytest
from safetensors.numpy import load_file
from starting import in_process, words_of

from oscar_paddle.datasets.retrieval_dataset import RetrievalDataset
from oscar_paddle.solvers import training
from oscar_paddle.solvers.loss_scaler import LossScaler
from oscar_paddle.solvers.ranks import Ranks

STANDING = 1e-30  # a learning rate that moves nothing


@pytest.fixture
def train(golden, tmp_path, capfd):
    """Function: name of a run, settings -> (its folder, what it wrote to stderr)."""
    (tmp_path / "run.yaml").write_text("")

    def train(name, code=0, **settings):
        words = {
            "INPUT.MAX_SEQ_LEN": 40,
            "INPUT.MAX_REGION": 12,
            "DATASET.DATA_DIR": golden / "coco_ir",
            "DATASET.CACHE_DIR": tmp_path / "cache",
            "OUTPUT.CHECKPOINT_DIR": tmp_path,
            "OUTPUT.SAVE_NAME": name,
            "OUTPUT.SAVE_FREQ": 0,
            "OPTIMIZATION.BATCH_SIZE": 8,
            "OPTIMIZATION.LR_SCHEDULER": "constant",
            "OPTIMIZATION.LR": 0.01,
            "MONITOR.EVAL_FREQ": 0,
            "PRETRAINED.DIR": golden / "checkpoint",
            "MISC.NUM_WORKERS": 0,
            "MISC.DEVICE": "cpu",
            **{key.replace("__", "."): value for key, value in settings.items()},
        }
        capfd.readouterr()
        found = in_process("train_retrieval", "--cfg_file", tmp_path / "run.yaml", "--opts", *words_of(words))
        stderr = capfd.readouterr().err
        assert found == code, stderr
        return tmp_path / name, stderr

    return train


def records(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def state(run):
    return json.loads((run / "last" / "trainer_state.json").read_text())


# ---- clipping ----


def test_clipping_scales_the_gradient_to_the_norm(train):
    """With a large epsilon AdamW is linear in the gradient, so that the first step tells how much was clipped."""
    linear = {"OPTIMIZATION__EPSILON": 1e4, "OPTIMIZATION__WEIGHT_DECAY": 0, "OPTIMIZATION__MAX_STEPS": 1}
    linear |= {"OPTIMIZATION__LR": 1e5, "OPTIMIZATION__DROPOUT": 0, "OPTIMIZATION__ATTENTION_DROPOUT": 0}

    def step(name, max_norm):
        run, _ = train(name, **linear, OPTIMIZATION__CLIP_MAX_NORM=max_norm)
        after = load_file(run / "last" / "model.safetensors")
        return after, records(run)[0]["grad_norm"]

    before, _ = train("before", **{**linear, "OPTIMIZATION__LR": STANDING}, OPTIMIZATION__CLIP_MAX_NORM=0)
    before = load_file(before / "last" / "model.safetensors")
    free, norm = step("free", 0.0)
    moved = {name: free[name] - value for name, value in before.items()}
    assert np.sqrt(sum((change.astype(np.float64) ** 2).sum() for change in moved.values())) > 0.1
    for name, max_norm, share in (("above", 1.5 * norm, 1.0), ("half", norm / 2, 0.5), ("tenth", norm / 10, 0.1)):
        clipped, same_norm = step(name, max_norm)
        assert same_norm == norm  # reported as it was before clipping
        for key, change in moved.items():
            np.testing.assert_allclose(clipped[key] - before[key], share * change, atol=2e-6, err_msg=f"{name} {key}")


# ---- negatives ----


def test_negatives_are_drawn_anew_in_every_epoch_as_documented(train, monkeypatch):
    """Of each positive: the same image with a caption of another one, or another image with the same caption."""
    seen = []
    pairs_of = RetrievalDataset.training_pairs

    def spy(data, *args, **options):
        found = pairs_of(data, *args, **options)
        seen.append((data.num_images, *found))
        return found

    monkeypatch.setattr(RetrievalDataset, "training_pairs", spy)
    train("run", OPTIMIZATION__EPOCHS=3, OPTIMIZATION__BATCH_SIZE=15, INPUT__MAX_REGION=1, OPTIMIZATION__LR=STANDING)
    num_images, (epochs, updates) = seen[0][0], (3, len(seen) // 3)
    negatives = []
    for epoch in range(epochs):
        drawn = {}
        for _, images, captions, labels in seen[epoch * updates : (epoch + 1) * updates]:
            half = len(labels) // 2
            assert labels.tolist() == [1] * half + [0] * half
            for image, caption, other_image, other_caption in zip(
                images[:half], captions[:half], images[half:], captions[half:], strict=True
            ):
                assert caption // 5 == image != (other_caption // 5 if other_image == image else other_image)
                assert other_image == image or other_caption == caption
                drawn[int(caption)] = int(other_image), int(other_caption)
        assert sorted(drawn) == list(range(5 * num_images))
        negatives.append(drawn)
    for first, second in ((0, 1), (1, 2), (0, 2)):  # equal ones are rare: one image in 2 x 11, one caption in 2 x 55
        equal = sum(negatives[first][caption] == negatives[second][caption] for caption in negatives[first])
        assert equal < len(negatives[first]) / 4
    kept = [image == caption // 5 for drawn in negatives for caption, (image, _) in drawn.items()]
    assert 0.35 < np.mean(kept) < 0.65  # negative captions are half of all


# ---- resuming ----


def test_the_float16_loss_scale_is_resumed(train, monkeypatch):
    """The scale doubles after every second good update: what a resumed run starts with shows at its end."""
    monkeypatch.setattr(training, "check_training_precision", lambda cfg: None)  # on the CPU it computes in float32
    monkeypatch.setattr(LossScaler, "growth_interval", 2)
    settings = {"OPTIMIZATION__AMP": "fp16", "MISC__DEVICE": "auto", "OUTPUT__SAVE_STEPS": 3}
    unbroken, _ = train("unbroken", **settings, OPTIMIZATION__MAX_STEPS=6)
    first, _ = train("first", **settings, OPTIMIZATION__MAX_STEPS=3)
    assert state(first)["loss_scaler"] == {"scale": 2.0**16, "good_updates": 1, "skipped_updates": 0}
    resumed, _ = train("resumed", **settings, OPTIMIZATION__MAX_STEPS=6, PRETRAINED__RESUME=first / "last")
    assert state(resumed)["loss_scaler"] == state(unbroken)["loss_scaler"]
    assert state(resumed)["loss_scaler"]["scale"] == 2.0**18
    for name in ("model.safetensors", "optimizer.safetensors"):
        assert (resumed / "last" / name).read_bytes() == (unbroken / "last" / name).read_bytes()


@pytest.mark.parametrize("dropout", [0.0, 0.3])
def test_another_dropout_is_not_resumed(train, dropout):
    """Also where the model's config.json, which a run writes anew, would not tell."""
    first, _ = train("first", OPTIMIZATION__MAX_STEPS=1)
    with_other = {"OPTIMIZATION__DROPOUT": dropout, "OPTIMIZATION__MAX_STEPS": 2, "PRETRAINED__RESUME": first / "last"}
    _, stderr = train("second", code=2, **with_other)
    assert f"cannot be resumed exactly: OPTIMIZATION.DROPOUT was 0.1 and is {dropout}" in stderr


# ---- ranks ----


class OneOfTwo(Ranks):
    """A rank of two that hears of nobody else."""

    is_main = True  # writes its own metrics

    def __init__(self, rank):
        self.rank, self.world_size = rank, 2

    def gather(self, value):
        return [value]

    def copy_from_main(self, tensors):
        pass

    def sum_gradients(self, parameters, passengers):
        pass


def test_ranks_drop_different_values(train, monkeypatch):
    """On the same examples: equal losses without dropout, other ones with it, and the same for the same rank."""
    pairs_of = RetrievalDataset.training_pairs
    same = lambda data, examples, *args: pairs_of(data, np.arange(len(examples)), args[0], 0, *args[2:])  # noqa: E731
    monkeypatch.setattr(RetrievalDataset, "training_pairs", same)

    def losses(rank, name, dropout):
        monkeypatch.setattr(training, "Ranks", lambda: OneOfTwo(rank))
        settings = {"OPTIMIZATION__DROPOUT": dropout, "OPTIMIZATION__ATTENTION_DROPOUT": dropout}
        run, _ = train(name, **settings, OPTIMIZATION__LR=STANDING, OPTIMIZATION__MAX_STEPS=3)
        return [record["loss"] for record in records(run) if "loss" in record]

    assert losses(0, "first-exact", 0.0) == losses(1, "second-exact", 0.0)
    first, second = losses(0, "first", 0.2), losses(1, "second", 0.2)
    assert first == losses(0, "first-again", 0.2)
    assert all(a != b for a, b in zip(first, second, strict=True)) and len({*first, *second}) == 6


def test_a_checkpoint_remembers_the_device(train):
    """What else it would be resumed on is in test_resume.py."""
    run, stderr = train("run", OPTIMIZATION__MAX_STEPS=1)
    device = state(run)["settings"]["device"]
    assert device.startswith("cpu (") and f"training on {device}, float32" in stderr
