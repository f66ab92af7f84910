"""Text to word-piece ids, exactly as the reference tokenizer of Oscar and VinVL makes them.

The greedy WordPiece search is that of the `tokenizers` package; the steps before it are here, for no library has
exactly the reference's (PaddleNLP 2.8.1 also splits at symbols: "€5" becomes two words, the reference keeps one), and
every distinct word is cut once (566,000 COCO captions in about six seconds). This is the only file that imports
PaddleNLP, and only to fetch a vocabulary by name.

Source: docs/reference.md, tokenizer.
"""

import hashlib
import json
import re
import sys
import traceback
import unicodedata
import warnings
from pathlib import Path

from tokenizers.models import WordPiece

from oscar_paddle.config.errors import DataError
from oscar_paddle.config.signals import keeping_sigterm
from oscar_paddle.config.yaml_file import one_line

VOCAB_FILE = "vocab.txt"
CONFIG_FILE = "tokenizer_config.json"
UNK, CLS, SEP, PAD, MASK = "[UNK]", "[CLS]", "[SEP]", "[PAD]", "[MASK]"
REQUIRED_TOKENS = (PAD, UNK, CLS, SEP)
SPECIAL_TOKENS = (*REQUIRED_TOKENS, MASK)

# Part of every fingerprint: raise it when a change in this file can change an id.
TOKENIZER_VERSION = "oscar-wordpiece-1"
MAX_REMEMBERED_WORDS = 1_000_000  # about 200 MB; COCO has some 60,000 different words
MAX_WORD_CHARACTERS = 100  # upstream: a longer word is unknown

# What the reference's decoder changes in a text, in this order; "do not" is on its list, too.
_CLEAN_UP = (" .", "."), (" ?", "?"), (" !", "!"), (" ,", ","), (" ' ", "'"), (" n't", "n't"), (" 'm", "'m")
_CLEAN_UP += (" do not", " don't"), (" 's", "'s"), (" 've", "'ve"), (" 're", "'re")

_SPECIAL_IN_TEXT = re.compile("(" + "|".join(re.escape(token) for token in SPECIAL_TOKENS) + ")")
_CJK = re.compile(
    r"[\u4e00-\u9fff\u3400-\u4dbf\U00020000-\U0002a6df\U0002a700-\U0002ceaf\uf900-\ufaff\U0002f800-\U0002fa1f]"
)


def build_tokenizer(vocab_dir_or_name, do_lower_case):
    """The `Tokenizer` of a checkpoint folder, a vocabulary file, or a model name.

    Args:
        vocab_dir_or_name: a folder holding vocab.txt, the path of such a file, or a name PaddleNLP knows
            ("bert-base-uncased"), fetched once over the network.
        do_lower_case: True to lower-case and strip accents (INPUT.DO_LOWER_CASE).
    Raises:
        DataError: the vocabulary is missing, damaged, lacks a required token, or cannot be fetched.
    """
    if not str(vocab_dir_or_name):
        raise DataError(f"no vocabulary named; expected a folder with {VOCAB_FILE} or a model name (INPUT.BERT_MODEL)")
    path = Path(vocab_dir_or_name).expanduser()
    if path.is_dir():
        path = path / VOCAB_FILE
        if not path.is_file():
            raise DataError(f"{path}: no such file; a checkpoint folder needs the vocabulary it was trained with")
    if path.is_file():
        return Tokenizer(_read_vocab(path), do_lower_case, source=str(path))
    name = str(vocab_dir_or_name)
    if name.startswith((".", "/", "~")) or "\\" in name or name.count("/") > 1:  # no model is called so
        raise DataError(f"{name}: no such folder; expected a folder with {VOCAB_FILE} or a model name")
    return Tokenizer(_fetch_vocab(name), do_lower_case, source=f"PaddleNLP model '{name}'")


