"""training/recipes/expert.py promises: faces and speeches of a batch meet as docs/expert.md says, pair by pair."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import TINY

from hparams import resolve
from training.recipes.expert import MultiwayExpertRecipe

GAP = 2
CLIPS = [5, 5, 5, 9, 9]  # of each window of the batch …
STARTS = [10, 11, 20, 10, 12]  # … and its first frame
NEARBY = [[14, 7], [15, 11], [12, 16], [18, 13], [3, 8]]  # first frames of more speech of the same clips
NOT_AUGMENTED = "syncnet_flip=0,syncnet_shift_px=0,syncnet_colour=0,syncnet_blur=0,syncnet_augment_growth=0"


def unit(rng, n: int) -> torch.Tensor:
    rows = rng.random((n, 6)) ** 3  # embeddings follow a ReLU: none is negative
    return torch.tensor(rows / np.linalg.norm(rows, axis=1, keepdims=True), dtype=torch.float32)


@pytest.fixture(scope="module")
def embeddings():
    """Of each face, each face's own speech, and its nearby ones."""
    rng = np.random.default_rng(3)
    return SimpleNamespace(face=unit(rng, 5), own=unit(rng, 5), nearby=unit(rng, 10).unflatten(0, (5, 2)))


def losses_of_a_step(embeddings, hparams: str) -> dict[str, float]:
    """By the recipe, with a network that knows every window by a number written all over it."""
    hp = resolve(overrides=f"{TINY},{NOT_AUGMENTED},syncnet_min_gap={GAP},{hparams}")
    recipe = MultiwayExpertRecipe(hp, torch.device("cpu"))
    speech = torch.cat([embeddings.own, embeddings.nearby.flatten(0, 1)])

    def expert(mel, mouths):
        assert mel.shape[1:] == (1, 80, 16) and mouths.shape[1:] == (15, 48, 96)
        numbers = (mouths.mean(dim=(1, 2, 3)) * 255).round().long()
        return speech[mel[:, 0, 0, 0].long()], embeddings.face[numbers]

    recipe.expert = expert
    part = {
        "faces": torch.arange(5, dtype=torch.uint8)[:, None, None, None, None].expand(5, 5, 96, 96, 3),
        "mel": torch.arange(5.0)[:, None, None].expand(5, 80, 16),
        "clip": torch.tensor(CLIPS),
        "start": torch.tensor(STARTS),
    }
    if hp.syncnet_nearby:
        part["nearby_mel"] = torch.arange(5.0, 15.0).unflatten(0, (5, 2))[..., None, None].expand(5, 2, 80, 16)
        part["nearby_start"] = torch.tensor(NEARBY)
    total, named = recipe.part_step(part, (0, 1))
    return {"total": total.item()} | {name.removeprefix("loss/"): value.item() for name, value in named.items()}


def by_hand(embeddings, nearby: bool, within: str, temperature: float) -> tuple[float, float]:
    """BCE and matching, one pair after the other."""
    speeches = [(CLIPS[j], STARTS[j], embeddings.own[j]) for j in range(5)]
    if nearby:
        speeches += [(CLIPS[j], NEARBY[j][k], embeddings.nearby[j, k]) for k in range(2) for j in range(5)]

    def p(i, j):
        return float(embeddings.face[i] @ speeches[j][2])

    def is_off(i, j, anywhere):
        clip, start, _ = speeches[j]
        return anywhere if clip != CLIPS[i] else abs(start - STARTS[i]) >= GAP

    off = [-math.log(1 - p(i, j)) for i in range(5) for j in range(len(speeches)) if is_off(i, j, anywhere=False)]
    bce = 0.5 * np.mean([-math.log(p(i, i)) for i in range(5)]) + 0.5 * np.mean(off)

    def surprise(right, others):
        return -math.log(math.exp(right / temperature) / sum(math.exp(x / temperature) for x in [right, *others]))

    anywhere = within == "batch"
    faces = [
        surprise(p(i, i), [p(i, j) for j in range(len(speeches)) if j != i and is_off(i, j, anywhere)])
        for i in range(5)
    ]
    own = [surprise(p(j, j), [p(i, j) for i in range(5) if i != j and is_off(i, j, anywhere)]) for j in range(5)]
    return bce, 0.5 * np.mean(faces) + 0.5 * np.mean(own)


@pytest.mark.parametrize("within", ["batch", "clip"])
@pytest.mark.parametrize("nearby", [2, 0])
@pytest.mark.parametrize("weight", [0.3, 0.0])
def test_the_losses_of_a_step_are_those_of_its_pairs(embeddings, nearby, within, weight):
    settings = f"syncnet_nearby={nearby},syncnet_match_within={within},syncnet_multiway_wt={weight}"
    step = losses_of_a_step(embeddings, f"{settings},syncnet_temperature=0.1")
    bce, matching = by_hand(embeddings, nearby > 0, within, 0.1)
    assert step["bce"] == pytest.approx(bce, rel=1e-5)
    assert step["total"] == pytest.approx(bce + weight * matching, rel=1e-5)
    assert step.get("matching") == (pytest.approx(matching, rel=1e-5) if weight else None)
