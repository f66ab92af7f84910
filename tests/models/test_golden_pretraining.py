"""Parity with the reference PyTorch implementation on pre-training (tests/golden/pretraining/README.md)."""

import json
import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from replayed import Replayed

from oscar_paddle.config.errors import WeightsError
from oscar_paddle.config.loader import load_config
from oscar_paddle.datasets.collate import collate
from oscar_paddle.datasets.pretraining_dataset import build_pretraining_data
from oscar_paddle.datasets.tensorize import TextRows
from oscar_paddle.models.checkpoints.weights import load_into, read_state, to_state
from oscar_paddle.models.packing import pack
from oscar_paddle.models.pretraining import OscarForPretraining
from oscar_paddle.solvers.build import load, load_tokenizer, model_for_training
from oscar_paddle.solvers.optimizer import build_optimizer
from oscar_paddle.solvers.ranks import Ranks
from oscar_paddle.solvers.tasks.pretraining import EXTRA, PretrainingTask, Triples
from oscar_paddle.solvers.trainer import Trainer

SETTINGS = """
INPUT: {MAX_SEQ_LEN: 35, MAX_REGION: 6, IMG_FEATURE_TYPE: faster_r-cnn}
OPTIMIZATION: {DROPOUT: 0.0, ATTENTION_DROPOUT: 0.0, WEIGHT_DECAY: 0.01}
CORPUS: {DATASET_FILE: corpus/main.yaml}
MONITOR: {EVAL_FREQ: 0}
MISC: {DEVICE: cpu}
"""
TRACES = {  # name -> (checkpoint, further settings); the reference's arguments are in expected.json
    "oscar_plus": ("checkpoint", ("OPTIMIZATION.WARMUP_STEPS", 2, "OPTIMIZATION.CLIP_MAX_NORM", 2.0)),
    "vanilla_accumulate": (
        "checkpoint_2way",
        ("OPTIMIZATION.GRADIENT_ACCUMULATION_STEPS", 2, "OPTIMIZATION.CLIP_MAX_NORM", 0.0),
    ),
    "two_corpora": (
        "checkpoint",
        (
            "OPTIMIZATION.CLIP_MAX_NORM",
            10.0,
            "CORPUS.EXTRA_DATASET_FILE",
            "corpus/extra.yaml",
            "CORPUS.EXTRA_LOSS_WEIGHT",
            0.3,
        ),
    ),
}


@pytest.fixture(scope="module")
def pretraining(repository, tmp_path_factory):
    """The golden set, and `configure`: checkpoint and --opts words -> config."""
    folder, place = repository / "tests" / "golden" / "pretraining", tmp_path_factory.mktemp("golden")
    shutil.copytree(folder / "data", place / "data")
    (place / "run.yaml").write_text(SETTINGS)

    def configure(checkpoint, *opts):
        words = ("DATASET.DATA_DIR", place / "data", "PRETRAINED.DIR", folder / checkpoint, *opts)
        return load_config(place / "run.yaml", [str(word) for word in words])

    return SimpleNamespace(
        folder=folder,
        expected=json.loads((folder / "expected.json").read_text()),
        arrays=dict(np.load(folder / "expected_arrays.npz")),
        configure=configure,
    )


def data_of(cfg, **options):
    corpus = cfg.CORPUS.EXTRA_DATASET_FILE if options else cfg.CORPUS.DATASET_FILE
    return build_pretraining_data(cfg, load_tokenizer(cfg, cfg.PRETRAINED.DIR), corpus, **options)


def stated_batch(pretraining, data, numbers):
    """Triples of examples as the reference made them."""
    arrays, numbers = pretraining.arrays, np.array(numbers)
    ids, types, labels = (
        arrays[f"ex_{name}"][numbers].astype(np.int64) for name in ("input_ids", "segment_ids", "lm_label_ids")
    )
    text = ids.shape[1]
    real = arrays["ex_input_mask"][numbers][:, :text] == 1
    length = real.sum(axis=1)
    rows = TextRows(ids[real], types[real], np.nonzero(real)[1], (real & (types == 0)).sum(axis=1), length)
    items = [pretraining.expected["examples"][k]["item"] for k in numbers]
    features = [data.regions[data.corpus.image[item]] for item in items]
    masked = labels[:, :text][real]
    packed = pack(collate(rows, features, np.arange(len(items))))
    places = np.flatnonzero(masked >= 0)
    return Triples(packed, places, masked[places], arrays["ex_label"][numbers].astype(np.int64))


BATCHES = [("checkpoint", 3, number) for number in range(3)] + [("checkpoint_2way", 2, number) for number in range(2)]


