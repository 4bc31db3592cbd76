"""Cutting a face out of a frame and putting one back."""

import cv2
import numpy as np

from errors import UserError


def crop_face(frame: np.ndarray, box, size: int) -> np.ndarray:
    """The face in `box` as uint8 (size, size, 3); the box's aspect ratio is not kept, as in the official code.

    `box` (x1, y1, x2, y2) is truncated to whole pixels and clipped to the frame; UserError when no pixel is left.
    """
    return resize(frame[pixels(frame, box)], size, size)


def paste_face(frame: np.ndarray, box, face: np.ndarray) -> np.ndarray:
    """A copy of `frame` with `face` (any size) over the pixels that `crop_face` takes from `box`; no blending."""
    rows, columns = pixels(frame, box)
    pasted = frame.copy()
    pasted[rows, columns] = resize(face, rows.stop - rows.start, columns.stop - columns.start)
    return pasted


def pixels(frame: np.ndarray, box) -> tuple[slice, slice]:
    """The rows and columns of `frame` that belong to `box`."""
    assert np.isfinite(box).all(), f"box {box} of a frame without a face"
    height, width = frame.shape[:2]
    x1, y1, x2, y2 = np.clip(np.trunc(box), 0, [width, height, width, height]).astype(int).tolist()
    if x1 >= x2 or y1 >= y2:
        corners = ", ".join(f"{value:g}" for value in box)
        raise UserError(f"the face box x1, y1, x2, y2 = {corners} holds no pixel of the {width}x{height} frame")
    return slice(y1, y2), slice(x1, x2)


def resize(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """`image` at another size: pixel areas averaged when it shrinks, bilinear as soon as one side grows."""
    if image.shape[:2] == (height, width):
        return image
    shrinks = height <= image.shape[0] and width <= image.shape[1]
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR)
