"""The restricted pickle machine: data comes out as Python's own reader gives it, everything else is refused."""

import argparse
import collections
import io
import os
import pickle
import struct
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.formats.pickle_names import Constructor, Inert
from oscar_paddle.datasets.formats.restricted_pickle import load, load_at

PROTOCOLS = range(0, pickle.HIGHEST_PROTOCOL + 1)

SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**80), 2**80),
    st.floats(allow_nan=False),
    st.text(st.characters(), max_size=300),
    st.binary(max_size=300),
)
KEYS = st.one_of(st.text(max_size=5), st.integers(-(2**63), 2**63 - 1), st.tuples(st.integers(-9, 9), st.text()))
DATA = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=5),
        st.dictionaries(KEYS, inner, max_size=5),
        st.tuples(inner),
        st.tuples(inner, inner, inner, inner),
        st.frozensets(KEYS, max_size=3),
        st.sets(KEYS, max_size=3),
    ),
    max_leaves=20,
)


def refused(data, message, names=None):
    with pytest.raises(DataError, match=message) as caught:
        load(data, "some.file", names)
    assert str(caught.value).startswith("some.file: ")
    assert "\n" not in str(caught.value)


# ---- what data is ----


@settings(max_examples=150)
@given(DATA, st.sampled_from(PROTOCOLS))
def test_data_comes_out_as_it_went_in(value, protocol):
    assert load(pickle.dumps(value, protocol), "x") == value


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_numpy_values_come_out_with_type_shape_and_order(protocol):
    values = [
        np.arange(6).reshape(2, 3),
        np.asfortranarray(np.arange(6, dtype=np.float16).reshape(2, 3)),
        np.array(["ab", "人"]),
        np.array([b"ab", b"c"]),
        np.zeros((0, 3), np.float32),
        np.array(2.5),
        np.arange(2000, dtype=np.uint8),
        np.array([True, False]),
        np.float32(3),
        np.int64(-4),
        np.bool_(True),
    ]
    for found, value in zip(load(pickle.dumps(values, protocol), "x"), values, strict=True):
        assert type(found) is type(value)
        assert found.dtype == value.dtype and found.shape == value.shape
        np.testing.assert_array_equal(found, value)
    assert load(pickle.dumps(np.dtype("f4"), protocol), "x") == np.float32


@pytest.mark.parametrize("protocol", PROTOCOLS[2:])
def test_containers_from_the_standard_library(protocol):
    namespace = argparse.Namespace(lr=1e-5, names=["a"], nested=argparse.Namespace(x=None))
    assert load(pickle.dumps(namespace, protocol), "x") == namespace
    ordered = collections.OrderedDict([("b", 1), ("a", 2)])
    ordered._metadata = {"version": 1}  # torch's state dicts carry such an attribute
    found = load(pickle.dumps(ordered, protocol), "x")
    assert type(found) is collections.OrderedDict and list(found.items()) == [("b", 1), ("a", 2)]
    frequency = collections.defaultdict(float, {("a", "dog"): 2.0})
    assert load(pickle.dumps(frequency, protocol), "x") == {("a", "dog"): 2.0}
    assert load(pickle.dumps(bytearray(b"\x00\xff"), protocol), "x") == b"\x00\xff"


def test_shared_and_recursive_objects_stay_shared():
    inner = [1]
    loop = [inner, inner]
    loop.append(loop)
    found = load(pickle.dumps(loop), "x")
    assert found[0] is found[1] and found[2] is found


def test_reads_files_and_pickles_in_a_row():
    data = pickle.dumps([1]) + pickle.dumps([2])
    assert load(io.BytesIO(data), "x") == [1]
    first, position = load_at(data, 0, "x")
    assert (first, load_at(data, position, "x")) == ([1], ([2], len(data)))


