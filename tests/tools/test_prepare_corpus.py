"""tools/prepare_corpus.py: captions, questions, tags and features of the layouts we read to a corpus that trains."""

import json
import shutil
from functools import partial

import numpy as np
import pytest
from official import write_regions, write_vqa
from starting import said_in_process

from oscar_paddle.config.loader import load_config
from oscar_paddle.datasets.captions.own_pictures import read_split_captions
from oscar_paddle.datasets.checks.corpora import check_corpora
from oscar_paddle.datasets.pretraining_dataset import build_pretraining_data
from oscar_paddle.datasets.regions.layouts import open_regions
from oscar_paddle.datasets.tokenization import build_tokenizer


@pytest.fixture
def tool(capfd):
    """Function: words -> (exit code, stdout, stderr) of tools/prepare_corpus.py."""
    return partial(said_in_process, capfd, "prepare_corpus")


@pytest.fixture
def opened(tmp_path, repository):
    """Function: folder of a corpus, --opts words -> PretrainingDataset, after the check found nothing wrong with it."""

    def opened(folder, *opts):
        (tmp_path / "run.yaml").write_text("{}")
        words = ("DATASET.DATA_DIR", folder, "CORPUS.DATASET_FILE", "corpus.yaml", *opts)
        cfg = load_config(tmp_path / "run.yaml", [str(word) for word in words])
        findings = check_corpora(cfg).findings
        assert findings.total() == 0, findings.groups(True)
        tokenizer = build_tokenizer(str(repository / "tests" / "golden" / "retrieval" / "checkpoint"), True)
        return build_pretraining_data(cfg, tokenizer, "corpus.yaml")

    return opened


def rows_of(data):
    return [data.corpus.columns(document) for document in range(len(data.corpus))]


def ids(data, text):
    start = data.corpus.tokens.starts(text)
    return data.corpus.tokens.ids[start : start + data.corpus.tokens.lengths(text)].tolist()


def test_captions_with_features_that_stay_where_they_are(tool, opened, tmp_path, repository):
    shutil.copytree(repository / "tests" / "golden" / "retrieval", tmp_path / "data")
    captions, features = tmp_path / "data" / "coco_ir", tmp_path / "data" / "model_0060000"
    made = tmp_path / "made"
    code, out, err = tool("--output_dir", made, "--features", "coco", features, "--captions", "coco", captions, "train")
    assert code == 0, err
    found, regions = read_split_captions(captions, "train"), open_regions(captions, "train")
    tags = regions.open_tags(captions, "train", "vg")
    expected = [(f"coco_{key}", text) for key, texts in found.items() if tags[key] for text in texts]
    assert f"coco: {len(expected):,} captions" in out and f"{made}: ready as DATASET.DATA_DIR" in out
    data = opened(made)
    assert [(image, text) for image, _, text in rows_of(data)] == [(i, " ".join(t.split())) for i, t in expected]
    assert not (made / "features").exists()
    image = int(data.corpus.columns(0)[0].removeprefix("coco_"))
    np.testing.assert_array_equal(data.regions[int(data.corpus.image[0])], regions[image])
    encode = build_tokenizer(str(repository / "tests" / "golden" / "retrieval" / "checkpoint"), True).encode
    assert ids(data, data.corpus.text_b(0)) == encode(tags[image])[: len(ids(data, data.corpus.text_b(0)))]


def test_questions_and_features_of_another_layout(tool, opened, tmp_path):
    """VQA's own files, one .npz a picture: the features are copied, the commonest answer is the second text."""
    (tmp_path / "source").mkdir()
    files, images = write_vqa(tmp_path / "source")
    write_regions(tmp_path / "regions", images)
    made = tmp_path / "made"
    words = ("--output_dir", made, "--features", "coco", tmp_path / "regions")
    code, out, err = tool(*words, "--questions", "coco", "vqa", *files["train"])
    assert code == 0, err
    assert "coco: 8 questions; 8 images" in out
    data = opened(made)
    assert rows_of(data)[0] == ["coco_1", "coco_qa_1_0", "What colour is thing 1?"]
    assert len(data.corpus.questions) == 8
    source = open_regions(tmp_path, "train", str(tmp_path / "regions"))
    for image, key in enumerate(map(data.corpus.image_key, data.regions.ids)):
        np.testing.assert_array_equal(data.regions[image], source[int(key.removeprefix("coco_"))])
    answers = [json.loads(line.split("\t")[1]) for line in (made / "labels_coco" / "QA_fileB.tsv").open()]
    assert answers[:3] == [{"labels": ["blue"]}, {"labels": ["green"]}, {"labels": ["red"]}]
    code, _, err = tool(*words, "--questions", "coco", "vqa", *files["train"])
    assert code == 1 and f"{made}: is already there; choose another --output_dir" in err


