"""Makes the small files beside it: every container, element type and refusal that test_torch_files.py
checks. Run it once with each framework, from any folder:

    python make_fixtures.py torch     (an environment with torch 2.13)
    python make_fixtures.py paddle    (the project's own environment)

All tensors hold 0, 1, 2, ... so that the tests can say what must come out.
"""

import argparse
import pickle
import sys
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np

HERE = Path(__file__).parent


def make_torch():
    import torch

    def save(obj, name):
        torch.save(obj, HERE / f"{name}_old.pt", _use_new_zipfile_serialization=False)
        torch.save(obj, HERE / f"{name}_zip.pt")

    names = ["float16", "float32", "float64", "bfloat16", "int8", "int16", "int32", "int64", "uint8", "bool"]
    save({name: torch.arange(6).reshape(2, 3).to(getattr(torch, name)) for name in names}, "dtypes")
    save({"uint16": torch.arange(6).to(torch.uint16)}, "late_dtypes")

    base = torch.arange(24, dtype=torch.float32)
    shared = {
        "whole": base,
        "rows": base.view(4, 6)[1:3],
        "columns": base.view(4, 6)[:, 1:3],
        "transposed": base.view(4, 6).t(),
        "every_third": base[2::3],
        "odd_strides": torch.as_strided(base, (2, 2, 2), (3, 3, 1)),
        "expanded": torch.tensor([7.0]).expand(3, 4),
        "one": torch.tensor(5, dtype=torch.int64),
        "empty": torch.empty(0, 3),
    }
    save(shared, "views")

    layer = torch.nn.Linear(3, 2)
    with torch.no_grad():
        layer.weight.copy_(torch.arange(6.0).reshape(2, 3))
        layer.bias.copy_(torch.arange(2.0))
    save(layer.state_dict(), "state_dict")
    layer.weight.note = "a parameter with an attribute"
    save({"weight": layer.weight, "bias": layer.bias}, "parameters")
    save({"weight": torch.nn.Linear(3, 2)}, "refused_module")
    save({"q": torch.quantize_per_tensor(torch.arange(4.0), 1.0, 0, torch.quint8)}, "refused_quantized")
    save({"s": torch.eye(2).to_sparse()}, "refused_sparse")
    save({"c": torch.arange(4).to(torch.complex64).conj()}, "refused_complex")
    save({"f": torch.arange(4.0).to(torch.float8_e4m3fn)}, "refused_float8")
    torch.jit.save(torch.jit.script(layer), HERE / "refused_torchscript.pt")

    args = argparse.Namespace(
        do_lower_case=True,
        lr=2e-5,
        device=torch.device("cuda:0"),
        n_gpu=0,
        dtype=torch.float32,
        nothing=None,
        shape=torch.Size([2, 3]),
        score=np.float64(0.5),
        seed=np.int64(88),
        array=np.arange(3),
        text="café",
    )
    save(args, "training_args")
    save({1: '["a cat", "café"]', 2: ["a dog", "人"]}, "captions")
    torch.save({1: ["x"]}, HERE / "captions_protocol4_old.pt", _use_new_zipfile_serialization=False, pickle_protocol=4)
    with (HERE / "pickled_tensor.pkl").open("wb") as file:
        pickle.dump({"t": torch.arange(6.0).reshape(2, 3)}, file)

    plain = HERE / "captions_zip.pt"
    with zipfile.ZipFile(plain) as source:
        content = {name: source.read(name) for name in source.namelist()}
    for name, change in {
        "refused_big_endian_zip": {"captions_zip/byteorder": b"big"},
        "refused_upward_zip": {"../outside": b"x"},
        "refused_absolute_zip": {"/etc/outside": b"x"},
    }.items():
        with zipfile.ZipFile(HERE / f"{name}.pt", "w") as target:
            for member, data in {**content, **change}.items():
                target.writestr(member, data)
    with zipfile.ZipFile(HERE / "refused_compressed_zip.pt", "w", zipfile.ZIP_DEFLATED) as target:
        for member, data in content.items():
            target.writestr(member, data)


def make_paddle():
    import paddle

    tensor = paddle.arange(6).reshape([2, 3]).astype("float32")
    layer = paddle.nn.Linear(3, 2)
    layer.weight.set_value(paddle.arange(6).reshape([3, 2]).astype("float32"))
    layer.bias.set_value(paddle.arange(2).astype("float32"))
    for protocol in (2, 3, 4):
        paddle.save(layer.state_dict(), str(HERE / f"state_dict_{protocol}.pdparams"), protocol=protocol)
        nested = {"model": layer.state_dict(), "step": 3, "list": [tensor, layer.weight], "pair": ("name", 1)}
        paddle.save(nested, str(HERE / f"nested_{protocol}.pd"), protocol=protocol)
        dense = {"dense": tensor.value().get_tensor(), "also": [1]}
        paddle.save(dense, str(HERE / f"dense_{protocol}.pd"), protocol=protocol)
    arrays = OrderedDict(weight=np.arange(6, dtype=np.float32).reshape(2, 3), bias=np.arange(2, dtype=np.float32))
    paddle.save(arrays, str(HERE / "paddle_model.bin"))
    paddle.save({1: ["a cat", "café"], 2: ["a dog", "人"]}, str(HERE / "captions.pd"))
    paddle.save(tensor, str(HERE / "tensor.pd"))
    paddle.save(tensor.value().get_tensor(), str(HERE / "refused_binary.pdtensor"), use_binary_format=True)


if __name__ == "__main__":
    {"torch": make_torch, "paddle": make_paddle}[sys.argv[1]]()
