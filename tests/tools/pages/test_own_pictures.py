"""Every page with pictures of one's own: their names end in the numbers of other images, their boxes are in .npz."""

import base64
import io
import json
import re

import numpy as np
import pytest
from PIL import Image
from starting import in_process

from oscar_paddle.datasets.captions.published import read_captions
from oscar_paddle.datasets.regions.vinvl import ObjectTags, RegionFeatures

COUNT = 6


@pytest.fixture(scope="module")
def own(golden, tmp_path_factory):
    """A folder with mine.jsonl, images/photo_<n>.png, features/photo_<n>.npz: image i of the file is photo_<7 - i>."""
    root = tmp_path_factory.mktemp("own")
    features, captions = golden / "model_0060000" / "features.tsv", read_captions(golden / "coco_ir", "test")
    regions, tags = RegionFeatures(features), ObjectTags(features.with_name("predictions.tsv"))
    for folder in ("images", "features"):
        (root / folder).mkdir()
    with open(root / "mine.jsonl", "w") as lines:
        for number, image_id in zip(range(COUNT, 0, -1), captions, strict=False):
            entry = {"image": f"photo_{number}.jpg", "captions": captions[image_id][:2], "split": "test"}
            lines.write(json.dumps(entry) + "\n")
            Image.new("RGB", (80, 40), (40 * number, 0, 0)).save(root / "images" / f"photo_{number}.png")
            count = min(len(regions[image_id]), len(tags[image_id].split()))
            words = tags[image_id].split()[:count]
            np.savez(root / "features" / f"photo_{number}.npz", features=regions[image_id][:count], tags=words)
    (root / "run.yaml").write_text(f"""
INPUT: {{MAX_SEQ_LEN: 40, MAX_REGION: 12, NUM_CAPTIONS_PER_IMAGE_DEV: 2}}
DATASET: {{DATA_DIR: {root}}}
EVAL: {{CHECKPOINT_DIR: {golden}/checkpoint, EVAL_CROSS_IMAGE: true}}
""")
    assert in_process("eval_retrieval", "--cfg_file", root / "run.yaml", "--output_dir", root / "eval") == 0
    return root


def shown(page):
    """{image id: red of its picture} of a page; every picture has boxes over it."""
    found = {}
    frames = re.findall(
        r'<div class="frame">\s*<img src="data:image/jpeg;base64,([^"]+)" alt="Picture (\d+)(.*?)</div>', page, re.S
    )
    for data, image_id, rest in frames:
        with Image.open(io.BytesIO(base64.b64decode(data))) as image:
            found[int(image_id)] = image.convert("RGB").getpixel((9, 9))[0]
        assert rest.count("<rect") > 0 and 'viewBox="0 0 80 40"' in rest
    return found


def right(found, least):
    """Image i is photo_<7 - i>, in its red."""
    assert len(found) >= least
    return all(abs(red - 40 * (COUNT + 1 - image_id)) <= 3 for image_id, red in found.items())


def test_the_report_of_an_evaluation(own):
    names = json.loads((own / "eval" / "image_names.json").read_text())
    assert names == {str(i): f"photo_{COUNT + 1 - i}.jpg" for i in range(1, COUNT + 1)}
    words = ["--eval_dir", own / "eval", "--images", own / "images", "--features", own / "features"]
    assert in_process("report_retrieval", *words, "--output", own / "page.html") == 0
    assert right(shown((own / "page.html").read_text()), COUNT)


def test_the_report_of_an_evaluation_without_names(own, tmp_path, capsys):
    """As older versions left it: the data set says them, and without it no other picture is shown for the right one."""
    for path in (own / "eval").iterdir():
        if path.is_file() and path.name != "image_names.json":
            (tmp_path / path.name).write_bytes(path.read_bytes())
    words = ["--eval_dir", tmp_path, "--images", own / "images", "--output", tmp_path / "page.html"]
    assert in_process("report_retrieval", *words) == 1
    assert "no picture of image " in capsys.readouterr().err and not (tmp_path / "page.html").exists()
    assert in_process("report_retrieval", *words, "--data_dir", own, "--features", own / "features") == 0
    assert right(shown((tmp_path / "page.html").read_text()), COUNT)


def test_another_evaluation_takes_the_names_away(own, golden, tmp_path):
    for path in (own / "eval").iterdir():
        if path.is_file():
            (tmp_path / path.name).write_bytes(path.read_bytes())
    opts = [
        "DATASET.DATA_DIR",
        golden / "coco_ir",
        "EVAL.EVAL_IMG_KEYS_FILE",
        "test_img_keys.tsv",
        "DATASET.CACHE_DIR",
        tmp_path,
    ]
    words = ["--cfg_file", own / "run.yaml", "--output_dir", tmp_path, "--opts", *opts]
    assert in_process("eval_retrieval", *words) == 0
    assert not (tmp_path / "image_names.json").exists()


def test_a_search(own):
    words = ["--cfg_file", own / "run.yaml", "--query_txt", "a dog", "--query_img", "photo_2.jpg"]
    assert in_process("inference_retrieval", *words, "--html", own / "found.html", "--images", own / "images") == 0
    page = (own / "found.html").read_text()
    assert "<h3>Picture 5</h3>" in page and right(shown(page), 5)


def test_the_check_of_the_data_set(own):
    words = ["--cfg_file", own / "run.yaml", "--html", own / "check.html", "--images", own / "images"]
    in_process("check_dataset", *words, "--splits", "test")
    assert right(shown((own / "check.html").read_text()), COUNT)


def test_the_report_of_answers(own, tmp_path):
    entries = [
        {"record": i, "question": "?", "images": [i], "predicted": "a", "logit": 1.0, "expected": {"a": 1.0}}
        for i in range(1, COUNT + 1)
    ]
    (tmp_path / "predictions.json").write_text(json.dumps(entries))
    (tmp_path / "metrics.json").write_text("{}")
    (tmp_path / "image_names.json").write_bytes((own / "eval" / "image_names.json").read_bytes())
    words = ["--eval_dir", tmp_path, "--images", own / "images", "--features", own / "features"]
    assert in_process("report_answers", *words, "--output", tmp_path / "page.html") == 0
    assert right(shown((tmp_path / "page.html").read_text()), COUNT)
