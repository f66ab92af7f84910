"""Items of pre-training: how often what is drawn, what it depends on, and what is masked."""

from collections import Counter

import numpy as np
import pytest
from corpora import ROWS, write_corpus

from oscar_paddle.config.errors import DataError
from oscar_paddle.config.loader import load_config
from oscar_paddle.datasets.corpus.draws import Draws, examples_beside
from oscar_paddle.datasets.pretraining_dataset import Rules, build_pretraining_data
from oscar_paddle.datasets.sampling import epoch_order
from oscar_paddle.datasets.tokenization import build_tokenizer

NO_PIECES = {"coco": {"7": ["\u200b"], "8": ["a girl and a man and a dog"]}}


@pytest.fixture(scope="module")
def tokenizer(repository):
    return build_tokenizer(str(repository / "tests" / "golden" / "pretraining" / "checkpoint"), True)


@pytest.fixture(scope="module")
def build(tokenizer, tmp_path_factory):
    """Function: --opts words -> PretrainingDataset of the small corpus."""
    folder = tmp_path_factory.mktemp("corpus")
    write_corpus(folder)
    (folder / "run.yaml").write_text("{}")

    def build(*opts, **options):
        words = ("DATASET.DATA_DIR", folder, "INPUT.IMG_FEATURE_DIM", 4, "INPUT.MAX_SEQ_LEN", 20, *opts)
        cfg = load_config(folder / "run.yaml", [str(word) for word in words])
        return build_pretraining_data(cfg, tokenizer, "corpus/corpus.yaml", **options)

    return build


def drawn(data, count=4000):
    """Items of document 0 in so many epochs."""
    return [data.item(0, Draws(7, epoch, 0)) for epoch in range(count)]


@pytest.mark.parametrize(
    ("opts", "classes", "shares"),
    [
        ((), 2, {0: 0.5, 1: 0.5}),
        (("CORPUS.TEXTA_FALSE_PROB", 0.25), 3, {0: 0.5, 1: 0.25, 2: 0.25}),
        (("CORPUS.TEXTA_FALSE_PROB", 0.5), 2, {0: 0.5, 1: 0.5}),
        (("CORPUS.USE_B", False), 3, {0: 0.5, 2: 0.5}),
    ],
)
def test_how_often_each_class_is_drawn(build, opts, classes, shares):
    data = build(*opts)
    counts = Counter(item.label for item in drawn(data))
    assert data.num_contrast_classes == classes and set(counts) == set(shares)
    for label, share in shares.items():
        assert abs(counts[label] / 4000 - share) < 4 * (share * (1 - share) / 4000) ** 0.5


def test_what_takes_the_place_of_a_text(build):
    """Mode 0: captions and labels of other documents; 1: their labels; 2: answers. Half of 0.5: only wrong captions."""
    size = len(ROWS)
    for mode, texts in ((0, range(2 * size)), (1, range(size, 2 * size)), (2, None)):
        data = build(mode=mode)
        own = data.corpus.text_b(0)
        wrong = [item.text_b for item in drawn(data) if item.label]
        assert own not in wrong and 1 not in wrong  # document 1 shows the same image
        if mode == 2:
            assert set(wrong) == {data.corpus.text_b(3), data.corpus.text_b(4)}
        else:
            assert set(wrong) <= set(texts)
            assert (min(wrong) < size) == (mode == 0)
    items = drawn(build("CORPUS.TEXTA_FALSE_PROB", 0.5))
    assert {item.text_b for item in items} == {own}
    assert {item.text_a for item in items if item.label} == set(range(2, size))
    assert {item.text_a for item in items if not item.label} == {0}


def test_an_answer_is_never_its_own_replacement(build):
    data = build(mode=2)
    wrong = [data.item(3, Draws(7, epoch, 3)) for epoch in range(200)]
    assert {item.text_b for item in wrong if item.label} == {data.corpus.text_b(4)}


