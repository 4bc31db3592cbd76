"""What all recipes that train a generator share: how it is fed, evaluated and shown. The losses are the subclasses'."""

import numpy as np
import torch
from torch import nn

from hparams import HParams
from models import p_sync
from models.inputs import expert_faces, generator_faces, to_float
from training import distributed
from training.augment import stretch_down
from training.checkpoint import fingerprint
from training.images import tile
from training.learner import Learner, Runner
from training.loop import Evaluation
from training.losses import sync_loss
from training.recipes.recipe import Recipe


class GeneratorRecipe(Recipe):
    kind, length = "generator", "nsteps"
    is_taught = False  # by the expert, which otherwise only measures

    def __init__(
        self,
        hp: HParams,
        generator: nn.Module,
        expert: nn.Module,
        device: torch.device,
        others: dict[str, Learner] | None = None,
    ):
        """expert: frozen and in eval mode, as models.load_expert returns it. others: learners beside the generator."""
        self.expert, self._expert_print = Runner(expert, hp, device), fingerprint(expert)
        rate, betas = hp.initial_learning_rate, (hp.beta1, hp.beta2)
        self.generator = Learner(generator, rate, betas, hp, device, hp.ema_decay)
        super().__init__(hp, {"generator": self.generator, **(others or {})})
        self.forget_best()

    @torch.no_grad()
    def evaluate(self, batches) -> Evaluation:
        """L1, E_sync and P_sync over the val list."""
        self.generator.averaged.network.eval()
        l1s, probabilities = [], []
        for batch in batches:
            truth, _, generated = self.generate(batch, self.generator.averaged)
            l1s.append((generated - truth).abs().mean(dim=(1, 2, 3, 4)).cpu())
            probabilities.append(self.p_sync(generated, batch["mel"]).cpu())
        probability = torch.cat(distributed.everyones(probabilities))
        values = {
            "val/l1": float(torch.cat(distributed.everyones(l1s)).mean()),
            "val/sync": float(sync_loss(probability)),
            "val/p_sync": float(probability.mean()),
        }
        return Evaluation(values)

    def forget_best(self) -> None:
        self.best_loss = float("inf")

    def best_of(self, values: dict[str, float]) -> list[str]:
        loss = self.val_loss(values)
        if not loss < self.best_loss:  # nor NaN
            return []
        self.best_loss = loss
        return ["best"]

    def val_loss(self, values: dict[str, float]) -> float:
        """By which the best checkpoint is found."""
        return values["val/l1"]

    @torch.no_grad()
    def samples(self, batch: dict) -> dict[str, np.ndarray]:
        """Grid of reference | masked | generated | truth, one row a clip, the middle frame of its window."""
        self.generator.averaged.network.eval()
        batch = {name: value[:4] for name, value in batch.items()}
        truth, faces, generated = self.generate(batch, self.generator.averaged)
        masked, reference = faces[:, :3], faces[:, 3:]
        columns = torch.stack([reference, masked, generated, truth], dim=1)  # (4, 4, 3, T, H, W)
        return {"reference_masked_generated_truth": tile(columns[:, :, :, columns.shape[3] // 2])}

    def recipe_state(self) -> dict:
        return {"best_loss": self.best_loss, "expert": self._expert_print}

    def load_recipe_state(self, state: dict) -> None:
        self.best_loss = state["best_loss"]
        if self.is_taught and state.get("expert", self._expert_print) != self._expert_print:
            print("resuming with another expert: the best checkpoint is chosen anew")
            self.forget_best()

    def generate(
        self, batch: dict, generator: Runner, piece: tuple[int, int] | None = None
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The true faces (B, 3, T, H, W), what the generator sees (B, 6, T, H, W) and what it draws.

        piece: in training, which of how many of the step's batch this is; see `augment`.
        """
        truth, reference = to_float(batch["target"]), to_float(batch["reference"])
        if self.hp.chin_jitter and piece:
            rng = self.lot(salt=7)
            truth, reference = (stretch_down(f, rng, self.hp.chin_jitter, piece) for f in (truth, reference))
        faces = generator_faces(truth, reference, self.hp.mask_top)
        return truth, faces, generator(batch["frame_mels"].unsqueeze(2), faces).float()

    def p_sync(self, faces: torch.Tensor, mel: torch.Tensor) -> torch.Tensor:
        """P_sync (B,) of faces (B, 3, T, H, W) with speech (B, 80, 16)."""
        speech, face = self.expert(mel.unsqueeze(1), expert_faces(faces))
        return p_sync(face, speech)
