"""Files and folders appear whole or not at all."""

import os

import pytest

from oscar_paddle.datasets.formats import whole_files
from oscar_paddle.datasets.formats.whole_files import flush, whole_file, whole_folder


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_when_it_is_whole(tmp_path):
    path = tmp_path / "new" / "a.json"
    with whole_file(path) as unfinished:
        unfinished.write_text("first")
        assert not path.exists() and unfinished.parent == path.parent
    with whole_file(path) as unfinished:
        unfinished.write_text("second")
        assert path.read_text() == "first"
    assert path.read_text() == "second" and names(path.parent) == ["a.json"]


@pytest.mark.parametrize("fails_in", ["the caller", "fsync"])
def test_a_failure_leaves_what_was_there(tmp_path, monkeypatch, fails_in):
    path = tmp_path / "a.json"
    path.write_text("old")

    def full_disk(descriptor):
        raise OSError(28, "No space left on device")

    if fails_in == "fsync":
        monkeypatch.setattr(os, "fsync", full_disk)
    with pytest.raises(OSError, match="No space"), whole_file(path) as unfinished:
        unfinished.write_text("half")
        if fails_in == "the caller":
            full_disk(0)
    assert path.read_text() == "old" and names(tmp_path) == ["a.json"]


def test_two_writers_of_one_file_do_not_meet(tmp_path):
    path = tmp_path / "a.json"
    with whole_file(path) as one:
        one.write_text("one")
        with whole_file(path) as other:
            other.write_text("other")
        assert path.read_text() == "other"
    assert path.read_text() == "one" and names(tmp_path) == ["a.json"]


def test_what_killed_writers_left_goes(tmp_path):
    left, busy, not_ours = (tmp_path / name for name in (".tmp-a[1]-7-0123abcd", ".tmp-a[1]-8-0123abcd", ".tmp-a[1]"))
    for path in (left, busy, not_ours):
        path.write_text("half")
    os.utime(left, (1, 1)), os.utime(not_ours, (1, 1))
    with whole_file(tmp_path / "a[1]") as unfinished:
        unfinished.write_text("whole")
    assert names(tmp_path) == sorted([busy.name, not_ours.name, "a[1]"])


@pytest.mark.parametrize("replace", [True, False])
def test_a_folder_that_is_there(tmp_path, replace):
    folder = tmp_path / "data"
    folder.mkdir()
    (folder / "old").touch()

    def write():
        with whole_folder(folder, replace) as unfinished:
            (unfinished / "new").touch()

    if replace:
        write()
        assert names(folder) == ["new"]
    else:
        with pytest.raises(OSError):
            write()
        assert names(folder) == ["old"]
    assert names(tmp_path) == ["data"]


def test_an_empty_folder_gives_way(tmp_path):
    (tmp_path / "data").mkdir()
    with whole_folder(tmp_path / "data", replace=False) as unfinished:
        (unfinished / "new").touch()
    assert names(tmp_path / "data") == ["new"]


def test_flush_reaches_the_disk(tmp_path, monkeypatch):
    flushed = []
    monkeypatch.setattr(whole_files.os, "fsync", lambda descriptor: flushed.append(os.fstat(descriptor).st_ino))
    for path in (tmp_path / "a", tmp_path):
        path.touch()
        flush(path)
    assert flushed == [(tmp_path / "a").stat().st_ino, tmp_path.stat().st_ino]
