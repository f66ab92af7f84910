"""Captions with constraints as rows of results."""

import shutil
from types import SimpleNamespace

import numpy as np
import pytest
from caption_golden import FOLDER, SPECIALS, golden_model, golden_prefix

from oscar_paddle.config.default import get_cfg_defaults
from oscar_paddle.config.errors import ConfigError
from oscar_paddle.datasets.captions.constraints import Machine
from oscar_paddle.datasets.tokenization import build_tokenizer
from oscar_paddle.models.constrained import generate_constrained
from oscar_paddle.models.decoding import Decoding
from oscar_paddle.solvers.scoring.captions import CaptionScorer, caption_groups, eager_writer, split_captions
from oscar_paddle.solvers.scoring.constrained import ConstrainedBackend
from oscar_paddle.solvers.tasks.captioning import CaptioningTask

LONGEST = 8


def test_every_image_gets_its_own_machine_however_batches_are_made():
    prefix, writer, decoding = golden_prefix(), eager_writer(golden_model()), Decoding(2, LONGEST)
    words = [145, 141, 106, 147, 160, 161, 128, 118]
    machines = [Machine([[{word}]]) for word in words]
    backend = ConstrainedBackend(writer, SPECIALS, decoding, machines=machines, min_satisfied=2)
    assert backend.written == 2 * LONGEST * 2, "two states of two beams"
    data = SimpleNamespace(image_ids=list(range(8)), prefix=prefix.take)
    found = []
    for batch_tokens in (1, 4096):
        scorer = CaptionScorer(backend, data, batch_tokens)
        ((block,),) = caption_groups(8, backend.columns)
        found.append(scorer.score(block))
    ids, scores = split_captions(found[0], LONGEST)
    assert np.array_equal(ids, split_captions(found[1], LONGEST)[0])
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)
    for image, word in enumerate(words):
        assert word in ids[image, 0]
        alone = generate_constrained(writer, prefix.take([image]), SPECIALS, decoding, [machines[image]])
        assert ids[image, 0].tolist() == alone[0][0, 0].tolist()
        assert scores[image, 0] == pytest.approx(alone[1][0, 0], abs=1e-5)


def test_settings_are_checked_before_anything_is_scored():
    with pytest.raises(ConfigError, match="keep is 3"):
        ConstrainedBackend(
            eager_writer(golden_model()), SPECIALS, Decoding(5, LONGEST, 3), machines=[], min_satisfied=2
        )


def test_results_are_not_used_again_with_other_constraints(tmp_path):
    data = shutil.copytree(FOLDER / "coco_caption", tmp_path / "data")
    cfg = get_cfg_defaults()
    cfg.DATASET.DATA_DIR, cfg.CAPTION.USE_CBS, cfg.CAPTION.NUM_BEAMS = str(data), True, 5
    cfg.INPUT.MAX_REGION = 8

    def constraints():
        tokenizer = build_tokenizer(FOLDER / "checkpoint", True)
        evaluation = CaptioningTask(cfg).evaluation(tokenizer, "cbs.yaml")
        evaluation.check()
        return evaluation.provenance()["data"]["constraints"]

    before = constraints()
    assert constraints() == before
    forms = data / "cbs" / "tokenforms.tsv"
    forms.write_text(forms.read_text().replace("kite,kites", "kite,bird"))
    assert constraints() != before
