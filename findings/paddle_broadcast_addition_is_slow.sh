#!/usr/bin/env bash
# On the CPU, Paddle adds a broadcast attention mask several times more slowly than the same mask laid out in full.
#
# paddlepaddle 3.3.1, CPU wheel, one thread. Scores of attention [B, heads, N, N] plus a mask [B, 1, 1, N]: the addition
# that broadcasts takes about ten times an addition of equal shapes, and several times expand() with that addition
# together, though expand() writes a whole tensor. The sums are the same in every bit. So a mask is best laid out first.
# glibc's malloc is told to keep freed memory, as fresh pages from the system would hide most of the difference (1.6).
#
# Seen: ratio 8 to 12 between `scores + mask` and `scores + mask.expand(scores.shape)`. Exits with 1 below 2, or if the
# sums differ. CPU time of the process, the fastest of some rounds, so that other work on the machine says little.
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

paddle.set_flags({"FLAGS_use_stride_kernel": False})  # expand() as a tensor rather than a view
scores, mask = paddle.randn([32, 12, 100, 100]), paddle.randn([32, 1, 1, 100])


def fastest(work):
    taken = []
    for _ in range(12):
        start = time.process_time()
        work()
        taken.append(time.process_time() - start)
    return min(taken)


equal = bool((scores + mask == scores + mask.expand(scores.shape)).all())
ratio = fastest(lambda: scores + mask) / fastest(lambda: scores + mask.expand(scores.shape))
print(paddle.__version__, f"same sums: {equal}, ratio {ratio:.1f}")
raise SystemExit(not equal or ratio < 2)
PYTHON
export MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=2147483647
"$work/venv/bin/python" seen.py 2>/dev/null
