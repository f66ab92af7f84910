"""tools/check_dataset.py from the command line: exit codes, the report, the page."""

import importlib.util
import json
import pickle
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import yaml
from PIL import Image

from oscar_paddle.datasets.formats import torch_files
from oscar_paddle.tools.shell.command_line import run_tool

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture
def folder(golden, tmp_path):
    """A copy of the golden set, mended where it is awkward on purpose: each split has its own images."""
    for part in ("coco_ir", "model_0060000", "checkpoint"):
        shutil.copytree(golden / part, tmp_path / part)
    captions = torch_files.load(tmp_path / "coco_ir" / "test_captions.pt")
    ids = list(captions)
    for split, part in (("train", ids[:6]), ("minival", ids[6:9]), ("test", ids[9:])):
        (tmp_path / "coco_ir" / f"{split}_captions.pt").write_bytes(pickle.dumps({i: captions[i] for i in part}))
    rows = (tmp_path / "model_0060000" / "predictions.tsv").read_text().splitlines()
    sound = rows[0].split("\t")[1]
    empty = [row.endswith("\t[]") or '"objects": []' in row for row in rows]
    rows = [f"{row.split(chr(9))[0]}\t{sound}" if mend else row for row, mend in zip(rows, empty, strict=True)]
    (tmp_path / "model_0060000" / "predictions.tsv").write_text("\n".join(rows) + "\n")
    (tmp_path / "model_0060000" / "predictions.lineidx").unlink()
    return tmp_path


@pytest.fixture
def run(folder, repository, capfd):
    """Function: run the tool in this process on the folder -> (exit code, stdout, stderr)."""

    def run(*words, **changes):
        settings = {
            "INPUT": {"MAX_SEQ_LEN": 40, "MAX_REGION": 12},
            "PRETRAINED": {"DIR": str(folder / "checkpoint")},
            "DATASET": {"NAME": "golden <&>", "DATA_DIR": str(folder / "coco_ir")},
        }
        for key, value in changes.items():
            section, name = key.split("__")
            settings.setdefault(section, {})[name] = value
        (folder / "run.yaml").write_text(yaml.safe_dump(settings))
        spec = importlib.util.spec_from_file_location("check_dataset", repository / "tools" / "check_dataset.py")
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        capfd.readouterr()
        argv = ["--cfg_file", str(folder / "run.yaml"), *map(str, words)]
        code = run_tool("", module.main, None, "", extra=module.add_arguments, argv=argv)
        return code, *capfd.readouterr()

    return run


def test_clean_is_0(run):
    code, out, err = run()
    assert code == 0, out + err
    assert "No problems; " in out and "PROBLEMS" not in out
    assert "regions of an image: mean" in out and "1,594 at most" in out
    assert not [line for line in err.splitlines() if line.startswith("error")]


def test_problems_are_1_and_named_with_file_row_and_remedy(run, folder):
    path = folder / "model_0060000" / "features.tsv"
    rows = path.read_bytes().split(b"\n")
    rows[2] = rows[2][:-40]
    path.write_bytes(b"\n".join(rows))
    code, out, err = run()
    assert code == 1
    assert "PROBLEMS" in out and str(path) in out and "row 3: image " in out and "-> Extract these images again" in out
    assert re.search(r"^error: .*coco_ir: \d+ problems? of \d kinds?; ", err, re.M) and "Traceback" not in err


def test_bad_arguments_are_2(run, folder):
    for words, message in (
        (["--max_images", "-1"], "--max_images is -1"),
        (["--processes", "x"], "--processes"),
        (["--images", folder / "nothing"], "no such folder (--images)"),
        (["--html", folder / "nothing" / "page.html"], "no such folder"),
    ):
        code, _, err = run(*words)
        assert code == 2 and message in err, err
    code, _, err = run(DATASET__DATA_DIR="")
    assert code == 2 and "DATASET.DATA_DIR is empty" in err


def test_the_page(run, folder):
    pictures = folder / "images"
    pictures.mkdir()
    sizes = {}
    for row in (folder / "model_0060000" / "predictions.tsv").read_text().splitlines():
        image_id, value = row.split("\t")
        value = json.loads(value)
        if isinstance(value, dict):
            sizes[image_id] = value["image_w"], value["image_h"]
            Image.fromarray(np.full((sizes[image_id][1], sizes[image_id][0], 3), 90, np.uint8)).save(
                pictures / f"{image_id}.png"
            )
    code, out, err = run("--html", folder / "page.html")  # DATA_DIR/../images is found without being named
    assert code == 0, out + err
    page = (folder / "page.html").read_text()
    assert "golden &lt;&amp;&gt;" in page and "golden <&>" not in page
    assert page.count("<img ") == len(sizes), "twelve images at most are shown: those that have a picture"
    assert page.count('class="boxes"') == len(sizes) and page.count("<svg") >= len(sizes) + 4
    for words in ("MAX_REGION 12", "MAX_SEQ_LEN 40", "unknown word pieces, captions", "Most frequent tags"):
        assert words in page
    assert "http" not in page.replace("http-equiv", ""), "nothing is loaded from anywhere"
    if not CHROMIUM:
        pytest.skip("no Chromium here (Debian: apt-get install chromium)")
    command = [CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--disable-background-networking", "--dump-dom"]
    done = subprocess.run([*command, str(folder / "page.html")], capture_output=True, text=True, timeout=120)
    assert done.stdout.count("<rect") > 20 and "Most frequent tags" in done.stdout


def test_a_quick_look_and_help(run, repository):
    code, out, _ = run("--max_images", 2, "--splits", "train", "test")
    assert code == 0 and "2 images, drawn at random" in out and "minival" not in out
    tool = [sys.executable, str(repository / "tools" / "check_dataset.py"), "--help"]
    done = subprocess.run(tool, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0 and "--max_images" in done.stdout and "example" in done.stdout
