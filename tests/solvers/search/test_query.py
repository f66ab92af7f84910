"""The best images for a text and the best captions for an image, against the reference's numbers."""

import json

import numpy as np
import pytest
from evaluations import golden_settings

from oscar_paddle.config.errors import DataError
from oscar_paddle.datasets.retrieval_dataset import build_evaluation_data
from oscar_paddle.models.oscar import OscarForClassification
from oscar_paddle.solvers.build import load_tokenizer, model_for_evaluation
from oscar_paddle.solvers.scoring.backends import EagerBackend
from oscar_paddle.solvers.search.query import Collection, image_id_of
from oscar_paddle.tools.pages.query import find_pictures, query_page
from oscar_paddle.tools.shell.command_line import load_task_config


@pytest.fixture(scope="module")
def collection(golden, tmp_path_factory):
    folder = tmp_path_factory.mktemp("query")
    (folder / "eval.yaml").write_text("")
    cfg = load_task_config(folder / "eval.yaml", golden_settings(golden, folder), "eval")
    tokenizer = load_tokenizer(cfg, cfg.EVAL.CHECKPOINT_DIR)
    data = build_evaluation_data(cfg, tokenizer, "test")
    backend = EagerBackend(model_for_evaluation(cfg, tokenizer, OscarForClassification))
    return Collection(data, tokenizer, backend=backend, batch_tokens=512)


@pytest.fixture(scope="module")
def expected(golden):
    """[images, captions] margins of the reference."""
    order = json.loads((golden / "expected.json").read_text())["cross"]["img_keys"]
    logits = np.load(golden / "expected_arrays.npz")["cross_logits"]
    return (logits[:, 1] - logits[:, 0]).reshape(len(order), -1)


def test_images_for_every_caption(collection, expected):
    data = collection.data
    for caption in range(0, data.num_captions, 7):
        answers = collection.images_for(data.captions[caption], 3)
        order = np.argsort(-expected[:, caption])[:3]
        assert [a.image_id for a in answers] == [data.image_ids[i] for i in order]
        assert [a.rank for a in answers] == [1, 2, 3]
        np.testing.assert_allclose([a.margin for a in answers], expected[order, caption], atol=2e-5)


def test_captions_for_every_image(collection, expected):
    data = collection.data
    for image, image_id in enumerate(data.image_ids):
        answers = collection.captions_for(image_id)
        order = np.argsort(-expected[image])[:5]
        assert [a.caption for a in answers] == [data.captions[c] for c in order]
        assert [a.image_id for a in answers] == [data.caption_ids[c][0] for c in order]
        np.testing.assert_allclose([a.margin for a in answers], expected[image][order], atol=2e-5)


def test_more_answers_than_there_are(collection):
    assert len(collection.images_for("a text that is in no collection", 1000)) == collection.data.num_images


def test_an_image_that_is_not_there(collection):
    with pytest.raises(
        DataError, match=r"image 4 is none of the 10 images of the collection \(.*, \.\.\.\); DATASET.TEST"
    ):
        collection.captions_for(4)


@pytest.mark.parametrize("text", ["391895", " 391895 ", "COCO_val2014_000000391895.jpg", "a/b7/000391895.PNG"])
def test_names_of_images(text):
    assert image_id_of(text) == 391895


def test_names_that_the_data_set_says():
    """photo_17.jpg is the picture of that name, whatever its number in the file."""
    names = {18: "photo_17.jpg", 17: "photo_16.jpg", 3: "a/dog.png", 4: "b/dog.png"}
    assert image_id_of("photo_17.jpg", names) == image_id_of("some/photo_17.png", names) == 18
    assert image_id_of("17", names) == 17 and image_id_of("b/dog.png", names) == 4
    assert image_id_of("7", {1: "7.jpg", 2: "8.jpg"}) == 1
    with pytest.raises(DataError, match="'photo_18.jpg': the name of no picture .such as 'photo_17.jpg'"):
        image_id_of("photo_18.jpg", names)
    with pytest.raises(DataError, match="'dog.png': the name of 2 pictures"):
        image_id_of("dog.png", names)


def test_no_name_of_an_image():
    for name in ("dog.jpg", "photo_17.jpg"):  # 17 of what?
        with pytest.raises(DataError, match=f"'{name}': expected an image id"):
            image_id_of(name)


def test_page(collection, tmp_path):
    image_module = pytest.importorskip("PIL.Image")
    data = collection.data
    for image_id in data.image_ids:
        image_module.new("RGB", (80, 60)).save(tmp_path / f"COCO_val2014_{image_id:012d}.jpg")
    text, image_id = "a <b>dog</b> & 'cat'", data.image_ids[3]
    queries = (text, collection.images_for(text)), (image_id, collection.captions_for(image_id, 50))
    page = query_page(data, find_pictures(tmp_path, data), *queries)
    assert page.count('src="data:image/jpeg;base64,') == 6 and page.count('class="boxes"') == 6
    assert "a &lt;b&gt;dog&lt;/b&gt;" in page and "<b>dog" not in page and "<script" not in page
    assert page.count("its own caption") == 5
    assert f"tags: {data.tags[3]}" in page
    assert "http://" not in page.replace("http://www.w3.org/", "") and "https://" not in page


def test_page_without_pictures(collection):
    answers = collection.images_for("a dog")
    page = query_page(collection.data, find_pictures("", collection.data), ("a dog", answers))
    assert "<img" not in page and f"picture {answers[0].image_id}" in page and "Show detected boxes" not in page
