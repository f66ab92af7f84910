"""Data that are legal and unusual, through training and evaluation: every one has an answer, and the run says it."""

import json
import pickle
import re
import shutil

import numpy as np
import pytest
import yaml
from published import change_rows, features, store
from starting import in_process

from oscar_paddle.datasets.captions.prepared import captions_digest
from oscar_paddle.datasets.captions.published import read_captions
from oscar_paddle.datasets.formats import torch_files
from oscar_paddle.datasets.regions.packing import pack
from oscar_paddle.datasets.regions.vinvl import RegionFeatures


@pytest.fixture
def run(folder, capfd):
    """Function: run a tool in this process on the folder with some settings changed -> (exit code, stdout, stderr)."""

    def run(tool="eval_retrieval", **changes):
        settings = {
            "INPUT": {"MAX_SEQ_LEN": 40, "MAX_REGION": 12},
            "DATASET": {"DATA_DIR": str(folder / "coco_ir")},
            "EVAL": {"CHECKPOINT_DIR": str(folder / "checkpoint"), "EVAL_CROSS_IMAGE": True, "BACKEND": "eager"},
            "PRETRAINED": {"DIR": str(folder / "checkpoint")},
            "OUTPUT": {"CHECKPOINT_DIR": str(folder / "exp")},
            "MONITOR": {"EVAL_FREQ": 0},
            "OPTIMIZATION": {"EPOCHS": 1, "BATCH_SIZE": 4},
            "MISC": {"NUM_WORKERS": 0, "DEVICE": "cpu"},
        }
        for key, value in changes.items():
            section, name = key.split("__")
            settings[section][name] = value
        (folder / "run.yaml").write_text(yaml.safe_dump(settings))
        capfd.readouterr()
        words = ["--output_dir", folder / "evaluation"] if tool.startswith("eval") else []
        return in_process(tool, "--cfg_file", folder / "run.yaml", *words), *capfd.readouterr()

    return run


def change_captions(folder, split, change):
    """Replace the captions of a split: change(image id, texts) -> texts."""
    captions = read_captions(folder / "coco_ir", split)
    entries = {image_id: json.dumps(change(image_id, texts)) for image_id, texts in captions.items()}
    (folder / "coco_ir" / f"{split}_captions.pt").write_bytes(pickle.dumps(entries, 2))
    return list(captions)


def metrics_of(folder):
    return json.loads((folder / "evaluation" / "metrics.json").read_text())


def test_repeated_captions_are_counted_and_have_a_second_line(run, folder):
    code, out, _ = run()
    assert code == 0 and metrics_of(folder)["num_repeated_captions"] == 0 and "word for word" not in out
    assert "equal_sentences" not in metrics_of(folder)
    ids = change_captions(
        folder, "test", lambda image_id, texts: ["A man rides a wave."] if image_id % 2 else texts[:1]
    )
    odd = sum(image_id % 2 for image_id in ids)
    code, out, err = run(INPUT__NUM_CAPTIONS_PER_IMAGE_DEV=1)
    assert code == 0, err
    metrics, most = metrics_of(folder), (len(ids) - odd) / len(ids)
    assert metrics["num_repeated_captions"] == odd > 1 and metrics["i2t_R@1_at_most"] == most
    assert f"{odd} of {len(ids)} captions are word for word those of another image" in out
    assert f"text R@1 cannot exceed {most:.4f}" in out
    assert f"test: {odd} of {len(ids)} captions are word for word those of another image, which scores and" in err
    assert metrics["equal_sentences"]["i2t_retrieval"]["R@5"] > metrics["i2t_retrieval"]["R@5"]
    also = re.findall(r"if these count as right too: (I2T|T2I): (\d\.\d{4}) @ R1", out)
    assert [direction for direction, _ in also] == ["I2T", "T2I"]
    assert float(also[1][1]) == round(metrics["equal_sentences"]["t2i_retrieval"]["R@1"], 4)
    assert len(re.findall(r"^(I2T|T2I) Retrieval: ", out, re.MULTILINE)) == 2


