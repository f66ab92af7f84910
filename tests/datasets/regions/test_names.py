"""Names of pictures as image ids, images without detections, and files of another kind, in every layout."""

import base64
import io
import json
import os

import numpy as np
import pytest
from PIL import Image

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.formats.pickle_writer import write_pickle
from oscar_paddle.datasets.formats.torch_writer import write_torch_file, write_torch_tensors
from oscar_paddle.datasets.regions.layouts import open_regions, open_source
from oscar_paddle.datasets.regions.packed import PackedFeatures
from oscar_paddle.datasets.regions.packing import pack, verify
from oscar_paddle.datasets.regions.source import EmptyImage

NAMES = {1: "a/p_1.jpg", 2: "a/p_2.jpg", 3: "b/p_3.jpg"}


def regions_of(number, count=2):
    return np.full((count, 2054), number, np.float32) / 10


def tsv(folder, images):
    rows = [f"{key}\t{len(array)}\t{base64.b64encode(array.tobytes()).decode()}\n" for key, array in images.items()]
    (folder / "features.tsv").write_text("".join(rows))
    tags = [f'{key}\t[{{"class": "of {key}"}}]\n' for key in images]
    (folder / "predictions.tsv").write_text("".join(tags))
    return folder / "features.tsv"


def offset_map(folder, images):
    path = tsv(folder, images)
    lines = path.read_bytes().splitlines(keepends=True)
    starts = [sum(map(len, lines[:number])) for number in range(len(lines))]
    (folder / "features_offset_map.json").write_text(json.dumps(dict(zip(map(str, images), starts, strict=True))))
    return path


def npz(folder, images):
    for key, array in images.items():
        (folder / "features" / f"{key}.npz").parent.mkdir(exist_ok=True, parents=True)
        np.savez(folder / "features" / f"{key}.npz", features=array, tags=[f"of {key}"])
    return folder / "features"


def npy(folder, images):
    path = folder / "train_img_frcnn_feats"
    path.mkdir()
    for key, array in images.items():
        np.save(path / f"{key}.npy", array)
    write_torch_file(folder / "train_vg_labels.pt", {key: f"of {key}" for key in images})
    return path


def pt(folder, images):
    write_torch_tensors(folder / "train_img_frcnn_feats.pt", images)
    write_torch_file(folder / "train_vg_labels.pt", {key: f"of {key}" for key in images})
    return folder / "train_img_frcnn_feats.pt"


def packed(folder, images):
    pack(open_source(npz(folder, images)), folder / "features.packed", progress=False)
    return folder / "features.packed"


def alone(folder, images):
    path = packed(folder, images)
    (folder / "features").rename(folder / "elsewhere")
    return path


LAYOUTS = pytest.mark.parametrize("layout", [tsv, offset_map, npz, npy, pt, packed, alone])


def opened(path, **options):
    return PackedFeatures(path, **options) if path.suffix == ".packed" else open_source(path, **options)


@LAYOUTS
@pytest.mark.parametrize("ending", ["", ".jpg"])
def test_names_as_image_ids(layout, ending, tmp_path):
    source = opened(layout(tmp_path, {f"p_{number}{ending}": regions_of(number) for number in (3, 1, 2)}))
    assert 1 not in source
    source.use_names(NAMES)
    assert sorted(source.image_ids()) == [1, 2, 3]
    for number in NAMES:
        assert number in source and source.number_of_regions(number) == 2
        np.testing.assert_array_equal(source[number], regions_of(number))
    if layout is not offset_map:  # the question tasks have their tags elsewhere
        tags = source.open_tags(tmp_path, "train", "vg")
        assert tags[3] == f"of p_3{ending}" and 3 in tags and 4 not in tags
    source.use_names({**NAMES, 17: "p_17.jpg"})
    with pytest.raises(DataError, match=r"p_17 \(image 17\)") as caught:
        source[17]
    assert f"p_{source.image_ids()[0]}{ending}" in str(caught.value)  # so do the ids here look


@LAYOUTS
def test_two_pictures_that_lead_to_one_place(layout, tmp_path):
    source = opened(layout(tmp_path, {"img_00": regions_of(1)}))
    with pytest.raises(DataError, match=r"a/img_00.jpg \(image 1\) and b/img_00.jpg \(image 2\) both read .*img_00"):
        source.use_names({1: "a/img_00.jpg", 2: "b/img_00.jpg"})


@pytest.mark.parametrize("layout", [tsv, npz, packed])
def test_the_folder_comes_first(layout, tmp_path):
    source = opened(layout(tmp_path, {key: regions_of(n) for n, key in enumerate(("img_00", "a/img_00", "b/img_00"))}))
    source.use_names({1: "pictures/a/img_00.jpg", 2: "./b\\img_00.jpg", 3: "c/img_00.jpg"})
    for image_id, number in ((1, 1), (2, 2), (3, 0)):
        np.testing.assert_array_equal(source[image_id], regions_of(number))


