"""The head at rest, in front of its background: painted once per identity."""

import cv2
import numpy as np

from toy.canvas import CANVAS_PX, DARK, EYE_Y, FRAME_PX, WHITE, blend, coverage, mirrored, oval
from toy.looks import Looks, mix


def paint_backdrop(looks: Looks) -> np.ndarray:
    """Background, neck and clothes float32 (FRAME_PX, FRAME_PX, 3): what stays where it is when the head moves."""
    top, bottom = (np.array(colour, np.float32) for colour in looks.backdrop)
    down = np.linspace(0, 1, CANVAS_PX, dtype=np.float32)[:, None, None]
    canvas = np.broadcast_to(top + down * (bottom - top), (CANVAS_PX, CANVAS_PX, 3)).copy()
    blend(canvas, oval(0, 2.3, 1.75, 0.85), looks.clothes, blur=0.03)
    blend(
        canvas, [(-0.5, 0.5), (0.5, 0.5), (0.55, 1.5), (0.3, 1.75), (-0.3, 1.75), (-0.55, 1.5)], looks.skin, blur=0.04
    )
    blend(canvas, oval(0, 1.15, 0.7, 0.35), DARK, blur=0.1, strength=0.45)  # shadow of the chin
    return cv2.resize(canvas, (FRAME_PX, FRAME_PX), interpolation=cv2.INTER_AREA)


def paint_head(looks: Looks) -> np.ndarray:
    """The head with closed lips and open eyes on transparent ground: (CANVAS_PX, CANVAS_PX, 4) uint8, alpha last."""
    outline = face_outline(looks)
    colours = np.empty((CANVAS_PX, CANVAS_PX, 3), np.float32)
    colours[:] = mix(looks.skin, DARK, 0.3)  # shows through at the soft edge of the face
    ears = mirrored(oval(looks.face_width + 0.02, 0.0, 0.1, 0.24))
    for ear in ears:
        blend(colours, ear, mix(looks.skin, DARK, 0.15), blur=0.02)
    blend(colours, outline, looks.skin, blur=0.01)
    shade_skin(colours, looks)
    paint_features(colours, looks)
    locks = hair_locks(looks)
    for lock in locks:
        blend(colours, lock, looks.hair, blur=0.015)
    alpha = np.max([coverage(area, blur=0.01) for area in (outline, *ears, *locks)], axis=0)
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
    for socket in mirrored(oval(looks.eye_x, EYE_Y, 0.27, 0.17)):
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
    for eye in mirrored(oval(x, EYE_Y, size, 0.5 * size)):
        blend(colours, eye + (0, -0.012), DARK, blur=0.012)  # lashes
        blend(colours, eye, WHITE, blur=0.006)
    for iris in mirrored(oval(x, EYE_Y, 0.48 * size, 0.48 * size)):
        blend(colours, iris, looks.iris, blur=0.006)
    for pupil in mirrored(oval(x, EYE_Y, 0.24 * size, 0.24 * size)):
        blend(colours, pupil, DARK, blur=0.006)
    for glint in (oval(side * x + 0.03, EYE_Y - 0.035, 0.018, 0.018) for side in (-1, 1)):
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
        locks += mirrored(
            np.array([(0.8 * w, -0.75), (1.1 * w, -0.3), (1.22 * w, 0.9), (1.0 * w, 1.25), (0.93 * w, 0.3)])
        )
    return locks
