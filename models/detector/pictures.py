"""From a picture to the detector's input (docs/reference.md, detector input)."""

from typing import NamedTuple

import numpy as np
from PIL import Image


class InputRules(NamedTuple):
    """How a picture is resized and normalised.

    Attributes:
        short, long: pixels that the shorter side gets, where the longer one then has at most `long`.
        mean: subtracted from blue, green and red, 0 to 255.
    """

    short: int = 600
    long: int = 1000
    mean: tuple = (103.530, 116.280, 123.675)


def resized_size(width, height, rules):
    """(width, height) of the picture that the detector sees: long sides are cut off to whole pixels, as upstream."""
    short, longer, shorter = rules.short, max(width, height), min(width, height)
    if longer / shorter * short > rules.long:
        short = int(round(rules.long * shorter / longer))
    if short == 0:  # a line, at which the reference fails
        return (1, rules.long) if width < height else (rules.long, 1)
    if shorter == short:
        return width, height
    return (short, int(short * height / width)) if width < height else (int(short * width / height), short)


def detector_input(image, rules):
    """A PIL image -> [3, H, W] float32, blue, green, red."""
    image = image.convert("RGB")
    size = resized_size(*image.size, rules)
    if size != image.size:
        image = image.resize(size, Image.Resampling.BILINEAR)  # antialiased: other libraries' bilinear is another
    values = np.asarray(image, np.float32) / np.float32(255)  # to 1 and back, as upstream: the last bits count
    return np.ascontiguousarray(
        (values[:, :, ::-1] * np.float32(255) - np.array(rules.mean, np.float32)).transpose(2, 0, 1)
    )
