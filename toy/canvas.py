"""Painting on the head's canvas: its size, its frame of reference, and areas with hard and soft edges.

The canvas has twice the resolution of the final frames. Outlines are points (n, 2) in half-widths of an average face,
measured from its middle: x to the right, y down, so (0, 1.2) is the chin. Colours are BGR, 0..255.
"""

import cv2
import numpy as np

FRAME_PX = 192  # side of the square frames
FACE_PX = 52  # half-width of an average face in them; dlib then finds it at one and the same scale
OVERSAMPLING = 2
CANVAS_PX = FRAME_PX * OVERSAMPLING
UNIT_PX = FACE_PX * OVERSAMPLING  # one length unit on the canvas
MIDDLE_PX = np.array([CANVAS_PX / 2, CANVAS_PX * 0.52])  # of the face on the canvas
EYE_Y = -0.2  # height of the eyes, in lengths of the face
SUBPIXEL_BITS = 4  # OpenCV takes corners in 1/16 px
DARK, WHITE = (20, 20, 25), (235, 240, 240)  # BGR


def paint(canvas: np.ndarray, outline: np.ndarray, colour) -> None:
    """Fills an outline (n, 2) with a colour that has as many channels as the canvas."""
    corners = np.rint((np.asarray(outline) * UNIT_PX + MIDDLE_PX) * 2**SUBPIXEL_BITS).astype(np.int32)
    cv2.fillPoly(canvas, [corners], colour, lineType=cv2.LINE_AA, shift=SUBPIXEL_BITS)


def oval(x: float, y: float, half_width: float, half_height: float) -> np.ndarray:
    """The outline (48, 2) of an ellipse."""
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    return np.stack([x + half_width * np.cos(angle), y + half_height * np.sin(angle)], axis=1)


def between(x: np.ndarray, top: np.ndarray, bottom: np.ndarray) -> np.ndarray:
    """The outline (2n, 2) of the area between two curves over `x` (n,)."""
    return np.concatenate([np.stack([x, top], axis=1), np.stack([x, bottom], axis=1)[::-1]])


def mirrored(outline: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An outline of the right half of the face, and its counterpart on the left."""
    return outline, outline * (-1, 1)


def coverage(outline: np.ndarray, blur: float) -> np.ndarray:
    """How much of each canvas pixel lies inside the outline, softened by `blur` lengths: float32 in [0, 1]."""
    mask = np.zeros((CANVAS_PX, CANVAS_PX), np.uint8)
    paint(mask, outline, 255)
    return cv2.GaussianBlur(mask, (0, 0), blur * UNIT_PX).astype(np.float32) / 255


def blend(colours: np.ndarray, outline: np.ndarray, colour, blur: float, strength: float = 1.0) -> None:
    """Lays a soft-edged area over float32 colours (CANVAS_PX, CANVAS_PX, 3), in place."""
    share = strength * coverage(outline, blur)[..., None]
    colours += share * (np.array(colour, np.float32) - colours)
