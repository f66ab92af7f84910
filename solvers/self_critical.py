"""Self-critical sequence training (SCST): captions are drawn and rewarded, and what was drawn becomes likelier as far
as its reward exceeds a baseline.

Shape letters: B images, n samples an image, G positions of a caption.

Source: docs/reference.md, self-critical training; Rennie et al., "Self-Critical Sequence Training for Image
Captioning" (CVPR 2017).
"""

import contextlib
from typing import NamedTuple

import numpy as np
import paddle

from oscar_paddle.models.generation import Decoding, generate, sample_in_training
from oscar_paddle.solvers.tasks.task import Term

BASELINES = ("greedy", "sample")


class SelfCriticalOptions(NamedTuple):
    """Settings of self-critical training.

    Attributes:
        num_samples: n, captions drawn of an image (CAPTION.SCST_SAMPLES).
        baseline: "greedy": the reward of the caption of likeliest words, in evaluation mode | "sample": the mean
            reward of the image's other samples (CAPTION.SCST_BASELINE).
        shared_prefix: encode tags and regions once for all samples of an image, with one draw of dropout, and not once
            a sample (CAPTION.SCST_SHARED_PREFIX).
        max_length: G, with [CLS] and [SEP] (CAPTION.MAX_GEN_LENGTH).
    """

    num_samples: int = 5
    baseline: str = "greedy"
    shared_prefix: bool = False
    max_length: int = 20


class SelfCritical:
    """The losses of self-critical training, for a task to delegate to.

    Args:
        options: SelfCriticalOptions.
        cider: CiderD, or anything with its `rewards`.
        decode: function of ids [m, G] -> list of m str.
        tokens: ids of [CLS], [SEP], [PAD] and [MASK], see `models.generation`.
    Attributes:
        terms: {name: Term}: "scst" is the loss, "score" the mean reward of the samples.
    """

    terms = {"scst": Term(per_batch=True), "score": Term(per_batch=True, is_loss=False)}

    def __init__(self, options, *, cider, decode, tokens):
        self.options, self.cider, self.decode, self.tokens = options, cider, decode, tokens

    def counts(self, references):
        """{name of a term: int} of a batch, from its references (list of B lists)."""
        return dict.fromkeys(self.terms, len(references) * self.options.num_samples)

    def losses(self, model, prefix, references, drawn=None):
        """{name of a term: float32 scalar tensor, its sum} of a batch.

        Args:
            model: OscarForCaptioning in training mode, as it is afterwards.
            prefix: CaptionPrefix of B images. references: list of B lists of str, none empty.
            drawn: [B * n, steps] int, the tokens that the samples take, image by image, in place of drawn ones.
        """
        raise NotImplementedError


def reward_text(caption):
    """A caption as the reward reads it: ends stripped, one "." at the end removed, then " <eos>".

    Upstream: words are then what stands between blanks; nothing is lower-cased or parted from its comma.
    """
    return caption.strip().removesuffix(".") + " <eos>"
