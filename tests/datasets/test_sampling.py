"""Sampling: pure functions with the distribution that the reference has."""

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from oscar_paddle.datasets.sampling import draw_negative, epoch_order, update_slices, updates_per_epoch

FIVE_EACH = np.arange(0, 5005, 5)  # where the captions of 1000 images start


def test_epoch_order_is_a_permutation_that_changes_with_epoch_and_seed():
    orders = [epoch_order(seed, epoch, 50).tolist() for seed in (1, 2) for epoch in (0, 1)]
    assert all(sorted(order) == list(range(50)) for order in orders)
    assert len({tuple(order) for order in orders}) == 4
    assert orders[0] == epoch_order(1, 0, 50).tolist()


def test_negatives_keep_tags_and_regions_of_one_image():
    draws = [draw_negative(7, 0, index, 3, 16, FIVE_EACH[:11]) for index in range(4000)]
    captions = [caption for image, caption in draws if image == 3]  # negative captions keep image 3
    images = [image for image, caption in draws if image != 3]
    assert len(captions) + len(images) == 4000
    assert abs(len(captions) - 2000) < 200
    assert all(caption // 5 != 3 for caption in captions)
    assert all(caption == 16 for image, caption in draws if image != 3)
    assert all(abs(count - len(images) / 9) < 80 for count in Counter(images).values())
    assert len(Counter(images)) == 9
    assert len(Counter(captions)) == 45


def test_negatives_of_images_with_several_numbers_of_captions():
    starts = np.array([0, 1, 8, 8 + 4])
    draws = [draw_negative(7, 0, index, 0, 0, starts) for index in range(6000)]
    captions = Counter(caption for image, caption in draws if image == 0)
    assert sorted(captions) == list(range(1, 12))  # every caption of the others, the images equally often
    assert abs(sum(captions[c] for c in range(1, 8)) - 1500) < 200
    assert all(abs(captions[c] - 1500 / 7) < 70 for c in range(1, 8))
    assert all(abs(captions[c] - 1500 / 4) < 90 for c in range(8, 12))


def test_negatives_are_pure_and_differ_between_epochs():
    first = [draw_negative(7, 0, index, 0, 0, FIVE_EACH) for index in range(20)]
    assert first == [draw_negative(7, 0, index, 0, 0, FIVE_EACH) for index in range(20)]
    assert first != [draw_negative(7, 1, index, 0, 0, FIVE_EACH) for index in range(20)]
    assert first != [draw_negative(8, 0, index, 0, 0, FIVE_EACH) for index in range(20)]
    assert first != [draw_negative(7, 0, index, 0, 0, FIVE_EACH, which=1) for index in range(20)]


@given(st.integers(1, 40), st.integers(1, 5), st.integers(1, 4), st.integers(1, 3))
def test_every_division_of_an_update_holds_the_same_examples(size, batch_size, world_size, accumulation):
    order = np.random.default_rng(size).permutation(size)
    updates = updates_per_epoch(size, batch_size, world_size, accumulation)
    together = updates_per_epoch(size, batch_size * world_size * accumulation, 1, 1)
    assert updates == together
    seen = []
    for update in range(updates):
        shares = update_slices(order, update, batch_size, world_size, accumulation)
        assert all(len(share) == world_size for share in shares)
        assert all(len(part) <= batch_size for share in shares for part in share)
        here = np.concatenate([part for share in shares for part in share])
        ((whole,),) = update_slices(order, update, batch_size * world_size * accumulation, 1, 1)
        np.testing.assert_array_equal(here, whole)
        seen.extend(here.tolist())
    assert seen == order.tolist()
