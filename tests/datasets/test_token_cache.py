"""The token-id cache gives the ids a fresh computation would, whatever happened to its files."""

import logging
import multiprocessing
import os
import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets import token_cache
from oscar_paddle.datasets.token_cache import token_table

TEXTS = ["a dog", "", "a man", "a dog", "狗", "x" * 500, "a man"]


class Letters:
    """Stands in for a tokenizer: code points as ids, and a count of the texts it saw."""

    def __init__(self, fingerprint="letters"):
        self.fingerprint = fingerprint
        self.seen = []

    def encode(self, text):
        self.seen.append(text)
        return [ord(char) for char in text]


class Refusing(Letters):
    """A tokenizer that must not be asked."""

    def encode(self, text):
        raise AssertionError(f"tokenised {text!r} again")


def expected(texts):
    return [[ord(char) for char in text] for text in texts]


def as_lists(table):
    return [table[i].tolist() for i in range(len(table))]


def cache_files(folder):
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """No test may touch the real user cache."""
    folder = tmp_path / "home"
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    return folder


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "data" / "cache"


def test_values_types_and_sharing(folder):
    table = token_table(TEXTS, Letters(), folder, "captions")
    assert len(table) == len(TEXTS)
    assert as_lists(table) == expected(TEXTS)
    assert table.lengths().tolist() == [len(text) for text in TEXTS]
    assert table.lengths(np.array([5, 1])).tolist() == [500, 0]
    starts = table.starts(np.array([[3, 2], [5, 5]]))
    assert table.ids[starts].tolist() == [[ord("a"), ord("a")], [ord("x"), ord("x")]]
    assert table.ids.dtype == np.int32 and table.offsets.dtype == np.int64 and table[0].dtype == np.int32
    assert len(table.ids) == sum(len(text) for text in set(TEXTS))  # equal strings are stored once
    assert np.shares_memory(table[0], table[3])
    assert table[-1].tolist() == expected(TEXTS)[-1]
    with pytest.raises(IndexError):
        table[len(TEXTS)]
    with pytest.raises(ValueError):
        table[0][0] = 1


def test_each_distinct_text_is_tokenised_once_and_then_never(folder):
    tokenizer = Letters()
    token_table(TEXTS, tokenizer, folder, "captions")
    assert sorted(text for text in tokenizer.seen if text != "a") == sorted(set(TEXTS))
    again = token_table(list(TEXTS), Refusing(), folder, "captions")
    assert as_lists(again) == expected(TEXTS)


def test_loaded_tables_are_mapped_from_the_file(folder):
    for tokenizer in (Letters(), Refusing()):  # written just now, found later
        table = token_table(TEXTS, tokenizer, folder, "captions")
        base = table.ids
        while isinstance(base, np.ndarray) and not isinstance(base, np.memmap):
            base = base.base
        assert isinstance(base, np.memmap)
        assert type(table.ids) is np.ndarray  # slicing a memmap itself is slow


def test_no_texts_at_all(folder):
    assert len(token_table([], Letters(), folder, "none")) == 0
    assert as_lists(token_table([], Refusing(), folder, "none")) == []
    assert as_lists(token_table(["", ""], Letters(), folder, "blank")) == [[], []]


@pytest.mark.parametrize(
    "other", [["ab", "c"], ["a", "bc", ""], ["bc", "a"], ["a", "bd"], ["a", "b", "c"], ["abc"], ["a", "b\x00c"]]
)
def test_other_texts_get_other_entries(folder, other):
    token_table(["a", "bc"], Letters(), folder, "t")
    assert as_lists(token_table(other, Letters(), folder, "t")) == expected(other)


def test_another_tokenizer_gets_another_entry(folder):
    token_table(TEXTS, Letters("cased"), folder, "t")
    tokenizer = Letters("uncased")
    token_table(TEXTS, tokenizer, folder, "t")
    assert tokenizer.seen


@given(st.lists(st.text(st.characters(), max_size=5), max_size=8), st.lists(st.text(max_size=5), max_size=8))
def test_keys_differ_exactly_when_the_texts_do(left, right):
    tokenizer = Letters()
    keys = [token_cache._content_key(texts, tokenizer, "t") for texts in (left, right)]
    assert (keys[0] == keys[1]) == (left == right)


def test_keys_do_not_depend_on_where_chunks_end(monkeypatch):
    texts = [str(i) for i in range(10)]
    keys = set()
    for size in (3, 4):
        monkeypatch.setattr(token_cache, "STRINGS_PER_HASH", size)
        keys |= {token_cache._content_key(texts, Letters(), "t"), token_cache._content_key(texts[::-1], Letters(), "t")}
    assert len(keys) == 4  # the chunk size is a constant; what matters is that order is seen across chunks


def test_broken_json_surrogates_are_no_problem(folder):
    texts = ["a\ud800b", "a\udc00b"]
    assert as_lists(token_table(texts, Letters(), folder, "t")) == expected(texts)
    assert as_lists(token_table(texts, Refusing(), folder, "t")) == expected(texts)


@pytest.mark.parametrize("bad", [None, 7, b"a dog", ["a dog"]])
def test_an_entry_that_is_no_string_is_named(folder, bad):
    with pytest.raises(DataError, match=r"minival_captions: entry 2 is (NoneType|int|bytes|list) .*expected a string"):
        token_table(["a", "b", bad], Letters(), folder, "minival_captions")


# ---------------------------------------------------------------- files


