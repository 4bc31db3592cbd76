"""LipGAN: L1 and a discriminator that judges face and speech together, trained along with the generator.

Prajwal et al. 2019, "Towards Automatic Face-to-Face Translation", section 4; order and weights after its code. The
expert has no part in it: it only measures.
"""

import torch
from torch import nn

from errors import UserError
from hparams import HParams
from models import LipGanDiscriminator, LipGanGenerator
from models.inputs import fold_time
from training.learner import Learner
from training.losses import contrastive_loss, reconstruction_loss
from training.means import Means
from training.recipes.generator import GeneratorRecipe


class LipGanRecipe(GeneratorRecipe):
    def __init__(self, hp: HParams, expert: nn.Module, device: torch.device):
        if hp.batch_size // hp.accumulate < 2:
            raise UserError("recipe lipgan takes speech of another window of the batch: batch_size must be at least 2")
        generator = LipGanGenerator(hp.width)
        network, betas = LipGanDiscriminator(hp.width), (hp.beta1, hp.beta2)
        self.judge = Learner(network, hp.disc_initial_learning_rate, betas, hp, device)
        super().__init__(hp, generator, expert, device, {"lipgan_discriminator": self.judge})

    def optimise(self, batch: dict) -> dict:
        """batch: as for Wav2LipRecipe. The discriminator steps first, on faces the generator makes in eval mode."""
        named = Means()
        self.judge.zero_grad()
        for part, piece in self.parts(batch):
            loss, said = self._judge_loss(part, piece)
            (loss / self.hp.accumulate).backward()
            named.add(said)
        named.add({"gradient/lipgan_discriminator": self.judge.step(self.steps)})

        self.generator.network.train()
        self.generator.zero_grad()
        self.judge.network.requires_grad_(False)
        for part, piece in self.parts(batch):
            truth, _, generated = self.generate(part, self.generator, piece)
            l1 = reconstruction_loss(generated, truth)
            distance = self._distance(part["frame_mels"], generated)
            match = contrastive_loss(distance, torch.zeros_like(distance))
            total = l1 + self.hp.lipgan_wt * match
            (total / self.hp.accumulate).backward()
            named.add({"loss/total": total, "loss/l1": l1, "loss/match": match})
        self.judge.network.requires_grad_(True)
        named.add({"gradient/generator": self.generator.step(self.steps)})
        return named.take()

    def _judge_loss(self, part: dict, piece: tuple[int, int]) -> tuple[torch.Tensor, dict]:
        """Of real faces with their speech against either drawn faces or another window's speech, by lot."""
        mels = part["frame_mels"]
        self.generator.network.eval()
        with torch.no_grad():
            truth, _, generated = self.generate(part, self.generator, piece)
        draws_faces = bool(torch.rand((), generator=self.lot()) < 0.5)  # the same in all parts
        wrong = (mels, generated) if draws_faces else (mels.roll(1, dims=0), truth)
        right_distance, wrong_distance = self._distance(mels, truth), self._distance(*wrong)
        distances = torch.cat([right_distance, wrong_distance])
        apart = torch.arange(len(distances), device=distances.device) >= len(right_distance)
        loss = contrastive_loss(distances, apart)
        right = (right_distance < 0.5).float().mean() + (wrong_distance >= 0.5).float().mean()
        return loss, {"gan/disc_contrastive": loss, "gan/disc_accuracy": right / 2}

    def _distance(self, mels: torch.Tensor, faces: torch.Tensor) -> torch.Tensor:
        """Of each frame: mels (B, T, 80, 16), faces (B, 3, T, H, W) -> (T*B,)."""
        return self.judge(mels.transpose(0, 1).flatten(0, 1).unsqueeze(1), fold_time(faces))
