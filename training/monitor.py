"""TensorBoard: scalars averaged between two points of the curve, grids of images, and tables."""

from pathlib import Path

import numpy as np
import torch
from torch.utils.tensorboard import SummaryWriter

from training import distributed
from training.means import Means


class Monitor:
    """Collects what each step returns and writes its mean every so often; the first of several processes writes."""

    def __init__(self, folder: Path, first_step: int):
        # Points that this run will draw again are hidden; a resumed one does not draw the step it goes on from.
        purge_step = first_step + 1 if first_step else 0
        self._writer = SummaryWriter(str(folder), purge_step=purge_step) if distributed.is_first() else None
        self._means = Means()

    def add(self, values: dict[str, torch.Tensor | float]) -> None:
        """Named values of one step. Tensors stay on the device until `flush`: curves cost no wait for the GPU."""
        self._means.add(values)

    def flush(self, step: int) -> dict[str, float]:
        """Writes and returns the means since the last flush, over the steps and over all processes."""
        means = distributed.means({name: float(mean) for name, mean in self._means.take().items()})
        self.scalars(means, step)
        return means

    def scalars(self, values: dict[str, float], step: int) -> None:
        if self._writer:
            for name, value in values.items():
                self._writer.add_scalar(name, value, step)

    def images(self, images: dict[str, np.ndarray], step: int) -> None:
        """Grids as uint8 (H, W, 3) BGR."""
        if self._writer:
            for name, image in images.items():
                self._writer.add_image(name, image[..., ::-1].copy(), step, dataformats="HWC")

    def text(self, name: str, table: str, step: int) -> None:
        """A table as it is printed, for the tab of texts."""
        if self._writer and table:
            self._writer.add_text(name, f"```\n{table}\n```", step)

    def close(self) -> None:
        if self._writer:
            self._writer.close()
