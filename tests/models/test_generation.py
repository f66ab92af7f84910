"""Captions: the reference's results, an uncached search written out, and gradients through the cache."""

import json

import caption_golden
import numpy as np
import paddle
import pytest
from caption_golden import FOLDER, golden_model, golden_prefix
from caption_golden import SPECIALS as GOLDEN
from tiny import tiny_model
from uncached import UncachedCaptions

from oscar_paddle.config.errors import ConfigError, DataError
from oscar_paddle.datasets.caption_prefix import CaptionPrefix
from oscar_paddle.datasets.tokenization import build_tokenizer
from oscar_paddle.models.captioning import OscarForCaptioning
from oscar_paddle.models.decoding import Decoding, Specials, given_draws, search, seeded_draws
from oscar_paddle.models.generation import Captions, EagerWriter, generate, sample_captions

CLOSE = 1e-5
TINY = Specials(cls=1, sep=2, pad=0, mask=3)


@pytest.fixture(scope="module")
def expected():
    return caption_golden.expected()[0]["generation"]


@pytest.fixture(scope="module")
def writer():
    return EagerWriter(golden_model())


@pytest.fixture(scope="module")
def prefix():
    return golden_prefix()


def agrees(found, expected):
    """Whether ids are those of the reference and scores nearly so."""
    ids, scores = np.array(expected["ids"]), np.array(expected["scores"])
    assert (found[0].reshape(ids.shape) == ids).all()
    np.testing.assert_allclose(found[1].reshape(scores.shape), scores, rtol=0, atol=CLOSE)
    return True


def without_tags(prefix):
    return prefix.take_text([])._replace(text_length=np.zeros_like(prefix.text_length))


# ---- the reference's results ----


def test_greedy(writer, prefix, expected):
    assert agrees(generate(writer, prefix, GOLDEN, Decoding()), expected["greedy"])
    assert agrees(generate(writer, prefix, GOLDEN, Decoding(keep=2)), expected["greedy_return2"])
    penalised = Decoding(repetition_penalty=1.3)
    assert agrees(generate(writer, prefix, GOLDEN, penalised), expected["greedy_rp1.3"])


@pytest.mark.parametrize("case", range(12))
def test_beams(writer, prefix, expected, case):
    case = expected["beam"][case]
    settings = {name: case[name] for name in ("num_beams", "length_penalty", "repetition_penalty")}
    assert agrees(generate(writer, prefix, GOLDEN, Decoding(**settings)), case["keep1"])
    assert agrees(generate(writer, prefix, GOLDEN, Decoding(**settings, keep=case["num_beams"])), case["keepK"])


def test_captions_of_an_image_stand_with_it(writer, prefix, expected):
    """The reference lists them image by image and then pairs row i with image i (README there, surprise 3)."""
    ids, _ = generate(writer, prefix, GOLDEN, Decoding(num_beams=3))
    assert (np.repeat(ids, 2, axis=0) == np.array(expected["beam3_return2"]["ids"])).all()


def test_every_hypothesis_ends_at_the_longest_length(writer, prefix, expected):
    for penalty in (1.0, 0.6):
        decoding = Decoding(num_beams=3, keep=3, max_length=6, length_penalty=penalty)
        assert agrees(generate(writer, prefix, GOLDEN, decoding), expected["short"][f"beam3_lp{penalty}_keep3"])
    assert agrees(generate(writer, prefix, GOLDEN, Decoding(max_length=6)), expected["short"]["greedy"])


def test_without_tags(writer, prefix, expected):
    for name, beams in (("greedy", 1), ("beam3", 3)):
        found = generate(writer, without_tags(prefix), GOLDEN, Decoding(num_beams=beams))
        assert agrees(found, expected["no_tags"][name])


def test_the_lengths_of_training(writer, prefix, expected):
    slots, tokenizer = expected["during_training_lengths"]["tag_slots"], build_tokenizer(FOLDER / "checkpoint", True)
    rows = []
    for line in (FOLDER / "coco_caption" / "coco.label.tsv").read_text(encoding="utf-8").splitlines():
        tags = " ".join(tag["class"] for tag in json.loads(line.split("\t")[1]))
        rows.append([*tokenizer.encode(tags)[: slots - 1], GOLDEN.sep] if tags else [])
    lengths = np.array(list(map(len, rows)))
    assert 30 < lengths.max() <= slots
    longer = prefix._replace(
        input_ids=np.concatenate(rows).astype(np.int64),
        token_type_ids=np.ones(lengths.sum(), np.int64),
        position_ids=np.concatenate([40 + np.arange(length) for length in lengths]),
        text_length=lengths,
    )
    assert agrees(generate(writer, longer, GOLDEN, Decoding()), expected["during_training_lengths"]["greedy"])


