"""One face's box in every frame of a video: found in some frames, interpolated between them."""

from collections.abc import Iterable, Iterator
from itertools import islice, takewhile

import numpy as np

from faces.boxes import overlap
from faces.detector import Detector
from hparams import HParams

# Two boxes belong to the same face when their intersection is more than this share of their union.
SAME_FACE_OVERLAP = 0.3

# What `fill_gaps` says about a frame.
NO_FACE, DETECTED, FILLED = 0, 1, 2

NO_BOX = np.full(4, np.nan, dtype=np.float32)


def track_face(
    frames: Iterable[np.ndarray], detector: Detector, hp: HParams, batch_size: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The speaker's box in every frame and how it was found, as `detect_boxes` and `fill_gaps` say, with their hparams.

    batch_size: frames the detector gets at once; None = the hparam.
    """
    boxes = detect_boxes(frames, detector, hp.detect_every, batch_size or hp.face_det_batch_size, hp.max_gap_frames)
    return fill_gaps(boxes, hp.max_gap_frames, hp.detect_every)


def detect_boxes(
    frames: Iterable[np.ndarray],
    detector: Detector,
    every: int = 1,
    batch_size: int = HParams.face_det_batch_size,
    max_gap: int = HParams.max_gap_frames,
) -> np.ndarray:
    """The speaker's box in every `every`-th frame and the last one: float32 (N, 4).

    Rows of frames not looked at, or without the speaker, are NaN. With several faces in a frame it is the one that
    overlaps the box found before, or else the best-scoring one; while the speaker is away no longer than `fill_gaps`
    would bridge, nobody. Frames are taken one at a time and at most `batch_size` kept.
    """
    seen = []  # (number of the frame, boxes in it)
    looked_at = every_nth_and_last(frames, every)
    while batch := list(islice(looked_at, batch_size)):
        numbers, images = zip(*batch, strict=True)
        seen += zip(numbers, (found.boxes for found in detector.detect(images)), strict=True)
    boxes = np.tile(NO_BOX, (seen[-1][0] + 1 if seen else 0, 1))
    for number, box in speaker(seen, longest_gap(max_gap, every)):
        boxes[number] = box
    return boxes


def speaker(seen: list[tuple[int, np.ndarray]], gap: int) -> Iterator[tuple[int, np.ndarray]]:
    """(number, box) of the frames that show the speaker; seen, gap: boxes by frame, frames, see `detect_boxes`."""
    last, latest = 0, None
    for i, (number, candidates) in enumerate(seen):
        box = same_face(candidates, latest)
        if box is None and len(candidates):
            soon = takewhile(lambda later, last=last: later[0] - last - 1 <= gap, seen[i + 1 : i + gap + 2])
            if latest is None or all(same_face(later, latest) is None for _, later in soon):
                box = candidates[0]
        if box is not None:
            last, latest = number, box
            yield number, box


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


def same_face(candidates: np.ndarray, box: np.ndarray | None) -> np.ndarray | None:
    """Of the candidates (n, 4) the one that overlaps the box most, if it is the same face."""
    if box is None or not len(candidates):
        return None
    overlaps = overlap(candidates, box)
    return candidates[overlaps.argmax()] if overlaps.max() > SAME_FACE_OVERLAP else None


def longest_gap(max_gap: int, every: int) -> int:
    """Frames without a box that are filled: those asked for, and those that were not looked at."""
    return max(max_gap, every - 1)


def jumps(boxes: np.ndarray) -> list[int]:
    """Frames whose box, of boxes (N, 4), is of another place than that of the frame before: a cut, another person."""
    has_box = ~np.isnan(boxes).any(axis=1)
    both = np.flatnonzero(has_box[1:] & has_box[:-1]) + 1
    return [int(i) for i in both if overlap(boxes[i - 1 : i], boxes[i])[0] <= SAME_FACE_OVERLAP]


def fill_gaps(boxes: np.ndarray, max_gap: int, every: int = 1) -> tuple[np.ndarray, np.ndarray]:
    """Fills the rows of NaN that `detect_boxes` left: boxes float32 (N, 4), status uint8 (N,) of each frame.

    A gap of at most `longest_gap` frames is filled by linear interpolation when the boxes on both sides
    overlap, so belong to one face. Longer gaps, gaps between two faces, and those at either end stay NaN.
    status: NO_FACE, DETECTED or FILLED.
    """
    boxes = boxes.copy()
    status = np.where(np.isnan(boxes).any(axis=1), NO_FACE, DETECTED).astype(np.uint8)
    detected = np.flatnonzero(status == DETECTED)
    for before, after in zip(detected[:-1], detected[1:], strict=True):
        missing = after - before - 1
        if not 0 < missing <= longest_gap(max_gap, every):
            continue
        if overlap(boxes[before : before + 1], boxes[after]) > SAME_FACE_OVERLAP:
            share = np.arange(1, missing + 1)[:, None] / (missing + 1)
            boxes[before + 1 : after] = (1 - share) * boxes[before] + share * boxes[after]
            status[before + 1 : after] = FILLED
    return boxes, status
