"""The same clips in both layouts: as a clip store, and as the original's folders of images beside a sound file."""

from pathlib import Path

import cv2
import numpy as np
from scipy.io import wavfile

import audio
from clips import manifest
from clips.index import runs_of
from clips.store import Clip, ClipWriter, as_stored
from hparams import HParams


def write_store(root: Path, clips: int, seconds: float, hp: HParams) -> None:
    """A store of clips of drifting colours and noise: pictures that compress about as well as a face does."""
    root.mkdir(parents=True)
    rng = np.random.default_rng(0)
    rows = manifest.ManifestWriter(root)
    for i in range(clips):
        rows.add(_write_clip(root, f"id{i}/noise", round(seconds * hp.fps), rng, hp))
    rows.close()


def _write_clip(root: Path, name: str, frames: int, rng: np.random.Generator, hp: HParams) -> manifest.Row:
    writer = ClipWriter(root / name, hp.fps, hp.store_size, hp.sample_rate, hp.jpeg_quality)
    start, end = rng.integers(0, 256, (2, 12, 12, 3)).astype(np.float32)
    for i in range(frames):
        colours = cv2.resize(start + (end - start) * i / frames, (hp.store_size, hp.store_size))
        writer.add_frame(np.clip(colours + rng.normal(0, 3, colours.shape), 0, 255).astype(np.uint8))
    speech = as_stored(rng.normal(0, 0.1, frames * hp.sample_rate // hp.fps).astype(np.float32))
    mel = audio.melspectrogram(speech, hp)
    status = np.ones(frames, np.uint8)
    writer.close(speech, mel, np.zeros((frames, 4)), status, {})
    return manifest.Row(name, name, "kept", frames=frames, mel_columns=mel.shape[1], runs=runs_of(status))


def export_original(store: Path, names: list[str], root: Path, face_px: int, hp: HParams) -> None:
    """Writes stored clips as `<root>/<name>/<frame>.jpg` and `audio.wav`; frames without a face get no image.

    face_px: side of the images. The original keeps faces as large as they were found, and a store no longer has those.
    """
    for name in names:
        clip, folder = Clip(store / name), root / name
        folder.mkdir(parents=True)
        for i in np.flatnonzero(clip.status):
            cv2.imwrite(str(folder / f"{i}.jpg"), cv2.resize(clip.read(int(i), 1)[0], (face_px, face_px)))
        wavfile.write(folder / "audio.wav", hp.sample_rate, (clip.speech() * 32768).astype(np.int16))
