"""One face's box in every frame of a video: found in some frames, interpolated between them."""

from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np

from faces.boxes import overlap
from faces.detector import Detections, Detector
from hparams import HParams

# Two boxes belong to the same face when their intersection is more than this share of their union.
SAME_FACE_OVERLAP = 0.3

# What `fill_gaps` says about a frame.
NO_FACE, DETECTED, FILLED = 0, 1, 2

NO_BOX = np.full(4, np.nan, dtype=np.float32)


def detect_boxes(
    frames: Iterable[np.ndarray], detector: Detector, every: int = 1, batch_size: int = HParams.face_det_batch_size
) -> np.ndarray:
    """The speaker's box in every `every`-th frame and the last one: float32 (N, 4).

    Rows of frames not looked at, or without a face, are NaN. With several faces in a frame it is the one that overlaps
    the box found before, or else the best-scoring one. Frames are taken one at a time and at most `batch_size` kept.
    """
    boxes = []
    previous = None
    looked_at = every_nth_and_last(frames, every)
    while batch := list(islice(looked_at, batch_size)):
        numbers, images = zip(*batch, strict=True)
        for number, found in zip(numbers, detector.detect(images), strict=True):
            boxes.extend([NO_BOX] * (number - len(boxes)))
            if len(found.boxes):
                previous = same_face_or_best(found, previous)
                boxes.append(previous)
            else:
                boxes.append(NO_BOX)
    return np.array(boxes, dtype=np.float32).reshape(-1, 4)


def every_nth_and_last(frames: Iterable[np.ndarray], every: int) -> Iterator[tuple[int, np.ndarray]]:
    """(number, frame) of frames 0, every, 2 * every, ... and of the last."""
    last = None
    for number, frame in enumerate(frames):
        last = None
        if number % every == 0:
            yield number, frame
        else:
            last = number, frame
    if last:
        yield last


def same_face_or_best(found: Detections, previous: np.ndarray | None) -> np.ndarray:
    if previous is not None:
        overlaps = overlap(found.boxes, previous)
        if overlaps.max() > SAME_FACE_OVERLAP:
            return found.boxes[overlaps.argmax()]
    return found.boxes[0]


def fill_gaps(boxes: np.ndarray, max_gap: int, every: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Fills the rows of NaN that `detect_boxes` left: boxes float32 (N, 4), status uint8 (N,) of each frame.

    A gap of at most max(max_gap, every - 1) frames is filled by linear interpolation when the boxes on both sides
    overlap, so belong to one face. Longer gaps, gaps between two faces, and those at either end stay NaN.
    status: NO_FACE, DETECTED or FILLED.
    """
    boxes = boxes.copy()
    status = np.where(np.isnan(boxes).any(axis=1), NO_FACE, DETECTED).astype(np.uint8)
    detected = np.flatnonzero(status == DETECTED)
    for before, after in zip(detected[:-1], detected[1:], strict=True):
        missing = after - before - 1
        if not 0 < missing <= max(max_gap, every - 1):
            continue
        if overlap(boxes[before : before + 1], boxes[after]) > SAME_FACE_OVERLAP:
            share = np.arange(1, missing + 1)[:, None] / (missing + 1)
            boxes[before + 1 : after] = (1 - share) * boxes[before] + share * boxes[after]
            status[before + 1 : after] = FILLED
    return boxes, status
