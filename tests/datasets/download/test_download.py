"""`download_dataset.sh` as a person runs it: the real curl, and a server on this machine that misbehaves on request."""

import hashlib
import re
import signal
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
from oscar_paddle.tools.fetch_files import PARTS, make_plan, unpack

ITEMS = make_plan(Namespace(what=PARTS, target="data", mirror="http://s", only=[], checksums=None))
ADDRESS = {item.place: item.url.removeprefix("http://s") for item in ITEMS}
CAPTIONS = [item.place for item in ITEMS if item.part == "captions"]
FIRST, PATH, BIG = CAPTIONS[0], ADDRESS[CAPTIONS[0]], hashlib.sha256(b"big").digest() * 100_000  # 3.2 MB
ONE = ("--what", "captions", "--no-check", "--only", FIRST)


class Handler(BaseHTTPRequestHandler):
    """Serves server.files {path: bytes}; server.faults are what is special about the next answers, for PATH."""

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
            if server.gate.wait(fault.get("wait", 0)):
                self.wfile.write(body[start + fault["stop"] :])

    do_HEAD = do_GET


@pytest.fixture
def server(tmp_path, monkeypatch):
    """The server; whatever is not on this machine goes to a proxy that is not there (a closed port)."""
    monkeypatch.chdir(tmp_path)
    for name, value in {"https_proxy": "http://127.0.0.1:9", "no_proxy": "127.0.0.1", "PYTHON": sys.executable}.items():
        monkeypatch.setenv(name, value)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.url, server.faults, server.log = f"http://127.0.0.1:{server.server_port}", [], []
        server.files, server.gate = {path: path.encode() * 1000 for path in ADDRESS.values()}, threading.Event()
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.gate.set()
        server.shutdown()


@pytest.fixture
def download(server, repository):
    """Runs download_dataset.sh to its end (or starts it: code=None), by default on data/; returns what it says."""

    def run(*arguments, code=0, **options):
        options = {"target": "data", "mirror": server.url, "backoff": 0.01, **options}
        words = [str(word) for name, value in options.items() if value != "" for word in (f"--{name}", value)]
        command = ["/bin/bash", f"{repository}/download_dataset.sh", *words, *arguments]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        said = "" if code is None else process.communicate(timeout=60)[0]
        assert process.returncode == code and "Traceback" not in said, said
        return said or process

    return run


def tree(folder="data"):
    paths = [path for path in Path(folder).rglob("*") if path.is_file() and path.name != ".lock"]
    return {str(path.relative_to(folder)): path.read_bytes() for path in paths}


def test_everything_once(server, download):
    missing, server.faults = "coco_ir/val_captions.pt", [{"status": 405}, BUSY]  # without HEAD it may still give it
    del server.files[ADDRESS[missing]]
    said = download("--what", "captions", "weights", "--only", "coco_ir/*", query="?sig=secret")
    assert "secret" not in said and f"{missing}: not to be had, but not needed" in said and "checked yet: " in said
    assert tree() == {place: server.files[ADDRESS[place]] for place in CAPTIONS if place != missing}
    Path("data", FIRST).write_bytes(b"mine")
    said = download("--what", "captions", "--no-check", code=1)
    assert f"data/{FIRST}: size is 4; expected" in said and said.count("there already") == len(CAPTIONS) - 2
    assert "other: 0.05 MB to come" in download("--what", "oscar", target="other", code=1)  # it holds 27,000 bytes


def test_files_land_where_the_settings_look(repository):
    fills = [re.sub(r"/({.*|[^/]*)$", "/", at) for item in ITEMS for at in dict(item.routes).values() or [item.place]]
    for pattern in "retrieval_train*", "retrieval_oscar*", "vqa*", "gqa*", "nlvr2*", "captioning_[!f]*":
        text = "".join(path.read_text() for path in (repository / "configs").glob(pattern))
        for wanted in set(re.findall(r"(?:DIR|FILE): data/(\S+)", text)):
            assert any(f"{wanted}/".startswith(fill) for fill in fills), wanted