@pytest.mark.parametrize("case", range(5))
def test_samples_of_given_draws(writer, prefix, expected, case):
    case = expected["sampling"][case]
    settings = {name: case[name] for name in ("temperature", "top_k", "top_p", "repetition_penalty")}
    decoding = Decoding(**settings, do_sample=True, keep=case["num_return_sequences"])
    found = generate(writer, prefix.take(case["images"]), GOLDEN, decoding, given_draws(case["drawn_tokens"]))
    assert agrees(found, case)


# ---- against a search without a cache, written out ----


@pytest.fixture(scope="module", params=[3, 4])
def made_up(request):
    """(model, prefix) of images with and without tags and regions."""
    settings = {"vocab_size": 40, "tie_weights": request.param == 3, "max_position_embeddings": 30}
    model = tiny_model(OscarForCaptioning, seed=request.param, **settings)
    rng = np.random.RandomState(request.param)
    tags, regions = np.array([4, 0, 9, 1, 0]), np.array([3, 5, 1, 0, 0])
    prefix = CaptionPrefix(
        input_ids=rng.randint(4, 40, tags.sum()),
        token_type_ids=np.ones(tags.sum(), np.int64),
        position_ids=np.concatenate([12 + np.arange(count) for count in tags]),
        text_length=tags,
        img_feats=rng.rand(regions.sum(), 7).astype(np.float32),
        num_regions=regions,
    )
    return model, prefix


def scores_of(model, prefix, image, captions):
    """log-probabilities [K, V] behind whole captions [K, n], each encoded anew."""
    found = UncachedCaptions(model, prefix.take([image]), TINY.mask)
    found.images, found.written = np.array([0]), np.array(captions)[None, :, :-1]
    logits = found.advance(np.array(captions)[None, :, -1])[0].astype(np.float64)
    return logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))


def plain_beams(model, prefix, image, decoding):
    """[(score, ids)] of one image, best first, by the rules of docs/reference.md, generation."""
    beams, finished, longest = [(0.0, [TINY.cls])], [], decoding.max_length
    for length in range(1, longest):
        logs = scores_of(model, prefix, image, [ids for _, ids in beams])
        every = [
            (score + logs[beam, word], ids, word)
            for beam, (score, ids) in enumerate(beams)
            for word in range(logs.shape[1])
        ]
        every = sorted(every, key=lambda entry: -entry[0])[: 2 * decoding.num_beams]
        bound = every[0][0] / (longest - 1) ** decoding.length_penalty
        if len(finished) == decoding.keep and finished[-1][0] >= bound:
            break
        beams = []
        for score, ids, word in every:
            if word == TINY.sep or length + 1 == longest:
                finished.append((score / len(ids) ** decoding.length_penalty, ids))
                finished = sorted(finished, key=lambda entry: -entry[0])[: decoding.keep]
            else:
                beams.append((score, [*ids, word]))
            if len(beams) == decoding.num_beams:
                break
    return finished


@pytest.mark.parametrize("beams, keep, penalty", [(2, 1, 1.0), (5, 3, 0.6), (4, 4, 2.0)])
def test_beams_are_those_of_an_uncached_search(made_up, beams, keep, penalty):
    model, prefix = made_up
    decoding = Decoding(num_beams=beams, keep=keep, max_length=9, length_penalty=penalty)
    ids, scores = generate(EagerWriter(model), prefix, TINY, decoding)
    for image in range(5):
        wanted = plain_beams(model, prefix, image, decoding)
        assert len(wanted) == keep
        for place, (score, words) in enumerate(wanted):
            padded = [*words, TINY.sep] + [TINY.pad] * (9 - len(words) - 1)
            assert ids[image, place].tolist() == padded
            assert scores[image, place] == pytest.approx(score, abs=CLOSE)