class Tokenizer:
    """Word pieces of one vocabulary.

    Args:
        tokens: list of str in id order.
        do_lower_case: bool.
        source: what error messages call the vocabulary.
    Raises:
        DataError: no tokens, a repeated token, or one of [PAD] [UNK] [CLS] [SEP] missing.

    Attributes:
        vocab: dict, token -> id, the line number from 0; vocab_size: their number.
        cls_id, sep_id, pad_id, unk_id: int. mask_id: int, or None when the vocabulary has no [MASK].
        fingerprint: hex string; equal fingerprints give equal ids for every text.
    """

    def __init__(self, tokens, do_lower_case, source="vocabulary"):
        self.vocab = _index_tokens(tokens, source)
        self._tokens = list(self.vocab)
        self.vocab_size = len(self.vocab)
        self.do_lower_case = bool(do_lower_case)
        self.pad_id, self.unk_id, self.cls_id, self.sep_id = (self.vocab[token] for token in REQUIRED_TOKENS)
        self.mask_id = self.vocab.get(MASK)
        # Character classes and case tables come with Python: a newer one may know more characters.
        parts = [TOKENIZER_VERSION, unicodedata.unidata_version, str(self.do_lower_case), *self.vocab]
        self.fingerprint = hashlib.sha256("\n".join(parts).encode()).hexdigest()
        self._word_ids = {}  # word -> tuple of ids; exact, since no step after clean-up looks beyond one word
        self._wordpiece = WordPiece(self.vocab, unk_token=UNK, max_input_chars_per_word=MAX_WORD_CHARACTERS)

    def encode(self, text):
        """Word-piece ids of a text, a list of int; no [CLS] or [SEP] is added.

        The five special tokens, written in capitals, become themselves wherever they stand.
        """
        ids = []
        # The capture group makes re.split alternate: ordinary text, special token, ordinary text, ...
        parts = _SPECIAL_IN_TEXT.split(text) if "[" in text else (text,)
        for position, part in enumerate(parts):
            if position % 2:
                ids.append(self.vocab.get(part, self.unk_id))
                continue
            for word in part.translate(_CLEAN).split():
                word_ids = self._word_ids.get(word)
                ids.extend(self._encode_word(word) if word_ids is None else word_ids)
        return ids

    def decode(self, ids):
        """The text of word-piece ids without special tokens, as the reference's decoder writes it.

        An id that the vocabulary lacks is written "[UNK]".

        Source: docs/reference.md, decoding.
        """
        special = {self.pad_id, self.unk_id, self.cls_id, self.sep_id, self.mask_id}
        words = (self._tokens[i] if i < self.vocab_size else UNK for i in map(int, ids) if i not in special)
        text = " ".join(words).replace(" ##", "").strip()
        for found, written in _CLEAN_UP:
            text = text.replace(found, written)
        return text

    def save(self, folder):
        """Write vocab.txt and tokenizer_config.json into a folder, readable by PaddleNLP and Hugging Face too."""
        folder = Path(folder)
        folder.mkdir(parents=True, exist_ok=True)
        (folder / VOCAB_FILE).write_bytes("".join(f"{token}\n" for token in self.vocab).encode())
        settings = {
            "tokenizer_class": "BertTokenizer",
            "do_lower_case": self.do_lower_case,
            "tokenize_chinese_chars": True,
            **{f"{token.strip('[]').lower()}_token": token for token in (UNK, SEP, PAD, CLS, MASK)},
        }
        (folder / CONFIG_FILE).write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")

    def _encode_word(self, word):
        """Ids of one cleaned word, remembered for next time."""
        plain = word
        # Upstream: clean-up can leave a word that now reads [SEP] ("[SE<zero width space>P]"). It is spared
        # lower-casing and then split at its brackets all the same.
        if self.do_lower_case and word not in SPECIAL_TOKENS:
            decomposed = unicodedata.normalize("NFD", word.lower())
            plain = "".join(char for char in decomposed if unicodedata.category(char) != "Mn")
        spaced = "".join(f" {char} " if _is_punctuation(char) else char for char in plain)
        word_ids = tuple(piece.id for part in spaced.split() for piece in self._wordpiece.tokenize(part))
        if len(self._word_ids) >= MAX_REMEMBERED_WORDS:
            self._word_ids.clear()
        self._word_ids[word] = word_ids
        return word_ids


