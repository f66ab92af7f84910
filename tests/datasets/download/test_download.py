"""`download_dataset.sh` as a person runs it: the real curl, and a server on this machine."""

import hashlib
import io
import json
import os
import shutil
import signal
import time
import venv
import zipfile

import pytest

from oscar_paddle.datasets.download.official_files import FILES, STORAGE

CAPTIONS = [file for file in FILES if file.part == "captions"]
NEEDED = [file for file in CAPTIONS if not file.optional]
FIRST = NEEDED[0]
PATH = f"/{FIRST.address}"
BIG = hashlib.sha256(b"big").digest() * 100_000  # 3.2 MB
ONE = ("--what", "captions", "--only", FIRST.place, "--no-check")


def content(file):
    return hashlib.sha256(file.address.encode()).digest() * 4000


def publish(server, *parts):
    """Puts every file of some parts on the server."""
    for file in FILES:
        if file.part in parts:
            server.files[f"/{file.address}"] = archive(file) if file.routes else content(file)


def archive(file, folder=True, extra=()):
    """The zip of an official archive, with the inner folder that `unzip -d` relies on, or without."""
    buffer, stem = io.BytesIO(), file.place.split("/")[-1].removesuffix(".zip")
    with zipfile.ZipFile(buffer, "w") as out:
        for place in file.expects:
            inner = place.removeprefix(f"pretrained/{stem}/").removeprefix("coco_ir/").removeprefix("oscar_features/")
            out.writestr(f"{stem}/{inner}" if folder else inner, f"content of {inner}")
        for name in extra:
            out.writestr(name, "extra")
    return buffer.getvalue()


@pytest.fixture
def data(tmp_path):
    return tmp_path / "data"


def tree(folder):
    paths = (p for p in folder.rglob("*") if p.is_file() and p.name != ".lock")
    return {str(p.relative_to(folder)): p.read_bytes() for p in paths}


def test_everything_once(server, download, data):
    publish(server, "captions")
    missing = next(file for file in CAPTIONS if file.optional)
    del server.files[f"/{missing.address}"]
    without_head = f"/{NEEDED[1].address}"
    server.always[without_head], server.faults[without_head] = {"status": 405}, [{"headers": {}}]
    out = download("--what", "captions")
    assert f"{missing.place}: not to be had, but not needed either" in out
    assert tree(data) == {file.place: content(file) for file in CAPTIONS if file != missing}
    assert "cannot be checked yet: model_0060000/features.tsv" in out
    assert download("--what", "captions").count("there already, same size") == len(CAPTIONS) - 2
    assert len(server.gets(PATH)) == 1
    (data / FIRST.place).write_bytes(b"mine")
    assert f"data/{FIRST.place}: has 4 bytes, the server's file 128000; delete it" in download(*ONE, code=1)
    assert (data / FIRST.place).read_bytes() == b"mine"


def test_cut_connections_are_resumed_at_once_and_in_a_later_run(server, download, data):
    server.files[PATH] = BIG
    server.faults[PATH] = [{"stop_after": 1_200_000}] * 2 + [{"stop_after": 7}, {"stop_after": 0}]
    err = download(*ONE, "--retries", "1", code=1)  # what brings more than 1 MB starts the count of failures again
    assert "connection dropped" in err and "gave up after attempt 2" in err and "Give the same command again" in err
    assert len(server.gets(PATH)) == 3 and not (data / FIRST.place).exists()
    download(*ONE)
    assert tree(data) == {FIRST.place: BIG}
    assert server.gets(PATH) == [None, *(f"bytes={n}-" for n in (1_200_000, 2_400_000, 2_400_007, 2_400_007))]


def leave_part(server, download):
    server.files[PATH], server.faults[PATH] = BIG, [{"stop_after": 1_000_000}]
    download(*ONE, "--retries", "0", code=1)
    server.log.clear()


