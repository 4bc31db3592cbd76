"""How a video's pictures must be turned and mirrored to be seen as they were taken: its display matrix."""

import struct
from typing import NamedTuple

import av
import numpy as np
from av.sidedata.sidedata import Type


class Orientation(NamedTuple):
    """First rows become columns if transposed, then left and right, top and bottom are exchanged if mirrored."""

    transposed: bool = False
    mirrored_x: bool = False
    mirrored_y: bool = False

    @classmethod
    def of(cls, frame: av.VideoFrame) -> "Orientation":
        """The nearest one to the frame's display matrix, which shows (x, y) at (a x + c y, b x + d y)."""
        try:
            data = frame.side_data.get(Type.DISPLAYMATRIX)
        except ValueError:  # PyAV does not know all that FFmpeg puts there
            return TURNED[round(frame.rotation / 90) % 4]
        if data is None:
            return cls()
        a, b, _, c, d, *_ = struct.unpack("=9i", bytes(data)[:36])
        if abs(a) + abs(d) >= abs(b) + abs(c):
            return cls(False, a < 0, d < 0)
        return cls(True, c < 0, b < 0)

    def size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) after turning, or before it."""
        return (height, width) if self.transposed else (width, height)

    def apply(self, image: np.ndarray) -> np.ndarray:
        """The image (H, W, 3), turned."""
        if self.transposed:
            image = image.swapaxes(0, 1)
        if self.mirrored_x:
            image = image[:, ::-1]
        if self.mirrored_y:
            image = image[::-1]
        return np.ascontiguousarray(image)


# by quarter turns counter-clockwise
TURNED = (
    Orientation(),
    Orientation(transposed=True, mirrored_y=True),
    Orientation(mirrored_x=True, mirrored_y=True),
    Orientation(transposed=True, mirrored_x=True),
)
