"""What the check of a pre-training corpus finds: file, row, key and what to do."""

import json

import pytest
from corpora import write_corpus

from oscar_paddle.config.errors import ConfigError
from oscar_paddle.config.loader import load_config
from oscar_paddle.datasets.checks.corpora import check_corpora


@pytest.fixture
def folder(tmp_path):
    write_corpus(tmp_path)
    for path in list(tmp_path.rglob("features.tsv")):
        starts, at = [], 0
        for line in path.read_bytes().splitlines(keepends=True):
            starts.append(at)
            at += len(line)
        path.with_suffix(".lineidx").write_text("".join(f"{start}\n" for start in starts))
    return tmp_path


@pytest.fixture
def check(folder):
    """Function: --opts words -> QuestionCheck."""
    (folder / "run.yaml").write_text("{}")

    def check(*opts, splits=None):
        words = ("DATASET.DATA_DIR", folder, "CORPUS.DATASET_FILE", "corpus/corpus.yaml", "INPUT.IMG_FEATURE_DIM", 4)
        return check_corpora(load_config(folder / "run.yaml", [str(word) for word in (*words, *opts)]), splits)

    return check


def damage(folder, name, before, after):
    path = folder / name
    assert before in path.read_text()
    path.write_text(path.read_text().replace(before, after, 1))


def test_a_clean_corpus(check, folder):
    before = sorted(folder.rglob("*"))
    found = check()
    assert found.findings.total() == found.findings.total(False) == 0
    assert found.sections == [("Corpora", [("corpus.yaml: rows / questions / images", "8 / 2 / 6", "")])]
    assert sorted(found.regions) == ["coco_7", "coco_8", "gqa_7", "gqa_9", "oi_a1", "oi_b2"]
    assert sorted(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("name", "before", "after", "kind", "row", "said"),
    [
        ("corpus.tsv", "\tA man.", "", "bad_corpus_row", 2, "2 columns; expected image key"),
        ("corpus.tsv", "A man.", " ", "bad_corpus_row", 2, "the text of 'coco_8' is empty"),
        ("corpus.tsv", "coco_8\tcoco_8", "vg_8\tvg_8", "bad_corpus_row", 2, "unknown data set 'vg'"),
        ("corpus.tsv", "coco_8\tcoco_8\tA man.", "", "bad_corpus_row", 2, "1 column"),
        ("corpus.tsv", "coco_8\tcoco_8", "coco_8\tcoco_88", "no_label", None, "coco_88, which "),
        ("corpus.tsv", "gqa_qa_9_12", "gqa_qa_9_13", "no_label", None, "gqa_qa_9_13, which "),
        ("corpus.tsv", "coco_8\tcoco_8", "coco_88\tcoco_8", "no_features", None, "coco_88, which "),
        ("corpus.tsv", "oi_2_b2", "oi_3_b2", "no_chunk", None, "no such file; "),
        ("corpus.yaml", "coco_gqa_oi", "coco_gqa_vg", "bad_corpus", None, "corpus: unknown data set 'vg'"),
        ("corpus.yaml", "file: corpus.tsv", "file: other.tsv", "missing_file", None, "no such file"),
        ("labels_coco/predictions_gt.tsv", '"man"', '""', "no_label", None, "coco_8, which "),
        ("labels_coco/predictions_gt.tsv", '"man"', "3", "bad_label_row", 1, "image '8': an object of 'objects'"),
        ("labels_gqa/QA_fileB.tsv", '["red"]', "3", "bad_label_row", 0, "answer '11': 'labels' is a int"),
        ("../features/coco/features.tsv", "8\t", "8\tx", "bad_row", 1, "image coco_8: number of boxes is"),
    ],
)
def test_what_is_wrong_is_found(folder, check, name, before, after, kind, row, said):
    damage(folder / "corpus", name, before, after)
    found = check().findings
    (first,) = [examples[0] for (each, _), examples in found.examples.items() if each == kind]
    assert first.row == row and first.text.startswith(said)
    assert found.total() <= 3  # what follows of it may be found, too


def test_missing_files(folder, check):
    (folder / "corpus" / "labels_gqa" / "QA_fileB.tsv").unlink()
    (folder / "features" / "coco" / "features.tsv").unlink()
    counts = check().findings.counts
    assert {(kind, path.rpartition("/")[2]) for kind, path in counts} == {
        ("missing_file", "QA_fileB.tsv"),
        ("missing_file", "features.tsv"),
    }


def test_settings_that_do_not_fit(folder, check):
    assert check("CORPUS.TEXTB_SAMPLE_MODE", 2).findings.total() == 0
    damage(folder / "corpus", "corpus.tsv", "gqa_qa_9_12", "gqa_9")
    (kind,) = check("CORPUS.TEXTB_SAMPLE_MODE", 2).findings.counts
    assert kind[0] == "few_answers"
    held_out = ("CORPUS.TEXTB_SAMPLE_MODE", 2, "CORPUS.DEV_DATASET_FILE", "corpus/corpus.yaml")
    assert [kind for kind, _ in check(*held_out, splits=["dev"]).findings.counts] == ["few_answers"]
    (folder / "corpus" / "corpus.tsv").write_text("coco_7\tcoco_7\tA dog.\ncoco_7\tcoco_7\tA cat.\n")
    assert [kind for kind, _ in check().findings.counts] == ["one_image"]
    with pytest.raises(ConfigError, match="pre-training has train, dev"):
        check(splits=["test"])
    with pytest.raises(ConfigError, match="set CORPUS.DATASET_FILE"):
        check(splits=["dev"])


def test_chunks_that_are_not_read_may_be_missing(folder, check):
    (folder / "features" / "oi" / "2" / "features.tsv").unlink()
    assert check().findings.total() == 1
    assert check("CORPUS.CHUNK_END_ID", 2).findings.total() == 0


def test_rows_of_unlisted_data_sets_and_features_without_an_index(folder, check):
    with open(folder / "corpus" / "corpus.tsv", "a") as file:
        file.write("flickr30k_1\tflickr30k_1\tA dog.\nsbu_0_1\tsbu_1\tA dog.\n\n\n")
    (folder / "features" / "coco" / "features.lineidx").unlink()
    (folder / "features" / "gqa" / "features.lineidx").unlink()
    (folder / "features" / "gqa" / "imageid2idx.json").unlink()
    found = check().findings
    assert found.total() == 0 and not (folder / "features" / "coco" / "features.lineidx").exists()
    assert sorted(kind for kind, _ in found.counts.elements()) == ["no_lineidx"] * 2 + ["unlisted"] * 2


def test_many_missing_ids_are_counted(folder, check):
    with open(folder / "corpus" / "corpus.tsv", "a") as file:
        file.writelines(f"coco_{n}\tcoco_7\tA dog.\n" for n in range(100, 120))
    found = check().findings
    assert found.total() == 20 and len(next(iter(found.examples.values()))) == 5
    assert json.dumps([example.text for each in found.examples.values() for example in each]).count("asks for") == 5
