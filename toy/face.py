"""The toy face: a shaded head, painted once per identity, that opens its mouth, blinks and moves.

Everything is painted at twice the final size in a frame of reference that is fixed to the head: the jaw is let down by
stretching the picture of the head, mouth and eyelids are painted onto it, and one affine warp puts the result in front
of the background. Lengths are in half-widths of an average face, so (0, 0) is its middle and (0, 1.2) its chin.
"""

from typing import NamedTuple

import cv2
import numpy as np

from toy.looks import Looks, mix
from toy.mouth import mouth_shapes

FRAME_PX = 192  # side of the square frames
FACE_PX = 50  # half-width of an average face in them
OVERSAMPLING = 2
CANVAS_PX = FRAME_PX * OVERSAMPLING
UNIT_PX = FACE_PX * OVERSAMPLING  # one length unit on the canvas
MIDDLE_PX = np.array([CANVAS_PX / 2, CANVAS_PX * 0.52])  # of the face on the canvas
SUBPIXEL_BITS = 4  # OpenCV paints at 1/16 px
DARK, WHITE = (20, 20, 25), (235, 240, 240)  # BGR


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
        jaw_px = np.float32(0.65 * self.looks.jaw_drop * opening * UNIT_PX)
        canvas = cv2.remap(self.head, self.columns, self.rows - jaw_px * self.follows_jaw, cv2.INTER_LINEAR)
        for outline, colour in mouth_shapes(self.looks, opening, rounding):
            paint(canvas, outline, colour)
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


def to_px(points: np.ndarray) -> np.ndarray:
    """Points (n, 2) in lengths of the face -> px of the canvas."""
    return np.asarray(points, np.float64) * UNIT_PX + MIDDLE_PX


def paint(canvas: np.ndarray, outline: np.ndarray, colour) -> None:
    """Fills an outline (n, 2), in lengths of the face, with an opaque colour."""
    points = np.rint(to_px(outline) * 2**SUBPIXEL_BITS).astype(np.int32)
    cv2.fillPoly(canvas, [points], (*colour, 255), lineType=cv2.LINE_AA, shift=SUBPIXEL_BITS)


def oval(x: float, y: float, half_width: float, half_height: float) -> np.ndarray:
    """The outline (48, 2) of an ellipse."""
    angle = np.linspace(0, 2 * np.pi, 48, endpoint=False)
    return np.stack([x + half_width * np.cos(angle), y + half_height * np.sin(angle)], axis=1)


