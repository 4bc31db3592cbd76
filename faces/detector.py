"""What every face detector looks like from outside: a batch of frames in, boxes and scores out.

    detector = Detector(find, max_side=640)
    for boxes, scores in detector.detect(frames):
        ...

A new detector is one more function `find`, one more line in faces/by_name.py, and its name in hparams.CHOICES.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from faces.crop import resize


class Detections(NamedTuple):
    """The faces of one frame."""

    boxes: np.ndarray  # (k, 4) float32 x1, y1, x2, y2, px
    scores: np.ndarray  # (k,) float32, 0 to 1


class Detector:
    """`find` run on a copy of the frames whose longer side is at most `max_side` px (0 = the frames as they are).

    `find` takes frames uint8 (n, H, W, 3) BGR and returns the `Detections` of each, in pixels of what it was given,
    in any order.
    """

    def __init__(self, find: Callable[[np.ndarray], list[Detections]], max_side: int = 0):
        self.find = find
        self.max_side = max_side

    def detect(self, frames: Sequence[np.ndarray]) -> list[Detections]:
        """The faces of each frame, best first, within the frame.

        frames: uint8 (n, H, W, 3) BGR, or a list of n frames of one size.
        """
        if len(frames) == 0:
            return []
        height, width = frames[0].shape[:2]
        shrink = min(1.0, self.max_side / max(height, width)) if self.max_side else 1.0
        searched_height, searched_width = max(1, round(height * shrink)), max(1, round(width * shrink))
        # Shrunk one by one, so that a batch never exists at full size when it need not.
        searched = np.stack([resize(frame, searched_height, searched_width) for frame in frames])

        back = np.array([width / searched_width, height / searched_height] * 2)
        limits = np.array([width, height] * 2)
        found = []
        for boxes, scores in self.find(searched):
            order = np.argsort(-scores, kind="stable")
            boxes, scores = np.clip(boxes[order] * back, 0, limits).astype(np.float32), scores[order]
            # False finds at the edge may have no pixel in the frame.
            held = (np.trunc(boxes[:, 2:]) > np.trunc(boxes[:, :2])).all(axis=1)
            found.append(Detections(boxes[held], scores[held].astype(np.float32)))
        return found
