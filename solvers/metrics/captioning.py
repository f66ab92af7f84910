"""Scores of generated captions against people's, with the official toolkit's digits and without Java."""

import logging

from oscar_paddle.config.errors import DataError
from oscar_paddle.solvers.metrics.bleu import ORDERS, bleu, ngrams
from oscar_paddle.solvers.metrics.cider import CiderD, document_frequencies
from oscar_paddle.solvers.metrics.ptb import tokenize
from oscar_paddle.solvers.metrics.rouge import rouge_l

log = logging.getLogger(__name__)

ONE_IMAGE = (
    "CIDEr is left out: over one image it is 0 for every caption, as each word is then in the captions of all images"
)


def caption_metrics(captions, references):
    """BLEU-1 to BLEU-4, ROUGE-L and CIDEr of one caption an image.

    CIDEr is the toolkit's: the formula of CIDEr-D on the words of the Penn Treebank, with the document frequencies of
    these references.

    Args:
        captions: {image id: str}. references: {image id: [str, ...]} of the same images.
    Returns:
        ({name: float} over all images: Bleu_1 to Bleu_4 and ROUGE_L in [0, 1], CIDEr in [0, 10], left out with a
        warning where there is one image; {image id: the same of that image}).
    Raises:
        DataError: no images, an image that only one of the two has, or whose list of references is empty.
    """
    check_same_images(captions, references)
    words = [tokenize(caption) for caption in captions.values()]
    own_words = [list(map(tokenize, references[image])) for image in captions]
    counts, own_counts = list(map(_counts, words)), [list(map(_counts, own)) for own in own_words]

    names = [f"Bleu_{order}" for order in range(1, ORDERS + 1)]
    total, each = bleu(counts, own_counts)
    scores = {name: (total[place], each[:, place]) for place, name in enumerate(names)}
    rouge = list(map(rouge_l, words, own_words))
    scores["ROUGE_L"] = (sum(rouge) / len(rouge), rouge)
    if len(captions) > 1:
        cider = CiderD(document_frequencies(own_counts), len(captions)).scores(counts, own_counts)
        scores["CIDEr"] = (cider.mean(), cider)
    else:
        log.warning(ONE_IMAGE)
    per_image = {
        image: {name: float(own[place]) for name, (_, own) in scores.items()} for place, image in enumerate(captions)
    }
    return {name: float(total) for name, (total, _) in scores.items()}, per_image


def _counts(words):
    return ngrams(" ".join(words).split())  # Upstream: at every white space, also the one inside "5 1/2"


def check_same_images(captions, references):
    """DataError unless there are images, each with a caption and with references."""
    if not captions:
        raise DataError("no captions to score")
    for image in captions:
        if image not in references:
            raise DataError(f"image {image!r} has a caption and no references{_other_type(image, references)}")
        if isinstance(references[image], str) or not references[image]:
            raise DataError(
                f"image {image!r}: references {references[image]!r}; expected a list of at least one caption"
            )
    for image in references:
        if image not in captions:
            raise DataError(f"image {image!r} has references and no caption; every image is scored once")


def _other_type(image, references):
    """What to say where ids are numbers on one side and text on the other."""
    kinds = {type(found) for found in references}
    other = str(image) if isinstance(image, int) else int(image) if str(image).isdigit() else None
    if other in references and type(image) not in kinds:
        return f"; there they are {type(other).__name__}, {other!r}: give both sides ids of one type"
    return ""
