"""Results of held-out triples: each example's own sums and captions, however its block is cut."""

import shutil

import numpy as np
import paddle
import paddle.nn.functional as F
import pytest

from oscar_paddle.config.loader import load_config
from oscar_paddle.datasets.pretraining_dataset import build_pretraining_data
from oscar_paddle.datasets.tokenization import build_tokenizer
from oscar_paddle.models.packing import pack
from oscar_paddle.models.pretraining import OscarForPretraining
from oscar_paddle.solvers.build import load
from oscar_paddle.solvers.scoring.backends import EagerBackend
from oscar_paddle.solvers.scoring.rows import Block
from oscar_paddle.solvers.scoring.triples import COLUMNS, PASS, TripleScorer

CAPTIONS = 4
OPTS = ("INPUT.MAX_SEQ_LEN", 35, "INPUT.MAX_REGION", 6, "CORPUS.TEXTB_SAMPLE_MODE", 1, "CORPUS.TEXTA_FALSE_PROB", 0.25)


@pytest.fixture(scope="module")
def scored(repository, tmp_path_factory):
    """(model, data, results of all examples, taken few at a time)."""
    golden, place = repository / "tests" / "golden" / "pretraining", tmp_path_factory.mktemp("triples")
    shutil.copytree(golden / "data", place / "data")
    (place / "run.yaml").write_text("{}")
    cfg = load_config(place / "run.yaml", [str(word) for word in ("DATASET.DATA_DIR", place / "data", *OPTS)])
    data = build_pretraining_data(cfg, build_tokenizer(str(golden / "checkpoint"), True), "corpus/main.yaml")
    model = load(golden / "checkpoint", OscarForPretraining)
    scorer = TripleScorer(EagerBackend(model), data, 3 * 41)
    return model, data, scorer.score(Block(range(data.num_examples), range(len(COLUMNS) + CAPTIONS))), scorer


def test_sums_are_those_of_each_example(scored):
    model, data, results, _ = scored
    assert len(results) == data.num_examples > 6  # else nothing was cut
    for example, found in enumerate(results):
        batch = data.batch([example], PASS)
        (words, words_right), (contrast, contrast_right) = model.measured(
            pack(batch), batch["masked_positions"], batch["masked_labels"], batch["contrast_labels"]
        )
        wanted = [words.sum(), len(batch["masked_labels"]), words_right.sum(), contrast.sum(), contrast_right.sum()]
        np.testing.assert_allclose(found[: len(COLUMNS)], wanted, atol=2e-5)
    assert len(set(results[:, 1])) > 2


def test_captions_are_its_own_first_and_those_of_other_images(scored):
    """Each with the image and the tags of the example; the scores are log-probabilities of class 0."""
    model, data, results, scorer = scored
    for example, found in enumerate(results):
        own, *others = scorer._caption_numbers(example, CAPTIONS).tolist()
        assert own == example and all(data.corpus.images_differ(example, other) for other in others)
        for caption, score in zip([own, *others], found[len(COLUMNS) :], strict=True):
            batch = data.matched_batch([example], captions=[caption])
            with paddle.no_grad():
                scores = F.softmax(model.contrast(model.bert(pack(batch))["pooled"]))
            assert score == pytest.approx(float(scores[0, 0].log()), abs=2e-5)
