"""The weights behind the golden outputs: 80 million numbers, drawn again from seeds with numpy instead of stored.

`golden/state_dicts.json` lists for each network the keys and shapes of the official state dict, in its order, and the
official parameter count.
"""

import functools
import json
from pathlib import Path

import numpy as np
import torch

GOLDEN = Path(__file__).parent / "golden"
SEEDS = {"generator": 101, "expert": 102, "visual_discriminator": 103, "syncnet_v2": 104}


@functools.cache
def official(name: str) -> dict:
    """{"parameters": count, "shapes": {key: shape}} of the official network, keys in state dict order."""
    return json.loads((GOLDEN / "state_dicts.json").read_text())[name]


@functools.cache  # once per test session: drawing all four takes seconds
def golden_state_dict(name: str) -> dict[str, torch.Tensor]:
    """The official network's state dict with the weights of the goldens; treat it as read-only."""
    rng = np.random.Generator(np.random.PCG64(SEEDS[name]))
    return {key: torch.from_numpy(draw(rng, key, tuple(shape))) for key, shape in official(name)["shapes"].items()}


def draw(rng: np.random.Generator, key: str, shape: tuple[int, ...]) -> np.ndarray:
    """One tensor: scales chosen so that activations neither vanish nor explode, norms differ from the identity."""
    part = key.rpartition(".")[2]
    if part == "num_batches_tracked":
        return np.zeros((), np.int64)
    if part == "running_mean":
        values = 0.1 * rng.standard_normal(shape)
    elif part == "bias":
        values = 0.05 * rng.standard_normal(shape)
    elif part == "running_var" or len(shape) == 1:
        values = 0.5 + rng.random(shape)
    else:
        values = rng.standard_normal(shape) * np.sqrt(2.0 / np.prod(shape[1:])) * 0.8
    return values.astype(np.float32)


def golden_file(name: str) -> dict[str, torch.Tensor]:
    """Inputs and outputs of `golden/<name>.npz`."""
    with np.load(GOLDEN / f"{name}.npz") as arrays:
        return {key: torch.from_numpy(arrays[key]) for key in arrays}
