"""Every pair is scored once, with the margin it has alone, whatever shares its batch."""

from types import SimpleNamespace

import numpy as np
import paddle
import pytest
from flat import text_rows
from hypothesis import given, settings
from hypothesis import strategies as st
from tiny import LENGTHS, SCORED, tiny_model

from oscar_paddle.config.errors import DataError
from oscar_paddle.models.losses import match_margin
from oscar_paddle.models.packing import pack
from oscar_paddle.solvers.scoring.backends import EagerBackend
from oscar_paddle.solvers.scoring.pairs import PairScorer
from oscar_paddle.solvers.scoring.rows import BLOCK_CELLS, Block, block_groups
from oscar_paddle.tools.bench.made_up import made_up_data


def one_by_one(model, data, images, captions):
    """Margins of pairs, each alone in its batch, through what training calls."""
    model.eval()
    with paddle.no_grad():
        rows = [
            match_margin(model(pack(data.batch([i], [c]), data.mask_type)))
            for i, c in zip(images, captions, strict=True)
        ]
    return np.concatenate([row.numpy() for row in rows])


@pytest.mark.parametrize("mask_type", ["CLR", "CL", "CR", "LR"])
@pytest.mark.parametrize("batch_tokens", [1, 60, 100_000])
def test_margins_are_those_of_single_pairs(model, data, mask_type, batch_tokens):
    data.mask_type = mask_type
    found = PairScorer(EagerBackend(model), data, batch_tokens).score(Block(range(1, 5), range(3, 18)))
    images, captions = np.repeat(np.arange(1, 5), 15), np.tile(np.arange(3, 18), 4)
    wanted = one_by_one(model, data, images, captions)
    assert found.shape == (4, 15) and found.dtype == np.float32
    np.testing.assert_allclose(found.ravel(), wanted, atol=2e-5)
    assert wanted.std() > 0.05  # margins that differ, or the comparison would show nothing


@pytest.mark.parametrize("mask_type", ["CLR", "LR"])
def test_fused_attention(model, data, mask_type):
    data.mask_type = mask_type
    wanted = PairScorer(EagerBackend(model), data, 200).score(Block(range(6), range(18)))
    fused = EagerBackend(model, fused=True)
    np.testing.assert_allclose(PairScorer(fused, data, 200).score(Block(range(6), range(18))), wanted, atol=2e-5)
    assert "fused" in fused.name


def test_rows_without_tags(model, data):
    data.has_tags[2:4] = False
    found = PairScorer(EagerBackend(model), data, 200).score(Block(range(6), range(18)))
    wanted = one_by_one(model, data, np.repeat(np.arange(6), 18), np.tile(np.arange(18), 6))
    np.testing.assert_allclose(found.ravel(), wanted, atol=2e-5)


def test_candidate_lists(model, data):
    data.candidates = np.random.RandomState(1).randint(18, size=(6, 5))
    scorer = PairScorer(EagerBackend(model), data, 200)
    found = scorer.score(Block(range(2, 6), range(1, 4)))
    wanted = one_by_one(model, data, np.repeat(np.arange(2, 6), 3), data.candidates[2:6, 1:4].ravel())
    assert scorer.num_columns == 5
    np.testing.assert_allclose(found.ravel(), wanted, atol=2e-5)


def test_each_image_is_read_once(model, data, monkeypatch):
    read = []
    original = type(data.regions).__getitem__
    monkeypatch.setattr(type(data.regions), "__getitem__", lambda self, key: read.append(key) or original(self, key))
    scorer = PairScorer(EagerBackend(model), data, 100)
    for columns in (range(0, 7), range(7, 18)):  # two blocks of the same images
        scorer.score(Block(range(0, 4), columns))
    assert read == [0, 1, 2, 3]


def test_progress_counts_every_pair(model, data):
    counted = []
    PairScorer(EagerBackend(model), data, 100).score(Block(range(6), range(18)), counted.append)
    assert sum(counted) == 108 and len(counted) > 3


def test_next_to_no_padding(model, tmp_path):
    data = made_up_data(tmp_path, 2, 1000, LENGTHS)
    batches = list(PairScorer(EagerBackend(model), data, 400).block_batches(Block(range(1), range(1000))))
    padded = sum(batch.order.size for _, batch, _ in batches)
    real = sum(int((batch.bias == 0).sum()) for _, batch, _ in batches)
    assert real < padded < 1.03 * real


@given(num_images=st.integers(1, 400), num_columns=st.integers(1, 3000))
@settings(max_examples=60)
def test_blocks_cover_the_matrix_once(num_images, num_columns):
    times = np.zeros((num_images, num_columns), np.uint8)
    groups = block_groups(num_images, num_columns)
    for group in groups:
        assert len({block.rows for block in group}) == 1
        for block in group:
            times[block.rows.start : block.rows.stop, block.columns.start : block.columns.stop] += 1
            assert 1 <= len(block.rows) * len(block.columns) <= BLOCK_CELLS[1]
    assert (times == 1).all()


@given(lengths=st.lists(st.integers(1, 50), min_size=1, max_size=80), batch_tokens=st.integers(1, 300))
def test_length_batches(lengths, batch_tokens):
    text, none = text_rows(np.random.default_rng(0), lengths), np.zeros(len(lengths), int)
    scorer = PairScorer(
        SimpleNamespace(margins=None), SimpleNamespace(mask_type="CLR", candidates=None, num_captions=1), batch_tokens
    )
    rows, longest = [], 51
    for here, batch in scorer.length_batches(text, none, none):
        rows += here.tolist()
        own = text.text_length[here]
        assert batch.order.shape == (len(here), own.max()) and own.max() <= longest
        assert len(here) == 1 or batch.order.size <= batch_tokens
        np.testing.assert_array_equal((batch.bias[:, 0, 0] == 0).sum(axis=1), own)
        longest = own.min()
    assert sorted(rows) == list(range(len(lengths)))


@pytest.mark.parametrize(
    ("table", "size", "words"),
    [
        ("vocab_size", 60, r"image [0-9]+, caption 0 of image [0-9]+: input_ids hold [0-9]+, but .* 60 rows \(vocab"),
        ("type_vocab_size", 1, "token_type_ids hold 1, but the model's table has 1 rows"),
        ("max_position_embeddings", 10, "position_ids hold 10, but the model's table has 10 rows"),
    ],
)
def test_ids_beyond_a_table_are_refused(data, table, size, words):
    """The CPU embedding reads what lies behind the table."""
    scorer = PairScorer(EagerBackend(tiny_model(**{**SCORED, table: size})), data, 4096)
    with pytest.raises(DataError, match=words):
        scorer.score(Block(range(6), range(1)))
