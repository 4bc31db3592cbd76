"""The Wav2Lip generator: speech and faces in, faces that speak it out. Paper, section 3.4 and figure 2.

Official names: class Wav2Lip, the same state dict at img_size 96 and width 1.
"""

import torch
from torch import nn

from models.blocks import ConvBlock, Sigmoid, scaled
from models.face_decoder import FaceDecoder
from models.identity_encoder import IdentityEncoder
from models.inputs import fold_time, unfold_time
from models.speech_encoder import SpeechEncoder


class Generator(nn.Module):
    """Frames or windows of frames; every frame is made on its own, from its own 16 mel columns.

    mel (B, 1, 80, 16) and faces (B, 6, H, W) -> (B, 3, H, W), or
    mel (B, T, 1, 80, 16) and faces (B, 6, T, H, W) -> (B, 3, T, H, W); H = W = img_size.
    Faces are BGR in [0, 1]: models.inputs.generator_faces makes the six channels.
    """

    takes_a_still = False  # at inference the reference is the very frame that is redrawn

    def __init__(self, img_size=96, width=1.0):
        super().__init__()
        self.img_size, self.width = img_size, width
        self.face_encoder_blocks = IdentityEncoder(img_size, width)
        self.audio_encoder = SpeechEncoder(width)
        self.face_decoder_blocks = FaceDecoder(self.face_encoder_blocks.channels, img_size, width)
        hidden = scaled(32, width)
        self.output_block = nn.Sequential(
            ConvBlock(self.face_decoder_blocks.out_channels, hidden, 3), nn.Conv2d(hidden, 3, 1), Sigmoid()
        )

    def forward(self, mel: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
        if faces.dim() == 5:
            folded = self(mel.transpose(0, 1).flatten(0, 1), fold_time(faces))  # (T*B, 3, H, W)
            return unfold_time(folded, T=faces.shape[2])  # (B, 3, T, H, W)
        assert faces.shape[-2:] == (self.img_size, self.img_size), (self.img_size, tuple(faces.shape))

        speech = self.audio_encoder(mel)  # (B, 512, 1, 1)
        identity = self.face_encoder_blocks(faces)  # (B, 16, 96, 96) ... (B, 512, 1, 1)
        x = self.face_decoder_blocks(speech, identity)  # (B, 80, 96, 96)
        return self.output_block(x)  # (B, 3, 96, 96)
