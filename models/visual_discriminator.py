"""The visual quality discriminator: does this mouth look real? Paper, section 3.5.

Official names: class Wav2Lip_disc_qual, the same state dict at img_size 96 and width 1.
"""

import torch
from torch import nn

from models.blocks import EXTRA_STRIDES, WIDEST, LeakyBlock, overlapping_kernel, scaled
from models.inputs import fold_time, lower_half

# channels, kernel, stride; each but the first followed by the same convolution at stride 1 -> H x W left, for 48 x 96
STAGES = (
    (32, 7, 1),  # 48 x 96
    (64, 5, (1, 2)),  # 48 x 48
    (128, 5, 2),  # 24 x 24
    (256, 5, 2),  # 12 x 12
    (512, 3, 2),  # 6 x 6
    (512, 3, 2),  # 3 x 3
)


class VisualDiscriminator(nn.Module):
    """Whole faces (B, 3, T, H, W), BGR in [0, 1] -> probability of being real (B*T, 1), frame 0 of every clip first.

    Looks at the lower half only, one frame at a time. logits=True leaves out the sigmoid, for losses that include it.
    """

    def __init__(self, img_size=96, width=1.0):
        super().__init__()
        self.img_size, self.width = img_size, width
        first, *rest = STAGES + tuple((WIDEST, overlapping_kernel(s), s) for s in EXTRA_STRIDES[img_size])
        channels = scaled(first[0], width)
        stages = [nn.Sequential(LeakyBlock(3, channels, *first[1:]))]
        for out, kernel, stride in rest:
            out = scaled(out, width)
            stages.append(nn.Sequential(LeakyBlock(channels, out, kernel, stride), LeakyBlock(out, out, kernel)))
            channels = out
        to_1x1 = LeakyBlock(channels, channels, 3, padding=0)
        stages.append(nn.Sequential(to_1x1, LeakyBlock(channels, channels, 1)))
        self.face_encoder_blocks = nn.Sequential(*stages)
        self.binary_pred = nn.Sequential(nn.Conv2d(channels, 1, 1))

    def forward(self, faces: torch.Tensor, logits: bool = False) -> torch.Tensor:
        assert faces.shape[-2:] == (self.img_size, self.img_size), (self.img_size, tuple(faces.shape))
        x = fold_time(lower_half(faces))  # (T*B, 3, 48, 96)
        x = self.face_encoder_blocks(x)  # (T*B, 512, 1, 1)
        x = self.binary_pred(x).flatten(1)  # (T*B, 1)
        return x if logits else torch.sigmoid(x)