def test_python_2_strings_and_integers():
    assert load(b"(lp0\nS'it\\'s'\np1\naI42\naL7L\naI01\na.", "x") == ["it's", 42, 7, True]
    assert load(b"\x80\x02U\x02\xe9\xff.", "x") == "\xe9\xff"


def test_more_names_can_be_allowed():
    names = {"my.pair": Constructor(lambda a, b: (b, a)), "my.Kind": Inert("kind")}
    assert load(b"cmy\npair\n(K\x01K\x02tR.", "x", names) == (2, 1)
    assert load(b"cmy\nKind\n.", "x", names) == Inert("kind")
    refused(b"cmy\nKind\n)R.", "not a constructor", names)


# ---- what must not happen ----


class Attack:
    """Pickles as a call of anything."""

    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", PROTOCOLS)
@pytest.mark.parametrize(
    ("function", "arguments", "name"),
    [
        (os.system, ("touch {marker}",), r"'(posix|nt)\.system'"),
        (eval, ("open({marker!r}, 'w')",), r"'(builtins|__builtin__)\.eval'"),
        (exec, ("open({marker!r}, 'w')",), r"'(builtins|__builtin__)\.exec'"),
        (open, ("{marker}", "w"), r"'_?io\.open'"),
        (getattr, (os, "system"), "global"),
        (__import__, ("os",), "__import__"),
        (Attack(os.system, "touch {marker}").__reduce__, (), "global"),
    ],
)
def test_calls_are_refused_by_name_and_do_not_happen(tmp_path, protocol, function, arguments, name):
    marker = tmp_path / "it_ran"
    arguments = tuple(a.format(marker=str(marker)) if isinstance(a, str) else a for a in arguments)
    attack = Attack(function, *arguments)
    try:
        data = pickle.dumps({"weights": [attack]}, protocol)
    except TypeError:  # modules cannot be pickled: write the program by hand
        data = b"cbuiltins\ngetattr\n(cos\nsystem\nS'x'\ntR."
    refused(data, name)
    assert not marker.exists()


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (b"\x80\x04\x8c\x08builtins\x8c\x0e__import__.x.y\x93.", r"'builtins\.__import__\.x\.y'"),
        (b"\x80\x04\x8c\x0bcollections\x8c\x14OrderedDict.__init__\x93.", r"'collections\.OrderedDict\.__init__'"),
        (b"(S'ls'\nios\nsystem\n.", r"'os\.system'"),
        (b"(cos\nsystem\nS'ls'\no.", r"'os\.system'"),
        (b"(i__main__\nX\n.", r"'__main__\.X'"),
        (b"\x80\x02\x82\x01.", "EXT1"),
        (b"\x80\x02\x83\x01\x00.", "EXT2"),
        (b"\x80\x02\x84\x01\x00\x00\x00.", "EXT4"),
        (b"\x80\x05\x97.", "NEXT_BUFFER"),
        (b"Pstorage\n.", "PERSID"),
        (b"]Q.", "outside the pickle"),
        (b"(cargparse\nNamespace\no.", "OBJ"),
        (b"cargparse\nNamespace\n}S'__init__'\nNsb.", "sets the state of an object of type Constructor"),
        (b"ccollections\nOrderedDict\n}S'call'\nNsb.", "sets the state"),
        (b"]}b.", "sets the state of an object of type list"),
        (b"cargparse\nNamespace\n)R}K\x01Nsb.", "str expected, found int"),
        (b"cbuiltins\nint\n(S'5'\ntR.", "calls an object of type Inert"),
        (b"S'x'\n(tR.", "calls an object of type str"),
        (b"cargparse\nNamespace\n)}S'a'\nNs\x92.", "named arguments"),
        (b"c_codecs\nencode\n(S'x'\nS'rot13'\ntR.", "rot13"),
        (b"cnumpy\nndarray\n(K\x01\x85tR.", "calls an object of type Inert"),
    ],
)
def test_odd_programs_are_refused(program, message):
    refused(program, message)


