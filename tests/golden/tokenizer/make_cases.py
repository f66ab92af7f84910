"""Makes vocab.txt and cases.json: odd texts and what the reference tokenizer says about them.

Run in an environment of its own (none of this is a dependency of the project):

    pip install torch pytorch-transformers==1.1.0
    python make_cases.py

pytorch-transformers 1.1.0 is the library that the Oscar and VinVL code was released with.
"""

import json
import random
import string
import unicodedata
from pathlib import Path

HERE = Path(__file__).parent
SPECIAL = ["[PAD]", "[unused1]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]  # not at the usual ids, on purpose
LETTERS = string.ascii_letters + string.digits + "éÉßσςΣ人狗€½ºµあ"
WORDS = ["man", "dog", "cafe", "naive", "riding", "SEP", "sep", "mask", "street", "the", "red", "\u0303", "\u1100"]
FRAGMENTS = [*SPECIAL, *WORDS, "[sep]", "[", "]", "[SE\u200bP]", "[[SEP]]", "[CLS[SEP]", "[MASK]", "[unused1]", "##ing"]
ODD = (
    "\u200b\u00ad\u2028\u2029\u0085\x00\x0b\x0c\x1c\x1f\u3000\u1680\u180e\ufeff\ufffd\u0301\u0307\u00a0\u2009\u202f"
    "\u2060\u0130\u00df\u03a3\u03c2\ufb01\u212b\u1fef\u037e\u2000\u0340\u00b4\u0345\u1100\uac00\uf900\u4e00\u9fa5\u3400"
    "\u3007\U00020000\ue000\u20ac\u00b2\u00ba\u00b5\u2014\u2019\u00bf\u00d8\ufe0f"
)


def character(rng):
    """One character, a third of them odd; only such that every Python since 3.10 classifies alike."""
    kind = rng.random()
    if kind < 0.5:
        return chr(rng.randrange(32, 127))
    if kind < 0.75:
        return rng.choice(ODD)
    while True:
        char = chr(rng.randrange(0x80, 0x3100) if kind < 0.95 else rng.randrange(0x3100, 0xFFFF))
        category = unicodedata.category(char)
        if category == unicodedata.ucd_3_2_0.category(char) and category not in ("Cs", "Cn"):
            return char


def text(rng):
    parts = []
    for _ in range(rng.randrange(0, 9)):
        kind = rng.random()
        if kind < 0.4:
            parts.append("".join(character(rng) for _ in range(rng.randrange(1, 7))))
        elif kind < 0.98:
            parts.append(rng.choice(FRAGMENTS) + rng.choice(["", "", "ing", "er's", ".", "É"]))
        else:
            parts.append(rng.choice("aéΣ狗") * rng.randrange(98, 104))
        parts.append(rng.choice(["", " ", " ", "\t", "\n", "\u00a0"]))
    return "".join(parts)


def main():
    from pytorch_transformers import BertTokenizer

    pieces = [*SPECIAL, *string.punctuation, *LETTERS, *("##" + letter for letter in LETTERS), *WORDS, "##ing", "##er"]
    (HERE / "vocab.txt").write_text("".join(f"{piece}\n" for piece in dict.fromkeys(pieces)), encoding="utf-8")
    rng = random.Random(13)
    texts = ["", " ", "\u200b", "the[MASK]sign [SEP] red [sep]", *(text(rng) for _ in range(300))]
    cases = {"texts": texts}
    for name, lower in (("lower", True), ("cased", False)):
        tokenizer = BertTokenizer(str(HERE / "vocab.txt"), do_lower_case=lower, max_len=10**9)
        cases[name] = [tokenizer.convert_tokens_to_ids(tokenizer.tokenize(text)) for text in texts]
    lines = ",\n".join(f'"{key}": [\n' + ",\n".join(map(json.dumps, rows)) + "\n]" for key, rows in cases.items())
    (HERE / "cases.json").write_text(f"{{\n{lines}\n}}\n", encoding="ascii")


if __name__ == "__main__":
    main()
