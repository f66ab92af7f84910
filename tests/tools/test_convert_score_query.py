"""tools/convert_weights.py, tools/score_pairs.py and tools/inference_retrieval.py: what they print, and exit codes."""

import json
import shutil

import numpy as np
import pytest
from starting import in_process

from oscar_paddle.datasets.regions.vinvl import ObjectTags, RegionFeatures
from oscar_paddle.models.checkpoints import conversion


@pytest.fixture(scope="module")
def tool():
    """A tool by name, as a function of its arguments that returns the exit code."""
    return in_process


@pytest.fixture(scope="module")
def checkpoint(golden):
    return golden / "checkpoint"


@pytest.fixture(scope="module")
def picture(golden, tmp_path_factory):
    """(a .npz file, its image id)."""
    features = golden / "model_0060000" / "features.tsv"
    regions, tags = RegionFeatures(features), ObjectTags(features.with_name("predictions.tsv"))
    image_id = regions.ids[0]
    path = tmp_path_factory.mktemp("picture") / "image.npz"
    np.savez(path, features=regions[image_id], tags=tags[image_id].split(" "))
    return path, image_id


# ---- convert_weights ----


def test_conversion_and_back(tool, checkpoint, tmp_path, capsys):
    assert tool("convert_weights", "--input", checkpoint, "--output", tmp_path / "ours", "--to", "oscar-paddle") == 0
    assert "61 tensors, 0.10 million values" in capsys.readouterr().out
    assert tool("convert_weights", "--input", tmp_path / "ours", "--output", tmp_path / "pt", "--to", "pytorch") == 0
    assert sorted(path.name for path in (tmp_path / "pt").iterdir()) == [
        "added_tokens.json",
        "config.json",
        "pytorch_model.bin",
        "special_tokens_map.json",
        "training_args.bin",
        "vocab.txt",
    ]


@pytest.mark.parametrize("flag", ["--dry-run", "--dry_run"])
def test_dry_run_writes_nothing_and_shows_every_tensor(tool, checkpoint, tmp_path, capsys, flag):
    output = tmp_path / "new"
    assert tool("convert_weights", "--input", checkpoint, "--output", output, "--to", "vinvl-paddle", flag) == 0
    lines = capsys.readouterr().out.splitlines()
    assert not output.exists() and len(lines) == 1 + 61 + 3
    words = {line.split()[0]: line.split() for line in lines[1:62]}
    assert words["classifier.weight"] == ["classifier.weight", "[32,", "2]", "float32", "transpose"]
    assert words["bert.embeddings.word_embeddings.weight"][-1] == "keep"
    assert "max_seq_length 40, max_img_seq_length 12" in lines[-2]


def test_conversion_says_what_is_wrong(tool, checkpoint, tmp_path, capsys):
    cases = [
        (["--input", checkpoint, "--to", "pytorch"], 2, "--output: name the folder"),
        (["--input", checkpoint, "--output", checkpoint, "--to", "pytorch"], 2, "is there already"),
        (["--input", checkpoint, "--output", tmp_path, "--to", "onnx"], 2, "invalid choice: 'onnx'"),
        (["--input", tmp_path / "no", "--output", tmp_path / "o", "--to", "pytorch"], 1, "no such checkpoint folder"),
    ]
    for arguments, code, message in cases:
        assert tool("convert_weights", *arguments) == code
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


def test_the_tool_offers_every_form(repository):
    text = (repository / "tools" / "convert_weights.py").read_text()
    assert f"FORMATS = {conversion.FORMATS}".replace("'", '"') in text
    assert all(text.count(name) > 1 for name in conversion.FORMATS)


# ---- score_pairs ----


def test_scores_as_a_table_and_as_json(tool, checkpoint, picture, capsys):
    arguments = ["--checkpoint", checkpoint, "--features", picture[0], "--caption", "a dog", "--caption", "zwei, 人"]
    assert tool("score_pairs", *arguments) == 0
    head, first, second = capsys.readouterr().out.splitlines()
    assert head.split() == ["probability", "margin", "caption"]
    assert tool("score_pairs", *arguments, "--json") == 0
    found = json.loads(capsys.readouterr().out)["scores"]
    assert [score["caption"] for score in found] == ["a dog", "zwei, 人"]
    for line, score in ((first, found[0]), (second, found[1])):
        assert float(line.split()[0]) == pytest.approx(score["probability"], abs=5.1e-5)
        assert float(line.split()[1]) == pytest.approx(score["margin"], abs=5.1e-4)
        assert score["probability"] == pytest.approx(1 / (1 + np.exp(-score["margin"])))


def test_scoring_says_what_is_wrong(tool, checkpoint, picture, tmp_path, capsys):
    assert tool("score_pairs", "--checkpoint", checkpoint, "--features", picture[0]) == 2
    assert "--caption" in capsys.readouterr().err
    for flag, least in (("--max_seq_len", 3), ("--max_region", 1)):
        arguments = ["--features", picture[0], "--caption", "a dog", flag, least - 1]
        assert tool("score_pairs", "--checkpoint", checkpoint, *arguments) == 2
        assert f"{flag} is {least - 1}; expected at least {least}" in capsys.readouterr().err
    bad = tmp_path / "bad.npz"
    np.savez(bad, features=np.zeros((3, 2048), np.float32))
    assert tool("score_pairs", "--checkpoint", checkpoint, "--features", bad, "--caption", "a dog") == 1
    error = capsys.readouterr().err
    assert "bad.npz" in error and "the six box values are missing" in error and error.count("\n") == 1


