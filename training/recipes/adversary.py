"""The visual quality discriminator with its optimiser: what the generator has to deceive. Paper, section 3.5."""

import torch

from hparams import HParams
from models import VisualDiscriminator
from training.losses import adversarial_loss, discriminator_losses


class Adversary:
    def __init__(self, hp: HParams, device: torch.device):
        discriminator = VisualDiscriminator(hp.img_size, hp.width)
        self.discriminator = discriminator.to(device, memory_format=torch.channels_last)
        self.optimizer = torch.optim.Adam(
            self.discriminator.parameters(), lr=hp.disc_initial_learning_rate, betas=(hp.beta1, hp.beta2)
        )

    def generator_loss(self, generated: torch.Tensor) -> torch.Tensor:
        """L_gen of faces (B, 3, T, H, W), with gradients for the generator only."""
        self.discriminator.requires_grad_(False)
        loss = adversarial_loss(self.discriminator(generated, logits=True))
        self.discriminator.requires_grad_(True)
        return loss

    def step(self, real: torch.Tensor, generated: torch.Tensor) -> dict[str, torch.Tensor]:
        """One step on L_disc with faces (B, 3, T, H, W)."""
        real_logits = self.discriminator(real, logits=True)
        fake_logits = self.discriminator(generated.detach(), logits=True)
        real_loss, fake_loss = discriminator_losses(real_logits, fake_logits)
        self.optimizer.zero_grad(set_to_none=True)
        (real_loss + fake_loss).backward()
        self.optimizer.step()
        return {"gan/disc_real": real_loss, "gan/disc_fake": fake_loss}
