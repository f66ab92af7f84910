"""How far two sets of gradients are apart; without Paddle."""

import math

import numpy as np


def relative(found, wanted):
    """Largest difference of two dicts of gradients, tensor by tensor; of tiny ones, relative to a thousandth of all."""
    if found.keys() != wanted.keys():
        return float("inf")
    norm = {name: float(np.linalg.norm(value)) for name, value in wanted.items()}
    floor = 1e-3 * math.sqrt(sum(value**2 for value in norm.values()))
    return max(float(np.linalg.norm(found[name] - value)) / max(norm[name], floor) for name, value in wanted.items())
