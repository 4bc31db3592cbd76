"""How sure a mean over clips is: the bootstrap, which draws the clips again and again with replacement.

Windows of one clip resemble each other, so whole clips are drawn, not windows: a thousand windows of five speakers say
no more about a sixth one than five speakers can.
"""

import warnings

import numpy as np

LEVEL = 0.95  # share of such intervals that hold the truth, given some dozens of clips
RESAMPLES = 1000


def mean_over_clips(values: np.ndarray) -> np.ndarray:
    """Mean over the clips that have a value, each with the same weight: (C, …) -> (…), NaN where no clip has one."""
    return _weighted_means(values, np.ones((1, len(values))))[0]


def confidence_interval(values: np.ndarray, of_mean=lambda mean: mean, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """(low, high) of of_mean(mean over clips of values (C, …)), NaN where fewer than two clips have a value.

    The percentile interval of Efron 1979. The same seed draws the same clips, whatever is measured on them.
    """
    clips = len(values)
    drawn = np.random.default_rng(seed).multinomial(clips, np.full(clips, 1 / clips), size=RESAMPLES)  # (R, C)
    means = np.where(np.isfinite(values).sum(axis=0) < 2, np.nan, _weighted_means(values, drawn))  # (R, …)
    tails = (1 - LEVEL) / 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # nothing but NaN is an answer here
        # A resample may hold no clip that has a value: it says nothing and is not counted.
        low, high = np.nanquantile(of_mean(means), (tails, 1 - tails), axis=0)
    return low, high


def _weighted_means(values: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """values (C, …), weights (R, C): how often each clip counts -> (R, …)."""
    flat = values.reshape(len(values), -1)  # (C, K)
    with np.errstate(invalid="ignore"):
        means = (weights @ np.nan_to_num(flat)) / (weights @ np.isfinite(flat).astype(float))  # (R, K)
    return means.reshape(len(weights), *values.shape[1:])
