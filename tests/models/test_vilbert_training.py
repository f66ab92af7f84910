"""Training steps of both recipes, and the parameters that take part (tests/golden/vilbert_rec/README.md)."""

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from vilbert_golden import Golden

from oscar_paddle.models.checkpoints.weights import load_into, read_state, to_state
from oscar_paddle.models.config import read_model_config
from oscar_paddle.models.vilbert import VilbertForReferring
from oscar_paddle.solvers.optimizer import AdamW, clip_gradients
from oscar_paddle.solvers.tasks.task import Group, Recipe

# Upstream: decay is on biases and on LayerNorms of this very name, and on nothing else.
DECAYED = Group(("bias", "LayerNorm.weight"))
BERT_ADAM = Recipe(adamw="bert", groups=(DECAYED, Group((), decays=False)), schedule_first=False, clip="tensor")
NO_DROPOUT = {f"{stream}{kind}_dropout_prob": 0.0 for stream in ("", "v_") for kind in ("hidden", "attention_probs")}


@pytest.fixture(scope="module")
def golden_set(repository):
    return Golden(repository / "tests" / "golden" / "vilbert_rec")


@pytest.fixture
def model(golden_set):
    """The golden model, in training mode and without dropout."""

    folder = golden_set.folder / "checkpoint"
    config = read_model_config(folder, VilbertForReferring.config_class)
    vars(config).update(NO_DROPOUT)
    model = VilbertForReferring(config)
    load_into(model, model.upstream(read_state(folder)), folder)
    model.train()
    return model


def backward(model, golden_set, sent_ids, divided_by=1):
    """Add the gradients of one micro-batch; its loss."""
    batch, targets = golden_set.batch("train", golden_set.examples("train", sent_ids))
    scores = model(batch)
    loss = F.binary_cross_entropy_with_logits(scores, paddle.to_tensor(targets), reduction="sum") / len(sent_ids)
    (loss / divided_by).backward()
    return float(loss)


def is_key_bias(name):
    return ".key" in name and name.endswith(".bias")


def assert_same_weights(model, wanted, untied_words=False):
    """Sums and norms of a trace, but for key biases: their true gradient is zero, and theirs is rounding noise."""
    state = to_state(model)
    unlike = set(model.tied) if untied_words else set()  # the port's copy of the words stays as it was
    names = [name for name in wanted["final_param_sum"] if not is_key_bias(name) and name not in unlike]
    names = [name for name in names if name != "cls.predictions.decoder.bias"]  # the port's name, not trained
    assert len(names) > 150
    for name in names:
        value = state[name].astype(np.float64)
        assert value.sum() == pytest.approx(wanted["final_param_sum"][name], abs=2e-3), name
        assert np.linalg.norm(value) == pytest.approx(wanted["final_param_l2"][name], rel=1e-4), name


@pytest.mark.parametrize("run, accumulate", [("train", 1), ("train_accumulate2", 2)])
def test_the_papers_recipe(run, accumulate, golden_set, model):
    wanted = golden_set.expected[run]
    optimizer = AdamW(list(model.named_parameters()), weight_decay=0.01, epsilon=1e-6, recipe=BERT_ADAM)
    worst = 0.0
    for number, step in enumerate(wanted["steps"]):
        for micro in step["micro_batches"]:
            loss = backward(model, golden_set, micro["sent_ids"], accumulate)
            worst = max(worst, abs(loss - micro["loss"]))
        trained = [parameter for parameter in model.parameters() if parameter.grad is not None]
        if not number and run == "train":
            assert_same_gradients(model, step)
        clip_gradients(trained, "tensor", 1.0, 0.0)
        optimizer.update(step["lr"])
        optimizer.clear_grad(set_to_zero=False)
    print(f"{run}: largest difference of losses {worst:.2g}")
    assert worst <= 1e-3
    assert_same_weights(model, wanted)
    if run == "train":
        assert_same_evaluation(golden_set, model, golden_set.expected["val_after_training"])


def assert_same_gradients(model, step):
    """Norms of the first step, and no gradient where upstream has none."""
    gradients = {name: parameter.grad for name, parameter in model.named_parameters()}
    key_biases = set(filter(is_key_bias, gradients))
    without = {name for name, gradient in gradients.items() if gradient is None} - key_biases
    assert without == {name for name in step["no_gradient"] if name in gradients} - key_biases
    for name, norm in step["grad_norm_per_tensor"].items():
        if name not in key_biases and name in gradients and gradients[name] is not None:
            assert float(paddle.linalg.norm(gradients[name])) == pytest.approx(norm, rel=5e-3, abs=1e-4), name


@paddle.no_grad()
def assert_same_evaluation(golden_set, model, wanted):
    model.eval()
    batch, _ = golden_set.batch("val", golden_set.examples("val", wanted["sent_ids"]))
    mask = golden_set.arrays["val_image_mask"].astype(bool)
    scores = np.full(mask.shape, -np.inf)
    scores[mask] = model(batch).numpy()
    chosen = scores.argmax(axis=1)
    assert chosen.tolist() == [result["target"] for result in wanted["results"]]
    assert np.abs(scores[mask] - golden_set.arrays["val_after_training_vision_logit"][mask]).max() <= 2e-3


def test_the_ports_recipe(golden_set, model):
    wanted, batches = golden_set.port, golden_set.expected["train"]["steps"]
    factor = wanted["lr_from_scratch"] / wanted["lr_finetune"]
    head = Group(("vision_logit.bias",), lr=factor), Group(("vision_logit.",), decays=False, lr=factor)
    recipe = Recipe(adamw="corrected", groups=(*head, DECAYED, Group((), decays=False)), clip="value")
    optimizer = AdamW(list(model.named_parameters()), weight_decay=0.01, epsilon=1e-8, recipe=recipe)
    worst = 0.0
    for step, batch in zip(wanted["steps"], batches, strict=True):
        loss = backward(model, golden_set, batch["micro_batches"][0]["sent_ids"])
        worst = max(worst, abs(loss - step["loss"]))
        clip_gradients(list(model.parameters()), "value", wanted["clip_value"], 0.0)
        optimizer.update(step["lr_finetune"])
        optimizer.clear_grad(set_to_zero=False)
    print(f"port: largest difference of losses {worst:.2g}")
    assert worst <= 1e-3
    assert_same_weights(model, wanted, untied_words=True)
