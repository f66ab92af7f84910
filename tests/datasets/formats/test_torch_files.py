"""Files of torch.save and paddle.save: read right, or refused with one line that says why."""

import argparse
import os
import pickle
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.formats import torch_files

FILES = Path(__file__).resolve().parents[2] / "golden" / "torch_files"  # made by make_fixtures.py there
BOTH = pytest.mark.parametrize("kind", ["old", "zip"])
MAPPED = pytest.mark.parametrize("map_from", [1, 1 << 30], ids=["mapped", "in_memory"])


def six(dtype=np.float32):
    return np.arange(6).reshape(2, 3).astype(dtype)


def same(found, expected):
    assert isinstance(found, np.ndarray)
    assert found.dtype == expected.dtype and found.shape == expected.shape
    np.testing.assert_array_equal(found, expected)


def refused(path, message):
    with pytest.raises(DataError, match=message) as caught:
        torch_files.load(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


def saved(tmp_path, content, name="file.pt"):
    path = tmp_path / name
    path.write_bytes(content)
    return path


# ---- PyTorch ----


@BOTH
@MAPPED
def test_element_types(kind, map_from):
    tensors = torch_files.load(FILES / f"dtypes_{kind}.pt", map_from)
    assert len(tensors) == 10
    for name, array in tensors.items():
        same(array, six("float32" if name == "bfloat16" else name))
        assert not array.flags.writeable
    same(torch_files.load(FILES / f"late_dtypes_{kind}.pt", map_from)["uint16"], np.arange(6, dtype=np.uint16))


@BOTH
@MAPPED
def test_offsets_strides_and_shared_storage(kind, map_from):
    base = np.arange(24, dtype=np.float32)
    views = torch_files.load(FILES / f"views_{kind}.pt", map_from)
    expected = {
        "whole": base,
        "rows": base.reshape(4, 6)[1:3],
        "columns": base.reshape(4, 6)[:, 1:3],
        "transposed": base.reshape(4, 6).T,
        "every_third": base[2::3],
        "odd_strides": np.array([[[0, 1], [3, 4]], [[3, 4], [6, 7]]], np.float32),
        "expanded": np.full((3, 4), 7, np.float32),
        "one": np.array(5),
        "empty": np.zeros((0, 3), np.float32),
    }
    assert list(views) == list(expected)
    for name, array in expected.items():
        same(views[name], array)
    for name in ("rows", "columns", "transposed", "every_third", "odd_strides"):
        assert np.shares_memory(views[name], views["whole"])


@BOTH
def test_state_dicts_and_parameters(kind):
    for name in ("state_dict", "parameters"):
        state = torch_files.load(FILES / f"{name}_{kind}.pt")
        assert list(state) == ["weight", "bias"]
        same(state["weight"], six())
        same(state["bias"], np.arange(2, dtype=np.float32))


@BOTH
def test_training_arguments(kind):
    args = torch_files.load(FILES / f"training_args_{kind}.pt")
    assert isinstance(args, argparse.Namespace)
    same(args.__dict__.pop("array"), np.arange(3))
    assert vars(args) == {
        "do_lower_case": True,
        "lr": 2e-5,
        "device": "cuda:0",
        "n_gpu": 0,
        "dtype": "torch.float32",
        "nothing": None,
        "shape": (2, 3),
        "score": 0.5,
        "seed": 88,
        "text": "café",
    }


@BOTH
def test_captions(kind):
    assert torch_files.load(FILES / f"captions_{kind}.pt") == {1: '["a cat", "café"]', 2: ["a dog", "人"]}


def test_old_file_of_another_pickle_protocol():
    assert torch_files.load(FILES / "captions_protocol4_old.pt") == {1: ["x"]}


def test_tensor_pickled_without_torch_save():
    same(torch_files.load(FILES / "pickled_tensor.pkl")["t"], six())


def test_large_files_are_mapped_not_read(tmp_path):
    """A zip archive whose storage is 64 MB larger than its tensors: opening it must not read it."""
    path = tmp_path / "large.pt"
    program = (
        b"\x80\x02}X\x01\x00\x00\x00tctorch._utils\n_rebuild_tensor_v2\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\n"
        b"X\x01\x00\x00\x000X\x03\x00\x00\x00cpuJ" + struct.pack("<i", 1 << 24) + b"tQK\x02K\x03\x85K\x01\x85\x89NtRs."
    )
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("large/data.pkl", program)
        archive.writestr("large/data/0", np.arange(4, dtype=np.float32).tobytes() + bytes((64 << 20) - 16))
    tracemalloc.start()
    try:
        tensor = torch_files.load(path)["t"]
        assert tracemalloc.get_traced_memory()[1] < 2 << 20
    finally:
        tracemalloc.stop()
    assert tensor.tolist() == [2, 3, 0]


# ---- Paddle ----


@pytest.mark.parametrize("protocol", [2, 3, 4])
def test_paddle_files(protocol):
    weight, bias = np.arange(6, dtype=np.float32).reshape(3, 2), np.arange(2, dtype=np.float32)
    state = torch_files.load(FILES / f"state_dict_{protocol}.pdparams")
    assert list(state) == ["weight", "bias"]  # without the table of internal names
    same(state["weight"], weight)
    same(state["bias"], bias)
    nested = torch_files.load(FILES / f"nested_{protocol}.pd")
    same(nested["model"]["weight"], weight)
    same(nested["list"][0], six())
    same(nested["list"][1], weight)
    assert (nested["step"], nested["pair"]) == (3, ("name", 1))
    same(torch_files.load(FILES / f"dense_{protocol}.pd")["dense"], six())


def test_other_paddle_files():
    same(torch_files.load(FILES / "paddle_model.bin")["weight"], six())
    same(torch_files.load(FILES / "tensor.pd"), six())
    assert torch_files.load(FILES / "captions.pd") == {1: ["a cat", "café"], 2: ["a dog", "人"]}


def test_paddle_parameters_in_slices(tmp_path):
    """paddle.save cuts parameters over 1 GiB; the same form here with small ones."""
    flat = np.arange(6, dtype=np.float32)
    slices = {"big": {"OriginShape": (2, 3), "slices": ["big@@.0", "big@@.1"]}}
    state = {"b": flat, "big@@.0": flat[:4], "big@@.1": flat[4:], "UnpackBigParamInfor@@": slices}
    found = torch_files.load(saved(tmp_path, pickle.dumps(state, 2)))
    assert set(found) == {"b", "big"}
    same(found["big"], six())
    slices["big"]["slices"] = ["big@@.0"] * 9
    refused(saved(tmp_path, pickle.dumps(state, 2)), "slices of a large parameter")


def test_eval_means_paddles_form_and_nothing_else(tmp_path):
    marker = tmp_path / "it_ran"
    program = b"cbuiltins\neval\n(S'open(%s, \"w\")'\n(dtR." % repr(str(marker)).replace("'", '"').encode()
    refused(saved(tmp_path, program), "builtins.eval")
    refused(saved(tmp_path, b"cbuiltins\neval\n(S'data'\n(S'data'\nK\x01dtR."), "builtins.eval")
    assert not marker.exists()


# ---- refusals ----


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("refused_module_old.pt", r"'torch\.nn\.modules\.linear\.Linear'"),
        ("refused_module_zip.pt", r"'torch\.nn\.modules\.linear\.Linear'"),
        ("refused_quantized_old.pt", r"'torch\._utils\._rebuild_qtensor'"),
        ("refused_quantized_zip.pt", r"'torch\._utils\._rebuild_qtensor'"),
        ("refused_sparse_old.pt", r"'torch\._utils\._rebuild_sparse_tensor'"),
        ("refused_sparse_zip.pt", r"'torch\._utils\._rebuild_sparse_tensor'"),
        ("refused_complex_old.pt", r"'torch\.ComplexFloatStorage'"),
        ("refused_complex_zip.pt", r"'torch\.ComplexFloatStorage'"),
        ("refused_float8_old.pt", r"'torch\.float8_e4m3fn'"),
        ("refused_float8_zip.pt", r"'torch\.float8_e4m3fn'"),
        ("refused_torchscript.pt", "TorchScript"),
        ("refused_big_endian_zip.pt", "big-endian"),
        ("refused_upward_zip.pt", r"'\.\./outside'"),
        ("refused_absolute_zip.pt", "'/etc/outside'"),
        ("refused_compressed_zip.pt", "compressed"),
        ("refused_binary.pdtensor", "Paddle's binary tensor format"),
    ],
)
def test_refused_files(name, message):
    refused(FILES / name, message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "found an empty file"),
        (b"\n<!DOCTYPE html><html><body>Sign in</body></html>", "found an HTML page"),
        (b"<?xml version='1.0'?><Error><Code>PublicAccessNotPermitted</Code></Error>", "found an XML document"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n", "Git LFS pointer"),
        (b'{"1": ["a"]}', "found JSON text"),
        (b"hello there", "found something else .*hello there"),
        (struct.pack("<Q", 64) + b'{"w":{"dtype":"F32"}}', "found a safetensors file"),
        (b"\x1f\x8b\x08\x00", "found a gzip archive"),
        (b"\x93NUMPY\x01\x00", r"found a NumPy \.npy file"),
        (bytes(4096), "found zero bytes only"),
        (b"pickle/" + bytes(250) + b"ustar  " + bytes(200), "found a tar archive"),
        (b"PK\x05\x06" + bytes(18), "empty or split zip"),
        (b"PK\x03\x04 and then nothing", "truncated or damaged file of torch.save"),
    ],
)
def test_files_of_another_kind_are_named(tmp_path, content, message):
    refused(saved(tmp_path, content), message)


