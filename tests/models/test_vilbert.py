"""Parity of the two-stream model with vilbert_beta and the Paddle port (tests/golden/vilbert_rec/README.md)."""

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest
from vilbert_golden import Golden

from oscar_paddle.models.bert import Dropout, EqualRows
from oscar_paddle.models.config import read_model_config
from oscar_paddle.models.stream_packing import StreamBatch
from oscar_paddle.models.vilbert import VilbertForReferring
from oscar_paddle.models.visibility import HIDDEN_BIAS
from oscar_paddle.solvers.build import load
from oscar_paddle.solvers.ranks import Ranks
from oscar_paddle.solvers.scoring.region_program import region_backend

PARTS = {"t": "text", "v": "vision"}  # of the golden set's names


@pytest.fixture(scope="module")
def golden_set(repository):
    return Golden(repository / "tests" / "golden" / "vilbert_rec")


@pytest.fixture(scope="module")
def model(golden_set):
    return load(golden_set.folder / "checkpoint", VilbertForReferring)


@pytest.mark.parametrize("split", ["val", "testA", "testB"])
@paddle.no_grad()
def test_scores_are_those_of_upstream_and_an_image_shows_its_regions_to_all_its_expressions(split, golden_set, model):
    examples = list(range(len(golden_set.expected["entries"][split])))
    batch, _ = golden_set.batch(split, examples)
    mask = golden_set.arrays[f"{split}_image_mask"].astype(bool)
    assert len(batch.img_feats) < mask.sum()
    wanted = golden_set.arrays[f"{split}_vision_logit"][mask]
    difference = np.abs(model(batch).numpy() - wanted).max()
    print(f"{split}: largest difference of scores {difference:.2g}")
    assert difference <= 2e-5


def test_the_exported_program_gives_the_same_scores(golden_set, model, tmp_path):
    backend = region_backend(model, "inference", "float32", weights="golden", programs=str(tmp_path), ranks=Ranks())
    assert "oneDNN" in backend.name
    for split in ("val", "testA"):
        batch, _ = golden_set.batch(split, list(range(len(golden_set.expected["entries"][split]))))
        mask = golden_set.arrays[f"{split}_image_mask"].astype(bool)
        wanted = golden_set.arrays[f"{split}_vision_logit"][mask]
        assert np.abs(backend.region_scores(batch) - wanted).max() <= 2e-5


@paddle.no_grad()
def test_every_block_and_every_head_is_upstreams(golden_set, model):
    """In upstream's padded slots, as its sums are over all; the blocks that our forward pass leaves out, too."""
    inner, arrays, bert = golden_set.expected["inner"], golden_set.arrays, model.bert
    batch, _ = golden_set.batch("val", [0, 1, 2])
    text_mask, region_mask = (arrays[f"val_{name}"][:3].astype(bool) for name in ("input_mask", "image_mask"))
    text_rows, region_rows = (
        EqualRows(paddle.to_tensor(np.where(mask, 0, HIDDEN_BIAS).astype(np.float32)[:, None, None]))
        for mask in (text_mask, region_mask)
    )
    features = np.zeros((*region_mask.shape, 2048), np.float32)
    features[region_mask] = batch.img_feats[batch.order]
    ids, types = (paddle.to_tensor(arrays[f"val_{name}"][:3]) for name in ("input_ids", "segment_ids"))
    text = bert.embeddings(ids, types, paddle.arange(ids.shape[1]).expand_as(ids))
    regions = bert.v_embeddings(paddle.to_tensor(features), paddle.to_tensor(arrays["val_spatials"][:3]))
    modules = dict(model.named_sublayers())
    for name in inner["order_of_execution"]:
        module = modules[name.split(":")[0]]
        if name.endswith(":vision"):
            regions, text = module(regions, text, region_rows, text_rows)
        elif ".v_layer." in name:
            regions = module(regions, region_rows)
        elif ".encoder.layer." in name:
            text = module(text, text_rows)
        pooled = {"bert.t_pooler": (text, bert.t_pooler), "bert.v_pooler": (regions, bert.v_pooler)}
        if name in pooled:
            stream, pooler = pooled[name]
            value = F.relu(pooler.dense(stream[:, 0]))
            np.testing.assert_allclose(value, arrays[f"inner_pooled_{PARTS[name[5]]}"], atol=2e-5)
        else:
            value = regions if ":vision" in name or ".v_" in name else text
        value, wanted = value.numpy().reshape(3, -1).astype(np.float64), inner["modules"][name]
        np.testing.assert_allclose(value.sum(axis=1), wanted["sum"], atol=2e-3, err_msg=name)
        np.testing.assert_allclose(np.linalg.norm(value, axis=1), wanted["l2"], rtol=1e-5, err_msg=name)
    np.testing.assert_allclose(text.numpy()[text_mask], arrays["inner_sequence_text"][text_mask], atol=2e-5)
    np.testing.assert_allclose(regions.numpy()[region_mask], arrays["inner_sequence_vision"][region_mask], atol=2e-5)
    scores = model.score(regions).numpy()[region_mask]
    np.testing.assert_allclose(scores, arrays["inner_vision_logit"][region_mask, 0], atol=2e-5)
    np.testing.assert_allclose(model(batch).numpy(), scores, atol=2e-5)


