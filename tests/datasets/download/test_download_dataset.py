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
from pathlib import Path

import pytest

from oscar_paddle.datasets.download.official_files import CHECKS, FILES, STORAGE
from oscar_paddle.datasets.download.plan import mirror_prefix

ROOT = Path(__file__).resolve().parents[3]
CAPTIONS = [file for file in FILES if file.part == "captions"]
NEEDED = [file for file in CAPTIONS if not file.optional]
FIRST = NEEDED[0]


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


def sums(path, files, wrong=()):
    lines = [f"{'0' * 64 if f in wrong else hashlib.sha256(content(f)).hexdigest()}  {f.place}" for f in files]
    path.write_text("# made by sha256sum\n" + "\n".join(lines) + "\n")
    return path


def test_captions(server, shell, tmp_path):
    publish(server, "captions")
    done = shell("--what", "captions", "--mirror", server.url, "--target", "data")
    assert done.code == 0, done
    assert tree(tmp_path / "data") == {file.place: content(file) for file in CAPTIONS}
    assert "model_0060000/features.tsv" in done.out  # what the checker still lacks
    again = shell("--what", "captions", "--mirror", server.url, "--target", "data")
    assert again.code == 0 and again.out.count("there already, same size") == len(CAPTIONS)
    assert len(server.gets(f"/{FIRST.address}")) == 1


def test_optional_files_may_be_absent(server, download, tmp_path):
    publish(server, "captions")
    for file in CAPTIONS:
        if file.optional:
            del server.files[f"/{file.address}"]
    done = download("--what", "captions", "--mirror", server.url, "--target", "data")
    assert done.code == 0 and "not needed either: coco_ir/val_captions.pt" in done.out, done
    assert tree(tmp_path / "data") == {file.place: content(file) for file in NEEDED}


def test_missing_file_does_not_stop_the_others(server, download, tmp_path):
    publish(server, "captions")
    del server.files[f"/{FIRST.address}"]
    done = download("--what", "captions", "--mirror", server.url, "--target", "data")
    assert done.code == 1, done
    assert f"{server.url}/{FIRST.address}: HTTP 404" in done.err and "--mirror" in done.err and "azcopy" in done.err
    assert set(tree(tmp_path / "data")) == {file.place for file in CAPTIONS} - {FIRST.place}


def test_known_trouble_is_told(server, download):
    publish(server, "vinvl")
    features = next(file for file in FILES if file.place.endswith("features.tsv"))
    del server.files[f"/{features.address}"]
    done = download("--what", "vinvl", "--mirror", server.url, "--target", "data")
    assert done.code == 1 and "Known trouble: people have found the folder without its features.tsv" in done.err, done


def test_storage_that_refuses_people(server, download):
    server.always["*"] = {"status": 409, "headers": {"x-ms-error-code": "PublicAccessNotPermitted"}}
    done = download("--what", "captions", "weights", "--mirror", server.url, "--target", "data")
    assert done.code == 1, done
    assert done.err.count("HTTP 409") == 1 and "PublicAccessNotPermitted" in done.err  # told once, not 20 times
    assert f"{server.url}/{FIRST.address}" in done.err
    assert "--mirror" in done.err and f"azcopy copy {STORAGE}/{FIRST.address} data/{FIRST.place}" in done.err
    assert "Traceback" not in done.err


def test_files_from_elsewhere_are_used_when_the_storage_refuses(server, download, tmp_path):
    server.always["*"] = {"status": 409}
    for file in NEEDED:
        path = tmp_path / "data" / file.place
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content(file))
    listed = sums(tmp_path / "sums", NEEDED[:1])
    done = download("--what", "captions", "--mirror", server.url, "--target", "data", "--checksums", listed)
    assert done.code == 0 and "verified by sha256" in done.out and "not compared" in done.out, done


