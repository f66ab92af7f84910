"""Rules of search and draws, on scores made by hand: ties, filters, penalties, hypotheses."""

import json

import numpy as np
import paddle
import pytest

from oscar_paddle.models.decoding import (
    Decoding,
    Specials,
    best_candidates,
    best_words,
    likely,
    penalised,
    search,
    seeded_draws,
)

SPECIALS = Specials(cls=0, sep=1, pad=2, mask=3)


class Scripted:
    """Captions whose next words score as a function of the words before says."""

    def __init__(self, images, scores):
        self.images, self.scores, self.ids = np.arange(images), scores, None

    def advance(self, tokens, parents=None):
        if self.ids is None:
            self.ids = tokens[:, :, None]
        else:
            parents = np.tile(np.arange(tokens.shape[1]), (len(tokens), 1)) if parents is None else parents
            before = np.take_along_axis(self.ids, parents[:, :, None], axis=1)
            self.ids = np.concatenate([before, tokens[:, :, None]], axis=2)
        return np.array([[self.scores(tuple(row)) for row in rows] for rows in self.ids.tolist()], np.float32)

    def keep(self, places):
        self.images, self.ids = self.images[places], self.ids[places]

    @staticmethod
    def worth_leaving(going):
        return not going.all()


def uniform(words):
    return np.zeros(8)


def test_of_equal_words_the_lower_id_comes_first():
    """Paddle's topk leaves their order open."""
    logits = np.zeros((2, 3000), np.float32)
    logits[1, [2999, 17, 1500]] = 1
    assert best_words(logits, 4).tolist() == [[0, 1, 2, 3], [17, 1500, 2999, 0]]
    assert best_words(np.zeros((1, 5), np.float32), 5).tolist() == [[0, 1, 2, 3, 4]]


@pytest.mark.parametrize("words, count", [(7, 3), (511, 10), (513, 10), (5000, 600), (30522, 10)])
def test_the_best_words_are_those_of_sorting(words, count):
    logits = np.random.RandomState(words).randint(0, 40, (6, words)).astype(np.float32)  # many ties
    wanted = np.argsort(-logits, axis=1, kind="stable")[:, :count]
    assert (best_words(logits, count) == wanted).all()


def test_of_equal_captions_that_of_the_first_beam_comes_first():
    values, parents, words = best_candidates(
        np.zeros((1, 3, 6), np.float32), np.zeros((1, 3, 1), int), np.zeros((1, 3)), 4, 1
    )
    assert parents.tolist() == [[0, 0, 0, 0]] and words.tolist() == [[0, 1, 2, 3]]
    np.testing.assert_allclose(values, -np.log(6))
    better = best_candidates(np.zeros((1, 3, 6), np.float32), np.zeros((1, 3, 1), int), np.array([[0, 0.1, 0]]), 4, 1)
    assert better[1].tolist() == [[1, 1, 1, 1]]


def test_the_filters_of_the_reference(repository):
    golden = repository / "tests" / "golden" / "captioning" / "expected.json"
    filtering = json.loads(golden.read_text(encoding="utf-8"))["filtering"]
    logits = np.array(filtering["logits"], np.float32)
    for case in filtering["cases"]:
        stays = likely(logits, case["top_k"], case["top_p"], case["min_tokens_to_keep"])
        assert [np.flatnonzero(row).tolist() for row in stays] == case["kept"]


def test_repetitions_are_penalised_once():
    logits = np.array([[2.0, -2.0, 1.0, 0.5]], np.float32)
    found = penalised(logits, np.array([[0, 0, 1]]), 2.0)
    assert found.tolist() == [[1.0, -4.0, 1.0, 0.5]]
    assert logits[0, 0] == 2.0  # the caller's stay


def test_draws_depend_on_the_seed_of_their_caption_alone():
    probabilities = np.full((3, 8), 1 / 8)
    together = [seeded_draws([5, 6, 7]) for _ in range(2)]
    first = np.array([together[0](probabilities, np.arange(3), step) for step in range(20)])
    alone = seeded_draws([9, 6])
    second = np.array([alone(probabilities[:1], np.array([1]), step)[0] for step in range(20)])
    assert (first[:, 1] == second).all() and len(np.unique(first)) > 4


def test_a_word_without_probability_is_never_drawn_and_others_as_often_as_they_should():
    probabilities = np.tile([0.0, 0.25, 0.0, 0.75, 0.0], (20000, 1))
    drawn = seeded_draws(range(20000))(probabilities, np.arange(20000), 0)
    assert set(drawn.tolist()) == {1, 3}
    assert np.mean(drawn == 3) == pytest.approx(0.75, abs=0.015)


