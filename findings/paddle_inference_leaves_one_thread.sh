#!/usr/bin/env bash
# A Paddle Inference predictor on the CPU changes the number of maths threads of its whole process, twice.
#
# paddlepaddle 3.3.1, CPU wheel. Config.set_cpu_math_library_num_threads(2) sets the bundled MKL of the process to 2
# threads as soon as the predictor is made, and every run() leaves 1 behind. Eager Paddle in the same process, a training
# loop that evaluates in between, say, goes on with that one thread whatever OMP_NUM_THREADS said, and its matrix
# products may differ in their last bits. paddle.base.core.set_num_threads(n) after run() puts the number right.
#
# Seen on two cores: started 1, made 2, ran 1, restored 2. Exits with 1 when that changes.
set -euo pipefail
work="$(mktemp -d)"
trap 'rm -rf "$work"' EXIT
python3 -m venv "$work/venv"
"$work/venv/bin/pip" install --quiet paddlepaddle==3.3.1 setuptools
cd "$work"
cat > seen.py <<'PYTHON'
import ctypes
import os

os.environ["OMP_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = "1"
import numpy as np
import paddle
import paddle.inference as inference

mkl = ctypes.CDLL(os.path.join(os.path.dirname(paddle.__file__), "libs", "libmklml_intel.so"))
paddle.matmul(paddle.ones([4, 4]), paddle.ones([4, 4]))
seen = {"started": mkl.MKL_Get_Max_Threads()}
layer = paddle.nn.Linear(4, 4)
layer.eval()
spec = [paddle.static.InputSpec([None, 4], "float32", "x")]
paddle.jit.save(paddle.jit.to_static(layer, input_spec=spec, full_graph=True), "model/program")
config = inference.Config("model/program.json", "model/program.pdiparams")
config.disable_gpu()
config.disable_glog_info()
config.set_cpu_math_library_num_threads(2)
predictor = inference.create_predictor(config)
seen["made"] = mkl.MKL_Get_Max_Threads()
predictor.get_input_handle("x").copy_from_cpu(np.ones((1, 4), np.float32))
predictor.run()
seen["ran"] = mkl.MKL_Get_Max_Threads()
paddle.base.core.set_num_threads(2)
seen["restored"] = mkl.MKL_Get_Max_Threads()
print(paddle.__version__, seen)
raise SystemExit(seen != {"started": 1, "made": 2, "ran": 1, "restored": 2})
PYTHON
"$work/venv/bin/python" seen.py 2>/dev/null
