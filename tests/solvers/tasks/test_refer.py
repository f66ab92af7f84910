"""The task of referring expressions on the golden set: scores, files and recipes (tests/golden/vilbert_rec)."""

import json

import numpy as np
import pytest
from refer_case import refer_config

from oscar_paddle.datasets.tokenization import build_tokenizer
from oscar_paddle.models.checkpoints.two_streams import port_name
from oscar_paddle.models.checkpoints.weights import load_into, read_state
from oscar_paddle.models.config import read_model_config
from oscar_paddle.models.vilbert import VilbertForReferring
from oscar_paddle.solvers.build import load
from oscar_paddle.solvers.metrics.refer import expression_losses
from oscar_paddle.solvers.optimizer import build_optimizer, clip_gradients, global_norm, group_of
from oscar_paddle.solvers.ranks import Ranks
from oscar_paddle.solvers.scheduler import learning_rate
from oscar_paddle.solvers.scoring.evaluation import evaluate, evaluate_in_training
from oscar_paddle.solvers.tasks.refer import ReferTask

RECIPES = {"port": {"OPTIMIZATION__EPSILON": 1e-8}, "paper": {"OPTIMIZATION__EPSILON": 1e-6, "REFER__HEAD_LR": 0.0}}


@pytest.fixture(scope="module")
def folder(repository):
    return repository / "tests" / "golden" / "vilbert_rec"


@pytest.fixture(scope="module")
def expected(folder):
    return json.loads((folder / "expected.json").read_text())


@pytest.fixture(scope="module")
def model(folder):
    return load(folder / "checkpoint", VilbertForReferring)


@pytest.fixture
def config(repository, tmp_path):
    return lambda **opts: refer_config(repository, DATASET__CACHE_DIR=str(tmp_path / "cache"), **opts)


def evaluation(cfg, split):
    return ReferTask(cfg).evaluation(build_tokenizer(cfg.PRETRAINED.DIR, True), split)


@pytest.mark.parametrize("split", ["val", "testA", "testB", "test"])
def test_the_official_evaluation(config, expected, folder, model, tmp_path, split):
    cfg, wanted = config(DATASET__TEST=split), expected[split]
    found = evaluation(cfg, split)
    metrics = evaluate(
        cfg, found, tmp_path / "eval", Ranks(), lambda *_: found.backend(model, "eager", "float32", **OPTIONS)
    )
    assert metrics["accuracy"] == wanted["accuracy"]
    if split in expected["oracle_accuracy"]:
        assert metrics["oracle_accuracy"] == expected["oracle_accuracy"][split]
    results = json.loads((tmp_path / "eval" / f"{split}_result.json").read_text())
    assert [(each["id"], each["target"]) for each in results] == [(e["id"], e["target"]) for e in wanted["results"]]
    np.testing.assert_allclose([e["IOU"] for e in results], [e["IOU"] for e in wanted["results"]], rtol=0, atol=1e-6)
    scores = np.load(tmp_path / "eval" / "scores.npy")
    if split != "test":
        mask = np.load(folder / "expected_arrays.npz")[f"{split}_image_mask"].astype(bool)
        logits = np.load(folder / "expected_arrays.npz")[f"{split}_vision_logit"]
        columns = scores.shape[1]
        assert not mask[:, columns:].any() and (np.isfinite(scores) == mask[:, :columns]).all()
        np.testing.assert_allclose(scores[mask[:, :columns]], logits[mask], rtol=0, atol=2e-5)
    losses = expression_losses(scores, found.data.overlaps())
    batches = np.split(losses, np.cumsum(wanted["batch_size"])[:-1])
    np.testing.assert_allclose([batch.mean() for batch in batches], wanted["batch_loss"], rtol=0, atol=1e-4)
    assert evaluate_in_training(model, found, cfg, Ranks())["accuracy"] == wanted["accuracy"]


OPTIONS = {"weights": "", "programs": "", "ranks": None}


