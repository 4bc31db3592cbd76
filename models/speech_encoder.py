"""Speech encoder: 0.2 s of mel spectrogram, or more, to one vector. Paper, section 3.4; in generator and expert.

Official names: `audio_encoder.<layer>` in Wav2Lip and SyncNet_color.
"""

import math

from torch import nn

from models.blocks import WIDEST, ConvBlock, conv_stage, scaled

# channels, stride of the 3x3 convolution -> mel bins x mel columns left
STAGES = (
    (32, 1),  # 80 x 16
    (64, (3, 1)),  # 27 x 16
    (128, 3),  # 9 x 6
    (256, (3, 2)),  # 3 x 3
)


class SpeechEncoder(nn.Sequential):
    """mel (B, 1, 80, columns) -> (B, 512 width, 1, 1), non-negative.

    last_residuals: residual blocks of the 3 x 3 stage, 1 in the generator and 2 in the expert; the others have 2.
    columns: 16 as in the paper, or more for longer windows: the last kernel spans what the strides leave of them.
    """

    def __init__(self, width=1.0, last_residuals=1, columns=16):
        layers, channels = [], 1
        for (out, stride), residuals in zip(STAGES, (2, 2, 2, last_residuals), strict=True):
            out = scaled(out, width)
            layers += conv_stage(channels, out, 3, stride, residuals)
            channels = out
        embedding = scaled(WIDEST, width)
        left = math.ceil(math.ceil(columns / 3) / 2)  # of the columns, after strides 3 and 2; 3 of 16
        layers += [ConvBlock(channels, embedding, (3, left), padding=0), ConvBlock(embedding, embedding, 1)]  # 1 x 1
        super().__init__(*layers)


def as_generators(expert: SpeechEncoder) -> nn.Sequential:
    """The expert's layers that a generator's speech encoder has too: all but the last stage's second residual block."""
    *first, _, embedding, last = expert
    return nn.Sequential(*first, embedding, last)
