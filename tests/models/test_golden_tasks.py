"""Parity with the reference PyTorch implementation on VQA, GQA and NLVR2 (tests/golden/<task>/README.md)."""

import json
import shutil
from typing import NamedTuple

import numpy as np
import paddle
import pytest
from padded import padded

from oscar_paddle.config.errors import DataError
from oscar_paddle.models.losses import classification_losses
from oscar_paddle.models.packing import pack
from oscar_paddle.solvers.build import load_tokenizer, model_for_evaluation, model_for_training
from oscar_paddle.solvers.optimizer import build_optimizer, clip_gradients, global_norm, group_of
from oscar_paddle.solvers.ranks import Ranks
from oscar_paddle.solvers.scheduler import learning_rate
from oscar_paddle.solvers.scoring.backends import EagerBackend
from oscar_paddle.solvers.scoring.run import score_in_memory
from oscar_paddle.solvers.tasks.gqa import GqaTask, gqa_results
from oscar_paddle.solvers.tasks.nlvr2 import Nlvr2Task
from oscar_paddle.solvers.tasks.questions import QuestionEvaluation
from oscar_paddle.solvers.tasks.task import Head, Recipe
from oscar_paddle.solvers.tasks.vqa import VqaTask, vqa_results
from oscar_paddle.tools.shell.command_line import load_task_config


class Case(NamedTuple):
    """One model on one set of inputs: golden folder, kind, checkpoint folder, settings, names of the arrays."""

    task: str
    kind: object
    checkpoint: str
    opts: tuple
    inputs: str
    outputs: str


ALL_FILES = ("DATASET.DATA_LABEL_TYPE", "all", "DATASET.EVAL_DATA_TYPE", "all")
GQA_FILES = ("DATASET.DATA_LABEL_TYPE", "all", "OPTIMIZATION.LOSS_TYPE", "xe")
NO_TAGS = ("INPUT.ADD_OD_LABEL", "False")
PAIR_HEADS = {"checkpoint": "mlp_layernorm", "checkpoint_linear": "linear", "checkpoint_mlp_v1": "mlp_no_layernorm"}

VQA_CASE = Case("vqa", VqaTask, "checkpoint", ("OPTIMIZATION.LOSS_TYPE", "bce"), "{split}", "{split}")
VQA_TEXT_ONLY = VQA_CASE._replace(
    opts=(*VQA_CASE.opts, *NO_TAGS), inputs="{split}_vqa_text_a", outputs="{split}_vqa_text_a_first64"
)
GQA_CASE = Case("gqa", GqaTask, "checkpoint", GQA_FILES, "{split}", "{split}")
NLVR2_CASES = [
    Case(
        "nlvr2",
        Nlvr2Task,
        checkpoint,
        (*ALL_FILES, "INPUT.USE_PAIR", str(pair), *(() if tags else NO_TAGS)),
        f"{form}_{words}_{{split}}",
        f"{form}_{head}_{words}_{{split}}",
    )
    for tags, words in ((False, "without_tags"), (True, "with_tags"))
    for pair, form, checkpoint, head in (
        *((True, "pair", *item) for item in PAIR_HEADS.items()),
        (False, "single", "checkpoint_single", "linear"),
    )
]
EVALUATIONS = [
    *((VQA_CASE, split) for split in ("val", "test2015")),
    (VQA_TEXT_ONLY, "val"),
    *((GQA_CASE, split) for split in ("val", "test-dev", "test")),
    *((case, split) for case in NLVR2_CASES for split in ("val", "test1")),
]


@pytest.fixture(scope="module")
def tasks_golden(repository):
    return repository / "tests" / "golden"


@pytest.fixture(scope="module")
def configure(tasks_golden, tmp_path_factory):
    """Function: Case and more --opts words -> the golden set's settings, frozen."""
    folder = tmp_path_factory.mktemp("tasks")
    (folder / "golden.yaml").write_text("{}")

    def configure(case, *more):
        root = tasks_golden / case.task
        lengths = json.loads((root / "expected.json").read_text())["settings"]
        words = [
            "INPUT.MAX_SEQ_LEN",
            lengths["max_seq_length"],
            "INPUT.MAX_REGION",
            lengths["max_img_seq_length"],
            "INPUT.IMG_FEATURE_TYPE",
            "faster_r-cnn",
            "DATASET.DATA_DIR",
            root / case.task,
            "DATASET.CACHE_DIR",
            folder / "cache",
            "EVAL.CHECKPOINT_DIR",
            root / case.checkpoint,
            "PRETRAINED.DIR",
            root / case.checkpoint,
            "DATASET.DEV",
            "val",
            "DATASET.TEST",
            "val",
        ]
        return load_task_config(
            folder / "golden.yaml", [str(w) for w in (*words, *case.opts, *more)], f"eval_{case.task}"
        )

    return configure


