"""Datasets: a draw goes in, its bytes come out. The same draw gives the same bytes, in any worker, on any day.

Faces stay uint8 until they are on the device (models/inputs.py scales and masks them there). Nothing is drawn,
retried or written here: sampling.py decides what to read, corpus.py what can be read.
"""

from functools import lru_cache

import cv2
import numpy as np
import torch

from clips.corpus import Corpus
from clips.index import Alignment
from clips.sampling import ExpertDraw, GeneratorDraw
from errors import UserError

# Open clips a worker keeps at hand: each holds a memory map and its mel, some 100 KB for a clip of five seconds.
OPEN_CLIPS = 256


class WindowDataset(torch.utils.data.Dataset):
    """Reads windows of faces and speech of one corpus; faces are resized to `img_size`."""

    def __init__(self, corpus: Corpus, img_size: int):
        self.corpus, self.img_size = corpus, img_size
        self.alignment = Alignment.of(corpus.hp)
        self._open = None

    def clip(self, index: int):
        if self._open is None:
            # Made on first use, so that every worker process has its own.
            self._open = lru_cache(maxsize=OPEN_CLIPS)(self.corpus.open)
        return self._open(index)

    def faces(self, clip: int, start: int) -> np.ndarray:
        """uint8 (T, img_size, img_size, 3) BGR."""
        faces = self.clip(clip).read(start, self.alignment.T)
        if faces.shape[1] == self.img_size:
            return faces
        shrinks = faces.shape[1] > self.img_size
        how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        return np.stack([cv2.resize(face, (self.img_size, self.img_size), interpolation=how) for face in faces])

    def expert_mel(self, clip: int, start: int) -> np.ndarray:
        """float32 (80, expert_mel_steps) for the window of frames start … + T - 1."""
        return self._slice(clip, self.alignment.expert_start(start), self.alignment.expert_mel_steps)

    def frame_mels(self, clip: int, start: int) -> np.ndarray:
        """float32 (T, 80, mel_steps): what the generator hears of each of those frames."""
        starts = map(self.alignment.generator_start, range(start, start + self.alignment.T))
        return np.stack([self._slice(clip, column, self.alignment.mel_steps) for column in starts])

    def _slice(self, clip: int, column: int, columns: int) -> np.ndarray:
        mel = self.clip(clip).mel[:, column : column + columns]
        if mel.shape[1] != columns:
            raise UserError(
                f"{self.corpus.names[clip]}: its sound ends before column {column}: preprocess the clip again"
            )
        return mel

    def __getstate__(self):
        return {**self.__dict__, "_open": None}


class ExpertDataset(WindowDataset):
    """dataset[ExpertDraw] -> faces uint8 (T, H, W, 3), mel (80, 16), in_sync (float 0 or 1), clip, start."""

    def __getitem__(self, draw: ExpertDraw) -> dict:
        return {
            "faces": self.faces(draw.clip, draw.faces),
            "mel": self.expert_mel(draw.clip, draw.speech),
            "in_sync": np.float32(draw.in_sync),
            "clip": draw.clip,
            "start": draw.faces,
        }


class GeneratorDataset(WindowDataset):
    """dataset[GeneratorDraw] -> target, reference uint8 (T, H, W, 3), mel (80, 16), frame_mels (T, 80, 16), clip."""

    def __getitem__(self, draw: GeneratorDraw) -> dict:
        return {
            "target": self.faces(draw.clip, draw.target),
            "reference": self.faces(draw.clip, draw.reference),
            "mel": self.expert_mel(draw.clip, draw.target),
            "frame_mels": self.frame_mels(draw.clip, draw.target),
            "clip": draw.clip,
        }
