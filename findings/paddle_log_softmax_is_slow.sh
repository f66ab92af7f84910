#!/usr/bin/env bash
# On the CPU, Paddle's log_softmax over a vocabulary takes hundreds of times as long as its softmax.
#
# paddlepaddle 3.3.1, CPU wheel, one thread, scores [16, 30522] float32. softmax is a pass or two over the values;
# log_softmax, forward and backward alike, grows far faster than its input, and takes seconds. cross_entropy and logsumexp
# give the same numbers in milliseconds, so a loss over words is best made of these.
#
# Seen: ratio 300 to 1,000. Exits with 1 below 20, or if the log-probabilities differ from the logarithm of softmax's by
# more than 1e-4. CPU time of the process.
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

paddle.seed(0)
scores = paddle.randn([16, 30522])


def taken(work):
    work()
    start = time.process_time()
    work().numpy()
    return time.process_time() - start


slow, quick = taken(lambda: F.log_softmax(scores, axis=-1)), taken(lambda: F.softmax(scores, axis=-1))
apart = float((F.log_softmax(scores, axis=-1) - paddle.log(F.softmax(scores, axis=-1))).abs().max())
print(paddle.__version__, f"log_softmax {slow:.2f} s, ratio {slow / quick:.0f}, largest difference {apart:.1e}")
raise SystemExit(slow / quick < 20 or apart > 1e-4)
PYTHON
"$work/venv/bin/python" seen.py 2>/dev/null