CUT, OTHER, REFUSED = {"stop": 1_200_000}, {"headers": {"ETag": '"two"'}}, {"x-ms-error-code": "PublicAccess"}
HEAD, GET, MORE, BUSY, MOVED = "HEAD", "GET", "bytes=1200000-", {"status": 503}, {"Location": "file:///etc/hosts"}
TROUBLES = [
    ({}, 0, [{}, CUT, CUT], [HEAD, GET, MORE, "bytes=2400000-"], "downloaded, size as expected, sha256 not known"),
    ({}, 1, [{}, CUT, *[{"stop": 0}] * 2], [HEAD, GET, MORE, MORE], "curl error 18, see above; gave up after"),
    ({}, 0, [{}, CUT, OTHER], [HEAD, GET, MORE, GET], "curl error 33"),  # changed, or a server without ranges
    ({}, 1, [{}, CUT, *[OTHER | CUT] * 9], [HEAD, GET, MORE, GET], "gave up after attempt"),  # it comes to an end
    ({}, 1, [{}, BUSY, BUSY, BUSY], [HEAD, GET, GET, GET], "HTTP 503 Service Unavailable; attempt 3 of 3 in 0.02 s"),
    ({"timeout": 1}, 0, [{}, {"stop": 0, "wait": 60}], [HEAD, GET, GET], "curl error 28"),
    ({}, 0, [{}, {"status": 302, "headers": {"Location": PATH}}], [HEAD, GET, GET], "downloaded"),
    ({}, 1, [{}, {"status": 302, "headers": MOVED}], [HEAD, GET], "curl error 1, "),
    ({}, 1, [{}, {"headers": {"Content-Encoding": "gzip"}}], [HEAD, GET], "a web page or a packed file came"),
    ({}, 1, [{"headers": {"Content-Type": "text/html"}}], [HEAD], "a web page or a packed file came"),
    ({}, 1, [{"status": 401}], [HEAD], "HTTP 401 Unauthorized\n1 files missing or wrong. What to try"),
    ({}, 1, [{"status": 403}], [HEAD], "--mirror PREFIX"),
    ({}, 1, [{"status": 404}], [HEAD], "HTTP 404 Not Found"),
    ({}, 1, [{"status": 409, "headers": REFUSED}], [HEAD], "HTTP 409 Conflict PublicAccess"),
    ({}, 1, [{"headers": {"Content-Length": 10**18}}], [HEAD], "no room: 1,000,000,000,000.00 MB to come"),
    ({"mirror": "gopher://x"}, 2, [], [], "--mirror gopher://x: no such folder; expected http"),
    ({"checksums": "/etc/passwd"}, 2, [], [], "--checksums /etc/passwd: expected lines of 64 hex"),
    ({"retries": -1}, 2, [], [], "--retries: expected 0"),
    ({"timeout": "nan"}, 2, [], [], "expected seconds"),
    ({"wat": 1}, 2, [], [], "unknown option --wat; did you mean --what?"),
]


@pytest.mark.parametrize(("options", "code", "faults", "log", "expected"), TROUBLES)
def test_troubles(server, download, options, code, faults, log, expected):
    server.files[PATH], server.faults = BIG, list(faults)
    assert expected in download(*ONE, code=code, **{"retries": 2, **options})
    assert server.log[:4] == log and len(server.log) < 8 and tree().get(FIRST) == (None if code else BIG)


@pytest.mark.parametrize("change", ["version", "size", "address", "no version"])
def test_a_part_is_never_mixed_with_another_file(server, download, change):
    fault = {"headers": {"ETag": ""}} if change == "no version" else {}
    server.files[PATH], server.faults = BIG, [fault, fault | CUT]
    download(*ONE, code=1, retries=0)
    path = "/copy" * (change == "address") + PATH
    server.files[path] = BIG[::-1] + b"more" * (change == "size")
    server.faults = [OTHER if change == "version" else fault] * 2
    download(*ONE, mirror=server.url + path.removesuffix(PATH) + "/")
    assert tree() == {FIRST: server.files[path]}


