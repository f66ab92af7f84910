"""What VinVL-Paddle users have, unchanged: their YAML keys, .pd files, and paddle_model.bin, through real processes."""

import json
import shutil

import numpy as np
import paddle
import pytest
import starting

from oscar_paddle.datasets.captions.published import read_captions
from oscar_paddle.datasets.formats import torch_files
from oscar_paddle.models.checkpoints.weights import read_state

TRAIN_YAML = """
INPUT:
  NUM_CAPTIONS_PER_IMAGE_TRN: 5
  NUM_CAPTIONS_PER_IMAGE_DEV: 20
DATASET:
  NAME: 'COCO'
  DATA_DIR: 'data/coco_ir_paddle/'
  FEAT_FILE: 'data/model_0060000/features.tsv'
  TRAIN: 'train'
  DEV: 'minival'
  TEST: 'test'
OUTPUT:
  SAVE_NAME: 'finetune_retrieval'
  NUM_LABELS: 2
  CHECKPOINT_DIR: 'output/'
PRETRAINED:
  DIR: 'data/pretrained_model_paddle'
EVAL:
  EVAL_CAPTION_INDEX_FILE: 'minival_caption_indexs_top20.pd'
"""

TEST_YAML = """
INPUT:
  NUM_CAPTIONS_PER_IMAGE_TRN: 5
  NUM_CAPTIONS_PER_IMAGE_DEV: 5
DATASET:
  NAME: 'COCO'
  DATA_DIR: 'data/coco_ir_paddle/'
  TRAIN: 'train'
  DEV: 'minival'
  TEST: 'test'
OUTPUT:
  SAVE_NAME: 'finetune_retrieval'
  NUM_LABELS: 2
OPTIMIZATION:
  BATCH_SIZE: 32
EVAL:
  CHECKPOINT_DIR: 'exp/finetune_retrieval_22Y_01M_02D_23H/checkpoint-30'
  EVAL_CROSS_IMAGE: True
  EVAL_IMG_KEYS_FILE: test_img_keys.tsv
"""


@pytest.fixture(scope="module")
def folder(golden, tmp_path_factory):
    """The golden set as the port's conversion scripts and its training would have left it."""
    root = tmp_path_factory.mktemp("vinvl_paddle")
    data = root / "data" / "coco_ir_paddle"
    data.mkdir(parents=True)
    shutil.copytree(golden / "model_0060000", root / "data" / "model_0060000")
    shutil.copy(golden / "coco_ir" / "test_img_keys.tsv", data)
    for split in ("train", "minival", "test"):
        paddle.save(read_captions(golden / "coco_ir", split), str(data / f"{split}_captions.pd"))
    index = torch_files.load(golden / "coco_ir" / "minival_caption_indexs_top20.pt")
    paddle.save({k: json.loads(v) for k, v in index.items()}, str(data / "minival_caption_indexs_top20.pd"))

    state = {
        name: paddle.to_tensor(np.ascontiguousarray(value if "embeddings." in name else value.T))
        for name, value in read_state(golden / "checkpoint").items()
    }
    config = json.loads((golden / "checkpoint" / "config.json").read_text())
    config["img_feat_dim"], config["img_feat_type"] = config.pop("img_feature_dim"), config.pop("img_feature_type")
    trained = root / "exp" / "finetune_retrieval_22Y_01M_02D_23H" / "checkpoint-30"
    for place, content in (
        (root / "data" / "pretrained_model_paddle", state),
        (trained, {"epoch": 29, "model": state}),
    ):
        place.mkdir(parents=True)
        paddle.save(content, str(place / "paddle_model.bin"))
        (place / "config.json").write_text(json.dumps(config))
        shutil.copy(golden / "checkpoint" / "vocab.txt", place)
    (root / "train.yaml").write_text(TRAIN_YAML)
    (root / "test.yaml").write_text(TEST_YAML)
    return root


def run(repository, folder, tool, *words):
    return starting.run([repository / "tools" / f"{tool}.py", *words], cwd=folder)


@pytest.mark.slow
def test_evaluation(repository, folder, golden):
    words = "--cfg_file test.yaml --opts INPUT.MAX_SEQ_LEN 40 INPUT.MAX_REGION 12"
    done = run(repository, folder, "eval_retrieval", *words.split())
    assert done.returncode == 0, done.stderr
    expected = json.loads((golden / "expected.json").read_text())["cross"]["R"]
    for name, key in (("I2T", "i2t_retrieval"), ("T2I", "t2i_retrieval")):
        recalls = ", ".join(f"{expected[key][f'R@{k}']:.4f} @ R{k}" for k in (1, 5, 10))
        assert f"{name} Retrieval: {recalls}" in done.stdout.splitlines()


@pytest.mark.slow
def test_training(repository, folder):
    done = run(repository, folder, "train_retrieval", "--cfg_file", "train.yaml", "--opts", "OPTIMIZATION.EPOCHS", "2")
    assert done.returncode == 0, done.stderr
    run_folder = folder / "output" / "finetune_retrieval"
    records = [json.loads(line) for line in (run_folder / "metrics.jsonl").read_text().splitlines()]
    evaluations = [record for record in records if "metrics" in record]
    assert len(evaluations) == 2 and set(evaluations[0]["metrics"]["i2t_retrieval"]) == {"R@1", "R@5", "R@10"}
    assert (run_folder / "best" / "model.safetensors").is_file()
    assert (run_folder / "last").resolve() == run_folder / f"checkpoint-{records[-1]['step']}"