def test_what_is_drawn_is_what_is_scored():
    """`paddle.distribution.Categorical` samples by softmax of what it is given, and scores by another rule."""
    logits = np.log([0.1, 0.2, 0.7]).astype(np.float32) + 3
    paddle.seed(0)
    theirs = paddle.distribution.Categorical(paddle.to_tensor(np.exp(logits)))
    assert theirs.log_prob(paddle.to_tensor([2])).item() == pytest.approx(np.log(0.7), abs=1e-5)
    assert (theirs.sample([1000]).numpy() == 2).mean() > 0.99  # the softmax of [2, 4, 14]
    ids, scores = search(
        Scripted(1, lambda words: logits),
        SPECIALS,
        Decoding(do_sample=True, max_length=2),
        lambda probabilities, captions, step: np.array([2]) if probabilities[0, 2] == pytest.approx(0.7) else None,
    )
    assert scores[0, 0] == pytest.approx(np.log(0.7), abs=1e-6)


def test_a_filter_needs_no_kernel_of_paddle():
    """`paddle.tensor.top_p_sampling` has none for the CPU."""
    with pytest.raises(RuntimeError, match="top_p_sampling"):
        paddle.tensor.top_p_sampling(paddle.ones([1, 4]) / 4, paddle.to_tensor([0.5]))
    stays = likely(np.log(np.array([[0.4, 0.3, 0.2, 0.1]])), 0, 0.5)
    assert stays.tolist() == [[True, True, False, False]]


def test_a_caption_that_ends_is_ranked_with_its_last_word_and_without_its_place():
    """Two words and [SEP]: the log-probability of three, over the length of [CLS] and two."""

    def scores(words):
        nexts = {(0,): 4, (0, 4): 5, (0, 4, 5): 1}
        return np.where(np.arange(8) == nexts.get(words, 7), 9.0, 0.0)

    ids, found = search(Scripted(1, scores), SPECIALS, Decoding(num_beams=2, max_length=7, length_penalty=0.5))
    log = 9 - np.log(np.exp(9) + 7)
    assert ids[0, 0].tolist() == [0, 4, 5, 1, 2, 2, 2]
    assert found[0, 0] == pytest.approx(3 * log / 3**0.5, rel=1e-5)


def test_an_image_has_as_many_captions_as_asked_for():
    """At the longest length every candidate ends: at 2 all of them empty."""
    for longest in (2, 3):
        ids, scores = search(Scripted(2, uniform), SPECIALS, Decoding(num_beams=3, keep=3, max_length=longest))
        assert (ids[:, :, 0] == SPECIALS.cls).all() and (ids == SPECIALS.sep).any(axis=2).all()
        np.testing.assert_allclose(scores, -np.log(8), rtol=1e-6)
    assert ids[0].tolist() == [[0, 1, 2], [0, 0, 1], [0, 0, 1]], "of equals the one that ended earlier comes first"

    def ends(words):  # [SEP] or nothing
        return np.where(np.arange(8) == SPECIALS.sep, 50.0, -50.0)

    ids, scores = search(Scripted(1, ends), SPECIALS, Decoding(num_beams=2, keep=2, max_length=12))
    assert ids[0].tolist() == [[0, 1, *[2] * 10], [0, 0, 1, *[2] * 9]]
    assert scores[0].tolist() == pytest.approx([0, -50], abs=1e-4)


def test_an_image_is_done_by_the_estimate_of_the_reference():
    """With a penalty below 0 it is no bound: a caption that would be better (2 log 0.7) is not waited for."""

    def scores(words):
        found = np.full(8, -50.0)
        if words == (0,):
            found[[4, SPECIALS.sep]] = np.log([0.7, 0.3])
        else:
            found[SPECIALS.sep] = 0
        return found

    ids, found = search(Scripted(1, scores), SPECIALS, Decoding(num_beams=2, max_length=12, length_penalty=-1.0))
    assert ids[0, 0].tolist() == [0, 1, *[2] * 10]
    assert found[0, 0] == pytest.approx(np.log(0.3), rel=1e-5)


def test_an_unfinished_caption_ends_with_sep_in_place_of_its_last_word():
    def scores(words):
        return np.where(np.arange(8) == 5, 3.0, 0.0)

    ids, found = search(Scripted(1, scores), SPECIALS, Decoding(max_length=4))
    assert ids[0, 0].tolist() == [0, 5, 5, 1]
    assert found[0, 0] == pytest.approx(3 - np.log(np.exp(3) + 7), rel=1e-5)
