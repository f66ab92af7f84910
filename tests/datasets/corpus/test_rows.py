"""What a row of a corpus, of labels and of answers says, whatever is written in it."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.corpus.definition import IN_CHUNKS, IN_ONE_PIECE
from oscar_paddle.datasets.corpus.rows import CorpusRow, parse_answer_row, parse_corpus_row, parse_label_row

NAMES = (*IN_ONE_PIECE, *IN_CHUNKS)
ids = st.text("0123456789abcdef-é", min_size=1, max_size=12)
texts = st.text(st.characters(blacklist_categories=("C", "Z")), min_size=1)


@given(
    st.sampled_from(NAMES), st.integers(0, 10**8), ids, ids, st.booleans(), texts, st.sampled_from(["", "\r", " \t x"])
)
def test_a_row_says_what_was_written(name, chunk, image_id, answer_id, is_answer, text, end):
    in_chunks = name in IN_CHUNKS
    image_key = f"{name}_{chunk}_{image_id}" if in_chunks else f"{name}_{image_id}"
    label_key = f"{name}_qa_{image_id}_{answer_id}" if is_answer else f"{name}_{image_id}"
    label_id = answer_id if is_answer else image_id
    row = parse_corpus_row(f"{image_key}\t{label_key}\t{text}{end}".encode(), NAMES)
    expected = image_key, name, chunk if in_chunks else -1, image_id, is_answer, label_id, text
    assert row == CorpusRow(*(each.encode() if isinstance(each, str) and each != name else each for each in expected))


@given(st.binary(max_size=60))
def test_any_bytes_are_a_row_or_a_data_error(line):
    for parse in (lambda line: parse_corpus_row(line, NAMES), parse_label_row, parse_answer_row):
        try:
            parse(line)
        except DataError as error:
            assert str(error) and "\n" not in str(error)


@given(
    st.lists(
        st.sampled_from([b"coco", b"oi", b"qa", b"7", b"", b"_", b"\t", b"a b", b"{", b'{"labels": ["a"]}']), max_size=9
    )
)
def test_any_mixture_of_parts_is_a_row_or_a_data_error(parts):
    line = b"".join(parts)
    for parse in (lambda line: parse_corpus_row(line, NAMES), parse_label_row, parse_answer_row):
        try:
            found = parse(line)
        except DataError:
            continue
        if isinstance(found, CorpusRow):
            assert found.text and found.image_id and found.label_id


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("coco_1\tcoco_1", "2 columns; expected image key, label key and text with tabs between"),
        ("coco_1", "1 column; expected image key"),
        ("coco_1\tcoco_1\t ", "the text of 'coco_1' is empty; leave the row out"),
        ("coco_1\tgqa_1\tx", "the image key 'coco_1' is of another data set than the label key 'gqa_1'"),
        ("coco\tcoco_1\tx", "the image key is 'coco'; expected coco_<image id>"),
        ("oi_7\toi_7\tx", "the image key is 'oi_7'; expected oi_<chunk>_<image id>, the chunk a number"),
        ("oi_x_7\toi_7\tx", "the image key is 'oi_x_7'; expected oi_<chunk>_<image id>"),
        ("oi_01_7\toi_7\tx", "the image key is 'oi_01_7'; expected oi_<chunk>_<image id>"),
        ("coco_1\tcoco_\tx", "the label key is 'coco_'; expected coco_<image id> or coco_qa_<image id>_<answer id>"),
        ("gqa_1\tgqa_qa_5\tx", "the label key is 'gqa_qa_5'; expected gqa_<image id> or gqa_qa_<image id>_<answer id>"),
    ],
)
def test_what_a_wrong_row_says(line, said):
    with pytest.raises(DataError) as error:
        parse_corpus_row(line.encode(), NAMES)
    assert str(error.value).startswith(said)


def test_rows_of_other_data_sets_are_passed_over_and_cc_is_googlecc():
    assert parse_corpus_row(b"flickr30k_1\tflickr30k_1\tx", ("coco",)) is None
    assert parse_corpus_row(b"cc_0_1\tcc_1\tx", ("googlecc",)).data_set == "googlecc"
    assert parse_corpus_row(b"cc_0_1\tgooglecc_1\tx", ("googlecc",)).chunk == 0


def test_labels():
    objects, better = [{"class": "dog"}, {"class": "grey cat"}], [{"class": "wolf"}]
    both = f"7\t{json.dumps({'objects': objects, 'gt_objects': better})}".encode()
    assert parse_label_row(both) == (b"7", "wolf")
    assert parse_label_row(both, use_gtlabels=False) == (b"7", "dog grey cat")
    assert parse_label_row(b'7\t{"objects": []}') == (b"7", "")
    assert parse_answer_row(b'11\t{"labels": ["yes", "a dog"]}\r') == (b"11", "yes a dog")


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("7", "one column; expected an id and JSON with a tab between"),
        ("7\t{", "'7': malformed JSON"),
        ("7\t[]", "'7': a list; expected a JSON object"),
        ('7\t{"object": []}', "image '7': 'objects' is missing; expected a list of objects with a 'class'"),
        ('7\t{"objects": [{"class": 3}]}', "image '7': an object of 'objects' has no 'class', which is a text"),
        ('7\t{"objects": ["dog"]}', "image '7': an object of 'objects' has no 'class'"),
    ],
)
def test_what_wrong_labels_say(line, said):
    with pytest.raises(DataError) as error:
        parse_label_row(line.encode())
    assert str(error.value).startswith(said)
    with pytest.raises(DataError, match="expected"):
        parse_answer_row(b'7\t{"labels": "yes"}')