def array_program(shape, dtype, data):
    """A NumPy array's pickle with a state of our choice."""
    state = pickle.dumps((1, shape, "DTYPE", False, data), 2)[2:-1]
    dtype = b"cnumpy\ndtype\n(" + pickle.dumps(dtype, 0)[:-1].replace(b"p0\n", b"") + b"I00\nI01\ntR"
    marker = b"X\x05\x00\x00\x00DTYPE"
    assert marker in state
    empty = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
    return empty + state.replace(marker, dtype) + b"b."


@pytest.mark.parametrize(
    ("shape", "dtype", "data", "message"),
    [
        ((3,), "f4", b"12345678", r"shape \(3,\) and type float32 needs 12 bytes, found 8"),
        ((2**40,), "f4", b"1234", "needs 4398046511104 bytes, found 4"),
        ((2**62, 8), "u1", b"", "found 0"),
        ((-1,), "u1", b"", r"shape \(-1,\)"),
        ((1,) * 40, "u1", b"1", "no tuple of sizes"),
        ([2], "u1", b"12", "no tuple of sizes"),
        ((1,), "O8", [print], "type 'O8'"),
        ((1,), "V4", b"1234", "type 'V4'"),
        ((9,), "S0", b"", "type 'S0'"),
        ((1,), ">f4", b"1234", "type '>f4'"),
        ((1,), "u1", ["x"], "Python objects"),
    ],
)
def test_arrays_whose_sizes_lie_are_refused(shape, dtype, data, message):
    assert load(array_program((2,), "u1", b"\x01\x02"), "x").tolist() == [1, 2]
    refused(array_program(shape, dtype, data) if data != [print] else array_program(shape, dtype, []), message)


def test_big_endian_arrays_are_refused():
    refused(pickle.dumps(np.arange(3, dtype=">i4"), 2), "big-endian")


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (b"\x80\x04\x8e" + struct.pack("<Q", 1 << 40) + b"abc.", "1099511627776 bytes does not fit"),  # BINBYTES8
        (b"\x80\x04\x8d" + struct.pack("<Q", (1 << 64) - 1) + b"abc.", "does not fit"),  # BINUNICODE8
        (b"\x80\x05\x96" + struct.pack("<Q", 1 << 33) + b"abc.", "does not fit"),  # BYTEARRAY8
        (b"\x80\x02T" + struct.pack("<I", 0xFFFFFFFF) + b"abc.", "does not fit"),  # BINSTRING
        (b"\x80\x02\x8b" + struct.pack("<I", 0x7FFFFFFF) + b"abc.", "does not fit"),  # LONG4
        (b"\x80\x04\x95" + struct.pack("<Q", 1 << 40) + b"N.", "frame does not fit"),
        (b"\x80\x02]r" + struct.pack("<II", 0xFFFFFFFF, 0xFFFFFFFF) + b".", "damaged"),  # LONG_BINPUT, then junk
        (b"\x80\x02K\x01q\x00" + b"h\x00\x85" * 1000 + b"c\n", "a line without an end"),
        (b"I" + b"9" * 100000 + b"\n.", "damaged"),
        (b"I0x" + b"9" * 100000 + b"\n.", "damaged"),
        (b"L0x" + b"9" * 100000 + b"L\n.", "damaged"),
    ],
)
def test_sizes_that_do_not_fit_cost_nothing(program, message):
    tracemalloc.start()
    try:
        refused(program, message)
        assert tracemalloc.get_traced_memory()[1] < 3_000_000
    finally:
        tracemalloc.stop()


