"""Self-critical sequence training (SCST): captions are drawn and rewarded, and what was drawn becomes likelier as far
as its reward exceeds a baseline.

Shape letters: B images, n samples an image, G positions of a caption.

Source: docs/reference.md, self-critical training; Rennie et al. (CVPR 2017), arXiv 1612.00563.
"""

from typing import NamedTuple

import numpy as np
import paddle

from oscar_paddle.models.decoding import Decoding, seeded_draws
from oscar_paddle.models.device import to_device
from oscar_paddle.models.generation import EagerWriter, generate, sample_captions
from oscar_paddle.solvers.metrics.cider import reward_text
from oscar_paddle.solvers.tasks.task import Term


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
        decode: function of ids [G] -> str.
        specials: Specials of the vocabulary.
    Attributes:
        terms: {name: Term}: "scst" is the loss, "score" the mean reward of the samples.
    """

    terms = {"scst": Term(per_batch=True), "score": Term(per_batch=True, is_loss=False)}

    def __init__(self, options, *, cider, decode, specials):
        self.options, self.cider, self.decode, self.specials = options, cider, decode, specials

    def counts(self, references):
        """{name of a term: int} of a batch, from its references (list of B lists)."""
        return dict.fromkeys(self.terms, len(references) * self.options.num_samples)

    def losses(self, model, prefix, references, draws=None):
        """{name of a term: float32 scalar tensor, its sum} of a batch.

        What is drawn is a function of Paddle's random state, which the trainer seeds by (seed, step, micro-batch,
        rank).

        Args:
            model: with `bert` and `word_logits`, in training mode, as it is afterwards.
            prefix: CaptionPrefix of B images. references: list of B lists of str, none empty.
            draws: see `models.decoding.search`; None: at random.
        """
        options, images = self.options, len(references)
        if draws is None:
            seed = paddle.randint(0, 2**31 - 1, [1]).item()
            draws = seeded_draws([(seed, number) for number in range(images * options.num_samples)])
        greedy = self._greedy(model, prefix) if options.baseline == "greedy" else []
        decoding = Decoding(max_length=options.max_length, keep=options.num_samples, do_sample=True)
        samples = sample_captions(model, prefix, self.specials, decoding, draws, options.shared_prefix)
        drawn = samples.ids.reshape(images, options.num_samples, -1)
        captions = [[*map(self.decode, of_image)] for of_image in (np.hstack([drawn, *greedy]))]
        rewards = self.rewards(captions, references)
        rewards, of_greedy = np.split(rewards, [options.num_samples], axis=1)
        above = advantages(rewards, of_greedy if greedy else None).ravel()
        weights, score = to_device((above / samples.lengths).astype(np.float32), np.float32(rewards.sum()))
        return {"scst": -(samples.log_probs * weights).sum(), "score": score}

    def _greedy(self, model, prefix):
        """[ids [B, 1, G]] of the likeliest words, in evaluation mode."""
        model.eval()
        try:
            return [
                generate(EagerWriter(model), prefix, self.specials, Decoding(max_length=self.options.max_length))[0]
            ]
        finally:
            model.train()

    def rewards(self, captions, references):
        """[B, m] float64 of B lists of m captions each, given B lists of references."""
        candidates = [reward_text(caption) for of_image in captions for caption in of_image]
        wrapped = ([reward_text(reference) for reference in of_image] for of_image in references)
        repeated = [own for own, of_image in zip(wrapped, captions, strict=True) for _ in of_image]
        return np.reshape(self.cider.rewards(candidates, repeated), (len(captions), -1))


def advantages(rewards, greedy=None):
    """How far each sample's reward exceeds its baseline.

    Args:
        rewards: [B, n] float64, of the samples. greedy: [B, 1], of the greedy captions; None: the baseline is the mean
            of the image's other samples.
    Returns:
        [B, n] float64.
    """
    if greedy is not None:
        return rewards - greedy
    others = rewards.sum(axis=1, keepdims=True) - rewards
    return rewards - others / (rewards.shape[1] - 1)
