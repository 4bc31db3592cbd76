"""The toy voice: articulation -> 16 kHz speech by source and filter.

A sawtooth at the speaker's pitch (voice) and white noise (hiss) are shaped in the short-time Fourier domain: the voice
by four formants, of which the first follows the opening of the mouth and the second its rounding, the hiss by a band
that rounding moves down, as from "s" to "sh".
"""

from dataclasses import dataclass

import numpy as np
from scipy import signal

from hparams import HParams
from toy.articulation import Gestures, Track
from toy.wander import wander

SAMPLE_RATE = HParams.sample_rate
FRAME, HOP = 512, 128  # samples of the shaping: 32 ms resolves formants, 8 ms follows the lips
RMS = 0.08  # of a clip, full scale = 1: as loud as a clean recording of somebody talking


@dataclass(frozen=True)
class Voice:
    pitch_hz: float
    tract: float  # factor on all formants: 0.88 = long vocal tract, 1.14 = short
    breath: float  # noise mixed into the voice, relative to its pulses


def make_voice(rng: np.random.Generator) -> Voice:
    pitch_hz = 95 * 2 ** rng.uniform(0, 1.3)
    # High voices come from short tracts, loosely.
    tract = 0.9 + 0.1 * np.log2(pitch_hz / 95) + rng.uniform(-0.03, 0.03)
    return Voice(pitch_hz, tract, breath=rng.uniform(0.02, 0.08))


def synthesize(track: Track, voice: Voice, samples: int, rng: np.random.Generator) -> np.ndarray:
    """Speech float32 (samples,) of `track` from its time 0; `rng` draws melody and noise."""
    times_s = np.arange(samples) / SAMPLE_RATE
    gestures = track.at(times_s)
    pitch_hz = voice.pitch_hz * 2 ** (0.25 * wander(rng, times_s, period_s=0.5))
    noise = rng.standard_normal(samples)

    pulses = signal.sawtooth(2 * np.pi * np.cumsum(pitch_hz) / SAMPLE_RATE)
    voiced = gestures.voicing * gestures.loudness * (pulses + voice.breath * noise)
    hiss = gestures.frication * gestures.loudness * noise
    speech = shape(voiced, track, lambda hz, at: formants(hz, at, voice.tract)) + shape(hiss, track, hiss_band)

    # An utterance of which nothing is heard (a very short one in a pause) stays silent.
    rms = np.sqrt(np.mean(speech**2))
    return (speech * (RMS / max(rms, 1e-3))).astype(np.float32)


def shape(source: np.ndarray, track: Track, gain) -> np.ndarray:
    """`source` (n,) filtered by gain(frequencies in Hz (F, 1), gestures (T,)) -> (F, T), which changes with time."""
    hz, times_s, spectrum = signal.stft(source, SAMPLE_RATE, nperseg=FRAME, noverlap=FRAME - HOP)
    _, shaped = signal.istft(spectrum * gain(hz[:, None], track.at(times_s)), nperseg=FRAME, noverlap=FRAME - HOP)
    return shaped[: len(source)]


def formants(hz: np.ndarray, gestures: Gestures, tract: float) -> np.ndarray:
    """Gain (F, T) of four resonances in cascade, 1 at 0 Hz as in a real tube."""
    centres_and_widths = (
        (250 + 600 * gestures.opening, 80),
        (2300 - 1450 * gestures.rounding, 110),
        (2750 - 350 * gestures.rounding, 160),
        (3600 + 0 * gestures.opening, 220),
    )
    gain = np.ones((len(hz), len(gestures.opening)))
    for centre, width in centres_and_widths:
        centre = centre * tract
        gain *= centre**2 / np.hypot(hz**2 - centre**2, hz * width)
    return gain


def hiss_band(hz: np.ndarray, gestures: Gestures) -> np.ndarray:
    """Gain (F, T) of a band around 6 kHz for spread lips and around 2.8 kHz for rounded ones."""
    return np.exp(-0.5 * ((hz - 6000 + 3800 * gestures.rounding) / 1100) ** 2)
