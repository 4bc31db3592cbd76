"""What several tests need: a small clip store written directly, without videos or a face detector."""

from pathlib import Path

import numpy as np
import pytest
import torch

import audio
from clips import filelists, manifest
from clips.index import runs_of
from clips.store import ClipWriter, as_stored
from hparams import HParams

# Sums over threads may be taken in another order, and bit-exactness is tested; on shared machines it is faster, too.
torch.set_num_threads(1)

# A network small enough for a test, and no loader processes unless a test asks for them.
TINY = "width=0.0625,num_workers=0,store_size=96,log_interval=1,sample_interval=0"


def write_clip(root: Path, name: str, frames: int, rng: np.random.Generator, missing=()) -> manifest.Row:
    """One stored clip of noise whose loudness and brightness rise and fall together; `missing` frames have no face."""
    hp = HParams()
    level = 0.5 + 0.5 * np.sin(np.arange(frames) * rng.uniform(0.5, 1.5) + rng.uniform(0, 6))
    speech = rng.normal(0, 0.1, frames * 640).astype(np.float32) * np.repeat(level, 640).astype(np.float32)
    speech = as_stored(speech)
    writer = ClipWriter(root / name, hp.fps, hp.store_size, hp.sample_rate, hp.jpeg_quality)
    base = rng.integers(0, 200, (12, 12, 3))
    for i in range(frames):
        face = np.clip(np.kron(base, np.ones((8, 8, 1))) + 55 * level[i], 0, 255).astype(np.uint8)
        writer.add_frame(None if i in missing else face)
    status = np.array([0 if i in missing else 1 for i in range(frames)], np.uint8)
    mel = audio.melspectrogram(speech, hp)
    writer.close(speech, mel, np.zeros((frames, 4)), status, {"source": name})
    return manifest.Row(f"{name}.mp4", name, "kept", frames=frames, mel_columns=mel.shape[1], runs=runs_of(status))


@pytest.fixture(scope="session")
def store(tmp_path_factory) -> Path:
    """A store of 6 identities with 2 clips of 40 frames each; its filelists lie in store/lists."""
    root = tmp_path_factory.mktemp("store")
    rng = np.random.default_rng(7)
    writer = manifest.ManifestWriter(root)
    names = [f"id{i}/clip{j}" for i in range(6) for j in range(2)]
    for name in names:
        writer.add(write_clip(root, name, 40, rng))
    writer.close()
    filelists.write(root / "lists", {"val": names[:2], "test": names[2:4], "train": names[4:]})
    return root
