"""`download_dataset.sh` as a person runs it, against a server on this machine."""

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
    """Puts every file of some parts on the server, archives as zips with the inner folder that `unzip -d` relies on."""
    for file in FILES:
        if file.part in parts:
            server.files[f"/{file.address}"] = archive(file) if file.routes else content(file)


def archive(file, folder=True, extra=()):
    buffer, stem = io.BytesIO(), file.place.split("/")[-1].removesuffix(".zip")
    with zipfile.ZipFile(buffer, "w") as out:
        for place in file.expects:
            inner = place.removeprefix(f"pretrained/{stem}/").removeprefix("coco_ir/").removeprefix("oscar_features/")
            out.writestr(f"{stem}/{inner}" if folder else inner, f"content of {inner}")
        for name in extra:
            out.writestr(name, "extra")
    return buffer.getvalue()


def tree(folder):
    paths = (p for p in folder.rglob("*") if p.is_file() and p.name != ".lock")
    return {str(p.relative_to(folder)): p.read_bytes() for p in paths}


@pytest.fixture
def data(tmp_path):
    return tmp_path / "data"


def test_everything_once(server, download, data):
    publish(server, "captions")
    missing = next(file for file in CAPTIONS if file.optional)
    del server.files[f"/{missing.address}"]
    done = download("--what", "captions")
    assert done.code == 0 and f"not needed either: {missing.place}" in done.out, done
    assert tree(data) == {file.place: content(file) for file in CAPTIONS if file != missing}
    assert "cannot be checked yet: model_0060000/features.tsv" in done.out
    again = download("--what", "captions")
    assert again.code == 0 and again.out.count("there already, same size") == len(CAPTIONS) - 1, again
    assert len(server.gets(PATH)) == 1
    (data / FIRST.place).write_bytes(b"mine")
    done = download("--what", "captions")
    assert done.code == 1 and f"data/{FIRST.place}: has 4 bytes, the server's file 128000; delete it" in done.err, done
    assert (data / FIRST.place).read_bytes() == b"mine"


def test_cut_connections_are_resumed_at_once_and_in_a_later_run(server, download, data):
    server.files[PATH] = BIG
    server.faults[PATH] = [{"stop_after": 1_200_000}] * 2 + [{"stop_after": 7}, {"stop_after": 0}]
    done = download(*ONE, "--retries", "1")  # what brings more than 1 MB starts the count of failures again
    assert done.code == 1 and "connection dropped" in done.err and "gave up after 2 attempts in a row" in done.err, done
    assert "Give the same command again" in done.err and not (data / FIRST.place).exists()
    assert download(*ONE).code == 0 and (data / FIRST.place).read_bytes() == BIG
    starts = [f"bytes={n}-" for n in (1_200_000, 2_400_000, 2_400_007, 2_400_007)]
    assert server.gets(PATH) == [None, *starts] and len(os.listdir(data / "coco_ir")) == 1


def leave_part(server, download):
    server.files[PATH], server.faults[PATH] = BIG, [{"stop_after": 1_000_000}]
    assert download(*ONE, "--retries", "0").code == 1
    server.log.clear()


@pytest.mark.parametrize("change", ["same size", "longer", "while it runs", "no ranges"])
def test_changed_file_starts_again(server, download, data, change):
    leave_part(server, download)
    new = BIG if change == "no ranges" else BIG[::-1] + b"more" * (change == "longer")
    server.ranges = change != "no ranges"
    if change == "while it runs":  # HEAD still tells the old version
        server.tags[PATH], server.always[PATH] = '"two"', {"headers": {"ETag": '"one"'}}
    elif change != "no ranges":
        server.tags[PATH] = '"two"'
    server.files[PATH] = new
    assert download(*ONE).code == 0 and tree(data) == {FIRST.place: new}


def test_another_mirror_goes_on_with_the_same_part(server, download, data):
    leave_part(server, download)
    server.files[f"/copy{PATH}"], server.tags[f"/copy{PATH}"] = BIG, '"other"'
    assert download(*ONE, mirror=f"{server.url}/copy/").code == 0 and tree(data) == {FIRST.place: BIG}
    assert server.gets(f"/copy{PATH}") == ["bytes=1000000-"]


