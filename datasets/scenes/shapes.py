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


def _mirrored(*corners):
    """A polygon from its right half, whose first corner is on the axis."""
    return [*corners, *((-x, y) for x, y in reversed(corners[1:]))]


_PETALS = [_around(0.6, 72 * k) for k in range(5)]
_SAILS = [(0.0, -0.95), (0.75, 0.25), (0.0, 0.25)], [(-0.12, -0.6), (-0.12, 0.25), (-0.7, 0.25)]
_HULL = [(-0.98, 0.38), (0.98, 0.38), (0.6, 0.9), (-0.6, 0.9)]
_CORNERS = {  # coordinates with the centre at 0 and the radius at 1; the second one points down
    "triangle": [(0.0, -0.95), (0.9, 0.72), (-0.9, 0.72)],
    "star": [_around(0.42 if k % 2 else 1.0, 36 * k) for k in range(10)],
    "arrow": [(-0.95, -0.26), (0.1, -0.26), (0.1, -0.75), (0.95, 0.0), (0.1, 0.75), (0.1, 0.26), (-0.95, 0.26)],
    "bolt": [(-0.2, -1.0), (0.6, -1.0), (0.25, -0.3), (0.8, -0.3), (-0.35, 1.0), (-0.1, 0.2), (-0.75, 0.2)],
    "hourglass": [(-0.75, -0.95), (0.75, -0.95), (0.16, 0.0), (0.75, 0.95), (-0.75, 0.95), (-0.16, 0.0)],
    "crown": [(-0.9, 0.7), (-0.9, -0.6), (-0.42, 0.0), (0.0, -0.8), (0.42, 0.0), (0.9, -0.6), (0.9, 0.7)],
    "house": _mirrored((0.0, -0.95), (0.98, -0.05), (0.75, -0.05), (0.75, 0.85), (0.22, 0.85), (0.22, 0.25)),
    "tree": _mirrored((0.0, -1.0), (0.6, -0.1), (0.32, -0.1), (0.85, 0.62), (0.18, 0.62), (0.18, 1.0)),
}


def _polygon(u, v, corners):
    """Even-odd rule: a point is inside if a ray to the right crosses an odd number of edges."""
    inside = np.zeros(np.broadcast(u, v).shape, bool)
    for (ax, ay), (bx, by) in zip(corners, corners[1:] + corners[:1], strict=True):
        if ay != by:
            crosses = (ay > v) != (by > v)
            inside ^= crosses & (u < ax + (bx - ax) * ((v - ay) / (by - ay)))
    return inside


def _far(u, v, x=0.0, y=0.0):
    """Squared distance from (x, y)."""
    return np.square(u - x) + np.square(v - y)


def _bar(u, v, x, y, wide, tall):
    """A rectangle around (x, y) that reaches `wide` and `tall` to both sides."""
    return (np.abs(u - x) <= wide) & (np.abs(v - y) <= tall)


def _heart(u, v):
    """The curve (x^2 + y^2 - 1)^3 = x^2 y^3, scaled to the unit circle."""
    x, y = u * 1.2, 0.12 - v * 1.2
    ball = x * x + y * y - 1.0
    return ball * ball * ball - x * x * y * y * y <= 0


_CURVED = {
    "circle": lambda u, v: _far(u, v) <= 0.92,
    "square": lambda u, v: _bar(u, v, 0, 0, 0.8, 0.8),
    "ring": lambda u, v: (_far(u, v) <= 0.96) & (_far(u, v) >= 0.25),
    "cross": lambda u, v: _bar(u, v, 0, 0, 0.92, 0.3) | _bar(u, v, 0, 0, 0.3, 0.92),
    "heart": _heart,
    "moon": lambda u, v: (_far(u, v) <= 0.96) & (_far(u, v, 0.55) >= 0.5),
    "flower": lambda u, v: (_far(u, v) <= 0.2) | np.any([_far(u, v, *petal) <= 0.14 for petal in _PETALS], axis=0),
    "fish": lambda u, v: (
        (_far((u + 0.22) / 0.76, v / 0.55) <= 1) | ((u >= 0.35) & (u <= 1.0) & (np.abs(v) <= 0.08 + (u - 0.35) * 0.9))
    ),
    "drop": lambda u, v: (_far(u, v, 0, 0.34) <= 0.38) | ((v >= -1.0) & (v <= 0.2) & (np.abs(u) <= 0.5 * (v + 1.0))),
    "boat": lambda u, v: (
        _bar(u, v, -0.06, -0.2, 0.06, 0.65) | np.any([_polygon(u, v, part) for part in (*_SAILS, _HULL)], axis=0)
    ),
    "mushroom": lambda u, v: (
        ((v <= 0.1) & (_far(u / 0.98, (v - 0.1) / 0.98) <= 1)) | ((np.abs(u) <= 0.3) & (v >= 0) & (v <= 0.92))
    ),
    "flag": lambda u, v: (
        _bar(u, v, -0.7, 0, 0.11, 0.98)
        | ((u >= -0.7) & (np.abs(v + 0.4) <= 0.52) & (u <= 0.5 + 0.85 * np.abs(v + 0.4)))
    ),
}


def inside(shape, u, v):
    """bool: whether points in object coordinates (radius = 1) belong to a shape."""
    return _polygon(u, v, _CORNERS[shape]) if shape in _CORNERS else _CURVED[shape](u, v)


def local_coordinates(item, width, height, samples=1):
    """Rows and columns (slices) of a picture of width x height that surely hold a `SceneObject`, and u, v of their
    sub-pixels, `samples` per pixel and axis: float64 [rows * samples, columns * samples], turned by the object's angle,
    radius = 1."""
    (x, y), reach = item.centre, item.radius + item.radius // 4 + 2
    x1, y1, x2, y2 = max(0, x - reach), max(0, y - reach), min(width, x + reach), min(height, y + reach)
    xs = (x1 - x) + (np.arange((x2 - x1) * samples) + 0.5) / samples
    ys = (y1 - y) + (np.arange((y2 - y1) * samples) + 0.5) / samples
    cos, sin = (round(4096 * turn(math.radians(item.angle))) / 4096 for turn in (math.cos, math.sin))
    u = xs * cos + (ys * sin)[:, None]
    v = (ys * cos)[:, None] - xs * sin
    return np.s_[y1:y2, x1:x2], u / item.radius, v / item.radius
