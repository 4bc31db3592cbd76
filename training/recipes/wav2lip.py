"""Wav2Lip and Wav2Lip + GAN: redraw the lower half of a face to fit speech, judged by a frozen expert.

L_total = (1 - s_w - s_g) L1 + s_w E_sync + s_g L_gen, section 3.6; s_g = 0 without the GAN. s_w is zero until the
mean E_sync over the val list falls below the gate, as in the official code; unlike there, the gate is remembered.
"""

import numpy as np
import torch

from hparams import HParams
from models import Generator
from models.inputs import expert_faces, generator_faces, to_float
from training.images import tile
from training.loop import Evaluation
from training.losses import p_sync, reconstruction_loss, sync_loss
from training.recipes.adversary import Adversary


class Wav2LipRecipe:
    kind = "generator"

    def __init__(self, hp: HParams, expert: torch.nn.Module, device: torch.device, adversary: Adversary | None = None):
        """expert: frozen and in eval mode, as models.load_expert returns it."""
        self.hp, self.adversary = hp, adversary
        self.expert = expert.to(device, memory_format=torch.channels_last)
        # channels_last is what convolutions are fastest with, on CPUs too: a quarter off a step here.
        self.generator = Generator(hp.img_size, hp.width).to(device, memory_format=torch.channels_last)
        self.optimizer = torch.optim.Adam(
            self.generator.parameters(), lr=hp.initial_learning_rate, betas=(hp.beta1, hp.beta2)
        )
        self.networks = {"generator": self.generator}
        self.optimizers = {"generator": self.optimizer}
        self.learning_rates = {"generator": hp.initial_learning_rate}
        if adversary:
            self.networks["visual_discriminator"] = adversary.discriminator
            self.optimizers["visual_discriminator"] = adversary.optimizer
            self.learning_rates["visual_discriminator"] = hp.disc_initial_learning_rate
        self.sync_is_on, self.steps = hp.sync_gate == float("inf"), 0
        self.best_loss = float("inf")

    def step(self, batch: dict) -> dict:
        """batch: target, reference uint8 (B, T, H, W, 3), mel (B, 80, 16), frame_mels (B, T, 80, 16)."""
        self.generator.train()
        self.sync_is_on = self.sync_is_on or 0 < self.hp.sync_start_step <= self.steps
        truth, _, generated = self._generate(batch)
        weights = self._weights()  # of this step
        losses = {"l1": reconstruction_loss(generated, truth)}
        if weights["sync"]:
            losses["sync"] = sync_loss(self._p_sync(generated, batch["mel"]))
        if weights["gan"]:
            losses["gan"] = self.adversary.generator_loss(generated)
        total = sum(weights[name] * loss for name, loss in losses.items())
        self.optimizer.zero_grad(set_to_none=True)
        total.backward()
        self.optimizer.step()
        self.steps += 1

        named = {"loss/total": total, **{f"loss/{name}": loss for name, loss in losses.items()}}
        named["sync/weight"] = weights["sync"]
        if weights["gan"]:
            named |= self.adversary.step(truth, generated)
        return named

    @torch.no_grad()
    def evaluate(self, batches) -> Evaluation:
        """L1, E_sync and P_sync over the val list; opens the gate of the sync loss when E_sync is low enough."""
        self.generator.eval()
        l1s, probabilities = [], []
        for batch in batches:
            truth, _, generated = self._generate(batch)
            l1s.append((generated - truth).abs().mean(dim=(1, 2, 3, 4)))
            probabilities.append(self._p_sync(generated, batch["mel"]))
        probability = torch.cat(probabilities)
        values = {
            "val/l1": float(torch.cat(l1s).mean()),
            "val/sync": float(sync_loss(probability)),
            "val/p_sync": float(probability.mean()),
        }
        self.sync_is_on = self.sync_is_on or values["val/sync"] < self.hp.sync_gate
        return Evaluation(values)

    def best_of(self, values: dict[str, float]) -> list[str]:
        # The full weights, gate open or not: otherwise losses before and after it opens could not be compared.
        loss = (1 - self.hp.syncnet_wt) * values["val/l1"] + self.hp.syncnet_wt * values["val/sync"]
        better = loss < self.best_loss
        self.best_loss = min(loss, self.best_loss)
        return ["best"] if better else []

    @torch.no_grad()
    def samples(self, batch: dict) -> dict[str, np.ndarray]:
        """Grid of reference | masked | generated | truth, one row a clip, the middle frame of its window."""
        self.generator.eval()
        batch = {name: value[:4] for name, value in batch.items()}
        truth, faces, generated = self._generate(batch)
        masked, reference = faces[:, :3], faces[:, 3:]
        columns = torch.stack([reference, masked, generated, truth], dim=1)  # (4, 4, 3, T, H, W)
        return {"reference_masked_generated_truth": tile(columns[:, :, :, columns.shape[3] // 2])}

    def state_dict(self) -> dict:
        return {"sync_is_on": self.sync_is_on, "steps": self.steps, "best_loss": self.best_loss}

    def load_state_dict(self, state: dict) -> None:
        self.steps, self.best_loss = state["steps"], state["best_loss"]
        self.sync_is_on = self.sync_is_on or state["sync_is_on"]  # sync_gate may have been set to inf since

    def _generate(self, batch: dict) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """The true faces (B, 3, T, H, W), what the generator sees (B, 6, T, H, W) and what it draws."""
        truth = to_float(batch["target"])
        faces = generator_faces(truth, to_float(batch["reference"]))
        return truth, faces, self.generator(batch["frame_mels"].unsqueeze(2), faces)

    def _p_sync(self, generated: torch.Tensor, mel: torch.Tensor) -> torch.Tensor:
        speech, face = self.expert(mel.unsqueeze(1), expert_faces(generated))
        return p_sync(face, speech)

    def _weights(self) -> dict[str, float]:
        sync = self.hp.syncnet_wt if self.sync_is_on else 0.0
        gan = self.hp.disc_wt if self.adversary and self.steps >= self.hp.disc_start_step else 0.0
        return {"l1": 1 - sync - gan, "sync": sync, "gan": gan}