def test_missing_files_folders_and_other_archives(tmp_path):
    refused(tmp_path / "missing.pt", "no such file")
    refused(tmp_path, "cannot be read")
    np.savez(tmp_path / "arrays.npz", a=six())
    refused(tmp_path / "arrays.npz", "without <name>/data.pkl")


def change(name, old, new):
    content = (FILES / name).read_bytes()
    assert content.count(old) == 1 and len(old) == len(new)
    return content.replace(old, new)


def test_old_file_of_a_big_endian_machine(tmp_path):
    content = change("captions_old.pt", b"little_endianq\x02\x88", b"little_endianq\x02\x89")
    refused(saved(tmp_path, content), "big-endian")


@pytest.mark.parametrize(
    ("name", "old", "new", "message"),
    [
        # The 0..23 storage: its count before its data (old), or the count its reference states.
        ("views_old.pt", struct.pack("<qf", 24, 0), struct.pack("<qf", 25, 0), "should have 24 elements.*says 25"),
        ("views_old.pt", struct.pack("<qf", 24, 0), struct.pack("<qf", -1, 0), "should have 24 elements.*says -1"),
        ("views_zip.pt", b"cpuq\x06K\x18", b"cpuq\x06K\x19", "should have 25 elements, found 24"),
        ("views_zip.pt", b"FloatStorage", b"QuiteStorage", r"'torch\.QuiteStorage'"),
        ("views_zip.pt", b"_rebuild_tensor_v2", b"_rebuild_tensor_v9", "_rebuild_tensor_v9"),
        ("views_zip.pt", b"wholeq\x01", b"whole(\x01", "damaged"),
    ],
)
def test_damaged_sizes_and_names(tmp_path, name, old, new, message):
    content = (FILES / name).read_bytes()
    assert old in content
    refused(saved(tmp_path, content.replace(old, new, 1)), message)