def data_and_model(cfg, kind, split):
    tokenizer = load_tokenizer(cfg, cfg.EVAL.CHECKPOINT_DIR)
    return kind.build_data(cfg, tokenizer, split), model_for_evaluation(cfg, tokenizer, kind(cfg).model_class())


def predict(cfg, kind, data, model, batch_tokens=600):
    """(classes, logits) of the split, as evaluation makes them."""
    evaluation = QuestionEvaluation(cfg, data=data, split="", task=kind(cfg))
    scorer = evaluation.scorer_class(EagerBackend(model), data, batch_tokens)
    scores = score_in_memory(scorer, evaluation.groups(), Ranks())
    return scores[:, 0].astype(int), scores[:, 1]


def wanted_of(tasks_golden, case):
    root = tasks_golden / case.task
    return json.loads((root / "expected.json").read_text()), np.load(root / "expected_arrays.npz")


def assert_same_inputs(batch, arrays, name, max_seq_len):
    """The padded rows of the reference."""
    rows = {key: arrays[f"{name}_{key}"] for key in ("input_ids", "token_type_ids", "attention_mask")}
    rows = {key: value.reshape(-1, value.shape[-1]) for key, value in rows.items()}
    found = padded(batch, "CLR", max_seq_len, rows["attention_mask"].shape[1] - max_seq_len)
    for key, value in rows.items():
        np.testing.assert_array_equal(found[key], value)
    if f"{name}_img_feat_row_sum" in arrays:
        sums = arrays[f"{name}_img_feat_row_sum"].reshape(len(found["img_feats"]), -1)
        np.testing.assert_allclose(found["img_feats"].sum(axis=2, dtype=np.float64), sums, atol=1e-6)


@pytest.mark.parametrize(("case", "split"), EVALUATIONS, ids=lambda value: getattr(value, "outputs", value))
def test_inputs_and_logits(configure, tasks_golden, case, split):
    cfg = configure(case)
    _, arrays = wanted_of(tasks_golden, case)
    data, model = data_and_model(cfg, case.kind, split)
    batch = data.batch(np.arange(data.num_examples))
    assert_same_inputs(batch, arrays, case.inputs.format(split=split), cfg.INPUT.MAX_SEQ_LEN)
    with paddle.no_grad():
        logits = model(pack(batch)).numpy()
    wanted = arrays[f"{case.outputs.format(split=split)}_logits"]
    np.testing.assert_allclose(logits[:, : wanted.shape[1]], wanted, atol=2e-5)
    predicted, values = predict(cfg, case.kind, data, model, 200)
    assert predicted.tolist() == logits.argmax(axis=1).tolist()
    np.testing.assert_allclose(values, logits.max(axis=1), atol=2e-5)


def batch_losses(model, data, kind, batches, loss_type):
    """The mean loss of each of the reference's evaluation batches."""
    losses = []
    for examples in batches:
        targets = (data.soft_targets if kind.has_soft_targets else data.labels)(examples)
        with paddle.no_grad():
            logits = model(pack(data.batch(examples)))
        losses.append(float(classification_losses(logits, paddle.to_tensor(targets), loss_type).mean()))
    return losses


def test_vqa_evaluation(configure, tasks_golden):
    expected, arrays = wanted_of(tasks_golden, VQA_CASE)
    cfg = configure(VQA_CASE)
    data, model = data_and_model(cfg, VqaTask, "val")
    wanted = expected["splits"]["val"]
    np.testing.assert_array_equal(data.soft_targets(np.arange(data.num_examples)), arrays["val_targets"])
    predicted, _ = predict(cfg, VqaTask, data, model)
    assert predicted.tolist() == [example["predicted_class"] for example in wanted["examples"]]
    assert [data.answers[c] for c in predicted] == [example["predicted_answer"] for example in wanted["examples"]]
    assert data.examples.numbers.tolist() == [example["json_row"] for example in wanted["examples"]]
    assert VqaTask.metrics(data, predicted)["score"] == pytest.approx(wanted["score"], abs=1e-6)
    for loss_type, block in (("bce", wanted), ("kl", expected["kl"])):
        batches = [batch["example_indices"] for batch in block["batches"]]
        losses = batch_losses(model, data, VqaTask, batches, loss_type)
        assert losses == pytest.approx([batch["loss"] for batch in block["batches"]], rel=1e-5)


def test_vqa_results_file(configure, tasks_golden):
    expected, _ = wanted_of(tasks_golden, VQA_CASE)
    cfg = configure(VQA_CASE)
    data, model = data_and_model(cfg, VqaTask, "test2015")
    predicted, _ = predict(cfg, VqaTask, data, model)
    found = vqa_results(data.examples.question_ids, [data.answers[c] for c in predicted])
    assert found == expected["splits"]["test2015"]["results_file"]


