"""TensorBoard: scalars averaged between two points of the curve, and grids of images."""

from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter


class Monitor:
    """Collects what each step returns and writes its mean every so often."""

    def __init__(self, folder: Path, first_step: int):
        # Points a resumed run will draw again are hidden.
        self._writer = SummaryWriter(str(folder), purge_step=first_step or None)
        self._sums, self._counts = defaultdict(float), Counter()

    def add(self, values: dict[str, torch.Tensor | float]) -> None:
        """Named values of one step. Tensors stay on the device until `flush`, so that no step waits for the GPU."""
        for name, value in values.items():
            self._sums[name] = self._sums[name] + (value.detach() if torch.is_tensor(value) else value)
            self._counts[name] += 1  # by name: a loss may be switched on between two flushes

    def flush(self, step: int) -> dict[str, float]:
        """Writes and returns the means since the last flush."""
        means = {name: float(total) / self._counts[name] for name, total in self._sums.items()}
        self.scalars(means, step)
        self._sums.clear()
        self._counts.clear()
        return means

    def scalars(self, values: dict[str, float], step: int) -> None:
        for name, value in values.items():
            self._writer.add_scalar(name, value, step)

    def images(self, images: dict[str, np.ndarray], step: int) -> None:
        """Grids as uint8 (H, W, 3) BGR."""
        for name, image in images.items():
            self._writer.add_image(name, image[..., ::-1].copy(), step, dataformats="HWC")

    def close(self) -> None:
        self._writer.close()
