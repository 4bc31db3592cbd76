"""Chung's SyncNet, the network LSE-D and LSE-C are measured with. Chung and Zisserman 2016, "Out of time".

Official names: class S in joonson/syncnet_python, whose weights are published as syncnet_v2.model. The numbers in
their keys are positions in the Sequentials below, so nothing here may be reordered.
"""

import torch
from torch import nn


class SyncNetV2(nn.Module):
    """Two encoders into one space of 1024 numbers, not normalised: the nearer, the better in sync.

    forward_audio: MFCCs (B, 1, 13, 20), 0.2 s -> (B, 1024)
    forward_lip: BGR frames (B, 3, 5, 224, 224), float 0 to 255 -> (B, 1024)
    """

    def __init__(self):
        super().__init__()
        self.netcnnaud = nn.Sequential(
            *convolution(nn.Conv2d(1, 64, 3, padding=1)),  # 13 x 20
            nn.Identity(),  # a pool of 1x1 in the original; keeps its numbering
            *convolution(nn.Conv2d(64, 192, 3, padding=1)),
            nn.MaxPool2d(3, stride=(1, 2)),  # 11 x 9
            *convolution(nn.Conv2d(192, 384, 3, padding=1)),
            *convolution(nn.Conv2d(384, 256, 3, padding=1)),
            *convolution(nn.Conv2d(256, 256, 3, padding=1)),
            nn.MaxPool2d(3, stride=2),  # 5 x 4
            *convolution(nn.Conv2d(256, 512, (5, 4))),  # 1 x 1
        )
        self.netfcaud = head()
        self.netfclip = head()
        self.netcnnlip = nn.Sequential(
            *convolution(nn.Conv3d(3, 96, (5, 7, 7), stride=(1, 2, 2))),  # 1 x 109 x 109
            nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2)),  # 54 x 54
            *convolution(nn.Conv3d(96, 256, (1, 5, 5), stride=(1, 2, 2), padding=(0, 1, 1))),  # 26 x 26
            nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2), padding=(0, 1, 1)),  # 13 x 13
            *convolution(nn.Conv3d(256, 256, (1, 3, 3), padding=(0, 1, 1))),
            *convolution(nn.Conv3d(256, 256, (1, 3, 3), padding=(0, 1, 1))),
            *convolution(nn.Conv3d(256, 256, (1, 3, 3), padding=(0, 1, 1))),
            nn.MaxPool3d((1, 3, 3), stride=(1, 2, 2)),  # 6 x 6
            *convolution(nn.Conv3d(256, 512, (1, 6, 6))),  # 1 x 1
        )

    def forward_audio(self, mfcc: torch.Tensor) -> torch.Tensor:
        return self.netfcaud(self.netcnnaud(mfcc).flatten(1))

    def forward_lip(self, frames: torch.Tensor) -> torch.Tensor:
        return self.netfclip(self.netcnnlip(frames).flatten(1))


def convolution(layer: nn.Conv2d | nn.Conv3d) -> tuple[nn.Module, ...]:
    norm = nn.BatchNorm2d if isinstance(layer, nn.Conv2d) else nn.BatchNorm3d
    return layer, norm(layer.out_channels), nn.ReLU(inplace=True)


def head() -> nn.Sequential:
    """(B, 512) -> (B, 1024)."""
    return nn.Sequential(nn.Linear(512, 512), nn.BatchNorm1d(512), nn.ReLU(inplace=True), nn.Linear(512, 1024))