def test_server_that_always_starts_over_and_drops_comes_to_an_end(server, download):
    server.files[PATH], server.ranges, server.faults[PATH] = BIG, False, [{"stop_after": 2_500_000}] * 20
    assert download(*ONE, "--retries", "2").code == 1 and len(server.gets(PATH)) <= 6


def test_passing_trouble_is_retried_with_growing_pauses(server, download, monkeypatch):
    publish(server, "captions")
    pauses = []
    monkeypatch.setattr("oscar_paddle.datasets.download.curl.time.sleep", pauses.append)
    server.faults[PATH] = [{"status": 503}] * 2 + [{"status": 429, "headers": {"Retry-After": "17"}}]
    done = download(*ONE, "--backoff", "1")
    assert done.code == 0 and "HTTP 503" in done.err and "attempt 2 of 6 in 1 s" in done.err, done
    assert pauses == [1, 2, 17]


def test_silent_server(server, download, data):
    server.files[PATH], server.faults[PATH] = BIG, [{"stop_after": 1_000_000, "wait": True}]
    assert download(*ONE, "--timeout", "1").code == 0 and (data / FIRST.place).read_bytes() == BIG
    assert server.gets(PATH) == [None, "bytes=1000000-"]


def test_missing_file_does_not_stop_the_others(server, download, data):
    publish(server, "captions", "vinvl")
    features = next(file for file in FILES if file.place.endswith("features.tsv"))
    del server.files[PATH], server.files[f"/{features.address}"]
    done = download("--what", "captions", "vinvl")
    assert done.code == 1 and f"{server.url}{PATH}: HTTP 404" in done.err and "--mirror" in done.err, done
    assert "Known trouble: people have found the folder without its features.tsv" in done.err
    assert set(tree(data)) == {file.place for file in FILES if file.part in ("captions", "vinvl")} - {
        FIRST.place,
        features.place,
    }


def test_storage_that_refuses_people(server, download, data):
    server.always["*"] = {"status": 409, "headers": {"x-ms-error-code": "PublicAccessNotPermitted"}}
    done = download("--what", "captions", "weights")
    assert done.code == 1 and done.err.count("HTTP 409") == 1, done  # told once, not 20 times
    assert f"{server.url}{PATH}: HTTP 409" in done.err and "PublicAccessNotPermitted" in done.err
    assert "--mirror" in done.err and f"azcopy copy {STORAGE}{PATH} data/{FIRST.place}" in done.err
    assert "Traceback" not in done.err
    (data / "coco_ir").mkdir()
    (data / FIRST.place).write_bytes(b"from elsewhere")
    done = download(*ONE)
    assert done.code == 0 and "there already, not compared" in done.out, done


def test_dry_run(server, download, tmp_path):
    publish(server, "captions", "oscar")
    server.always["/" + CAPTIONS[-1].address] = {"status": 405}
    done = download("--what", "captions", "vinvl", "oscar", "--dry-run")
    assert done.code == 0 and not os.listdir(tmp_path), done
    for file in (file for file in FILES if file.part in ("captions", "vinvl", "oscar")):
        line = next(line for line in done.out.splitlines() if f"{server.url}/{file.address}" in line)
        assert file.place in line and any(size in line for size in ("128 kB", "bytes", "~50 GB", "unknown"))
    assert all(method == "HEAD" for method, *_ in server.log)