@pytest.mark.parametrize(
    ("offset", "size", "stride", "message"),
    [
        (20, (5,), (1,), "does not fit its storage of 24 elements"),
        (0, (25,), (1,), "does not fit its storage"),
        (0, (2, 3), (20, 2), "does not fit its storage"),
        (0, (1 << 40,), (0,), "does not fit its storage"),
        (0, (1 << 62, 1 << 62), (0, 0), "does not fit its storage"),
        (-1, (2,), (1,), r"shape \(-1,\)"),
        (0, (-2,), (1,), r"shape \(-2,\)"),
        (0, (2,), (-1,), r"shape \(-1,\)"),
        (1 << 70, (1,), (1,), "shape"),
        (0, (2,), (1, 1), "has 2 strides"),
    ],
)
def test_tensors_that_do_not_fit_their_storage(tmp_path, offset, size, stride, message):
    program = (
        b"\x80\x02ctorch._utils\n_rebuild_tensor\n((X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000"
        b"X\x03\x00\x00\x00cpuK\x18tQ"
    )
    pieces = b"".join(pickle.dumps(value, 2)[2:-1].replace(b"q\x00", b"") for value in (offset, size, stride))
    path = tmp_path / "bad.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("bad/data.pkl", program + pieces + b"tR.")
        archive.writestr("bad/data/0", bytes(96))
    refused(path, message)


