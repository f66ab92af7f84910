""".npy and .npz files of strangers: what NumPy wrote is read, everything else is refused before memory is allocated."""

import io
import resource
import zipfile

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays_of

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.formats.array_files import read_npy, read_npz

KINDS = st.sampled_from([np.float16, np.float32, np.float64, np.int64, np.uint8, np.bool_, np.dtype("U5")])
ARRAYS = KINDS.flatmap(lambda kind: arrays_of.arrays(kind, arrays_of.array_shapes(min_dims=0, max_dims=3, min_side=0)))


def npy(array, **options):
    buffer = io.BytesIO()
    np.save(buffer, array, **options)
    return buffer.getvalue()


@settings(max_examples=60)
@given(ARRAYS, st.booleans(), st.booleans())
def test_what_numpy_wrote(tmp_path_factory, array, packed, column_order):
    array = np.asfortranarray(array) if column_order and array.ndim else array
    folder = tmp_path_factory.getbasetemp()
    (np.savez_compressed if packed else np.savez)(folder / "a.npz", one=array, two=3)
    np.save(folder / "a.npy", array)
    for found in (read_npz(folder / "a.npz", ("one", "none"))["one"], read_npy(folder / "a.npy")):
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)
    assert read_npz(folder / "a.npz", ("none",)) == {"one": None, "two": None}  # what there is, not read


def header(shape, kind="<f4"):
    text = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text.encode()


CASES = [
    (b"", "not a NumPy array"),
    (b"PK\x03\x04", "not a NumPy array"),
    (npy(np.arange(6.0))[:-1], "47 bytes of data; its header says"),
    (npy(np.arange(6.0)) + b"x", "49 bytes of data"),
    (header((1 << 40, 2054)), "0 bytes of data; its header says"),
    (header((-1, -2)) + bytes(8), "its header says"),
    (header("'x'"), "not a NumPy array"),
    (npy(np.array([{}], object), allow_pickle=True), "holds Python objects; expected numbers or text"),
    (npy(np.zeros(2, "m8[s]")), "holds the type timedelta64"),
    (npy(np.zeros(2, [("a", "f4")])), "holds the type"),
    (b"\x93NUMPY\x07\x00" + bytes(20), "not a NumPy array"),
]


@pytest.mark.parametrize(("content", "message"), CASES)
def test_damaged_arrays(tmp_path, content, message):
    (tmp_path / "a.npy").write_bytes(content)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("features.npy", content)
    with pytest.raises(DataError, match=message) as caught:
        read_npy(tmp_path / "a.npy")
    assert str(caught.value).startswith(f"{tmp_path / 'a.npy'}: ")
    with pytest.raises(DataError, match=message) as caught:
        read_npz(tmp_path / "a.npz", ("features",))
    assert str(caught.value).startswith(f"{tmp_path / 'a.npz'} array 'features': ")


def test_missing_files_and_folders(tmp_path):
    for read in (read_npy, lambda path: read_npz(path, ("x",))):
        for path in (tmp_path, tmp_path / "none"):
            with pytest.raises(DataError, match="no such file|cannot be read"):
                read(path)


def test_a_zip_bomb_is_not_unpacked(tmp_path):
    archive = zipfile.ZipFile(tmp_path / "bomb.npz", "w", zipfile.ZIP_DEFLATED)
    with archive, archive.open("features.npy", "w") as member:
        member.write(header((32_800, 2054)))
        for _ in range(257):
            member.write(bytes(1 << 20))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.raises(DataError, match="claims .* bytes, unpacked from"):
        read_npz(tmp_path / "bomb.npz", ("features",))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # kB


@settings(max_examples=150)
@given(st.lists(st.tuples(st.integers(0, 900), st.integers(0, 255)), min_size=1, max_size=6), st.booleans())
def test_damaged_bytes_never_raise_anything_else(tmp_path_factory, changes, packed):
    buffer = io.BytesIO()
    (np.savez_compressed if packed else np.savez)(buffer, features=np.arange(12.0).reshape(3, 4), tags=["a", "b"])
    content = bytearray(buffer.getvalue())
    for position, value in changes:
        content[position % len(content)] = value
    path = tmp_path_factory.getbasetemp() / "damaged.npz"
    path.write_bytes(content)
    try:
        for array in read_npz(path, ("features", "tags")).values():
            assert array is None or array.nbytes < 1000
    except DataError as error:
        assert str(error).startswith(str(path))