def test_a_batch_depends_on_seed_epoch_and_index_alone(build):
    data = build("CORPUS.TEXTA_FALSE_PROB", 0.25)
    examples = np.array([5, 0, 3, 5])
    whole = data.batch(examples, 3)
    ends = np.cumsum(whole["text_length"])
    for row, example in enumerate(examples):
        alone = data.batch([example], [3])
        here = slice(ends[row] - whole["text_length"][row], ends[row])
        np.testing.assert_array_equal(alone["input_ids"], whole["input_ids"][here])
        assert alone["contrast_labels"][0] == whole["contrast_labels"][row]
        masked = whole["masked_positions"]
        inside = (masked >= here.start) & (masked < here.stop)
        np.testing.assert_array_equal(alone["masked_positions"], masked[inside] - here.start)
        np.testing.assert_array_equal(alone["masked_labels"], whole["masked_labels"][inside])
    again = build("CORPUS.TEXTA_FALSE_PROB", 0.25)
    np.testing.assert_array_equal(again.batch(examples, 3)["input_ids"], whole["input_ids"])
    several = [data.batch(examples, epoch)["input_ids"].tolist() for epoch in range(6)]
    assert len(set(map(tuple, several))) > 3
    for other in (
        build("CORPUS.TEXTA_FALSE_PROB", 0.25, "MISC.SEED", 9),
        build("CORPUS.TEXTA_FALSE_PROB", 0.25, which=1),
    ):
        assert [other.batch(examples, epoch)["input_ids"].tolist() for epoch in range(6)] != several


def test_shares_of_masks(build, tokenizer):
    data = build()
    counts, seen = Counter(), 0
    for epoch in range(400):
        batch = data.batch(np.arange(8), epoch)
        ids, places, labels = batch["input_ids"], batch["masked_positions"], batch["masked_labels"]
        assert (np.diff(places) > 0).all()
        special = {tokenizer.cls_id, tokenizer.sep_id}
        assert not special & set(labels.tolist())
        seen += batch["text_length"].sum() - 3 * 8
        counts["mask"] += np.count_nonzero(ids[places] == tokenizer.mask_id)
        counts["kept"] += np.count_nonzero(ids[places] == labels)
        counts["all"] += len(places)
    assert abs(counts["all"] / seen - 0.15) < 0.01
    assert abs(counts["mask"] / counts["all"] - 0.8) < 0.03 and abs(counts["kept"] / counts["all"] - 0.1) < 0.03


def test_a_wrong_text_b_is_not_predicted_where_it_is_asked_not_to_be(build):
    data = build("CORPUS.MASK_LOSS_FOR_UNMATCHED", False, mode=1)
    in_wrong = in_right = 0
    for epoch in range(300):
        batch = data.batch([0], epoch)
        in_b = int((batch["token_type_ids"][batch["masked_positions"]] == 1).sum())
        if batch["contrast_labels"][0]:
            in_wrong += in_b
        else:
            in_right += in_b
    assert in_wrong == 0 < in_right


def test_an_answer_that_is_not_shown_still_counts(build):
    """Upstream: without text_b a question may become class 1, of which nothing is to be seen."""
    data = build("CORPUS.USE_B", False)
    items = [data.item(3, Draws(7, epoch, 3)) for epoch in range(200)]
    assert {item.label for item in items} == {0, 1} and {(item.text_a, item.text_b) for item in items} == {(3, -1)}
    assert {item.label for item in drawn(data, 200)} == {0, 2}


def test_bounds_of_the_masks(build, tokenizer):
    """p / 0.15 of 0.8 is no [MASK] any more, of 0.9 no other word, and p of 0.15 no mask."""
    chances = [each for bound in (0.12, 0.135, 0.15) for each in (np.nextafter(bound, 0), bound)]

    class Listed(Draws):
        def uniforms(self, count):
            return np.array([0.9] if count == 1 else [*chances, *[0.9] * count])[:count]

        def words(self, count, vocab_size):
            return np.full(count, 1)

    data = build()
    data.draws = Listed
    batch = data.batch([0], 0)
    assert batch["masked_positions"].tolist() == [1, 2, 3, 4, 5]
    ids, labels = batch["input_ids"][1:6], batch["masked_labels"]
    assert ids.tolist() == [tokenizer.mask_id, 1, 1, *labels[3:].tolist()]


