"""One face's box in every frame of a video: found in some frames, interpolated between them.

Between two of those frames that do not show the same, every frame is looked at, for which the video is read again.
"""

from collections.abc import Callable, Iterable, Iterator
from itertools import islice, pairwise, takewhile

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
    read: Callable[[int | None], Iterable[np.ndarray]],
    detector: Detector,
    hp: HParams,
    batch_size: int | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The speaker's box in every frame and how it was found, as `follow_speaker` and `fill_gaps` say.

    read(stop): the video's frames anew, uint8 (H, W, 3) BGR, the first `stop` of them; None = all.
    batch_size: frames the detector gets at once; None = the hparam.
    """
    batch_size = batch_size or hp.face_det_batch_size
    seen = detect(every_nth_and_last(read(None), hp.detect_every), detector, batch_size)
    gap = longest_gap(hp.max_gap_frames, hp.detect_every)
    boxes, cut_away = follow_speaker(seen, gap)
    unclear = disputed(seen, boxes)
    if unclear:
        looked_at = ((number, frame) for number, frame in enumerate(read(max(unclear) + 1)) if number in unclear)
        seen = sorted(seen + detect(looked_at, detector, batch_size), key=lambda each: each[0])
        boxes, cut_away = follow_speaker(seen, gap)
    return fill_gaps(boxes, gap, cut_away)


def longest_gap(max_gap: int, every: int) -> int:
    """Frames without a box that are filled: those asked for, and those that were not looked at."""
    return max(max_gap, every - 1)


def detect(
    looked_at: Iterable[tuple[int, np.ndarray]], detector: Detector, batch_size: int
) -> list[tuple[int, np.ndarray]]:
    """(number, boxes of all faces (n, 4), the best first) of each (number, frame).

    Frames are taken one at a time and at most `batch_size` kept.
    """
    seen, looked_at = [], iter(looked_at)
    while batch := list(islice(looked_at, batch_size)):
        numbers, images = zip(*batch, strict=True)
        seen += zip(numbers, (found.boxes for found in detector.detect(images)), strict=True)
    return seen


def follow_speaker(seen: list[tuple[int, np.ndarray]], gap: int) -> tuple[np.ndarray, np.ndarray]:
    """The speaker's box in the frames of `detect`: float32 (N, 4), NaN in others; and which show another scene (N,).

    With several faces in a frame the speaker is the one that overlaps the box found before, or else the best-scoring
    one. Who comes back within `gap` frames stays the speaker, and nobody takes the place meanwhile: missed, if the
    others are those that were beside the speaker before, else cut away from. Where the end leaves open who comes back,
    only somebody new takes it.
    """
    frames = seen[-1][0] + 1 if seen else 0
    boxes, cut_away = np.tile(NO_BOX, (frames, 1)), np.zeros(frames, bool)
    last, latest, company = 0, None, None
    for i, (number, candidates) in enumerate(seen):
        box = same_face(candidates, latest)
        if box is None and len(candidates):
            until = last + gap + 1  # the last frame to come back in
            comes_back = any(same_face(later, latest) is not None for _, later in before(until, seen[i : i + gap + 2]))
            new = [other for other in candidates if latest is None or same_face(company, other) is None]
            if not comes_back and seen[-1][0] >= until:
                box = candidates[0]
            elif not comes_back and new:
                box = new[0]
            else:
                cut_away[number] = bool(new)
        if box is not None:
            last, latest, company = number, box, candidates
            boxes[number] = box
    return boxes, cut_away


def disputed(seen: list[tuple[int, np.ndarray]], boxes: np.ndarray) -> set[int]:
    """Frames between two neighbours of `seen` that do not show the same: a face and none, or not the same speaker.

    boxes: what `follow_speaker` makes of `seen`.
    """
    unclear = set()
    for (number, candidates), (following, later) in pairwise(seen):
        with_face, with_speaker = len(candidates) > 0, is_box(boxes[number])
        alike = with_face == (len(later) > 0) and with_speaker == is_box(boxes[following])
        if not alike or (with_speaker and same_face(boxes[[following]], boxes[number]) is None):
            unclear.update(range(number + 1, following))
    return unclear


def is_box(box: np.ndarray) -> bool:
    return not np.isnan(box).any()


def before(until: int, seen: list[tuple[int, np.ndarray]]) -> Iterator[tuple[int, np.ndarray]]:
    """Those of `seen` up to the frame with this number."""
    return takewhile(lambda each: each[0] <= until, seen)


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


def jumps(boxes: np.ndarray) -> list[int]:
    """Frames whose box, of boxes (N, 4), is of another place than that of the frame before: a cut, another person."""
    has_box = ~np.isnan(boxes).any(axis=1)
    both = np.flatnonzero(has_box[1:] & has_box[:-1]) + 1
    return [int(i) for i in both if overlap(boxes[i - 1 : i], boxes[i])[0] <= SAME_FACE_OVERLAP]


def fill_gaps(boxes: np.ndarray, longest: int, cut_away: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Fills the rows of NaN that `follow_speaker` left: boxes float32 (N, 4), status uint8 (N,) of each frame.

    A gap of at most `longest` frames is filled by linear interpolation when the boxes on both sides overlap, so belong
    to one face, and none of its frames is of another scene. Others, and those at either end, stay NaN.
    status: NO_FACE, DETECTED or FILLED.
    """
    boxes = boxes.copy()
    status = np.where(np.isnan(boxes).any(axis=1), NO_FACE, DETECTED).astype(np.uint8)
    detected = np.flatnonzero(status == DETECTED)
    for before, after in zip(detected[:-1], detected[1:], strict=True):
        missing = after - before - 1
        if not 0 < missing <= longest or cut_away[before + 1 : after].any():
            continue
        if overlap(boxes[before : before + 1], boxes[after]) > SAME_FACE_OVERLAP:
            share = np.arange(1, missing + 1)[:, None] / (missing + 1)
            boxes[before + 1 : after] = (1 - share) * boxes[before] + share * boxes[after]
            status[before + 1 : after] = FILLED
    return boxes, status