def test_no_connection_is_waited_for_once(download):
    done = download("--what", "captions", "--retries", "2", mirror=None)  # official, but by a proxy that is not there
    assert done.code == 1 and "no_proxy" in done.err and done.err.count("attempt 3 of 3") == 1, done
    assert f"(and {len(NEEDED) - 1} more likewise)" in done.err and f"{STORAGE}{PATH}: no connection" in done.err


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT])
def test_interrupted(server, start, download, data, sign):
    server.files[PATH], server.faults[PATH] = BIG, [{"stop_after": 3_000_000, "wait": True}]
    process = start(*ONE, "--mirror", server.url, "--target", "data")
    end = time.monotonic() + 15
    while sum(map(len, tree(data).values() if data.exists() else [])) < 2_000_000:
        assert time.monotonic() < end
        time.sleep(0.02)
    second = download(*ONE)
    assert second.code == 1 and "another download into this folder is running" in second.err
    process.send_signal(sign)
    assert process.wait(timeout=10) == {signal.SIGKILL: -9, signal.SIGINT: 130}[sign]
    if sign == signal.SIGINT:
        assert process.stderr.read() == "\ndownload_dataset: stopped; the same command goes on from here\n"
    assert download(*ONE).code == 0 and tree(data) == {FIRST.place: BIG}
    server.gate.set()  # a curl that has outlived its parent gets more, and must not write it
    assert int(server.gets(PATH)[1].removeprefix("bytes=").rstrip("-")) >= 2_000_000


def test_checksums(server, download, data, write):
    publish(server, "captions")
    sums = {file: hashlib.sha256(content(file)).hexdigest().upper() for file in NEEDED[:2]}
    good = write("# made by sha256sum\n" + "".join(f"{sum} *./{file.place}\n" for file, sum in sums.items()), "good")
    bad = write(f"{'0' * 64}  {FIRST.address}\n", "bad")
    done = download("--what", "captions", "--checksums", bad)
    assert done.code == 1 and FIRST.place in done.err and f"expected {'0' * 64}; delete it" in done.err, done
    assert not (data / FIRST.place).exists() and (data / NEEDED[1].place).exists()
    done = download("--what", "captions", "--checksums", good)
    assert done.code == 0 and done.out.count("verified by sha256") == 2, done
    (data / FIRST.place).write_bytes(content(NEEDED[1]))
    done = download("--what", "captions", "--checksums", good)
    assert done.code == 1 and f"data/{FIRST.place}: sha256 is" in done.err and "delete it" in done.err, done


@pytest.mark.parametrize("shift", [-1, 1])
def test_size_that_differs_from_what_was_announced(server, download, data, shift):
    server.files[PATH], server.always[PATH] = BIG, {"claim": len(BIG) + shift}
    server.faults[PATH] = [{"headers": {}}] * 9
    done = download(*ONE, "--retries", "1")
    assert done.code == 1 and f"{server.url}{PATH}" in done.err and not (data / FIRST.place).exists(), done
    assert "failed (curl error 63" in done.err if shift < 0 else f"expected {len(BIG) + 1}" in done.err, done


def test_no_room(server, download, data):
    publish(server, "captions")
    server.always[PATH] = {"claim": 10**18}
    done = download("--what", "captions")
    assert done.code == 1 and "data: 1000000 TB needed" in done.err and "free; choose another" in done.err, done
    assert not any(method == "GET" for method, *_ in server.log) and tree(data) == {}


def test_disk_that_fills_up(server, download, data):
    leave_part(server, download)
    part = next((data / "coco_ir").iterdir())
    part.unlink()
    part.symlink_to("/dev/full")
    done = download(*ONE)
    assert done.code == 1 and "part: cannot write: No space left on device; what fits is kept" in done.err, done


@pytest.mark.parametrize("headers", [{"Content-Type": "text/html"}, {"Content-Encoding": "gzip"}])
def test_something_else_than_the_file(server, download, data, headers):
    publish(server, "captions")
    server.always[PATH] = {"headers": headers}
    done = download(*ONE)
    assert done.code == 1 and "instead of the plain file" in done.err and tree(data) == {}, done


@pytest.mark.parametrize("location", ["file:///etc/hostname", "ftp://127.0.0.1/x", PATH])
def test_redirects(server, download, data, location):
    publish(server, "captions")
    server.always[f"/moved{PATH}"] = {"status": 302, "headers": {"Location": location}}
    done = download(*ONE, mirror=f"{server.url}/moved")
    assert done.code == (0 if location == PATH else 1), done
    assert tree(data) == ({FIRST.place: content(FIRST)} if location == PATH else {})


