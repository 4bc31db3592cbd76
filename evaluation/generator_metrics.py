"""What a generator does to held-out faces: how true, how sharp, how much in sync, and where its mouths come from."""

from collections.abc import Iterable

import numpy as np
import torch
from skimage.metrics import structural_similarity

from errors import UserError
from models import p_sync
from models.inputs import expert_faces, generator_faces, lower_half, to_float

SILENCE = -4.0  # the mel of digital silence, -max_abs_value


@torch.inference_mode()
def measure_generator(
    generator: torch.nn.Module, expert: torch.nn.Module, batches: Iterable[dict], mask_top: float
) -> dict[str, float]:
    """Means over the windows in batches of a GeneratorDataset, neighbours in a batch being of different clips.

    l1              to the truth, whole face, lower is better
    lower_l1        of the lower half, which is redrawn
    ssim            structural similarity to the truth of the lower half, in grey, 1 is best
    p_sync          P_sync with its own speech, by `expert`
    p_sync_other    P_sync with the speech of another clip, which was put in instead
    leak            P_sync of those same mouths with the speech that was not put in, above that of true faces with
                    speech of others: what the rest of the face gave away of the masked mouth; 0 is best
    silence_motion  change of the lower half between frames when silence is put in, over that of the true one: 1 moves
                    as the talking head does, small is a mouth at rest

    expert: best not the one that taught the generator. Both in eval mode. mask_top: with which it was trained.
    """
    device = next(generator.parameters()).device
    sums, count = {}, 0
    for batch in batches:
        if len(batch["target"]) < 2:
            continue  # a last window by itself has no neighbour whose speech it could be given
        batch = {name: value.to(device) for name, value in batch.items()}
        truth, reference = to_float(batch["target"]), to_float(batch["reference"])
        faces, mels, own = generator_faces(truth, reference, mask_top), batch["frame_mels"].unsqueeze(2), batch["mel"]
        other = own.roll(1, dims=0)
        drawn, dubbed = generator(mels, faces), generator(mels.roll(1, dims=0), faces)
        silent = generator(torch.full_like(mels, SILENCE), faces)
        dubbed_embedding, stranger = _sync(expert, dubbed, own), _sync(expert, truth, other)
        values = {
            "l1": (drawn - truth).abs().mean(),
            "lower_l1": lower_half((drawn - truth).abs()).mean(),
            "ssim": _ssim(drawn, truth),
            "p_sync": _sync(expert, drawn, own),
            "p_sync_other": _sync(expert, dubbed, other),
            "leak": dubbed_embedding - stranger,
            "silence_motion": _motion(silent) / _motion(truth).clamp(min=1e-6),
        }
        for name, value in values.items():
            sums[name] = sums.get(name, 0.0) + float(value) * len(truth)
        count += len(truth)
    if not count:
        raise UserError("a single window cannot be measured: its speech is compared with that of another")
    return {name: total / count for name, total in sums.items()}


def _sync(expert: torch.nn.Module, faces: torch.Tensor, mel: torch.Tensor) -> torch.Tensor:
    speech, face = expert(mel.unsqueeze(1), expert_faces(faces))
    return p_sync(face, speech).mean()


def _motion(faces: torch.Tensor) -> torch.Tensor:
    lower = lower_half(faces)
    return lower.diff(dim=2).abs().mean()


def _ssim(drawn: torch.Tensor, truth: torch.Tensor) -> float:
    """Mean over frames of (B, 3, T, H, W)."""
    grey = [lower_half(faces).mean(dim=1).flatten(0, 1).cpu().numpy() for faces in (drawn, truth)]
    return float(np.mean([structural_similarity(a, b, data_range=1.0) for a, b in zip(*grey, strict=True)]))
