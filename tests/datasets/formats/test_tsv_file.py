"""Rows by number, and an index that is believed only as far as the file agrees with it."""

import logging
import os
import pickle
import threading
import time
import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.formats.tsv_file import TsvFile

CONTENT = b"9\t2\tabc\n31\t1\tde f\n7\t\tx\n"
INDEX = "0\n8\n18\n"


@pytest.fixture
def write(tmp_path):
    def write(content=CONTENT, index=None):
        path = tmp_path / "rows.tsv"
        path.write_bytes(content)
        if index is not None:
            (tmp_path / "rows.lineidx").write_text(index)
        return path

    return write


def index_of(path):
    return path.with_suffix(".lineidx").read_text()


def check(file):
    assert len(file) == 3
    assert file.row(0) == [b"9", b"2", b"abc"]
    assert file.row(1) == [b"31", b"1", b"de f"]
    assert file.row(2) == [b"7", b"", b"x"]
    assert file.first_fields() == ["9", "31", "7"]


@pytest.mark.parametrize("content", [CONTENT, CONTENT[:-1], CONTENT.replace(b"\n", b"\r\n"), CONTENT + b"\n \r\n\n"])
def test_rows_with_every_kind_of_line_end(write, content):
    check(TsvFile(write(content)))
    check(TsvFile(write(content)))  # with the index that the first one wrote


def test_fields_are_stripped(write):
    assert TsvFile(write(b" 9 \t a b\r\n")).row(0) == [b"9", b"a b"]


def test_the_published_index_is_used_as_it_is(golden, caplog):
    with caplog.at_level(logging.INFO):
        file = TsvFile(golden / "model_0060000" / "features.tsv")
    assert not caplog.records
    assert len(file) == 12
    assert file.first_fields()[:3] == ["535180", "404011", "359332"]
    assert [len(file.row(number)) for number in range(12)] == [3] * 12


def test_a_missing_index_is_built_and_written(write, caplog):
    path = write()
    with caplog.at_level(logging.INFO):
        check(TsvFile(path))
    assert index_of(path) == INDEX
    assert "building" in caplog.text
    assert [name.name for name in path.parent.iterdir() if "tmp" in name.name] == []


@pytest.mark.parametrize(
    ("index", "reason"),
    [
        ("", "does not begin with offset 0"),
        ("8\n18\n", "does not begin with offset 0"),
        ("0\n18\n8\n", "do not increase"),
        ("0\n8\n8\n18\n", "do not increase"),
        ("0\n8\n18\n24\n", "reaches to byte 24"),
        ("0\n8\n18\n999999999999\n", "reaches to byte"),
        ("0\n9\n18\n", "no line starts at the offset of row 2"),
        ("0\n8\n", "more rows than 2"),
        ("0\n-8\n18\n", "do not increase"),
        ("0\neight\n18\n", "cannot be used"),
        ("0\n99999999999999999999999\n", "cannot be used"),
        ("\x00\x01", "cannot be used"),
    ],
)
def test_a_stale_index_is_rebuilt(write, caplog, index, reason):
    path = write(index=index)
    check(TsvFile(path))
    assert reason in caplog.text
    assert index_of(path) == INDEX


def test_staleness_is_a_matter_of_content_not_of_time(write, caplog):
    path = write(index=INDEX)
    os.utime(path.with_suffix(".lineidx"), (0, 0))  # a copy in another order makes the index look older
    check(TsvFile(path))
    assert not caplog.records


def test_what_the_check_at_opening_misses_is_mended_at_the_row(tmp_path, caplog):
    """An index of 1,000 rows in which one entry is missing and one is wrong: too few to be in the sample."""
    path = tmp_path / "rows.tsv"
    path.write_bytes(b"".join(b"%d\tvalue %d\n" % (number, number) for number in range(1000)))
    TsvFile(path)
    caplog.clear()  # whatever level other tests have set
    good = index_of(path).split()
    sampled = set(np.unique(np.linspace(0, 999, 64).astype(int)).tolist())
    wrong = next(number for number in range(400, 600) if not sampled & {number - 1, number, number + 1})
    for damaged in (good[:wrong] + [str(int(good[wrong]) + 1)] + good[wrong + 1 :], good[:wrong] + good[wrong + 1 :]):
        for read in (lambda file: file.row(wrong)[0].decode(), lambda file: file.first_fields()[wrong]):
            path.with_suffix(".lineidx").write_text("\n".join(damaged))
            file = TsvFile(path)
            if len(damaged) == 1000:
                assert not caplog.records
                assert read(file) == str(wrong)
            else:
                assert file.row(wrong - 1) == [str(wrong - 1).encode(), f"value {wrong - 1}".encode()]
                assert read(file) == str(wrong)
            assert len(file) == 1000
            assert index_of(path).split() == good
            caplog.clear()


