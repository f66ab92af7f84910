"""The twenty shapes of *scenes* as point tests, exact on every machine.

Only element-wise +, -, *, / and comparisons are used on float64 (IEEE rounds them the same everywhere); sines and
cosines are rounded to 1/4096, because their last bit differs between maths libraries.
"""

import math

import numpy as np


def _around(radius, degrees):
    """The point at a distance and clockwise angle from straight up, rounded to 1/4096."""
    angle = math.radians(degrees)
    return round(4096 * radius * math.sin(angle)) / 4096, -round(4096 * radius * math.cos(angle)) / 4096


_STAR = [_around(0.42 if k % 2 else 1.0, 36 * k) for k in range(10)]
_PETALS = [_around(0.6, 72 * k) for k in range(5)]
_TRIANGLE = [(0.0, -0.95), (0.9, 0.72), (-0.9, 0.72)]
_HOURGLASS = [(-0.75, -0.95), (0.75, -0.95), (0.16, 0.0), (0.75, 0.95), (-0.75, 0.95), (-0.16, 0.0)]
_ARROW = [(-0.95, -0.26), (0.1, -0.26), (0.1, -0.75), (0.95, 0.0), (0.1, 0.75), (0.1, 0.26), (-0.95, 0.26)]
_BOLT = [(-0.2, -1.0), (0.6, -1.0), (0.25, -0.3), (0.8, -0.3), (-0.35, 1.0), (-0.1, 0.2), (-0.75, 0.2)]
_HOUSE = [(0.0, -0.95), (0.98, -0.05), (0.75, -0.05), (0.75, 0.85), (0.22, 0.85), (0.22, 0.25)]
_HOUSE += [(-x, y) for x, y in reversed(_HOUSE[1:])]  # the other half
_TREE = [(0.0, -1.0), (0.6, -0.1), (0.32, -0.1), (0.85, 0.62), (0.18, 0.62), (0.18, 1.0)]
_TREE += [(-x, y) for x, y in reversed(_TREE[1:])]
_SAIL, _JIB = [(0.0, -0.95), (0.75, 0.25), (0.0, 0.25)], [(-0.12, -0.6), (-0.12, 0.25), (-0.7, 0.25)]
_HULL = [(-0.98, 0.38), (0.98, 0.38), (0.6, 0.9), (-0.6, 0.9)]
_CROWN = [(-0.9, 0.7), (-0.9, -0.6), (-0.42, 0.0), (0.0, -0.8), (0.42, 0.0), (0.9, -0.6), (0.9, 0.7)]


def _polygon(u, v, corners):
    """Even-odd rule: a point is inside if a ray to the right crosses an odd number of edges."""
    inside = np.zeros(np.broadcast(u, v).shape, bool)
    for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
        if ay != by:
            crosses = (ay > v) != (by > v)
            inside ^= crosses & (u < ax + (bx - ax) * ((v - ay) / (by - ay)))
    return inside


def _heart(u, v):
    """The curve (x^2 + y^2 - 1)^3 = x^2 y^3, scaled to the unit circle."""
    x, y = u * 1.2, 0.12 - v * 1.2
    ball = x * x + y * y - 1.0
    return ball * ball * ball - x * x * y * y * y <= 0


def _cross(u, v):
    across, along = np.abs(u), np.abs(v)
    return (np.maximum(across, along) <= 0.92) & (np.minimum(across, along) <= 0.3)


def _flower(u, v):
    inside = u * u + v * v <= 0.2
    for x, y in _PETALS:
        inside |= (u - x) * (u - x) + (v - y) * (v - y) <= 0.14
    return inside


def _fish(u, v):
    x, y = (u + 0.22) / 0.76, v / 0.55
    return (x * x + y * y <= 1) | ((u >= 0.35) & (u <= 1.0) & (np.abs(v) <= 0.08 + (u - 0.35) * 0.9))


