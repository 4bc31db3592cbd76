"""One toy clip: a talking face and its speech, fully decided by two seeds and a style."""

from collections.abc import Iterator

import numpy as np

from hparams import HParams
from toy.articulation import AT_REST, Gestures, Track, make_track
from toy.canvas import FRAME_PX
from toy.face import Face, Pose
from toy.looks import ToyStyle, make_looks
from toy.speech import RMS, SAMPLE_RATE, make_voice, synthesize
from toy.wander import wander

FPS = HParams.fps
EASY = ToyStyle()

# What random numbers are drawn for. Each purpose has its own stream, so that drawing more for one changes no other.
LOOKS, VOICE, TRACK, SPEECH, ROOM, MOTION, BLINKS, LIGHT, GRAIN = range(9)


def stream(purpose: int, *seeds: int) -> np.random.Generator:
    return np.random.default_rng([purpose, *seeds])


def make_toy_clip(
    identity_seed: int, clip_seed: int, seconds: float = 6.0, style: ToyStyle = EASY
) -> tuple[np.ndarray, np.ndarray]:
    """frames uint8 (n, FRAME_PX, FRAME_PX, 3) BGR and speech float32 (n * SAMPLE_RATE / FPS,), n = seconds * FPS."""
    frames = np.stack(list(draw_frames(identity_seed, clip_seed, seconds, style)))
    return frames, make_toy_speech(identity_seed, clip_seed, seconds, style)


def make_toy_speech(identity_seed: int, clip_seed: int, seconds: float = 6.0, style: ToyStyle = EASY) -> np.ndarray:
    """The speech of a clip alone, float32 (n * SAMPLE_RATE / FPS,) for its n frames."""
    samples = count_frames(seconds) * SAMPLE_RATE // FPS
    voice = make_voice(stream(VOICE, identity_seed))
    track = toy_track(identity_seed, clip_seed, seconds)
    speech = synthesize(track, voice, samples, stream(SPEECH, identity_seed, clip_seed))
    hiss = stream(ROOM, identity_seed, clip_seed).standard_normal(samples, np.float32)
    return speech + np.float32(0.1 * style.noise * RMS) * hiss


def toy_gestures(identity_seed: int, clip_seed: int, seconds: float = 6.0) -> Gestures:
    """The articulation at the frames of a clip, arrays (n,); frame i shows the moment i / FPS."""
    return toy_track(identity_seed, clip_seed, seconds).at(frame_times(seconds))


def toy_track(identity_seed: int, clip_seed: int, seconds: float) -> Track:
    return make_track(stream(TRACK, identity_seed, clip_seed), seconds)


def count_frames(seconds: float) -> int:
    return round(seconds * FPS)


def frame_times(seconds: float) -> np.ndarray:
    return np.arange(count_frames(seconds)) / FPS


def draw_frames(identity_seed: int, clip_seed: int, seconds: float, style: ToyStyle) -> Iterator[np.ndarray]:
    """The frames of a clip one by one, uint8 (FRAME_PX, FRAME_PX, 3) BGR."""
    seeds = identity_seed, clip_seed
    times_s = frame_times(seconds)
    face = Face(make_looks(stream(LOOKS, identity_seed)))
    gestures = toy_gestures(*seeds, seconds)
    poses = head_motion(stream(MOTION, *seeds), times_s, style.head_motion)
    blinks = eye_blinks(stream(BLINKS, *seeds), times_s)
    lights = light(stream(LIGHT, *seeds), times_s, style.lighting)
    grain = stream(GRAIN, *seeds)
    reach = 1 - 0.7 * style.mumbling
    openings, roundings = reach * gestures.opening, AT_REST + reach * (gestures.rounding - AT_REST)
    for opening, rounding, pose, blink, (brightness, tilt) in zip(
        openings, roundings, poses, blinks, lights, strict=True
    ):
        frame = face.render(opening, rounding, blink, pose)
        if style.lighting:
            frame = relight(frame, brightness, tilt)
        if style.noise:
            frame = add_grain(frame, grain, 8 * style.noise)
        yield frame


def head_motion(rng: np.random.Generator, times_s: np.ndarray, amount: float) -> list[Pose]:
    """The head sways slowly by a few px; `amount` 1 makes it four times as much."""
    reach = 1 + 3 * amount
    x, y, roll, size = (reach * wander(rng, times_s, period_s=1.2) for _ in range(4))
    return [Pose(*pose) for pose in np.stack([2.0 * x, 1.5 * y, 1.5 * roll, 1 + 0.015 * size], axis=1)]


def eye_blinks(rng: np.random.Generator, times_s: np.ndarray) -> np.ndarray:
    """How far the eyes are shut (n,), in [0, 1]: a blink of 0.3 s every two to five seconds."""
    middles_s = np.cumsum(rng.uniform(2, 5, size=int(times_s[-1] / 2) + 1)) - 2
    from_middle_s = np.abs(times_s[:, None] - middles_s).min(axis=1)
    return np.clip(1.25 - from_middle_s / 0.12, 0, 1)


def light(rng: np.random.Generator, times_s: np.ndarray, amount: float) -> np.ndarray:
    """Brightness factor, and light from the right minus light from the left, per frame (n, 2)."""
    clip_offset = rng.uniform(-1, 1, size=2)
    drift = np.stack([wander(rng, times_s, period_s=2.0) for _ in range(2)], axis=1)
    return [1, 0] + amount * np.array([0.25, 0.5]) * (0.7 * clip_offset + 0.3 * drift)


def relight(frame: np.ndarray, brightness: float, tilt: float) -> np.ndarray:
    across = np.linspace(-1, 1, FRAME_PX, dtype=np.float32)[None, :, None]
    return np.clip(np.rint(frame * (brightness * (1 + tilt * across))), 0, 255).astype(np.uint8)


def add_grain(frame: np.ndarray, rng: np.random.Generator, deviation: float) -> np.ndarray:
    """Noise as of a camera sensor; `deviation` in steps of the pixel value."""
    grain = rng.standard_normal(frame.shape, np.float32)
    return np.clip(np.rint(frame + deviation * grain), 0, 255).astype(np.uint8)