def test_older_entries_of_the_same_name_go_others_stay(folder):
    token_table(["a"], Letters(), folder, "train")
    token_table(["a"], Letters(), folder, "train_tags")
    (folder / "train.notes.npy").write_text("mine")
    (first,) = [name for name in cache_files(folder) if name.startswith("train.") and "notes" not in name]
    killed = folder / f".tmp-{first}-123-0123abcd"
    killed.write_text("half")
    os.utime(killed, (1, 1))
    busy = folder / f".tmp-{first}-124-0123abcd"
    busy.write_text("being written")

    token_table(["b"], Letters(), folder, "train")
    left = cache_files(folder)
    assert first not in left and killed.name not in left
    assert busy.name in left and "train.notes.npy" in left
    assert len([name for name in left if name.endswith(".npy")]) == 3
    assert as_lists(token_table(["a"], Refusing(), folder, "train_tags")) == [[97]]


def test_names_with_odd_characters_stay_inside_the_folder(folder):
    table = token_table(["a"], Letters(), folder, "../../train captions")
    assert as_lists(table) == [[97]]
    assert len(cache_files(folder)) == 1


def damage_cut(data):
    return data[: len(data) // 2]


def damage_flip_last(data):
    return data[:-1] + bytes([data[-1] ^ 1])


def damage_other_file(data):
    return b"not a numpy file"


def damage_longer(data):
    return data.replace(b"(", b"(9", 1)


def damage_type(data):
    return data.replace(b"<i4", b"<f4", 1)


def damage_empty(data):
    return b""


@pytest.mark.parametrize(
    "damage", [damage_cut, damage_flip_last, damage_other_file, damage_longer, damage_type, damage_empty]
)
def test_a_damaged_file_is_rebuilt_and_logged(folder, damage, caplog):
    token_table(TEXTS, Letters(), folder, "t")
    (path,) = folder.iterdir()
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    with caplog.at_level(logging.INFO):
        assert as_lists(token_table(TEXTS, Letters(), folder, "t")) == expected(TEXTS)
    assert str(path) in caplog.text
    assert path.read_bytes() == whole
    assert as_lists(token_table(TEXTS, Refusing(), folder, "t")) == expected(TEXTS)


@pytest.mark.filterwarnings("ignore")  # numpy's, about odd headers
@pytest.mark.parametrize("flip", [0x01, 0x80])
def test_a_change_anywhere_is_noticed(folder, flip):
    texts = ["a dog", "", "a dog"]
    path = folder / "t.npy"
    token_cache._store(path, token_cache._tokenise(texts, Letters(), "t"))
    content = path.read_bytes()
    for position in range(len(content)):
        path.write_bytes(content[:position] + bytes([content[position] ^ flip]) + content[position + 1 :])
        table = token_cache._load(path)
        # Some bytes of the text header of a .npy say nothing (blanks): a change there may pass, a wrong value may not.
        assert table is None or (position < 128 and as_lists(table) == expected(texts)), position
    for length in range(0, len(content), 16):
        path.write_bytes(content[:length])
        assert token_cache._load(path) is None


def test_a_failed_write_leaves_nothing_behind(folder, monkeypatch):
    def full_disk(file, values):
        file.write(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(np, "save", full_disk)
    assert as_lists(token_table(TEXTS, Letters(), folder, "t")) == expected(TEXTS)
    assert cache_files(folder) == []


def test_an_unwritable_folder_falls_back_to_the_user_cache(tmp_path, home):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    assert as_lists(token_table(TEXTS, Letters(), blocked / "cache", "t")) == expected(TEXTS)
    assert as_lists(token_table(TEXTS, Refusing(), blocked / "cache", "t")) == expected(TEXTS)
    (written,) = home.rglob("*.npy")
    assert written.is_relative_to(home / "oscar_paddle")
    # Another data set whose folder cannot be written either must not push this one out.
    token_table(["b"], Letters(), blocked / "other", "t")
    assert written.exists()


def test_without_any_writable_folder_the_table_stays_in_memory(tmp_path, monkeypatch, caplog):
    blocked = tmp_path / "file"
    blocked.write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(blocked))
    table = token_table(TEXTS, Letters(), blocked / "cache", "t")
    assert as_lists(table) == expected(TEXTS)
    assert "stay in memory" in caplog.text
    with pytest.raises(ValueError):  # no more writable than a mapped file
        table[0][0] = 1


def test_the_user_cache_is_under_home_by_default(tmp_path, monkeypatch):
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert token_cache.user_cache("tokens", "anything").is_relative_to(tmp_path / ".cache" / "oscar_paddle")


def test_several_processes_at_once(folder):
    texts = [f"text {i % 300}" for i in range(2000)]
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    start = context.Barrier(4)

    def work():
        start.wait()
        results.put(as_lists(token_table(texts, Letters(), folder, "t")) == expected(texts))

    workers = [context.Process(target=work) for _ in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(30)
    assert [worker.exitcode for worker in workers] == [0, 0, 0, 0]
    assert all(results.get() for _ in workers)
    assert len(cache_files(folder)) == 1


def test_opening_600000_strings_from_the_cache_is_quick(folder):
    texts = [f"A man riding a wave on top of surfboard number {i % 4000}." for i in range(600_000)]
    token_table(texts, Letters(), folder, "t")
    start = time.perf_counter()
    token_table(texts, Refusing(), folder, "t")
    assert time.perf_counter() - start < 3  # 0.2 s on an idle machine