@pytest.mark.parametrize("change", ["same size", "longer", "while it runs", "no ranges"])
def test_changed_file_starts_again(server, download, data, change):
    leave_part(server, download)
    server.files[PATH] = BIG if change == "no ranges" else BIG[::-1] + b"more" * (change == "longer")
    server.ranges = change != "no ranges"
    server.tags[PATH] = '"one"' if change == "no ranges" else '"two"'
    if change == "while it runs":  # HEAD still tells the old version
        server.always[PATH] = {"headers": {"ETag": '"one"'}}
    download(*ONE)
    assert tree(data) == {FIRST.place: server.files[PATH]}


def test_another_mirror_goes_on_with_the_same_part(server, download, data):
    leave_part(server, download)
    server.files[f"/copy{PATH}"], server.tags[f"/copy{PATH}"] = BIG, '"other"'
    download(*ONE, mirror=f"{server.url}/copy/")
    assert tree(data) == {FIRST.place: BIG} and server.gets(f"/copy{PATH}") == ["bytes=1000000-"]


def test_server_that_always_starts_over_and_drops_comes_to_an_end(server, download):
    server.files[PATH], server.ranges, server.faults[PATH] = BIG, False, [{"stop_after": 2_500_000}] * 20
    download(*ONE, "--retries", "2", code=1)
    assert len(server.gets(PATH)) <= 6


def test_passing_trouble_is_retried_with_growing_pauses(server, download):
    publish(server, "captions")
    server.faults[PATH] = [{"status": 503}] * 3
    err = download(*ONE, "--retries", "2", code=1)
    assert "HTTP 503 Service Unavailable; attempt 2 of 3 in 0.01 s" in err and "attempt 3 of 3 in 0.02 s" in err
    server.faults[PATH] = [{"status": 503}] * 2
    download(*ONE, "--retries", "2")


def test_silent_server(server, download, data):
    server.files[PATH], server.faults[PATH] = BIG, [{"stop_after": 0, "wait": True}]
    download(*ONE, "--timeout", "1")
    assert tree(data) == {FIRST.place: BIG} and len(server.gets(PATH)) == 2


def test_missing_file_does_not_stop_the_others(server, download, data):
    publish(server, "vinvl")
    features = next(path for path in server.files if path.endswith("features.tsv"))
    del server.files[features]
    err = download("--what", "vinvl", code=1)
    assert f"{server.url}{features}: HTTP 404" in err and "--mirror" in err and len(tree(data)) == 4
    assert "Known trouble: people have found the folder without its features.tsv" in err


def test_storage_that_refuses_people(server, download, data):
    server.always["*"] = {"status": 409, "headers": {"x-ms-error-code": "PublicAccessNotPermitted"}}
    err = download("--what", "captions", "weights", code=1)
    assert f"{server.url}{PATH}: HTTP 409" in err and "PublicAccessNotPermitted" in err and "--mirror" in err
    assert err.count("HTTP 409") == 1 and f"azcopy copy {STORAGE}{PATH} data/{FIRST.place}" in err
    (data / "coco_ir").mkdir()
    (data / FIRST.place).write_bytes(b"from elsewhere")
    assert "there already, not compared" in download(*ONE)


def test_dry_run(server, download, tmp_path):
    publish(server, "captions", "oscar")
    server.always["/" + CAPTIONS[-1].address] = {"status": 405}
    out = download("--what", "captions", "vinvl", "oscar", "--dry-run")
    for file in (file for file in FILES if file.part in ("captions", "vinvl", "oscar")):
        line = next(line for line in out.splitlines() if f"{server.url}/{file.address}" in line)
        assert file.place in line and any(size in line for size in ("128 kB", "bytes", "~50 GB", "unknown"))
    assert all(method == "HEAD" for method, *_ in server.log) and not os.listdir(tmp_path)


def test_no_connection_is_waited_for_once(download):
    err = download("--what", "captions", "--retries", "2", mirror=None, code=1)  # official, but there is no proxy
    assert "no_proxy" in err and err.count("attempt 3 of 3") == 1
    assert f"(and {len(NEEDED) - 1} more likewise)" in err and f"{STORAGE}{PATH}: no connection" in err


