"""Captions of a data set: the exported program writes what the model does, and results stand with their images."""

import types

import caption_golden
import numpy as np
import paddle
import pytest
from caption_golden import SPECIALS, golden_model, golden_prefix
from tiny import tiny_model

from oscar_paddle.config.errors import ConfigError, DataError, UserError
from oscar_paddle.datasets.caption_prefix import CaptionPrefix
from oscar_paddle.models.captioning import OscarForCaptioning
from oscar_paddle.models.decoding import Decoding, given_draws, seeded_draws
from oscar_paddle.models.generation import Captions, EagerWriter, generate
from oscar_paddle.solvers.ranks import Ranks
from oscar_paddle.solvers.scoring import captions as scoring
from oscar_paddle.solvers.scoring import programs
from oscar_paddle.solvers.scoring.captions import (
    CaptionBackend,
    CaptionScorer,
    ExportedWriter,
    build_writer,
    caption_groups,
    eager_writer,
    split_captions,
    writer_in_training,
)
from oscar_paddle.solvers.scoring.run import score_in_memory


@pytest.fixture(scope="module")
def expected():
    return caption_golden.expected()[0]["generation"]


@pytest.fixture(scope="module")
def model():
    return golden_model()


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("programs")


@pytest.fixture(scope="module")
def exported(model, cache):
    return build_writer(model, "inference", "float32", weights="golden", programs=cache, ranks=Ranks())


@pytest.fixture(scope="module")
def prefix():
    return golden_prefix()


@pytest.fixture(scope="module")
def data(prefix):
    return types.SimpleNamespace(image_ids=[f"image{number}" for number in range(8)], prefix=prefix.take)


# ---- the exported program ----


@pytest.mark.parametrize("case", [0, 7, 11])
def test_exported_beams_are_the_references(exported, prefix, expected, case):
    case = expected["beam"][case]
    settings = {name: case[name] for name in ("num_beams", "length_penalty", "repetition_penalty")}
    ids, scores = generate(exported, prefix, SPECIALS, Decoding(**settings, keep=case["num_beams"]))
    assert (ids == np.array(case["keepK"]["ids"])).all()
    np.testing.assert_allclose(scores, case["keepK"]["scores"], rtol=0, atol=1e-5)


def test_exported_greedy_and_samples(exported, prefix, expected):
    assert (generate(exported, prefix, SPECIALS, Decoding())[0] == np.array(expected["greedy"]["ids"])).all()
    case = expected["sampling"][1]
    settings = {name: case[name] for name in ("temperature", "top_k", "top_p", "repetition_penalty")}
    decoding, draws = Decoding(**settings, do_sample=True, keep=2), given_draws(case["drawn_tokens"])
    ids, _ = generate(exported, prefix.take(case["images"]), SPECIALS, decoding, draws)
    assert (ids.reshape(6, 1, -1) == np.array(case["ids"])).all()


def test_images_without_anything_but_their_number(exported, model):
    """Neither tags nor regions in the whole batch: defined, and the same both ways."""
    nothing = CaptionPrefix(
        *np.zeros((3, 0), np.int64), np.zeros(2, int), np.zeros((0, 2054), np.float32), np.zeros(2, int)
    )
    found = [generate(writer, nothing, SPECIALS, Decoding(num_beams=3)) for writer in (exported, eager_writer(model))]
    assert (found[0][0] == found[1][0]).all() and (found[0][0][0] == found[0][0][1]).all()
    np.testing.assert_allclose(found[0][1], found[1][1], rtol=0, atol=1e-5)


def test_a_slice_goes_in_as_what_it_shows(exported, prefix):
    """A predictor reads a tensor's memory from its start, whatever its strides are."""
    captions = Captions(exported, prefix, SPECIALS.mask)
    wanted = np.asarray(captions.advance(np.full((8, 1), SPECIALS.cls)))
    wider = Captions(exported, prefix, SPECIALS.mask)
    keys, values = (
        [paddle.concat([part, part], axis=2)[:, :, : part.shape[2]] for part in parts] for parts in wider.prefix[:2]
    )
    assert not keys[0].is_contiguous()
    wider.prefix = wider.prefix._replace(keys=keys, values=values)
    assert (np.asarray(wider.advance(np.full((8, 1), SPECIALS.cls))) == wanted).all()


def test_a_program_is_kept_and_used_again(model, exported, cache, monkeypatch):
    assert [folder.name for folder in cache.iterdir()][0].startswith("program-")
    monkeypatch.setattr(programs.CaptionProgram, "forward", None)  # another export would fail
    again = build_writer(model, "auto", "float32", weights="golden", programs=cache, ranks=Ranks())
    assert isinstance(again, ExportedWriter) and again.name == exported.name


def test_a_program_that_disagrees_is_refused(model, cache, monkeypatch, caplog):
    run = ExportedWriter.run

    def wrong(self, new, seen, logits=True):
        found, *states = run(self, new, seen, logits)
        return found if found is None else found + 1, *states

    monkeypatch.setattr(ExportedWriter, "run", wrong)
    options = {"weights": "golden", "programs": cache, "ranks": Ranks()}
    with pytest.raises(UserError, match="scores of words that differ from the model's by"):
        build_writer(model, "inference", "float32", **options)
    chosen = build_writer(model, "auto", "float32", **options)
    assert type(chosen) is EagerWriter and "using eager Paddle" in caplog.text


