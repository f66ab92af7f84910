"""Rows that ran together, other column orders and other number types, in every layout with rows."""

import base64
import json

import numpy as np
import pytest

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.formats.array_files import from_bfloat16
from oscar_paddle.datasets.regions.layouts import open_source
from oscar_paddle.datasets.regions.offset_map import offset_map_of
from oscar_paddle.datasets.regions.values import box_values
from oscar_paddle.datasets.regions.vinvl import ObjectTags, RegionFeatures

WIDTH, HEIGHT = 192, 144
BOXES = np.array([[0, 0, 192, 144], [10, 20, 90, 100], [64, 32, 128, 96]], np.float32)


def b64(array):
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode()


def regions_of(seed):
    visual = np.random.default_rng(seed).random((3, 2048), np.float32) * 20
    return np.concatenate([visual, box_values(BOXES, WIDTH, HEIGHT)], axis=1)


def bits_of_bfloat16(array):
    return (np.ascontiguousarray(array, "<f4").view("<u4") >> 16).astype("<u2")


def vinvl(image_id, array):
    return [image_id, len(array), b64(array)]


@pytest.fixture(params=["vinvl", "offset map"])
def source_of(request, tmp_path):
    """Opens rows (lists of columns) under the ids 1, 2, ... in a layout that has rows."""

    def source_of(rows, **options):
        lines = ["\t".join(map(str, row)) + "\n" for row in rows]
        path = tmp_path / "train_img_frcnn_feats.tsv"
        path.write_text("".join(lines))
        if request.param == "offset map":
            starts = np.cumsum([0, *map(len, lines)]).tolist()
            places = {line.split("\t")[0]: start for line, start in zip(lines, starts, strict=False)}
            (tmp_path / offset_map_of(path)).write_text(json.dumps(places))
        return open_source(path, **options)

    return source_of


