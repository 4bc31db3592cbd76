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
def mouth_l1(generator: torch.nn.Module, batches: Iterable[dict], mean: torch.Tensor) -> dict[str, float]:
    """L1 over the lower half of the face, the part that is redrawn: mean absolute difference in [0, 1].

    generated          what the generator draws
    copied reference   the lower half of the reference frame it was given
    mean face          the lower half of `mean` (3, H, W), as mean_face returns it
    """
    sums, count = dict.fromkeys(("generated", "copied reference", "mean face"), 0.0), 0
    device = next(generator.parameters()).device
    for batch in batches:
        truth, reference = to_float(batch["target"].to(device)), to_float(batch["reference"].to(device))
        generated = generator(batch["frame_mels"].unsqueeze(2).to(device), generator_faces(truth, reference))
        guesses = (generated, reference, mean.to(device)[None, :, None].expand_as(truth))
        for name, guess in zip(sums, guesses, strict=True):
            sums[name] += float((lower_half(guess) - lower_half(truth)).abs().mean(dim=(1, 2, 3, 4)).sum())
        count += len(truth)
    return {name: total / count for name, total in sums.items()}
