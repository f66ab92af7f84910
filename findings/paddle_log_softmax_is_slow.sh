#!/usr/bin/env bash
# On the CPU, Paddle's log_softmax over a vocabulary takes some hundred times as long as its softmax.
#
# paddlepaddle 3.3.1, CPU wheel, one thread. Of scores [10, 30522], ten words of a BERT vocabulary to be drawn,
# F.log_softmax takes about a second forward and another backward; F.softmax, paddle.logsumexp and F.cross_entropy, which
# give the same numbers, take milliseconds. A training step that draws captions word by word spent nine tenths of its
# time there. So log-probabilities are best taken as minus the cross-entropy of the word, or score minus logsumexp.
#
# Seen: ratio 340 to 1,000 between log_softmax and logsumexp, forward. Exits with 1 below 20, or if the values differ. CPU
# time of the process, the fastest of some rounds, so that other work on the machine says little.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet paddlepaddle==3.3.1 setuptools
cd "$work"
cat > seen.py <<'PYTHON'
import os
import time

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
import paddle
import paddle.nn.functional as F

scores = paddle.randn([10, 30522])


def fastest(work):
    taken = []
    for _ in range(3):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return min(taken)


def by_logsumexp():
    return scores - paddle.logsumexp(scores, axis=-1, keepdim=True)


apart = float((F.log_softmax(scores, axis=-1) - by_logsumexp()).abs().max())
ratio = fastest(lambda: F.log_softmax(scores, axis=-1)) / fastest(by_logsumexp)
print(paddle.__version__, f"largest difference {apart:.1e}, ratio {ratio:.0f}")
raise SystemExit(apart > 1e-4 or ratio < 20)
PYTHON
"$work/venv/bin/python" seen.py 2>/dev/null