@pytest.mark.parametrize("folder", [True, False])
def test_oscar_archive(server, download, data, folder):
    file = next(file for file in FILES if file.part == "oscar")
    extra = ["coco_ir/test_img_keys_1k.tsv", "coco_ir/minival_caption_indexs_top20.pt"] if folder else []
    server.files[f"/{file.address}"] = archive(file, folder, [*extra, "__MACOSX/coco_ir/._x"])
    arguments = ("--what", "oscar", "--no-check")
    assert download(*arguments).code == 0
    found = tree(data)
    assert set(found) - {"downloads/coco_ir.zip.unpacked.json"} == {*file.expects, *extra}
    assert found["oscar_features/train_vg_labels.pt"] == b"content of train_vg_labels.pt"
    server.log.clear()
    assert "unpacked already" in download(*arguments).out and not server.log
    (data / "oscar_features/train_vg_labels.pt").unlink()
    (data / "coco_ir/train_captions.pt").write_bytes(b"mine")
    done = download(*arguments, "--keep-archives")
    assert done.code == 0 and "they were there and differ: coco_ir/train_captions.pt" in done.out, done
    assert (data / "downloads/coco_ir.zip").exists() and (data / "coco_ir/train_captions.pt").read_bytes() == b"mine"


@pytest.mark.parametrize(
    ("kind", "expected"),
    [("evil", "leads upwards"), ("damaged", "cut short"), ("other", "did not hold pretrained/base")],
)
def test_bad_archive(server, download, tmp_path, kind, expected):
    file, other = (next(file for file in FILES if name in file.place) for name in ("base-vg", "large-vg"))
    data = archive(other if kind == "other" else file, extra=["../../evil"] * (kind == "evil"))
    server.files[f"/{file.address}"] = data[:100] if kind == "damaged" else data
    done = download("--what", "weights", "--only", "*base-vg*")
    assert done.code == 1 and expected in done.err and "base-vg-labels.zip" in done.err, done
    assert "Traceback" not in done.err and not (tmp_path / "evil").exists()


def test_weights_only_query_and_folder_as_mirror(server, download, data, tmp_path, repository):
    publish(server, "weights")
    assert download("--what", "weights").code == 0
    for name in ("train", "train_large", "oscar_base", "oscar_large"):  # where the settings look
        lines = (repository / f"configs/retrieval_{name}.yaml").read_text().splitlines()
        place = next(line.split()[-1] for line in lines if line.strip().startswith("DIR:"))
        assert {"pytorch_model.bin", "config.json", "vocab.txt"} <= set(os.listdir(tmp_path / place))
    shutil.rmtree(data)
    server.log.clear()
    arguments = ("--what", "weights", "--only", "pretrained/vinvl_base/checkpoint-1340000/*", "--query", "?sig=secret")
    server.faults = {path: [{"status": 503}] for path in server.files}
    done = download(*arguments)
    assert done.code == 0 and "secret" not in done.out + done.err, done
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
        assert download(*arguments, mirror=mirror).code == 0 and tree(data) == got and not server.log


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], "--what"),
        (["--what", "everything"], "everything"),
        (["--what", "captions", "--mirror", "gopher://x"], "--mirror gopher://x: expected http"),
        (["--what", "captions", "--mirror", "no/such/folder"], "no such folder"),
        (["--what", "captions", "--only", "*.jpg"], "matches none"),
        (["--what", "captions", "--checksums", "none"], "--checksums none: No such file"),
        (["--what", "captions", "--checksums", "broken"], "--checksums broken line 2: 'abc  x'; expected 64 hex"),
        (["--what", "captions", "--checksums", "other"], "names none of the files"),
        (["--what", "captions", "--checksums", "twice"], "line 2: a second, different sum of coco_ir/train_capt"),
        (["--what", "captions", "--target", "broken"], "--target broken: is a file"),
        (["--what", "captions", "--retries", "-1"], "expected a number"),
        (["--what", "captions", "--timeout", "nan"], "expected seconds"),
        (["--what", "captions", "--wat"], "unrecognized arguments: --wat"),
    ],
)
def test_bad_arguments(download, write, arguments, expected):
    write("0" * 64 + "  coco_ir/train_captions.pt\nabc  x\n", "broken")
    write("0" * 64 + " *something/else\n", "other")
    write("".join(f"{d * 64}  ./coco_ir/train_captions.pt\n" for d in "01"), "twice")
    done = download(*arguments, mirror=None)
    assert done.code == 2 and expected in done.err and "Traceback" not in done.err, done


