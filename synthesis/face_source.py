"""The frames whose face shall speak: of a video, or a still, at one rate and cut to shape."""

from collections.abc import Iterator
from fractions import Fraction
from itertools import repeat
from pathlib import Path

import cv2
import numpy as np

from errors import UserError
from video import is_image, probe, read_frames, read_image

WHOLE_FRAME = (0, -1, 0, -1)  # top, bottom, left, right, px; -1: to the lower and right edge


class FaceSource:
    """The frames of a video, or the one of a still: an image, or with `static` the first of a video.

    fps: Hz, for stills only: a moving video keeps its own. None = the video's own; an image has none.
    resize_factor, rotate, crop: see `edited`. Raises UserError for a file or a number that cannot be used.
    """

    def __init__(
        self,
        path,
        static: bool = False,
        fps: float | None = None,
        resize_factor: int = 1,
        rotate: bool = False,
        crop: tuple[int, int, int, int] = WHOLE_FRAME,
    ):
        if resize_factor < 1:
            raise UserError(f"--resize_factor {resize_factor}: must be at least 1, which leaves frames as they are")
        if fps is not None and not 1 <= fps <= 1000:
            raise UserError(f"--fps {fps:g}: must lie between 1 and 1000 frames per second")
        self.path = Path(path)
        self._edits = resize_factor, rotate, tuple(crop)
        self.is_still = static or is_image(path)
        info = None if is_image(path) else probe(path)
        rate = fps if self.is_still and fps is not None else info.fps
        self.fps = Fraction(rate).limit_denominator(1001)  # exactly 30000/1001 and its like
        self.is_hdr = info is not None and info.is_hdr
        self.pixel_aspect = info.pixel_aspect if info else Fraction(1)  # of the frames this gives
        if rotate:
            self.pixel_aspect = 1 / self.pixel_aspect
        self.announced_frames = 1 if self.is_still else round(info.duration_s * self.fps)
        self.first = next(self._read())

    def once(self) -> Iterator[np.ndarray]:
        """uint8 (H, W, 3) BGR, from the first frame to the last; read anew at each call."""
        return iter([self.first]) if self.is_still else self._read()

    def endless(self) -> Iterator[np.ndarray]:
        """The same, again and again."""
        if self.is_still:
            yield from repeat(self.first)
        while True:
            yield from self._read()

    def _read(self) -> Iterator[np.ndarray]:
        frames = [read_image(self.path)] if is_image(self.path) else read_frames(self.path, self.fps)
        return (edited(frame, *self._edits) for frame in frames)


def edited(frame: np.ndarray, resize_factor: int, rotate: bool, crop: tuple[int, int, int, int]) -> np.ndarray:
    """The frame made resize_factor times smaller, then turned clockwise, then cropped, as the official code does it.

    crop: top, bottom, left, right, px; -1 for bottom or right is the edge.
    """
    if resize_factor > 1:
        height, width = (max(1, side // resize_factor) for side in frame.shape[:2])
        frame = cv2.resize(frame, (width, height), interpolation=cv2.INTER_AREA)
    if rotate:
        frame = cv2.rotate(frame, cv2.ROTATE_90_CLOCKWISE)
    if crop == WHOLE_FRAME:
        return frame
    height, width = frame.shape[:2]
    top, bottom, left, right = crop
    bottom, right = height if bottom == -1 else bottom, width if right == -1 else right
    if not (0 <= top < min(bottom, height) and 0 <= left < min(right, width)):
        numbers = " ".join(map(str, crop))
        raise UserError(f"--crop {numbers} (top bottom left right) holds no pixel of the {width}x{height} frame")
    return frame[top:bottom, left:right].copy()  # a view would keep the whole frame in memory