class _CleanTable(dict):
    """For str.translate, filled on demand: invisible characters go, blanks become " ", CJK stands alone."""

    def __missing__(self, code):
        char = chr(code)
        category = unicodedata.category(char)
        if char in "\t\n\r" or category == "Zs":
            clean = " "
        elif category.startswith("C") or char == "\ufffd":
            clean = None  # str.translate drops it
        elif _CJK.match(char):
            clean = f" {char} "
        else:
            clean = char
        self[code] = clean
        return clean


_CLEAN = _CleanTable()


def _is_punctuation(char):
    """Every printable ASCII character but letters, digits and the blank; elsewhere Unicode class P."""
    if char.isascii():
        return "!" <= char <= "~" and not char.isalnum()
    return unicodedata.category(char).startswith("P")


def _read_vocab(path):
    """Tokens of vocab.txt in line order; blank lines at the end are no tokens."""
    try:
        # Not str.splitlines: Chinese vocabularies hold characters that it takes for line ends.
        tokens = path.read_text(encoding="utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not a vocabulary: byte {error.start} is not UTF-8 text") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from error
    while tokens and not tokens[-1]:
        tokens.pop()
    return tokens


def _index_tokens(tokens, source):
    """dict token -> id, after checking that the vocabulary can be one."""
    if not tokens:
        raise DataError(f"{source}: the vocabulary is empty; expected one word piece a line")
    vocab = {}
    for line, token in enumerate(tokens):
        first = vocab.setdefault(token, line)
        if first != line:
            raise DataError(f"{source}: line {line + 1} repeats {token!r} of line {first + 1}; each must be unique")
    missing = [token for token in REQUIRED_TOKENS if token not in vocab]
    if missing:
        raise DataError(f"{source}: not a BERT vocabulary: {' '.join(missing)} missing among {len(vocab)} lines")
    return vocab


def _fetch_vocab(name):
    """Tokens of a model PaddleNLP knows by name; its own cache makes the second time work offline."""
    here = f"put {VOCAB_FILE} into the checkpoint folder, or set INPUT.BERT_MODEL to a folder that holds one"
    try:
        with warnings.catch_warnings(), keeping_sigterm():
            warnings.simplefilter("ignore")  # about compilers and setuptools: nothing its user can act on
            from paddlenlp.transformers.bert.tokenizer import BertTokenizer
    except Exception as error:  # whatever the packages raise that it imports
        raise DataError(
            f"vocabulary '{name}': no such folder, and PaddleNLP, which fetches by name, cannot be imported "
            f"because of {_in_the_way(error)}; {here}; or pip install 'oscar-paddle[vocab]' (Python 3.10 to 3.12)"
        ) from error
    try:
        vocab = BertTokenizer.from_pretrained(name).vocab
        return [vocab.idx_to_token[index] for index in range(len(vocab))]
    except Exception as error:  # PaddleNLP documents none of what it raises: network, names, files
        raise DataError(
            f"vocabulary '{name}': neither a folder nor a model PaddleNLP could fetch ({type(error).__name__}); {here}"
        ) from error


def _in_the_way(error):
    """The package that an import failed at, with its version: the one it names, or the one that raised."""
    raised_in = [frame.f_globals.get("__name__", "") for frame, _ in traceback.walk_tb(error.__traceback__)][-1]
    package = (getattr(error, "name", None) or raised_in).split(".")[0]
    version = getattr(sys.modules.get(package), "__version__", "")
    return f"{' '.join(filter(None, (package, version)))} ({type(error).__name__}: {one_line(error)})"
