"""Damage to files as Hypothesis strategies, so that a failure shrinks to the smallest damage that still shows it."""

import struct

from hypothesis import strategies as st

# What size fields, counts and offsets must never be believed to be, and text that means something to some reader.
_NUMBERS = [struct.pack("<q", n) for n in (0, 1, -1, 255, 1 << 16, 1 << 31, (1 << 32) - 1, 1 << 40, (1 << 63) - 1)]
_NUMBERS += [struct.pack(form, n) for form in ("<i", ">i", "<h") for n in (0, 1, -1, 0x7FFF)]
_MARKS = b"\n,\t,\0,\r\n,.,..,/,-1,0,2,1e999,NaN,-Infinity,null,true,{},[],=,AAAA,\xff\xfe,\xed\xa0\x80,(,e,R,b,},]"
_PICKLED = [b"__main__", b"cos\nsystem\n", b"\x80\x04", b"\x95", b"X\xff\xff\xff\x7f", b"r\xff\xff\xff\xff"]
_TEXTS = [b"9" * 30, b"[" * 60, b'{"a":' * 60, "人".encode(), b"../../x", b"/etc/passwd", b"&a [*a, *a]"]
_WORDS = [*_NUMBERS, *_MARKS.split(b","), *_PICKLED, *_TEXTS, b"!!python/object:os.system"]

_PLACE, _LENGTH = st.integers(0, 1 << 16), st.integers(0, 8) | st.integers(0, 1 << 14)
_NEW = st.sampled_from(_WORDS) | st.binary(max_size=20) | st.integers(0, 7).map(lambda bit: 1 << bit)


@st.composite
def damaged(draw, sound):
    """One of the sound sets of files, {name: bytes}, with one or more of its files damaged."""
    files = dict(draw(st.sampled_from(sound)))
    for _ in range(draw(st.integers(1, 4))):
        name, source = draw(st.sampled_from(sorted(files))), draw(st.sampled_from(sorted(files)))
        kind = draw(st.sampled_from(["edit"] * 8 + ["copy"] * 4 + ["cut", "replace", "missing"]))
        if kind == "missing" and len(files) > 1:
            del files[name]
        elif kind == "replace":
            files[name] = draw(st.binary(max_size=200))
        else:
            files[name] = _edited(draw, files[name], kind, files[source])
    return files


def _edited(draw, data, kind, source):
    """Part of a file exchanged for something new, or for a part of a file, once or many times; or its end cut off."""
    at = draw(_PLACE) % (len(data) + 1)
    if kind == "cut":
        return data[:at]
    if kind == "copy":
        start = draw(_PLACE) % (len(source) + 1)
        new = source[start : start + draw(_LENGTH)] * draw(st.integers(1, 40))
        removed = draw(st.just(0) | _LENGTH)
    else:
        new = draw(_NEW)
        if isinstance(new, int):  # a bit to flip
            new = bytes(byte ^ new for byte in data[at : at + 1])
        removed = draw(st.just(len(new)) | st.just(0) | _LENGTH)
    return data[:at] + new + data[at + removed :]