def test_unknown_pieces_and_cut_captions_are_one_line(run, folder):
    change_captions(folder, "test", lambda image_id, texts: ["一只狗在草地上奔跑 " * 9] * 5)
    change_captions(folder, "train", lambda image_id, texts: ["一只狗"] * 5)
    for tool, cut in (("eval_retrieval", True), ("train_retrieval", False)):
        code, _, err = run(tool)
        assert code == 0, err
        (line,) = [line for line in err.splitlines() if "[UNK]" in line]
        assert re.search(r"\d+\.\d % of the word pieces of the captions are \[UNK\]", line)
        assert ("captions are cut to fit INPUT.MAX_SEQ_LEN" in line) == cut and "check_dataset.py" in line


def test_pixels_in_the_box_values(run, folder):
    def pixels(row):
        regions = features(row)
        regions[:, 2048:] *= 640
        store(row, regions)

    change_rows(folder / "model_0060000" / "features.tsv", pixels)
    _, _, err = run()
    assert "pixels?" in err


def test_candidate_lists_without_a_right_caption_or_of_other_captions(run, folder):
    path = folder / "coco_ir" / "minival_caption_indexs_top20.pt"
    captions = read_captions(folder / "coco_ir", "minival")
    ids = list(captions)
    lists = {i: [[other, n] for other in ids[:5] for n in range(4)] for i in ids}
    settings = {"EVAL__EVAL_CROSS_IMAGE": False, "EVAL__EVAL_CAPTION_INDEX_FILE": path.name, "DATASET__TEST": "minival"}
    settings["INPUT__NUM_CAPTIONS_PER_IMAGE_DEV"] = 0  # the lists as they are
    for digest, warned in ((captions_digest(captions), False), ("0" * 32, True)):
        entries = {**{i: json.dumps(pairs) for i, pairs in lists.items()}, "captions": digest}
        path.write_bytes(pickle.dumps(entries, 2))
        code, _, err = run(**settings)
        assert code == 0, err
        missing = f"{len(ids) - 5} of {len(ids)} images have no caption of their own among their candidates"
        assert missing in err
        assert ("chosen for other captions than those of split 'minival'" in err) == warned
    assert metrics_of(folder)["i2t_num_without_positive"] == len(ids) - 5