def test_a_second_text_without_a_word_piece_costs_nothing(tokenizer, tmp_path):
    caption = "A dog and a cat and a dog and a cat and a man and a girl."
    write_corpus(tmp_path, [("coco_7", "coco_7", caption), ("coco_8", "coco_8", caption)], tags=NO_PIECES)
    (tmp_path / "run.yaml").write_text("{}")
    words = ("DATASET.DATA_DIR", tmp_path, "INPUT.IMG_FEATURE_DIM", 4, "INPUT.MAX_SEQ_LEN", 10)
    cfg = load_config(tmp_path / "run.yaml", [str(word) for word in words])
    batch = build_pretraining_data(cfg, tokenizer, "corpus/corpus.yaml").matched_batch([0, 1])
    assert batch["caption_length"].tolist() == [10, 6] and batch["text_length"].tolist() == [10, 10]


def test_a_batch_without_a_mask(build):
    data = build()

    class Never(Draws):
        def uniforms(self, count):
            return np.full(count, 0.9)

    data.draws = Never
    batch = data.batch([0, 1], 0)
    assert batch["masked_positions"].shape == batch["masked_labels"].shape == (0,)
    assert batch["masked_labels"].dtype == np.int64


def test_matched_rows_with_other_regions(build):
    data = build()
    batch = data.matched_batch([0, 2], images=[2, 2])
    assert batch["img_feats"].mean() == 2 and batch["region_start"].tolist() == [0, 0]
    plain = data.matched_batch([0, 2])
    np.testing.assert_array_equal(plain["input_ids"], batch["input_ids"])
    assert "masked_labels" not in plain


def test_too_few_answers(build):
    with pytest.raises(
        DataError, match=r"1 question-answer rows; CORPUS.TEXTB_SAMPLE_MODE 2 .* at least 2; set it to 1"
    ):
        data = build()
        data.corpus.questions = data.corpus.questions[:1]
        data.rules = Rules(2)
        data.__post_init__()


def test_one_image(tokenizer, tmp_path):
    """A wrong text would be one of its own; wrong answers may be."""
    rows = [("gqa_7", "gqa_qa_7_11", "What is the dog?"), ("gqa_7", "gqa_qa_7_12", "What is the man?")]
    write_corpus(tmp_path, rows, tags={"gqa": {"7": ["dog"]}})
    (tmp_path / "run.yaml").write_text("{}")

    def opened(mode, prob):
        words = ["DATASET.DATA_DIR", str(tmp_path), "INPUT.IMG_FEATURE_DIM", "4", "CORPUS.TEXTA_FALSE_PROB", str(prob)]
        return build_pretraining_data(
            load_config(tmp_path / "run.yaml", words), tokenizer, "corpus/corpus.yaml", mode=mode
        )

    for mode, prob in ((0, 0.0), (1, 0.25), (2, 0.25)):
        with pytest.raises(DataError, match="corpus.tsv: all rows that are read show one image; wrong texts are drawn"):
            opened(mode, prob)
    assert {item.text_b for item in drawn(opened(2, 0.0), 20)} == {2, 3}


def test_two_corpora_side_by_side():
    """Every example of both is seen once a pass, and the pairs do not depend on how an update is divided."""
    size, extra, seed = 10, 7, 3
    seen = []
    for epoch in range(7):
        order = epoch_order(seed, epoch, size)
        found = [
            examples_beside(examples=part, epoch=epoch, seed=seed, size=size, extra_size=extra)
            for part in (order[:4], order[4:])
        ]
        seen += [(int(p), int(e)) for chosen, passes in found for e, p in zip(chosen, passes, strict=True)]
    assert len(seen) == 70 and sorted(seen) == [(p, e) for p in range(10) for e in range(7)]
    assert [p for p, _ in seen] == sorted(p for p, _ in seen)
