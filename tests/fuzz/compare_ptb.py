#!/usr/bin/env python
"""Compare our words of captions with those of the toolkit's tokeniser in Java: `make fuzz-captions`.

Texts are captions of made-up scenes, the captions of a file, and mixtures of words with awkward pieces. Needs Java and
pycocoevalcap (`make captioning-scores`).

examples:
  python tests/fuzz/compare_ptb.py --texts 100000
  python tests/fuzz/compare_ptb.py --captions train_caption_coco_format.json --texts 0
"""

import argparse
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from oscar_paddle.datasets.captions.scored_files import read_references
from oscar_paddle.solvers.metrics.ptb import PUNCTUATION, tokenize
from oscar_paddle.solvers.metrics.toolkit import toolkit_folder

WORDS = """
    a the man woman dog cat's dogs' t-shirt red-and-white people street sign reading frisbee skateboarder two-story
    old-fashioned can't doesn't it's they're sitting on in of with Tennis NYC iPhone 2-year-old black & white laptop tv
    Mr. Mrs. St. Dr. U.S. p.m. a.m. etc. e.g. No. Jan. cannot gonna rock-n-roll 'n' y'all o'clock ma'am café naïve wii
"""
PIECES = """
    , . ! ? ; : ' " - -- ... ( ) [ ] / & % $ # @ + = * 1 2 10 1/2 1,000 3.5 10:30 '90s 1990's 5th ½ € £ ° © — – “ ” ‘ ’
    … é ü ñ 中 `` '' ` ~ | < > \\ _ s n't 's &amp; :) ;-) www.a.com http://x.org/y a@b.com #tag @me x.jpg
"""


def odd_text(rng):
    """Words, each with or without a piece before, behind and inside."""
    found, words, pieces = [], WORDS.split(), PIECES.split()
    for _ in range(rng.randint(1, 12)):
        word, piece = rng.choice(words), rng.choice(pieces)
        place = rng.choice((0, len(word), len(word), rng.randint(0, len(word))))
        found.append(rng.choice((word, word, word, word[:place] + piece + word[place:], piece)))
    text = " ".join(found)
    return rng.choice((text, text, text + ".", text[:1].upper() + text[1:] + "."))


def java_tokens(lines, package):
    with tempfile.NamedTemporaryFile("wb", suffix=".txt") as file:
        file.write(
            "\nx\n".join(lines).encode()
        )  # it looks ahead into the next line: "no." before "2 dogs" is one token
        file.flush()
        jar = Path(package) / "tokenizer" / "stanford-corenlp-3.4.1.jar"
        options = ["-preserveLines", "-lowerCase", file.name]
        command = ["java", "-Dfile.encoding=UTF-8", "-cp", jar, "edu.stanford.nlp.process.PTBTokenizer", *options]
        done = subprocess.run(command, capture_output=True, check=True)
    return done.stdout.decode().split("\n")[: 2 * len(lines) : 2]


def kept(line):
    """Words of a line of tokens, as the toolkit takes them."""
    return [word for word in line.rstrip().split(" ") if word not in PUNCTUATION and word]


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--texts", type=int, default=100_000, help="odd ones (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="(default: %(default)s)")
    parser.add_argument("--captions", help="JSON of captions to compare first")
    parser.add_argument("--package", help="folder of pycocoevalcap (default: the installed one)")
    parser.add_argument("--share", type=float, default=0.01, help="of odd texts that may differ (default: %(default)s)")
    args = parser.parse_args(argv)
    if not args.package:
        args.package = toolkit_folder()
    rng = random.Random(args.seed)
    given = [text for own in read_references(args.captions).values() for text in own] if args.captions else []
    odd = [odd_text(rng) for _ in range(args.texts)]
    wrong = []
    for name, texts, allowed in (("captions", given, 0), ("odd texts", odd, args.share * len(odd))):
        lines = [" ".join(text.split()) for text in texts]
        found = java_tokens(lines, args.package) if lines else []
        differ = [(line, java) for line, java in zip(lines, found, strict=True) if tokenize(line) != kept(java)]
        for line, java in differ[:20]:
            print(f"{line!r}\n  Java: {java}\n  ours: {' '.join(tokenize(line))}", file=sys.stderr)
        print(f"{len(lines):,} {name}: {len(differ):,} differ")
        wrong += differ if len(differ) > allowed else []
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main())
