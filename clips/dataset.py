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

# Open clips a worker keeps at hand: each holds an open file, of which a process has 1024 at most, 256 on a Mac, and its
# mel, 1 KB a frame.
OPEN_CLIPS, OPEN_FRAMES = 100, 250_000


class WindowDataset(torch.utils.data.Dataset):
    """Reads windows of faces and speech of one corpus; faces are resized to `img_size`."""

    def __init__(self, corpus: Corpus, img_size: int):
        self.corpus, self.img_size = corpus, img_size
        self.alignment = Alignment.of(corpus.hp)
        self._forget()

    def clip(self, index: int):
        if self._open is None:
            # Made on first use, so that every worker process has its own.
            mean_frames = max(1, sum(windows[-1][1] for windows in self.corpus.windows) // len(self.corpus))
            self._open = lru_cache(maxsize=max(1, min(OPEN_CLIPS, OPEN_FRAMES // mean_frames)))(self.corpus.open)
        return self._open(index)

    def late(self, clip: int) -> int:
        """Frames by which the sound of the clip comes late: the speech of frame k is stored at frame k + late."""
        return self.corpus.late[clip] if self.corpus.late else 0

    def faces(self, clip: int, start: int) -> np.ndarray:
        """uint8 (T, img_size, img_size, 3) BGR."""
        return self.frames(clip, start, self.alignment.T)

    def frames(self, clip: int, start: int, count: int) -> np.ndarray:
        """As `faces`, any number of frames."""
        if clip not in self._decoded and self._fits(clip):
            first, end = self._stretch(clip)
            self._decoded[clip] = self._resized(self.clip(clip).read(first, end - first))
        if clip in self._decoded:
            start -= self._stretch(clip)[0]
            return self._decoded[clip][start : start + count]
        return self._resized(self.clip(clip).read(start, count))

    def _stretch(self, clip: int) -> tuple[int, int]:
        """From the first frame that a window may show to the last, which may hold some that none shows."""
        windows = self.corpus.windows[clip]
        return windows[0][0], windows[-1][1] - 1 + self.alignment.T

    def _fits(self, clip: int) -> bool:
        """Whether the faces of the clip may stay decoded; if so, their room is taken."""
        first, end = self._stretch(clip)
        has_gaps = len(self.corpus.windows[clip]) > 1  # frames without a face, which are not there or may be damaged
        size = (end - first) * self.img_size**2 * 3
        if has_gaps or size > self._room:
            return False
        self._room -= size
        return True

    def _resized(self, faces: np.ndarray) -> np.ndarray:
        if faces.shape[1] == self.img_size:
            return faces
        shrinks = faces.shape[1] > self.img_size
        how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
        return np.stack([cv2.resize(face, (self.img_size, self.img_size), interpolation=how) for face in faces])

    def expert_mel(self, clip: int, start: int) -> np.ndarray:
        """float32 (80, expert_mel_steps) for the window of frames start … + T - 1."""
        mel = self.alignment.expert_mel(self.clip(clip).mel, start + self.late(clip))
        return self._whole(clip, mel, self.alignment.expert_mel_steps)

    def frame_mels(self, clip: int, start: int) -> np.ndarray:
        """float32 (T, 80, mel_steps): what the generator hears of each of those frames."""
        start += self.late(clip)
        mel, columns = self.clip(clip).mel, self.alignment.mel_steps
        starts = map(self.alignment.generator_start, range(start, start + self.alignment.T))
        return np.stack([self._whole(clip, mel[:, first : first + columns], columns) for first in starts])

    def _whole(self, clip: int, mel: np.ndarray, columns: int) -> np.ndarray:
        if mel.shape[1] != columns:
            raise UserError(f"{self.corpus.names[clip]}: its sound ends too soon: preprocess the clip again")
        return mel

    def _forget(self) -> None:
        self._open, self._decoded, self._room = None, {}, self.corpus.hp.face_cache_gb * 1e9

    def __getstate__(self):
        return {name: value for name, value in self.__dict__.items() if name not in ("_open", "_decoded", "_room")}

    def __setstate__(self, state: dict) -> None:
        self.__dict__.update(state)
        self._forget()


class ExpertDataset(WindowDataset):
    """dataset[ExpertDraw] -> faces uint8 (T, H, W, 3), mel (80, 16), in_sync (float 0 or 1), clip, start.

    With K nearby windows of speech also nearby_mel (K, 80, 16), nearby_start (K,).
    """

    def __getitem__(self, draw: ExpertDraw) -> dict:
        item = {
            "faces": self.faces(draw.clip, draw.faces),
            "mel": self.expert_mel(draw.clip, draw.speech),
            "in_sync": np.float32(draw.in_sync),
            "clip": draw.clip,
            "start": draw.faces,
        }
        if draw.nearby:
            item["nearby_mel"] = np.stack([self.expert_mel(draw.clip, start) for start in draw.nearby])
            item["nearby_start"] = np.array(draw.nearby)
        return item


class GeneratorDataset(WindowDataset):
    """dataset[GeneratorDraw] -> target, reference uint8 (T, H, W, 3), mel (80, 16), frame_mels (T, 80, 16), clip."""

    def __getitem__(self, draw: GeneratorDraw) -> dict:
        return {
            "target": self.faces(draw.clip, draw.target),
            "reference": self.faces(draw.clip, self._reference(draw)),
            "mel": self.expert_mel(draw.clip, draw.target),
            "frame_mels": self.frame_mels(draw.clip, draw.target),
            "clip": draw.clip,
        }

    def _reference(self, draw: GeneratorDraw) -> int:
        if len(draw.references) == 1:
            return draw.references[0]
        middle = self.alignment.T // 2
        target, *others = (self.frames(draw.clip, start + middle, 1)[0] for start in (draw.target, *draw.references))
        return draw.references[fittest(target, others)]


def fittest(target: np.ndarray, references: list[np.ndarray]) -> int:
    """Which reference has the most different mouth among the half of them whose pose is most like the target's.

    Faces uint8 (H, W, 3). Such a reference needs no turning and tells nothing of the mouth that is to be drawn; after
    MuseTalk (Zhang et al. 2024, arXiv 2410.10122), which samples by landmarks. Here pose is compared by the upper
    halves, mouths by the lower ones.
    """
    small = np.stack([cv2.resize(face, (24, 24), interpolation=cv2.INTER_AREA) for face in (target, *references)])
    differences = np.abs(small[1:].astype(float) - small[0])
    pose, mouth = differences[:, :12].mean(axis=(1, 2, 3)), differences[:, 12:].mean(axis=(1, 2, 3))
    alike = np.argsort(pose, kind="stable")[: max(2, (len(references) + 1) // 2)]
    return int(alike[mouth[alike].argmax()])
