"""2048 numbers per region from the pixels of its crop: fixed seeded filters, nothing learned, same bytes everywhere.

1. The crop is averaged to 24 x 24 cells.
2. Filters with random whole-number weights look at it, three kinds:
   colour    mixtures of R, G, B per cell, ReLU, averaged over the whole crop and over its middle;
   texture   3 x 3 patterns of brightness, ReLU, averaged over the middle, before and after levelling the contrast;
   outline   a 12 x 12 map of "unlike the border of the crop".
3. Every response is measured from its median in units of its mean absolute deviation.
4. Units add up responses of one kind with random weights (768 colour, 384 texture, 896 outline). A threshold makes each
   silent for four crops out of five, a unit of measure makes it 1 on average for the others.

Medians, deviations, thresholds and units of measure come from 64 scenes of a fixed seed, whatever data set is being
made. The result looks like detector features: not negative, mostly zero, a few large values.

All arithmetic is on whole numbers small enough to be exact in float64, in any order of summation, and the results are
multiples of 1/16. So the values do not depend on the processor, the BLAS library or the number of threads.
"""

from functools import lru_cache

import numpy as np

from oscar_paddle.datasets.scenes.detector import detect
from oscar_paddle.datasets.scenes.drawing import draw_scene, noise
from oscar_paddle.datasets.scenes.placing import sample_scene
from oscar_paddle.datasets.scenes.world import Stream

GRID = 24  # cells per side of a resized crop
_STEP, _LARGEST = 16, 10  # values are multiples of 1/16
_SILENT = 0.8  # share of crops for which a unit gives zero
_FINE = 32  # steps per mean absolute deviation, in stage 3


def _weights(name, rows, columns, low, high):
    """Whole-number weights [rows, columns] in [low, high], drawn once for all data sets."""
    return noise(Stream("features", name), low, high, (rows, columns)).astype(np.float64)


_COLOUR_FILTERS = _weights("colour", 3, 96, -4, 4)
_COLOUR_OFFSETS = _weights("colour offsets", 1, 96, -400, 400)
_TEXTURE_FILTERS = _weights("texture", 9, 64, -3, 3)
_TEXTURE_FILTERS[8] -= _TEXTURE_FILTERS.sum(axis=0)  # zero sum: flat areas give nothing
_MIXERS = [
    _weights(f"mix {name}", rows, columns, -2, 2)
    for name, rows, columns in (("colour", 2 * 96, 768), ("texture", 2 * 64, 384), ("outline", 144, 896))
]


