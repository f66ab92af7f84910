"""Constrained beam search against the reference's results for one image at a time, in batches and rule by rule."""

import json
import shutil

import numpy as np
import pytest
from uncached import UncachedCaptions, golden_prefix

from oscar_paddle.datasets.captions.constraints import Constraints, Machine
from oscar_paddle.datasets.tokenization import build_tokenizer
from oscar_paddle.models.captioning import OscarForCaptioning
from oscar_paddle.models.constrained import ImageSearch, constrained_search, search_states
from oscar_paddle.models.decoding import Specials
from oscar_paddle.solvers.build import load

LONGEST, UNREACHED = 20, -1e10  # the reference's scores of states that no caption reaches are below
SEP = 1  # of made-up machines


@pytest.fixture(scope="module")
def golden(repository):
    return repository / "tests" / "golden" / "captioning"


@pytest.fixture(scope="module")
def expected(golden):
    return json.loads((golden / "expected.json").read_text())["cbs"]


@pytest.fixture(scope="module")
def tokenizer(golden):
    return build_tokenizer(golden / "checkpoint", True)


@pytest.fixture(scope="module")
def specials(tokenizer):
    return Specials(tokenizer.cls_id, tokenizer.sep_id, tokenizer.pad_id, tokenizer.mask_id)


@pytest.fixture(scope="module")
def model(golden):
    return load(golden / "checkpoint", OscarForCaptioning)


@pytest.fixture(scope="module")
def machines(golden, expected, tokenizer, tmp_path_factory):
    """Of all images, with the constraints in the reference's order."""
    folder = shutil.copytree(golden / "coco_caption" / "cbs", tmp_path_factory.mktemp("cbs") / "cbs")
    constraints = Constraints(
        boxes=folder / "boxes.tsv",
        pieces=folder / "constraint2tokens.tsv",
        forms=folder / "tokenforms.tsv",
        hierarchy=folder / "hierarchy.json",
        tokenizer=tokenizer,
    )
    return [constraints.machine(image["key"], image["constraints_in_order_used"]) for image in expected["images"]]


def assert_captions(found, run, images):
    """Found (ids, scores) are those of the reference, whose ids lack [CLS] and are padded with [SEP]."""
    ids, scores = found
    for row, image in enumerate(images):
        wanted = run["ids"][image]
        sep = wanted[-1]
        length = wanted.index(sep)
        assert ids[row, 0, 1 : length + 1].tolist() == wanted[:length], image
        assert set(ids[row, 0, length + 1 :].tolist()) <= {sep, 0}, image
    np.testing.assert_allclose(scores[:, 0], np.take(run["scores"], images), atol=1e-5)


@pytest.mark.parametrize("run", [0, 1])
def test_one_image_at_a_time_gives_the_references_captions(golden, expected, model, machines, specials, run):
    run = expected["runs"][run]
    for image in run["images"]:
        captions = UncachedCaptions(model, golden_prefix(golden, [image]), specials.mask)
        found = constrained_search(
            captions,
            [machines[image]],
            specials=specials,
            num_beams=run["num_beams"],
            max_length=LONGEST,
            min_satisfied=run["min_constraints_to_satisfy"],
        )
        assert_captions(found, run, [image])


@pytest.mark.parametrize("run", [0, 1])
def test_a_batch_starts_every_image_from_its_own_first_words(golden, expected, model, machines, specials, run):
    """The reference starts all images of a batch as the first one: its results for one at a time are right."""
    run, images = expected["runs"][run], [4, 0, 6, 1, 2, 7, 3, 5]
    captions = UncachedCaptions(model, golden_prefix(golden, images), specials.mask)
    found = constrained_search(
        captions,
        [machines[image] for image in images],
        specials=specials,
        num_beams=run["num_beams"],
        max_length=LONGEST,
        min_satisfied=run["min_constraints_to_satisfy"],
    )
    assert_captions(found, run, images)


@pytest.mark.parametrize("image", [3, 4, 6])
def test_beams_of_every_state_are_the_references(golden, expected, model, machines, specials, image):
    arrays = np.load(golden / "expected_arrays.npz")
    wanted, scores = arrays[f"cbs_{image}_state_ids"], arrays[f"cbs_{image}_state_logprobs"]
    captions = UncachedCaptions(model, golden_prefix(golden, [image]), specials.mask)
    beams = expected["runs"][0]["num_beams"]
    (search,) = search_states(captions, [machines[image]], specials=specials, num_beams=beams, max_length=LONGEST)
    for state in range(len(wanted)):
        found = [beam for beam in search.beams if beam.state == state]
        reached = scores[state] > UNREACHED
        assert len(found) == reached.sum()
        for beam, ids, score in zip(found, wanted[state], scores[state], strict=False):
            assert [*beam.ids, *[specials.sep] * (LONGEST - len(beam.ids))] == ids.tolist()
            assert beam.score == pytest.approx(score, abs=1e-4)


# ---- rule by rule ----


def log_probs(*rows):
    """[K, V] of probabilities, the rest spread over the last word."""
    found = np.full((len(rows), 6), 1e-9)
    for row, values in zip(found, rows, strict=True):
        row[list(values)] = list(values.values())
    return np.log(found)


def test_equally_likely_captions_are_taken_by_beam_and_then_by_id():
    search = ImageSearch(Machine([]), 3, SEP)
    search.advance(log_probs({4: 0.2, 3: 0.2, 2: 0.2, 5: 0.2}))
    assert [beam.ids for beam in search.beams] == [(2,), (3,), (4,)]
    search.advance(log_probs({3: 0.5}, {2: 0.5}, {5: 0.5}))
    assert [(beam.ids, beam.parent) for beam in search.beams] == [((2, 3), 0), ((3, 2), 1), ((4, 5), 2)]


def test_an_ended_caption_stays_and_costs_nothing():
    search = ImageSearch(Machine([]), 2, SEP)
    search.advance(log_probs({SEP: 0.6, 2: 0.4}))
    assert [beam.ids for beam in search.open] == [(2,)]
    search.advance(log_probs({3: 0.5, SEP: 0.5}))
    assert [beam.ids for beam in search.beams] == [(SEP, SEP), (2, SEP)]
    assert search.beams[0].score == pytest.approx(np.log(0.6))
    assert search.open == []


def test_the_best_caption_is_chosen_by_its_score_over_its_words_and_one():
    search = ImageSearch(Machine([[{2}]]), 1, SEP)
    search.advance(log_probs({SEP: 0.7, 2: 0.3}))
    ids, score = search.best(2)
    assert ids == (2,) and score == pytest.approx(np.log(0.3) / 2)
    ids, score = search.best(0)
    assert ids == (SEP,) and score == pytest.approx(np.log(0.7)), "no word, and [SEP] as one"


def test_without_room_for_all_constraints_as_many_as_possible_count():
    search = ImageSearch(Machine([[{2}], [{3}, {4}]]), 2, SEP)
    search.advance(log_probs({5: 0.9, 2: 0.01}))
    assert search.best(2)[0] == (2,)
    assert ImageSearch(Machine([[{2}]]), 2, SEP).best(2) == ((), 0.0)
