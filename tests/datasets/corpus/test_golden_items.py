"""Documents, sampled items and masks of the reference's corpus, draw by draw."""

import json
import shutil

import numpy as np
import pytest
from replayed import Replayed

from oscar_paddle.config.loader import load_config
from oscar_paddle.datasets.pretraining_dataset import Rules, build_pretraining_data
from oscar_paddle.datasets.tokenization import build_tokenizer


@pytest.fixture(scope="module")
def golden(repository):
    folder = repository / "tests" / "golden" / "pretraining"
    arrays = dict(np.load(folder / "expected_arrays.npz"))
    return folder, json.loads((folder / "expected.json").read_text()), arrays


@pytest.fixture(scope="module")
def build(golden, tmp_path_factory):
    """Function: --opts words -> the data set of the golden corpus, or of its second one."""
    folder, place = golden[0], tmp_path_factory.mktemp("golden")
    shutil.copytree(folder / "data", place / "data")
    (place / "run.yaml").write_text("{}")
    tokenizer = build_tokenizer(str(folder / "checkpoint"), True)

    def build(*opts, corpus="main"):
        words = ("DATASET.DATA_DIR", place / "data", "INPUT.MAX_REGION", 6, "INPUT.MAX_SEQ_LEN", 35, *opts)
        cfg = load_config(place / "run.yaml", [str(word) for word in words])
        return build_pretraining_data(cfg, tokenizer, f"corpus/{corpus}.yaml")

    return build


def test_documents(golden, build):
    expected = golden[1]["corpus"]
    data = build()
    corpus = data.corpus
    documents = [["|".join(corpus.columns(d)[:2]), corpus.columns(d)[2]] for d in range(len(corpus))]
    assert documents == [document[:2] for document in expected["documents"]]
    assert corpus.questions.tolist() == expected["qa_document_ids"]
    for opts, texts in (
        ((), [document[2] for document in expected["documents"]]),
        (("CORPUS.USE_GTLABELS", False), expected["text_b_with_use_gtlabels_0"]),
    ):
        data = build(*opts)
        encode = build_tokenizer(str(golden[0] / "checkpoint"), True).encode
        for document, text in enumerate(texts):
            number = data.corpus.text_b(document)
            start, length = data.corpus.tokens.starts(number), data.corpus.tokens.lengths(number)
            assert data.corpus.tokens.ids[start : start + length].tolist() == encode(text)[:33]


def test_second_corpus_and_chunks(golden, build):
    expected = golden[1]["corpus"]
    for found, names in (
        (build(corpus="extra"), expected["extra_documents"]),
        (build("CORPUS.CHUNK_START_ID", 0, "CORPUS.CHUNK_END_ID", 1), expected["chunk_0_to_1_exclusive_documents"]),
    ):
        assert ["|".join(found.corpus.columns(d)[:2]) for d in range(len(found.corpus))] == names


def test_items(golden, build):
    _, expected, arrays = golden
    examples, built = expected["examples"], {}
    for k, example in enumerate(examples):
        gt = bool(example.get("use_gtlabels", 1))
        if gt not in built:
            built[gt] = build("CORPUS.USE_GTLABELS", gt)
        data = built[gt]
        data.rules = Rules(
            example.get("textb_sample_mode", 0),
            example.get("texta_false_prob", 0.0),
            bool(example.get("use_b", 1)),
            bool(example.get("mask_loss_for_unmatched", 1)),
        )
        item = data.item(example["item"], Replayed(example["draws"]))
        assert (item.label, item.image_differs) == (example["label"], bool(example["image_differs"])), k
        replayed = Replayed(example["draws"])
        data.draws = lambda *place, replayed=replayed: replayed
        batch = data.batch([example["item"]], epoch=0)
        replayed.check_all_used()
        length = int(batch["text_length"][0])
        where = f"example {k}: {example['group']}"
        assert length == (arrays["ex_input_mask"][k, :35] > 0).sum(), where
        np.testing.assert_array_equal(batch["input_ids"], arrays["ex_input_ids"][k, :length], where)
        np.testing.assert_array_equal(batch["token_type_ids"], arrays["ex_segment_ids"][k, :length], where)
        labels = np.full(35 + 6, -1)
        labels[batch["masked_positions"]] = batch["masked_labels"]
        np.testing.assert_array_equal(labels, arrays["ex_lm_label_ids"][k], where)
        assert batch["contrast_labels"].tolist() == [example["label"]], where
        assert data.rules.num_contrast_classes == example["num_contrast_classes"], where
        rows = int(batch["num_regions"][0])
        assert rows == (arrays["ex_input_mask"][k, 35:] > 0).sum(), where
        np.testing.assert_allclose(batch["img_feats"].sum(1), arrays["ex_region_sum"][k, :rows], rtol=1e-4)