@pytest.mark.parametrize(("checkpoint", "classes", "number"), BATCHES)
def test_losses_and_both_heads(pretraining, checkpoint, classes, number):
    cfg, wanted = pretraining.configure(checkpoint), pretraining.expected[f"loss_{classes}way"][number]
    model = load(pretraining.folder / checkpoint, OscarForPretraining)
    batch = stated_batch(pretraining, data_of(cfg), wanted["examples"])
    name = f"loss{classes}_{number}"
    np.testing.assert_array_equal(batch.masked_labels, pretraining.arrays[f"{name}_targets"])
    words, contrast = model(*batch[:2])
    np.testing.assert_allclose(words.numpy(), pretraining.arrays[f"{name}_masked_logits"], atol=1e-4)
    np.testing.assert_allclose(contrast.numpy(), pretraining.arrays[f"{name}_contrast_logits"], atol=1e-4)
    sums, counts = PretrainingTask(cfg).losses(model, {"": batch}), PretrainingTask(cfg).counts({"": batch})
    found = {key: float(sums[key]) / counts[key] for key in ("masked_words", "contrast")}
    assert found == pytest.approx({"masked_words": wanted["mlm_loss"], "contrast": wanted["contrast_loss"]}, abs=1e-4)
    assert float(sums["masked_accuracy"]) == wanted["mlm_correct"] and counts["masked_words"] == wanted["n_masked"]
    assert float(sums["contrast_accuracy"]) == wanted["contrast_correct"] and counts["contrast"] == wanted["n"]
    if "gradient_norm_by_parameter" in wanted:
        (sums["masked_words"] / counts["masked_words"] + sums["contrast"] / counts["contrast"]).backward()
        norms = {n: float(p.grad.norm()) for n, p in model.named_parameters() if not p.stop_gradient}
        expected = {n: norm for n, norm in wanted["gradient_norm_by_parameter"].items() if n in norms}
        assert norms == pytest.approx(expected, rel=1e-3, abs=1e-6)
        row = model.bert.embeddings.word_embeddings.weight.grad[0].numpy()
        np.testing.assert_allclose(np.linalg.norm(row), wanted["pad_row_word_embedding_gradient"], rtol=1e-3)


def test_a_batch_without_a_masked_word_has_a_loss_of_zero(pretraining):
    """The reference's is NaN; the contrast loss is the same, and no gradient is missing."""
    wanted = pretraining.expected["loss_without_masked_token"]
    cfg = pretraining.configure("checkpoint")
    model, task = load(pretraining.folder / "checkpoint", OscarForPretraining), PretrainingTask(cfg)
    batch = stated_batch(pretraining, data_of(cfg), wanted["examples"])
    nothing = np.zeros(0, np.int64)
    batch = {"": batch._replace(masked_positions=nothing, masked_labels=nothing)}
    sums = task.losses(model, batch)
    assert wanted["loss"] == "nan" and task.counts(batch)["masked_words"] == 0
    assert float(sums["masked_words"]) == 0 and float(sums["masked_accuracy"]) == 0
    (sums["masked_words"] + sums["contrast"]).backward()
    assert float(model.cls.predictions.bias.grad.abs().sum()) == 0
    assert float(sums["contrast"]) / 6 == pytest.approx(wanted["contrast_loss"], abs=1e-4)


def test_another_number_of_classes_is_a_fresh_part_and_nothing_else_may_differ(pretraining, caplog, tmp_path):
    """As expected.json says of the reference: both tensors of the head, and only they."""
    wanted = pretraining.expected["loading"]
    for source, prob, kind in (
        ("checkpoint_2way", 0.25, "two_way_file_into_3_classes"),
        ("checkpoint", 0.0, "three_way_file_into_2_classes"),
        ("checkpoint", 0.25, "same"),
    ):
        caplog.clear()
        cfg = pretraining.configure(source, "CORPUS.TEXTA_FALSE_PROB", prob)
        task = PretrainingTask(cfg, data_of(cfg))
        model = model_for_training(cfg, load_tokenizer(cfg, cfg.PRETRAINED.DIR), task.head())
        state, file = to_state(model), read_state(cfg.PRETRAINED.DIR)
        assert list(state["cls.seq_relationship.weight"].shape) == wanted[kind]["head_shape"]
        differing = [name for name in file if not np.array_equal(state[name], file[name])]
        assert len(differing) == wanted[kind]["n_errors_tolerated"]
        assert all(name.startswith("cls.seq_relationship.") for name in differing)
        said = [r.getMessage() for r in caplog.records if "another number of classes" in r.getMessage()]
        assert len(said) == (1 if differing else 0)
        assert all("cls.seq_relationship.weight" in line and str(cfg.PRETRAINED.DIR) in line for line in said)
    assert wanted["other_vocab_size"] == "RuntimeError"
    file["cls.predictions.bias"] = file["cls.predictions.bias"][:-1]
    with pytest.raises(WeightsError, match=r"cls.predictions.bias \[185\] instead of \[186\]"):
        load_into(model, file, "here", OscarForPretraining.head_parts)
    for shape in ((2, 31), (2, 32)):  # another width; only one of the two tensors
        file = read_state(pretraining.folder / "checkpoint")
        file["cls.seq_relationship.weight"] = np.zeros(shape, np.float32)
        if shape[1] == 31:
            file["cls.seq_relationship.bias"] = np.zeros(2, np.float32)
        with pytest.raises(WeightsError, match="cls.seq_relationship.weight"):
            load_into(model, file, "here", OscarForPretraining.head_parts)
    other, file = (read_state(pretraining.folder / name) for name in ("checkpoint_2way", "checkpoint"))
    file |= {name: array for name, array in other.items() if name.startswith("cls.seq_relationship.")}
    with pytest.raises(WeightsError, match="cls.seq_relationship.bias"):  # an evaluation starts nothing afresh
        load_into(model, file, "")


