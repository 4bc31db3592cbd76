"""Cutting a face out of a frame and putting one back."""

import cv2
import numpy as np

from errors import UserError


def crop_face(frame: np.ndarray, box, size: int) -> np.ndarray:
    """The face in `box` as uint8 (size, size, 3); the box's aspect ratio is not kept, as in the official code.

    `box` (x1, y1, x2, y2) is truncated to whole pixels and clipped to the frame; UserError when no pixel is left.
    """
    return resize(frame[pixels(frame, box)], size, size)


def paste_face(frame: np.ndarray, box, face: np.ndarray, blend: float = 0.0) -> np.ndarray:
    """A copy of `frame` with `face` (any size) over the pixels that `crop_face` takes from `box`.

    blend: share of the box's width and height over which the face fades in from each edge; 0 = not at all. What is
    drawn is never quite as bright and sharp as what is there, and an edge between the two is what people see first;
    where the box ends with the frame there is none.
    """
    rows, columns = pixels(frame, box)
    height, width = rows.stop - rows.start, columns.stop - columns.start
    pasted, face = frame.copy(), resize(face, height, width)
    if blend:
        down, across = _fade_in(rows, frame.shape[0], blend), _fade_in(columns, frame.shape[1], blend)
        opacity = (down[:, None] * across)[..., None]  # (height, width, 1)
        face = np.round(frame[rows, columns] * (1 - opacity) + face * opacity).astype(np.uint8)
    pasted[rows, columns] = face
    return pasted


def _fade_in(span: slice, side: int, blend: float) -> np.ndarray:
    """float32 (length of the span,): rises smoothly to 1, over a share of `blend`, from each end inside 0 ... side."""
    length = span.stop - span.start
    from_edge = np.full(length, np.inf, np.float32)
    if span.start > 0:
        from_edge = np.minimum(from_edge, np.arange(1, length + 1, dtype=np.float32))
    if span.stop < side:
        from_edge = np.minimum(from_edge, np.arange(length, 0, -1, dtype=np.float32))
    x = np.minimum(from_edge / (1 + round(blend * length)), 1)
    return x * x * (3 - 2 * x)


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