def test_what_is_missing_on_the_machine(download, shell, monkeypatch, write):
    write("", "file")
    done = download("--what", "captions", "--target", "file/data")
    assert done.code == 1 and "file/data: Not a directory" in done.err, done
    done = shell("--what", "captions", "--mirror", "no such * folder")
    assert done.code == 2 and "--mirror no such * folder: no such folder" in done.err, done
    monkeypatch.setenv("PYTHON", "no-such-python")
    done = shell("--help")
    assert done.code == 2 and "no no-such-python here" in done.err, done
    monkeypatch.setenv("PATH", "")
    done = download("--what", "captions")
    assert done.code == 1 and done.err == (
        "download_dataset: error: no curl here; install it (for example: apt-get install curl) and give the same "
        "command again\n"
    )


@pytest.fixture
def copy(tmp_path, repository):
    """The few files that the downloader consists of, elsewhere, with a checker that writes down how it was called."""
    folder = tmp_path / "my copy"
    for name in ("download_dataset.sh", "tools/fetch_files.py", "config/__init__.py", "config/errors.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(repository / name, folder / name)
    shutil.copytree(repository / "datasets/download", folder / "datasets/download")
    note = f"json.dump(sys.argv[1:], open({str(folder / 'called')!r}, 'w'))"
    (folder / "tools/check_dataset.py").write_text(f"import json, os, sys\n{note}\nsys.exit(int(os.environ['CODE']))\n")
    return folder


def test_runs_before_anything_is_installed(server, shell, tmp_path, monkeypatch, copy):
    venv.create(tmp_path / "bare", symlinks=True)  # a Python with nothing but the standard library
    monkeypatch.setenv("PYTHON", str(tmp_path / "bare/bin/python"))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    publish(server, "captions", "vinvl")
    done = shell("--what", "captions", "vinvl", "--mirror", server.url, root=copy)
    assert done.code == 0 and (copy / "data" / FIRST.place).read_bytes() == content(FIRST), done
    assert "to check the files, once the project is installed" in done.out and "retrieval_train.yaml" in done.out
    assert not (copy / "called").exists()
    done = shell("--help", root=copy)
    assert done.code == 0 and "./download_dataset.sh --what captions vinvl" in done.out and "Exit codes" in done.out


def test_checker_at_the_end(server, shell, tmp_path, copy, monkeypatch):
    monkeypatch.setenv("CODE", "2")
    publish(server, "captions", "vinvl", "weights")
    called, arguments = copy / "called", ("--what", "captions", "vinvl", "--mirror", server.url)
    assert shell(*arguments, "--no-check", root=copy).code == 0
    assert shell("--what", "weights", "--only", "*/base-vg-labels", "--mirror", server.url, root=copy).code == 0
    assert not called.exists()
    assert shell(*arguments, root=copy).code == 1
    words = ["--cfg_file", str(copy / "configs/retrieval_train.yaml")]
    assert json.loads(called.read_text()) == words
    monkeypatch.setenv("CODE", "0")
    weights = tmp_path / "elsewhere/pretrained/vinvl_base/checkpoint-1340000"
    weights.mkdir(parents=True)
    assert shell(*arguments, "--target", "elsewhere", root=copy).code == 0
    places = {"DATASET.DATA_DIR": "coco_ir", "DATASET.FEAT_FILE": "model_0060000/features.tsv"}
    words += ["--opts", *(word for key, place in places.items() for word in (key, str(tmp_path / "elsewhere" / place)))]
    assert json.loads(called.read_text()) == [*words, "PRETRAINED.DIR", str(weights)]