def mirrored(outline: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """An outline of the right half of the face, and its counterpart on the left."""
    return outline, outline * (-1, 1)


# --- the head at rest, painted once --------------------------------------------------------------------------------


def paint_backdrop(looks: Looks) -> np.ndarray:
    """Background, neck and clothes float32 (FRAME_PX, FRAME_PX, 3): what stays where it is when the head moves."""
    top, bottom = (np.array(colour, np.float32) for colour in looks.backdrop)
    down = np.linspace(0, 1, CANVAS_PX, dtype=np.float32)[:, None, None]
    canvas = np.broadcast_to(top + down * (bottom - top), (CANVAS_PX, CANVAS_PX, 3)).copy()
    blend(canvas, oval(0, 2.3, 1.75, 0.85), looks.clothes, blur=0.03)
    blend(canvas, [(-0.5, 0.5), (0.5, 0.5), (0.55, 1.5), (0.3, 1.75), (-0.3, 1.75), (-0.55, 1.5)], looks.skin, blur=0.04)
    blend(canvas, oval(0, 1.15, 0.7, 0.35), DARK, blur=0.1, strength=0.45)  # shadow of the chin
    return cv2.resize(canvas, (FRAME_PX, FRAME_PX), interpolation=cv2.INTER_AREA)


def paint_head(looks: Looks) -> np.ndarray:
    """The head with closed lips and open eyes on transparent ground: (CANVAS_PX, CANVAS_PX, 4) uint8, alpha last."""
    outline = face_outline(looks)
    colours = np.empty((CANVAS_PX, CANVAS_PX, 3), np.float32)
    colours[:] = looks.hair
    for ear in mirrored(oval(looks.face_width + 0.02, 0.0, 0.1, 0.24)):
        blend(colours, ear, mix(looks.skin, DARK, 0.15), blur=0.02)
    blend(colours, outline, looks.skin, blur=0.01)
    shade_skin(colours, looks)
    paint_features(colours, looks)
    alpha = coverage(outline, blur=0.01)
    for ear in mirrored(oval(looks.face_width + 0.02, 0.0, 0.1, 0.24)):
        alpha = np.maximum(alpha, coverage(ear, blur=0.01))
    for lock in hair_locks(looks):
        blend(colours, lock, looks.hair, blur=0.02)
        alpha = np.maximum(alpha, coverage(lock, blur=0.01))
    layers = np.dstack([colours * alpha[..., None], 255 * alpha])
    return np.clip(np.rint(layers), 0, 255).astype(np.uint8)


def face_outline(looks: Looks) -> np.ndarray:
    """Forehead an ellipse, jaw as square or pointed as the identity has it."""
    angle = np.linspace(0, 2 * np.pi, 96, endpoint=False)
    across, down = np.cos(angle), np.sin(angle)
    sides = np.where(down > 0, np.abs(across) ** looks.jaw_roundness, np.abs(across) ** 0.85)
    x = looks.face_width * np.sign(across) * sides
    y = np.where(down > 0, looks.chin_y, 1.3) * down
    return np.stack([x, y], axis=1)


def shade_skin(colours: np.ndarray, looks: Looks) -> None:
    """Light from above and the middle: brow ridge, eye sockets, cheeks, sides and the chin's underside."""
    dark = mix(looks.skin, DARK, 0.8)
    light = mix(looks.skin, (255, 255, 255), 0.6)
    red = mix(looks.skin, (70, 70, 210), 0.5)
    for side in mirrored(oval(looks.face_width, 0.45, 0.22, 0.9)):
        blend(colours, side, dark, blur=0.14, strength=0.45)
    blend(colours, oval(0, looks.chin_y, 0.55, 0.1), dark, blur=0.09, strength=0.35)
    blend(colours, oval(0, -0.6, 0.5, 0.2), light, blur=0.15, strength=0.3)
    for cheek in mirrored(oval(0.52, 0.3, 0.2, 0.16)):
        blend(colours, cheek, light, blur=0.12, strength=0.35)
    for cheek in mirrored(oval(0.58, 0.42, 0.22, 0.16)):
        blend(colours, cheek, red, blur=0.1, strength=0.3)
    for socket in mirrored(oval(looks.eye_x, -0.2, 0.27, 0.17)):
        blend(colours, socket, dark, blur=0.06, strength=0.4)
    for fold in mirrored(np.array([(0.3, 0.36), (0.5, 0.62), (0.47, 0.64), (0.27, 0.4)])):
        blend(colours, fold, dark, blur=0.03, strength=0.35)
    blend(colours, oval(0, looks.mouth_y + 0.24, 0.2, 0.04), dark, blur=0.04, strength=0.35)


def paint_features(colours: np.ndarray, looks: Looks) -> None:
    """Brows, open eyes and the nose."""
    dark = mix(looks.skin, DARK, 0.7)
    light = mix(looks.skin, (255, 255, 255), 0.6)
    x, size, brow = looks.eye_x, looks.eye_size, looks.brow_thickness
    brow_colour = mix(looks.hair, DARK, 0.5)
    for line in mirrored(np.array([(x - 0.23, -0.43), (x, -0.52), (x + 0.25, -0.43), (x, -0.52 + brow)])):
        blend(colours, line, brow_colour, blur=0.015, strength=0.9)
    for eye in mirrored(oval(x, -0.2, size, 0.5 * size)):
        blend(colours, eye * (1, 1) + (0, -0.012), DARK, blur=0.012)  # lashes
        blend(colours, eye, WHITE, blur=0.006)
    for iris in mirrored(oval(x, -0.205, 0.48 * size, 0.48 * size)):
        blend(colours, iris, looks.iris, blur=0.006)
    for pupil in mirrored(oval(x, -0.205, 0.24 * size, 0.24 * size)):
        blend(colours, pupil, DARK, blur=0.006)
    for glint in (oval(side * x + 0.03, -0.235, 0.018, 0.018) for side in (-1, 1)):
        blend(colours, glint, WHITE, blur=0.005)

    width = looks.nose_width
    for flank in mirrored(np.array([(0.06, -0.25), (0.14, 0.2), (width, 0.3), (0.09, 0.2)])):
        blend(colours, flank, dark, blur=0.04, strength=0.45)
    blend(colours, oval(0, 0.05, 0.04, 0.25), light, blur=0.03, strength=0.5)
    blend(colours, oval(0, 0.33, width, 0.06), dark, blur=0.03, strength=0.5)
    for nostril in mirrored(oval(0.5 * width, 0.34, 0.05, 0.028)):
        blend(colours, nostril, DARK, blur=0.012, strength=0.8)


def hair_locks(looks: Looks) -> list[np.ndarray]:
    """Outlines of what is hair in front of and around the face."""
    if looks.hair_style == "bald":
        return []
    w, line = looks.face_width, looks.hairline_y
    parting = 0.35 if looks.hair_style == "parted" else 0.0
    angle = np.linspace(np.pi, 2 * np.pi, 40)
    crown = np.stack([1.1 * w * np.cos(angle), -0.25 + 1.2 * np.sin(angle)], axis=1)
    across = np.linspace(1, -1, 30)
    fringe = np.stack([w * across, line + 0.45 * across**4 - parting * 0.5 * (across + 0.3) * (1 - across**2)], axis=1)
    locks = [np.concatenate([crown, fringe])]
    if looks.hair_style == "long":
        locks += mirrored(np.array([(0.86 * w, -0.6), (1.12 * w, -0.3), (1.22 * w, 0.9), (1.0 * w, 1.25), (0.93 * w, 0.3)]))
    return locks


def paint_eyelids(canvas: np.ndarray, looks: Looks, blink: float) -> None:
    """Upper lids, let down over the eyes by `blink`."""
    size = looks.eye_size
    lid = mix(looks.skin, DARK, 0.3)
    across = np.linspace(-1, 1, 15)
    rim = 0.56 * size * np.sqrt(1 - across**2)
    edge = -rim + 2 * rim * blink
    for upper, lower, colour in ((-rim, edge, lid), (edge - 0.02, edge + 0.01, DARK)):
        x = looks.eye_x + 1.06 * size * across
        area = np.concatenate([np.stack([x, upper - 0.2], axis=1), np.stack([x, lower - 0.2], axis=1)[::-1]])
        for one in mirrored(area):
            paint(canvas, one, colour)


def coverage(outline: np.ndarray, blur: float) -> np.ndarray:
    """How much of each canvas pixel lies inside the outline, softened by `blur` lengths: float32 in [0, 1]."""
    mask = np.zeros((CANVAS_PX, CANVAS_PX), np.uint8)
    points = np.rint(to_px(outline) * 2**SUBPIXEL_BITS).astype(np.int32)
    cv2.fillPoly(mask, [points], 255, lineType=cv2.LINE_AA, shift=SUBPIXEL_BITS)
    return cv2.GaussianBlur(mask, (0, 0), blur * UNIT_PX).astype(np.float32) / 255


def blend(colours: np.ndarray, outline: np.ndarray, colour, blur: float, strength: float = 1.0) -> None:
    """Lays a soft-edged area over float32 colours (CANVAS_PX, CANVAS_PX, 3), in place."""
    share = strength * coverage(outline, blur)[..., None]
    colours += share * (np.array(colour, np.float32) - colours)