def batches_of(trace, micro):
    """The items of the trace, batch by batch."""
    items, sizes = list(trace["items"]), [step["n"] for step in trace["micro_steps"]]
    ends = np.cumsum(sizes)
    assert ends[-1] == len(items) and len(sizes) % micro == 0
    return [items[end - size : end] for end, size in zip(ends, sizes, strict=True)]


@pytest.mark.parametrize("name", TRACES)
def test_training_trace(pretraining, name):
    """Losses, rates, norms and final weights of the reference's own run, its examples and draws replayed."""
    trace, (checkpoint, opts) = pretraining.expected["train_traces"][name], TRACES[name]
    given = trace["arguments"]
    assert trace["weight_decay"] == 0.01 and trace["start_from"] == checkpoint
    mode, prob = given["textb_sample_mode"], given["texta_false_prob"]
    opts += ("CORPUS.TEXTB_SAMPLE_MODE", mode, "CORPUS.TEXTA_FALSE_PROB", prob)
    opts += ("OPTIMIZATION.LR", given["learning_rate"], "OPTIMIZATION.MAX_STEPS", given["max_iters"])
    cfg = pretraining.configure(checkpoint, *opts)
    draws = [Replayed(each) for _, each in pretraining.expected["recorded_draws"][f"trace_{name}"]]
    task = PretrainingTask(cfg, data_of(cfg))
    if cfg.CORPUS.EXTRA_DATASET_FILE:
        task.extra = data_of(cfg, which=1, mode=given["extra_textb_sample_mode"])
    queue = list(draws)
    for data in filter(None, (task.train, task.extra)):
        data.draws = lambda *_: queue.pop(0)
    model = model_for_training(cfg, load_tokenizer(cfg, cfg.PRETRAINED.DIR), task.head())
    optimizer = build_optimizer(model, cfg.OPTIMIZATION, task.recipe)
    trainer = Trainer(model, optimizer, task, tokenizer=None, cfg=cfg, ranks=Ranks(), run_folder=None)
    micro = cfg.OPTIMIZATION.GRADIENT_ACCUMULATION_STEPS
    parts = [("", task.train)] + ([(EXTRA, task.extra)] if task.extra else [])
    batches, steps = batches_of(trace, micro * len(parts)), trace["micro_steps"]
    forwards = [
        {prefix: task._triples(data, np.array(batches[n + k]), 0) for k, (prefix, data) in enumerate(parts)}
        for n in range(0, len(batches), len(parts))
    ]
    assert not queue
    [draw.check_all_used() for draw in draws]
    for n, wanted in enumerate(trace["optimizer_steps"]):
        found = trainer.update(np.arange(1), forwards[n * micro : (n + 1) * micro])
        here = steps[n * micro * len(parts) : (n + 1) * micro * len(parts)]
        for k, (prefix, _) in enumerate(parts):
            weight = task.terms[f"{prefix}contrast"].weight / micro
            for ours, theirs in (("masked_words", "mlm_loss"), ("contrast", "contrast_loss")):
                expected = sum(step[theirs] for step in here[k :: len(parts)]) * weight
                assert found["losses"][prefix + ours] == pytest.approx(expected, abs=5e-4)
            right = sum(step["mlm_correct"] for step in here[k :: len(parts)])
            words = sum(step["n_masked"] for step in here[k :: len(parts)])
            assert found["figures"][f"{prefix}masked_accuracy"] == pytest.approx(right / words)
        assert found["lr"] == pytest.approx(wanted["lr"], abs=1e-9)
        norm = wanted["grad_norm_before_clip"] or wanted["grad_norm_used"]
        assert found["grad_norm"] == pytest.approx(norm, rel=1e-3)
    state = to_state(model)
    for which, measure in (("sum", np.sum), ("l2", np.linalg.norm)):
        for key, value in trace[f"final_param_{which}"].items():
            if not key.endswith("self.key.bias"):
                loose = 1e-2 if key == "bert.img_embedding.weight" else 2e-3
                assert measure(state[key].astype(np.float64)) == pytest.approx(value, abs=loose), key
    model.eval()
    stated = trace["stated_batch_after_training"]
    sums = task.losses(model, {"": stated_batch(pretraining, task.train, stated["examples"])})
    assert float(sums["masked_words"]) / stated["n_masked"] == pytest.approx(stated["mlm_loss"], abs=5e-4)
    assert float(sums["contrast"]) / stated["n"] == pytest.approx(stated["contrast_loss"], abs=5e-4)