# ---- inference_retrieval ----


@pytest.fixture
def config(golden, tmp_path):
    path = tmp_path / "eval.yaml"
    path.write_text(f"""
INPUT: {{MAX_SEQ_LEN: 40, MAX_REGION: 12}}
DATASET: {{DATA_DIR: {golden}/coco_ir, CACHE_DIR: {tmp_path}}}
EVAL: {{CHECKPOINT_DIR: {golden}/checkpoint, EVAL_CROSS_IMAGE: True, EVAL_IMG_KEYS_FILE: test_img_keys.tsv}}
""")
    return path


def test_queries(tool, config, picture, golden, tmp_path, capsys):
    image_id = int((golden / "coco_ir" / "test_img_keys.tsv").read_text().split()[0])
    name, page = f"COCO_val2014_{image_id:012d}.jpg", tmp_path / "found.html"
    arguments = ["--query_txt", "a dog", "--query_img", name, "--html", page]
    assert tool("inference_retrieval", "--cfg_file", config, *arguments) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Query text: a dog" and lines[6] == f"Query image: {image_id}"
    assert [line.split(":")[0] for line in lines[1:6]] == [f"Top {rank}" for rank in range(1, 6)]
    assert all(line.split(": ")[1].startswith("image ") for line in lines[1:6])
    assert len(lines) == 13 and "“a dog”" in page.read_text()


def test_pictures_with_names_of_their_own(tool, config, golden, tmp_path, capsys):
    """photo_17.jpg need not be image 17; the data set says which one it is."""
    folder, features = tmp_path / "coco_ir", golden / "model_0060000" / "features.tsv"
    shutil.copytree(golden / "coco_ir", folder)
    first, second = (folder / "test_img_keys.tsv").read_text().split()[:2]
    (folder / "image_names.json").write_text(json.dumps({first: f"photo_{second}.jpg"}))
    config.write_text(config.read_text().replace(f"{golden}/coco_ir", f"{folder}, FEAT_FILE: {features}"))
    arguments = ["--query_txt", "a dog", "--top", 10, "--query_img", f"photo_{second}.jpg"]
    assert tool("inference_retrieval", "--cfg_file", config, *arguments) == 0
    found = capsys.readouterr().out
    assert f"Query image: {first}\n" in found and f": image {first}, photo_{second}.jpg (margin" in found


@pytest.mark.parametrize("lists", ["", ", EVAL_CAPTION_INDEX_FILE: is_not_read.pt"])
def test_a_search_needs_no_candidate_lists(tool, config, golden, capsys, lists):
    """It looks among all captions, however many a list would hold."""
    image_id = (golden / "coco_ir" / "test_img_keys.tsv").read_text().split()[0]
    arguments = ["--cfg_file", config, "--query_txt", "a dog", "--query_img", image_id, "--top", 3]
    assert tool("inference_retrieval", *arguments) == 0
    expected = capsys.readouterr().out
    text = config.read_text().replace(", EVAL_CROSS_IMAGE: True", lists)
    config.write_text(text.replace("MAX_REGION", "NUM_CAPTIONS_PER_IMAGE_DEV: 20, MAX_REGION"))
    assert tool("inference_retrieval", *arguments) == 0
    assert capsys.readouterr().out == expected


def test_queries_with_another_checkpoint(tool, config, checkpoint, tmp_path, capsys):
    conversion.convert(conversion.read_source(checkpoint), tmp_path / "vp", conversion.VINVL_PADDLE)
    arguments = ["--cfg_file", config, "--query_txt", "a dog", "--top", 2]
    assert tool("inference_retrieval", *arguments) == 0
    expected = capsys.readouterr().out
    assert expected.count("Top") == 2
    config.write_text(config.read_text().replace(f"CHECKPOINT_DIR: {checkpoint}, ", ""))  # the flag alone is enough
    assert tool("inference_retrieval", *arguments) == 2
    assert "EVAL.CHECKPOINT_DIR" in capsys.readouterr().err
    assert tool("inference_retrieval", *arguments, "--checkpoint_dir", tmp_path / "vp") == 0
    assert capsys.readouterr().out == expected


def test_queries_say_what_is_wrong(tool, config, tmp_path, capsys):
    cases = [
        ([], 2, "give --query_txt TEXT, --query_img ID"),
        (["--query_txt", "a dog", "--top", "0"], 2, "--top is 0"),
        (["--query_txt", "a dog", "--images", tmp_path], 2, "name it with --html"),
        (["--query_img", "dog.jpg"], 1, "expected an image id"),
        (["--query_img", "4"], 1, "image 4 is none of the 10 images"),
        (["--query_txt", "a dog", "--html", tmp_path / "x.html", "--images", tmp_path / "no"], 1, "no such folder"),
    ]
    for arguments, code, message in cases:
        assert tool("inference_retrieval", "--cfg_file", config, *arguments) == code, arguments
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1
