"""How close generated faces come to the true ones, beside two references that need no learning."""

from collections.abc import Iterable

import torch

from models.inputs import generator_faces, lower_half, to_float


@torch.inference_mode()
def mean_face(batches: Iterable[dict]) -> torch.Tensor:
    """The mean of all true faces in batches of a GeneratorDataset, (3, H, W) in [0, 1]."""
    total, count = 0, 0
    for batch in batches:
        faces = to_float(batch["target"])  # (B, 3, T, H, W)
        total = total + faces.sum(dim=(0, 2))
        count += faces.shape[0] * faces.shape[2]
    return total / count


@torch.inference_mode()
def l1_errors(
    generator: torch.nn.Module, batches: Iterable[dict], mean: torch.Tensor, mask_top: float
) -> dict[str, tuple[float, float]]:
    """L1 to the truth over the (whole face, lower half of it): mean absolute difference, faces in [0, 1].

    generated          what the generator draws, which sees the upper half of the truth
    copied reference   the reference frame it was given
    mean face          `mean` (3, H, W), as mean_face returns it

    mask_top: with which the generator was trained.
    """
    sums, count = {name: torch.zeros(2) for name in ("generated", "copied reference", "mean face")}, 0
    device = next(generator.parameters()).device
    for batch in batches:
        truth, reference = to_float(batch["target"].to(device)), to_float(batch["reference"].to(device))
        generated = generator(batch["frame_mels"].unsqueeze(2).to(device), generator_faces(truth, reference, mask_top))
        guesses = (generated, reference, mean.to(device)[None, :, None].expand_as(truth))
        for name, guess in zip(sums, guesses, strict=True):
            error = (guess - truth).abs()
            sums[name] += len(truth) * torch.stack([error.mean(), lower_half(error).mean()]).cpu()
        count += len(truth)
    return {name: (float(whole / count), float(lower / count)) for name, (whole, lower) in sums.items()}
