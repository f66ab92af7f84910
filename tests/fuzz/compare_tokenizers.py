#!/usr/bin/env python
"""Compare token ids with those that PaddleNLP's WordPiece gives, on many odd texts: `make fuzz-tokenizer`.

The texts are those of tests/golden/tokenizer/make_cases.py: control characters, ideographs, accents, special tokens in
text, words of about 100 letters. Every text is tokenised lower-cased and cased, with each vocabulary.

examples:
  python tests/fuzz/compare_tokenizers.py --texts 1000000
  python tests/fuzz/compare_tokenizers.py --texts 10000 --seed 7 --vocab exp/retrieval_train/best/vocab.txt
"""

import argparse
import random
import runpy
import sys
import time
from pathlib import Path
from types import SimpleNamespace

from oscar_paddle.datasets.tokenization import UNK, build_tokenizer

GOLDEN = Path(__file__).resolve().parents[1] / "golden"
VOCABULARIES = [GOLDEN / "tokenizer" / "vocab.txt", GOLDEN / "tokenizer" / "vqa" / "vocab.txt"]


class PaddleNLPWords:
    """PaddleNLP's WordPiece in the place of a `Tokenizer`'s own."""

    def __init__(self, vocab):
        from paddlenlp.transformers.bert.tokenizer import WordpieceTokenizer

        self.vocab, self.words = vocab, WordpieceTokenizer(vocab=vocab, unk_token=UNK)

    def tokenize(self, word):
        return [SimpleNamespace(id=self.vocab[piece]) for piece in self.words.tokenize(word)]


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=1_000_000, help="how many (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="where they start (default: %(default)s)")
    parser.add_argument("--vocab", nargs="+", default=VOCABULARIES, metavar="FILE", help="default: the golden ones")
    args = parser.parse_args(argv)
    pairs = []
    for vocab in args.vocab:
        for lower in (True, False):
            ours, theirs = build_tokenizer(vocab, lower), build_tokenizer(vocab, lower)
            theirs._wordpiece = PaddleNLPWords(theirs.vocab)
            pairs.append((ours, theirs))
    make_text, rng = runpy.run_path(str(GOLDEN / "tokenizer" / "make_cases.py"))["text"], random.Random(args.seed)
    started, ids = time.monotonic(), 0
    for number in range(args.texts):
        text = make_text(rng)
        for ours, theirs in pairs:
            found, expected = ours.encode(text), theirs.encode(text)
            ids += len(found)
            if found != expected:
                print(f"text {number}, {ascii(text)}: {found}; PaddleNLP: {expected}", file=sys.stderr)
                return 1
    seconds = time.monotonic() - started
    print(f"{args.texts:,} texts with {len(pairs)} tokenizers, {ids:,} ids: all equal ({seconds:.0f} s)")
    return 0


if __name__ == "__main__":
    sys.exit(main())