@pytest.mark.parametrize("split", ["val", "test2015"])
def test_rows_with_an_offset_map_give_the_same_inputs(configure, tasks_golden, tmp_path, split):
    cfg = configure(VQA_CASE)
    data, _ = data_and_model(cfg, VqaTask, split)
    for ending in (".tsv", "_offset_map.json"):
        name = f"{split}_img_frcnn_feats{ending}"
        shutil.copy(tasks_golden / "vqa" / "vqa" / name, tmp_path / name)
    cfg = configure(VQA_CASE, "DATASET.FEAT_FILE", tmp_path)
    rows, _ = data_and_model(cfg, VqaTask, split)
    assert type(rows.regions).__name__ == "OffsetMapFeatures"
    examples = np.arange(data.num_examples)
    for key, value in data.batch(examples).items():
        np.testing.assert_array_equal(rows.batch(examples)[key], value)


@pytest.mark.parametrize("split", ["val", "test-dev"])
def test_gqa_evaluation(configure, tasks_golden, split):
    expected, _ = wanted_of(tasks_golden, GQA_CASE)
    cfg = configure(GQA_CASE)
    data, model = data_and_model(cfg, GqaTask, split)
    wanted = expected["splits"][split]
    predicted, _ = predict(cfg, GqaTask, data, model)
    assert predicted.tolist() == [example["predicted_class"] for example in wanted["examples"]]
    assert data.all_labels().tolist() == [example["target_class"] for example in wanted["examples"]]
    assert GqaTask.metrics(data, predicted)["accuracy"] == pytest.approx(wanted["accuracy"], abs=1e-6)
    losses = batch_losses(model, data, GqaTask, [b["example_indices"] for b in wanted["batches"]], "xe")
    assert losses == pytest.approx([batch["loss"] for batch in wanted["batches"]], rel=1e-5)


def test_gqa_results_file_keeps_leading_zeros(configure, tasks_golden):
    expected, _ = wanted_of(tasks_golden, GQA_CASE)
    cfg = configure(GQA_CASE)
    data, model = data_and_model(cfg, GqaTask, "test")
    predicted, _ = predict(cfg, GqaTask, data, model)
    found = gqa_results(data.examples.question_ids, [data.answers[c] for c in predicted])
    assert "07333408" in data.examples.question_ids
    upstream = [{**entry, "questionId": str(int(entry["questionId"]))} for entry in found]
    assert upstream == expected["splits"]["test"]["results_file"]


@pytest.mark.parametrize("case", NLVR2_CASES, ids=lambda case: case.outputs)
def test_nlvr2_evaluation(configure, tasks_golden, case):
    expected, _ = wanted_of(tasks_golden, case)
    head = case.outputs.split("_with")[0]
    tags = "with_tags" if "with_tags" in case.outputs else "without_tags"
    for split in ("val", "test1"):
        cfg = configure(case)
        data, model = data_and_model(cfg, case.kind, split)
        wanted = expected["heads"][head][tags][split]
        predicted, _ = predict(cfg, case.kind, data, model)
        assert (predicted.tolist(), data.all_labels().tolist()) == (wanted["predicted"], wanted["labels"])
        assert case.kind.metrics(data, predicted)["accuracy"] == pytest.approx(wanted["accuracy"], abs=1e-6)
        losses = batch_losses(model, data, case.kind, [b["example_indices"] for b in wanted["batches"]], "xe")
        assert losses == pytest.approx([batch["loss"] for batch in wanted["batches"]], rel=1e-5)


def nlvr2_trace(head, tags):
    words = "with_tags" if tags else "without_tags"
    return next(case for case in NLVR2_CASES if case.outputs == f"{head}_{words}_{{split}}")


TRACES = [
    (VQA_CASE, "train", "train_after_val_logits"),
    (VQA_CASE, "train_kl", "train_kl_after_val_first64_logits"),
    (VQA_CASE, "train_accumulate", "train_accumulate_after_val_first64_logits"),
    (GQA_CASE, "train", "train_after_val_logits"),
    *(
        (
            nlvr2_trace(head, tags),
            f"train_{head}{'_with_tags' * tags}",
            f"{head}_train{'_with_tags' * tags}_after_val_logits",
        )
        for head, tags in (
            ("pair_mlp_layernorm", False),
            ("pair_mlp_layernorm", True),
            ("pair_linear", False),
            ("pair_mlp_no_layernorm", False),
            ("single_linear", False),
        )
    ),
]


