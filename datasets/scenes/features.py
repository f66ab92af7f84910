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
from oscar_paddle.datasets.scenes.drawing import draw_scene
from oscar_paddle.datasets.scenes.world import Stream, sample_scene

FEATURE_SIZE = 2048
GRID = 24  # cells per side of a resized crop
_STEP = 16  # values are multiples of 1/16
_LARGEST = 10
_CALIBRATION_SCENES = 64
_SILENT = 0.8  # share of crops for which a unit gives zero
_FINE = 32  # steps per mean absolute deviation, in stage 3


def _weights(name, rows, columns, low, high):
    """Whole-number weights [rows, columns] in [low, high], drawn once for all data sets."""
    return Stream("features", name).noise().randint(low, high + 1, size=(rows, columns)).astype(np.float64)


_COLOUR_FILTERS = _weights("colour", 3, 96, -4, 4)
_COLOUR_OFFSETS = _weights("colour offsets", 1, 96, -400, 400)
_TEXTURE_FILTERS = _weights("texture", 9, 64, -3, 3)
_TEXTURE_FILTERS[8] -= _TEXTURE_FILTERS.sum(axis=0)  # zero sum: flat areas give nothing
_MIXERS = (
    _weights("mix colour", 2 * 96, 768, -2, 2),
    _weights("mix texture", 2 * 64, 384, -2, 2),
    _weights("mix outline", 144, 896, -2, 2),
)


def region_features(image, boxes):
    """Feature vectors of the crops of one picture.

    Args:
        image: uint8 [height, width, 3].
        boxes: R boxes (x1, y1, x2, y2), whole pixels, x1 < x2 and y1 < y2, inside the picture.
    Returns:
        float32 [R, 2048], multiples of 1/16 in [0, 10].
    """
    crops = np.stack([_resize(image[y1:y2, x1:x2]) for x1, y1, x2, y2 in boxes])
    medians, deviations, thresholds, measures = _calibration()
    excess = np.maximum(_mix(_responses(crops), medians, deviations) - thresholds, 0)
    return (np.minimum(excess * _STEP // measures, _LARGEST * _STEP) / _STEP).astype(np.float32)


def with_box_values(features, boxes, width, height):
    """Append [x1/W, y1/H, x2/W, y2/H, w/W, h/H].

    Args:
        features: float32 [R, 2048].
        boxes: R boxes (x1, y1, x2, y2) in pixels.
        width, height: of the picture in pixels.
    Returns:
        float32 [R, 2054].
    Source: docs/reference.md, regions.
    """
    boxes = np.asarray(boxes, np.float64)
    corners = boxes / [width, height, width, height]
    extents = (boxes[:, 2:] - boxes[:, :2]) / [width, height]
    return np.concatenate([features, corners.astype(np.float32), extents.astype(np.float32)], axis=1)


@lru_cache(maxsize=1)
def _calibration():
    """Medians and mean absolute deviations of the responses, thresholds and units of measure of the 2048 units: whole
    numbers from the calibration scenes. About a second, once per process."""
    crops = []
    for index in range(_CALIBRATION_SCENES):
        scene = sample_scene("calibration", "train", index)
        image = draw_scene(scene, "calibration")
        crops += [_resize(image[y1:y2, x1:x2]) for x1, y1, x2, y2 in (r.box for r in detect(scene, "calibration"))]
    responses = _responses(np.stack(crops))
    medians = np.sort(responses, axis=0)[len(crops) // 2]
    deviations = np.maximum(np.abs(responses - medians).sum(axis=0) // len(crops), 1)
    sums = np.sort(_mix(responses, medians, deviations), axis=0)
    thresholds = sums[int(_SILENT * len(crops))]
    excess = np.maximum(sums - thresholds, 0)
    measures = np.maximum(excess.sum(axis=0) // np.maximum((excess > 0).sum(axis=0), 1), 1)
    return medians, deviations, thresholds, measures


def _mix(responses, medians, deviations):
    """Stages 3 and 4 before the threshold: whole numbers, float64 [R, responses] -> [R, 2048]."""
    level = np.clip((responses - medians) * _FINE // deviations, -4 * _FINE, 4 * _FINE)
    ends = np.cumsum([len(mixer) for mixer in _MIXERS])
    parts = np.split(level, ends[:-1], axis=1)
    return np.concatenate([part @ mixer for part, mixer in zip(parts, _MIXERS, strict=True)], axis=1)


def _responses(crops):
    """Stage 2: int64 [R, GRID, GRID, 3] -> whole numbers, float64 [R, 2 * 96 + 2 * 64 + 144]."""
    return np.concatenate([_colour(crops), _texture(crops), _outline(crops)], axis=1)


def _resize(crop):
    """Cell averages, rounded down: int64 [GRID, GRID, 3]. A crop smaller than the grid repeats its pixels."""
    height, width, _ = crop.shape
    table = np.zeros((height + 1, width + 1, 3), np.int64)  # sums of all pixels above and left
    table[1:, 1:] = crop.cumsum(axis=0, dtype=np.int64).cumsum(axis=1)
    cells = np.arange(GRID)
    top, left = cells * height // GRID, cells * width // GRID
    bottom = np.maximum((cells + 1) * height // GRID, top + 1)
    right = np.maximum((cells + 1) * width // GRID, left + 1)
    sums = table[bottom][:, right] - table[top][:, right] - table[bottom][:, left] + table[top][:, left]
    return sums // ((bottom - top)[:, None] * (right - left)[None, :])[..., None]


def _colour(crops):
    pixels = crops[:, ::2, ::2].astype(np.float64) - 128  # every second cell is enough for colour
    hits = np.maximum(pixels @ _COLOUR_FILTERS + _COLOUR_OFFSETS, 0)  # [R, 12, 12, 96]
    return np.concatenate([hits.sum(axis=(1, 2)), hits[:, 3:9, 3:9].sum(axis=(1, 2))], axis=1)


def _texture(crops):
    light = crops[:, 3:21, 3:21].sum(axis=3) // 3  # [R, 18, 18]
    light = light - light.sum(axis=(1, 2), keepdims=True) // 324
    contrast = np.maximum(np.abs(light).sum(axis=(1, 2), keepdims=True) // 324, 6)
    responses = []
    for picture in (light, light * 64 // contrast):
        shifts = [picture[:, y : y + 16, x : x + 16] for y in range(3) for x in range(3)]
        patches = np.stack(shifts, axis=-1).astype(np.float64)  # [R, 16, 16, 9]
        responses.append(np.maximum(patches @ _TEXTURE_FILTERS, 0).sum(axis=(1, 2)))
    return np.concatenate(responses, axis=1)


def _outline(crops):
    edge = np.concatenate([crops[:, 0], crops[:, -1], crops[:, 1:-1, 0], crops[:, 1:-1, -1]], axis=1)
    typical = np.sort(edge, axis=1)[:, edge.shape[1] // 2]  # median of the border cells, [R, 3]
    unlike = np.minimum(np.abs(crops - typical[:, None, None]).sum(axis=3), 120)
    return unlike.reshape(len(crops), 12, 2, 12, 2).sum(axis=(2, 4)).reshape(len(crops), 144).astype(np.float64)
