"""VGG16's features: what pictures have in common beyond their pixels. Simonyan & Zisserman 2015, arXiv 1409.1556."""

from pathlib import Path

import torch
from torch import nn
from torchvision.models import vgg16

from models.files import CheckpointError, read_checkpoint

LAYERS = (3, 8, 15, 22)  # relu1_2, relu2_2, relu3_3, relu4_3
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet in RGB, which it was trained on


class VggFeatures(nn.Module):
    """Frozen. frames (N, 3, H, W) BGR in [0, 1] -> the activations of LAYERS, each (N, C, h, w)."""

    def __init__(self, path: str | Path):
        """path: torchvision's weights of VGG16, vgg16-397923af.pth. CheckpointError where it is something else."""
        super().__init__()
        with torch.device("meta"):  # initial weights would be drawn for nothing, and from the run's own random numbers
            self.layers = vgg16(weights=None).features[: LAYERS[-1] + 1]
        weights = read_checkpoint(path)
        held = {key.removeprefix("features."): value for key, value in weights.items() if key.startswith("features.")}
        try:
            self.layers.load_state_dict({key: held[key] for key in self.layers.state_dict()}, assign=True)
        except (KeyError, RuntimeError):
            raise CheckpointError(
                f"{path} holds no weights of VGG16: download torchvision's vgg16-397923af.pth"
            ) from None
        self.register_buffer("mean", torch.tensor(MEAN).view(3, 1, 1))
        self.register_buffer("std", torch.tensor(STD).view(3, 1, 1))
        self.eval().requires_grad_(False)

    def forward(self, frames: torch.Tensor) -> list[torch.Tensor]:
        x, found = (frames.flip(1) - self.mean) / self.std, []
        for index, layer in enumerate(self.layers):
            x = layer(x)
            if index in LAYERS:
                found.append(x)
        return found
