"""tools/score_captions.py and tools/caption_frequencies.py: every form of file, submissions, and what is wrong."""

import json
from functools import partial

import pytest
from starting import said_in_process

CAPTIONS = {"7": "a dog runs", "8": "two cats"}
REFERENCES = {"7": ["A dog runs.", "the dog"], "8": ["two cats sleep"]}


@pytest.fixture
def tool(capfd):
    return partial(said_in_process, capfd, "score_captions")


def forms():
    entries = [{"image_id": int(image), "caption": text} for image, text in CAPTIONS.items()]
    yield "list.json", json.dumps(entries)
    yield "mapping.json", json.dumps(CAPTIONS)
    yield "lines.jsonl", "\n".join(map(json.dumps, entries))
    yield "pred.x.tsv", "".join(f"{i}\t{json.dumps([{'caption': t, 'conf': 0.5}])}\n" for i, t in CAPTIONS.items())
    yield "captions.json", json.dumps([{"image_id": i, "captions": [{"caption": t}]} for i, t in CAPTIONS.items()])


@pytest.mark.parametrize(("name", "content"), list(forms()))
def test_every_form_has_the_same_scores(tool, write, tmp_path, name, content):
    coco = [{"image_id": int(i), "id": n, "caption": t} for n, (i, own) in enumerate(REFERENCES.items()) for t in own]
    for references in (REFERENCES, {"images": [], "annotations": coco}):
        files = ["--captions", write(content, name), "--references", write(json.dumps(references), "refs.json")]
        code, out, err = tool(*files, "--output", str(tmp_path / "scores.json"))
        assert code == 0, err
        assert "Bleu_1" in out and "2 images, 3 references" in out and "SPICE" not in out
        found = json.loads((tmp_path / "scores.json").read_text())
        assert found["images"]["7"]["ROUGE_L"] == 1 and found["scores"]["CIDEr"] > 1


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.json", "[]", "no captions"),
        ("a.json", '[{"caption": "x"}]', "entry 0: a dict names no image"),
        ("a.json", '[{"image_id": 7, "caption": 5}]', "entry 0: image 7 has 5"),
        (
            "a.jsonl",
            '{"image_id": 7, "caption": "x"}\n{"image_id": "7", "caption": "x"}',
            "line 2: image 7 is there twice",
        ),
        ("a.tsv", "7 []", "line 1: no tab"),
        ("a.tsv", "7\t[", "line 1: malformed JSON"),
        ("a.json", '{"7": "x"}', "image '8' has references and no caption"),
    ],
)
def test_files_that_are_wrong(tool, write, name, content, message):
    code, _, err = tool("--captions", write(content, name), "--references", write(json.dumps(REFERENCES), "refs.json"))
    assert code == 1 and message in err and err.count("\n") == 1


def test_spice_without_jars_is_said_before_anything_is_read(tool, tmp_path):
    none = str(tmp_path)
    words = ["--captions", write_json(tmp_path / "c.json", CAPTIONS), "--references", "none.json", "--with", "SPICE"]
    code, out, err = tool(*words, "--spice_jars", none)
    assert code == 1 and "SPICE cannot be scored: missing" in err and "Bleu" not in out


def write_json(path, value):
    path.write_text(json.dumps(value), encoding="utf-8")
    return str(path)


def submit(tool, tmp_path, kind, captions, images):
    words = ["--captions", write_json(tmp_path / "c.json", captions), "--submission", kind]
    info = write_json(tmp_path / "info.json", {"images": images})
    return tool(*words, "--image_info", info, "--output", str(tmp_path / "out.json"))


def test_submissions(tool, tmp_path):
    assert submit(tool, tmp_path, "coco", CAPTIONS, [{"id": 8}, {"id": 7}])[0] == 0
    wanted = [{"image_id": 8, "caption": "two cats"}, {"image_id": 7, "caption": "a dog runs"}]
    assert json.loads((tmp_path / "out.json").read_text()) == wanted
    images = [{"id": 0, "open_images_id": "ab"}, {"id": 5, "open_images_id": "cd"}]
    assert submit(tool, tmp_path, "nocaps", {"cd": "a\ndog", "ab": "x"}, images)[0] == 0
    wanted = [{"image_id": 0, "caption": "x", "id": 0}, {"image_id": 5, "caption": "a dog", "id": 1}]
    assert json.loads((tmp_path / "out.json").read_text()) == wanted


@pytest.mark.parametrize(
    ("kind", "images", "message"),
    [
        ("coco", [{"id": 7}, {"id": 8}, {"id": 9}], "1 of 3 images of"),
        ("coco", [{"id": 7}], "1 captions are of images that"),
        ("coco", [{"id": "7"}, {"id": "8"}], "expected"),
        ("coco", [{"id": 7}, {"id": 7}], "is there twice"),
        ("nocaps", [{"id": 7}, {"id": 8}], "open_images_id"),
        ("nocaps", [{"id": 7, "open_images_id": "7"}, {"id": 7, "open_images_id": "8"}], "8 (id 7) is there twice"),
    ],
)
def test_submissions_that_are_wrong_are_not_written(tool, tmp_path, kind, images, message):
    code, _, err = submit(tool, tmp_path, kind, CAPTIONS, images)
    assert code == 1 and message in err and not (tmp_path / "out.json").exists()


def test_an_empty_caption_is_not_submitted(tool, tmp_path):
    code, _, err = submit(tool, tmp_path, "coco", {"7": " "}, [{"id": 7}])
    assert code == 1 and "image 7: the caption is empty" in err


def test_frequencies(capfd, write, tmp_path):
    path = str(tmp_path / "words.p")
    words = ["--captions", write(json.dumps(REFERENCES), "refs.json"), "--output", path]
    code, out, err = said_in_process(capfd, "caption_frequencies", *words)
    assert code == 0 and "of 2 images" in out, err
