"""Pictures of every kind that people have, under keys of their own."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets import pictures as module
from oscar_paddle.datasets.pictures import Pictures

RAMP = np.linspace(0, 255, 12 * 16 * 3).reshape(12, 16, 3).astype(np.uint8)


def encoded(image, kind="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def test_keys_of_a_folder_a_list_a_tsv_and_one_picture(tmp_path):
    image = encoded(Image.fromarray(RAMP))
    (tmp_path / "a" / "deep").mkdir(parents=True)
    (tmp_path / "a" / "deep" / "x.JPG").write_bytes(image)
    (tmp_path / "a" / "b.png").write_bytes(image)
    (tmp_path / "a" / "notes").write_text("no picture")
    (tmp_path / "list.txt").write_text("a/deep/x.JPG\n\na/b.png\n")
    (tmp_path / "t.tsv").write_text(
        f"k1\t[]\t{base64.b64encode(image).decode()}\nk2\t{base64.b64encode(image).decode()}\n"
    )
    assert Pictures(tmp_path / "a").keys == ["b", "deep/x"]
    assert Pictures(tmp_path / "list.txt").keys == ["a/deep/x", "a/b"]
    assert Pictures(tmp_path / "a" / "b.png").keys == ["b"]
    rows = Pictures(tmp_path / "t.tsv")
    assert rows.keys == ["k1", "k2"] and (np.asarray(rows.open(1)) == RAMP).all()


def test_two_pictures_of_one_name(tmp_path):
    for name in ("a.png", "a.jpg"):
        (tmp_path / name).write_bytes(encoded(Image.fromarray(RAMP)))
    with pytest.raises(DataError, match=r"a\.jpg and .*a\.png both have the key 'a'"):
        Pictures(tmp_path)
    (tmp_path / "t.tsv").write_text("k\tAA==\nk\tAA==\n")
    with pytest.raises(DataError, match="row 1 and row 2 both have the key 'k'"):
        Pictures(tmp_path / "t.tsv")


@pytest.mark.parametrize(
    ("image", "kind", "wanted"),
    [
        (Image.fromarray(RAMP), "PNG", RAMP),
        (Image.fromarray(RAMP), "WEBP", RAMP),
        (Image.fromarray(RAMP[:, :, 0]), "PNG", np.repeat(RAMP[:, :, :1], 3, axis=2)),
        (Image.fromarray(RAMP[:, :, 0].astype(np.uint16) * 257), "PNG", np.repeat(RAMP[:, :, :1], 3, axis=2)),
        (Image.fromarray(RAMP).convert("CMYK"), "TIFF", RAMP),
        (Image.fromarray(RAMP).convert("RGBA"), "PNG", RAMP),
    ],
)
def test_kinds(tmp_path, image, kind, wanted):
    """Grey, 16 bits, CMYK and transparent ones become the RGB that a person sees."""
    (tmp_path / "x.png").write_bytes(encoded(image, kind, **({"lossless": True} if kind == "WEBP" else {})))
    found = np.asarray(Pictures(tmp_path / "x.png").open(0)).astype(int)
    assert found.shape == (12, 16, 3) and np.abs(found - wanted).max() <= 1


def test_rotation_is_ignored_as_upstream_unless_asked_for(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    (tmp_path / "x.jpg").write_bytes(encoded(Image.fromarray(RAMP), "JPEG", exif=exif))
    assert Pictures(tmp_path).open(0).size == (16, 12)
    assert Pictures(tmp_path, upright=True).open(0).size == (12, 16)


def test_huge_ones_are_bounded(tmp_path, monkeypatch):
    Image.new("RGB", (2000, 400)).save(tmp_path / "x.jpg")
    monkeypatch.setattr(module, "DRAFT_PIXELS", 100_000)
    assert Pictures(tmp_path).open(0, long_side=100).size == (500, 100)  # decoded at a quarter
    monkeypatch.setattr(module, "MOST_PIXELS", 700_000)
    with pytest.raises(DataError, match=r"x\.jpg: 2000 x 400 pixels; expected at most 0 million"):
        Pictures(tmp_path).open(0)


def test_damaged_ones_are_named(tmp_path):
    whole = encoded(Image.fromarray(np.tile(RAMP, (20, 20, 1))), "JPEG")
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"cut\.jpg: damaged"):
        Pictures(tmp_path).open(0)
    (tmp_path / "cut.jpg").write_bytes(b"no picture at all")
    with pytest.raises(DataError, match=r"cut\.jpg: not a picture; expected a whole JPEG"):
        Pictures(tmp_path).open(0)
    (tmp_path / "t.tsv").write_text("k\t!!\n")
    with pytest.raises(DataError, match=r"t\.tsv row 1: the last column is not base64"):
        Pictures(tmp_path / "t.tsv").open(0)
    with pytest.raises(DataError, match="no such file; expected a folder of pictures"):
        Pictures(tmp_path / "nothing.jpg")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="no pictures here"):
        Pictures(tmp_path / "empty")
