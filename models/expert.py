"""The lip-sync expert: do these mouths say this speech? Paper, section 3.1 to 3.3 and equation 1.

Official names: class SyncNet_color, the same state dict at img_size 96 and width 1.
"""

import torch
from torch import nn
from torch.nn import functional as F

from models.blocks import EXTRA_STRIDES, WIDEST, ConvBlock, conv_stage, overlapping_kernel, scaled
from models.speech_encoder import SpeechEncoder

# channels, kernel, stride, padding (None: half the kernel), residual blocks -> H x W left, for 48 x 96 px
STAGES = (
    (32, 7, 1, None, 0),  # 48 x 96
    (64, 5, (1, 2), 1, 2),  # 46 x 47; the official padding, one less than half the kernel
    (128, 3, 2, None, 3),  # 23 x 24
    (256, 3, 2, None, 2),  # 12 x 12
    (512, 3, 2, None, 2),  # 6 x 6
    (512, 3, 2, None, 0),  # 3 x 3
)


class SyncNetExpert(nn.Module):
    """mel (B, 1, 80, 16 T/5), faces (B, 3T, H/2, W) -> audio_embedding, face_embedding, each (B, 512 width).

    Both last as long; T is 5 in the paper. Faces are BGR in [0, 1], T frames in time order along the channels:
    models.inputs.expert_faces makes them.
    Embeddings have unit length and no negative values, so their cosine, P_sync, lies in [0, 1].
    """

    def __init__(self, img_size=96, width=1.0, T=5):
        super().__init__()
        self.img_size, self.width, self.T = img_size, width, T
        extra = tuple((WIDEST, overlapping_kernel(stride), stride, None, 0) for stride in EXTRA_STRIDES[img_size])
        layers, channels = [], 3 * T
        for out, kernel, stride, padding, residuals in STAGES + extra:
            out = scaled(out, width)
            layers += conv_stage(channels, out, kernel, stride, residuals, padding)
            channels = out
        layers += [ConvBlock(channels, channels, 3, padding=0), ConvBlock(channels, channels, 1)]  # 1 x 1
        self.face_encoder = nn.Sequential(*layers)
        self.audio_encoder = SpeechEncoder(width, last_residuals=2, columns=round(16 * T / 5))

    def forward(self, mel: torch.Tensor, faces: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        assert faces.shape[-2:] == (self.img_size // 2, self.img_size), (self.img_size, tuple(faces.shape))
        audio_embedding = self.audio_encoder(mel).flatten(1)  # (B, 512)
        face_embedding = self.face_encoder(faces).flatten(1)  # (B, 512)
        return F.normalize(audio_embedding), F.normalize(face_embedding)


def p_sync(face: torch.Tensor, speech: torch.Tensor, eps: float = 1e-8) -> torch.Tensor:
    """P_sync = v·s / max(|v| |s|, eps): probability that face and speech embeddings (B, D) are in sync, (B,).

    Section 3.1, equation 2. Both embeddings come from a ReLU, so it lies in [0, 1].
    """
    face, speech = face.float(), speech.float()
    norms = face.norm(dim=-1) * speech.norm(dim=-1)
    return (face * speech).sum(dim=-1) / norms.clamp(min=eps)


def pair_p_sync(face: torch.Tensor, speech: torch.Tensor, eps: float = 1e-8) -> torch.Tensor:
    """P_sync of every face (rows) with every speech (columns) of a batch: embeddings (N, D), (M, D) -> (N, M)."""
    face, speech = face.float(), speech.float()
    norms = face.norm(dim=-1)[:, None] * speech.norm(dim=-1)[None]
    return face @ speech.T / norms.clamp(min=eps)
