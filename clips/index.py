"""Which mel columns belong to which frame: the only place that knows.

25 frames and 80 mel columns make a second, so frame k starts at column floor(16 k / 5). Two alignments exist:

    expert          frames k … k+4   [start(k) ............ + 16)    one slice for the window
    generator       frame  j         [start(j - 1) ........ + 16)    one slice per frame, one frame earlier

Inference uses the generator's alignment too; the official inference starts at start(j), 40 ms later than what its
network was trained on.
"""

from collections.abc import Collection
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from hparams import HParams

Ranges = list[tuple[int, int]]  # each [first, last + 1)


def mel_start(frame: int, fps: float = 25, mel_rate: float = 80, early_s: Fraction = Fraction(0)) -> int:
    """First mel column of a slice that starts with `frame` (0-based), `early_s` seconds before it; may be negative."""
    rate = Fraction(fps).limit_denominator(100_000)
    # Whole-number arithmetic: in floating point 80 * 5 / 25 can fall just below 16.
    return int((Fraction(mel_rate) * (Fraction(frame) / rate - early_s)) // 1)


@dataclass(frozen=True)
class Alignment:
    """Window maths for a clip store: `fps`, mel columns per second, T frames of a window, and columns of a slice.

    expert_mel_steps: of the slice that belongs to a whole window; mel_steps: of the one that belongs to a frame of the
    generator. Both are 16 for windows of 5 frames.
    """

    fps: int
    mel_rate: float
    T: int
    mel_steps: int
    expert_mel_steps: int
    cuts_exactly: bool = False  # the expert's slices, between columns; else at the column before

    @classmethod
    def of(cls, hp: HParams) -> "Alignment":
        mel_rate, cuts_exactly = hp.sample_rate / hp.hop_size, hp.syncnet_mel_cut == "exact"
        return cls(hp.fps, mel_rate, hp.syncnet_T, hp.syncnet_mel_step_size, hp.expert_mel_steps, cuts_exactly)

    def expert_start(self, first_frame: int) -> int:
        """First mel column for the window of frames first_frame … + T - 1 [official color_syncnet_train.py]."""
        return mel_start(first_frame, self.fps, self.mel_rate)

    def expert_mel(self, mel: np.ndarray, first_frame: int) -> np.ndarray:
        """The slice of mel (80, S) for the window of frames first_frame …: (80, expert_mel_steps), fewer at the end."""
        first = self.expert_start(first_frame)
        columns = mel[:, first : first + self.expert_mel_steps]
        if not self.cuts_exactly:
            return columns
        late = np.float32(Fraction(self.mel_rate) * first_frame / self.fps - first)  # 0, 0.2 … 0.8
        following = np.minimum(np.arange(first + 1, first + 1 + columns.shape[1]), mel.shape[1] - 1)
        return (1 - late) * columns + late * mel[:, following]

    def generator_start(self, frame: int, fps: float | None = None) -> int:
        """First mel column for one frame of the generator, one training frame early [official wav2lip_train.py].

        `fps` is the rate of the video to be made, where it differs from the store's. Negative for frame 0.
        """
        return mel_start(frame, fps or self.fps, self.mel_rate, early_s=Fraction(1, self.fps))

    def expert_windows(self, runs: Ranges, mel_columns: int, late: int = 0) -> Ranges:
        """Ranges of window starts the expert can use: T frames with a face and `expert_mel_steps` columns of sound.

        `runs` are the ranges of consecutive frames with a face; late: frames by which their sound comes late.
        """
        return self._windows(
            runs, first=-late, has_mel=lambda k: self.expert_start(k + late) + self.expert_mel_steps <= mel_columns
        )

    def generator_windows(self, runs: Ranges, mel_columns: int, late: int = 0) -> Ranges:
        """Ranges of window starts the generator can use: the expert's, from frame 1 on (frame 0 has no full slice)."""

        def has_mel(k: int) -> bool:
            last_frame = self.generator_start(k + late + self.T - 1) + self.mel_steps
            return max(last_frame, self.expert_start(k + late) + self.expert_mel_steps) <= mel_columns

        return self._windows(runs, first=1 - late, has_mel=has_mel)

    def _windows(self, runs: Ranges, first: int, has_mel) -> Ranges:
        ranges = []
        for run_start, run_end in runs:
            start, end = max(run_start, first), run_end - self.T + 1
            while end > start and not has_mel(end - 1):  # only the last few starts of a clip can lack sound
                end -= 1
            if end > start:
                ranges.append((start, end))
        return ranges


def runs_of(usable, anew_at: Collection[int] = ()) -> Ranges:
    """Ranges of consecutive true values; a new one begins at each of anew_at."""
    runs, start, anew_at = [], None, set(anew_at)
    for i, ok in enumerate([*usable, False]):
        if start is not None and (not ok or i in anew_at):
            runs.append((start, i))
            start = None
        if ok and start is None:
            start = i
    return runs
