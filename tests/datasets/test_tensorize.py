"""Rows, masks and padding: against the reference's arrays, then the boundaries one by one."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from padded import padded

from oscar_paddle.config.errors import ConfigError
from oscar_paddle.datasets.collate import collate
from oscar_paddle.datasets.tensorize import TextBuilder
from oscar_paddle.datasets.token_cache import TokenTable

CLS, SEP = 9, 10
GOLDEN = Path(__file__).parents[1] / "golden" / "retrieval"


def builder(max_seq_len):
    return TextBuilder(CLS, SEP, max_seq_len)


def ids(count, start=100):
    return list(range(start, start + count))


def table(*texts):
    texts = [np.asarray(text, np.int32) for text in texts]
    offsets = np.cumsum([0, *map(len, texts)])
    return TokenTable(np.concatenate(texts), offsets, np.arange(len(texts), dtype=np.int32))


def built(max_seq_len, caption, tags):
    """What the builder makes of one pair; tags is None without a second sentence."""
    rows = builder(max_seq_len).build_rows(table(caption), [0], table(tags or []), [0], np.array([tags is not None]))
    assert rows.input_ids.dtype == rows.token_type_ids.dtype == np.int64
    assert rows.position_ids.tolist() == list(range(rows.text_length[0]))
    return rows.input_ids, rows.token_type_ids, rows.caption_length[0]


def by_hand(max_seq_len, caption, tags):
    """The same row as docs/reference.md, retrieval rows tells it, with plain lists."""
    first = [CLS, *caption[: max_seq_len - 2], SEP]
    room = max_seq_len - len(first) - 1
    second = [] if tags is None or room < 0 else [*tags[:room], SEP]
    return first + second, [0] * len(first) + [1] * len(second), len(first)


# ---------------------------------------------------------------- against the reference


def test_the_first_forty_pairs_equal_the_reference(tmp_path):
    from oscar_paddle.datasets.captions.published import read_captions
    from oscar_paddle.datasets.regions.vinvl import ObjectTags
    from oscar_paddle.datasets.token_cache import token_table
    from oscar_paddle.datasets.tokenization import build_tokenizer

    expected = np.load(GOLDEN / "expected_arrays.npz")
    captions = read_captions(GOLDEN / "coco_ir", "test")
    tags = ObjectTags(GOLDEN / "model_0060000" / "predictions.tsv")
    keys = [int(line) for line in (GOLDEN / "coco_ir" / "test_img_keys.tsv").read_text().split()]
    tokenizer = build_tokenizer(GOLDEN / "checkpoint", do_lower_case=True)
    per_image, max_text, max_region = 5, 40, 12
    texts = [captions[key][number] for key in keys for number in range(per_image)]
    tag_texts = [tags[key] for key in keys]
    caption_table = token_table(texts, tokenizer, tmp_path, "captions")
    tag_table = token_table(tag_texts, tokenizer, tmp_path, "tags")

    pairs = np.arange(40)
    image, caption = pairs // len(texts), pairs % len(texts)
    has_tags = np.array([bool(text) for text in tag_texts])[image]
    text = TextBuilder(tokenizer.cls_id, tokenizer.sep_id, max_text)
    rows = text.build_rows(caption_table, caption, tag_table, image, has_tags)
    # The reference's own count of real regions; reading features is tested elsewhere.
    num_regions = expected["attention_mask"][:, max_text:].sum(axis=1)
    batch = collate(rows, [np.zeros((count, 1), np.float32) for count in num_regions], np.arange(40))
    found = padded(batch, "CLR", max_text, max_region)
    for name in ("input_ids", "token_type_ids", "attention_mask"):
        np.testing.assert_array_equal(found[name], expected[name])
    text_len = rows.text_length
    assert len(set(text_len.tolist())) > 3  # captions of many lengths, one of which leaves the tags no room
    assert text_len.max() == max_text


# ---------------------------------------------------------------- one row


def test_layout_of_a_row():
    input_ids, token_type_ids, caption_len = built(20, ids(3), ids(2, 200))
    assert input_ids.tolist() == [CLS, 100, 101, 102, SEP, 200, 201, SEP]
    assert token_type_ids.tolist() == [0, 0, 0, 0, 0, 1, 1, 1]
    assert caption_len == 5
    assert input_ids.dtype == token_type_ids.dtype == np.int64


def test_without_tags_there_is_no_second_sentence():
    input_ids, token_type_ids, caption_len = built(20, ids(2), None)
    assert input_ids.tolist() == [CLS, 100, 101, SEP]
    assert token_type_ids.tolist() == [0] * 4 and caption_len == 4


def test_tags_without_word_pieces_keep_their_separator():
    input_ids, token_type_ids, _ = built(20, ids(1), ids(0))
    assert input_ids.tolist() == [CLS, 100, SEP, SEP]
    assert token_type_ids.tolist() == [0, 0, 0, 1]


def test_plain_lists_and_an_empty_caption():
    input_ids, _, caption_len = built(20, [], [7])
    assert input_ids.tolist() == [CLS, SEP, 7, SEP] and caption_len == 2


@pytest.mark.parametrize(
    ("caption", "kept_caption", "kept_tags"),
    [
        (4, 4, 3),  # ten positions: 1 + 4 + 1 leave room for three tags and [SEP]
        (6, 6, 1),
        (7, 7, 0),  # one position left: the [SEP] of an empty second sentence
        (8, 8, None),  # the caption fills the row: no second sentence, no over-long row
        (9, 8, None),
        (50, 8, None),
    ],
)
def test_the_caption_keeps_its_room_and_the_tags_are_cut(caption, kept_caption, kept_tags):
    input_ids, token_type_ids, caption_len = built(10, ids(caption), ids(5, 200))
    expected = [CLS, *range(100, 100 + kept_caption), SEP]
    assert caption_len == len(expected)
    second = [] if kept_tags is None else [*range(200, 200 + kept_tags), SEP]
    assert input_ids.tolist() == expected + second
    assert token_type_ids.tolist() == [0] * len(expected) + [1] * len(second)


@given(st.integers(3, 30), st.integers(0, 40), st.none() | st.integers(0, 40))
def test_no_row_is_ever_too_long(max_seq_len, caption, tags):
    wanted_tags = None if tags is None else ids(tags, 200)
    row, segments, caption_len = built(max_seq_len, ids(caption), wanted_tags)
    assert (row.tolist(), segments.tolist(), caption_len) == by_hand(max_seq_len, ids(caption), wanted_tags)
    assert caption_len == min(caption, max_seq_len - 2) + 2
    assert caption_len <= len(row) == len(segments) <= max_seq_len
    assert row[caption_len - 1] == SEP and row[-1] == SEP
    assert segments.sum() == len(row) - caption_len


@pytest.mark.parametrize("length", [-1, 0, 2])
def test_a_row_without_room_for_a_word_is_a_config_error(length):
    with pytest.raises(ConfigError, match=rf"INPUT\.MAX_SEQ_LEN is {length};"):
        builder(length)


def test_rows_of_a_batch_do_not_mix():
    captions, tags = table(ids(3), ids(30), ids(1), ids(9)), table(ids(2, 200), ids(0), ids(40, 300))
    which = np.array([2, 0, 1, 0, 3, 2])
    whose = np.array([0, 1, 0, 1, 2, 2])
    has = np.array([True, True, True, False, True, True])
    text = builder(12)
    rows = text.build_rows(captions, which, tags, whose, has)
    for b in range(len(which)):
        row, segments, length = by_hand(12, captions[which[b]], tags[whose[b]] if has[b] else None)
        alone = rows.part(b, b + 1)
        assert (alone.input_ids.tolist(), alone.token_type_ids.tolist()) == (row, segments)
        assert alone.position_ids.tolist() == list(range(len(row)))
        assert (alone.caption_length[0], alone.text_length[0]) == (length, len(row))
    assert rows.text_length.tolist() == [6, 6, 12, 5, 12, 12]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=6), st.randoms())
def test_rows_are_taken_in_any_order(lengths, random):
    captions, tags = table(*(ids(count) for count, _ in lengths)), table(*(ids(count, 200) for _, count in lengths))
    index = np.arange(len(lengths))
    rows = builder(12).build_rows(captions, index, tags, index, np.ones(len(lengths), bool))
    order = random.choices(range(len(lengths)), k=4)
    taken = rows.take(np.array(order))
    for place, row in enumerate(order):
        for found, wanted in zip(taken.part(place, place + 1), rows.part(row, row + 1), strict=True):
            np.testing.assert_array_equal(found, wanted)
