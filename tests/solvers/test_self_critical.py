"""Self-critical training against the reference's numbers, its draws, and a run that is killed."""

import json
import pickle
import shutil

import numpy as np
import paddle
import pytest
import self_critical_golden as golden
import starting
from caption_golden import expected, golden_model, golden_prefix
from runs import records

from oscar_paddle.config.default import get_cfg_defaults
from oscar_paddle.datasets.captions.frequencies import read_frequencies
from oscar_paddle.models import generation
from oscar_paddle.models.decoding import given_draws
from oscar_paddle.solvers.metrics.bleu import ngrams
from oscar_paddle.solvers.metrics.cider import CiderD, reward_text, word_frequencies
from oscar_paddle.solvers.self_critical import SelfCritical, advantages
from oscar_paddle.solvers.tasks.captioning import CaptioningTask
from oscar_paddle.solvers.tasks.task import Term

WANTED = expected()[0]["scst"]
CASE, STATED = WANTED["reward_case"], expected()[0]["inputs"]["reward_case"]


class GivenCider:
    """Stands for CiderD: counts words, and remembers what it was asked."""

    def __init__(self):
        self.asked = []

    def rewards(self, candidates, references):
        self.asked.append((candidates, references))
        return np.array([len(set(candidate.split())) / 10 for candidate in candidates])


# ---- the reward ----


def test_texts_are_the_references():
    given = [*STATED["sample_res"], *STATED["greedy_res"]]
    assert [reward_text(caption) for caption in given] == CASE["wrapped"]
    counted = word_frequencies([caption] for caption in given).document_frequency
    assert counted.keys() == set().union(*(ngrams(text.split()) for text in CASE["wrapped"]))


@pytest.mark.parametrize("textbook", [True, False])
def test_rewards_are_the_references(textbook):
    frequencies = golden.FOLDER / "coco_caption" / "coco-train-words.p"
    cider = golden.cider() if textbook else CiderD(*read_frequencies(frequencies))
    images = len(STATED["gt_res"])
    samples = np.reshape(np.array(STATED["sample_res"], object), (images, -1))
    captions = [[*own, greedy] for own, greedy in zip(samples, STATED["greedy_res"], strict=True)]
    rewards = golden.self_critical(cider=cider).rewards(captions, STATED["gt_res"])
    wanted = np.array(CASE["ciderD_cached"])
    wanted = np.hstack([wanted[:-images].reshape(images, -1), wanted[-images:, None]])
    np.testing.assert_allclose(rewards, wanted, atol=1e-6)


@pytest.mark.parametrize("baseline", ["greedy", "sample"])
def test_losses_and_their_derivatives_are_the_references(baseline):
    images, wanted = len(STATED["gt_res"]), CASE[f"loss_{baseline}_baseline"]
    rewards = np.array(CASE["ciderD_cached"])
    samples, greedy = rewards[:-images].reshape(images, -1), rewards[-images:, None]
    above = advantages(samples, greedy if baseline == "greedy" else None).ravel()
    np.testing.assert_allclose(-above / above.size, wanted["d_loss_d_logprob"], atol=1e-6)
    loss = -(above * STATED["sample_logprobs"]).mean()
    assert (loss, samples.mean()) == pytest.approx((wanted["loss"], wanted["score"]), abs=1e-6)


# ---- one update ----


