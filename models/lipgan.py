"""LipGAN, the system before Wav2Lip: generator, and the discriminator that judges face and speech together.

Prajwal et al., "Towards Automatic Face-to-Face Translation", ACM MM 2019, section 4; layers after its published code
(the residual variant). Different here: speech is this project's mel slice of 80 x 16 instead of 12 x 35 cepstra, with
the strides of `models.speech_encoder`, so that all rows of the comparison hear the same; and torch's own batch norm.
"""

import torch
from torch import nn
from torch.nn import functional as F

from models.blocks import ConvBlock, NormBlock, Sigmoid, UpBlock, conv_stage, scaled
from models.inputs import fold_time, unfold_time
from models.speech_encoder import STAGES as SPEECH_STAGES

# channels, kernel, stride, residual blocks -> side left
FACE_STAGES = (
    (32, 7, 1, 0),  # 96
    (64, 5, 2, 2),  # 48
    (128, 3, 2, 3),  # 24
    (256, 3, 2, 2),  # 12
    (512, 3, 2, 2),  # 6
    (512, 3, 2, 0),  # 3
)
SPEECH_CHANNELS = (128, 256, 512, 512)
SPEECH_RESIDUALS = (3, 2, 2, 1)
# channels, residual blocks -> side
UP_STAGES = (
    (512, 2),  # 6
    (256, 2),  # 12
    (128, 2),  # 24
    (64, 2),  # 48
    (32, 0),  # 96
)

# The discriminator: channels, kernel of its face branch, all at stride 2 -> side left
JUDGE_FACE_STAGES = (
    (64, 7),  # 48
    (128, 5),  # 24
    (256, 3),  # 12
    (512, 3),  # 6
    (512, 3),  # 3
)
JUDGE_SPEECH_CHANNELS = (64, 128, 256, 512)


class LipGanGenerator(nn.Module):
    """mel (B, T, 1, 80, 16) and faces (B, 6, T, 96, 96) -> (B, 3, T, 96, 96); each frame on its own."""

    img_size, takes_a_still = 96, False

    def __init__(self, width=1.0):
        super().__init__()
        self.width = width
        self.face_stages = nn.ModuleList()
        skips, channels = [], 6
        for out, kernel, stride, residuals in FACE_STAGES:
            out = scaled(out, width)
            self.face_stages.append(nn.Sequential(*conv_stage(channels, out, kernel, stride, residuals)))
            skips.append(out)
            channels = out
        self.face_embedding = nn.Sequential(
            ConvBlock(channels, channels, 3, padding=0), ConvBlock(channels, channels, 1)
        )
        self.speech_encoder = nn.Sequential(*_speech_layers(width))

        self.up_stages = nn.ModuleList([NormBlock(nn.ConvTranspose2d(2 * channels, channels, 3, stride=3))])  # 3
        channels += skips.pop()
        for out, residuals in UP_STAGES:
            out = scaled(out, width)
            first, *rest = conv_stage(out, out, 3, 1, residuals)  # the residual blocks are what is wanted of it
            self.up_stages.append(nn.Sequential(UpBlock(channels, out, 2), *rest))
            channels = out + skips.pop()
        last = scaled(16, width)
        self.output_block = nn.Sequential(
            ConvBlock(channels, last, 3), ConvBlock(last, last, 3), nn.Conv2d(last, 3, 1), Sigmoid()
        )

    def forward(self, mel: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
        T = faces.shape[2]
        x, maps = fold_time(faces), []
        for stage in self.face_stages:
            x = stage(x)
            maps.append(x)
        speech = self.speech_encoder(mel.transpose(0, 1).flatten(0, 1))  # (T*B, 512, 1, 1)
        x = torch.cat([speech, self.face_embedding(x)], dim=1)
        for stage in self.up_stages:
            x = torch.cat([maps.pop(), stage(x)], dim=1)
        return unfold_time(self.output_block(x), T)


class LipGanDiscriminator(nn.Module):
    """mel (N, 1, 80, 16) and whole faces (N, 3, 96, 96) -> distance (N,) of their embeddings, 0 to 2."""

    def __init__(self, width=1.0):
        super().__init__()
        face, channels = [], 3
        for out, kernel in JUDGE_FACE_STAGES:
            out = scaled(out, width)
            face.append(WholeNormBlock(channels, out, kernel, 2))
            channels = out
        self.face_branch = nn.Sequential(*face, nn.Conv2d(channels, channels, 3))
        speech, channels = [], 1
        for out, (_, stride) in zip(JUDGE_SPEECH_CHANNELS, SPEECH_STAGES, strict=True):
            out = scaled(out, width)
            speech.append(WholeNormBlock(channels, out, 3, stride))
            channels = out
        self.speech_branch = nn.Sequential(*speech, nn.Conv2d(channels, channels, 3))

    def forward(self, mel: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
        speech = F.normalize(self.speech_branch(mel).flatten(1).float())
        face = F.normalize(self.face_branch(faces).flatten(1).float())
        return (speech - face).norm(dim=1)


class WholeNormBlock(nn.Module):
    """Convolution, norm over channels, height and width together with one gain and one bias, LeakyReLU 0.2.

    The norm its code calls instance norm; the deviation is raised by 1e-3.
    """

    def __init__(self, in_channels, out_channels, kernel, stride):
        super().__init__()
        self.convolution = nn.Conv2d(in_channels, out_channels, kernel, stride, padding=kernel // 2)
        self.gain, self.bias = nn.Parameter(torch.ones(())), nn.Parameter(torch.zeros(()))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.convolution(x)
        deviation, mean = torch.std_mean(x, dim=(1, 2, 3), correction=0, keepdim=True)
        return F.leaky_relu((x - mean) / (deviation + 1e-3) * self.gain + self.bias, 0.2)


def _speech_layers(width: float) -> list[nn.Module]:
    layers, channels = [], 1
    for out, residuals, (_, stride) in zip(SPEECH_CHANNELS, SPEECH_RESIDUALS, SPEECH_STAGES, strict=True):
        out = scaled(out, width)
        layers += conv_stage(channels, out, 3, stride, residuals)
        channels = out
    return [*layers, ConvBlock(channels, channels, 3, padding=0), ConvBlock(channels, channels, 1)]