def test_samples_are_those_of_an_uncached_search(made_up):
    model, prefix = made_up
    decoding = Decoding(do_sample=True, keep=3, max_length=9, temperature=1.5, top_k=20, top_p=0.9)
    seeds = range(15)
    found = generate(EagerWriter(model), prefix, TINY, decoding, seeded_draws(seeds))
    wanted = search(UncachedCaptions(model, prefix, TINY.mask), TINY, decoding, seeded_draws(seeds))
    assert (found[0] == wanted[0]).all()
    np.testing.assert_allclose(found[1], wanted[1], rtol=0, atol=CLOSE)
    assert len(np.unique(found[0].reshape(15, -1), axis=0)) > 10


def test_a_caption_depends_on_its_image_alone(made_up):
    """Images that are done leave the batch; seeds, not neighbours, decide draws."""
    model, prefix = made_up
    for decoding in (Decoding(num_beams=3, max_length=9), Decoding(do_sample=True, keep=2, max_length=9)):
        together = generate(EagerWriter(model), prefix, TINY, decoding, seeded_draws(range(10)))
        for image in range(5):
            draws = seeded_draws([2 * image, 2 * image + 1])
            alone = generate(EagerWriter(model), prefix.take([image]), TINY, decoding, draws)
            assert (alone[0][0] == together[0][image]).all()
            np.testing.assert_allclose(alone[1][0], together[1][image], rtol=0, atol=CLOSE)


# ---- how it is done ----


def test_two_positions_a_step_and_the_prefix_once(made_up):
    """What reaches the key projection of a layer: all positions of the prefix, then two a beam."""
    model, prefix = made_up
    seen, key = [], model.bert.encoder.layer[0].attention.self.key
    hook = key.register_forward_post_hook(lambda layer, inputs, output: seen.append(inputs[0].shape[:2]))
    generate(EagerWriter(model), prefix, TINY, Decoding(num_beams=3, max_length=5))
    hook.remove()
    assert seen[0] == [5, 10] and seen[1] == [5, 2]
    assert all(positions == 6 for _, positions in seen[2:])


def test_images_that_are_done_leave(made_up):
    model, prefix = tiny_model(OscarForCaptioning, vocab_size=40, max_position_embeddings=30), made_up[1]
    bias = model.cls.predictions.bias.numpy()
    bias[TINY.sep] += 3  # captions end soon, at different lengths
    model.cls.predictions.bias.set_value(bias)
    sizes = []

    class Counting(EagerWriter):
        def run(self, new, seen, logits=True):
            sizes.append(len(new.order))
            return super().run(new, seen, logits)

    generate(Counting(model), prefix, TINY, Decoding(num_beams=2, max_length=12))
    assert sizes[0] == 5 and sorted(sizes, reverse=True) == sizes and sizes[-1] < 5


def test_the_mask_is_ours_alone(made_up):
    """Paddle's `is_causal` drops an attn_mask without a word and counts from the wrong corner with a cache."""
    model, prefix = made_up
    captions = Captions(EagerWriter(model), prefix, TINY.mask)
    reference = UncachedCaptions(model, prefix, TINY.mask)
    with paddle.no_grad():
        for words, parents in (([[1]] * 5, None), ([[7, 8]] * 5, [[0, 0]] * 5), ([[9, 4]] * 5, [[1, 1]] * 5)):
            both = [
                np.asarray(one.advance(np.array(words), parents and np.array(parents))) for one in (captions, reference)
            ]
            np.testing.assert_allclose(*both, rtol=0, atol=CLOSE)


def test_broken_weights_are_said(made_up):
    model = tiny_model(OscarForCaptioning, vocab_size=40, max_position_embeddings=30)
    model.cls.predictions.bias.set_value(np.full(40, np.nan, np.float32))
    for decoding in (Decoding(), Decoding(num_beams=2), Decoding(do_sample=True)):
        with pytest.raises(DataError, match="NaN"):
            generate(EagerWriter(model), made_up[1], TINY, decoding, seeded_draws(range(5)))


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"max_length": 1}, "max_length is 1; "),
        ({"max_length": 31}, "max_length is 31, but the model has 30 positions"),
        ({"num_beams": 0}, "num_beams is 0"),
        ({"keep": 0}, "keep is 0"),
        ({"num_beams": 21}, "num_beams is 21, which is more than half the 40 words"),
        ({"num_beams": 2, "keep": 3}, "keep is 3, but a search with 2 beams"),
        ({"num_beams": 2, "do_sample": True}, "do_sample is on"),
        ({"temperature": 0}, "temperature is 0"),
        ({"top_k": -1}, "top_k is -1"),
        ({"top_p": 1.5}, "top_p is 1.5"),
        ({"repetition_penalty": 0}, "repetition_penalty is 0"),
    ],
)
def test_settings_that_cannot_be(made_up, settings, message):
    with pytest.raises(ConfigError, match=f"generation: {message}"):
        generate(EagerWriter(made_up[0]), made_up[1], TINY, Decoding(**settings))


