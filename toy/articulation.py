"""What a toy speaker does with mouth and voice: one track that both the picture and the sound are made from.

Speech here is phrases of syllables between pauses; a syllable is a consonant (or none), a vowel and sometimes a
consonant again. Each sound holds its targets for a part of its duration and glides to the next one's, so neighbours
colour each other as in real speech, while closed lips do close.
"""

from typing import NamedTuple

import numpy as np
from scipy.interpolate import PchipInterpolator


class Gestures(NamedTuple):
    """The state of mouth and voice, each field a number or an array (n,) of one per moment, in [0, 1]."""

    opening: np.ndarray  # of the jaw: 0 = lips closed, 1 = as open as speech goes
    rounding: np.ndarray  # of the lips: 0 = spread, AT_REST = at rest, 1 = pursed
    voicing: np.ndarray  # strength of the voice's pulses
    frication: np.ndarray  # strength of the hiss
    loudness: np.ndarray  # of the whole


AT_REST = 0.4  # rounding of the lips that do nothing

VOWELS = {
    "a": Gestures(1.00, 0.35, 1, 0, 1.00),
    "ae": Gestures(0.75, 0.10, 1, 0, 0.95),
    "e": Gestures(0.50, 0.05, 1, 0, 0.85),
    "i": Gestures(0.22, 0.00, 1, 0, 0.70),
    "o": Gestures(0.60, 0.80, 1, 0, 0.90),
    "u": Gestures(0.22, 1.00, 1, 0, 0.70),
}
CONSONANTS = {
    "p": Gestures(0.00, 0.45, 0, 0, 0.00),
    "b": Gestures(0.00, 0.45, 0.5, 0, 0.15),
    "m": Gestures(0.00, 0.40, 1, 0, 0.40),
    "f": Gestures(0.06, 0.30, 0, 0.5, 0.35),
    "s": Gestures(0.12, 0.05, 0, 1, 0.55),
    "sh": Gestures(0.16, 0.85, 0, 1, 0.60),
    "l": Gestures(0.40, 0.30, 1, 0, 0.60),
    "w": Gestures(0.10, 1.00, 1, 0, 0.50),
}
PAUSE = Gestures(0.02, 0.40, 0, 0, 0.00)

# Durations in seconds. The rhythm is loose on purpose: a window must be told from its neighbours by it.
VOWEL_S = (0.09, 0.22)
CONSONANT_S = (0.07, 0.12)
PAUSE_S = (0.12, 0.35)
PHRASE_SYLLABLES = (4, 10)
ONSET_SHARE, CODA_SHARE = 0.9, 0.25  # of the syllables

# Part of a sound's duration during which its targets hold. Lips are slower than the voice.
LIPS_HOLD, VOICE_HOLD = 0.3, 0.75


class Track:
    """The gestures of one utterance, at any moment of [0, seconds]."""

    def __init__(self, sounds: list[tuple[float, Gestures]], start_s: float):
        """sounds: (duration in seconds, targets), spoken one after the other from `start_s` on."""
        durations = np.array([duration for duration, _ in sounds])
        targets = np.array([target for _, target in sounds])
        middles = start_s + np.cumsum(durations) - durations / 2
        self._lips = glide(middles, durations * LIPS_HOLD, targets[:, :2])
        self._voice = glide(middles, durations * VOICE_HOLD, targets[:, 2:])

    def at(self, times_s: np.ndarray) -> Gestures:
        """The gestures at `times_s` (n,): five float64 arrays (n,)."""
        return Gestures(*self._lips(times_s).T, *self._voice(times_s).T)


def glide(middles_s: np.ndarray, holds_s: np.ndarray, targets: np.ndarray) -> PchipInterpolator:
    """The curve that rests on each target for its hold and never overshoots between two of them."""
    knots = np.stack([middles_s - holds_s / 2, middles_s + holds_s / 2], axis=1).ravel()
    return PchipInterpolator(knots, np.repeat(targets, 2, axis=0))


def make_track(rng: np.random.Generator, seconds: float) -> Track:
    """A random utterance that fills `seconds` and starts and ends in the middle of talking."""
    start_s = -rng.uniform(0.3, 0.8)
    sounds, end_s = [], start_s
    while end_s < seconds + 0.5:
        sounds += phrase(rng)
        end_s = start_s + sum(duration for duration, _ in sounds)
    return Track(sounds, start_s)


def phrase(rng: np.random.Generator) -> list[tuple[float, Gestures]]:
    """Some syllables and the pause after them."""
    sounds = []
    for _ in range(rng.integers(*PHRASE_SYLLABLES, endpoint=True)):
        sounds += syllable(rng)
    return [*sounds, (rng.uniform(*PAUSE_S), PAUSE)]


def syllable(rng: np.random.Generator) -> list[tuple[float, Gestures]]:
    """Consonant (or none), vowel, sometimes a consonant; the vowel is stressed more or less."""
    stress = rng.uniform(0.7, 1.0)
    vowel = VOWELS[rng.choice(list(VOWELS))]
    vowel = vowel._replace(opening=vowel.opening * stress, loudness=vowel.loudness * stress)
    sounds = [(rng.uniform(*VOWEL_S), vowel)]
    if rng.random() < ONSET_SHARE:
        sounds.insert(0, consonant(rng))
    if rng.random() < CODA_SHARE:
        sounds.append(consonant(rng))
    return sounds


def consonant(rng: np.random.Generator) -> tuple[float, Gestures]:
    return rng.uniform(*CONSONANT_S), CONSONANTS[rng.choice(list(CONSONANTS))]
