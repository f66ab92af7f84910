"""The eight shapes of *scenes* as point tests, exact on every machine.

Only element-wise +, -, *, / and comparisons are used on float64 (IEEE rounds them the same everywhere); sines and
cosines are rounded to 1/4096, because their last bit differs between maths libraries.
"""

import math

import numpy as np


def _star_corners():
    """Ten corners of a five-pointed star of radius 1, rounded to 1/4096."""
    corners = []
    for k in range(10):
        radius = 1.0 if k % 2 == 0 else 0.42
        angle = math.radians(36 * k)
        corners.append((round(4096 * radius * math.sin(angle)) / 4096, -round(4096 * radius * math.cos(angle)) / 4096))
    return corners


_STAR = _star_corners()
_TRIANGLE = [(0.0, -0.95), (0.9, 0.72), (-0.9, 0.72)]


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
}
SHAPES = tuple(_INSIDE)


def extent(item, width, height):
    """Pixel window (x1, y1, x2, y2) that surely holds an object, clipped to the picture."""
    reach = item.radius + item.radius // 4 + 2
    x, y = item.centre
    return max(0, x - reach), max(0, y - reach), min(width, x + reach), min(height, y + reach)


def local_coordinates(item, window, samples):
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


def inside_mask(item, window, samples=1):
    """bool mask of the sub-pixels of a window that belong to an object."""
    return _INSIDE[item.shape](*local_coordinates(item, window, samples))


def inside(shape, u, v):
    """bool: whether points in object coordinates (radius = 1) belong to a shape."""
    return _INSIDE[shape](u, v)
