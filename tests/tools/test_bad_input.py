"""Bad input, seen from the command line: one clear line on stderr, the right exit code, no traceback."""

import json
import pickle

import numpy as np
import pytest
import yaml
from published import change_rows, features, store
from starting import in_process

from oscar_paddle.datasets.formats import torch_files


@pytest.fixture
def run(folder, capfd):
    """Function: run a tool in this process on the folder with some settings changed -> (exit code, stderr)."""

    def run(tool="eval_retrieval", **changes):
        settings = {
            "INPUT.MAX_SEQ_LEN": 40,
            "INPUT.MAX_REGION": 12,
            "DATASET.DATA_DIR": str(folder / "coco_ir"),
            "EVAL.CHECKPOINT_DIR": str(folder / "checkpoint"),
            "EVAL.EVAL_CROSS_IMAGE": True,
            "EVAL.EVAL_IMG_KEYS_FILE": "test_img_keys.tsv",
            "PRETRAINED.DIR": str(folder / "checkpoint"),
            "OUTPUT.CHECKPOINT_DIR": str(folder / "exp"),
            "MONITOR.EVAL_FREQ": 0,
            "OPTIMIZATION.EPOCHS": 1,
            "MISC.NUM_WORKERS": 0,
            **{key.replace("__", "."): value for key, value in changes.items()},
        }
        sections = {}
        for key, value in settings.items():
            section, name = key.split(".")
            sections.setdefault(section, {})[name] = value
        (folder / "run.yaml").write_text(yaml.safe_dump(sections))
        capfd.readouterr()
        words = ["--cfg_file", str(folder / "run.yaml")]
        words += ["--output_dir", str(folder / "evaluation")] if tool == "eval_retrieval" else []
        return in_process(tool, *words), capfd.readouterr().err

    return run


def assert_refused(result, *parts, code=1):
    found, err = result
    assert found == code, err
    errors = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1, err
    assert "Traceback" not in err
    for part in parts:
        assert str(part) in errors[0], errors[0]


def rewrite_row(folder, image_id, change):
    """Change the fields of one row of features.tsv and drop its line index."""
    change_rows(folder / "model_0060000" / "features.tsv", change, image_id)


IMAGE = 535180  # row 1 of features.tsv, one of the test images


def test_the_untouched_copy_runs(run, folder):
    code, err = run()
    assert code == 0, err
    assert json.loads((folder / "evaluation" / "metrics.json").read_text())["i2t_retrieval"]["R@10"] == 0.7


@pytest.mark.parametrize("content", [b"", b"<html>404</html>", b"\x80\x02}q\x00.", b"PK\x03\x04 torn"])
def test_a_caption_file_that_is_not_one(run, folder, content):
    (folder / "coco_ir" / "test_captions.pt").write_bytes(content)
    assert_refused(run(), "test_captions.pt")


def test_captions_that_are_not_lists_of_text(run, folder):
    (folder / "coco_ir" / "test_captions.pt").write_bytes(pickle.dumps({1: "not json"}, protocol=2))
    assert_refused(run(), "test_captions.pt", "1")


def test_a_missing_caption_file(run, folder):
    (folder / "coco_ir" / "test_captions.pt").unlink()
    assert_refused(run(), "test_captions.pt")


def test_too_few_captions(run):
    assert_refused(run(INPUT__NUM_CAPTIONS_PER_IMAGE_DEV=50), "expected 50", "INPUT.NUM_CAPTIONS_PER_IMAGE_DEV")


def test_an_image_without_features(run, folder):
    path = folder / "coco_ir" / "test_captions.pt"
    captions = {int(key): value for key, value in torch_files.load(path).items()}
    captions[999] = json.dumps(["a", "b", "c", "d", "e"])
    path.write_bytes(pickle.dumps(captions, protocol=2))
    with open(folder / "coco_ir" / "test_img_keys.tsv", "a") as file:
        file.write("999\n")
    assert_refused(run(), "features.tsv", "999")


def test_an_image_without_captions(run, folder):
    with open(folder / "coco_ir" / "test_img_keys.tsv", "a") as file:
        file.write("\n424242\n")
    assert_refused(run(), "test_img_keys.tsv", "424242", "no captions")


def test_a_row_of_the_wrong_size(run, folder):
    rewrite_row(folder, IMAGE, lambda row: store(row, features(row)[:, :2000]))
    assert_refused(run(), "features.tsv", IMAGE, "2054")


def test_rows_without_the_box_values(run, folder):
    rewrite_row(folder, IMAGE, lambda row: store(row, features(row)[:, :2048]))
    assert_refused(run(), "features.tsv", IMAGE, "2048 values: the six box values are missing")


