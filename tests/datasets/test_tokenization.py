"""Ids equal the reference tokenizer's; vocabularies that cannot work are refused with a clear line."""

import json
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets import tokenization
from oscar_paddle.datasets.tokenization import Tokenizer, build_tokenizer

GOLDEN = Path(__file__).parents[1] / "golden" / "tokenizer"
TOKENS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "a", "b", "##b", "man", "##s", ".", "人", "€", "##5", "[", "]"]


@pytest.fixture(scope="module")
def tokenizer():
    return build_tokenizer(GOLDEN, do_lower_case=True)


@pytest.fixture
def small():
    return Tokenizer(TOKENS, do_lower_case=True)


def write_vocab(folder, text):
    (folder / "vocab.txt").write_bytes(text if isinstance(text, bytes) else text.encode())
    return folder


# ---------------------------------------------------------------- text of ids


def test_captions_equal_the_references():
    golden = Path(__file__).parents[1] / "golden" / "captioning"
    expected = json.loads((golden / "expected.json").read_text())
    tokenizer, samples = build_tokenizer(golden / "checkpoint", do_lower_case=True), expected["scst"]["iteration"]
    assert [tokenizer.decode(ids) for ids in samples["sample_ids"]] == samples["sample_captions"]
    for run in expected["cbs"]["runs"]:
        assert [tokenizer.decode(ids) for ids in run["ids"]] == run["captions"]


def test_blanks_around_marks_and_short_forms():
    text = "do not ca n't i 'm you 've ' quoted ' she 's , they 're ! man ##s ? ."
    words = text.split()
    tokenizer = Tokenizer([*TOKENS[:5], *dict.fromkeys(words)], do_lower_case=True)
    ids = [tokenizer.vocab[word] for word in words]
    assert tokenizer.decode(ids) == "do not can't i'm you've'quoted'she's, they're! mans?."
    assert tokenizer.decode([*ids[:2], *ids[:2]]) == "do not don't", "only behind a blank, as upstream"
    assert tokenizer.decode([0, ids[6], tokenizer.unk_id, 99]) == "you [UNK]"


# ---------------------------------------------------------------- ids


@pytest.mark.parametrize("casing", ["lower", "cased"])
def test_ids_equal_the_reference_on_odd_texts(casing):
    cases = json.loads((GOLDEN / "cases.json").read_text())
    tokenizer = build_tokenizer(GOLDEN, do_lower_case=casing == "lower")
    for text, expected in zip(cases["texts"], cases[casing], strict=True):
        assert tokenizer.encode(text) == expected, ascii(text)


def test_ids_equal_the_official_vqa_rows():
    tokenizer = build_tokenizer(GOLDEN / "vqa", do_lower_case=True)
    rows = json.loads((GOLDEN / "vqa" / "rows.json").read_text())
    assert any("[MASK]" in row["question"] for row in rows)
    for row in rows:
        ids = [tokenizer.cls_id, *tokenizer.encode(row["question"]), tokenizer.sep_id]
        if row["tags"]:
            ids += [*tokenizer.encode(row["tags"]), tokenizer.sep_id]
        assert ids == row["input_ids"], row


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", []),
        (" \t\n\u200b\x00", []),
        ("A\u200bB", ["a", "##b"]),  # invisible characters vanish, they do not separate
        ("a\u00a0b\tb", ["a", "b", "b"]),
        ("Mäns.", ["man", "##s", "."]),
        ("人人", ["人", "人"]),
        ("€5", ["€", "##5"]),  # a symbol is no punctuation: one word (PaddleNLP's tokenizer makes two)
        ("the[MASK]man", ["[UNK]", "[MASK]", "man"]),
        ("[SEP][sep]", ["[SEP]", "[", "[UNK]", "]"]),
        ("[SE\u200bP]", ["[", "[UNK]", "]"]),
        ("ab" + "b" * 98, ["a"] + ["##b"] * 99),
        ("ab" + "b" * 99, ["[UNK]"]),  # more than 100 characters
        ("a\ud800b", ["a", "##b"]),  # half a surrogate pair, as broken JSON has it
    ],
)
def test_every_rule_once(small, text, expected):
    assert small.encode(text) == [small.vocab[token] for token in expected]


@given(st.text(max_size=40))
def test_any_text_gives_valid_ids_twice_the_same(tokenizer, text):
    ids = tokenizer.encode(text)
    assert tokenizer.encode(text) == ids
    assert all(0 <= i < tokenizer.vocab_size for i in ids)


