"""Slow random curves: how pitch, head and light drift in the toy corpus."""

import numpy as np
from scipy.interpolate import PchipInterpolator


def wander(rng: np.random.Generator, times_s: np.ndarray, period_s: float) -> np.ndarray:
    """A smooth curve (n,) in [-1, 1] through a new random height every `period_s` seconds; `times_s` start at 0."""
    knots = np.arange(-1, times_s[-1] / period_s + 3) * period_s
    return PchipInterpolator(knots, rng.uniform(-1, 1, len(knots)))(times_s)
