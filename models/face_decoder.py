"""Face decoder: from the speech vector up to a face, joined by the identity maps on the way. Paper, section 3.4.

Official names: `face_decoder_blocks.<stage>.<layer>` in Wav2Lip.
"""

import torch
from torch import nn

from models.blocks import EXTRA_STRIDES, WIDEST, ConvBlock, NormBlock, ResidualBlock, UpBlock, scaled

# channels, each doubling the side and followed by two residual blocks -> side left, for 96 px
STAGES = (
    512,  # 6
    384,  # 12
    256,  # 24
    128,  # 48
    64,  # 96
)
RESIDUALS = 2


class FaceDecoder(nn.ModuleList):
    """speech (B, 512 width, 1, 1) and the identity encoder's maps -> (B, out_channels, H, W).

    After each stage the identity map of the same side is concatenated, the decoder's channels first.
    identity_channels: those of the maps, largest map first.
    """

    def __init__(self, identity_channels: list[int], img_size=96, width=1.0):
        super().__init__()
        widest = scaled(WIDEST, width)
        skips = iter(reversed(identity_channels))
        self.append(nn.Sequential(ConvBlock(widest, widest, 1)))  # 1
        channels = widest + next(skips)
        to_3x3 = nn.ConvTranspose2d(channels, widest, 3)
        self.append(nn.Sequential(NormBlock(to_3x3), ResidualBlock(widest)))  # 3
        channels = widest + next(skips)
        extra = [(WIDEST, stride) for stride in reversed(EXTRA_STRIDES[img_size])]
        for out, stride in extra + [(out, 2) for out in STAGES]:
            out = scaled(out, width)
            residuals = [ResidualBlock(out) for _ in range(RESIDUALS)]
            self.append(nn.Sequential(UpBlock(channels, out, stride), *residuals))
            channels = out + next(skips)
        self.out_channels = channels

    def forward(self, speech: torch.Tensor, identity: list[torch.Tensor]) -> torch.Tensor:
        x = speech
        for stage, same_side in zip(self, reversed(identity), strict=True):
            x = torch.cat([stage(x), same_side], dim=1)
        return x