# ---- damage at random ----

SAMPLES = {
    path.name: path.read_bytes()
    for path in sorted(FILES.iterdir())
    if path.suffix != ".py" and not path.name.startswith("refused") and path.stat().st_size < 4500
}


def load_or_refuse(path, content, map_from):
    path.write_bytes(content)
    try:
        torch_files.load(path, map_from)
    except DataError as error:
        assert str(error).startswith(str(path))
        return str(error)
    return None


@pytest.mark.parametrize("name", ["views_old.pt", "views_zip.pt", "nested_4.pd", "state_dict_2.pdparams"])
def test_truncated_files_are_refused(tmp_path, name):
    content = SAMPLES[name]
    for length in range(0, len(content), 1 + len(content) // 150):
        assert load_or_refuse(tmp_path / "cut.pt", content[:length], 1 << 30), length


@MAPPED
@settings(max_examples=150)
@given(
    st.sampled_from(sorted(SAMPLES)),
    st.lists(st.tuples(st.integers(0, 5000), st.integers(0, 255)), min_size=1, max_size=6),
    st.integers(0, 5000),
)
def test_damaged_files_never_raise_anything_else(tmp_path_factory, map_from, name, changes, cut):
    content = bytearray(SAMPLES[name])
    for position, value in changes:
        content[position % len(content)] = value
    tracemalloc.start()
    try:
        load_or_refuse(tmp_path_factory.getbasetemp() / "damaged.pt", bytes(content[: cut or None]), map_from)
        assert tracemalloc.get_traced_memory()[1] < 2_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    "call",
    [b"ctorch\ndevice\n%s\x85R.", b"ctorch\nSize\n%s\x85\x85R.", b"ctorch._utils\n_rebuild_tensor_v3\n(NNNNNN%stR."],
)
def test_values_without_an_end_are_refused_not_shown(tmp_path, call):
    path = tmp_path / "endless.pt"
    path.write_bytes(b"\x80\x02" + call.replace(b"%s", b"N" + b"2\x86" * 60))  # 2 to the power of 60 Nones
    refused(path, "type tuple|no tuple of sizes")


# ---- the real files ----


@pytest.mark.shared
def test_every_shared_file(shared):
    paths = [path for ending in ("pt", "bin", "pkl") for path in sorted(shared.rglob(f"*.{ending}"))]
    assert len(paths) > 20
    for path in paths:
        value = torch_files.load(path)
        assert len(vars(value) if isinstance(value, argparse.Namespace) else value) > 0, path
        if path.name == "pytorch_model.bin":
            storages = {array.__array_interface__["data"][0]: array.nbytes for array in value.values()}
            stored = sum(storages.values())  # tied weights share one
            assert 0.9 < stored / os.path.getsize(path) <= 1, path
            assert all(np.isfinite(array).all() for array in value.values())
