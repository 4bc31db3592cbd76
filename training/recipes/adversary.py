"""The visual quality discriminator at work: what the generator has to deceive. Paper, section 3.5."""

import torch

from hparams import HParams
from models import VisualDiscriminator
from training.learner import Learner
from training.losses import adversarial_loss, discriminator_losses, gradient_penalty


class Adversary:
    def __init__(self, hp: HParams, device: torch.device):
        self.hp = hp
        network = VisualDiscriminator(hp.img_size, hp.width)
        rate, betas = hp.disc_initial_learning_rate, (hp.beta1, hp.beta2)
        self.discriminator = Learner(network, rate, betas, hp, device, may_compile=hp.disc_r1_wt == 0)

    def generator_loss(self, generated: torch.Tensor) -> torch.Tensor:
        """L_gen of faces (B, 3, T, H, W), with gradients for the generator only."""
        network = self.discriminator.network.requires_grad_(False)
        loss = adversarial_loss(self.discriminator(generated, logits=True))
        network.requires_grad_(True)
        return loss

    def discriminator_loss(self, real: torch.Tensor, generated: torch.Tensor) -> tuple[torch.Tensor, dict]:
        """L_disc of faces (B, 3, T, H, W), with gradients for the discriminator only; both kinds in one pass."""
        hp = self.hp
        real = real.detach().requires_grad_(hp.disc_r1_wt > 0)
        # The logits come frame by frame, time first: cut along the batch, not along the rows.
        both = self.discriminator(torch.cat([real, generated.detach()]), logits=True).float()
        real_logits, fake_logits = both.view(real.shape[2], 2, -1).unbind(dim=1)
        real_loss, fake_loss = discriminator_losses(real_logits, fake_logits, hp.disc_label_smoothing)
        loss = real_loss + fake_loss
        named = {"gan/disc_real": real_loss, "gan/disc_fake": fake_loss}
        # what it takes for right, to see a discriminator that wins or loses every time
        right = (real_logits > 0).float().mean() + (fake_logits < 0).float().mean()
        named["gan/disc_accuracy"] = right / 2
        if hp.disc_r1_wt:
            named["gan/r1"] = gradient_penalty(real_logits, real)
            loss = loss + hp.disc_r1_wt / 2 * named["gan/r1"]
        return loss, named