def test_a_huge_memo_number_costs_nothing():
    tracemalloc.start()
    try:
        assert load(b"\x80\x02]r\xff\xff\xff\xff.", "x") == []
        assert tracemalloc.get_traced_memory()[1] < 1_000_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (b"}K\x01\x85" + b"2\x86" * 60 + b"Ns.", "type tuple as a key"),  # a hash of 2^60 steps
        (b"}\x8a\x09" + b"\xff" * 8 + b"\x01Ns.", "more than 64 bits"),  # keys that all collide
        (b"}]Ns.", "type list as a key"),
        (b"}(" + b"N" * 99 + b"t" + b"Ns.", "tuple of 99 items as a key"),  # hashed anew at every use
        (b"\x8f(]\x90.", "type list as a key"),
        (b"(](t\x91.", "type list as a key"),
        (b"]" * 1_100_000, "items on the pickle stack"),
        (b"(" * 20_000, "nests deeper"),
        (b"X\x10\x27\x00\x00" + b"x" * 10_000 + b"q\x000" + b"c_codecs\nencode\nh\x00\x85R" * 500, "again and again"),
        (b"cnumpy\ndtype\nN" + b"2\x86" * 60 + b"\x85R.", "type an object of type tuple"),  # nor is it shown
        (b"c_codecs\nencode\nX\x00\x00\x00\x00N" + b"2\x86" * 60 + b"\x86R.", "as an object of type tuple"),
        (
            b"cnumpy._core.numeric\n_frombuffer\n(C\x00cnumpy\ndtype\nX\x02\x00\x00\x00f4\x85RN"
            + b"2\x86" * 60
            + b"tR.",
            "no tuple of sizes",
        ),
        (b"\x8b\x01\x08\x00\x00" + b"\x01" * 2049 + b".", "integer of 2049 bytes"),
    ],
)
def test_bombs_end_quickly(program, message):
    start = time.monotonic()
    refused(program, message)
    assert time.monotonic() - start < 60  # an exponential one would take years


def test_deep_nesting_is_harmless():
    value = load(b"\x80\x02" + b"]" * 50_000 + b"a" * 49_999 + b".", "x")
    depth = 0
    while value:
        value, depth = value[0], depth + 1
    assert depth == 49_999


# ---- damage ----

SAMPLE = {
    "captions": {7: ["a café", "人"], 8: '["x"]'},
    "array": np.arange(5, dtype=np.float32),
    "scalar": np.float64(2),
    "args": argparse.Namespace(a=1, b=(1, 2, 3)),
    "ordered": collections.OrderedDict(a=1.5),
    "set": {1, 2},
    "bytes": b"\x00\x01",
    "large": 2**70,
}


@pytest.mark.parametrize("protocol", PROTOCOLS[2:])
def test_every_truncation_is_one_clear_error(protocol):
    data = pickle.dumps(SAMPLE, protocol)
    for length in range(len(data)):
        refused(data[:length], "damaged")


@settings(max_examples=200)
@given(st.sampled_from(PROTOCOLS[2:]), st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 255)), min_size=1))
@example(2, [(0, 0)])
def test_flipped_bytes_never_raise_anything_else(protocol, changes):
    data = bytearray(pickle.dumps(SAMPLE, protocol))
    for position, value in changes:
        data[position % len(data)] = value
    load_or_refuse(bytes(data))


@settings(max_examples=200)
@given(st.binary(max_size=200))
def test_random_bytes_never_raise_anything_else(data):
    load_or_refuse(b"\x80\x04" + data)


OPERATIONS = b"(0123.2NI]})tulaesbRQqhrjcoi\x81\x85\x86\x87\x88\x89\x8f\x90\x91\x93\x94"
PIECES = [bytes([code]) for code in OPERATIONS] + [b"K\x01", b"X\x01\x00\x00\x00a", b"h\x00", b"q\x00"] * 5


@settings(max_examples=200)
@given(st.lists(st.sampled_from(PIECES), max_size=40))
def test_random_programs_never_raise_anything_else(pieces):
    load_or_refuse(b"cargparse\nNamespace\n)R" + b"".join(pieces) + b".")


def load_or_refuse(data):
    try:
        load(data, "some.file")
    except DataError as error:
        assert str(error).startswith("some.file: ")