def region_features(image, boxes):
    """float32 [R, 2048], multiples of 1/16 in [0, 10], of the crops of a picture, uint8 [height, width, 3].

    `boxes` are R boxes (x1, y1, x2, y2), whole pixels, x1 < x2 and y1 < y2, inside the picture.
    """
    medians, deviations, thresholds, measures = _calibration()
    excess = np.maximum(_mix(_responses(_crops(image, boxes)), medians, deviations) - thresholds, 0)
    return (np.minimum(excess * _STEP // measures, _LARGEST * _STEP) / _STEP).astype(np.float32)


def with_box_values(features, boxes, width, height):
    """float32 [R, 2054]: features [R, 2048] and [x1/W, y1/H, x2/W, y2/H, w/W, h/H] of boxes (x1, y1, x2, y2) in pixels.

    Source: docs/reference.md, regions.
    """
    boxes = np.asarray(boxes, np.float64)
    corners, extents = boxes / [width, height, width, height], (boxes[:, 2:] - boxes[:, :2]) / [width, height]
    return np.concatenate([features, corners, extents], axis=1, dtype=np.float32)


@lru_cache(maxsize=1)
def _calibration():
    """Medians and deviations of the responses, thresholds and units of measure of the units: about a second."""
    scenes = [sample_scene("calibration", "train", index) for index in range(64)]
    found = ((draw_scene(s, "calibration"), [region.box for region in detect(s, "calibration")]) for s in scenes)
    responses = _responses(np.concatenate([_crops(*picture) for picture in found]))
    medians = np.sort(responses, axis=0)[len(responses) // 2]
    deviations = np.maximum(np.abs(responses - medians).sum(axis=0) // len(responses), 1)
    sums = np.sort(_mix(responses, medians, deviations), axis=0)
    thresholds = sums[int(_SILENT * len(responses))]
    excess = np.maximum(sums - thresholds, 0)
    measures = np.maximum(excess.sum(axis=0) // np.maximum((excess > 0).sum(axis=0), 1), 1)
    return medians, deviations, thresholds, measures


def _mix(responses, medians, deviations):
    """Stages 3 and 4 before the threshold: whole numbers, float64 [R, responses] -> [R, 2048]."""
    level = np.clip((responses - medians) * _FINE // deviations, -4 * _FINE, 4 * _FINE)
    parts = np.split(level, np.cumsum([len(mixer) for mixer in _MIXERS[:-1]]), axis=1)
    return np.concatenate([part @ mixer for part, mixer in zip(parts, _MIXERS, strict=True)], axis=1)


def _crops(image, boxes):
    """Cell averages, rounded down: int64 [R, GRID, GRID, 3]. A crop smaller than the grid repeats its pixels."""
    table = np.zeros((image.shape[0] + 1, image.shape[1] + 1, 3), np.int64)  # sums of all pixels above and left
    table[1:, 1:] = image.cumsum(axis=0, dtype=np.int64).cumsum(axis=1)
    crops, cells = [], np.arange(GRID)
    for x1, y1, x2, y2 in boxes:
        top, left = y1 + cells * (y2 - y1) // GRID, x1 + cells * (x2 - x1) // GRID
        bottom = np.maximum(y1 + (cells + 1) * (y2 - y1) // GRID, top + 1)
        right = np.maximum(x1 + (cells + 1) * (x2 - x1) // GRID, left + 1)
        sums = table[bottom][:, right] - table[top][:, right] - table[bottom][:, left] + table[top][:, left]
        crops.append(sums // ((bottom - top)[:, None] * (right - left))[..., None])
    return np.stack(crops)


def _responses(crops):
    """Stage 2: int64 [R, GRID, GRID, 3] -> whole numbers, float64 [R, 2 * 96 + 2 * 64 + 144]."""
    pixels = crops[:, ::2, ::2].astype(np.float64) - 128  # every second cell is enough for colour
    hits = np.maximum(pixels @ _COLOUR_FILTERS + _COLOUR_OFFSETS, 0)  # [R, 12, 12, 96]
    responses = [hits.sum(axis=(1, 2)), hits[:, 3:9, 3:9].sum(axis=(1, 2))]

    light = crops[:, 3:21, 3:21].sum(axis=3) // 3  # [R, 18, 18]
    light = light - light.sum(axis=(1, 2), keepdims=True) // 324
    contrast = np.maximum(np.abs(light).sum(axis=(1, 2), keepdims=True) // 324, 6)
    for picture in (light, light * 64 // contrast):
        shifts = [picture[:, y : y + 16, x : x + 16] for y in range(3) for x in range(3)]
        patches = np.stack(shifts, axis=-1).astype(np.float64)  # [R, 16, 16, 9]
        responses.append(np.maximum(patches @ _TEXTURE_FILTERS, 0).sum(axis=(1, 2)))

    edge = np.concatenate([crops[:, 0], crops[:, -1], crops[:, 1:-1, 0], crops[:, 1:-1, -1]], axis=1)
    typical = np.sort(edge, axis=1)[:, edge.shape[1] // 2]  # median of the border cells, [R, 3]
    unlike = np.minimum(np.abs(crops - typical[:, None, None]).sum(axis=3), 120)
    outline = unlike.reshape(-1, 12, 2, 12, 2).sum(axis=(2, 4)).reshape(-1, 144)
    return np.concatenate([*responses, outline.astype(np.float64)], axis=1)
