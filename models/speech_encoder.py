"""Speech encoder: 0.2 s of mel spectrogram to one vector. Paper, section 3.4; shared by generator and expert.

Official names: `audio_encoder.<layer>` in Wav2Lip and SyncNet_color.
"""

from torch import nn

from models.blocks import ConvBlock, conv_stage, scaled

# channels, stride, residual blocks; 3x3 convolutions  -> M x S left
STAGES = (
    (32, 1, 2),  # 80 x 16
    (64, (3, 1), 2),  # 27 x 16
    (128, 3, 2),  # 9 x 6
    (256, (3, 2), None),  # 3 x 3; the residual blocks differ between generator and expert
)
EMBEDDING = 512  # channels of the vector


class SpeechEncoder(nn.Sequential):
    """mel (B, 1, 80, 16) -> (B, 512 width, 1, 1), non-negative.

    last_residuals: residual blocks of the 3 x 3 stage, 1 in the generator and 2 in the expert.
    """

    def __init__(self, width=1.0, last_residuals=1):
        layers, channels = [], 1
        for out, stride, residuals in STAGES:
            out = scaled(out, width)
            layers += conv_stage(channels, out, 3, stride, last_residuals if residuals is None else residuals)
            channels = out
        embedding = scaled(EMBEDDING, width)
        layers += [ConvBlock(channels, embedding, 3, padding=0), ConvBlock(embedding, embedding, 1)]  # 1 x 1
        super().__init__(*layers)
