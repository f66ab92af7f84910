"""Parity of the two-stream model with vilbert_beta and the Paddle port (tests/golden/vilbert_rec/README.md)."""

import numpy as np
import paddle
import pytest
from vilbert_golden import Golden

from oscar_paddle.models.vilbert import VilbertForReferring
from oscar_paddle.solvers.build import load


@pytest.fixture(scope="module")
def golden_set(repository):
    return Golden(repository / "tests" / "golden" / "vilbert_rec")


@pytest.fixture(scope="module")
def model(golden_set):
    return load(golden_set.folder / "checkpoint", VilbertForReferring)


@pytest.mark.parametrize("split", ["val", "testA", "testB"])
@paddle.no_grad()
def test_scores_are_those_of_upstream_and_an_image_shows_its_regions_to_all_its_expressions(split, golden_set, model):
    examples = list(range(len(golden_set.expected["entries"][split])))
    batch, _ = golden_set.batch(split, examples)
    mask = golden_set.arrays[f"{split}_image_mask"].astype(bool)
    assert len(batch.img_feats) < mask.sum()
    wanted = golden_set.arrays[f"{split}_vision_logit"][mask]
    difference = np.abs(model(batch).numpy() - wanted).max()
    print(f"{split}: largest difference of scores {difference:.2g}")
    assert difference <= 2e-5
