"""The layers every network here is a table of, and the two ways a network grows: width and img_size.

The attribute name `conv_block` is that of the official Wav2Lip code, so that state dicts are exchangeable.
"""

import torch
from torch import nn
from torch.nn import functional as F

WIDEST = 512  # channels of the widest layer of every network at width 1

# img_size, px -> strides of the stages added to the paper's, at the small end of the picture. For every size the
# paper's stages and these together leave 3x3, which one unpadded 3x3 convolution then brings to 1x1.
EXTRA_STRIDES = {96: (), 192: (2,), 288: (3,), 384: (2, 2)}


def scaled(channels: int, width: float) -> int:
    """`channels` of the paper's network in a network of this width; at least 1.

    Widths count in steps of 1/512, so that the widest layer of a state dict decides the width of all others.
    """
    return max(1, round(channels * round(WIDEST * width) / WIDEST))


def overlapping_kernel(stride: int) -> int:
    """The kernel of a stage with this stride, 3 for 2 and 5 for 3: neighbouring windows overlap.

    It also makes 192 and 288 px networks, which have as many stages, differ in a tensor's shape.
    """
    return 2 * stride - 1


class NormBlock(nn.Module):
    """The given convolution, then batch norm and ReLU."""

    def __init__(self, convolution: nn.Conv2d | nn.ConvTranspose2d):
        super().__init__()
        self.conv_block = nn.Sequential(convolution, nn.BatchNorm2d(convolution.out_channels))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.conv_block(x), inplace=True)


class ConvBlock(NormBlock):
    """(B, in, H, W) -> (B, out, H/stride, W/stride), rounded up, with the default padding."""

    def __init__(self, in_channels, out_channels, kernel, stride=1, padding=None):
        padding = kernel // 2 if padding is None else padding
        super().__init__(nn.Conv2d(in_channels, out_channels, kernel, stride, padding))


class ResidualBlock(ConvBlock):
    """3x3 convolution and batch norm, add the input, ReLU. Keeps the shape."""

    def __init__(self, channels):
        super().__init__(channels, channels, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(self.conv_block(x) + x, inplace=True)


class UpBlock(NormBlock):
    """(B, in, H, W) -> (B, out, stride H, stride W)."""

    def __init__(self, in_channels, out_channels, stride):
        kernel, padding = overlapping_kernel(stride), stride - 1
        super().__init__(nn.ConvTranspose2d(in_channels, out_channels, kernel, stride, padding, output_padding=padding))


class Sigmoid(nn.Sigmoid):
    """In fp32 under autocast too: in bf16 it is exactly 1 from a logit of 6.3 on, and a bright pixel learns no more."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return super().forward(x.float())


class LeakyBlock(nn.Module):
    """Convolution and LeakyReLU, without norm. Shapes as ConvBlock."""

    def __init__(self, in_channels, out_channels, kernel, stride=1, padding=None):
        super().__init__()
        padding = kernel // 2 if padding is None else padding
        self.conv_block = nn.Sequential(nn.Conv2d(in_channels, out_channels, kernel, stride, padding))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.leaky_relu(self.conv_block(x), 0.01, inplace=True)


def conv_stage(in_channels, out_channels, kernel, stride, residuals, padding=None) -> list[nn.Module]:
    """One row of an encoder's table: a ConvBlock that sets channels and resolution, then residual blocks."""
    entry = ConvBlock(in_channels, out_channels, kernel, stride, padding)
    return [entry, *(ResidualBlock(out_channels) for _ in range(residuals))]
