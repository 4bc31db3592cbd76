"""Wav2Lip and Wav2Lip + GAN: redraw the lower half of a face to fit speech, judged by a frozen expert.

L_total = (1 - s_w - s_g) L1 + s_w E_sync + s_g L_gen, section 3.6; s_g = 0 without the GAN. s_w is zero until the
mean E_sync over the val list falls below the gate, as in the official code; unlike there, the gate is remembered.
perceptual_wt adds a perceptual loss to it.
"""

import torch
from torch import nn

from hparams import HParams
from models import Generator
from models.inputs import fold_time
from training.learner import Runner
from training.loop import Evaluation
from training.losses import perceptual_loss, reconstruction_loss, stabilised_sync_loss, sync_loss
from training.means import Means
from training.recipes.adversary import Adversary
from training.recipes.generator import GeneratorRecipe


class Wav2LipRecipe(GeneratorRecipe):
    is_taught = True

    def __init__(
        self,
        hp: HParams,
        expert: nn.Module,
        device: torch.device,
        with_gan: bool = False,
        vgg: nn.Module | None = None,
    ):
        """with_gan: with the visual quality discriminator. vgg: a VggFeatures, where hp.perceptual_wt is not 0."""
        generator = Generator(hp.img_size, hp.width)  # first, so that one seed means the same with and without GAN
        self.adversary = Adversary(hp, device) if with_gan else None
        others = {"visual_discriminator": self.adversary.discriminator} if with_gan else {}
        super().__init__(hp, generator, expert, device, others)
        self.vgg = Runner(vgg, hp, device) if hp.perceptual_wt else None
        self.sync_is_on = hp.sync_gate == float("inf")

    def optimise(self, batch: dict) -> dict:
        """batch: target, reference uint8 (B, T, H, W, 3), mel (B, 80, 16), frame_mels (B, T, 80, 16)."""
        self.generator.network.train()
        self.sync_is_on = self.sync_is_on or 0 < self.hp.sync_start_step <= self.steps
        weights = self._weights()  # of this step
        named, drawn = Means(), []
        self.generator.zero_grad()
        for part, piece in self.parts(batch):
            truth, faces, generated = self.generate(part, self.generator, piece)
            losses = {"l1": reconstruction_loss(generated, truth)}
            if weights["sync"]:
                losses["sync"] = self._sync_loss(truth, faces[:, 3:], generated, part["mel"])
            if weights["perceptual"]:
                with torch.no_grad():
                    true_features = self.vgg(fold_time(truth))
                losses["perceptual"] = perceptual_loss(self.vgg(fold_time(generated)), true_features)
            if weights["gan"]:
                losses["gan"] = self.adversary.generator_loss(generated)
                drawn.append((truth, generated.detach()))
            total = sum(weights[name] * loss for name, loss in losses.items())
            (total / self.hp.accumulate).backward()
            named.add({"loss/total": total, **{f"loss/{name}": loss for name, loss in losses.items()}})
        named.add({"gradient/generator": self.generator.step(self.steps), "sync/weight": weights["sync"]})
        if drawn:
            self._teach_adversary(drawn, named)
        return named.take()

    def evaluate(self, batches) -> Evaluation:
        """As for every generator; opens the gate of the sync loss when E_sync is low enough."""
        evaluation = super().evaluate(batches)
        # What a generator draws before its first step says nothing of it, only of an expert that is content with it.
        may_open = self.steps > 0 or self.is_fine_tuning
        self.sync_is_on = self.sync_is_on or (may_open and evaluation.values["val/sync"] < self.hp.sync_gate)
        return evaluation

    def val_loss(self, values: dict[str, float]) -> float:
        # The full weights, gate open or not: otherwise losses before and after it opens could not be compared.
        return (1 - self.hp.syncnet_wt) * values["val/l1"] + self.hp.syncnet_wt * values["val/sync"]

    def recipe_state(self) -> dict:
        return {"sync_is_on": self.sync_is_on, **super().recipe_state()}

    def load_recipe_state(self, state: dict) -> None:
        super().load_recipe_state(state)
        self.sync_is_on = state["sync_is_on"] or self.hp.sync_gate == float("inf")  # which may have been set since

    def _teach_adversary(self, drawn: list[tuple[torch.Tensor, torch.Tensor]], named: Means) -> None:
        discriminator = self.adversary.discriminator
        discriminator.zero_grad()
        for truth, generated in drawn:
            loss, said = self.adversary.discriminator_loss(truth, generated)
            (loss / len(drawn)).backward()
            named.add(said)
        named.add({"gradient/visual_discriminator": discriminator.step(self.steps)})

    def _sync_loss(self, truth, reference, generated: torch.Tensor, mel: torch.Tensor) -> torch.Tensor:
        probability = self.p_sync(generated, mel)
        if self.hp.sync_loss == "paper":
            return sync_loss(probability)
        with torch.no_grad():
            true, other = self.p_sync(truth, mel), self.p_sync(reference, mel)
        return stabilised_sync_loss(probability, true, other)

    def _weights(self) -> dict[str, float]:
        sync = self.hp.syncnet_wt if self.sync_is_on else 0.0
        gan = self.hp.disc_wt if self.adversary and self.steps >= self.hp.disc_start_step else 0.0
        return {"l1": 1 - sync - gan, "sync": sync, "gan": gan, "perceptual": self.hp.perceptual_wt}