def golden_losses(case, shared_prefix=False):
    """(mean loss, mean reward, gradient norms by name) of the model without dropout on the reference's draws."""
    model = golden_model(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    model.bert.embeddings.word_embeddings.weight.stop_gradient = True
    model.train()
    baseline = "greedy" if case is WANTED["iteration"] else "sample"
    scst, references = golden.self_critical(4, baseline, shared_prefix), golden.references()
    sums = scst.losses(
        model,
        golden_prefix(case["images"]),
        [references[image] for image in case["images"]],
        given_draws(golden.padded(case["drawn_tokens"])),
    )
    count = 4 * len(case["images"])
    (sums["scst"] / count).backward()
    norms = {name: float(p.grad.norm()) for name, p in model.named_parameters() if p.grad is not None}
    return float(sums["scst"]) / count, float(sums["score"]) / count, norms


@pytest.mark.parametrize("shared_prefix", [False, True])
@pytest.mark.parametrize("name", ["iteration", "iteration_sample_baseline"])
def test_an_iteration_is_the_references(name, shared_prefix):
    """Without dropout, a shared prefix changes nothing."""
    case = {**WANTED["iteration"], **WANTED[name]} if name != "iteration" else WANTED["iteration"]
    loss, score, norms = golden_losses(case, shared_prefix)
    assert (loss, score) == (
        pytest.approx(case["loss"], abs=1e-4),
        pytest.approx(WANTED["iteration"]["logged_score"], abs=1e-6),
    )
    total = np.sqrt(sum(norm**2 for norm in norms.values()))
    assert total == pytest.approx(case["grad_norm"], rel=1e-3)
    if name == "iteration":
        for parameter, wanted in case["grad_norm_by_parameter"].items():
            if not parameter.endswith("self.key.bias"):  # has no effect, and is not trained here
                assert norms[parameter] == pytest.approx(wanted, rel=1e-3), parameter


def test_samples_of_an_image_have_dropout_of_their_own_or_share_that_of_the_prefix(monkeypatch):
    copies, states = [], generation.prefix_states

    def watched(writer, prefix, number=1):
        copies.append((writer.model.training, number))
        return states(writer, prefix, number)

    monkeypatch.setattr(generation, "prefix_states", watched)
    model = golden_model()
    for shared_prefix in (False, True):
        model.train()
        scst = golden.self_critical(3, shared_prefix=shared_prefix, cider=GivenCider())
        scst.losses(model, golden_prefix([0, 1]), golden.references()[:2])
    assert copies == [(False, 1), (True, 3), (False, 1), (True, 1)], "the greedy caption, and then the samples"


def test_greedy_captions_are_those_of_evaluation_mode_and_the_model_trains_on():
    ids = WANTED["iteration"]["greedy_ids"]
    model, scst = golden_model(hidden_dropout_prob=0.5), golden.self_critical(2, cider=GivenCider())
    model.train()
    images = WANTED["iteration"]["images"]
    scst.losses(model, golden_prefix(images), [golden.references()[image] for image in images])
    assert model.training and model.bert.encoder.layer[0].output.dropout.training
    candidates, asked = scst.cider.asked[0]
    assert candidates[2::3] == [reward_text(scst.decode(row)) for row in ids]
    wanted = [[reward_text(text) for text in golden.references()[image]] for image in images for _ in range(3)]
    assert asked == wanted


@pytest.mark.parametrize("dropout", [0.1, 0.0])
def test_draws_are_a_function_of_paddles_random_state(dropout):
    model = golden_model(hidden_dropout_prob=dropout, attention_probs_dropout_prob=dropout)
    references = golden.references()[:2]

    def drawn(seed):
        scst = golden.self_critical(3, cider=GivenCider())
        model.train()
        paddle.seed(seed)
        loss = float(scst.losses(model, golden_prefix([0, 1]), references)["scst"])
        return loss, scst.cider.asked[0][0]

    first = drawn(1)
    np.random.seed(3)  # another program's draws
    assert drawn(1) == first
    other = drawn(2)
    assert other[0] != first[0] and other[1] != first[1]
    assert len(set(first[1])) > 3, "samples differ"


def test_the_score_is_reported_and_not_trained_on():
    scst = golden.self_critical(3)
    assert scst.terms == {"scst": Term(per_batch=True), "score": Term(per_batch=True, is_loss=False)}
    assert scst.counts([["a"], ["b"]]) == {"scst": 6, "score": 6}


# ---- a run ----


def test_a_run_is_the_references(tmp_path):
    trace = WANTED["trace"]
    batches, drawn = ([step[key] for step in trace["iterations"]] for key in ("images", "drawn_tokens"))
    task = golden.GoldenTask(golden.self_critical(), batches, drawn)
    run = golden.trainer(task, tmp_path / "run", EPOCHS=1, LR=trace["settings"]["learning_rate"])
    run.cfg.MISC.NUM_WORKERS = 0  # batches are taken in order
    run.run()
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    for line, step, micro in zip(lines, trace["iterations"], trace["micro_steps"], strict=True):
        assert line["loss"] == pytest.approx(step["loss"], abs=5e-4)
        assert line["figures"]["score"] == pytest.approx(step["logged_score"], abs=1e-6)
        assert line["grad_norm"] == pytest.approx(micro["grad_norm"], rel=1e-3)
        assert line["lr"] == pytest.approx(micro["update_lr"], abs=1e-9)
    for name, parameter in run.model.named_parameters():
        if name in trace["final_param_sum"] and not name.endswith("self.key.bias"):
            found = parameter.numpy().astype(np.float64)
            near = 1e-2 if name == "bert.img_embedding.weight" else 2e-3
            assert found.sum() == pytest.approx(trace["final_param_sum"][name], abs=near), name
            assert np.sqrt((found**2).sum()) == pytest.approx(trace["final_param_l2"][name], abs=near), name


@pytest.mark.parametrize("file", ["coco-train-words.p", "train_caption_coco_format.json"])
def test_a_run_does_not_resume_with_other_frequencies_references_or_lengths(tmp_path, file):
    data = shutil.copytree(golden.FOLDER / "coco_caption", tmp_path / "data")
    cfg = get_cfg_defaults()
    cfg.DATASET.DATA_DIR, cfg.DATASET.TRAIN, cfg.CAPTION.SCST = str(data), "train.yaml", True

    def fingerprint():
        task = CaptioningTask(cfg)
        task.train = task.training_data(golden.tokenizer())
        assert task.draws and task.terms == SelfCritical.terms
        return task.fingerprint()

    before = fingerprint()
    if file.endswith(".p"):
        frequencies = pickle.loads((data / file).read_bytes(), encoding="latin-1")
        (data / file).write_bytes(pickle.dumps({**frequencies, "ref_len": 9}, 2))
    else:
        (data / file).write_text((data / file).read_text().replace("girl", "boy", 1))
    assert [name for name, digest in fingerprint().items() if digest != before[name]] == [
        "the document frequencies (CAPTION.CIDER_FREQUENCIES)"
        if file.endswith(".p")
        else "the captions that rewards are made of"
    ]
    before = fingerprint()
    for key, value in ("CIDER_FREQUENCIES", ""), ("MAX_GEN_LENGTH", 12):
        cfg.CAPTION[key], old = value, cfg.CAPTION[key]
        (changed,) = [name for name, digest in fingerprint().items() if digest != before[name]]
        assert f"(CAPTION.{key})" in changed
        cfg.CAPTION[key] = old


def test_a_run_does_not_resume_with_other_batches_even_without_dropout(tmp_path):
    """Draws are made for each batch of each process."""
    assert golden.trainer(golden.GoldenTask(golden.self_critical()), tmp_path / "run").settings["has_dropout"]


def test_a_run_that_is_killed_and_started_again_is_the_same_bytes(tmp_path):
    """With dropout and draws at random; killed in the second update, after one checkpoint, and in the one after it."""
    starts = ("unbroken", 0), ("killed", 2), ("killed", 2), ("killed", 0)
    done = starting.run([golden.__file__, *(word for name, at in starts for word in (tmp_path / name, at))])
    assert done.stdout.split() == ["0", "-9", "-9", "0"], done.stderr[-2000:]
    killed, unbroken = tmp_path / "killed", tmp_path / "unbroken"
    weights = [(folder / "last" / "model.safetensors").read_bytes() for folder in (killed, unbroken)]
    assert weights[0] == weights[1]
    keys = ("step", "loss", "lr", "grad_norm", "figures")
    assert records(killed, keys) == records(unbroken, keys) and len(records(killed, keys)) > 3
