"""The toy face: a shaded head, painted once per identity, that opens its mouth, blinks and moves.

For each frame the jaw is let down by stretching the picture of the head, mouth and eyelids are painted onto it, and one
affine warp puts the result in front of the background.
"""

from typing import NamedTuple

import cv2
import numpy as np

from toy.canvas import CANVAS_PX, DARK, EYE_Y, FRAME_PX, MIDDLE_PX, OVERSAMPLING, UNIT_PX, between, mirrored, paint
from toy.head import paint_backdrop, paint_head
from toy.looks import Looks, mix
from toy.mouth import mouth_shapes

OPAQUE = 255


class Pose(NamedTuple):
    """Where the head is: shift in px of the frame, roll in degrees, size relative to the middle distance."""

    x_px: float
    y_px: float
    roll_deg: float
    size: float


class Face:
    """One identity in front of its background."""

    def __init__(self, looks: Looks):
        self.looks = looks
        self.backdrop = paint_backdrop(looks)  # (FRAME_PX, FRAME_PX, 3) float32
        self.head = paint_head(looks)  # (CANVAS_PX, CANVAS_PX, 4) uint8, colours multiplied by the alpha behind them
        self.columns, self.rows = np.meshgrid(*2 * [np.arange(CANVAS_PX, dtype=np.float32)])
        self.follows_jaw = jaw_weight(looks, self.columns, self.rows)

    def render(self, opening: float, rounding: float, blink: float, pose: Pose) -> np.ndarray:
        """One frame uint8 (FRAME_PX, FRAME_PX, 3) BGR; opening, rounding and blink (1 = eyes shut) in [0, 1]."""
        # float32, as a float64 scalar would turn the maps into float64, which OpenCV misreads without a word.
        jaw_px = np.float32(0.65 * self.looks.jaw_drop * opening * UNIT_PX)
        canvas = cv2.remap(self.head, self.columns, self.rows - jaw_px * self.follows_jaw, cv2.INTER_LINEAR)
        for outline, colour in mouth_shapes(self.looks, opening, rounding):
            paint(canvas, outline, (*colour, OPAQUE))
        if blink > 0:
            paint_eyelids(canvas, self.looks, blink)
        head = cv2.warpAffine(canvas, pose_matrix(pose), (FRAME_PX, FRAME_PX), flags=cv2.INTER_LINEAR)
        alpha = head[..., 3:].astype(np.float32) / 255
        return np.rint(head[..., :3] + (1 - alpha) * self.backdrop).astype(np.uint8)


def pose_matrix(pose: Pose) -> np.ndarray:
    """The affine map (2, 3) from the canvas to the frame."""
    turn = cv2.getRotationMatrix2D(tuple(MIDDLE_PX), pose.roll_deg, pose.size / OVERSAMPLING)
    turn[:, 2] += MIDDLE_PX / OVERSAMPLING - MIDDLE_PX + (pose.x_px, pose.y_px)
    return turn


def jaw_weight(looks: Looks, columns: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """How far each pixel of the canvas goes down with the jaw: 0 above the mouth, 1 at the chin, float32."""
    x, y = (columns - MIDDLE_PX[0]) / UNIT_PX, (rows - MIDDLE_PX[1]) / UNIT_PX
    down = np.clip((y - 0.3) / (looks.chin_y - 0.3), 0, 1)
    return (down**2 * (3 - 2 * down) * np.exp(-((x / 0.95) ** 4))).astype(np.float32)


def paint_eyelids(canvas: np.ndarray, looks: Looks, blink: float) -> None:
    """Upper lids, let down over the eyes by `blink`."""
    across = np.linspace(-1, 1, 15)
    x = looks.eye_x + 1.06 * looks.eye_size * across
    rim = 0.56 * looks.eye_size * np.sqrt(1 - across**2)
    top = EYE_Y - rim
    edge = top + 2 * rim * blink
    for lid in mirrored(between(x, top, edge)):
        paint(canvas, lid, (*mix(looks.skin, DARK, 0.3), OPAQUE))
    for lashes in mirrored(between(x, edge - 0.02, edge + 0.01)):
        paint(canvas, lashes, (*DARK, OPAQUE))
