"""What a RetrievalDataset says about its captions."""

import numpy as np

from oscar_paddle.datasets.retrieval_dataset import RetrievalDataset
from oscar_paddle.solvers.scoring.rescoring import _matrices


def dataset(captions):
    """Of captions: image id -> list of str; nothing else is there."""
    ids = [(image_id, number) for image_id, texts in captions.items() for number in range(len(texts))]
    return RetrievalDataset(
        image_ids=list(captions),
        captions=[text for texts in captions.values() for text in texts],
        caption_ids=ids,
        caption_tokens=None,
        tags=[""] * len(captions),
        tag_tokens=None,
        regions=None,
        text=None,
        mask_type="CLR",
    )


def test_repeated_captions():
    data = dataset({7: ["A dog", "a  DOG "], 3: ["a cat", "A dog"], 5: ["A bird", "a bird"]})
    sentences, repeated = data.repeated_captions()
    assert sentences.tolist() == [0, 0, 1, 0, 2, 2]
    assert repeated.tolist() == [True, True, False, True, False, False]  # twice for one image is no repetition


def test_pairs_of_images_with_several_numbers_of_captions():
    counts = [3, 1, 4, 2, 5]
    data = dataset({10 + i: [f"{i} {n}" for n in range(count)] for i, count in enumerate(counts)})
    starts = np.cumsum([0, *counts])
    for caption in range(15):
        images, captions, labels = data.training_pairs([caption], seed=1, epoch=0, negatives=40)
        own = np.searchsorted(starts, caption, "right") - 1
        assert (images[0], captions[0], labels[0]) == (own, caption, 1) and not labels[1:].any()
        owners = np.searchsorted(starts, captions[1:], "right") - 1
        assert np.all((images[1:] == own) != (captions[1:] == caption)) and np.all(owners != images[1:])
    assert _matrices(data, 5)[1:] == [(range(i, i + 1), range(starts[i], starts[i + 1])) for i in range(5)]