def test_dry_run(server, download, tmp_path):
    publish(server, "captions", "vinvl", "oscar", "weights")
    del server.files["/" + next(f.address for f in FILES if f.place.endswith("features.tsv"))]
    done = download("--what", "captions", "vinvl", "oscar", "weights", "--mirror", server.url, "--dry-run")
    assert done.code == 0 and not os.listdir(tmp_path), done
    for file in (file for file in FILES if file.part != "ablations"):
        line = next(line for line in done.out.splitlines() if f"{server.url}/{file.address}" in line)
        assert file.place in line and ("128 kB" in line or "bytes" in line or "~50 GB" in line)
    assert all(method == "HEAD" for method, *_ in server.log)


def test_no_connection_is_asked_once(download):
    done = download("--what", "captions", "vinvl", "--dry-run")  # official, but behind a proxy that is not there
    assert done.code == 0 and f"{STORAGE}/{FIRST.address}" in done.out and "~50 GB" in done.out, done
    started = time.monotonic()
    done = download("--what", "captions", "--target", "data", "--retries", "1")
    assert done.code == 1 and "no_proxy" in done.err and done.err.count("attempt 2 of 2") == 1, done
    assert time.monotonic() - started < 10


def test_network_that_goes_away_is_waited_for_once(server, download, monkeypatch):
    publish(server, "captions")
    monkeypatch.setattr("oscar_paddle.datasets.download.http_download.Downloader.size", lambda *_: None)
    done = download("--what", "captions", "--mirror", "http://127.0.0.1:9", "--target", "data", "--retries", "2")
    assert done.code == 1 and done.err.count("attempt 3 of 3") == 1, done
    assert f"(and {len(NEEDED) - 1} more likewise)" in done.err


def test_dropped_and_resumed_in_a_later_run(server, download, tmp_path):
    publish(server, "captions")
    path = f"/{FIRST.address}"
    server.faults[path] = [{"drop_after": 50_000}, {"drop_after": 20_000}]
    arguments = ("--what", "captions", "--mirror", server.url, "--target", "data")
    done = download(*arguments, "--retries", "1")
    assert done.code == 1 and "gave up after 2 attempts" in done.err and "Give the same command again" in done.err
    assert download(*arguments).code == 0
    assert server.gets(path) == [None, "bytes=50000-", "bytes=70000-"]
    assert tree(tmp_path / "data") == {file.place: content(file) for file in CAPTIONS}


def wait_for(condition):
    end = time.monotonic() + 15
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


@pytest.mark.parametrize("sign", [signal.SIGKILL, signal.SIGINT])
def test_interrupted(server, start, download, tmp_path, sign):
    publish(server, "captions")
    path, big = f"/{FIRST.address}", content(FIRST) * 30
    server.files[path] = big
    server.faults[path] = [{"wait_after": 3_000_000}]
    arguments = ("--what", "captions", "--mirror", server.url, "--target", "data")
    process = start(*arguments)
    part = tmp_path / "data" / (FIRST.place + ".part")
    wait_for(lambda: part.exists() and part.stat().st_size >= 2_000_000)
    second = download(*arguments)
    assert second.code == 1 and "another download into this folder is running" in second.err
    process.send_signal(sign)
    _, err = process.communicate(timeout=20)
    if sign == signal.SIGINT:
        assert process.returncode == 130 and "goes on from here" in err and "Traceback" not in err
    server.gate.set()
    assert not (tmp_path / "data" / FIRST.place).exists()
    assert download(*arguments).code == 0
    assert (tmp_path / "data" / FIRST.place).read_bytes() == big
    assert int(server.gets(path)[1].removeprefix("bytes=").rstrip("-")) >= 2_000_000