def test_network_that_goes_away_is_waited_for_once(server, download):
    publish(server, "captions")
    server.faults[PATH] = [{"gone": True}]
    err = download("--what", "captions", "--retries", "2", code=1)
    assert err.count("attempt 3 of 3") == 1 and f"(and {len(NEEDED) - 1} more likewise)" in err


@pytest.mark.parametrize(("sign", "code"), [(signal.SIGKILL, -9), (signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted(server, start, download, data, sign, code):
    server.files[PATH], server.faults[PATH] = BIG, [{"stop_after": 3_000_000, "wait": True}]
    process = start(*ONE, "--target", "data")
    end = time.monotonic() + 15
    while not data.exists() or sum(map(len, tree(data).values())) < 2_000_000:
        assert time.monotonic() < end
        time.sleep(0.02)
    assert "another download into this folder is running" in download(*ONE, code=1)
    process.send_signal(sign)
    assert process.wait(timeout=10) == code
    if code > 0:
        assert process.stderr.read() == "\ndownload_dataset: stopped; the same command goes on from here\n"
    download(*ONE)
    server.gate.set()  # a curl that has outlived its parent gets the rest, and must not write it
    assert tree(data) == {FIRST.place: BIG}
    assert int(server.gets(PATH)[1].removeprefix("bytes=").rstrip("-")) >= 2_000_000


def test_checksums(server, download, data, write):
    publish(server, "captions")
    sums = {file: hashlib.sha256(content(file)).hexdigest().upper() for file in NEEDED[:2]}
    good = write("# made by sha256sum\n" + "".join(f"{sum} *./{file.place}\n" for file, sum in sums.items()), "good")
    bad = write(f"{'0' * 64}  {FIRST.address}\n", "bad")
    err = download("--what", "captions", "--checksums", bad, code=1)
    assert FIRST.place in err and f"expected {'0' * 64}; delete it" in err
    assert not (data / FIRST.place).exists() and (data / NEEDED[1].place).exists()
    assert download("--what", "captions", "--checksums", good).count("verified by sha256") == 2
    (data / FIRST.place).write_bytes(content(NEEDED[1]))
    assert f"data/{FIRST.place}: sha256 is" in download("--what", "captions", "--checksums", good, code=1)


def test_wrong_size_and_no_room(server, download, data):
    publish(server, "captions")
    server.always[PATH], server.faults[PATH] = {"claim": 128_001}, [{"headers": {"X": "no claim"}}]
    assert f"{server.url}{PATH}: 128000 bytes arrived; expected 128001" in download(*ONE, code=1)
    server.always[PATH] = {"claim": 10**18}
    server.log.clear()
    assert "data: 1000000 TB needed, but only" in download("--what", "captions", code=1)
    assert not any(method == "GET" for method, *_ in server.log) and tree(data) == {}


def test_disk_that_fills_up(server, download, data):
    leave_part(server, download)
    part = next((data / "coco_ir").iterdir())
    part.unlink()
    part.symlink_to("/dev/full")
    assert "part: cannot write: No space left on device; what fits is kept" in download(*ONE, code=1)


@pytest.mark.parametrize("headers", [{"Content-Type": "text/html"}, {"Content-Encoding": "gzip"}])
def test_something_else_than_the_file(server, download, data, headers):
    publish(server, "captions")
    server.always[PATH] = {"headers": headers}
    assert "instead of the plain file" in download(*ONE, code=1) and tree(data) == {}


@pytest.mark.parametrize("location", ["file:///etc/hostname", "ftp://127.0.0.1/x", PATH])
def test_redirects(server, download, data, location):
    publish(server, "captions")
    server.always[f"/moved{PATH}"] = {"status": 302, "headers": {"Location": location}}
    download(*ONE, mirror=f"{server.url}/moved", code=0 if location == PATH else 1)
    assert tree(data) == ({FIRST.place: content(FIRST)} if location == PATH else {})


@pytest.mark.parametrize("folder", [True, False])
def test_oscar_archive(server, download, data, folder):
    file = next(file for file in FILES if file.part == "oscar")
    extra = ["coco_ir/test_img_keys_1k.tsv", "coco_ir/minival_caption_indexs_top20.pt"] if folder else []
    server.files[f"/{file.address}"] = archive(file, folder, [*extra, "__MACOSX/coco_ir/._x"])
    arguments = ("--what", "oscar", "--no-check")
    download(*arguments)
    found = tree(data)
    assert set(found) - {"downloads/coco_ir.zip.unpacked.json"} == {*file.expects, *extra}
    assert found["oscar_features/train_vg_labels.pt"] == b"content of train_vg_labels.pt"
    server.log.clear()
    assert "unpacked already" in download(*arguments) and not server.log
    (data / "oscar_features/train_vg_labels.pt").unlink()
    (data / "coco_ir/train_captions.pt").write_bytes(b"mine")
    assert "they were there and differ: coco_ir/train_captions.pt" in download(*arguments, "--keep-archives")
    assert (data / "downloads/coco_ir.zip").exists() and (data / "coco_ir/train_captions.pt").read_bytes() == b"mine"


def test_bad_archives(server, download, tmp_path):
    file, other = (next(file for file in FILES if name in file.place) for name in ("base-vg", "large-vg"))
    sound = archive(file)
    cases = {"leads upwards": archive(file, extra=["../../evil"]), "cut short": sound[:100]}
    for expected, body in {**cases, "did not hold pretrained/base": archive(other)}.items():
        server.files[f"/{file.address}"] = body
        err = download("--what", "weights", "--only", "*base-vg*", target=expected, code=1)
        assert expected in err and "base-vg-labels.zip" in err and not (tmp_path / "evil").exists()


def test_weights_only_query_and_folder_as_mirror(server, download, data, tmp_path, repository):
    publish(server, "weights")
    download("--what", "weights")
    for name in ("train", "train_large", "oscar_base", "oscar_large"):  # where the settings look
        lines = (repository / f"configs/retrieval_{name}.yaml").read_text().splitlines()
        place = next(line.split()[-1] for line in lines if line.strip().startswith("DIR:"))
        assert {"pytorch_model.bin", "config.json", "vocab.txt"} <= set(os.listdir(tmp_path / place))
    shutil.rmtree(data)
    server.log.clear()
    arguments = ("--what", "weights", "--only", "pretrained/vinvl_base/checkpoint-1340000/*", "--query", "?sig=secret")
    server.faults = {path: [{"status": 503}, {"status": 403}] for path in server.files}
    assert "secret" not in download(*arguments, code=1) + download(*arguments)
    assert {path.partition("?")[2] for _, path, _ in server.log} == {"sig=secret"}
    got = tree(data)
    assert len(got) == 6
    for path, body in server.files.items():
        copy = tmp_path / "a copy" / path.lstrip("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(body)
    server.log.clear()
    for mirror in ("a copy", (tmp_path / "a copy").as_uri() + "/"):
        shutil.rmtree(data)
        download(*arguments, mirror=mirror)
        assert tree(data) == got and not server.log


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "--what"),
        (["everything"], "everything"),
        (["captions", "--mirror", "gopher://x"], "--mirror gopher://x: expected http"),
        (["captions", "--only", "*.jpg"], "matches none"),
        (["captions", "--checksums", "none"], "--checksums none: No such file"),
        (["captions", "--checksums", "broken"], "--checksums broken line 2: 'abc  x'; expected 64 hex"),
        (["captions", "--checksums", "other"], "names none of the files"),
        (["captions", "--checksums", "twice"], "line 2: a second, different sum of coco_ir/train_capt"),
        (["captions", "--target", "broken"], "--target broken: is a file"),
        (["captions", "--retries", "-1"], "expected a number"),
        (["captions", "--timeout", "nan"], "expected seconds"),
        (["captions", "--wat"], "unknown option --wat; did you mean --what?"),
    ],
)
def test_bad_arguments(download, write, arguments, expected):
    write("0" * 64 + "  coco_ir/train_captions.pt\nabc  x\n", "broken")
    write("0" * 64 + " *something/else\n", "other")
    write("".join(f"{d * 64}  ./coco_ir/train_captions.pt\n" for d in "01"), "twice")
    assert expected in download(*["--what"][: len(arguments)], *arguments, mirror=None, target=None, code=2)


def test_what_is_missing_on_the_machine(download, monkeypatch, write, tmp_path, repository):
    write("", "file")
    assert "file/data: Not a directory" in download(*ONE, target="file/data", code=1)
    err = download(*ONE, mirror="no * folder", root=repository, code=2)
    assert "--mirror no * folder: no such folder" in err
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/dirname").symlink_to(shutil.which("dirname"))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    err = download(*ONE, code=1, root=repository)
    assert err.startswith("download_dataset: error: no curl here; install it") and err.count("\n") == 1
    monkeypatch.setenv("PYTHON", "no-such-python")
    assert "no no-such-python here" in download("--help", code=2, root=repository)


@pytest.fixture
def copy(tmp_path, repository):
    """The few files that the downloader consists of, elsewhere, with a checker that writes down how it was called."""
    folder = tmp_path / "my copy"
    parts = "download_dataset.sh", "tools/fetch_files.py", "tools/options.py", "config/__init__.py", "config/errors.py"
    for name in parts:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(repository / name, folder / name)
    shutil.copytree(repository / "datasets/download", folder / "datasets/download")
    note = f"json.dump(sys.argv[1:], open({str(folder / 'called')!r}, 'w'))"
    (folder / "tools/check_dataset.py").write_text(f"import json, os, sys\n{note}\nsys.exit(int(os.environ['CODE']))\n")
    return folder


def test_runs_before_anything_is_installed(server, download, tmp_path, monkeypatch, copy):
    venv.create(tmp_path / "bare", symlinks=True)  # a Python with nothing but the standard library
    monkeypatch.setenv("PYTHON", str(tmp_path / "bare/bin/python"))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    publish(server, "captions", "vinvl")
    out = download("--what", "captions", "vinvl", root=copy, target=None)
    assert (copy / "data" / FIRST.place).read_bytes() == content(FIRST) and not (copy / "called").exists()
    assert "to check the files, once the project is installed" in out and "retrieval_train.yaml" in out
    out = download("--help", root=copy)
    assert "./download_dataset.sh --what captions vinvl" in out and "Exit codes" in out


def test_checker_at_the_end(server, download, data, copy, monkeypatch):
    monkeypatch.setenv("CODE", "2")
    publish(server, "captions", "vinvl", "weights")
    arguments = ("--what", "captions", "vinvl")
    download(*arguments, "--no-check", root=copy, target=None)
    download("--what", "weights", "--only", "*/base-vg-labels", root=copy, target=None)
    assert not (copy / "called").exists()
    download(*arguments, root=copy, target=None, code=1)
    words = ["--cfg_file", str(copy / "configs/retrieval_train.yaml")]
    assert json.loads((copy / "called").read_text()) == words
    monkeypatch.setenv("CODE", "0")
    weights = data / "pretrained/vinvl_base/checkpoint-1340000"
    weights.mkdir(parents=True)
    download(*arguments, root=copy)
    places = {"DATASET.DATA_DIR": "coco_ir", "DATASET.FEAT_FILE": "model_0060000/features.tsv"}
    words += ["--opts", *(word for key, place in places.items() for word in (key, str(data / place)))]
    assert json.loads((copy / "called").read_text()) == [*words, "PRETRAINED.DIR", str(weights)]