def test_rows_that_ran_together(source_of):
    rows = [vinvl(number, regions_of(number)) for number in range(1, 8)]
    first, second = rows[3], rows[4]
    half = first[2][: len(first[2]) // 2]
    source = source_of([*rows[:3], [first[0], first[1], f"{half}{second[0]}", *second[1:]], *rows[5:]])
    np.testing.assert_array_equal(source[3], regions_of(3))
    with pytest.raises(DataError) as caught:
        source[4]
    assert "image 4" in str(caught.value) and "5 columns, the others have 3: two rows run together" in str(caught.value)
    assert f"{half[-15:]}5" in str(caught.value)  # where the second one begins
    assert "row 4" in str(caught.value) or "byte" in str(caught.value)


def test_rows_cut_off_and_base64_in_another_column(source_of):
    rows = [vinvl(number, regions_of(number)) for number in range(1, 8)]
    rows[1] = rows[1][:2]
    rows[2] = [rows[2][0], rows[2][2], rows[2][1]]
    source = source_of(rows)
    with pytest.raises(DataError, match=r"image 2\): 2 columns, the others have 3: cut off"):
        source[2]
    with pytest.raises(
        DataError, match=r"image 3\): the base64 of the features is in column 2, in the others in column 3"
    ):
        source[3]


@pytest.mark.parametrize("dtype", ["<f2", "<f8", "bfloat16"])
def test_another_type_is_read_where_the_box_values_show_it(source_of, dtype):
    array = regions_of(1)
    stored = bits_of_bfloat16(array) if dtype == "bfloat16" else array.astype(dtype)
    expected = from_bfloat16(stored) if dtype == "bfloat16" else stored.astype(np.float32)
    found = source_of([vinvl(1, stored), vinvl(2, regions_of(2))])
    np.testing.assert_array_equal(found[1], expected)
    assert found[1].dtype == np.float32 and found[1][0, 2050] == 1
    np.testing.assert_array_equal(found[2], regions_of(2))


def test_another_type_is_named_where_nothing_shows_it(source_of):
    array = np.random.default_rng(0).random((3, 2048)) * 20
    source = source_of([vinvl(1, array.astype("<f2")), vinvl(2, array)], feature_dim=2048)
    with pytest.raises(DataError, match=r"have 2 bytes each, expected 4 \(float32\): float16 or bfloat16") as caught:
        source[1]
    assert "IMG_FEATURE_DIM" not in str(caught.value)
    with pytest.raises(DataError, match=r"have 8 bytes each, expected 4 \(float32\): float64"):
        source[2]
    widened = array.astype(np.float32).astype("<f8")  # no digits but those of float32
    np.testing.assert_array_equal(source_of([vinvl(1, widened)], feature_dim=2048)[1], widened.astype(np.float32))


def test_a_wrong_number_of_boxes_is_no_other_type(tmp_path):
    array, path = np.concatenate([regions_of(1), regions_of(2)]), tmp_path / "features.tsv"
    path.write_text(f"1\t3\t{b64(array)}\n2\t12\t{b64(array)}\n")
    for image_id in (1, 2):  # as many bytes as float64, and as float16
        with pytest.raises(DataError, match="another number of boxes"):
            RegionFeatures(path)[image_id]


# ---- LXMERT and bottom-up attention ----


def bottom_up(image_id, features, boxes=BOXES):
    return [image_id, WIDTH, HEIGHT, len(features), b64(boxes), b64(features)]


def with_classes(image_id, features, boxes=BOXES):
    return [*bottom_up(image_id, features, boxes), b64(np.ones((len(features), 1601), np.float32))]


def lxmert(image_id, features, boxes=BOXES):
    number = len(features)
    found = [b64(np.arange(number)), b64(np.ones(number, np.float32))] * 2
    return [image_id, HEIGHT, WIDTH, *found, number, b64(boxes), b64(features)]


LAYOUTS = pytest.mark.parametrize("layout", [bottom_up, with_classes, lxmert])


@LAYOUTS
def test_other_column_orders(source_of, layout):
    source = source_of([layout(number, regions_of(number)[:, :2048]) for number in (1, 2)])
    for number in (1, 2):
        np.testing.assert_array_equal(source[number], regions_of(number))
        assert source.number_of_regions(number) == 3
    alone = source_of([layout(1, regions_of(1)[:, :2048])], feature_dim=2048)
    np.testing.assert_array_equal(alone[1], regions_of(1)[:, :2048])
    complete = source_of([layout(1, regions_of(1), "")])  # all 2,054 values are there
    np.testing.assert_array_equal(complete[1], regions_of(1))


@LAYOUTS
@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        (np.zeros(0, np.float32), r"columns as LXMERT or .*; column [59], the boxes, has 0 bytes; expected 48"),
        (BOXES[:2], r"columns as .*, the boxes, has 32 bytes; expected 48 \(3 boxes x 4 values x 4 bytes, float32\)"),
        (BOXES / 192, r"the boxes lie between 0 and 1: fractions\? expected pixels, in a picture of 192 x 144"),
        (BOXES * 5, r"the box of region 1 is .*in a picture of 192 x 144"),
    ],
)
def test_boxes_that_are_none(source_of, layout, boxes, message):
    with pytest.raises(DataError, match=rf"image 1\): {message}"):
        source_of([layout(1, regions_of(1)[:, :2048], boxes)])[1]


def test_more_columns_of_numbers_stay_more_columns(source_of):
    rows = [[number, 3, "", "more", "", b64(regions_of(number))] for number in (1, 2)]
    np.testing.assert_array_equal(source_of(rows)[2], regions_of(2))


# ---- predictions.tsv ----


def test_tags_that_ran_together(tmp_path):
    path = tmp_path / "predictions.tsv"
    rows = [f'{number}\t[{{"class": "cat{number}"}}]' for number in range(1, 6)]
    path.write_text("\n".join([rows[0], rows[1][:9] + rows[2], *rows[3:]]) + "\n")
    tags = ObjectTags(path)
    assert tags[1] == "cat1" and tags[5] == "cat5"
    with pytest.raises(DataError, match=r"row 2 \(image 2\): 3 columns, the others have 2: two rows run together"):
        tags[2]
