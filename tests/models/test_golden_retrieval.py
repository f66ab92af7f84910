"""Parity with the reference PyTorch implementation on tiny data (tests/golden/retrieval/README.md)."""

import json

import numpy as np
import paddle
import pytest
from padded import padded

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.retrieval_dataset import build_evaluation_data, build_training_data
from oscar_paddle.models.losses import classification_losses
from oscar_paddle.models.oscar import OscarForClassification
from oscar_paddle.models.packing import pack
from oscar_paddle.solvers.build import load_tokenizer, model_for_evaluation, model_for_training
from oscar_paddle.solvers.metrics.retrieval import (
    candidate_ranks,
    image_to_text_ranks,
    retrieval_metrics,
    text_to_image_ranks,
)
from oscar_paddle.solvers.optimizer import build_optimizer, clip_gradients, global_norm
from oscar_paddle.solvers.scheduler import learning_rate
from oscar_paddle.solvers.scoring.backends import EagerBackend
from oscar_paddle.solvers.scoring.pairs import PairScorer
from oscar_paddle.solvers.scoring.rows import Block
from oscar_paddle.solvers.tasks.retrieval import RetrievalTask
from oscar_paddle.solvers.tasks.task import Recipe
from oscar_paddle.tools.shell.command_line import load_task_config

CROSS = ("cross", "cross_notags", "cross_CL", "cross_CR", "cross_LR")


@pytest.fixture(scope="module")
def expected(golden):
    return json.loads((golden / "expected.json").read_text())


@pytest.fixture(scope="module")
def arrays(golden):
    return np.load(golden / "expected_arrays.npz")


@pytest.fixture(scope="module")
def config(golden, tmp_path_factory):
    """Function of --opts words: the golden set's settings, frozen."""
    folder = tmp_path_factory.mktemp("golden")
    (folder / "golden.yaml").write_text(
        f"""
INPUT: {{MAX_SEQ_LEN: 40, MAX_REGION: 12}}
DATASET: {{DATA_DIR: {golden}/coco_ir, CACHE_DIR: {folder}/cache}}
OPTIMIZATION: {{LR: 0.002, WARMUP_STEPS: 2, MAX_STEPS: 6, WEIGHT_DECAY: 0.05, DROPOUT: 0.0, ATTENTION_DROPOUT: 0.0}}
PRETRAINED: {{DIR: {golden}/checkpoint}}
EVAL: {{CHECKPOINT_DIR: {golden}/checkpoint, EVAL_CROSS_IMAGE: true, EVAL_IMG_KEYS_FILE: test_img_keys.tsv}}
"""
    )

    def build(*opts):
        return load_task_config(str(folder / "golden.yaml"), opts, "eval")

    return build


def options_of(evaluation):
    if evaluation == "cross_notags":
        return ("INPUT.ADD_OD_LABEL", "False")
    if evaluation == "cross":
        return ()
    return ("INPUT.ATT_MASK_TYPE", evaluation.removeprefix("cross_"))


def top20(config):
    return config(
        "EVAL.EVAL_CROSS_IMAGE",
        "False",
        "EVAL.EVAL_IMG_KEYS_FILE",
        "",
        "EVAL.EVAL_CAPTION_INDEX_FILE",
        "minival_caption_indexs_top20.pt",
        "INPUT.NUM_CAPTIONS_PER_IMAGE_DEV",
        "20",
    )


def data_and_model(cfg, split):
    tokenizer = load_tokenizer(cfg, cfg.EVAL.CHECKPOINT_DIR)
    return build_evaluation_data(cfg, tokenizer, split), model_for_evaluation(cfg, tokenizer, OscarForClassification)


def score(data, model):
    scorer = PairScorer(EagerBackend(model), data, batch_tokens=600)
    return scorer.score(Block(range(data.num_images), range(scorer.num_columns)))


def pair_logits(data, model):
    """[pairs, 2] logits as training computes them, in pair-index order."""
    columns = data.candidates
    if columns is None:
        columns = np.broadcast_to(np.arange(data.num_captions), (data.num_images, data.num_captions))
    images = np.repeat(np.arange(data.num_images), columns.shape[1])
    with paddle.no_grad():
        return model(pack(data.batch(images, columns.ravel()), data.mask_type)).numpy()


def test_inputs_are_identical(config, arrays, golden):
    data = build_evaluation_data(config(), load_tokenizer(config(), f"{golden}/checkpoint"), "test")
    batch = data.batch(np.zeros(40, int), np.arange(40))  # pairs 0..39: image 0 with captions 0..39
    found = padded(batch, "CLR", 40, 12)
    for name in ("input_ids", "token_type_ids", "attention_mask"):
        np.testing.assert_array_equal(found[name], arrays[name])
    sums = found["img_feats"].sum(axis=2, dtype=np.float64)
    np.testing.assert_allclose(sums, arrays["img_feat_sum"], atol=1e-6)