@pytest.mark.parametrize(("sign", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted(server, download, sign, code):
    server.files[PATH], server.faults = BIG, [{}, CUT, {"stop": 1_800_000, "wait": 60}]
    process, end = download(*ONE, code=None), time.monotonic() + 15
    while sum(map(len, tree().values())) < 2_000_000 and time.monotonic() < end:
        time.sleep(0.02)
    assert "another download into this folder is running" in download(*ONE, code=1)
    process.send_signal(sign)
    assert process.wait(timeout=10) == code
    download(*ONE)
    server.gate.set()  # a curl that has outlived its parent gets the rest, and must not write it
    assert ("stopped; the same command goes on from here" in process.stdout.read()) == (code > 0)
    assert tree() == {FIRST: BIG} and int(server.log[-1][6:-1]) >= 2_000_000


def test_dry_run_and_a_server_that_is_silent(server, download):
    said = download("--what", "captions", retries=2, mirror="", code=1)  # the official one, through the proxy
    assert said.count("attempt 3 of 3 in 0.02 s") == 1 and said.count("gave up after attempt 3") == len(CAPTIONS) - 2
    del server.files["/oscar/datasets/coco_ir.zip"]
    lines = download("--what", "captions", "oscar", "--dry-run").splitlines()[1:]
    cells = [re.split(" {2,}", line) for line in (lines[0], lines[1], lines[-1])]
    assert cells[0] == ["part", "MB", "place", "address", "note"] and "GET" not in server.log
    assert cells[1] == ["captions", "0.04", f"data/{FIRST}", server.url + PATH]
    assert cells[2][:2] == ["oscar", "?"] and cells[2][4] == "HTTP 404 Not Found"


def test_checksums_and_a_folder_as_mirror(download, write):
    for place in CAPTIONS:
        write(place, f"a copy{ADDRESS[place]}")
    sums = [hashlib.sha256(place.encode()).hexdigest() for place in CAPTIONS]
    good = write(f"# sha256sum\n{sums[0].upper()} *./{FIRST}\n{sums[1]}  {ADDRESS[CAPTIONS[1]][1:]}\n", "good")
    said = download("--what", "captions", code=1, mirror="a copy", checksums=write(f"{sums[1]}  {FIRST}\n", "bad"))
    assert f"part: sha256 is {sums[0]}; expected {sums[1]}; delete it" in said and FIRST not in tree()
    said = download("--what", "captions", mirror=Path("a copy").absolute().as_uri(), checksums=good)
    assert said.count("sha256 as expected") == 2 and len(tree()) == len(CAPTIONS)
    assert "names none of the files" in download("--what", "vinvl", checksums=good, code=2)
    assert "matches none of the files" in download("--what", "vinvl", "--only", "*.jpg", code=2)


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


ROUTES = [
    ("oscar", {"train_captions.pt": "coco_ir", "coco_ir/x_img_keys.tsv": "coco_ir", "coco_ir/x.pt": "oscar_features"}),
    ("oscar-vqa", {"vqa/2k/x.json": "vqa/2k", "cache/x.pkl": "vqa/cache", "2k/x_feats.pt": "oscar_features/vqa"}),
    ("oscar-gqa", {"0.4true/x.json": "gqa", "GQA/x.pkl": "gqa", "GQA/0.4true/x_feats.pt": "oscar_features/gqa"}),
    ("oscar-nlvr2", {"nlvr2/ft_corpus/x.json": "nlvr2", "ft_corpus/x_feats.pt": "oscar_features/nlvr2"}),
    ("task-weights", {"best/x/config.json": "pretrained/gqa/base/best/x", "x.bin": "pretrained/gqa/base/best"}),
]


@pytest.mark.parametrize(("part", "routes"), ROUTES)
def test_archives(download, part, routes):
    item = next(item for item in ITEMS if item.part == part and item.routes and "ckpts/vqa" not in item.place)
    arguments = ("--what", part, "--only", item.place, "--no-check", "--mirror", "copy")
    archive(Path("copy" + ADDRESS[item.place]), {path: path for path in [*routes, "__MACOSX/x"]})
    download(*arguments)
    places = [f"{folder}/{Path(path).name}" for path, folder in routes.items()]
    assert set(tree()) == {*places, item.place + ".unpacked.json"}
    assert "unpacked already" in download(*arguments)
    Path("data", places[-1]).write_text("cut")
    assert f"as they were there and differ: {places[-1]}" in download(*arguments, "--keep-archives")
    assert item.place in tree() and tree()[places[-1]] == b"cut"


OUT, ONES = ("../x", "a/../../x", "/x", "..\\x", "C:x", "\\\\h\\x", "..", "good\0/../../up"), {"x": "1" * 10}
REFUSED_ARCHIVES = [
    *[("absolute, leads upwards or holds a NUL", {"good": "", name: ""}, {}) for name in OUT],
    ("a link, a device or a pipe", {"x": "/etc"}, {"mode": 0o120777}),
    ("a link, a device or a pipe", {"x": ""}, {"mode": 0o020777}),
    ("encrypted", ONES, {"add": 1}),
    ("for the place of 'a//b', a/b", {"a//b": "1", "a/b": "2"}, {}),
    ("10 bytes to unpack, but .* has 9 free", ONES, {}),
    ("damaged, cut short", ONES, {"where": 24, "add": -1}),  # the size
    ("damaged, cut", ONES, {"where": 16, "add": -1}),  # the check sum
]


@pytest.mark.parametrize(("expected", "members", "more"), REFUSED_ARCHIVES)
def test_refused_archives_write_nothing(tmp_path, monkeypatch, expected, members, more):
    monkeypatch.setattr("shutil.disk_usage", lambda path: Namespace(free=9 if "free" in expected else 1000))
    with pytest.raises(DataError, match=rf"in\.zip: .*{expected}.*(nothing was unpacked|delete it)"):
        unpack(archive(tmp_path / "in.zip", members, **more), tmp_path / "out")
    assert tree(tmp_path).keys() == {"in.zip"}


def test_before_anything_is_installed_and_the_checker_at_the_end(server, download, tmp_path, monkeypatch):
    venv.create(tmp_path / "bare", symlinks=True)  # a Python with nothing but the standard library
    monkeypatch.setenv("PYTHON", str(tmp_path / "bare/bin/python"))
    assert "once the project is installed: " in download("--what", "captions", "vinvl")
    assert "./download_dataset.sh --what captions" in download("--help")
    monkeypatch.setenv("PYTHON", sys.executable)
    said = download("--what", "captions", "vinvl", code=1)  # the files hold their addresses
    assert f"retrieval_train.yaml --opts DATASET.DATA_DIR {tmp_path}/data/coco_ir DATASET" in said and "Checked" in said
    monkeypatch.setenv("PYTHON", "no-such-python")
    assert "no-such-python is no Python 3.10" in download("--help", code=2)


def test_files_of_other_servers_have_whole_addresses():
    """Names in them are quoted; a copy has them at their places here."""
    plan = {"what": ["refer"], "target": "data", "only": [], "checksums": None}
    urls = {item.place: item.url for item in make_plan(Namespace(mirror=None, **plan))}
    assert urls["downloads/bvisionweb1.cs.unc.edu/licheng/referit/data/refcoco+.zip"].endswith("/data/refcoco%2B.zip")
    store = "referExpression/refcoco+_resnet101_faster_rcnn_genome.lmdb/data.mdb"
    assert urls[store].startswith("https://www.dropbox.com/") and urls[store].endswith(".lmdb/data.mdb?dl=1")
    copied = {item.place: item.url for item in make_plan(Namespace(mirror="https://copy", **plan))}
    assert copied == {place: f"https://copy/{place}" for place in urls}


def test_the_detectors_files_are_those_of_its_settings(repository):
    wanted = re.findall(r": (data/detector/\S+)", (repository / "configs" / "detector_x152c4.yaml").read_text())
    assert len(wanted) == 2 and set(wanted) == {f"data/{item.place}" for item in ITEMS if item.part == "detector"}
