"""tools/check_dataset.py and the tasks: which one a configuration is for, and that its own words are used."""

import json
import pickle
import shutil

import pytest
import yaml
from starting import in_process


@pytest.fixture
def check(tmp_path, capfd):
    """Function: settings of a YAML file, further words -> (exit code, stdout, stderr)."""

    def check(settings, *words):
        (tmp_path / "run.yaml").write_text(yaml.safe_dump(settings))
        capfd.readouterr()
        return in_process("check_dataset", "--cfg_file", tmp_path / "run.yaml", *words), *capfd.readouterr()

    return check


@pytest.mark.parametrize("task", ["vqa", "gqa", "nlvr2", "retrieval", "captioning"])
def test_published_configurations_are_known_without_a_file(repository, capfd, task):
    code = in_process("check_dataset", "--cfg_file", repository / "configs" / f"{task}_train.yaml")
    out, err = capfd.readouterr()
    assert code == 1 and "File missing" in out, err
    asks = task not in ("retrieval", "captioning")
    assert ("caption" in out.lower()) == (not asks)
    assert (f"{task.upper()} splits" in out) == asks
    assert ("coco_caption/train.yaml" in out) == (task == "captioning")


def test_files_tell_the_task(check, tmp_path):
    (tmp_path / "nlvr2_train.json").write_text("[]")
    code, out, _ = check({"DATASET": {"DATA_DIR": str(tmp_path), "DEV": "val"}})
    assert code == 1 and "NLVR2 splits" in out and "No question with an answer" in out


def test_settings_tell_the_task(check, tmp_path):
    settings = {"DATASET": {"DATA_DIR": str(tmp_path), "DEV": "val"}, "INPUT": {"USE_PAIR": False}}
    assert "NLVR2 splits" in check(settings)[1]
    assert "captions" in check({"DATASET": {"DATA_DIR": str(tmp_path)}})[1]  # nothing but retrieval's


def test_what_is_not_clear_is_asked(check, tmp_path):
    settings = {"DATASET": {"DATA_DIR": str(tmp_path), "LABEL_FILE": str(tmp_path / "labels.json"), "DEV": "val"}}
    code, out, err = check(settings)
    assert code == 2 and not out and "data for GQA, VQA? Say which with --task" in err
    (tmp_path / "labels.json").write_text(json.dumps({"no": 0}))
    code, out, _ = check(settings, "--task", "gqa")
    assert code == 1 and "gqa_all_qla_train.json" in out


def test_referring_expressions(repository, check, tmp_path):
    """Clean as published; what is wrong with texts, objects, splits and a store that was cut off is told."""
    data = tmp_path / "data"
    shutil.copytree(repository / "tests/golden/vilbert_rec/data/referExpression", data)
    settings = {
        "DATASET": {"DATA_DIR": str(data), "DEV": "val", "TEST": "testA"},
        "INPUT": {"IMG_FEATURE_DIM": 2048, "MAX_REGION": 100},
    }
    code, out, err = check(settings)
    assert code == 0 and "RefExp splits" in out and "val: a proposal meets" in out, err
    assert check(settings, "--splits", "test1")[0] == 2
    path = data / "refcoco+" / "refs(unc).p"
    refs = pickle.loads(path.read_bytes())
    first, second, *_ = [ref for ref in refs if ref["split"] == "val" and len(ref["sentences"]) > 1]
    first["sentences"][0]["raw"] = " "
    first["sentences"][1]["sent_id"] = first["sentences"][0]["sent_id"]
    second["split"] = "train"
    path.write_bytes(pickle.dumps(refs, 2))
    instances = json.loads((data / "refcoco+" / "instances.json").read_text())
    (annotation,) = [each for each in instances["annotations"] if each["id"] == first["ann_id"]]
    annotation["bbox"] = [9, 9, 0, 0]
    (data / "refcoco+" / "instances.json").write_text(json.dumps(instances))
    code, out, _ = check(settings)
    sent_id = first["sentences"][0]["sent_id"]
    for title, words in {
        "Empty expressions: 1": f"sent_id {sent_id} of split 'val': ' '",
        "A sent_id stands twice: 1": f"sent_id {sent_id} of split 'val': 2 times",
        "Objects whose box has no area: 1": f"annotation {first['ann_id']} (of ref_id",
        "Leak: the same image in two splits: 1": f"image {second['image_id']} is in train and in val",
    }.items():
        assert title in out and words in out, out
    store = data / "refcoco+_resnet101_faster_rcnn_genome.lmdb" / "data.mdb"
    store.write_bytes(store.read_bytes()[:-4096])
    code, out, _ = check(settings)
    assert code == 1 and "cut off; copy or download it again" in out
