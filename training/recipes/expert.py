"""The lip-sync expert on real pairs, in sync or not: cosine similarity + binary cross entropy. Paper, section 3.1.

Two ways of making pairs: `ExpertRecipe` is the paper's, one pair a sample. `MultiwayExpertRecipe` embeds in-sync
windows, several of each clip, and scores every face with every speech of the batch: many more pairs a step.
"""

import numpy as np
import torch

from hparams import HParams
from models import SyncNetExpert
from models.inputs import expert_faces, to_float
from training.images import tile
from training.losses import all_pairs_bce, expert_bce, multiway_loss, p_sync, pair_p_sync


class ExpertRecipe:
    kind = "expert"

    def __init__(self, hp: HParams, device: torch.device):
        self.expert = SyncNetExpert(hp.img_size, hp.width, hp.syncnet_T).to(device)
        self.optimizer = torch.optim.Adam(
            self.expert.parameters(), lr=hp.syncnet_lr, betas=(hp.syncnet_beta1, hp.syncnet_beta2)
        )
        self.networks = {"expert": self.expert}
        self.optimizers = {"expert": self.optimizer}
        self.learning_rates = {"expert": hp.syncnet_lr}
        self.hp = hp
        self.best_loss = float("inf")

    def step(self, batch: dict) -> dict:
        """batch: faces uint8 (B, T, H, W, 3), mel (B, 80, 16), in_sync (B,)."""
        self.expert.train()
        probability = p_sync(*self._embed(batch))
        loss = expert_bce(probability, batch["in_sync"])
        self._update(loss)
        return {"loss/bce": loss, "sync/accuracy": _accuracy(probability, batch["in_sync"])}

    @torch.no_grad()
    def evaluate(self, batches) -> dict[str, float]:
        """Loss, balanced accuracy at P_sync 0.5 (chance is 0.5) and mean P_sync of both kinds of pairs."""
        self.expert.eval()
        seen = [(p_sync(*self._embed(batch)), batch["in_sync"]) for batch in batches]
        probability, in_sync = (torch.cat(parts) for parts in zip(*seen, strict=True))
        return {
            "val/bce": float(expert_bce(probability, in_sync)),
            "val/accuracy": float(_accuracy(probability, in_sync)),
            "val/p_sync_in_sync": float(probability[in_sync == 1].mean()),
            "val/p_sync_off_sync": float(probability[in_sync == 0].mean()),
        }

    def is_best(self, values: dict[str, float]) -> bool:
        better = values["val/bce"] < self.best_loss
        self.best_loss = min(values["val/bce"], self.best_loss)
        return better

    @torch.no_grad()
    def samples(self, batch: dict) -> dict[str, np.ndarray]:
        """The mouths the expert sees: one row a pair, the five frames of its window."""
        faces = expert_faces(to_float(batch["faces"][:4]))  # (4, 3T, H/2, W)
        frames = faces.unflatten(1, (-1, 3))  # (4, T, 3, H/2, W)
        return {"pairs": tile(frames)}

    def state_dict(self) -> dict:
        return {"best_loss": self.best_loss}

    def load_state_dict(self, state: dict) -> None:
        self.best_loss = state["best_loss"]

    def _embed(self, batch: dict) -> tuple[torch.Tensor, torch.Tensor]:
        """Embeddings of faces and speech, each (B, D)."""
        speech, face = self.expert(batch["mel"].unsqueeze(1), expert_faces(to_float(batch["faces"])))
        return face, speech

    def _update(self, loss: torch.Tensor) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        self.optimizer.step()


class MultiwayExpertRecipe(ExpertRecipe):
    def step(self, batch: dict) -> dict:
        """batch: as for ExpertRecipe, all in sync, with clip and start (B,) of each window."""
        self.expert.train()
        probability = pair_p_sync(*self._embed(batch))  # (B, B)
        same_clip, anywhere = negatives(batch["clip"], batch["start"], self.hp.syncnet_min_gap)
        # The BCE keeps to the paper's negatives, of the same clip; finding the match in the whole batch is harder.
        bce = all_pairs_bce(probability, same_clip)
        matching = multiway_loss(probability, anywhere, self.hp.syncnet_temperature)
        self._update(bce + self.hp.syncnet_multiway_wt * matching)
        return {"loss/bce": bce, "loss/matching": matching}


def negatives(clip: torch.Tensor, start: torch.Tensor, min_gap: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Which windows are off-sync to each other: two masks (B, B), within the same clip and anywhere.

    clip, start (B,): where each window comes from. Those of one clip less than min_gap frames apart count neither way.
    """
    same_clip = clip[:, None] == clip[None]
    apart = (start[:, None] - start[None]).abs() >= min_gap
    return same_clip & apart, ~same_clip | apart


def _accuracy(probability: torch.Tensor, in_sync: torch.Tensor) -> torch.Tensor:
    """Mean of the accuracies on both kinds of pairs, so that a constant answer scores 0.5."""
    right = ((probability > 0.5) == (in_sync == 1)).float()
    kinds = [right[in_sync == label].mean() for label in (0, 1) if (in_sync == label).any()]
    return torch.stack(kinds).mean()
