"""2048 numbers per region from the pixels of its crop: fixed seeded filters, nothing learned, same bytes everywhere.

The crop is averaged to 24 x 24 cells. Four banks of random filters with whole-number weights look at it, each followed
by ReLU, as in the first layers of a convolutional network whose weights were never trained:

    values       bank      sees
    0..383       colour    random mixtures of R, G, B per cell, averaged over the whole crop
    384..767     colour    the same, averaged over the middle of the crop, where the object is
    768..1151    texture   random 3 x 3 patterns of brightness, averaged over the middle
    1152..2047   outline   random mixtures of an 8 x 8 map "unlike the border of the crop"

All arithmetic is on whole numbers small enough to be exact in float64, in any order of summation; the results are
multiples of 1/64. So the values do not depend on the processor, the BLAS library or the number of threads. They are
non-negative, about half of them zero, with a mean near 0.4, as detector features are.
"""

import numpy as np

from oscar_paddle.datasets.scenes_world import Stream

FEATURE_SIZE = 2048
GRID = 24  # cells per side of a resized crop
_COLOUR, _TEXTURE, _OUTLINE = 384, 384, 896
_STEP = 64.0  # values are multiples of 1/64
_CAP = 640  # 10.0


def _bank(name, rows, columns, low, high):
    """Whole-number weights [rows, columns] in [low, high], drawn once for all data sets."""
    return Stream("features", name).noise().randint(low, high + 1, size=(rows, columns)).astype(np.float64)


_COLOUR_WEIGHTS = _bank("colour", 3, _COLOUR, -4, 4)
_COLOUR_OFFSETS = _bank("colour offsets", 1, _COLOUR, -700, 700)
_TEXTURE_WEIGHTS = _bank("texture", 9, _TEXTURE, -3, 3)
_TEXTURE_WEIGHTS[8] -= _TEXTURE_WEIGHTS.sum(axis=0)  # zero sum: flat areas give nothing
_TEXTURE_OFFSETS = _bank("texture offsets", 1, _TEXTURE, 0, 250)
_OUTLINE_WEIGHTS = _bank("outline", 64, _OUTLINE, -3, 3)


def region_features(image, boxes):
    """Feature vectors of the crops of one picture.

    Args:
        image: uint8 [height, width, 3].
        boxes: R boxes (x1, y1, x2, y2), whole pixels, x1 < x2 and y1 < y2, inside the picture.
    Returns:
        float32 [R, 2048], multiples of 1/64 in [0, 10].
    """
    crops = np.stack([_resize(image[y1:y2, x1:x2]) for x1, y1, x2, y2 in boxes])
    banks = np.concatenate([_colour_bank(crops), _texture_bank(crops), _outline_bank(crops)], axis=1)
    return (np.minimum(banks, _CAP) / _STEP).astype(np.float32)


def with_box_values(features, boxes, width, height):
    """Append [x1/W, y1/H, x2/W, y2/H, w/W, h/H].

    Args:
        features: float32 [R, 2048].
        boxes: R boxes (x1, y1, x2, y2) in pixels.
        width, height: of the picture in pixels.
    Returns:
        float32 [R, 2054].
    Source: specs/common_model.md 4.1.
    """
    boxes = np.asarray(boxes, np.float64)
    corners = boxes / [width, height, width, height]
    extents = (boxes[:, 2:] - boxes[:, :2]) / [width, height]
    return np.concatenate([features, corners.astype(np.float32), extents.astype(np.float32)], axis=1)


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


def _colour_bank(crops):
    """[R, GRID, GRID, 3] -> [R, 2 * _COLOUR]."""
    pixels = crops[:, ::2, ::2].astype(np.float64) - 128  # every second cell is enough for colour
    hits = np.maximum(pixels @ _COLOUR_WEIGHTS + _COLOUR_OFFSETS, 0)  # [R, 12, 12, _COLOUR]
    whole = hits.sum(axis=(1, 2)) // (144 * 14)
    middle = hits[:, 3:9, 3:9].sum(axis=(1, 2)) // (36 * 14)
    return np.concatenate([whole, middle], axis=1)


def _texture_bank(crops):
    """[R, GRID, GRID, 3] -> [R, _TEXTURE]."""
    light = crops.sum(axis=3) // 3
    middle = light[:, 3:21, 3:21]  # [R, 18, 18]
    shifts = [middle[:, y : y + 16, x : x + 16] for y in range(3) for x in range(3)]
    patches = np.stack(shifts, axis=-1).astype(np.float64)  # [R, 16, 16, 9]
    hits = np.maximum(patches @ _TEXTURE_WEIGHTS - _TEXTURE_OFFSETS, 0)
    return hits.sum(axis=(1, 2)) // (256 * 3)


def _outline_bank(crops):
    """[R, GRID, GRID, 3] -> [R, _OUTLINE]."""
    edge = np.concatenate([crops[:, 0], crops[:, -1], crops[:, 1:-1, 0], crops[:, 1:-1, -1]], axis=1)
    typical = np.sort(edge, axis=1)[:, edge.shape[1] // 2]  # median of the border cells, [R, 3]
    unlike = np.minimum(np.abs(crops - typical[:, None, None]).sum(axis=3), 120)
    maps = unlike.reshape(len(crops), 8, 3, 8, 3).sum(axis=(2, 4))  # [R, 8, 8], at most 1080
    flat = maps.reshape(len(crops), 64).astype(np.float64)
    flat -= flat.sum(axis=1, keepdims=True) // 64
    return np.maximum(flat @ _OUTLINE_WEIGHTS, 0) // 110
