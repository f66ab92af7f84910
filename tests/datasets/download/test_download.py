"""`download_dataset.sh` as a person runs it: the real curl, and a server on this machine that misbehaves on request."""

import hashlib
import shutil
import signal
import stat
import subprocess
import sys
import threading
import time
import venv
import zipfile
from argparse import Namespace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.download.unpacking import unpack
from oscar_paddle.tools.fetch_files import PARTS, make_plan

ITEMS = make_plan(Namespace(what=PARTS, target="data", mirror="http://s", only=[], checksums=None))
ADDRESS = {item.place: item.url.removeprefix("http://s") for item in ITEMS}
CAPTIONS = [item.place for item in ITEMS if item.part == "captions"]
FIRST, PATH, BIG = CAPTIONS[0], ADDRESS[CAPTIONS[0]], hashlib.sha256(b"big").digest() * 100_000  # 3.2 MB
ONE = ("--what", "captions", "--no-check", "--only", FIRST)


class Handler(BaseHTTPRequestHandler):
    """Serves server.files {path: bytes}; server.faults are what is special about the next answers, for PATH."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        server, path, asked = self.server, self.path.partition("?")[0], self.headers.get("Range")
        server.log.append(asked or self.command)
        fault = server.faults.pop(0) if server.faults and path.endswith(PATH) else {}
        body, headers, start = server.files.get(path, b""), {"ETag": '"one"', **fault.get("headers", {})}, 0
        status = fault.get("status", 200 if body else 404)
        if status == 200 and asked and self.headers["If-Range"] in (headers["ETag"], None):
            status, start = 206, int(asked[6:-1])
            headers["Content-Range"] = f"bytes {start}-{len(body) - 1}/{len(body)}"
        self.send_response(status)
        for name, value in {"Content-Length": len(body) - start, **headers}.items():
            self.send_header(name, str(value))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body[start : start + fault.get("stop", len(body))])
            server.gate.wait(fault.get("wait", 0))
        self.close_connection = True

    do_HEAD = do_GET

    def log_message(self, *_):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """The server; whatever is not on this machine goes to a proxy that is not there (a closed port)."""
    monkeypatch.chdir(tmp_path)
    for name, value in {"https_proxy": "http://127.0.0.1:9", "no_proxy": "127.0.0.1", "PYTHON": sys.executable}.items():
        monkeypatch.setenv(name, value)
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.handle_error = lambda *_: None  # a client that went away is what some tests are about
    server.files = {ADDRESS[item.place]: item.url.encode() * 1000 for item in ITEMS if not item.routes}
    server.faults, server.log, server.gate = [], [], threading.Event()
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    yield server
    server.gate.set()
    server.shutdown()
    server.server_close()


@pytest.fixture
def download(server, repository):
    """Runs download_dataset.sh to its end (or starts it: wait=False), by default on data/; returns what it says."""

    def run(*arguments, code=0, wait=True, root=repository, **options):
        options = {"target": "data", "mirror": f"http://127.0.0.1:{server.server_port}", "backoff": 0.01, **options}
        words = [word for name, value in options.items() if value != "" for word in (f"--{name}", str(value))]
        # A child inherits that SIGINT is ignored, as it is where the tests themselves run in the background.
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
        ready = {"preexec_fn": lambda: signal.signal(signal.SIGINT, signal.SIG_DFL), **pipes}
        process = subprocess.Popen(["/bin/bash", f"{root}/download_dataset.sh", *words, *arguments], **ready)
        if wait:
            said = process.communicate(timeout=60)[0]
            assert process.returncode == code and "Traceback" not in said, said
        return said if wait else process

    return run


def tree(folder="data"):
    paths = [path for path in Path(folder).rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_everything_once(server, download):
    del server.files[ADDRESS["coco_ir/val_captions.pt"]]
    server.faults = [{"status": 405}]  # a server without HEAD may still give the file
    said = download("--what", "captions", "weights", "--only", "coco_ir/*", "pretrained/vinvl_*", query="?sig=secret")
    assert "val_captions.pt: not to be had, but not needed" in said and "secret" not in said
    expected = {
        place: server.files.get(path) for place, path in ADDRESS.items() if "checkpoint" in place or place in CAPTIONS
    }
    assert tree() == {place: content for place, content in expected.items() if content}
    assert "retrieval_train.yaml cannot be checked yet" in said and "features.tsv, " in said
    Path("data", FIRST).write_bytes(b"mine")
    said = download("--what", "captions", "--no-check", code=1)
    assert f"data/{FIRST}: size is 4; expected" in said and said.count("there already") == len(CAPTIONS) - 2


CUT, STALL, LONG = {"stop": 1_200_000}, {"stop": 0, "wait": 60}, {"headers": {"Content-Length": 10**18}}
AGAIN, OTHER, PLAIN = ["GET", "bytes=1200000-", "GET"], {"headers": {"ETag": '"two"'}}, {"headers": {"ETag": ""}}


@pytest.mark.parametrize(
    ("faults", "code", "log", "expected"),
    [
        ([CUT, CUT], 0, [*AGAIN[:2], "bytes=2400000-"], "downloaded, 3.2 MB, compared: size"),
        ([CUT, {"stop": 7}, {"stop": 7}], 1, [*AGAIN[:2], "bytes=1200007-"], "curl error 18, see above; gave up after"),
        ([CUT, OTHER], 0, AGAIN, "curl error 33"),  # changed meanwhile, or a server without ranges
        ([CUT, *[OTHER | CUT] * 9], 1, ..., "gave up after attempt"),  # it comes to an end
        ([{"status": 503}] * 3, 1, ["GET"] * 3, "HTTP 503 Service Unavailable; attempt 3 of 3 in 0.02 s"),
        ([STALL], 0, ["GET"] * 2, "curl error 28"),
        ([{"headers": {"Content-Encoding": "gzip"}}], 1, ["GET"], "a web page or a packed file came"),
        ([{"status": 302, "headers": {"Location": PATH + "?"}}], 0, ["GET"] * 2, "downloaded"),
        ([{"status": 302, "headers": {"Location": "file:///etc/hostname"}}], 1, ["GET"], "curl error 1, "),
        ([{"status": 403}], 1, ["GET"], "HTTP 403 Forbidden"),
    ],
)
def test_trouble_with_the_file(server, download, faults, code, log, expected):
    server.files[PATH], server.faults = BIG, [{}, *faults]
    assert expected in download(*ONE, code=code, retries=2, timeout=1)
    assert server.log[1:] == log or log is ... and len(server.log) < 8
    assert tree().get(FIRST) == (None if code else BIG)


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        ({"status": 404}, "HTTP 404 Not Found"),
        ({"status": 401}, "--mirror PREFIX"),
        ({"status": 409, "headers": {"x-ms-error-code": "PublicAccessNotPermitted"}}, "PublicAccessNotPermitted"),
        ({"headers": {"Content-Type": "text/html"}}, "a web page"),
        (LONG, "no room: 1 files still to come, 1000000 TB; "),
    ],
)
def test_trouble_before_the_first_byte(server, download, fault, expected):
    server.faults = [fault]
    assert expected in download(*ONE, code=1)
    assert server.log == ["HEAD"] and tree() == {}


@pytest.mark.parametrize("change", ["version", "size", "address", "no version"])
def test_a_part_is_never_mixed_with_another_file(server, download, change):
    fault = PLAIN if change == "no version" else {}
    server.files[PATH], server.faults = BIG, [fault, fault | CUT]
    download(*ONE, code=1, retries=0)
    path, url = "/copy" * (change == "address") + PATH, f"http://127.0.0.1:{server.server_port}"
    server.files[path] = BIG[::-1] + b"more" * (change == "size")
    server.faults = [OTHER if change == "version" else fault] * 2
    download(*ONE, mirror=url + path.removesuffix(PATH) + "/")
    assert tree() == {FIRST: server.files[path]}


@pytest.mark.parametrize(("sign", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130)])
def test_interrupted(server, download, sign, code):
    server.files[PATH], server.faults = BIG, [{}, {"stop": 3_000_000, "wait": 60}]
    process, end = download(*ONE, wait=False), time.monotonic() + 15
    while sum(map(len, tree().values())) < 2_000_000 and time.monotonic() < end:
        time.sleep(0.02)
    assert "another download into this folder is running" in download(*ONE, code=1)
    process.send_signal(sign)
    assert process.wait(timeout=10) == code
    download(*ONE)
    server.gate.set()  # a curl that has outlived its parent gets the rest, and must not write it
    assert tree() == {FIRST: BIG} and int(server.log[-1][6:-1]) >= 2_000_000
    assert ("stopped; the same command goes on from here" in process.stdout.read()) == (code > 0)


def test_dry_run_and_a_server_that_is_silent(server, download):
    said = download("--what", "captions", retries=2, mirror="", code=1)  # the official one, through the proxy
    assert said.count("attempt 3 of 3 in 0.02 s") == 1 and f"(and {len(CAPTIONS) - 3} more likewise)" in said
    said = download("--what", "captions", "oscar", "--dry-run")
    lines = said[said.index("part ") :].splitlines()
    assert lines[0].split() == ["part", "size", "place", "address", "note"] and "GET" not in server.log
    assert lines[1].split()[:4] == ["captions", "49", "kB", f"data/{FIRST}"] and lines[1].endswith(PATH)
    assert lines[-2].split()[:2] == ["oscar", "?"] and lines[-2].endswith("  HTTP 404 Not Found")
    assert lines[-1].startswith(f"{len(lines) - 2} files: ") and "1 of unknown size" in lines[-1]


def test_checksums_and_a_folder_as_mirror(server, download, write):
    for place in CAPTIONS:
        write(place, f"a copy{ADDRESS[place]}")
    sums = [hashlib.sha256(place.encode()).hexdigest() for place in CAPTIONS]
    good = write(f"# sha256sum\n{sums[0].upper()} *./{FIRST}\n{sums[1]}  {ADDRESS[CAPTIONS[1]][1:]}\n", "good")
    said = download("--what", "captions", code=1, mirror="a copy", checksums=write(f"{sums[1]}  {FIRST}\n", "bad"))
    assert f"part: sha256 is {sums[0]}; expected {sums[1]}; delete it" in said and FIRST not in tree()
    said = download("--what", "captions", mirror=Path("a copy").absolute().as_uri(), checksums=good)
    assert said.count("compared: sha256, size") == 2 and len(tree()) == len(CAPTIONS)


def test_disk_that_fills_up(server, download):
    server.files[PATH], server.faults = BIG, [{}, CUT]
    download(*ONE, code=1, retries=0)
    part = next(Path("data/coco_ir").iterdir())
    part.unlink()
    part.symlink_to("/dev/full")
    assert "No space left on device" in download(*ONE, code=1)


def archive(path, members, mode=0o100644, where=8, add=0):
    """Writes a zip file; `add` is put to the byte `where` of the first member's entry in the central directory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with zipfile.ZipFile(path, "w") as out:
        for name, content in members.items():
            info = zipfile.ZipInfo("x")
            info.filename, info.external_attr = name, mode << 16
            out.writestr(info, content)
    data = bytearray(path.read_bytes())
    data[data.index(b"PK\1\2") + where] += add
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("top", ["coco_ir/", ""])
def test_archive(download, server, top):
    oscar = next(item for item in ITEMS if item.part == "oscar")
    members = {top + place.partition("/")[2]: place for place in oscar.expects}
    path, last = archive(Path("copy" + ADDRESS[oscar.place]), {**members, "__MACOSX/x": ""}), oscar.expects[-1]
    arguments = ("--what", "oscar", "--no-check", "--mirror", "copy")
    download(*arguments)
    assert set(tree()) == {*oscar.expects, oscar.place + ".unpacked.json"} and tree()[last] == last.encode()
    assert "unpacked already" in download(*arguments)
    Path("data", last).write_text("cut")
    said = download(*arguments, "--keep-archives")
    assert f"as they were there and differ: {last}" in said and oscar.place in tree()
    archive(path, {"x": ""})
    assert "did not hold coco_ir/train_captions.pt" in download(*arguments, target="other", code=1)


