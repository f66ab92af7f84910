#!/usr/bin/env bash
# Importing PaddleNLP's tokenizer takes away the handler of SIGTERM that a Python program has set before.
#
# paddlenlp 2.8.1 with paddlepaddle 3.3.1. A program that wants to end in order at SIGTERM (a cluster's preemption, say)
# sets a handler first thing and imports the tokenizer later, when a vocabulary is asked for. After the import,
# signal.getsignal still names the handler, but the process dies at the signal without running it: the handler was taken
# away below Python. Setting it again after the import puts it right.
#
# Seen: before the import "handled"; after it the process is killed by signal 15; set again "handled". Exits with 1 when
# that changes.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet paddlepaddle==3.3.1 paddlenlp==2.8.1 aistudio-sdk==0.2.6 "huggingface_hub<0.30" \
    "datasets<3.3" "pyarrow<21" setuptools
cd "$work"
cat > ends.py <<'PYTHON'
import os
import signal
import sys


def handler(*_):
    print("handled", flush=True)
    os._exit(0)


signal.signal(signal.SIGTERM, handler)
if sys.argv[1] != "before":
    from paddlenlp.transformers.bert.tokenizer import BertTokenizer  # noqa: F401

    print(signal.getsignal(signal.SIGTERM) is handler, end=" ", flush=True)
if sys.argv[1] == "again":
    signal.signal(signal.SIGTERM, handler)
os.kill(os.getpid(), signal.SIGTERM)
signal.pause()
PYTHON
cat > seen.py <<'PYTHON'
import subprocess
import sys

seen = {}
for when in ("before", "after", "again"):
    done = subprocess.run([sys.executable, "ends.py", when], capture_output=True, text=True, timeout=120)
    seen[when] = done.stdout.split()[-2:], done.returncode
print(seen)
raise SystemExit(seen != {"before": (["handled"], 0), "after": (["True"], -15), "again": (["True", "handled"], 0)})
PYTHON
"$work/venv/bin/python" seen.py
