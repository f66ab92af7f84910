"""Archives from strangers: what is sound comes out whole, what is not writes nothing."""

import io
import os
import stat
import tarfile
import zipfile
from types import SimpleNamespace

import pytest

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.download.unpacking import unpack

FILES = {"coco_ir/a.pt": b"first" * 1000, "coco_ir/deep/b.tsv": b"", "c.txt": bytes(range(256)) * 300}


def make_zip(path, members, mode=stat.S_IFREG | 0o644, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as archive:
        for name, data in members.items():
            info = zipfile.ZipInfo("x")
            info.filename, info.compress_type, info.external_attr = name, method, mode << 16
            archive.writestr(info, data)
    return path


def make_tar(path, members, mode="w:gz", **more):
    with tarfile.open(path, mode) as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size, info.type, info.linkname = len(data), more.get("type", tarfile.REGTYPE), more.get("linkname", "")
            archive.addfile(info, io.BytesIO(data))
    return path


def tree(folder):
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


@pytest.fixture(params=["zip", "tar", "tar.gz", "tar.xz"])
def make(request, tmp_path):
    if request.param == "zip":
        return lambda members: make_zip(tmp_path / "in.archive", members)
    return lambda members: make_tar(tmp_path / "in.archive", members, "w:" + request.param[4:])


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out" / "data"


def test_what_is_wanted_comes_out_and_what_is_there_stays(make, out):
    assert unpack(make(FILES), out) == ({place: len(data) for place, data in FILES.items()}, [])
    assert tree(out) == FILES
    (out / "coco_ir/a.pt").write_bytes(b"my own")
    (out / "coco_ir/deep/b.tsv").unlink()
    own, kept = unpack(make(FILES), out, lambda name: None if name == "c.txt" else name)
    assert set(own) == {"coco_ir/deep/b.tsv"} and kept == ["coco_ir/a.pt"]
    assert tree(out) == {**FILES, "coco_ir/a.pt": b"my own"}


@pytest.mark.parametrize(
    "name", ["../up", "a/../../up", "/etc/passwd", "..\\up", "C:\\x", "c:x", "\\\\host\\x", "a/..", ".."]
)
def test_names_that_lead_out(name, make, tmp_path):
    with pytest.raises(DataError, match=r"in\.archive: member .* nothing was unpacked"):
        unpack(make({"good": b"1", name: b"evil"}), tmp_path / "out")
    assert os.listdir(tmp_path) == ["in.archive"]  # not even the good one


def test_members_that_are_no_plain_files(out, tmp_path):
    path = tmp_path / "in"
    cases = {"is a link, a device or a pipe;": make_tar(tmp_path / "pipe", {"x": b""}, type=tarfile.FIFOTYPE)}
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE):
        cases["'x' is a link, a device or a pipe"] = make_tar(
            tmp_path / f"link{kind}", {"x": b""}, type=kind, linkname="/etc"
        )
    cases["member 'x' is a link"] = make_zip(tmp_path / "zip_link", {"x": b"/etc"}, stat.S_IFLNK | 0o777)
    cases["NUL"] = make_zip(tmp_path / "nul", {"good\0/../../up": b"evil"})
    data = bytearray(make_zip(path, {"x": b"1"}).read_bytes())
    data[data.index(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(data)
    cases["encrypted"] = path
    for expected, archive in cases.items():
        with pytest.raises(DataError, match=f"{expected}.*nothing was unpacked"):
            unpack(archive, out)
    assert not out.exists()


def test_two_members_for_one_place(make, out):
    with pytest.raises(DataError, match="is for the place of 'a', x"):
        unpack(make({"a": b"1", "b": b"2"}), out, lambda name: "x")


def test_no_room(make, out, monkeypatch):
    monkeypatch.setattr("shutil.disk_usage", lambda path: SimpleNamespace(free=50_000))
    with pytest.raises(DataError, match=r"81\.8 kB to unpack, but .* has 50 kB free; nothing was unpacked"):
        unpack(make(FILES), out)
    assert not out.exists()


def test_full_disk(make, out):
    out.joinpath("coco_ir").mkdir(parents=True)
    (out / "coco_ir/a.pt.part").symlink_to("/dev/full")
    with pytest.raises(DataError, match=r"in\.archive: cannot unpack: No space left on device"):
        unpack(make(FILES), out)
    assert tree(out) == {}  # neither a piece nor its .part


def test_damage_is_found(make, out, tmp_path):
    path = make(FILES)
    data = path.read_bytes()
    for broken in (data[: len(data) // 3], b"", b"not an archive at all" * 50):
        path.write_bytes(broken)
        with pytest.raises(DataError, match=r"in\.archive.*delete it"):
            unpack(path, out)
    stored = make_zip(path, {"a": b"0123456789"}, method=zipfile.ZIP_STORED).read_bytes()
    longer = bytearray(stored)
    longer[stored.index(b"PK\x01\x02") + 24] += 5  # the size in the central directory
    for broken in (stored.replace(b"0123456789", b"0123456780", 1), longer):
        path.write_bytes(broken)
        with pytest.raises(DataError, match=r"Bad CRC-32.*delete it|has 10 bytes; expected 15"):
            unpack(path, out)
    assert not any(name.endswith(".part") or name == "a" for name in tree(out))
