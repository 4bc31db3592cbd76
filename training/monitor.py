"""TensorBoard: scalars averaged between two points of the curve, and grids of images."""

from collections import defaultdict
from pathlib import Path

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter


class Monitor:
    """Collects what each step returns and writes its mean every so often."""

    def __init__(self, folder: Path, first_step: int):
        # Points a resumed run will draw again are hidden.
        self._writer = SummaryWriter(str(folder), purge_step=first_step or None)
        self._sums, self._count = defaultdict(float), 0

    def add(self, values: dict[str, torch.Tensor | float]) -> None:
        """Named values of one step. Tensors stay on the device until `flush`, so that no step waits for the GPU."""
        for name, value in values.items():
            self._sums[name] = self._sums[name] + (value.detach() if torch.is_tensor(value) else value)
        self._count += 1

    def flush(self, step: int) -> dict[str, float]:
        """Writes and returns the means since the last flush."""
        means = {name: float(total) / self._count for name, total in self._sums.items()} if self._count else {}
        self.scalars(means, step)
        self._sums.clear()
        self._count = 0
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