@pytest.mark.parametrize("evaluation", CROSS)
def test_cross_image_evaluation(config, expected, arrays, evaluation):
    data, model = data_and_model(config(*options_of(evaluation)), "test")
    wanted, logits = expected[evaluation], arrays[f"{evaluation}_logits"]
    assert data.image_ids == wanted["img_keys"]
    np.testing.assert_allclose(pair_logits(data, model), logits, atol=2e-5)
    margins = score(data, model)
    assert margins.size == wanted["num_pairs"]
    np.testing.assert_allclose(margins.ravel(), logits[:, 1] - logits[:, 0], atol=2e-5)
    if evaluation == "cross_LR":
        # The caption alone decides here, so all images tie: the reference's ranks are the order of its sort.
        margins, ties = (logits[:, 1] - logits[:, 0]).reshape(margins.shape), "later_first"
    else:
        ties = "worst"
    ranks = [f(margins, data.caption_image(), ties) for f in (image_to_text_ranks, text_to_image_ranks)]
    assert [r.tolist() for r in ranks] == [wanted["i2t_ranks"], wanted["t2i_ranks"]]
    metrics = retrieval_metrics(*ranks)
    assert {key: metrics[key] for key in wanted["R"]} == wanted["R"]


def test_candidate_lists(config, expected, arrays):
    data, model = data_and_model(top20(config), "minival")
    wanted, logits = expected["top20"], arrays["top20_logits"]
    assert data.image_ids == wanted["img_keys"]
    np.testing.assert_allclose(pair_logits(data, model), logits, atol=2e-5)
    margins = score(data, model)
    np.testing.assert_allclose(margins.ravel(), logits[:, 1] - logits[:, 0], atol=2e-5)
    ranks = candidate_ranks(margins, data.positives)
    assert ranks.tolist() == wanted["i2t_ranks"]
    assert retrieval_metrics(ranks)["i2t_retrieval"] == wanted["R"]["i2t_retrieval"]


def test_six_training_steps(config, expected, arrays):
    """Pairs, losses, gradient norms, rates and final parameters of the reference's optimizer steps."""
    cfg, wanted = config(), expected["train"]
    tokenizer = load_tokenizer(cfg, cfg.PRETRAINED.DIR)
    data, model = build_training_data(cfg, tokenizer), model_for_training(cfg, tokenizer, RetrievalTask(cfg).head())
    optimizer = build_optimizer(model, cfg.OPTIMIZATION, Recipe())
    parameters = [p for p in model.parameters() if not p.stop_gradient]
    image_index = {image_id: i for i, image_id in enumerate(data.image_ids)}
    caption_index = {pair: i for i, pair in enumerate(data.caption_ids)}
    model.train()
    for number, step in enumerate(wanted["steps"], 1):
        rows = step["rows"]
        images = [image_index[row["image"]] for row in rows]
        captions = [caption_index[tuple(row["caption"])] for row in rows]
        logits = model(pack(data.batch(images, captions)))
        labels = paddle.to_tensor([row["label"] for row in rows])
        loss = classification_losses(logits, labels, "sfmx").mean()
        loss.backward()
        norm, lr = float(global_norm(parameters)), learning_rate(number, cfg.OPTIMIZATION, Recipe(), 6)
        assert float(loss) == pytest.approx(step["loss"], rel=1e-4)
        assert norm == pytest.approx(step["grad_norm"], rel=1e-3)
        assert lr == pytest.approx(step["lr"], abs=1e-12)
        np.testing.assert_allclose(logits.numpy(), step["logits"], atol=1e-3)
        clip_gradients(parameters, "global", cfg.OPTIMIZATION.CLIP_MAX_NORM, norm)
        optimizer.update(lr)
        optimizer.clear_grad()
    for name, parameter in model.named_parameters():
        if name.endswith("attention.self.key.bias"):  # true gradient zero: the reference moves it by rounding noise
            continue
        values = parameter.numpy().astype(np.float64)
        assert np.linalg.norm(values) == pytest.approx(wanted["final_param_l2"][name], rel=1e-3), name
        scale = np.abs(values).sum()  # a sum near zero has no relative precision of its own
        assert abs(values.sum() - wanted["final_param_sum"][name]) < 1e-3 * max(abs(values.sum()), 0.01 * scale), name
    model.eval()
    test = build_evaluation_data(cfg, tokenizer, "test")
    np.testing.assert_allclose(pair_logits(test, model), arrays["cross_after_training_logits"], atol=1e-3)
    margins = score(test, model)
    assert image_to_text_ranks(margins, test.caption_image()).tolist() == expected["cross_after_training"]["i2t_ranks"]
    assert text_to_image_ranks(margins, test.caption_image()).tolist() == expected["cross_after_training"]["t2i_ranks"]


def test_ids_beyond_a_table_are_refused_in_training(config):
    cfg = config()
    tokenizer = load_tokenizer(cfg, cfg.PRETRAINED.DIR)
    data = build_training_data(cfg, tokenizer)
    task = RetrievalTask(cfg, train=data)
    task.model_config = model_for_training(cfg, tokenizer, task.head()).config
    task.batch(np.arange(3), 0)
    data.caption_tokens.ids = np.array(data.caption_tokens.ids)
    data.caption_tokens.ids[data.caption_tokens.starts(np.array([2]))] = tokenizer.vocab_size
    image, number = data.caption_ids[2]
    words = f"image {image}, caption {number} of image {image}: input_ids hold {tokenizer.vocab_size}, but the model's"
    with pytest.raises(DataError, match=words):
        task.batch(np.arange(3), 0)
