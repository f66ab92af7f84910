"""What we write in PyTorch's container and as pickles: the names in it, and the same values back."""

import argparse
import io
import pickle
import pickletools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.formats import torch_files
from oscar_paddle.datasets.formats.pickle_writer import Call, Name, write_pickle
from oscar_paddle.datasets.formats.torch_writer import write_torch_file, write_torch_tensors

TYPES = ["float16", "float32", "float64", "uint8", "int8", "int16", "int32", "int64", "bool"]
# What torch.load(weights_only=True) lets through, and PyTorch 1.2 has.
TORCH_NAMES = {"collections OrderedDict", "torch._utils _rebuild_tensor_v2"}


def names_in(content):
    """The globals that the pickles at the start of a file name."""
    file, names = io.BytesIO(content), set()
    for _ in range(5):
        names |= {argument for op, argument, _ in pickletools.genops(file) if op.name in ("GLOBAL", "STACK_GLOBAL")}
    return names


def pickled(value, protocol=4):
    file = io.BytesIO()
    write_pickle(file, value, protocol)
    return file.getvalue()


def assert_equal(found, expected):
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].shape == array.shape and found[name].dtype == array.dtype.newbyteorder("<"), name
        np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.mark.parametrize("name", TYPES)
def test_tensors_of_every_type_come_back(tmp_path, name):
    rng = np.random.default_rng(0)
    arrays = {
        "matrix": (rng.normal(size=(300, 5)) * 9).astype(name),
        "transposed": (rng.normal(size=(3, 4)) * 9).astype(name).T,
        "scalar": np.array(1, name),
        "empty": np.zeros((0, 3), name),
        "四": np.ones(70_000, name),
    }
    path = tmp_path / "x.bin"
    sizes = []
    write_torch_tensors(path, arrays, sizes.append)
    assert_equal(torch_files.load(path), arrays)
    assert sum(sizes) == sum(array.nbytes for array in arrays.values())


def test_big_endian_arrays_are_turned_round(tmp_path):
    array = np.arange(3, dtype=">f4")
    write_torch_tensors(tmp_path / "x.bin", {"x": array})
    assert_equal(torch_files.load(tmp_path / "x.bin"), {"x": array})
    np.testing.assert_array_equal(pickle.loads(pickled(array)), array)


def test_the_file_names_only_what_every_pytorch_has(tmp_path):
    write_torch_tensors(tmp_path / "x.bin", {name: np.zeros(2, name) for name in TYPES})
    names = names_in((tmp_path / "x.bin").read_bytes())
    assert names - TORCH_NAMES == {
        f"torch {kind}Storage" for kind in ("Half", "Float", "Double", "Byte", "Char", "Short", "Int", "Long", "Bool")
    }


def test_a_type_that_pytorch_lacks(tmp_path):
    with pytest.raises(DataError, match="x.bin: tensor 'x' is complex64, which PyTorch does not have"):
        write_torch_tensors(tmp_path / "x.bin", {"x": np.zeros(1, "c8")})
    assert not (tmp_path / "x.bin").exists()


def test_plain_data_and_settings(tmp_path):
    value = {391895: '["a dog", "é 人"]', 2: ["x", 1.5, None, True, -7, 1 << 40]}
    write_torch_file(tmp_path / "x.pt", value)
    assert torch_files.load(tmp_path / "x.pt") == value
    args = argparse.Namespace(max_seq_length=70, do_lower_case=True)
    write_torch_file(tmp_path / "x.pt", args)
    assert torch_files.load(tmp_path / "x.pt") == args
    assert names_in((tmp_path / "x.pt").read_bytes()) == {"argparse Namespace"}


NUMBERS = st.integers() | st.floats(allow_nan=False)
SCALARS = st.none() | st.booleans() | NUMBERS | st.text(st.characters()) | st.binary()
VALUES = st.recursive(
    SCALARS,
    lambda v: st.lists(v) | st.lists(v).map(tuple) | st.dictionaries(st.text() | st.integers(), v),
    max_leaves=20,
)


@given(VALUES)
def test_pickles_of_plain_values(value):
    assert pickle.loads(pickled(value)) == value


def test_protocol_2_has_no_new_operations():
    content = pickled({"a": [1, 300, 1 << 33, 2.5, "x"], "b": (None, True, Call(Name("m", "f"), ("y",)))}, protocol=2)
    assert {op.proto for op, _, _ in pickletools.genops(content)} <= {0, 1, 2}


def test_arrays_are_named_as_every_numpy_knows_them():
    content = pickled([np.zeros((2, 3), "f4"), np.array([True])])
    names = {argument for op, argument, _ in pickletools.genops(content) if op.name == "GLOBAL"}
    assert names == {"numpy.core.multiarray _reconstruct", "numpy ndarray", "numpy dtype"}
    zeros, flag = pickle.loads(content)
    assert zeros.shape == (2, 3) and zeros.dtype == np.float32 and flag.dtype == bool and flag[0]


def test_other_objects_are_refused():
    with pytest.raises(TypeError, match="cannot write a set"):
        pickled({1, 2})