def test_broken_base64(run, folder):
    def spoil(row):
        row[-1] = row[-1][:100] + "?!" + row[-1][102:]

    rewrite_row(folder, IMAGE, spoil)
    assert_refused(run(), "features.tsv", "row 1", IMAGE, "base64")


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_non_finite_features(run, folder, bad):
    def spoil(row):
        values = features(row)
        values[2, 1234] = bad
        store(row, values)

    rewrite_row(folder, IMAGE, spoil)
    assert_refused(run(), "features.tsv", IMAGE, "region 3 column 1235")  # counted from 1


def test_an_empty_image_list(run, folder):
    (folder / "coco_ir" / "test_img_keys.tsv").write_text("\n")
    assert_refused(run(), "test_img_keys.tsv")


def test_candidates_together_with_cross_image_evaluation(run):
    result = run(EVAL__EVAL_CAPTION_INDEX_FILE="minival_caption_indexs_top20.pt")
    assert_refused(result, "EVAL.EVAL_CROSS_IMAGE", "EVAL.EVAL_CAPTION_INDEX_FILE", code=2)


def test_a_candidate_that_does_not_exist(run, folder):
    path = folder / "coco_ir" / "minival_caption_indexs_top20.pt"
    lists = {key: json.loads(value) for key, value in torch_files.load(path).items()}
    first = next(iter(lists))
    lists[first][3] = [first, 77]
    path.write_bytes(pickle.dumps(lists, protocol=2))
    result = run(
        EVAL__EVAL_CAPTION_INDEX_FILE=path.name,
        EVAL__EVAL_CROSS_IMAGE=False,
        EVAL__EVAL_IMG_KEYS_FILE="",
        DATASET__TEST="minival",
        INPUT__NUM_CAPTIONS_PER_IMAGE_DEV=20,
    )
    assert_refused(result, path.name, first, f"[{first}, 77]")


def test_candidates_of_other_images(run, folder):
    path = folder / "coco_ir" / "other.pt"
    path.write_bytes(pickle.dumps({"900001": json.dumps([[900001, 0]] * 20)}, protocol=2))
    lists = {"EVAL__EVAL_CAPTION_INDEX_FILE": path.name, "EVAL__EVAL_CROSS_IMAGE": False, "DATASET__TEST": "minival"}
    result = run(**lists, EVAL__EVAL_IMG_KEYS_FILE="", INPUT__NUM_CAPTIONS_PER_IMAGE_DEV=20)
    assert_refused(result, "has 0 candidates, expected 20", "the lists are of other images, such as 900001")


def test_a_checkpoint_folder_without_weights(run, folder):
    (folder / "checkpoint" / "pytorch_model.bin").unlink()
    assert_refused(run(), folder / "checkpoint", "no weights here")


@pytest.mark.parametrize("tool", ["train_retrieval", "eval_retrieval"])
def test_a_checkpoint_folder_that_is_not_there(run, folder, tool):
    """Not a word about vocabularies, which such a folder lacks as well."""
    (folder / "checkpoint").rename(folder / "elsewhere")
    assert_refused(run(tool), f"{folder / 'checkpoint'}: no such checkpoint folder")


def test_a_checkpoint_folder_without_config(run, folder):
    (folder / "checkpoint" / "config.json").unlink()
    assert_refused(run(), folder / "checkpoint" / "config.json", "not found")


def test_a_truncated_weights_file(run, folder):
    path = folder / "checkpoint" / "pytorch_model.bin"
    path.write_bytes(path.read_bytes()[:-1000])
    assert_refused(run(), "pytorch_model.bin")


def test_another_feature_width_than_the_weights_have(run, folder):
    assert_refused(run(INPUT__IMG_FEATURE_DIM=2048), "INPUT.IMG_FEATURE_DIM is 2048", "2054", code=2)


def test_more_positions_than_the_position_table(run):
    assert_refused(run(INPUT__MAX_SEQ_LEN=129), "INPUT.MAX_SEQ_LEN is 129", "128 positions", code=2)


@pytest.mark.parametrize("length", [3, 4, 5])
def test_captions_longer_than_the_room_are_cut(run, length):
    code, err = run(INPUT__MAX_SEQ_LEN=length)
    assert code == 0, err


def test_tags_are_missing(run, folder):
    (folder / "model_0060000" / "predictions.tsv").unlink()
    assert_refused(run(), "predictions.tsv", "INPUT.ADD_OD_LABEL")


def test_training_on_one_image(run, folder):
    path = folder / "coco_ir" / "train_captions.pt"
    captions = torch_files.load(path)
    first = next(iter(captions))
    path.write_bytes(pickle.dumps({first: captions[first]}, protocol=2))
    assert_refused(run("train_retrieval"), "'train'", "at least 2 images")


def test_a_vocabulary_that_is_too_large(run, folder):
    with open(folder / "checkpoint" / "vocab.txt", "a") as file:
        file.write("surplus\nwords\n")
    assert_refused(run(), "checkpoint", "163 words", "vocab_size 161")
