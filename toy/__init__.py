"""A corpus of drawn, talking faces, made from seeds: data for the demo and the tests, of which nothing is stored.

Lips and sound come from one articulation track, so they are in sync by construction; identities differ in looks and
voice, so that what is learnt on some can be tested on others.
"""

from toy.canvas import FRAME_PX
from toy.clip import FPS, make_toy_clip, make_toy_speech, toy_gestures
from toy.corpus import make_toy_corpus
from toy.looks import ToyStyle
from toy.speech import SAMPLE_RATE

__all__ = [
    "FPS",
    "FRAME_PX",
    "SAMPLE_RATE",
    "ToyStyle",
    "make_toy_clip",
    "make_toy_corpus",
    "make_toy_speech",
    "toy_gestures",
]
