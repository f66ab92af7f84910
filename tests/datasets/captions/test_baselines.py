"""Captions that need no model."""

from types import SimpleNamespace

import numpy as np

from oscar_paddle.datasets.captions.baselines import COMMONEST, NEAREST, baseline_captions


def images(*regions, captions=(), owners=()):
    """What stands for a CaptionDataset: of each image its regions, of each caption its image."""
    return SimpleNamespace(
        num_images=len(regions),
        features=lambda numbers: [np.array(regions[number], np.float32) for number in numbers],
        captions=list(captions),
        caption_images=np.array(owners),
    )


def test_the_nearest_picture_and_the_commonest_caption():
    """The training images' mean is (10, 10): seen from 0 the last two are nearest to both images, which they are not.

    Image 2 is nearer than image 0 and has no captions.
    """
    train = images(
        *([[11, 10]], [[10, 11]], [[13, 9.6]], [[6, 9.4]], [[5, 5]], [[15, 15]]),
        captions=["east", "A  dog.", "north", "a dog.", "west", "a dog.", "a cat"],
        owners=[0, 0, 1, 1, 3, 4, 5],
    )
    found = baseline_captions(train, images([[10.2, 9.96], [10.4, 9.96]], [[10, 10.2]]))
    assert found == {NEAREST: {0: "east", 1: "north"}, COMMONEST: {0: "A  dog.", 1: "A  dog."}}
