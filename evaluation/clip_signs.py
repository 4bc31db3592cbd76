"""What one stored clip shows of itself: the numbers by which data_doctor.py knows a clip that teaches nothing.

`glance` takes a few milliseconds and is for every clip, `examine` some dozens and is for a sample. Both are pure
functions of a clip, so that any number of threads can run them.
"""

from dataclasses import dataclass

import cv2
import numpy as np

from clips.index import Alignment
from clips.official import OfficialClip
from evaluation.lip_lag import Agreement, agreement_by_lag, loudness, mouth_activity
from hparams import HParams

EXAMINED_FRAMES = 250  # of a clip, from the start of its longest stretch with a face
SIDE = 96  # px, faces are measured at this size whatever that of the store

# A clip's imprint: its mel as a small picture, and three frames of it as smaller ones.
IMPRINT_BANDS, IMPRINT_STEPS, IMPRINT_SIDE = 10, 24, 8
REPEATED = 0.15  # a frame repeats the one before if it differs less than this share of what its neighbours do


@dataclass(frozen=True)
class Imprint:
    """What stays of a clip when it is encoded again. Products of two clips' vectors are correlations.

    With both above 0.88, clips are the same: encoded again or a frame shorter they reach 0.9 and more, noise added;
    different clips stay below 0.72 in sound even where one person says similar sentences.
    """

    sound: np.ndarray  # float32 (240,), length 1, or 0 where the sound never changes
    faces: np.ndarray  # float32 (192,), the same


@dataclass(frozen=True)
class Signs:
    lengths_s: tuple[float, float, float]  # of picture, sound and mel
    quiet_share: float  # of the frames: sound below min_speech_rms
    mouth_motion: float  # grey levels that a pixel changes in two frames, median over time; real clips: above 1.6
    upper_motion: float  # the same in the upper half of the face; real clips: above 1.3
    repeated_share: float  # of the frames: copies of the frame before; 15 fps shown at 25 fps: 0.4
    agreement: Agreement | None  # of loudness and mouth by lag


def glance(clip, run: tuple[int, int]) -> Imprint:
    """clip: of Corpus.open; run: [first, end) of frames with a face."""
    first, end = run
    middles = (first + (end - 1 - first) * part // 4 for part in (1, 2, 3))
    faces = np.stack([_grey(clip.read(i, 1), IMPRINT_SIDE)[0] for i in middles])
    sound = cv2.resize(clip.mel, (IMPRINT_STEPS, IMPRINT_BANDS), interpolation=cv2.INTER_AREA)
    # Without what a voice, a microphone or a pause has in common with all others.
    sound = sound - sound.mean(axis=1, keepdims=True)
    return Imprint(
        sound=_unit(sound - sound.mean(axis=0, keepdims=True)),
        faces=_unit(faces - faces.mean(axis=(1, 2), keepdims=True)),
    )


def examine(clip, frames: int, run: tuple[int, int], hp: HParams) -> Signs:
    """clip: of Corpus.open; frames: of the whole clip; run: [first, end) of frames with a face."""
    first, count = run[0], min(run[1] - run[0], EXAMINED_FRAMES)
    speech = clip.speech()
    sound_s, mel_s = len(speech) / hp.sample_rate, (clip.mel.shape[1] - 1) * hp.hop_size / hp.sample_rate
    if isinstance(clip, OfficialClip):
        mel_s = sound_s  # it is made of the sound there, and padded
    grey = _grey(clip.read(first, count), SIDE)  # (n, 96, 96)
    half, quarter = SIDE // 2, SIDE // 4
    mouth, upper = grey[:, half + 2 : -4, quarter:-quarter], grey[:, 4 : half - 2, quarter:-quarter]
    mouth_motion, upper_motion = _motion(mouth), _motion(upper)
    activity = mouth_activity(mouth, mouth_motion, upper_motion)
    return Signs(
        lengths_s=(frames / hp.fps, sound_s, mel_s),
        quiet_share=_quiet_share(speech, hp.sample_rate // hp.fps, hp.min_speech_rms),
        mouth_motion=float(np.median(mouth_motion)),
        upper_motion=float(np.median(upper_motion)),
        repeated_share=_repeated_share(np.abs(np.diff(grey, axis=0)).mean(axis=(1, 2))),
        agreement=agreement_by_lag(activity, loudness(clip.mel, first, count, Alignment.of(hp))),
    )


def _grey(faces: np.ndarray, side: int) -> np.ndarray:
    """uint8 (n, H, W, 3) BGR -> float32 (n, side, side), 0 to 255."""
    grey = (cv2.cvtColor(face, cv2.COLOR_BGR2GRAY) for face in faces)
    return np.stack([cv2.resize(g, (side, side), interpolation=cv2.INTER_AREA) for g in grey]).astype(np.float32)


def _motion(region: np.ndarray) -> np.ndarray:
    """(n, h, w) -> (n,): mean change from the frame before to the frame after."""
    if len(region) < 3:
        return np.zeros(len(region), np.float32)
    change = np.abs(region[2:] - region[:-2]).mean(axis=(1, 2))
    return np.pad(change, 1, mode="edge")


def _repeated_share(change: np.ndarray) -> float:
    """change (n,): from each frame to the next. Where a picture rests, its neighbours rest too and nothing repeats."""
    around = np.pad(change, 2)
    neighbours = np.max([around[:-4], around[1:-3], around[3:-1], around[4:]], axis=0)
    return float(np.mean(change < REPEATED * neighbours)) if len(change) else 0.0


def _quiet_share(speech: np.ndarray, samples: int, quiet_rms: float) -> float:
    """Share of stretches of `samples` whose loudness is below quiet_rms; of no sound at all, everything."""
    stretches = speech[: len(speech) // samples * samples].reshape(-1, samples)
    return float(np.mean(np.sqrt(np.mean(stretches**2, axis=1)) < quiet_rms)) if len(stretches) else 1.0


def _unit(values: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(values)
    return (values / length if length > 1e-3 else np.zeros_like(values)).ravel().astype(np.float32)