def test_every_block_is_where_upstream_runs_it(golden_set):
    """Vision layers before a stop, text layers before a stop, then the co-attention of both."""
    encoder, ran = VilbertForReferring(golden_config(golden_set)).bert.encoder, []
    for name, layer in encoder.named_sublayers():
        if name.count(".") == 1:
            layer.register_forward_post_hook(lambda *_, name=name: ran.append(name))
    width, text_width = encoder.v_layer[0].output.dense.weight.shape[1], encoder.layer[0].output.dense.weight.shape[1]
    rows = EqualRows(paddle.zeros([1, 1, 1, 2]))
    encoder(paddle.zeros([1, 2, width]), paddle.zeros([1, 2, text_width]), rows, rows)
    order = [name.split(":")[0] for name in golden_set.expected["inner"]["order_of_execution"]]
    wanted = list(dict.fromkeys(n.removeprefix("bert.encoder.") for n in order if n.startswith("bert.encoder.")))
    last = f"layer.{len(encoder.layer) - 1}"
    assert ran == [name for name in wanted if name != last]  # nothing reads that one's text
    assert len(wanted) == len(ran) + 1


def golden_config(golden_set):
    return read_model_config(golden_set.folder / "checkpoint")


@paddle.no_grad()
def test_other_expressions_of_a_batch_change_nothing(golden_set, model):
    """Texts and images of other lengths beside it, an image alone or with all its expressions."""
    together, _ = golden_set.batch("val", list(range(8)))
    scores, start = model(together).numpy(), 0
    for number in range(8):
        alone = model(golden_set.batch("val", [number])[0]).numpy()
        np.testing.assert_allclose(alone, scores[start : start + len(alone)], atol=2e-5)
        start += len(alone)
    assert start == len(scores)


def test_dropout_differs_between_expressions_about_one_image(golden_set):
    model = load(golden_set.folder / "checkpoint", VilbertForReferring)
    model.train()
    for layer in model.sublayers():
        if isinstance(layer, Dropout) and layer is not model.bert.dropout:
            layer.p = 0.0
    batch, _ = golden_set.batch("val", [0, 0])
    first, second = np.split(model(batch).numpy(), 2)
    assert np.abs(first - second).max() > 1e-3


def test_recompute_gives_the_same_gradients(golden_set):
    found = []
    for on in (False, True):
        model = load(golden_set.folder / "checkpoint", VilbertForReferring)
        model.train()
        model.recompute = on
        paddle.seed(3)
        model(golden_set.batch("val", [0, 3, 5])[0]).sum().backward()
        found.append({name: p.grad.numpy() for name, p in model.named_parameters() if p.grad is not None})
    assert found[0].keys() == found[1].keys()
    for name, gradient in found[0].items():
        np.testing.assert_allclose(found[1][name], gradient, rtol=1e-4, atol=1e-4, err_msg=name)


@paddle.no_grad()
@pytest.mark.parametrize("stops", [([0, 2], [1, 3]), ([1, 2], [0, 2]), ([2], [1])])
def test_regions_shown_to_all_expressions_are_as_if_embedded_for_each(stops, golden_set):
    config = golden_config(golden_set)
    config.v_biattention_id, config.t_biattention_id = stops
    paddle.seed(5)
    bert = VilbertForReferring(config).bert
    bert.eval()
    fields = StreamBatch(*map(paddle.to_tensor, golden_set.batch("val", [0, 1, 2, 3])[0]))
    own = fields._replace(
        img_feats=paddle.gather(fields.img_feats, fields.order),
        img_locs=paddle.gather(fields.img_locs, fields.order),
        order=paddle.arange(len(fields.order), dtype="int32"),
    )
    np.testing.assert_allclose(bert(fields).numpy(), bert(own).numpy(), atol=2e-6)
    assert len(fields.img_feats) < len(own.img_feats)