def test_several_data_sets_and_several_files_of_one(tool, opened, tmp_path):
    (tmp_path / "source").mkdir()
    files, images = write_vqa(tmp_path / "source")
    write_regions(tmp_path / "regions", images)
    (tmp_path / "mine" / "features").mkdir(parents=True)
    write_regions(tmp_path / "mine" / "features", ["a_dog", "b"])
    captions = {"a_dog.jpg": ["A dog.", "A\tbig dog."], "b.jpg": ["Blue."]}
    lines = [json.dumps({"image": name, "captions": texts, "split": "train"}) for name, texts in captions.items()]
    (tmp_path / "mine" / "pictures.jsonl").write_text("\n".join(lines))
    made = tmp_path / "made"
    words = ["--output_dir", made, "--features", "own", tmp_path / "mine", "--features", "coco", tmp_path / "regions"]
    words += ["--captions", "own", tmp_path / "mine", "train", "--questions", "coco", "vqa", *files["train"]]
    code, out, err = tool(*words, "--questions", "coco", "vqa", *files["val"])
    assert code == 0, err
    assert "own: 3 captions; 2 images" in out and "coco: 12 questions; 12 images" in out
    data = opened(made)
    assert [text for image, _, text in rows_of(data) if image.startswith("own_")] == ["A dog.", "A big dog.", "Blue."]
    assert len(data.corpus.questions) == 12


def test_oscar_v1(tool, opened, tmp_path, repository):
    v1, made = repository / "tests" / "golden" / "oscar_v1", tmp_path / "made"
    words = ("--output_dir", made, "--features", "coco", v1, "--captions", "coco", v1, "train", "--feature_dim", 10)
    code, out, err = tool(*words)
    assert code == 0, err
    data, captions = opened(made, "INPUT.IMG_FEATURE_DIM", 10), read_split_captions(v1, "train")
    source = open_regions(v1, "train", feature_dim=10)
    tags = source.open_tags(v1, "train", "vg")
    texts = {kind: [t for key, group in captions.items() if bool(tags[key]) == kind for t in group] for kind in (0, 1)}
    assert [text for _, _, text in rows_of(data)] == texts[1] and texts[0]
    assert f"{len(texts[0])} without tags" in out
    for image, key in enumerate(map(data.corpus.image_key, data.regions.ids)):
        np.testing.assert_array_equal(data.regions[image], source[int(key.removeprefix("coco_"))])


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--captions", "gqa", "x", "train"), 2, "--captions gqa: --features names coco"),
        (("--questions", "coco", "nlvr2", "x"), 2, "--questions coco nlvr2 x: expected one of gqa, vqa, and its files"),
        ((), 2, "--features coco: has neither --captions nor --questions"),
        (("--features", "coco", "x"), 2, "--features coco: is there twice"),
        (("--features", "sbu", "x"), 2, "--features sbu: expected a name of letters and digits, and none of googlecc"),
        (("--features", "my_own", "x"), 2, "--features my_own: expected a name of letters and digits"),
        (("--captions", "coco", "nowhere", "train"), 1, "nowhere"),
        (("--questions", "coco", "vqa", "nowhere.json"), 1, "nowhere.json: no such file"),
    ],
)
def test_what_cannot_be_made_is_said_and_nothing_is_left(tool, tmp_path, words, code, said):
    write_regions(tmp_path / "regions", [1])
    made = tmp_path / "made"
    found, _, err = tool("--output_dir", made, "--features", "coco", tmp_path / "regions", *words)
    assert (found, said in err) == (code, True), err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["regions"]


def test_an_image_without_features(tool, tmp_path):
    (tmp_path / "source").mkdir()
    files, images = write_vqa(tmp_path / "source")
    write_regions(tmp_path / "regions", images[:3])
    words = ("--output_dir", tmp_path / "made", "--features", "coco", tmp_path / "regions")
    code, _, err = tool(*words, "--questions", "coco", "vqa", *files["train"])
    assert code == 1 and "train_questions.json record 3: " in err and "image 4 has no features" in err
    assert not (tmp_path / "made").exists()


def test_two_names_that_would_be_one(tool, tmp_path):
    """ "_" parts the fields of a key, so it is no part of an id."""
    write_regions(tmp_path / "regions", ["a_b", "a-b"])
    records = [{"image": f"{name}.jpg", "question": "What?", "answer": "red"} for name in ("a_b", "a-b")]
    (tmp_path / "mine.jsonl").write_text("\n".join(map(json.dumps, records)))
    words = ("--output_dir", tmp_path / "made", "--features", "own", tmp_path / "regions")
    code, _, err = tool(*words, "--questions", "own", "vqa", tmp_path / "mine.jsonl")
    assert code == 1 and "the images a_b and a-b both become a-b; rename one" in err
