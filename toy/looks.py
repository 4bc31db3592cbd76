"""What tells one toy identity from another, and how hard the corpus is."""

import colorsys
from dataclasses import dataclass

import numpy as np

Colour = tuple[float, float, float]  # BGR, 0..255


@dataclass(frozen=True)
class ToyStyle:
    """How far the corpus is from a studio recording; each amount is 0 (easy) to about 1 (hard)."""

    noise: float = 0.0  # grain in the picture and hiss in the room
    head_motion: float = 0.0  # beyond the mild motion that is always there
    lighting: float = 0.0  # light that differs between clips and wanders within one
    mumbling: float = 0.0  # how little lips and jaw move for the same speech: at 1, three tenths as far


@dataclass(frozen=True)
class Looks:
    """A face at rest. Lengths are in half-widths of an average face, measured from its middle."""

    skin: Colour
    hair: Colour
    lips: Colour
    iris: Colour
    backdrop: tuple[Colour, Colour]  # top and bottom of the background
    clothes: Colour
    face_width: float
    chin_y: float
    jaw_roundness: float  # 0.6 = square jaw, 1.1 = pointed
    hair_style: str  # one of HAIR_STYLES
    hairline_y: float
    brow_thickness: float
    eye_x: float
    eye_size: float
    nose_width: float
    mouth_y: float
    mouth_width: float  # half, at rest
    lip_thickness: float
    jaw_drop: float  # way of the lower lip from closed to widest open


HAIR_STYLES = ("short", "long", "parted", "bald")


def make_looks(rng: np.random.Generator) -> Looks:
    tone = rng.uniform(0, 1)  # of the skin, light to dark
    skin = hsv(rng.uniform(0.045, 0.08), 0.30 + 0.25 * tone, 0.93 - 0.42 * tone)
    hair = hsv(rng.uniform(0.02, 0.12), rng.uniform(0.1, 0.7), rng.choice([0.15, 0.25, 0.4, 0.65]) * (1 - 0.6 * tone))
    backdrop = tuple(hsv(rng.uniform(0, 1), rng.uniform(0.02, 0.2), rng.uniform(0.4, 0.8)) for _ in range(2))
    return Looks(
        skin=skin,
        hair=hair,
        lips=mix(skin, hsv(rng.uniform(0.93, 1.01) % 1, 0.65, 0.72 - 0.25 * tone), rng.uniform(0.45, 0.85)),
        iris=hsv(rng.uniform(0.05, 0.6), 0.6, rng.uniform(0.2, 0.5)),
        backdrop=backdrop,
        clothes=hsv(rng.uniform(0, 1), rng.uniform(0.1, 0.7), rng.uniform(0.15, 0.8)),
        face_width=rng.uniform(0.92, 1.04),
        chin_y=rng.uniform(1.16, 1.28),
        jaw_roundness=rng.uniform(0.65, 1.0),
        hair_style=rng.choice(HAIR_STYLES),
        hairline_y=rng.uniform(-0.95, -0.75),
        brow_thickness=rng.uniform(0.05, 0.1),
        eye_x=rng.uniform(0.40, 0.48),
        eye_size=rng.uniform(0.16, 0.2),
        nose_width=rng.uniform(0.15, 0.22),
        mouth_y=rng.uniform(0.64, 0.74),
        mouth_width=rng.uniform(0.38, 0.45),
        lip_thickness=rng.uniform(0.06, 0.11),
        jaw_drop=rng.uniform(0.36, 0.46),
    )


def hsv(hue: float, saturation: float, value: float) -> Colour:
    """BGR 0..255 of hue, saturation and value in [0, 1]."""
    red, green, blue = colorsys.hsv_to_rgb(hue, saturation, value)
    return 255 * blue, 255 * green, 255 * red


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """`a` with `share` of `b` in it."""
    return tuple((1 - share) * x + share * y for x, y in zip(a, b, strict=True))
