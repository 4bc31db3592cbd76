"""The toy mouth: four curves from corner to corner, between them lips, teeth, tongue and the dark."""

import numpy as np

from toy.canvas import between
from toy.looks import Looks, mix

ACROSS = np.linspace(-1, 1, 25)  # left corner to right corner
ARCH = 1 - ACROSS**2  # a bow that vanishes at the corners
TEETH, TONGUE, CAVITY = (225, 232, 235), (95, 90, 170), (28, 18, 40)  # BGR


def mouth_shapes(looks: Looks, opening: float, rounding: float):
    """The mouth's areas, to be painted in this order: pairs (outline (n, 2) in half-widths of the face, colour)."""
    spread = 0.4 - rounding  # from the lips at rest
    half_width = looks.mouth_width * (1 + 0.6 * spread) * (1 - 0.1 * opening)
    drop = looks.jaw_drop * opening
    # Pursed lips are thicker, stretched ones thinner.
    thickness = looks.lip_thickness * (1 - 0.5 * spread) * (1 - 0.15 * opening)

    # Lengths below the line of the closed lips. The upper lip rises a little where the lower one falls.
    x = half_width * ACROSS
    upper_inner = -0.2 * drop * ARCH
    lower_inner = 0.8 * drop * ARCH
    bow = ARCH**0.7 - 0.25 * np.exp(-((ACROSS / 0.18) ** 2))  # the dent in the middle of the upper lip
    upper_outer = upper_inner - thickness * bow
    lower_outer = lower_inner + 1.25 * thickness * ARCH**0.7
    teeth_edge = np.minimum(upper_inner + 0.085 * ARCH, lower_inner)
    tongue_edge = np.maximum(lower_inner - 0.35 * drop * ARCH, teeth_edge)
    seam = 0.012

    shade, shine = mix(looks.lips, CAVITY, 0.25), mix(looks.lips, TEETH, 0.25)
    shine_top, shine_bottom = (lower_inner + part * 1.25 * thickness * ARCH for part in (0.35, 0.7))
    middle = slice(6, -6)
    areas = [
        (x, upper_inner - seam, lower_inner + seam, CAVITY),
        (x, upper_inner, teeth_edge, TEETH),
        (x, tongue_edge, lower_inner, TONGUE),
        (x, upper_outer, upper_inner - seam, shade),
        (x, lower_inner + seam, lower_outer, looks.lips),
        (x[middle], shine_top[middle], shine_bottom[middle], shine),
    ]
    return [(between(x, top + looks.mouth_y, bottom + looks.mouth_y), colour) for x, top, bottom, colour in areas]