# ---- with gradients ----


@pytest.fixture(params=[False, True], ids=["own prefixes", "shared prefix"])
def share_prefix(request):
    return request.param


def no_dropout(seed=3):
    off = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
    model = tiny_model(OscarForCaptioning, seed=seed, vocab_size=40, max_position_embeddings=30, **off)
    model.train()
    return model


def test_gradients_are_those_of_whole_captions(made_up, share_prefix):
    """Of the sum of all log-probabilities, against rows that hold one caption and one [MASK] each."""
    prefix, model = made_up[1], no_dropout()
    decoding = Decoding(do_sample=True, keep=2, max_length=6, temperature=1.3, repetition_penalty=1.2)
    tokens = np.random.RandomState(0).randint(4, 40, (10, 5))
    tokens[2, 1] = tokens[5, 3] = TINY.sep
    samples = sample_captions(model, prefix, TINY, decoding, given_draws(tokens), share_prefix)
    samples.log_probs.sum().backward()
    found = {name: value.grad.numpy() for name, value in model.named_parameters() if value.grad is not None}
    model.clear_gradients()
    assert samples.lengths.tolist() == [5, 5, 2, 5, 5, 4, 5, 5, 5, 5]
    drawn = [row[:length] for row, length in zip(tokens, samples.lengths, strict=True)]
    uncached = log_probabilities(model, prefix, drawn, decoding)
    np.testing.assert_allclose(samples.log_probs.numpy(), uncached.numpy(), rtol=0, atol=1e-4)
    uncached.sum().backward()
    for name, value in model.named_parameters():
        if value.grad is not None:
            np.testing.assert_allclose(found[name], value.grad.numpy(), rtol=1e-3, atol=1e-4, err_msg=name)
    assert len(found) > 30


def log_probabilities(model, prefix, drawn, decoding):
    """Log-probabilities [R] of drawn words, every prefix of every caption encoded anew; a tensor with gradients."""
    sums = []
    for number, words in enumerate(drawn):
        captions = UncachedCaptions(model, prefix.take([number // decoding.keep]), TINY.mask)
        written, total = [TINY.cls], 0
        for word in words:
            logits = captions.logits(0, np.array([written]))[0]
            factor = np.ones(40, np.float32)
            for old in set(written):
                factor[old] = decoding.repetition_penalty if float(logits[old]) < 0 else 1 / decoding.repetition_penalty
            logits = logits * paddle.to_tensor(factor) / decoding.temperature
            total = total + paddle.nn.functional.log_softmax(logits, axis=-1)[int(word)]
            written.append(int(word))
        sums.append(total)
    return paddle.stack(sums)


def test_samples_drop_as_the_model_trains(made_up, share_prefix):
    """Samples of one image differ by their dropout, also where they are drawn alike; a shared prefix is one draw."""
    prefix = made_up[1].take([0, 2])
    model = tiny_model(OscarForCaptioning, vocab_size=40, max_position_embeddings=30)
    model.train()
    alike, rows = given_draws(np.full((6, 5), 7)), []
    model.bert.encoder.layer[0].attention.self.key.register_forward_post_hook(
        lambda *args: rows.append(args[1][0].shape[0])
    )
    samples = sample_captions(model, prefix, TINY, Decoding(do_sample=True, keep=3, max_length=6), alike, share_prefix)
    assert set(rows) == ({2} if share_prefix else {6})
    assert (samples.ids[:, 1:5] == 7).all() and (samples.ids[:, 5] == TINY.sep).all()
    assert len(np.unique(samples.log_probs.numpy())) == 6


def test_without_do_sample_the_likeliest_word_is_drawn(made_up):
    model, prefix = made_up
    samples = sample_captions(model, prefix, TINY, Decoding(max_length=9), None)
    ids, scores = generate(EagerWriter(model), prefix, TINY, Decoding(max_length=9))
    assert (samples.ids == ids[:, 0]).all()
    np.testing.assert_allclose(samples.log_probs.numpy() / samples.lengths, scores[:, 0], rtol=0, atol=CLOSE)