def test_checksums(server, download, tmp_path):
    publish(server, "captions")
    arguments = ("--what", "captions", "--mirror", server.url, "--target", "data", "--checksums")
    done = download(*arguments, sums(tmp_path / "bad", NEEDED, wrong=[FIRST]))
    assert done.code == 1 and f"{FIRST.address}: sha256 is" in done.err and "0" * 64 in done.err, done
    assert not (tmp_path / "data" / FIRST.place).exists() and (tmp_path / "data" / NEEDED[1].place).exists()
    done = download(*arguments, sums(tmp_path / "good", NEEDED))
    assert done.code == 0 and done.out.count("verified by sha256") == len(NEEDED), done
    (tmp_path / "data" / NEEDED[1].place).write_bytes(b"damaged later")
    done = download(*arguments, tmp_path / "good")
    assert done.code == 1 and f"data/{NEEDED[1].place}: sha256 is" in done.err and "delete it" in done.err, done


def test_file_of_another_size_is_not_replaced(server, download, tmp_path):
    publish(server, "captions")
    (tmp_path / "data/coco_ir").mkdir(parents=True)
    (tmp_path / "data" / FIRST.place).write_bytes(b"mine")
    done = download("--what", "captions", "--mirror", server.url, "--target", "data")
    assert done.code == 1 and f"data/{FIRST.place}: has 4 bytes, the server's file 128000; delete it" in done.err, done
    assert (tmp_path / "data" / FIRST.place).read_bytes() == b"mine"


def test_size_that_differs_from_what_was_announced(server, download, tmp_path):
    publish(server, "captions")
    server.faults[f"/{FIRST.address}"] = [{"claim": 999_999, "drop_after": 10}] * 9
    done = download("--what", "captions", "--mirror", server.url, "--target", "data", "--retries", "1")
    assert done.code == 1 and "the server's file has 999999 bytes; expected 128000" in done.err, done
    assert not (tmp_path / "data" / FIRST.place).exists()


def test_too_little_space_is_known_before_starting(server, download, tmp_path):
    publish(server, "captions")
    server.always[f"/{FIRST.address}"] = {"claim": 10**18}
    done = download("--what", "captions", "--mirror", server.url, "--target", "data")
    assert done.code == 1 and "data: 1000000 TB needed" in done.err and "free" in done.err, done
    assert not any(method == "GET" for method, *_ in server.log) and tree(tmp_path / "data") == {}


def test_disk_that_fills_up(server, download, tmp_path):
    publish(server, "captions")
    (tmp_path / "data/coco_ir").mkdir(parents=True)
    (tmp_path / "data" / (FIRST.place + ".part")).symlink_to("/dev/full")
    done = download("--what", "captions", "--mirror", server.url, "--target", "data")
    assert done.code == 1 and f"data/{FIRST.place}.part: cannot write: No space left on device" in done.err, done
    assert "Traceback" not in done.err


@pytest.mark.parametrize("folder", [True, False])
def test_oscar_archive(server, download, tmp_path, folder):
    file = next(file for file in FILES if file.part == "oscar")
    extra = ["coco_ir/test_img_keys_1k.tsv", "coco_ir/minival_caption_indexs_top20.pt"] if folder else []
    server.files[f"/{file.address}"] = archive(file, folder, [*extra, "__MACOSX/coco_ir/._x"])
    arguments = ("--what", "oscar", "--mirror", server.url, "--target", "data", "--no-check")
    done = download(*arguments)
    assert done.code == 0, done
    found = tree(tmp_path / "data")
    assert set(found) - {"downloads/coco_ir.zip.unpacked.json"} == {*file.expects, *extra}
    assert found["oscar_features/train_vg_labels.pt"] == b"content of train_vg_labels.pt"
    server.log.clear()
    assert "unpacked already" in download(*arguments).out and not server.log
    (tmp_path / "data/oscar_features/train_vg_labels.pt").unlink()
    assert download(*arguments).code == 0
    assert tree(tmp_path / "data") == found


