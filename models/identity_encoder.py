"""Identity encoder: masked target and reference face to one map per resolution. Paper, section 3.4.

Official names: `face_encoder_blocks.<stage>.<layer>` in Wav2Lip.
"""

import torch
from torch import nn

from models.blocks import EXTRA_STRIDES, WIDEST, ConvBlock, conv_stage, overlapping_kernel, scaled

# channels, kernel, stride, residual blocks -> side left, for 96 px
STAGES = (
    (16, 7, 1, 0),  # 96
    (32, 3, 2, 2),  # 48
    (64, 3, 2, 3),  # 24
    (128, 3, 2, 2),  # 12
    (256, 3, 2, 2),  # 6
    (512, 3, 2, 1),  # 3
)


class IdentityEncoder(nn.ModuleList):
    """faces (B, 6, H, W) -> list of maps, from (B, 16 width, H, W) down to (B, 512 width, 3, 3), (B, 512 width, 1, 1).

    `channels`: those of the maps, in the same order.
    """

    def __init__(self, img_size=96, width=1.0):
        super().__init__()
        extra = tuple((WIDEST, overlapping_kernel(stride), stride, 1) for stride in EXTRA_STRIDES[img_size])
        self.channels = []
        channels = 6
        for out, kernel, stride, residuals in STAGES + extra:
            out = scaled(out, width)
            self.append(nn.Sequential(*conv_stage(channels, out, kernel, stride, residuals)))
            self.channels.append(out)
            channels = out
        self.append(nn.Sequential(ConvBlock(channels, channels, 3, padding=0), ConvBlock(channels, channels, 1)))
        self.channels.append(channels)

    def forward(self, faces: torch.Tensor) -> list[torch.Tensor]:
        x, maps = faces, []
        for stage in self:
            x = stage(x)
            maps.append(x)
        return maps
