"""Speech2Vid: one still of a person and speech to one frame of them talking.

Chung, Jamaludin and Zisserman, "You said that?", BMVC 2017. A variant, as the paper leaves sizes open: 96 px instead of
112, this project's mel slice of 80 x 16 instead of 12 x 35 cepstra, nothing pretrained, and batch norm throughout.
It never sees the frame it is to replace, so neither pose nor light of it; that is the method, not this port.
"""

import torch
from torch import nn

from models.blocks import ConvBlock, Sigmoid, UpBlock, scaled
from models.inputs import fold_time, unfold_time

# channels, kernel, stride -> H x W left
SPEECH_STAGES = (
    (64, 3, 1),  # 80 x 16
    (128, 3, (3, 1)),  # 27 x 16
    (256, 3, 3),  # 9 x 6
    (256, 3, 1),  # 9 x 6
    (512, 3, (3, 2)),  # 3 x 3
)
IDENTITY_STAGES = (
    (96, 7, 2),  # 48
    (256, 5, 2),  # 24
    (512, 3, 2),  # 12
    (512, 3, 1),  # 12
    (512, 3, 2),  # 6
)
UP_STAGES = (
    (512, None),  # 6
    (256, 12),  # 12, joined by the identity encoder's map of that side
    (128, 24),  # 24, likewise
    (96, None),  # 48
    (64, None),  # 96
)
EMBEDDING = 256  # of speech and of identity, each
FROM_SIDE = 3  # px, of the first map of the decoder


class Speech2VidGenerator(nn.Module):
    """mel (B, T, 1, 80, 16) and faces (B, 6, T, 96, 96), of which it takes the reference, -> (B, 3, T, 96, 96)."""

    img_size, takes_a_still = 96, True  # one face of the clip is the reference of all frames, at inference too

    def __init__(self, width=1.0):
        super().__init__()
        self.width = width
        embedding = scaled(EMBEDDING, width)
        self.speech_encoder, channels = _stages(1, SPEECH_STAGES, width)
        self.speech_embedding = nn.Linear(channels * 9, embedding)
        self.identity_encoder, channels = _stages(3, IDENTITY_STAGES, width)
        self.identity_embedding = nn.Linear(channels * 36, embedding)

        channels = scaled(512, width)
        self.first_map = nn.Linear(2 * embedding, channels * FROM_SIDE**2)
        joined = {12: scaled(512, width), 24: scaled(256, width)}  # side -> channels of the identity encoder
        self.up_stages = nn.ModuleList()
        for out, side in UP_STAGES:
            out = scaled(out, width)
            self.up_stages.append(nn.Sequential(UpBlock(channels, out, 2), ConvBlock(out, out, 3)))
            channels = out + joined.get(side, 0)
        self.output_block = nn.Sequential(nn.Conv2d(channels, 3, 3, padding=1), Sigmoid())

    def forward(self, mel: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
        speech = self.speech_encoder(mel.transpose(0, 1).flatten(0, 1))  # (T*B, 512, 3, 3)
        x, maps = fold_time(faces[:, 3:]), {}
        for stage in self.identity_encoder:
            x = stage(x)
            maps[x.shape[-1]] = x
        both = torch.cat([self.speech_embedding(speech.flatten(1)), self.identity_embedding(x.flatten(1))], dim=1)
        x = self.first_map(both.relu()).relu().unflatten(1, (-1, FROM_SIDE, FROM_SIDE))
        for stage, (_, side) in zip(self.up_stages, UP_STAGES, strict=True):
            x = stage(x)
            x = torch.cat([x, maps[side]], dim=1) if side else x
        return unfold_time(self.output_block(x), T=faces.shape[2])


def _stages(channels: int, table, width: float) -> tuple[nn.Sequential, int]:
    """The layers of a table, and the channels that come out."""
    layers = []
    for out, kernel, stride in table:
        out = scaled(out, width)
        layers.append(ConvBlock(channels, out, kernel, stride))
        channels = out
    return nn.Sequential(*layers), channels