def test_weights_land_where_the_settings_look(server, download, tmp_path):
    publish(server, "weights")
    done = download("--what", "weights", "--mirror", server.url, "--target", "data")
    assert done.code == 0, done
    for name in ("train", "train_large", "oscar_base", "oscar_large"):
        lines = (ROOT / f"configs/retrieval_{name}.yaml").read_text().splitlines()
        folder = next(line.split()[-1] for line in lines if line.strip().startswith("DIR:"))
        assert {"pytorch_model.bin", "config.json", "vocab.txt"} <= set(os.listdir(tmp_path / folder))


@pytest.mark.parametrize("kind", ["upwards", "damaged", "incomplete"])
def test_bad_archive(server, download, tmp_path, kind):
    file = next(file for file in FILES if file.place.endswith("base-vg-labels.zip"))
    data = archive(file, extra=["../../evil"] if kind == "upwards" else [])
    if kind == "damaged":
        data = data[:100]
    if kind == "incomplete":
        data = archive(next(file for file in FILES if "large-vg" in file.place))
    server.files[f"/{file.address}"] = data
    done = download("--what", "weights", "--only", "*base-vg*", "--mirror", server.url, "--target", "data")
    expected = {"upwards": "leads upwards", "damaged": "cut short", "incomplete": "did not hold pretrained/base-vg"}
    assert done.code == 1 and expected[kind] in done.err and "base-vg-labels.zip" in done.err, done
    assert "Traceback" not in done.err and not (tmp_path / "evil").exists()


def test_only_and_query_and_folder_as_mirror(server, download, tmp_path):
    publish(server, "weights")
    one = "pretrained/vinvl_base/checkpoint-1340000/"
    arguments = ("--what", "weights", "--only", f"{one}*", "--target", "data", "--mirror")
    done = download(*arguments, f"{server.url}/", "--query", "?sig=secret")
    assert done.code == 0 and "secret" not in done.out + done.err, done
    assert {path.partition("?")[2] for _, path, _ in server.log} == {"sig=secret"}
    got = tree(tmp_path / "data")
    assert len(got) == 6 and all(place.startswith(one) for place in got)
    for path, data in server.files.items():
        copy = tmp_path / "a copy" / path.lstrip("/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(data)
    shutil.rmtree(tmp_path / "data")
    server.log.clear()
    for mirror in ("a copy", (tmp_path / "a copy").as_uri()):
        assert download(*arguments, mirror).code == 0
        assert tree(tmp_path / "data") == got and not server.log


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
def test_bad_arguments(download, tmp_path, arguments, expected):
    (tmp_path / "broken").write_text("0" * 64 + "  coco_ir/train_captions.pt\nabc  x\n")
    (tmp_path / "other").write_text("0" * 64 + " *something/else\n")
    (tmp_path / "twice").write_text("".join(f"{d * 64}  ./coco_ir/train_captions.pt\n" for d in "01"))
    done = download(*arguments)
    assert done.code == 2 and expected in done.err and "Traceback" not in done.err, done


def test_help_shows_whole_commands(shell):
    done = shell("--help")
    assert done.code == 0 and "./download_dataset.sh --what captions vinvl" in done.out and "Exit codes" in done.out


def test_target_that_cannot_be_made(server, download, tmp_path):
    publish(server, "captions")
    (tmp_path / "file").write_text("")
    done = download("--what", "captions", "--mirror", server.url, "--target", "file/data")
    assert done.code == 1 and "file/data: Not a directory" in done.err and "Traceback" not in done.err, done


def test_shell_passes_on_exit_codes_and_odd_words(shell, monkeypatch):
    done = shell("--what", "captions", "--mirror", "no such * folder")
    assert done.code == 2 and "--mirror no such * folder: no such folder" in done.err, done
    monkeypatch.setenv("PYTHON", "no-such-python")
    done = shell("--help")
    assert done.code == 2 and "no no-such-python here" in done.err, done


def copy_of_the_tool(folder, code):
    """The few files that the downloader consists of, elsewhere, with a checker that writes down how it was called."""
    names = ["download_dataset.sh", "tools/fetch_files.py", "config/__init__.py", "config/errors.py"]
    names += [f"datasets/download/{path.name}" for path in (ROOT / "datasets/download").glob("*.py")]
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, folder / name)
    note = f"json.dump(sys.argv[1:], open({str(folder / 'called')!r}, 'w'))"
    (folder / "tools/check_dataset.py").write_text(f"import json, sys\n{note}\nsys.exit({code})\n")
    return folder