def test_states_for_a_head_in_float32(model, tmp_path):
    """What half precision exports; here the program itself stays in float32."""
    scoring.export_quietly(model, tmp_path, programs.CAPTION_STATES)
    writer = ExportedWriter(model, tmp_path)
    writer.precision = "bfloat16"  # only the head looks at it from here on
    np.testing.assert_allclose(scoring._probe(writer), scoring._probe(eager_writer(model)), rtol=0, atol=1e-4)


def test_bfloat16_where_there_is_none(model, cache, monkeypatch):
    monkeypatch.setattr(paddle.base.core, "supports_bfloat16", lambda: False)
    with pytest.raises(ConfigError, match="AVX-512"):
        build_writer(model, "auto", "bfloat16", weights="golden", programs=cache, ranks=Ranks())


def test_an_export_in_training_is_for_many_images(model):
    assert type(writer_in_training(model, 63)) is EagerWriter
    assert isinstance(writer_in_training(model, 64), ExportedWriter)


def test_few_shapes_reach_the_program(exported, prefix, monkeypatch):
    """What is prepared for a shape stays in memory."""
    widths, run = set(), ExportedWriter.run

    def watched(self, new, seen, logits=True):
        widths.add(tuple(part.keys[0].shape[2] for part in seen))
        return run(self, new, seen, logits)

    monkeypatch.setattr(ExportedWriter, "run", watched)
    for images in ([0, 1], [2, 3], [4, 5], [6, 7]):
        generate(exported, prefix.take(images), SPECIALS, Decoding(num_beams=5))
    prefixes, words = ({width[place] for width in widths if len(width) == 2} for place in range(2))
    assert prefixes <= {16, 32, 48} and words <= {16, 40, 60, 80, 100}


# ---- the scorer ----


BEAMS = Decoding(num_beams=3, keep=2)


def backend(writer, decoding=BEAMS, **more):
    return CaptionBackend(writer, SPECIALS, decoding, **more)


def test_results_stand_with_their_images_whatever_the_batch(model, data, expected):
    case = next(
        c for c in expected["beam"] if (c["num_beams"], c["length_penalty"], c["repetition_penalty"]) == (3, 1, 1)
    )
    for batch_tokens in (1, 200, 4096):
        scorer = CaptionScorer(backend(eager_writer(model)), data, batch_tokens)
        results = score_in_memory(scorer, caption_groups(8, scorer.backend.columns), Ranks())
        assert results.shape == (8, 2 * 21) and results.dtype == np.float32
        ids, scores = split_captions(results, 20)
        assert (ids == np.array(case["keepK"]["ids"])[:, :2]).all()
        np.testing.assert_allclose(scores, np.array(case["keepK"]["scores"])[:, :2], rtol=0, atol=1e-5)


def test_samples_have_the_seeds_of_their_images(model, data):
    decoding = Decoding(do_sample=True, keep=2)

    def draws(images):
        return seeded_draws([(image, number) for image in images for number in range(2)])

    found = [
        CaptionScorer(backend(eager_writer(model), decoding, draws=draws), data, tokens).score(block)
        for tokens in (1, 4096)
        for block in caption_groups(8, 42)[0]
    ]
    assert (split_captions(found[0], 20)[0] == split_captions(found[1], 20)[0]).all()


def test_a_batch_is_bounded_by_its_positions(model, data):
    scorer = CaptionScorer(backend(eager_writer(model)), data, 300)
    sizes = [
        len(rows) * (int((prefix.text_length + prefix.num_regions).max()) + 3 * 20)
        for rows, prefix in scorer.block_batches(caption_groups(8, 42)[0][0])
    ]
    assert len(sizes) > 1 and max(sizes) <= 300
    assert backend(eager_writer(model), Decoding(do_sample=True, keep=4)).written == 4 * 20
    assert scorer.speed(caption_groups(8, 42)[0][0]) > 0 and scorer.title == "captions of 8 images"


def test_blocks_do_not_depend_on_the_ranks():
    blocks = [group[0] for group in caption_groups(150, 21)]
    assert [len(block.rows) for block in blocks] == [64, 64, 22]
    assert {len(block.columns) for block in blocks} == {21}


def test_ids_beyond_the_tables_name_their_image(model, prefix):
    ids = prefix.input_ids.copy()
    ids[5] = 186
    data = types.SimpleNamespace(image_ids=list("abcdefgh"), prefix=prefix._replace(input_ids=ids).take)
    with pytest.raises(DataError, match="image b: input_ids hold 186, but the model's table has 186 rows"):
        CaptionScorer(backend(eager_writer(model)), data, 4096).score(caption_groups(8, 42)[0][0])


def test_a_separate_decoder_is_exported_too(tmp_path):
    model = tiny_model(OscarForCaptioning, vocab_size=40, hidden_size=32, max_position_embeddings=30)
    writer = build_writer(model, "inference", "float32", weights="tiny", programs=tmp_path, ranks=Ranks())
    prefix = CaptionPrefix(*np.ones((3, 2), np.int64), np.array([2]), np.ones((1, 7), np.float32), np.array([1]))
    with paddle.no_grad():
        both = [
            np.asarray(Captions(one, prefix, 3).advance(np.ones((1, 1), int))) for one in (writer, EagerWriter(model))
        ]
    np.testing.assert_allclose(*both, rtol=0, atol=1e-4)
