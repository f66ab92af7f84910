"""What ends a caption: [SEP], and where it is asked for [PAD], as in Oscar's first release."""

import numpy as np
import pytest

from oscar_paddle.models.decoding import Decoding, Specials, search

CLS, SEP, PAD, MASK, DOG, CAT = range(6)


class Scripted:
    """Of one image, whatever was written: after [CLS] dog is likeliest, then [PAD], then cat, then [SEP]."""

    images = [0]

    def __init__(self):
        self.step = 0

    def advance(self, ids, parents=None):
        best = (DOG, PAD, CAT, SEP, SEP)[self.step]
        self.step += 1
        logits = np.zeros((1, np.atleast_2d(ids).shape[1], 6), np.float32)
        logits[..., best] = 6
        return logits

    def worth_leaving(self, left):
        return False


@pytest.mark.parametrize("beams", [1, 2])
@pytest.mark.parametrize(
    ("pad_ends", "words"), [(False, [CLS, DOG, PAD, CAT, SEP, PAD]), (True, [CLS, DOG, None, PAD, PAD, PAD])]
)
def test_pad_ends_a_caption_of_the_first_release(beams, pad_ends, words):
    ids, _ = search(Scripted(), Specials(CLS, SEP, PAD, MASK, pad_ends), Decoding(num_beams=beams, max_length=6))
    end = SEP if beams > 1 else PAD  # a beam search writes [SEP] behind what it has found
    assert ids[0, 0].tolist() == [end if word is None else word for word in words]
