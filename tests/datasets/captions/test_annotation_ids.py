"""Annotation ids of captions, from the three kinds of file that people have."""

import json
from types import SimpleNamespace

import pytest

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.captions.annotation_ids import read_annotation_ids

DATA = SimpleNamespace(
    caption_ids=[(391895, 0), (391895, 1), (522418, 0)],
    captions=["A man on a bike.", "a  Dirt road", "A woman cuts a cake"],
)
IDS = [770337, 771687, 681330]

BY_ORDER = {"391895": [770337, 771687, 5], "522418": [681330]}
COCO = {
    "annotations": [
        {"image_id": 522418, "id": 681330, "caption": "A woman cuts a cake. "},
        {"image_id": 391895, "id": 771687, "caption": "A dirt road."},
        {"image_id": 391895, "id": 770337, "caption": "A man on a bike."},
    ]
}
KARPATHY = {
    "images": [
        {
            "cocoid": 391895,
            "sentences": [{"sentid": 771687, "raw": "A dirt road."}, {"sentid": 770337, "raw": "A man on a bike"}],
        },
        {"cocoid": 522418, "sentences": [{"sentid": 681330, "raw": "A woman cuts a cake"}]},
    ]
}


@pytest.fixture
def write(tmp_path):
    def write(content):
        path = tmp_path / "ids.json"
        path.write_text(content if isinstance(content, str) else json.dumps(content))
        return path

    return write


@pytest.mark.parametrize("content", [BY_ORDER, COCO, KARPATHY], ids=["by order", "COCO", "Karpathy"])
def test_three_formats(write, content):
    assert read_annotation_ids(write(content), DATA) == IDS


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not a file of caption annotation ids"),
        ([1, 2], "not a file of caption annotation ids"),
        ({"images": [{"id": 1}]}, "not a file of caption annotation ids"),
        ({"391895": [1, 2]}, "no annotation id for caption 0 of image 522418"),
        ({"391895": [1], "522418": [2]}, "no annotation id for caption 1 of image 391895"),
        ({"annotations": COCO["annotations"][:2]}, "no annotation id for caption 0 of image 391895 .'A man on"),
    ],
)
def test_bad_files(write, content, message):
    path = write(content)
    with pytest.raises(DataError, match=f"ids.json: {message}"):
        read_annotation_ids(path, DATA)


def test_no_file(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        read_annotation_ids(tmp_path / "ids.json", DATA)


def test_equal_captions_of_one_image_have_ids_of_their_own(write):
    data = SimpleNamespace(caption_ids=[(1, 0), (1, 1)], captions=["A cat.", "a cat"])
    content = {"annotations": [{"image_id": 1, "id": number, "caption": "A cat"} for number in (7, 8)]}
    assert read_annotation_ids(write(content), data) == [7, 8]
