"""Archives from strangers: what is sound comes out whole, what is not writes nothing."""

import io
import os
import stat
import tarfile
import zipfile
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.download.archives import _unsafe, unpack

FILES = {"coco_ir/a.pt": b"first" * 1000, "coco_ir/deep/b.tsv": b"", "c.txt": bytes(range(256)) * 300}


def make_zip(path, members, modes=None, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo("x")
            info.filename, info.compress_type = name, method
            info.external_attr = (modes or {}).get(name, stat.S_IFREG | 0o644) << 16
            archive.writestr(info, data)
    return path


def make_tar(path, members, mode="w:gz", **more):
    with tarfile.open(path, mode) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            for key, value in more.get(name, {}).items():
                setattr(info, key, value)
            archive.addfile(info, io.BytesIO(data))
    return path


def tree(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(params=["zip", "stored zip", "tar", "tar.gz", "tar.xz"])
def make(request, tmp_path):
    path = tmp_path / "in.archive"
    if "zip" in request.param:
        method = zipfile.ZIP_STORED if "stored" in request.param else zipfile.ZIP_DEFLATED
        return lambda members: make_zip(path, members, method=method)
    mode = "w:" + request.param[4:]
    return lambda members: make_tar(path, members, mode)


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out" / "data"


def test_everything_comes_out(make, out):
    seen = []
    members = unpack(make(FILES), out, on_bytes=lambda have, total: seen.append((have, total)))
    assert tree(out) == FILES and [m.state for m in members] == ["written"] * 3
    total = sum(map(len, FILES.values()))
    assert seen[-1] == (total, total)


def test_route_renames_and_leaves_out(make, out):
    unpack(make(FILES), out, lambda name: None if name == "c.txt" else "new/" + name.split("/")[-1])
    assert set(tree(out)) == {"new/a.pt", "new/b.tsv"}


def test_what_is_there_is_left_alone(make, out):
    out.joinpath("coco_ir").mkdir(parents=True)
    (out / "coco_ir/a.pt").write_bytes(b"my own")
    (out / "c.txt").write_bytes(FILES["c.txt"])
    members = unpack(make(FILES), out)
    states = {"coco_ir/a.pt": "kept", "coco_ir/deep/b.tsv": "written", "c.txt": "same"}
    assert {m.place: m.state for m in members} == states
    assert (out / "coco_ir/a.pt").read_bytes() == b"my own"


@pytest.mark.parametrize(
    "name", ["../up", "a/../../up", "/etc/passwd", "..\\up", "C:\\x", "c:x", "\\\\host\\x", "a/..", ".."]
)
def test_names_that_lead_out(name, make, out, tmp_path):
    archive = make({"good": b"1", name: b"evil"})
    with pytest.raises(DataError, match=r"in\.archive: member .* nothing was unpacked"):
        unpack(archive, out)
    assert os.listdir(tmp_path) == ["in.archive"]  # not even the good one


def test_name_with_a_nul(out, tmp_path):
    with pytest.raises(DataError, match="NUL"):
        unpack(make_zip(tmp_path / "in.zip", {"good\0/../../up": b"evil"}), out)


def test_place_that_leads_out(make, out):
    with pytest.raises(DataError, match="leads upwards"):
        unpack(make(FILES), out, lambda name: "../" + name)
    assert not out.exists()


@pytest.mark.parametrize("target", ["/etc", "../..", "inside"])
def test_links_in_tar(target, out, tmp_path):
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
        path = make_tar(tmp_path / "in.tar", {"link": b"", "link/x": b"evil"}, link={"type": kind, "linkname": target})
        with pytest.raises(DataError, match=f"'link' is a link to '{target}'"):
            unpack(path, out)
    assert not out.exists()


def test_other_kinds(out, tmp_path):
    pipe = make_tar(tmp_path / "in.tar", {"pipe": b""}, pipe={"type": tarfile.FIFOTYPE})
    link = make_zip(tmp_path / "in.zip", {"link": b"/etc"}, {"link": stat.S_IFLNK | 0o777})
    with pytest.raises(DataError, match="device or a pipe"):
        unpack(pipe, out)
    with pytest.raises(DataError, match="'link' is a link"):
        unpack(link, out)
    assert not out.exists()


def test_two_members_for_one_place(make, out):
    with pytest.raises(DataError, match="has the place of 'a', x"):
        unpack(make({"a": b"1", "b": b"2"}), out, lambda name: "x")


def test_encrypted(out, tmp_path):
    data = bytearray(make_zip(tmp_path / "in.zip", {"a": b"1"}).read_bytes())
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + offset] |= 1
    (tmp_path / "in.zip").write_bytes(data)
    with pytest.raises(DataError, match="encrypted"):
        unpack(tmp_path / "in.zip", out)


def test_size_field_that_lies(out, tmp_path):
    data = bytearray(make_zip(tmp_path / "in.zip", {"a": b"1" * 99}).read_bytes())
    at = data.index(b"PK\x01\x02") + 24  # the size in the central directory
    data[at : at + 4] = (0xFFFFFFF0).to_bytes(4, "little")
    (tmp_path / "in.zip").write_bytes(data)
    with pytest.raises(DataError, match="has 99 bytes; expected 4294967280|4.29 GB to unpack, but"):
        unpack(tmp_path / "in.zip", out)
    assert tree(tmp_path).keys() == {"in.zip"}


def test_no_room(make, out, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=50_000))
    with pytest.raises(DataError, match=r"81\.8 kB to unpack, but .* has 50 kB free; nothing was unpacked"):
        unpack(make(FILES), out)
    assert not out.exists()


def test_full_disk(make, out):
    out.joinpath("coco_ir").mkdir(parents=True)
    (out / "coco_ir/a.pt.part").symlink_to("/dev/full")
    with pytest.raises(DataError, match=r"coco_ir/a\.pt: cannot unpack 'coco_ir/a\.pt': No space left on device"):
        unpack(make(FILES), out)
    assert tree(out) == {}  # neither a piece nor its .part


def test_damage_is_found(make, out):
    path = make(FILES)
    data = path.read_bytes()
    for broken in (data[: len(data) // 3], b"", b"not an archive at all" * 50):
        path.write_bytes(broken)
        with pytest.raises(DataError, match=r"in\.archive"):
            unpack(path, out)
    assert not any(name.endswith(".part") for name in tree(out))


def test_changed_byte_in_zip(out, tmp_path):
    path = make_zip(tmp_path / "in.zip", {"a": b"0123456789"}, method=zipfile.ZIP_STORED)
    path.write_bytes(path.read_bytes().replace(b"0123456789", b"0123456780", 1))
    with pytest.raises(DataError, match=r"damaged archive \(Bad CRC-32.*delete it"):
        unpack(path, out)
    assert tree(out) == {}


def test_missing_archive(out, tmp_path):
    with pytest.raises(DataError, match="no such file"):
        unpack(tmp_path / "none.zip", out)


PARTS = ["a", "..", ".", "", "C:", "b c", "...", "~", "\0"]


@given(st.lists(st.sampled_from(PARTS), max_size=5), st.sampled_from("/\\"))
def test_safe_names_stay_inside(parts, separator):
    name = separator.join(parts)
    if not _unsafe(name):
        assert os.path.normpath("/data/" + name.replace("\\", "/")).startswith("/data")
        assert not name.startswith(("/", "\\"))