def test_ids_are_not_taken_for_names(tmp_path):
    """Pictures 1 and 2 are called 2.jpg and 1.jpg: rows are for image ids, files for names."""
    images = {1: regions_of(1), 2: regions_of(2)}
    for layout, first in ((tsv, 1), (npz, 2)):
        source = opened(layout(tmp_path, images))
        source.use_names({1: "2.jpg", 2: "1.jpg"})
        np.testing.assert_array_equal(source[1], regions_of(first))


@LAYOUTS
def test_a_missing_image_shows_how_ids_look(layout, tmp_path):
    source = opened(layout(tmp_path, {"COCO_val2014_000003000000": regions_of(1)}))
    with pytest.raises(DataError, match="image 3000000.*COCO_val2014_000003000000"):
        source[3000000]


# ---- nothing was detected ----


@LAYOUTS
@pytest.mark.parametrize("width", [0, 2054])
def test_images_without_detections(layout, width, tmp_path):
    images = {"1": regions_of(1), "2": np.zeros((0, width), np.float32), "3": regions_of(3)}
    source = opened(layout(tmp_path, images), max_region=1)
    assert [source.number_of_regions(number) for number in (1, 2, 3)] == [2, 0, 2]
    for read in (source.read, source.complete):
        with pytest.raises(EmptyImage, match=r"image 2\b.*: number of boxes is 0; expected at least 1"):
            read(2)
        found = read(2, allow_empty=True)
        assert found.shape == (0, 2054) and found.dtype == np.float32
    with pytest.raises(EmptyImage):
        source[2]
    assert source.read(1, allow_empty=True).shape == (1, 2054)
    assert source.fingerprint([1, 2]) == open_source(tsv(tmp_path, images)).fingerprint([1, 2])


def test_empty_images_are_packed(tmp_path):
    source = open_source(tsv(tmp_path, {1: regions_of(1), 2: regions_of(2, 0)}))
    path = tmp_path / "features.packed"
    pack(source, path, progress=False)
    assert verify(source, PackedFeatures(path), progress=False) == 0


# ---- files of another kind ----


def picture(kind):
    buffer = io.BytesIO()
    Image.new("RGB", (9, 9)).save(buffer, kind)
    return buffer.getvalue()


def array_bytes():
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((12, 9, 2054), "f4"))
    return buffer.getvalue()


def archive_bytes():
    buffer = io.BytesIO()
    np.savez(buffer, x=np.zeros(3))
    return buffer.getvalue()


def pickle_bytes():
    buffer = io.BytesIO()
    write_pickle(buffer, {"a": 1}, 4)
    return buffer.getvalue()


FOREIGN = [
    ("test_ims.npy", array_bytes(), r"a NumPy \.npy file"),
    ("all.npz", archive_bytes(), "a zip archive"),
    ("all.h5", b"\x89HDF\r\n\x1a\n" + bytes(90), "an HDF5 file"),
    ("data.mdb", bytes(16) + b"\xde\xc0\xef\xbe" + b"\t" * 90, "an LMDB database"),
    ("captions.jsonl", b'{"image": "a.jpg",\t"captions": []}\n', "JSON text"),
    ("features.csv", b"1,2,3\n", "its rows have 1 columns with tabs between them, fewer than 3"),
    ("hw.tsv", b'1\t[{"height": 9, "width": 9}]\n', "its rows have 2 columns with tabs between them, fewer than 3"),
    ("features.pkl", pickle_bytes(), "a pickle"),
    ("features.bin", b"\x01\0\x02" * 900, "its rows have 1 columns"),
    ("weights.safetensors", (90).to_bytes(8, "little") + b"{" + b" " * 90, "a safetensors file"),
    ("features.parquet", b"PAR1\t" + bytes(90), "a Parquet file"),
    ("features.tsv", b"version https://git-lfs.github.com/spec/v1\n", "a Git LFS pointer"),
    *(
        (f"dog.{kind.lower()}", picture(kind), rf"a picture \({kind}\)")
        for kind in ("JPEG", "PNG", "GIF", "BMP", "TIFF")
    ),
    ("dog.webp", b"RIFF\x24\0\0\0WEBPVP8 \t" + bytes(30), r"a picture \(WebP\)"),
]


@pytest.mark.parametrize(("name", "content", "what"), FOREIGN, ids=[name for name, *_ in FOREIGN])
def test_files_of_another_kind_are_named(name, content, what, tmp_path):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(
        DataError, match=rf"{name}: {what}.*; the regions are read from a \.tsv of VinVL, LXMERT"
    ) as caught:
        open_regions(tmp_path, "test", str(tmp_path / name))
    assert "a folder of <image id>.npy or <name>.npz files" in str(caught.value)
    assert os.listdir(tmp_path) == [name]  # no index beside it


def test_a_folder_of_pictures(tmp_path):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "dog.jpg").write_bytes(picture("JPEG"))
    with pytest.raises(DataError, match=r"images: no such file, only dog\.jpg; expected the region features"):
        open_regions(tmp_path, "test", str(tmp_path / "images"))