def test_runs_before_anything_is_installed(server, shell, tmp_path, monkeypatch):
    venv.create(tmp_path / "bare", symlinks=True)  # a Python with nothing but the standard library
    monkeypatch.setenv("PYTHON", str(tmp_path / "bare/bin/python"))
    monkeypatch.delenv("PYTHONPATH", raising=False)
    publish(server, "captions", "vinvl")
    root = copy_of_the_tool(tmp_path / "my copy", code=1)
    done = shell("--what", "captions", "vinvl", "--mirror", server.url, root=root)
    assert done.code == 0, done
    assert (root / "data" / FIRST.place).read_bytes() == content(FIRST)
    assert "to check the files, once the project is installed" in done.out and "retrieval_train.yaml" in done.out
    assert not (root / "called").exists()


@pytest.mark.parametrize(("code", "expected"), [(0, 0), (2, 1)])
def test_checker_at_the_end(server, shell, tmp_path, code, expected):
    publish(server, "captions", "vinvl")
    root = copy_of_the_tool(tmp_path / "copy", code)
    arguments = ["--what", "captions", "vinvl", "--mirror", server.url]
    done = shell(*arguments, root=root)
    assert done.code == expected, done
    words = ["--cfg_file", str(root / "configs/retrieval_train.yaml")]
    assert json.loads((root / "called").read_text()) == words
    if code:
        return
    place = tmp_path / "elsewhere"
    assert shell(*arguments, "--target", "elsewhere", root=root).code == 0
    words += ["--opts", "DATASET.DATA_DIR", str(place / "coco_ir")]
    words += ["DATASET.FEAT_FILE", str(place / "model_0060000/features.tsv")]
    assert json.loads((root / "called").read_text()) == words
    weights = place / "pretrained/vinvl_base/checkpoint-1340000"
    weights.mkdir(parents=True)
    assert shell(*arguments, "--target", "elsewhere", root=root).code == 0
    words += ["PRETRAINED.DIR", str(weights)]
    assert json.loads((root / "called").read_text()) == words


def test_checker_is_not_run_for_what_it_cannot_judge(server, shell, tmp_path):
    publish(server, "captions", "vinvl", "weights")
    root = copy_of_the_tool(tmp_path / "copy", code=0)
    assert shell("--what", "captions", "vinvl", "--mirror", server.url, "--no-check", root=root).code == 0
    done = shell("--what", "weights", "--only", "*/base-vg-labels", "--mirror", server.url, root=root)
    assert done.code == 0 and not (root / "called").exists(), done


def test_checker_can_be_left_out(server, download):
    publish(server, "captions")
    done = download("--what", "captions", "--mirror", server.url, "--target", "data", "--no-check")
    assert done.code == 0 and "checked" not in done.out, done


def test_mirror_with_a_slash_at_its_end(tmp_path):
    assert mirror_prefix("https://mirror.example.org/copy/") == "https://mirror.example.org/copy"
    assert mirror_prefix(f"{tmp_path}/") == mirror_prefix(f"{tmp_path.as_uri()}/") == tmp_path.as_uri()


def test_table():
    places = [file.place for file in FILES]
    assert len(set(places)) == len(places) and len({file.address for file in FILES}) == len(FILES)
    for file in FILES:
        assert not file.address.startswith("/") and ".." not in file.place
        assert bool(file.routes) == file.place.endswith(".zip")
    for check in CHECKS:
        assert (ROOT / check.settings).is_file()
