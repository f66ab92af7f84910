"""tools/prepare_captions.py and tools/pack_features.py from the command line: one's own pictures to a data set."""

import json
from functools import partial

import numpy as np
import pytest
import yaml
from starting import said_in_process


@pytest.fixture
def run(capfd):
    """Function: run a tool in this process -> (exit code, stdout, stderr)."""

    return partial(said_in_process, capfd)


@pytest.fixture
def mine(tmp_path):
    """24 pictures of one's own: captions, and an .npz each."""
    (tmp_path / "features").mkdir()
    random = np.random.default_rng(0)
    with open(tmp_path / "mine.jsonl", "w") as file:
        for i in range(24):
            split = ("train", "train", "val", "test")[i % 4] if i < 8 else "val"
            line = {"image": f"p{i}.jpg", "captions": [f"Picture {i}, {n}." for n in range(4)], "split": split}
            file.write(json.dumps(line) + "\n")
            np.savez(
                tmp_path / "features" / f"p{i}.npz",
                features=random.random((3, 2048), np.float32),
                boxes=[[0, 0, 9, 9]] * 3,
                image_w=10,
                image_h=10,
                tags=["dog"],
            )
    return tmp_path


def test_captions_then_packing_by_configuration(run, mine):
    code, out, err = run("prepare_captions", "--annotations", mine / "mine.jsonl", "--output_dir", mine)
    assert code == 0, err
    assert "train: 4 images, 16 captions, 4 to 4 an image" in out
    assert "set INPUT.NUM_CAPTIONS_PER_IMAGE_TRN to 4" in out
    assert f"minival: 20 candidates an image, the hard ones by the object tags in {mine}/features" in out
    assert (mine / "minival_caption_indexs_top20.pt").exists() and (mine / "image_names.json").exists()

    code, _, err = run("prepare_captions", "--annotations", mine / "mine.jsonl", "--output_dir", mine)
    assert code == 1 and err.startswith("error: ") and "--overwrite" in err and err.count("\n") == 1

    (mine / "run.yaml").write_text(yaml.safe_dump({"DATASET": {"DATA_DIR": str(mine)}}))
    words = ("pack_features", "--cfg_file", mine / "run.yaml", "--verify", "--bench")
    code, out, err = run(*words)
    assert code == 0, err
    assert f"{mine}/features.packed: 24 images, 0.6 MB, float32" in out
    assert "largest difference 0\n" in out and "times as fast" in out
    assert "%" not in err  # no bar is drawn where there is no terminal
    code, out, _ = run(*words[:3])
    assert code == 0 and out == f"{mine}/features.packed: is up to date\n"
    np.savez(mine / "features" / "p0.npz", features=np.ones((1, 2054), np.float32))
    code, out, _ = run(*words[:3])
    assert code == 0 and "24 images" in out


def test_splits_of_oscar_v1_are_packed_each(run, repository, tmp_path):
    folder = repository / "tests" / "golden" / "oscar_v1"
    for path in folder.glob("*_feats.pt"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    settings = {"DATASET": {"DATA_DIR": str(tmp_path), "TEST": "minival"}, "INPUT": {"IMG_FEATURE_DIM": 10}}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings))
    code, _, err = run("pack_features", "--cfg_file", tmp_path / "run.yaml", "--output", tmp_path / "one.packed")
    assert code == 2 and "the configuration has 2 sources" in err
    code, out, err = run("pack_features", "--cfg_file", tmp_path / "run.yaml")
    assert code == 0, err
    assert "train_img_frcnn_feats.packed: 3 images" in out and "minival_img_frcnn_feats.packed: 2 images" in out


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ((), 2, "give either --cfg_file or --feat_file"),
        (("--feat_file", "a", "--cfg_file", "b"), 2, "give either"),
        (("--feat_file", "none.tsv"), 1, "none.tsv: no such file"),
        (("--feat_file", "a.packed"), 1, "a.packed: is packed itself"),
        (("--feat_file", "a", "--dtype", "int8"), 2, "--dtype"),
    ],
)
def test_bad_arguments(run, words, code, message):
    found, _, err = run("pack_features", *words)
    assert found == code and message in err and err.count("\n") == 1 and "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("--annotations", "none.jsonl"), 1, "none.jsonl: no such file"),
        (("--annotations", "x", "--candidates", "many"), 2, "--candidates"),
        (("--annotations", "x", "--dev_images", "-1"), 2, "--dev_images"),
    ],
)
def test_bad_annotations(run, tmp_path, words, code, message):
    found, _, err = run("prepare_captions", *words, "--output_dir", tmp_path)
    assert found == code and message in err and err.count("\n") == 1


def test_help_shows_whole_commands(run):
    for tool in ("pack_features", "prepare_captions"):
        code, out, _ = run(tool, "--help")
        assert code == 0 and f"python tools/{tool}.py" in out