@pytest.mark.parametrize(("case", "trace", "after"), TRACES, ids=lambda value: value if isinstance(value, str) else "")
def test_training_trace(configure, tasks_golden, case, trace, after):
    """Losses, gradient norms, rates, final parameters and predictions of a whole run of the reference."""
    expected, arrays = wanted_of(tasks_golden, case)
    wanted = expected[trace]
    s = wanted["settings"]
    cfg = configure(
        case,
        "OPTIMIZATION.LOSS_TYPE",
        s["loss_type"],
        "OPTIMIZATION.LR",
        s["learning_rate"],
        "OPTIMIZATION.WARMUP_STEPS",
        s["warmup_steps"],
        "OPTIMIZATION.WEIGHT_DECAY",
        s["weight_decay"],
        "OPTIMIZATION.CLIP_MAX_NORM",
        s["max_grad_norm"],
        "OPTIMIZATION.DROPOUT",
        "0",
        "OPTIMIZATION.ATTENTION_DROPOUT",
        "0",
        "OUTPUT.CLASSIFIER",
        s["classifier"],
        "OUTPUT.CLS_HIDDEN_SCALE",
        s["cls_hidden_scale"],
    )
    tokenizer = load_tokenizer(cfg, cfg.PRETRAINED.DIR)
    data = case.kind.build_data(cfg, tokenizer, "train")
    head = {"num_labels": data.num_classes, "classifier": s["classifier"], "cls_hidden_scale": s["cls_hidden_scale"]}
    task = case.kind(cfg, data)
    model = model_for_training(cfg, tokenizer, Head(task.model_class(), head))
    replay(model, task, cfg, wanted)
    check_parameters(model, wanted)
    model.eval()
    val = case.kind.build_data(cfg, tokenizer, "val")
    with paddle.no_grad():
        logits = model(pack(val.batch(np.arange(val.num_examples)))).numpy()
    np.testing.assert_allclose(logits[:, : arrays[after].shape[1]], arrays[after], atol=2e-3)
    predicted, _ = predict(cfg, case.kind, val, model)
    assert predicted.tolist() == wanted["after_val_predictions"]
    score = case.kind.metrics(val, predicted)[case.kind.score]
    assert score == pytest.approx(wanted["eval_metric_per_epoch"][-1], abs=1e-6)


def replay(model, task, cfg, wanted):
    """The recorded steps, with accumulation as upstream: clipped after every backward, left-overs join the next."""
    optimizer = build_optimizer(model, cfg.OPTIMIZATION, task.recipe)
    parameters = [p for p in model.parameters() if not p.stop_gradient]
    divisor = wanted["settings"].get("gradient_accumulation_steps", 1)
    total = wanted["optimizer_steps"]
    model.train()
    for number, step in enumerate(wanted["steps"], 1):
        for micro in step.get("batches", [step]):
            batch = task.batch(np.array(micro["example_indices"]), 0)
            loss = task.losses(model, batch)["answer"] / task.counts(batch)["answer"]
            (loss / divisor).backward()
            norm = float(global_norm(parameters))
            assert float(loss) == pytest.approx(micro["loss"], rel=1e-4)
            assert norm == pytest.approx(micro["grad_norm"], rel=1e-4)
            clip_gradients(parameters, task.recipe.clip, cfg.OPTIMIZATION.CLIP_MAX_NORM, norm)
        lr = learning_rate(number, cfg.OPTIMIZATION, task.recipe, total)
        assert lr == pytest.approx(step["lr"], abs=1e-9)
        optimizer.update(lr)
        optimizer.clear_grad()


def check_parameters(model, wanted):
    named = [(name, p) for name, p in model.named_parameters() if not name.endswith("attention.self.key.bias")]
    assert [name for name, _ in named if group_of(name, Recipe().groups).decays] == wanted["weight_decayed_parameters"]
    for name, parameter in named:
        values = parameter.numpy().astype(np.float64)
        assert np.linalg.norm(values) == pytest.approx(wanted["final_param_l2"][name], abs=1e-4), name
        assert values.sum() == pytest.approx(wanted["final_param_sum"][name], abs=1e-3), name


@pytest.mark.parametrize("case", {case.task: case for case, split in EVALUATIONS if split == "val"}.values())
def test_ids_beyond_a_table_are_refused(configure, tasks_golden, case):
    """In training and in evaluation, with the record that has them."""
    cfg = configure(case)
    data, model = data_and_model(cfg, case.kind, "val")
    data.sentence_tokens.ids = np.array(data.sentence_tokens.ids)
    first = data.sentence_tokens.starts(np.array([2]))[0]
    data.sentence_tokens.ids[first] = model.config.vocab_size
    task = case.kind(cfg, data)
    task.batch(np.arange(3), 0)  # there is no model yet
    task.model_config = model.config
    words = f"record {data.examples.numbers[2]}: input_ids hold {model.config.vocab_size}, but the model's table has"
    with pytest.raises(DataError, match=words):
        task.batch(np.arange(3), 0)
    with pytest.raises(DataError, match=words):
        predict(cfg, case.kind, data, model)
