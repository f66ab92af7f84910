"""The check of referring expressions: regions of a store that are no regions."""

from refer_case import refer_config

from oscar_paddle.datasets.checks.refer import check_refer
from oscar_paddle.datasets.refer_dataset import open_proposals
from oscar_paddle.datasets.scenes.referring import write_store


def test_boxes_and_features_of_a_store(repository, tmp_path):
    proposals = open_proposals(refer_config(repository))
    largest = max(proposals.ids, key=lambda image_id: len(proposals[image_id].boxes))

    def records():
        for image_id in proposals.ids:
            found = proposals[image_id]
            boxes, features = found.boxes.copy(), found.features.copy()
            if image_id == largest:
                boxes[:4] = [[9, 9, 3, 20], [5, 5, 5, 5], [5, 5, 5, 50], [-9, 0, 20, 20]]
                features[1] = 0
            size = {"image_w": found.width, "image_h": found.height, "num_boxes": len(boxes)}
            yield image_id, {**size, "boxes": boxes, "features": features}

    write_store(tmp_path / "wrong.lmdb", records(), "resnet101")
    cfg = refer_config(repository, DATASET__FEAT_FILE=str(tmp_path / "wrong.lmdb"))
    findings = check_refer(cfg, ("train", "val", "test")).findings
    counts = {kind: count for (kind, _), count in findings.counts.items()}
    assert counts == {"box_inverted": 1, "box_flat": 2, "box_outside": 1, "zero_region": 1}
