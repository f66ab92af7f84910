import pytest

from oscar_paddle.solvers.metrics.protocols import protocol_label


@pytest.mark.parametrize(
    ("arguments", "label"),
    [
        ((1000, 5000, "COCO", "test_img_keys_1k.tsv"), "COCO 1K (one fixed list, as in Oscar)"),
        ((1000, 5000, "coco_ir", "data/coco_ir/test_img_keys_1k.tsv"), "COCO 1K (one fixed list, as in Oscar)"),
        ((5000, 25000, "MSCOCO", "test_img_keys.tsv"), "COCO 5K"),
        ((5000, 25000, "COCO", ""), "COCO 5K"),
        ((5000, 25000, "COCO", "test_img_keys.tsv", 5), "COCO 1K (mean of five folds)"),
        ((1000, 5000, "Flickr-30K", "test_img_keys.tsv"), "Flickr30k 1K"),
    ],
)
def test_published_protocols_are_named(arguments, label):
    assert protocol_label(*arguments) == label


@pytest.mark.parametrize(
    ("arguments", "label"),
    [
        ((1000, 5000, "scenes", "test_img_keys_1k.tsv"), "1000 images x 5000 captions"),
        ((1000, 5000, "", "test_img_keys_1k.tsv"), "1000 images x 5000 captions"),
        ((1000, 5000, "COCO", "my_1k.tsv"), "1000 images x 5000 captions"),
        ((1000, 4000, "COCO", "test_img_keys_1k.tsv"), "1000 images x 4000 captions"),
        ((100, 500, "COCO", "test_img_keys_1k.tsv"), "100 images x 500 captions"),
        ((1000, 5000, "COCO-CN", "test_img_keys_1k.tsv"), "1000 images x 5000 captions"),
        ((1000, 5000, "flickr8k", "test_img_keys.tsv"), "1000 images x 5000 captions"),
        ((1000, 5000, "cocoa", "test_img_keys_1k.tsv"), "1000 images x 5000 captions"),
        ((5000, 25000, "COCO", "test_img_keys.tsv", 10), "5000 images x 25000 captions (mean of 10 folds)"),
        ((200, 1000, "scenes", "", 5), "200 images x 1000 captions (mean of 5 folds)"),
    ],
)
def test_anything_else_is_only_counted(arguments, label):
    assert protocol_label(*arguments) == label


def test_candidate_lists_are_never_called_1k():
    label = protocol_label(1000, 5000, "COCO", "test_img_keys_1k.tsv", candidates_per_image=20)
    assert label == "dev candidates (20 per image; not comparable with 1K/5K)"