@given(st.text(max_size=20), st.text(max_size=20))
def test_words_do_not_influence_each_other(tokenizer, left, right):
    assert tokenizer.encode(f"{left} {right}") == tokenizer.encode(left) + tokenizer.encode(right)


PIECES = st.text("ab\u0301人\U00020000#", max_size=3).flatmap(lambda text: st.sampled_from([text, f"##{text}"]))


def greedy(vocab, word):
    """WordPiece as the paper on BERT's reference has it: the longest piece, then the longest that goes on."""
    ids, start = [], 0
    while start < len(word):
        ends = range(len(word), start, -1)
        pieces = (f"{'##' if start else ''}{word[start:end]}" for end in ends)
        end, piece = next(((end, piece) for end, piece in zip(ends, pieces, strict=True) if piece in vocab), (0, None))
        if piece is None:
            return [vocab["[UNK]"]]
        ids.append(vocab[piece])
        start = end
    return ids if len(word) <= 100 else [vocab["[UNK]"]]


@given(
    st.lists(PIECES, max_size=30),
    st.text("ab人\U00020000", min_size=1, max_size=12),
    st.sampled_from([1, 99, 100, 101]),
)
def test_words_are_cut_greedily(pieces, word, least):
    tokenizer = Tokenizer(list(dict.fromkeys(["[PAD]", "[UNK]", "[CLS]", "[SEP]", *pieces])), do_lower_case=False)
    word = (word * least)[: max(least, len(word))]
    # Ideographs stand alone, whatever the vocabulary.
    parts = re.findall("[人\U00020000]|[^人\U00020000]+", word)
    assert tokenizer.encode(word) == [i for part in parts for i in greedy(tokenizer.vocab, part)]


def test_forgetting_words_does_not_change_ids(small, monkeypatch):
    monkeypatch.setattr(tokenization, "MAX_REMEMBERED_WORDS", 2)
    text = "a b man mans ab a b"
    assert small.encode(text) == small.encode(text) == Tokenizer(TOKENS, True).encode(text)
    assert len(small._word_ids) <= 2


# ---------------------------------------------------------------- vocabulary


def test_special_ids_and_attributes(small):
    assert (small.pad_id, small.unk_id, small.cls_id, small.sep_id, small.mask_id) == (0, 1, 2, 3, 4)
    assert small.vocab_size == len(TOKENS) == len(small.vocab)


def test_a_vocabulary_without_mask_is_fine():
    tokenizer = Tokenizer([token for token in TOKENS if token != "[MASK]"], True)
    assert tokenizer.mask_id is None
    assert tokenizer.encode("[MASK]") == [tokenizer.unk_id]


def test_folder_and_file_are_the_same(tmp_path):
    folder = write_vocab(tmp_path, "\r\n".join(TOKENS) + "\r\n\r\n")
    by_folder, by_file = build_tokenizer(str(folder), True), build_tokenizer(folder / "vocab.txt", True)
    assert list(by_folder.vocab) == TOKENS
    assert by_folder.fingerprint == by_file.fingerprint == Tokenizer(TOKENS, True).fingerprint


def test_a_line_separator_character_is_a_token_not_a_line_end(tmp_path):
    tokenizer = build_tokenizer(write_vocab(tmp_path, "\n".join([*TOKENS, "\u2028", "last"])), True)
    assert tokenizer.vocab["last"] == len(TOKENS) + 1


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", ["empty"]),
        ("\n\n", ["empty"]),
        ("[PAD]\n[UNK]\nman\n", ["[CLS] [SEP]", "missing"]),
        ("\n".join([*TOKENS, "man"]), ["line 17", "'man'", "line 9"]),
        (b"[PAD]\n\xff\xfe", ["UTF-8", "byte 6"]),
    ],
)
def test_a_damaged_vocabulary_is_refused_by_name(tmp_path, content, words):
    with pytest.raises(DataError) as error:
        build_tokenizer(write_vocab(tmp_path, content), True)
    for word in [str(tmp_path / "vocab.txt"), *words]:
        assert word in str(error.value)
    assert "\n" not in str(error.value)


def test_missing_places_are_named(tmp_path):
    with pytest.raises(DataError, match=re.escape(str(tmp_path / "vocab.txt"))):
        build_tokenizer(tmp_path, True)
    with pytest.raises(DataError, match="/no/such: no such folder"):
        build_tokenizer("/no/such", True)
    with pytest.raises(DataError, match=r"INPUT\.BERT_MODEL"):
        build_tokenizer("", True)


