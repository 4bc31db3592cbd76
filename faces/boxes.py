"""Arithmetic of boxes: float32 (N, 4), x1, y1, x2, y2 in px."""

import numpy as np

from hparams import HParams


def overlap(boxes: np.ndarray, box: np.ndarray) -> np.ndarray:
    """Intersection over union of each of `boxes` (N, 4) with `box` (4,): (N,), 0 to 1."""
    sides = np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2])
    shared = sides.clip(min=0).prod(axis=1)
    union = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod() - shared
    return np.divide(shared, union, out=np.zeros_like(shared), where=union > 0)


def pad_boxes(boxes: np.ndarray, pads: tuple[int, int, int, int], height: int, width: int) -> np.ndarray:
    """`boxes` grown by `pads` (top, bottom, left, right) px and clipped to the frame; rows of NaN stay so."""
    top, bottom, left, right = pads
    padded = boxes + np.array([-left, -top, right, bottom], dtype=np.float32)
    return np.clip(padded, 0, np.array([width, height, width, height], dtype=np.float32))


def steady_boxes(boxes: np.ndarray, window: int = HParams.smooth_frames) -> np.ndarray:
    """Boxes against jitter: each the mean of `window` around it, float32 (N, 4); of one fewer where that is even.

    Near the ends as many on either side as there are on the shorter one, so that the box of a head that moves is
    neither ahead of it nor behind. Every frame must have a box.
    """
    assert np.isfinite(boxes).all(), "steady_boxes got frames without a face: fill them, or leave them out"
    n = np.arange(len(boxes))
    reach = np.minimum((window - 1) // 2, np.minimum(n, n[::-1]))
    sums = np.concatenate([np.zeros((1, 4)), boxes.cumsum(axis=0, dtype=np.float64)])
    return ((sums[n + reach + 1] - sums[n - reach]) / (2 * reach + 1)[:, None]).astype(np.float32)


def smooth_boxes(boxes: np.ndarray, window: int = HParams.smooth_frames) -> np.ndarray:
    """As `steady_boxes`, but as in the official inference, two frames ahead of a head that moves.

    Whole pixels, box i = mean of boxes i ... i + window - 1.
    Means are truncated to whole pixels and written over the boxes as they are made. The last window - 1 boxes all take
    the mean of the final `window` ones, of which some are smoothed already. window=1 only truncates. Where there are
    fewer boxes than `window`, all are averaged. Every frame must have a box.
    """
    assert np.isfinite(boxes).all(), "smooth_boxes got frames without a face: fill them, or leave them out"
    smooth = np.trunc(boxes).astype(np.float64)
    last_start = max(0, len(smooth) - window)
    for i in range(len(smooth)):
        start = min(i, last_start)
        smooth[i] = np.trunc(smooth[start : start + window].mean(axis=0))
    return smooth.astype(np.float32)