def test_any_number_of_captions_for_each_image(run, folder):
    ids = change_captions(folder, "test", lambda image_id, texts: (texts * 2)[: 1 + image_id % 7])
    count = sum(1 + image_id % 7 for image_id in ids)
    code, out, err = run(INPUT__NUM_CAPTIONS_PER_IMAGE_DEV=0)
    assert code == 0, err
    assert np.load(folder / "evaluation" / "margins.npy").shape == (len(ids), count)
    assert f"{len(ids)} images x {count} captions" in out
    assert metrics_of(folder)["t2i_num_queries"] == count
    code, _, err = run()
    assert code == 1 and "0 takes all that there are" in err
    ids = change_captions(folder, "train", lambda image_id, texts: texts[: 1 + image_id % 5])
    code, _, err = run("train_retrieval", INPUT__NUM_CAPTIONS_PER_IMAGE_TRN=0)
    assert code == 0, err
    steps = [json.loads(line) for line in (folder / "exp" / "run" / "metrics.jsonl").read_text().splitlines()]
    assert max(line["step"] for line in steps) == -(-sum(1 + image_id % 5 for image_id in ids) // 4)


# ---- pictures in which nothing was detected


def in_features_tsv(folder, empty, golden):
    def nothing(row):
        row[1:] = ["0", ""]

    change_rows(folder / "model_0060000" / "features.tsv", nothing, empty)


def in_oscar_v1(folder, empty, golden):
    source = RegionFeatures(golden / "model_0060000" / "features.tsv")
    for split in ("train", "test"):
        arrays = {i: np.array(source[i]) for i in read_captions(folder / "coco_ir", split)}
        arrays[empty] = arrays[empty][:0]
        (folder / "coco_ir" / f"{split}_img_frcnn_feats.pt").write_bytes(pickle.dumps(arrays, 2))
        labels = dict.fromkeys(arrays, "dog")
        (folder / "coco_ir" / f"{split}_vg_labels.pt").write_bytes(pickle.dumps(labels, 2))
    shutil.rmtree(folder / "model_0060000")


def in_npz(folder, empty, golden):
    source = RegionFeatures(golden / "model_0060000" / "features.tsv")
    (folder / "coco_ir" / "features").mkdir()
    for i in source.ids:
        regions = np.array(source[i])[: 0 if i == empty else None]
        np.savez(folder / "coco_ir" / "features" / f"{i}.npz", features=regions, tags=[] if i == empty else ["dog"])
    shutil.rmtree(folder / "model_0060000")


def packed(folder, empty, golden):
    in_features_tsv(folder, empty, golden)
    path = folder / "model_0060000" / "features.tsv"
    pack(RegionFeatures(path), path.with_suffix(".packed"), progress=False)


@pytest.mark.parametrize("layout", [in_features_tsv, in_oscar_v1, in_npz, packed])
def test_retrieval_of_pictures_without_regions(run, folder, golden, layout):
    train, test = (list(read_captions(golden / "coco_ir", split)) for split in ("train", "test"))
    empty = next(i for i in train if i in test)
    layout(folder, empty, golden)
    for tool, count in (("train_retrieval", len(train)), ("eval_retrieval", len(test))):
        code, _, err = run(tool)
        (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
        assert code == 1 and f"nothing was detected in 1 of {count} images of split " in line and str(empty) in line
        assert "lower the detector's threshold" in line and "DATASET.EMPTY_IMAGES 'skip'" in line
    assert not (folder / "exp" / "run" / "metrics.jsonl").exists()
    code, _, err = run("train_retrieval", DATASET__EMPTY_IMAGES="skip")
    assert code == 0 and "they are not trained on" in err, err
    steps = [json.loads(line) for line in (folder / "exp" / "run" / "metrics.jsonl").read_text().splitlines()]
    assert max(line["step"] for line in steps) == -(-5 * (len(train) - 1) // 4)
    code, _, err = run(DATASET__EMPTY_IMAGES="skip")
    assert code == 0 and "each counts as one empty region" in err, err
    margins = np.load(folder / "evaluation" / "margins.npy")
    assert margins.shape == (len(test), 5 * len(test)) and np.isfinite(margins).all()


EVALUATED = {"vqa": 11, "gqa": 10, "nlvr2": 11}  # examples of the golden validation splits


@pytest.mark.parametrize("task", EVALUATED)
def test_questions_about_pictures_without_regions(run, folder, repository, task):
    golden = repository / "tests" / "golden" / task
    shutil.copytree(golden / task, folder / task)
    shutil.rmtree(folder / "checkpoint")
    shutil.copytree(golden / "checkpoint", folder / "checkpoint")
    settings = {"DATASET__DATA_DIR": str(folder / task), "DATASET__TEST": "val", "INPUT__MAX_SEQ_LEN": 24}
    settings |= {"EVAL__EVAL_CROSS_IMAGE": False, "OPTIMIZATION__LOSS_TYPE": "bce" if task == "vqa" else "xe"}
    settings |= {"PRETRAINED__FRESH_HEAD": True, "DATASET__EVAL_DATA_TYPE": "bal" if task == "gqa" else "all"}
    shutil.rmtree(folder / "model_0060000")
    empty = set()
    for path in (folder / task).glob("*_[qd]*.json"):
        images = next(iter(json.loads(path.read_text())))["img_id"]
        empty |= {str(image) for image in (images.values() if isinstance(images, dict) else [images])}
    for path in (folder / task).glob("*_feats.pt"):
        arrays = {
            key: np.array(value)[: 0 if str(key) in empty else None] for key, value in torch_files.load(path).items()
        }
        path.write_bytes(pickle.dumps(arrays, 2))
    tools = {"train": f"train_{task}", "eval": f"eval_{task}"}
    for tool in tools.values():
        code, _, err = run(tool, **settings)
        found = re.search(
            r"error: .*nothing was detected in [1-9]\d* of \d+ images of .*DATASET.EMPTY_IMAGES 'skip'", err
        )
        assert code == 1 and found, err
    code, _, err = run(tools["train"], **settings, DATASET__EMPTY_IMAGES="skip")
    assert code == 0 and "they are not trained on" in err, err
    code, out, err = run(tools["eval"], **settings, DATASET__EMPTY_IMAGES="skip")
    assert code == 0 and "each counts as one empty region" in err, err
    assert f"({EVALUATED[task]} examples)" in out


# ---- names instead of ids


@pytest.mark.parametrize("ending", ["", ".jpg"])
def test_rows_that_have_names_of_pictures(run, folder, ending):
    """Captions as JSONL; features.tsv and predictions.tsv whose first column is the name of the file."""
    code, out, err = run(INPUT__NUM_CAPTIONS_PER_IMAGE_DEV=5)
    assert code == 0, err
    captions, lines = read_captions(folder / "coco_ir", "test"), []
    for image_id, texts in captions.items():
        lines.append(json.dumps({"image": f"val/p_{image_id}.jpg", "captions": texts, "split": "test"}))
    shutil.rmtree(folder / "coco_ir")
    (folder / "coco_ir").mkdir()
    (folder / "coco_ir" / "mine.jsonl").write_text("\n".join(lines))
    for name in ("features", "predictions"):
        path = folder / "model_0060000" / f"{name}.tsv"
        path.write_text(
            "".join(f"p_{row.replace(chr(9), ending + chr(9), 1)}\n" for row in path.read_text().splitlines())
        )
        path.with_suffix(".lineidx").unlink()
    (folder / "model_0060000" / "imageid2idx.json").unlink()
    code, found, err = run(INPUT__NUM_CAPTIONS_PER_IMAGE_DEV=5)
    assert code == 0 and found == out, err
    assert json.loads((folder / "evaluation" / "image_ids.json").read_text()) == list(range(1, len(captions) + 1))


def test_two_pictures_that_lead_to_one_file_of_regions(run, folder, golden):
    source, lines = RegionFeatures(golden / "model_0060000" / "features.tsv"), []
    shutil.rmtree(folder / "coco_ir")
    shutil.rmtree(folder / "model_0060000")
    (folder / "coco_ir" / "features").mkdir(parents=True)
    names = [f"{'ab'[n // 6]}/img_{n % 6:02d}.jpg" for n in range(12)]
    for name, image_id in zip(names, source.ids, strict=True):
        lines.append(json.dumps({"image": name, "captions": [f"Picture {name}."], "split": "test"}))
        place = folder / "coco_ir" / "features" / name.split("/")[1].replace(".jpg", ".npz")
        np.savez(place, features=source[image_id], tags=["dog"])
    (folder / "coco_ir" / "mine.jsonl").write_text("\n".join(lines))
    code, _, err = run(INPUT__NUM_CAPTIONS_PER_IMAGE_DEV=1)
    (line,) = [line for line in err.splitlines() if line.startswith("error: ")]
    assert code == 1 and "a/img_00.jpg (image 1) and b/img_00.jpg (image 7) both read" in line
    assert "mine.jsonl line 1; " in line and "mine.jsonl line 7)" in line
    words = [
        "--annotations",
        folder / "coco_ir" / "mine.jsonl",
        "--output_dir",
        folder / "coco_ir",
        "--dev_split",
        "test",
    ]
    assert in_process("prepare_captions", *words, "--candidates", "10") == 1
    assert not (folder / "coco_ir" / "test_captions.pt").exists()
    for name, image_id in zip(names, source.ids, strict=True):
        place = folder / "coco_ir" / "features" / name.replace(".jpg", ".npz")
        place.parent.mkdir(exist_ok=True)
        np.savez(place, features=source[image_id], tags=["dog"])
    code, _, err = run(INPUT__NUM_CAPTIONS_PER_IMAGE_DEV=1)
    assert code == 0, err
