"""How faces are laid out for the networks: the one place that scales, masks, folds and takes lower halves.

Training, evaluation and inference all call these, on the device, with T frames of a window as one axis.
"""

import torch


def to_float(faces: torch.Tensor) -> torch.Tensor:
    """(B, T, H, W, 3) uint8 BGR, as stored -> (B, 3, T, H, W) float32 in [0, 1]."""
    return faces.permute(0, 4, 1, 2, 3).float() / 255


def generator_faces(target: torch.Tensor, reference: torch.Tensor, mask_top: float = 0.5) -> torch.Tensor:
    """The generator's picture: target with its lower part set to zero (the mouth to invent), then reference.

    target, reference (B, 3, T, H, W) in [0, 1] -> (B, 6, T, H, W). The reference frames show the same identity.
    mask_top: where the zeros begin, as a share of the height; 0.5 in the paper.
    """
    masked = target.clone()
    masked[..., round(mask_top * target.shape[-2]) :, :] = 0
    return torch.cat([masked, reference], dim=1)


def expert_faces(frames: torch.Tensor) -> torch.Tensor:
    """The expert's picture: lower halves with time in the channels, channel 3t + c.

    frames (B, 3, T, H, W) in [0, 1] -> (B, 3T, H/2, W).
    """
    return time_in_channels(lower_half(frames))


def time_in_channels(frames: torch.Tensor) -> torch.Tensor:
    """(B, 3, T, H, W) -> (B, 3T, H, W), channel 3t + c."""
    return frames.transpose(1, 2).flatten(1, 2)


def lower_half(faces: torch.Tensor) -> torch.Tensor:
    """The rows from H/2 on, a view: (..., H, W) -> (..., H/2, W)."""
    return faces[..., faces.shape[-2] // 2 :, :]


def fold_time(faces: torch.Tensor) -> torch.Tensor:
    """(B, C, T, H, W) -> (T*B, C, H, W), time-major: frame 0 of every clip, then frame 1 of every clip, ..."""
    return faces.permute(2, 0, 1, 3, 4).flatten(0, 1)


def unfold_time(frames: torch.Tensor, T: int) -> torch.Tensor:
    """(T*B, C, H, W) -> (B, C, T, H, W), the inverse of fold_time."""
    return frames.unflatten(0, (T, -1)).permute(1, 2, 0, 3, 4)