PADDLENLP = "paddlenlp.transformers.bert.tokenizer"


def by_name(monkeypatch, from_pretrained):
    """The tokenizer of a model name, with this function in PaddleNLP's place."""
    stand_in = SimpleNamespace(BertTokenizer=SimpleNamespace(from_pretrained=from_pretrained))
    monkeypatch.setitem(sys.modules, PADDLENLP, stand_in)
    return build_tokenizer("bert-base-uncased", True)


def test_a_name_that_cannot_be_fetched_says_what_to_do(monkeypatch):
    def offline(name):
        raise OSError("no network")

    with pytest.raises(DataError, match=r"'bert-base-uncased'.*OSError.*vocab\.txt.*INPUT\.BERT_MODEL"):
        by_name(monkeypatch, offline)


def test_a_name_gives_the_vocabulary_of_that_model(monkeypatch):
    tokens = (GOLDEN / "vocab.txt").read_text().split("\n")[:-1]

    class Vocab:
        """As PaddleNLP has it: a length and a dict."""

        idx_to_token = dict(enumerate(tokens))

        def __len__(self):
            return len(tokens)

    found = by_name(monkeypatch, lambda name: SimpleNamespace(vocab={"bert-base-uncased": Vocab()}[name]))
    assert found.fingerprint == build_tokenizer(GOLDEN, True).fingerprint


@pytest.mark.parametrize(
    ("paddlenlp", "package"),
    [
        (None, r"paddlenlp \(ModuleNotFoundError: "),
        ("from their_hub import repo_type", r"their_hub 9\.1 \(ImportError: cannot import name 'repo_type'"),
        ("import deep_thought", r"deep_thought \(RuntimeError: needs NumPy 3\)"),
        ("import tool_helpers_", r"tool_helpers_ \(ModuleNotFoundError: "),
    ],
)
def test_a_package_in_paddlenlps_way_is_named(tmp_path, monkeypatch, paddlenlp, package):
    for name in [name for name in sys.modules if name.split(".")[0] == "paddlenlp"]:
        monkeypatch.delitem(sys.modules, name)
    if paddlenlp is None:
        monkeypatch.setitem(sys.modules, "paddlenlp", None)
    else:
        (tmp_path / "paddlenlp.py").write_text(paddlenlp)
    (tmp_path / "their_hub.py").write_text("__version__ = '9.1'")
    (tmp_path / "deep_thought.py").write_text("raise RuntimeError('needs NumPy 3')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(DataError, match=rf"because of {package}.*; put vocab\.txt.*oscar-paddle\[vocab\].*3\.12"):
        build_tokenizer("bert-base-uncased", True)


# ---------------------------------------------------------------- identity, saving


def test_the_fingerprint_follows_what_changes_ids(small, monkeypatch):
    others = [
        Tokenizer(TOKENS, do_lower_case=False),
        Tokenizer([*TOKENS, "dog"], do_lower_case=True),
        Tokenizer([*TOKENS[:-2], TOKENS[-1], TOKENS[-2]], do_lower_case=True),
    ]
    monkeypatch.setattr(tokenization, "TOKENIZER_VERSION", "another")
    others.append(Tokenizer(TOKENS, do_lower_case=True))
    assert len({small.fingerprint, *(other.fingerprint for other in others)}) == 5


@pytest.mark.parametrize("lower", [True, False])
def test_saved_folders_open_again_here_and_in_paddlenlp(tmp_path, lower):
    tokenizer = build_tokenizer(GOLDEN, lower)
    tokenizer.save(tmp_path / "new" / "folder")
    folder = tmp_path / "new" / "folder"
    assert build_tokenizer(folder, lower).fingerprint == tokenizer.fingerprint
    theirs = pytest.importorskip("paddlenlp.transformers").BertTokenizer.from_pretrained(str(folder))
    assert theirs.do_lower_case is lower
    text = "The naïve man, riding [SEP] 狗"
    assert theirs.convert_tokens_to_ids(theirs.tokenize(text)) == tokenizer.encode(text)


def test_words_are_cut_without_paddlenlp_and_paddle():
    code = (
        "import sys; from oscar_paddle.datasets.tokenization import build_tokenizer\n"
        f"build_tokenizer({str(GOLDEN)!r}, True).encode('[SEP] a riding dog')\n"
        "sys.exit(bool({'paddlenlp', 'paddle'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
