"""Text rows of the question tasks: which pieces of sentence and tags are kept."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from oscar_paddle.datasets.tensorize import LongestFirstBuilder, PairedLongestFirstBuilder
from oscar_paddle.datasets.token_cache import TokenTable

CLS, SEP = 1, 2
LENGTHS = st.integers(0, 20)


def one_by_one(sentence, tags, room):
    """The reference's loop: the longer one loses its last piece, the tags when both are equal."""
    while sentence + tags > room:
        if sentence > tags:
            sentence -= 1
        else:
            tags -= 1
    return sentence, tags


def table(*lengths):
    ids = np.arange(100, 100 + sum(lengths), dtype=np.int32)
    return TokenTable(ids, np.cumsum([0, *lengths]).astype(np.int64), np.arange(len(lengths), dtype=np.int32))


@given(st.lists(st.tuples(LENGTHS, LENGTHS, st.booleans()), min_size=1, max_size=8), st.integers(3, 16))
def test_lengths_are_those_of_the_loop(rows, max_seq_len):
    sentence, tags, has_tags = (np.array(column) for column in zip(*rows, strict=True))
    kept, tags_kept, text = LongestFirstBuilder(CLS, SEP, max_seq_len).row_lengths(sentence, tags, has_tags)
    for number, (a, b, second) in enumerate(rows):
        wanted = one_by_one(a, b, max_seq_len - 3) if second else (min(a, max_seq_len - 2), 0)
        assert (kept[number], max(tags_kept[number], 0)) == wanted
        assert text[number] == wanted[0] + 2 + (wanted[1] + 1 if wanted[1] else 0)  # no [SEP] without a piece
    assert text.max() <= max_seq_len


@given(st.lists(st.tuples(LENGTHS, LENGTHS, LENGTHS), min_size=1, max_size=5), st.booleans())
def test_what_a_sentence_loses_to_the_first_image_is_gone_for_the_second(pairs, has_tags):
    rows = [(sentence, tags) for sentence, *both in pairs for tags in both]
    sentence, tags = (np.array(column) for column in zip(*rows, strict=True))
    builder = PairedLongestFirstBuilder(CLS, SEP, 12)
    kept, tags_kept, _ = builder.row_lengths(sentence, tags, np.full(len(rows), has_tags))
    for number, (length, first, second) in enumerate(pairs):
        if not has_tags:
            wanted = [(min(length, 10), 0)] * 2
        else:
            wanted = [one_by_one(length, first, 9)]
            wanted.append(one_by_one(wanted[0][0], second, 9))
        places = (2 * number, 2 * number + 1)
        assert [(kept[i], max(tags_kept[i], 0)) for i in places] == wanted


def test_a_second_sentence_without_a_piece_costs_room_but_has_no_segment():
    builder = LongestFirstBuilder(CLS, SEP, 6)
    rows = builder.build_rows(table(9, 9), np.array([0, 1]), table(0, 0), np.array([0, 1]), np.array([True, False]))
    assert rows.input_ids.tolist() == [CLS, 100, 101, 102, SEP, CLS, 109, 110, 111, 112, SEP]
    assert not rows.token_type_ids.any() and rows.caption_length.tolist() == rows.text_length.tolist() == [5, 6]


def test_the_pieces_of_a_row():
    builder = LongestFirstBuilder(CLS, SEP, 9)
    ids, types, *_ = builder.build_rows(table(5), np.array([0]), table(4), np.array([0]), np.array([True]))
    assert ids.tolist() == [CLS, 100, 101, 102, SEP, 100, 101, 102, SEP]
    assert types.tolist() == [0, 0, 0, 0, 0, 1, 1, 1, 1]