def _drop(u, v):
    ball = u * u + (v - 0.34) * (v - 0.34) <= 0.38
    return ball | ((v >= -1.0) & (v <= 0.2) & (np.abs(u) <= 0.5 * (v + 1.0)))


def _boat(u, v):
    mast = (np.abs(u + 0.06) <= 0.06) & (np.abs(v + 0.2) <= 0.65)
    return _polygon(u, v, _SAIL) | _polygon(u, v, _JIB) | _polygon(u, v, _HULL) | mast


def _mushroom(u, v):
    x, y = u / 0.98, (v - 0.1) / 0.98
    return ((v <= 0.1) & (x * x + y * y <= 1)) | ((np.abs(u) <= 0.3) & (v >= 0) & (v <= 0.92))


def _flag(u, v):
    pole = (np.abs(u + 0.7) <= 0.11) & (np.abs(v) <= 0.98)
    return pole | ((u >= -0.7) & (np.abs(v + 0.4) <= 0.52) & (u <= 0.5 + 0.85 * np.abs(v + 0.4)))


# Each test takes coordinates with the centre at 0 and the radius at 1; v points down.
_INSIDE = {
    "circle": lambda u, v: u * u + v * v <= 0.92,
    "square": lambda u, v: np.maximum(np.abs(u), np.abs(v)) <= 0.8,
    "triangle": lambda u, v: _polygon(u, v, _TRIANGLE),
    "star": lambda u, v: _polygon(u, v, _STAR),
    "ring": lambda u, v: (u * u + v * v <= 0.96) & (u * u + v * v >= 0.25),
    "cross": _cross,
    "heart": _heart,
    "moon": lambda u, v: (u * u + v * v <= 0.96) & ((u - 0.55) * (u - 0.55) + v * v >= 0.5),
    "arrow": lambda u, v: _polygon(u, v, _ARROW),
    "bolt": lambda u, v: _polygon(u, v, _BOLT),
    "hourglass": lambda u, v: _polygon(u, v, _HOURGLASS),
    "crown": lambda u, v: _polygon(u, v, _CROWN),
    "house": lambda u, v: _polygon(u, v, _HOUSE),
    "tree": lambda u, v: _polygon(u, v, _TREE),
    "flower": _flower,
    "fish": _fish,
    "drop": _drop,
    "boat": _boat,
    "mushroom": _mushroom,
    "flag": _flag,
}
SHAPES = tuple(_INSIDE)


def extent(item, width, height):
    """Pixel window (x1, y1, x2, y2) that surely holds an object, clipped to the picture."""
    reach = item.radius + item.radius // 4 + 2
    x, y = item.centre
    return max(0, x - reach), max(0, y - reach), min(width, x + reach), min(height, y + reach)


def local_coordinates(item, window, samples=1):
    """Object coordinates of the sub-pixels of a window.

    Args:
        item: a `SceneObject`.
        window: (x1, y1, x2, y2) in pixels.
        samples: sub-pixels per pixel and axis.
    Returns:
        u, v: float64 [(y2 - y1) * samples, (x2 - x1) * samples], turned by the object's angle; radius = 1.
    """
    x1, y1, x2, y2 = window
    xs = (x1 - item.centre[0]) + (np.arange((x2 - x1) * samples) + 0.5) / samples
    ys = (y1 - item.centre[1]) + (np.arange((y2 - y1) * samples) + 0.5) / samples
    cos = round(4096 * math.cos(math.radians(item.angle))) / 4096
    sin = round(4096 * math.sin(math.radians(item.angle))) / 4096
    u = (xs * cos)[None, :] + (ys * sin)[:, None]
    v = (ys * cos)[:, None] - (xs * sin)[None, :]
    return u / item.radius, v / item.radius


def inside(shape, u, v):
    """bool: whether points in object coordinates (radius = 1) belong to a shape."""
    return _INSIDE[shape](u, v)