@pytest.mark.parametrize(
    ("expected", "members", "more"),
    [
        *[
            ("leads upwards", {"good": "", x: ""}, {})
            for x in ("../x", "a/../../x", "/x", "..\\x", "C:x", "\\\\h\\x", "..")
        ],
        ("a NUL", {"good\0/../../up": ""}, {}),
        ("a link, a device or a pipe", {"x": "/etc"}, {"mode": stat.S_IFLNK | 0o777}),
        ("a link, a device or a pipe", {"x": ""}, {"mode": stat.S_IFCHR | 0o777}),
        ("encrypted", {"x": "1"}, {"add": 1}),
        ("for the place of 'a//b', a/b", {"a//b": "1", "a/b": "2"}, {}),
        ("9 bytes free", {"x": "0123456789"}, {}),
        ("damaged, cut", {"x": "0123456789"}, {"where": 24, "add": -1}),  # the size
        ("damaged, cut", {"x": "0123456789"}, {"where": 16, "add": -1}),  # the check sum
    ],
)
def test_refused_archives_write_nothing(tmp_path, monkeypatch, expected, members, more):
    monkeypatch.setattr("shutil.disk_usage", lambda path: Namespace(free=9 if "free" in expected else 1000))
    with pytest.raises(DataError, match=rf"in\.zip: .*{expected}.*(nothing was unpacked|delete it)"):
        unpack(archive(tmp_path / "in.zip", members, **more), tmp_path / "out")
    assert tree(tmp_path).keys() == {"in.zip"}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({"what": "everything"}, "invalid choice: 'everything'"),
        ({"mirror": "gopher://x"}, "--mirror gopher://x: no such folder; expected http"),
        ({"only": "*.jpg"}, "matches none"),
        ({"checksums": "broken"}, "--checksums broken: 'abc  x'; expected 64 hex"),
        ({"checksums": "other"}, "names none of the files"),
        ({"retries": -1}, "--retries: expected 0"),
        ({"timeout": "nan"}, "expected seconds"),
        ({"wat": 1}, "unrecognized arguments: --wat"),
    ],
)
def test_bad_arguments(download, write, options, expected):
    write("0" * 64 + f"  {FIRST}\nabc  x\n", "broken")
    write("0" * 64 + " *something/else\n", "other")
    assert expected in download(code=2, **{"what": "captions", **options})


def test_before_anything_is_installed_and_the_checker_at_the_end(server, download, tmp_path, repository, monkeypatch):
    folder, arguments = tmp_path / "my copy", ("--what", "captions", "vinvl")
    for name in ("tools", "config", "datasets"):
        shutil.copytree(repository / name, folder / name)
    shutil.copy(repository / "download_dataset.sh", folder)
    (folder / "tools/check_dataset.py").write_text("import sys\nprint(sys.argv[1:])\nsys.exit(2)\n")
    venv.create(tmp_path / "bare", symlinks=True)  # a Python with nothing but the standard library
    monkeypatch.setenv("PYTHON", str(tmp_path / "bare/bin/python"))
    assert "once the project is installed" in download(*arguments, root=folder, target=folder / "data")
    assert "./download_dataset.sh --what captions" in download("--help", root=folder)
    monkeypatch.setenv("PYTHON", sys.executable)
    said = download(*arguments, root=folder, target=folder / "data", code=1)
    assert f"{folder}/configs/retrieval_train.yaml', '--opts', 'DATASET.DATA_DIR', '{folder}/data/coco_ir'" in said
    monkeypatch.setenv("PYTHON", "no-such-python")
    assert "no-such-python is no Python 3.10" in download("--help", code=2)