def test_annotated_boxes_never_enter_an_evaluation(config, tmp_path):
    """Not even of the training split, and not where their store is missing or damaged."""
    cfg = config(REFER__GROUND_TRUTH=str(tmp_path / "not there"))
    trained = ReferTask(config()).training_data(build_tokenizer(cfg.PRETRAINED.DIR, True))
    data = evaluation(cfg, "train").data
    assert data.ground_truth is None
    for image_id in data.image_ids():
        proposals, annotated = data.proposals[image_id].boxes, trained.ground_truth[image_id].boxes
        assert len(annotated) and len(data.rows(image_id).boxes) == 1 + len(proposals)
        assert len(trained.rows(image_id).boxes) == 1 + len(proposals) + len(annotated)


@pytest.mark.parametrize("name", ["port", "paper"])
def test_recipes_train_as_upstream_did(config, expected, folder, name):
    """The first steps: losses, accuracies before the update, and the rates of all steps."""
    plan = expected["plan"]
    options = {"LR": plan["lr"], "EPOCHS": plan["epochs"], "WEIGHT_DECAY": 0.01, "DROPOUT": 0.0}
    options = {f"OPTIMIZATION__{key}": value for key, value in options.items()}
    cfg = config(REFER__RECIPE=name, **options, **RECIPES[name])
    task, model = training_task(cfg, folder)
    port = json.loads((folder / "expected_port_recipe.json").read_text())
    steps = expected["train"]["steps"]
    numbers = {each.sent_id: number for number, each in enumerate(task.train.expressions)}
    optimizer = build_optimizer(model, cfg.OPTIMIZATION, task.recipe)
    for number, step in enumerate(steps):
        rate = learning_rate(number + 1, cfg.OPTIMIZATION, task.recipe, len(steps))
        wanted = port["steps"][number] if name == "port" else step
        assert rate == pytest.approx(wanted["lr_finetune" if name == "port" else "lr"], rel=1e-9, abs=1e-12)
        if number > 8:
            continue
        (micro,) = step["micro_batches"]
        batch = task.batch([numbers[sent_id] for sent_id in micro["sent_ids"]], 0)
        sums, count = task.losses(model, batch), task.counts(batch)["region"]
        loss = sums["region"] / count
        assert float(loss) == pytest.approx(
            port["steps"][number]["loss"] if name == "port" else micro["loss"], abs=1e-3
        )
        right = port["steps"][number]["correct"] if name == "port" else micro["score"] * count
        assert float(sums["accuracy"]) == pytest.approx(right)
        loss.backward()
        clip_gradients(optimizer._parameter_list, task.recipe.clip, 1.0, float(global_norm(optimizer._parameter_list)))
        optimizer.update(rate)
        optimizer.clear_grad()


def training_task(cfg, folder):
    """The task with its data, and the golden model as it is trained, without dropout."""
    task = ReferTask(cfg)
    task.train = task.training_data(build_tokenizer(cfg.PRETRAINED.DIR, True))
    config = read_model_config(folder / "checkpoint", VilbertForReferring.config_class)
    for key in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
        setattr(config, key, 0.0)
        setattr(config, f"v_{key}", 0.0)
    model = VilbertForReferring(config)
    load_into(model, model.upstream(read_state(folder / "checkpoint")), folder)
    model.train()
    return task, model


def test_which_parameters_decay_and_which_have_the_rate_of_the_head(config, expected, folder):
    port = json.loads((folder / "expected_port_recipe.json").read_text())
    names = list(expected["train"]["final_param_sum"])
    recipe = ReferTask(config(OPTIMIZATION__LR=4e-5)).recipe
    groups = {name: group_of(name, recipe.groups) for name in names}
    assert sorted(port_name(name) for name in names if groups[name].decays) == sorted(port["decayed"])
    fresh = sorted(name for name in names if groups[name].lr != 1)
    assert fresh == sorted(port["from_scratch_group"])
    assert {groups[name].lr for name in fresh} == {2.5}
    paper = expected["train"]["steps"][0]["weight_decay_per_tensor"]
    groups = ReferTask(config(REFER__RECIPE="paper")).recipe.groups
    assert {name: 0.01 if group_of(name, groups).decays else 0.0 for name in paper} == paper
