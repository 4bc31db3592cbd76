"""Speech2Vid: one still and speech to a frame, L1 only. Chung et al., BMVC 2017. The expert only measures."""

import torch
from torch import nn

from hparams import HParams
from models import Speech2VidGenerator
from training.losses import reconstruction_loss
from training.means import Means
from training.recipes.generator import GeneratorRecipe


class Speech2VidRecipe(GeneratorRecipe):
    def __init__(self, hp: HParams, expert: nn.Module, device: torch.device):
        super().__init__(hp, Speech2VidGenerator(hp.width), expert, device)

    def optimise(self, batch: dict) -> dict:
        """batch: as for Wav2LipRecipe."""
        self.generator.network.train()
        self.generator.zero_grad()
        named = Means()
        for part, piece in self.parts(batch):
            truth, _, generated = self.generate(part, self.generator, piece)
            l1 = reconstruction_loss(generated, truth)
            (l1 / self.hp.accumulate).backward()
            named.add({"loss/l1": l1})
        named.add({"gradient/generator": self.generator.step(self.steps)})
        return named.take()
