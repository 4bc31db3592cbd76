"""Data preprocessed by the official Wav2Lip code: `<root>/<id>/<clip>/0.jpg, 1.jpg, …` and `audio.wav`.

Read as it is, so that nobody has to preprocess again. The store is faster: here every frame is a file of its own,
and the mel is computed when a clip is first used.
"""

from functools import cached_property
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

import audio
from clips import manifest
from clips.index import Alignment, runs_of
from errors import UserError
from hparams import HParams


def is_official(root: Path) -> bool:
    """Whether `root` holds the official layout rather than a clip store."""
    return not (Path(root) / manifest.NAME).exists() and next(Path(root).glob("*/*/*.jpg"), None) is not None


def scan(root: Path, names: list[str], alignment: Alignment) -> dict[str, manifest.Row]:
    """A manifest row by clip name, for those of `names` that exist; frame ids are taken from the file names.

    What cannot be used is "rejected", with the reason.
    """
    rows = {}
    for name in tqdm(names, desc="looking through clips", unit="clip"):
        folder = Path(root) / name
        if not folder.is_dir():
            continue
        ids = {int(path.stem) for path in folder.glob("*.jpg") if _is_read(path.stem)}
        reason = _unusable(folder, ids)
        if reason:
            rows[name] = manifest.Row(name, name, "rejected", reason)
            continue
        frames = max(ids) + 1
        # The sound is not opened yet: its mel is taken to cover the picture, and is padded with silence where not.
        columns = alignment.expert_start(frames) + 1
        runs = runs_of(i in ids for i in range(frames))
        rows[name] = manifest.Row(name, name, "kept", frames=frames, mel_columns=columns, runs=runs)
    return rows


def _is_read(stem: str) -> bool:
    # not "00", which stands for no frame that is ever asked for
    return stem.isdecimal() and stem == str(int(stem))


def _unusable(folder: Path, ids: set[int]) -> str:
    """Why a clip cannot be used, "" where it can."""
    if not ids:
        return "no frames: they are called 0.jpg, 1.jpg and so on"
    try:
        size = (folder / "audio.wav").stat().st_size
    except OSError:
        return "audio.wav is missing: preprocess the clip again"
    return "" if size else "audio.wav is empty: preprocess the clip again"


class OfficialClip:
    """Read access to one clip of the official layout, as `clips.store.Clip` gives to one of the store."""

    def __init__(self, folder: Path, columns: int, size: int, hp: HParams):
        self.path = Path(folder)
        self._columns, self._size, self._hp = columns, size, hp

    @cached_property
    def mel(self) -> np.ndarray:
        """float32 (80, S), at least as long as the picture."""
        mel = audio.melspectrogram(self.speech(), self._hp)
        missing = max(self._columns - mel.shape[1], 0)
        return np.pad(mel, ((0, 0), (0, missing)), constant_values=-self._hp.max_abs_value)

    def read(self, first: int, count: int) -> np.ndarray:
        """uint8 (count, size, size, 3) BGR; stored crops differ in size, so they are resized here."""
        faces = []
        for i in range(first, first + count):
            face = cv2.imread(str(self.path / f"{i}.jpg"))
            if face is None:
                raise UserError(f"{self.path / f'{i}.jpg'}: does not decode: delete the folder and preprocess it again")
            faces.append(cv2.resize(face, (self._size, self._size)))
        return np.stack(faces)

    def speech(self) -> np.ndarray:
        return audio.load_wav(str(self.path / "audio.wav"), self._hp.sample_rate)
