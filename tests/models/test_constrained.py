"""Constrained beam search against the reference's results for one image at a time, in batches and rule by rule."""

import shutil
from types import SimpleNamespace

import caption_golden as golden
import numpy as np
import paddle
import pytest
from caption_golden import SPECIALS, golden_prefix
from uncached import UncachedCaptions

from oscar_paddle.config.errors import ConfigError
from oscar_paddle.datasets.captions.constraints import Constraints, Machine
from oscar_paddle.datasets.tokenization import build_tokenizer
from oscar_paddle.models.constrained import ImageSearch, constrained_search, generate_constrained
from oscar_paddle.models.decoding import Decoding
from oscar_paddle.models.generation import Captions, EagerWriter

LONGEST, UNREACHED = 20, -1e10  # the reference's scores of states that no caption reaches are below
SEP = 1  # of made-up machines
WANTED, ARRAYS = golden.expected()[0]["cbs"], golden.expected()[1]


@pytest.fixture(scope="module")
def model():
    return golden.golden_model()


@pytest.fixture(scope="module")
def machines(tmp_path_factory):
    """Of all images, with the constraints in the reference's order."""
    folder = shutil.copytree(golden.FOLDER / "coco_caption" / "cbs", tmp_path_factory.mktemp("cbs") / "cbs")
    constraints = Constraints(
        boxes=folder / "boxes.tsv",
        pieces=folder / "constraint2tokens.tsv",
        forms=folder / "tokenforms.tsv",
        hierarchy=folder / "hierarchy.json",
        tokenizer=build_tokenizer(golden.FOLDER / "checkpoint", True),
    )
    return [constraints.machine(image["key"], image["constraints_in_order_used"]) for image in WANTED["images"]]


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


def search(images, model, machines, run):
    """generate_constrained of images of the golden set, with the settings of a run of the reference."""
    return generate_constrained(
        EagerWriter(model),
        golden_prefix(images),
        SPECIALS,
        Decoding(run["num_beams"], LONGEST),
        [machines[image] for image in images],
        run["min_constraints_to_satisfy"],
    )


@pytest.mark.parametrize("run", [0, 1])
def test_one_image_at_a_time_gives_the_references_captions(model, machines, run):
    run = WANTED["runs"][run]
    for image in run["images"]:
        assert_captions(search([image], model, machines, run), run, [image])


@pytest.mark.parametrize("run", [0, 1])
def test_a_batch_starts_every_image_from_its_own_first_words(model, machines, run):
    """The reference starts all images of a batch as the first one: its results for one at a time are right."""
    run, images = WANTED["runs"][run], [4, 0, 6, 1, 2, 7, 3, 5]
    assert_captions(search(images, model, machines, run), run, images)


@pytest.mark.parametrize("image", [3, 4, 6])
@pytest.mark.parametrize("cached", [True, False])
def test_beams_of_every_state_are_the_references(model, machines, image, cached):
    wanted, scores = ARRAYS[f"cbs_{image}_state_ids"], ARRAYS[f"cbs_{image}_state_logprobs"]
    prefix, decoding = golden_prefix([image]), Decoding(WANTED["runs"][0]["num_beams"], LONGEST)
    with paddle.no_grad():
        captions = Captions(EagerWriter(model), prefix, SPECIALS.mask) if cached else None
        captions = captions or UncachedCaptions(model, prefix, SPECIALS.mask)
        (found,) = constrained_search(captions, SPECIALS, decoding, [machines[image]])
    for state in range(len(wanted)):
        beams = [beam for beam in found.beams if beam.state == state]
        reached = scores[state] > UNREACHED
        assert len(beams) == reached.sum()
        for beam, ids, score in zip(beams, wanted[state], scores[state], strict=False):
            assert [*beam.ids, *[SPECIALS.sep] * (LONGEST - len(beam.ids))] == ids.tolist()
            assert beam.score == pytest.approx(score, abs=1e-4)


@pytest.mark.parametrize(
    "setting, message",
    [
        ({"keep": 2}, "keep is 2"),
        ({"num_beams": 1, "do_sample": True}, "do_sample is on"),
        ({"repetition_penalty": 1.3}, "repetition_penalty is 1.3"),
        ({"length_penalty": 0.6}, "length_penalty is 0.6"),
        ({"max_length": 300}, "max_length is 300, but the model has 128 positions"),
    ],
)
def test_settings_that_it_does_not_know(model, machines, setting, message):
    decoding = Decoding(5, LONGEST)._replace(**setting)
    with pytest.raises(ConfigError, match=message):
        generate_constrained(EagerWriter(model), golden_prefix([0]), SPECIALS, decoding, machines[:1])


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


def test_likely_words_that_a_state_may_not_take_leave_it_the_next_ones():
    search = ImageSearch(Machine([[{2, 3}]]), 1, SEP)
    search.advance(log_probs({2: 0.5, 3: 0.3, 4: 0.2}))
    assert [(beam.state, beam.ids) for beam in search.beams] == [(0, (4,)), (1, (2,))]


def test_a_caption_that_does_not_end_fills_all_positions_behind_cls():
    captions = SimpleNamespace(images=np.array([0]))
    captions.advance = lambda ids, parents: log_probs({2: 0.5, 3: 0.4})[None].repeat(ids.shape[1], axis=1)
    (search,) = constrained_search(captions, SPECIALS._replace(sep=SEP), Decoding(2, 5), [Machine([])])
    assert search.beams[0].ids == (2, 2, 2, 2)


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