def test_a_folder_that_cannot_be_written_keeps_the_index_in_memory(write, caplog, monkeypatch):
    path = write()
    monkeypatch.setattr(os, "replace", lambda *_: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
    check(TsvFile(path))
    assert "stays in memory" in caplog.text
    assert not path.with_suffix(".lineidx").exists()


@pytest.mark.parametrize(
    ("content", "message"), [(b"", "has no rows"), (b"\n\n \n", "has no rows"), (None, "no such file")]
)
def test_files_without_rows(write, tmp_path, content, message):
    path = tmp_path / "missing.tsv" if content is None else write(content)
    with pytest.raises(DataError, match=message) as caught:
        TsvFile(path)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize("number", [3, -1])
def test_rows_that_do_not_exist(write, number):
    file = TsvFile(write())
    with pytest.raises(DataError, match="has 3 rows"):
        file.row(number)


def test_a_first_field_that_is_no_text(write):
    with pytest.raises(DataError, match="row 1: the first field"):
        TsvFile(write(b"\xff\xfe\tx\n")).first_fields()


def test_long_first_fields_and_rows_without_tabs(write):
    file = TsvFile(write(b"a" * 5000 + b"\tx\n" + b"b" * 300 + b"\n"))
    assert file.first_fields() == ["a" * 5000, "b" * 300]


def test_a_file_that_shrinks_while_it_is_read(write):
    path = write()
    file = TsvFile(path)
    path.write_bytes(CONTENT[:8])
    with pytest.raises(DataError, match="row 3"):
        file.row(2)


def test_threads_forks_and_pickling(write):
    rows = [b"%d\t%s" % (number, b"x" * (number % 97)) for number in range(500)]
    file = TsvFile(write(b"\n".join(rows)))
    expected = [row.split(b"\t") for row in rows]
    found = [None] * 4

    def read(slot):
        order = np.random.default_rng(slot).permutation(500)
        found[slot] = all(file.row(int(number)) == expected[number] for number in order)

    threads = [threading.Thread(target=read, args=(slot,)) for slot in range(4)]
    [thread.start() for thread in threads]
    [thread.join() for thread in threads]
    assert found == [True] * 4

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # forking with threads around
        child = os.fork()
    if child == 0:
        read(0)
        os._exit(0 if found[0] else 1)
    read(1)
    assert os.waitpid(child, 0)[1] == 0 and found[1]

    copy = pickle.loads(pickle.dumps(file))
    assert copy.row(321) == expected[321]


@pytest.mark.skipif(not os.path.isdir("/proc/self/fd"), reason="counts descriptors in /proc")
def test_descriptors_are_closed(write):
    path = write()
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(20):
        TsvFile(path).row(0)
    assert len(os.listdir("/proc/self/fd")) == before


def test_opening_123287_rows_is_quick(tmp_path):
    path = tmp_path / "rows.tsv"
    rows = [b"%d\t%s" % (number * 7, b"x" * (number % 50)) for number in range(123287)]
    path.write_bytes(b"\n".join(rows) + b"\n")
    TsvFile(path)
    start = time.monotonic()
    file = TsvFile(path)
    opened = time.monotonic()
    ids = file.first_fields()
    assert len(file) == len(ids) == 123287 and ids[-1] == str(123286 * 7)
    assert opened - start < 3  # about 0.02 seconds measured
    assert time.monotonic() - opened < 20  # about 0.3


@settings(max_examples=100)
@given(
    st.lists(st.binary(max_size=80).map(lambda row: b"i" + row.replace(b"\n", b"")), min_size=1, max_size=30),
    st.booleans(),
    st.lists(st.integers(-5, 3000), max_size=30) | st.binary(max_size=60),
)
def test_any_index_gives_the_rows_of_the_file(tmp_path_factory, rows, last_end, index):
    path = tmp_path_factory.getbasetemp() / "any.tsv"
    path.write_bytes(b"\n".join(rows) + b"\n" * last_end)
    text = index if isinstance(index, bytes) else "\n".join(map(str, index)).encode()
    path.with_suffix(".lineidx").write_bytes(text)
    file = TsvFile(path)
    for number in range(len(rows)):
        if number < len(file):
            found = file.row(number)
            if len(file) == len(rows):
                assert found == [field.strip() for field in rows[number].split(b"\t")]
    assert len(file) == len(rows)  # every row was read, so whatever was wrong has come out
