#!/usr/bin/env bash
# The words that the caption toolkit gives of a caption depend on the caption that comes after it.
#
# pycocoevalcap 1.2 (needs Java). Its tokeniser gets all captions as one text, a line each, and Stanford's rules look ahead
# over the line end: "no." before a number is one token, else the full stop is dropped. "a sign that says no." has the
# word "no." when the next caption begins with "2 dogs", and "no" before "a dog": its scores depend on the order of images.
#
# Exits with 1 when that changes.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet pycocoevalcap==1.2
cd "$work"
cat > seen.py <<'PYTHON'
from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer


def words(*captions):
    return PTBTokenizer().tokenize({0: [{"caption": caption} for caption in captions]})[0][0]


seen = words("a sign that says no.", "2 dogs"), words("a sign that says no.", "a dog")
print(seen)
raise SystemExit(seen != ("a sign that says no.", "a sign that says no"))
PYTHON
"$work/venv/bin/python" seen.py 2>/dev/null
