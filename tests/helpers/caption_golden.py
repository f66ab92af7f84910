"""The captioning golden set without a data set in between; what the reference computed is in its README.md."""

import json
from pathlib import Path

import numpy as np
import uncached

from oscar_paddle.models.captioning import OscarForCaptioning
from oscar_paddle.models.checkpoints.weights import load_into, read_state
from oscar_paddle.models.config import read_model_config
from oscar_paddle.models.decoding import Specials

FOLDER = Path(__file__).resolve().parents[1] / "golden" / "captioning"
SPECIALS = Specials(cls=9, sep=10, pad=0, mask=11)


def expected():
    """(numbers, arrays) of the reference."""
    return json.loads((FOLDER / "expected.json").read_text(encoding="utf-8")), np.load(FOLDER / "expected_arrays.npz")


def golden_model(**settings):
    """The checkpoint in evaluation mode, with these settings in its config."""
    config = read_model_config(FOLDER / "checkpoint")
    config.__dict__.update(settings)
    model = OscarForCaptioning(config)
    load_into(model, read_state(FOLDER / "checkpoint"), FOLDER)
    model.eval()
    return model


def golden_prefix(images=range(8)):
    """CaptionPrefix of some of the images."""
    return uncached.golden_prefix(FOLDER, list(images))
