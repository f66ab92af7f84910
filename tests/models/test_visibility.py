"""Masks and score biases, from the one table of who sees whom."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oscar_paddle.config.errors import ConfigError
from oscar_paddle.models.visibility import HIDDEN_BIAS, KINDS, kinds_of_rows, score_bias, visible

LETTERS = "ctr."  # of KINDS, in their order
ROWS = st.lists(st.tuples(st.integers(1, 5), st.integers(0, 4), st.integers(0, 4)), min_size=1, max_size=5)


def kinds(*rows):
    return np.array([[LETTERS.index(letter) for letter in row] for row in rows])


def test_the_kinds_of_a_row():
    found = kinds_of_rows(np.array([2, 1]), np.array([3, 1]), np.array([5, 3]), 6)
    assert ["".join(LETTERS[kind] for kind in row) for row in found] == ["cctrr.", "crr..."]
    assert len(KINDS) == len(LETTERS)


def test_clr_hides_padding_only():
    seen = visible("CLR", kinds("cct.r", "cr..."))
    assert seen.tolist() == [[True, True, True, False, True], [True, True, False, False, False]]
    np.testing.assert_array_equal(score_bias(seen)[:, 0, 0], np.where(seen, 0, np.float32(HIDDEN_BIAS)))


@pytest.mark.parametrize(("mask_type", "pair"), [("CL", "ct"), ("CR", "cr"), ("LR", "tr")])
def test_pair_masks_by_hand(mask_type, pair):
    row = "cct..r.."
    expected = [[q != "." != k and (q == k or {q, k} == set(pair)) for k in row] for q in row]
    assert visible(mask_type, kinds(row))[0].tolist() == expected


def test_a_caption_that_is_written_sees_what_is_there_so_far():
    """Captioning: a caption position sees itself, earlier ones, tags and regions; these never see the caption."""
    row = "ccctr."
    rule = {("c", "c"): "earlier", ("c", "t"): True, ("c", "r"): True, ("t", "t"): True, ("t", "r"): True}
    rule |= {("r", "t"): True, ("r", "r"): True}
    expected = [
        [k <= q if rule.get((a, b)) == "earlier" else rule.get((a, b), False) for k, b in enumerate(row)]
        for q, a in enumerate(row)
    ]
    assert visible("S2S", kinds(row))[0].tolist() == expected


@given(ROWS, st.sampled_from(["CLR", "CL", "CR", "LR", "S2S"]))
def test_rows_of_a_batch_do_not_mix(rows, mask_type):
    caption, tags, regions = np.array(rows).T
    ends = caption, caption + tags, caption + tags + regions
    together = score_bias(visible(mask_type, kinds_of_rows(*ends, int(ends[2].max()))))
    for row, end in enumerate(ends[2]):
        alone = score_bias(visible(mask_type, kinds_of_rows(*(values[row : row + 1] for values in ends), int(end))))
        np.testing.assert_array_equal(together[row, :, : alone.shape[2], :end], alone[0])
        assert (together[row, :, :, end:] == HIDDEN_BIAS).all()
    assert together.dtype == np.float32


def test_an_unknown_mask_type_lists_the_known_ones():
    with pytest.raises(ConfigError, match=r"INPUT\.ATT_MASK_TYPE is 'RL'; expected one of CLR, CL, CR, LR"):
        visible("RL", kinds("c"))
