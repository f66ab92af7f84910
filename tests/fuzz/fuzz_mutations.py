"""Damage to files as Hypothesis strategies, so that a failure shrinks to the smallest damage that still shows it."""

import struct

from hypothesis import strategies as st

# What size fields, counts and offsets must never be believed to be.
_NUMBERS = sorted({0, 1, -1, 127, 255, 256, 65535, 2**31 - 1, -(2**31), 2**32 - 1, 2**40, 2**63 - 1, -(2**63)})
_WORDS = [
    b"",
    b"\n",
    b"\t",
    b"\0",
    b"\r\n",
    b".",
    b"..",
    b"/",
    b"-1",
    b"0",
    b"1e999",
    b"NaN",
    b"-Infinity",
    b"null",
    b"true",
    b"9" * 30,
    b"{}",
    b"[]",
    b"[" * 60,
    b'{"a":' * 60,
    b"\xff\xfe",
    "人".encode(),
    b"\xed\xa0\x80",
    b"=",
    b"AAAA",
    b"__main__",
    b"cos\nsystem\n",
    b"../../x",
    b"/etc/passwd",
    b"&a [*a, *a]",
    b"!!python/object:os.system",
    b"(",
    b"e",
    b"0",
    b"2",
    b"R",
    b"b",
    b"}",
    b"]",
    b"\x80\x04",
    b"\x95",
    b"r\xff\xff\xff\xff",
    b"X\xff\xff\xff\x7f",
]

_PLACE = st.integers(0, 1 << 16)
_LENGTH = st.one_of(st.integers(0, 8), st.integers(0, 1 << 14))
_DAMAGE = st.one_of(
    st.tuples(st.just("flip"), _PLACE, st.integers(0, 7)),
    st.tuples(st.just("set"), _PLACE, st.integers(0, 255)),
    st.tuples(st.just("number"), _PLACE, st.sampled_from(_NUMBERS), st.sampled_from(["<q", "<i", "<h", ">i"])),
    st.tuples(st.just("word"), _PLACE, st.sampled_from(_WORDS), st.booleans()),
    st.tuples(st.just("bytes"), _PLACE, st.binary(max_size=20)),
    st.tuples(st.just("cut"), _PLACE),
    st.tuples(st.just("remove"), _PLACE, _LENGTH),
    st.tuples(st.just("repeat"), _PLACE, _LENGTH, st.integers(1, 40)),
    st.tuples(st.just("move"), _PLACE, _LENGTH, _PLACE),
    st.tuples(st.just("join"), _PLACE, _PLACE, _PLACE),
)


def damaged(sound):
    """Strategy: one of the sound sets of files, with one or more of its files damaged.

    Args:
        sound: list of {name: bytes}.
    """

    @st.composite
    def draw_files(draw):
        files = dict(draw(st.sampled_from(sound)))
        names = sorted(files)
        for _ in range(draw(st.integers(1, 4))):
            name = draw(st.sampled_from(names))
            action = draw(st.sampled_from(["damage"] * 12 + ["missing", "replace"]))
            if action == "missing" and len(names) > 1:
                files.pop(name, None)
            elif action == "replace":
                files[name] = draw(st.binary(max_size=200))
            elif name in files:
                files[name] = apply(files[name], draw(_DAMAGE), files[draw(st.sampled_from(sorted(files)))])
        return files

    return draw_files()


def apply(data, damage, other=b""):
    """The data with one damage; places are taken modulo the length.

    Args:
        data: bytes.
        damage: tuple as drawn.
        other: bytes of another file, for splicing.
    """
    kind, place, *rest = damage
    at = place % (len(data) + 1)
    if kind == "flip":
        return data[:at] + bytes(byte ^ 1 << rest[0] for byte in data[at : at + 1]) + data[at + 1 :]
    if kind == "set":
        return data[:at] + bytes(rest) + data[at + 1 :]
    if kind == "number":
        number, form = rest
        size = struct.calcsize(form)
        return (
            data[:at]
            + (number % (1 << 8 * size)).to_bytes(size, "big" if form[0] == ">" else "little")
            + data[at + size :]
        )
    if kind == "word":
        word, over = rest
        return data[:at] + word + data[at + (len(word) if over else 0) :]
    if kind == "bytes":
        return data[:at] + rest[0] + data[at:]
    if kind == "cut":
        return data[:at]
    if kind == "remove":
        return data[:at] + data[at + rest[0] :]
    if kind == "repeat":
        length, times = rest
        return data[:at] + data[at : at + length] * times + data[at + length :]
    if kind == "move":
        length, to = rest
        piece, left = data[at : at + length], data[:at] + data[at + length :]
        to %= len(left) + 1
        return left[:to] + piece + left[to:]
    start, end = sorted(position % (len(other) + 1) for position in rest)
    return data[:at] + other[start:end] + data[at:]
