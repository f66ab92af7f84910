"""JSON lists of records, read one by one."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.questions import records as question_files
from oscar_paddle.datasets.questions.records import BY_KEY, LINES, field, read_records

VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=("Cs",))),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text('ab"\\[]{},é ', max_size=3), inner, max_size=3),
    max_leaves=8,
)
RECORDS = st.lists(st.dictionaries(st.text("qoan", max_size=2), VALUES, max_size=4), max_size=6)


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    return tmp_path_factory.mktemp("records") / "questions.json"


@given(RECORDS, st.sampled_from([None, 1]), st.booleans(), st.integers(1, 40))
def test_any_list_of_objects_comes_back(file, records, indent, ascii_only, chunk):
    """Whatever its spacing, and wherever the window over the file ends."""
    file.write_text(json.dumps(records, indent=indent, ensure_ascii=ascii_only) + "\n", encoding="utf-8")
    before, question_files._BLOCK = question_files._BLOCK, chunk
    try:
        assert list(read_records(file, "")) == list(enumerate(records))
    finally:
        question_files._BLOCK = before


@pytest.mark.parametrize(
    ("text", "inside"), [('[{"q": 1}]', "item"), ('{"q": 1}\r\n', LINES), ('{"a": {"q": 1}}', BY_KEY)]
)
def test_a_byte_order_mark_is_passed_over(file, text, inside):
    file.write_text(text, encoding="utf-8-sig")
    assert [record for _, record in read_records(file, "", inside)] == [{"q": 1}]


@given(st.binary(max_size=60))
def test_any_bytes_give_records_or_one_error(file, data):
    file.write_bytes(data)
    try:
        assert all(isinstance(record, dict) for _, record in read_records(file, ""))
    except DataError as error:
        assert str(error).startswith(f"{file}")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a JSON list of records, found the end of the file"),
        ('{"q": 1}', "expected a JSON list of records, found '{"),
        ('[{"q": 1}', "record 1: malformed JSON (premature EOF"),
        ('[{"q": 1} {"q": 2}]', "record 1: malformed JSON (after array element, I expect ',' or ']' near"),
        ('[{"q": 1}, 7]', "record 1: found int '7'; expected an object"),
        ('[{"q": 1}, {"q": ]', "record 1: malformed JSON (unallowed token at this point in JSON text near"),
        ('[{"q": 1}] x', "record 1: malformed JSON (trailing garbage near"),
        ('[{"q": 1}, {"q": NaN}]', "record 1: malformed JSON (invalid char in json text"),
        ('[{"q": 1}, {"q": "\udcff"}]', "record 1: malformed JSON (invalid bytes in UTF8 string"),
        ('[{"q": 1},' + '{"a":' * 3000, "record 1: malformed JSON (nested too deeply)"),
        ('[{"q": 1}, {"a":' + "[" * 3000 + "]" * 3000 + "}]", "record 1: malformed JSON (nested too deeply)"),
    ],
)
def test_what_is_no_list_of_records(tmp_path, text, message):
    path = tmp_path / "a.json"
    path.write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(DataError) as raised:
        list(read_records(path, ""))
    assert message in str(raised.value) and str(path) in str(raised.value)


@pytest.mark.parametrize("text", ["a ]] b", "a [ b, which goes on for a while"])
def test_the_number_of_a_damaged_record_far_into_the_file(tmp_path, monkeypatch, text):
    monkeypatch.setattr(question_files, "_MAX_RECORD", 20_000)  # of one record: the file may have any size
    path = tmp_path / "a.json"
    path.write_text("[" + f'{{"q": "{text}"}},' * 5000 + "{]")
    with pytest.raises(DataError, match="record 5000: malformed"):
        list(read_records(path, ""))


def test_a_record_without_an_end_is_not_read_to_the_end(tmp_path, monkeypatch):
    monkeypatch.setattr(question_files, "_MAX_RECORD", 20_000)
    path = tmp_path / "a.json"
    path.write_text('[{"q": 1}, {"q": "' + "a" * 50_000 + '"}]')
    with pytest.raises(DataError, match="record 1: malformed JSON .no end of the record in sight"):
        list(read_records(path, ""))


def test_numbers_come_as_json_gives_them_and_of_equal_names_the_last_counts(tmp_path):
    path = tmp_path / "a.json"
    path.write_text('[{"a": 1, "b": 1.0, "c": 1e2, "d": -0, "a": 2}]')
    ((_, record),) = read_records(path, "")
    assert record == {"a": 2, "b": 1.0, "c": 100.0, "d": 0}
    assert [type(value) for value in record.values()] == [int, float, float, int]


def test_a_missing_file_says_where_it_is_from(tmp_path):
    with pytest.raises(DataError, match="none.json: no such file; it comes from there"):
        list(read_records(tmp_path / "none.json", "it comes from there"))


@pytest.mark.parametrize(
    ("record", "message"),
    [
        ({}, "the field 'q' has nothing; expected str"),
        ({"q": 5}, "the field 'q' has int '5'; expected str"),
        ({"q": None}, "the field 'q' has NoneType 'None'; expected str"),
    ],
)
def test_fields(record, message):
    with pytest.raises(DataError, match=message):
        field(record, "q", str, "f record 3")


def test_true_is_no_number():
    with pytest.raises(DataError, match="has bool 'True'; expected int or str"):
        field({"q": True}, "q", (int, str), "f")


def test_other_places_of_records(tmp_path):
    path = tmp_path / "records.json"
    path.write_text('{"a": 1}\n\n{"a": 2.5}')
    assert list(read_records(path, "", LINES)) == [(0, {"a": 1}), (1, {"a": 2.5})]
    path.write_text('{"x": {"a": 1}, "07": {"a": []}}')
    assert list(read_records(path, "", BY_KEY)) == [("x", {"a": 1}), ("07", {"a": []})]
    path.write_text('{"info": {"a": [{}]}, "questions": [{"a": 1}, {"a": 2}], "license": 3}')
    assert list(read_records(path, "", "questions.item")) == [(0, {"a": 1}), (1, {"a": 2})]


@pytest.mark.parametrize(
    ("text", "inside", "message"),
    [
        ('{"a": 1}\n{"a": 2', LINES, "record 1: malformed JSON"),
        ('{"a": 1}\n[3]', LINES, r"record 1: found list '\[3\]'; expected an object"),
        ('[{"a": 1}]', LINES, "expected a JSON object of records, found"),
        ('{"x": {"a": 1}, "y": {"a":', BY_KEY, "after record x: malformed JSON"),
        ('{"x": 3}', BY_KEY, "record x: found int"),
        ('{"info": {}}', "questions.item", "no records; expected an object with a list 'questions'"),
        ('{"questions": [{"a": 1}, {"a"', "questions.item", "record 1: malformed JSON"),
    ],
)
def test_damage_elsewhere(tmp_path, text, inside, message):
    (tmp_path / "records.json").write_text(text)
    with pytest.raises(DataError, match=message):
        list(read_records(tmp_path / "records.json", "", inside))
