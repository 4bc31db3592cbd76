"""Grids of sample images."""

import numpy as np
import torch


def tile(images: torch.Tensor) -> np.ndarray:
    """(rows, columns, 3, H, W) float BGR in [0, 1] -> one picture uint8 (rows * H, columns * W, 3)."""
    picture = images.permute(0, 3, 1, 4, 2).flatten(0, 1).flatten(1, 2)
    return (picture * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
