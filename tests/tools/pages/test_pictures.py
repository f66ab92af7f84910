"""Pictures for pages: found, shrunk, with boxes over them."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.regions.values import box_values
from oscar_paddle.tools.pages.pictures import BYTES, MAX_BOXES, SIDE, Pictures, draw_boxes, open_pictures


def decoded(thumbnail):
    kind, _, data = thumbnail.data.partition(",")
    assert kind == "data:image/jpeg;base64"
    return base64.b64decode(data)


def test_pictures_are_found_by_id_and_shrunk(tmp_path):
    Image.new("L", (900, 600), 200).save(tmp_path / "COCO_val2014_000000391895.jpg")
    noise = np.random.default_rng(0).integers(0, 256, (500, 700, 3), np.uint8)
    Image.fromarray(noise).save(tmp_path / "12.png")
    Image.new("RGBA", (20, 10), (1, 2, 3, 0)).save(tmp_path / "named.webp")
    (tmp_path / "notes.txt").write_text("")
    pictures = Pictures(tmp_path)
    data = decoded(pictures.thumbnail(391895))
    with Image.open(io.BytesIO(data)) as image:
        assert max(image.size) == SIDE and image.size == (320, 213)
        assert abs(np.asarray(image.convert("L"), int) - 200).max() <= 2
    assert len(decoded(pictures.thumbnail(12))) < 1.3 * BYTES  # a picture of noise is the worst there is
    assert len(decoded(pictures.thumbnail("named"))) < 1000
    with pytest.raises(DataError, match="no picture of image 99"):
        pictures.thumbnail(99)


def test_pictures_are_found_by_name_where_the_data_set_names_them(tmp_path):
    for number in (16, 17):
        Image.new("RGB", (8, 8)).save(tmp_path / f"photo_{number}.png")
    pictures = Pictures(tmp_path, names={18: "folder/photo_17.jpg", 17: "photo_16.jpg", 5: "photo_4.jpg"})
    assert {key: path.name for key, path in pictures.files.items()} == {"18": "photo_17.png", "17": "photo_16.png"}
    assert "17" not in Pictures(tmp_path, names={17: "a.jpg"}).files  # whatever number a name ends in
    with pytest.raises(DataError, match="no picture of image 17; expected a.jpg"):
        Pictures(tmp_path, names={17: "a.jpg"}).thumbnail(17)
    Image.new("RGB", (8, 8)).save(tmp_path / "17.png")
    assert (
        Pictures(tmp_path, names={17: "a.jpg"}).files["17"].name == "17.png"
    )  # they are called by their ids after all


def test_pictures_of_one_name_are_told_apart_by_folder_and_ending_or_not_shown(tmp_path):
    (tmp_path / "a").mkdir()
    for name in ("a/x.png", "x.png", "y.jpg", "y.png", "z.png"):
        Image.new("RGB", (8, 8)).save(tmp_path / name)
    names = {1: "a/x.png", 2: "x.png", 3: "b/x.jpg", 4: "y.jpg", 5: "y.png", 6: "c/z.jpg"}
    found = {key: path.relative_to(tmp_path).as_posix() for key, path in Pictures(tmp_path, names=names).files.items()}
    assert found == {"1": "a/x.png", "2": "x.png", "4": "y.jpg", "5": "y.png", "6": "z.png"}


def test_unusable_pictures_are_named(tmp_path):
    with pytest.raises(DataError, match="no pictures here"):
        Pictures(tmp_path)
    with pytest.raises(DataError, match="no such folder"):
        Pictures(tmp_path / "elsewhere")
    Image.new("RGB", (300, 300)).save(tmp_path / "5.png")
    (tmp_path / "5.png").write_bytes((tmp_path / "5.png").read_bytes()[:90])
    with pytest.raises(DataError, match="5.png: cannot read this picture"):
        Pictures(tmp_path).thumbnail(5)


def test_names_of_the_data_set_decide_where_its_folder_is_known(tmp_path):
    """photo_17.jpg is not image 17 but what image_names.json says."""
    (tmp_path / "images").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "images" / "photo_17.png")
    (tmp_path / "image_names.json").write_text('{"3": "photo_17.jpg"}')
    assert list(open_pictures(tmp_path / "images").files) == ["photo_17"]
    assert list(open_pictures(tmp_path / "images", data_dir=tmp_path).files) == ["3"]
    (tmp_path / "eval").mkdir()
    (tmp_path / "eval" / "image_names.json").write_text('{"4": "photo_17.jpg"}')  # of what was evaluated
    assert list(open_pictures(tmp_path / "images", data_dir=tmp_path, eval_dir=tmp_path / "eval").files) == ["4"]


@pytest.mark.parametrize("arrays", ["pixels", "values"])
def test_boxes_of_ones_own_pictures(tmp_path, arrays):
    """Out of a folder of .npz, found by name; whether they are pixels or the last six of 2054 values."""
    (tmp_path / "features").mkdir()
    Image.new("RGB", (80, 40)).save(tmp_path / "photo_17.png")
    boxes, features = np.array([[8, 4, 40, 20], [0, 0, 80, 40]], np.float32), np.ones((2, 2048), np.float32)
    if arrays == "pixels":
        found = {"features": features, "boxes": boxes, "image_w": 80, "image_h": 40}
    else:
        found = {"features": np.concatenate([features, box_values(boxes, 80, 40)], axis=1)}
    np.savez(tmp_path / "features" / "photo_17.npz", **found, tags=["cell phone", "dog"])
    (tmp_path / "image_names.json").write_text('{"3": "photo_17.jpg"}')
    pictures = open_pictures(tmp_path, tmp_path / "features", tmp_path)
    drawing = pictures.drawing(3)
    assert (drawing.width, drawing.height) == (80, 40)
    assert [(tag, pytest.approx(box)) for tag, box, _ in drawing.boxes] == [
        ("cell phone", (8, 4, 32, 16)),
        ("dog", (0, 0, 80, 40)),
    ]
    np.savez(tmp_path / "features" / "photo_17.npz", **found, tags="cell phone dog")  # of no region in particular
    assert [tag for tag, *_ in pictures.drawing(3).boxes] == ["", ""]
    with pytest.raises(DataError, match="elsewhere/predictions.tsv: no such file"):
        open_pictures(tmp_path, tmp_path / "elsewhere" / "features")


def test_boxes_are_drawn_with_their_tags_beside_them():
    """Above the box where there is room, right-aligned on the right side, never without area, not too many."""
    drawing = draw_boxes(
        [("low", [10, 50, 60.4, 90]), ("high", [70, 2, 70, 2])] + 30 * [("more", [0, 0, 9, 9])], 100, 100
    )
    assert (drawing.height, drawing.width, drawing.letters) == (100, 100, pytest.approx(7))
    low, high = drawing.boxes[:2]
    assert low == ("low", (10, 50, pytest.approx(50.4), 40), (10, pytest.approx(47.9), "start"))
    assert high == ("high", (70, 2, 1, 1), (70, pytest.approx(9), "end"))
    assert len(drawing.boxes) == MAX_BOXES
