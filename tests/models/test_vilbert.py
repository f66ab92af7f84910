"""Parity of the two-stream model with vilbert_beta and the Paddle port (tests/golden/vilbert_rec/README.md)."""

import numpy as np
import paddle
import pytest
from vilbert_golden import Golden

from oscar_paddle.models.vilbert import VilbertForReferring
from oscar_paddle.solvers.build import load
from oscar_paddle.solvers.ranks import Ranks
from oscar_paddle.solvers.scoring.region_program import region_backend


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


def test_the_exported_program_gives_the_same_scores(golden_set, model, tmp_path):
    backend = region_backend(model, "inference", "float32", weights="golden", programs=str(tmp_path), ranks=Ranks())
    assert "oneDNN" in backend.name
    for split in ("val", "testA"):
        batch, _ = golden_set.batch(split, list(range(len(golden_set.expected["entries"][split]))))
        mask = golden_set.arrays[f"{split}_image_mask"].astype(bool)
        wanted = golden_set.arrays[f"{split}_vision_logit"][mask]
        assert np.abs(backend.region_scores(batch) - wanted).max() <= 2e-5
