"""A network at work in training: how it runs (precision, compiled), and how it learns (optimiser, average, guard).

Recipes are made of learners, so that what holds for every network stands here once.
"""

import copy

import torch
from torch import nn

from hparams import HParams
from training import distributed


class NonFiniteGradient(Exception):
    """A step that would have put NaN or infinity into a network's weights; this network is as it was before it."""


class Runner:
    """Calls a network as hparams say: in bf16 where it is safe, compiled if asked. Losses stay in fp32."""

    def __init__(self, network: nn.Module, hp: HParams, device: torch.device, may_compile: bool = True):
        """may_compile: False for a network that is differentiated twice, which compiled ones cannot be."""
        # channels_last is what convolutions are fastest with, on CPUs too: a quarter off a step here.
        self.network = network.to(device, memory_format=torch.channels_last)
        # Batch norm over several GPUs falls into pieces that are compiled anew for every number of channels.
        may_compile = may_compile and not (device.type == "cuda" and distributed.ranks() > 1)
        self._call = torch.compile(self.network) if hp.compile and may_compile else self.network
        self._device, self._bf16 = device.type, hp.precision == "bf16"

    def __call__(self, *inputs, **options):
        with torch.autocast(self._device, torch.bfloat16, enabled=self._bf16):
            return self._call(*inputs, **options)


class Learner(Runner):
    """zero_grad, any number of backward calls, step: the step is taken by all processes with their mean gradient."""

    def __init__(
        self,
        network: nn.Module,
        lr: float,
        betas: tuple[float, float],
        hp: HParams,
        device: torch.device,
        ema_decay: float = 0.0,
        may_compile: bool = True,
        weight_decay: float = 0.0,
    ):
        """lr, betas: of Adam. ema_decay: of the average over steps that `averaged` holds; 0 = none.

        weight_decay: decoupled from the gradient (AdamW); 0 = Adam.
        """
        super().__init__(distributed.with_common_statistics(network), hp, device, may_compile)
        # AdamW without decay is Adam, to the bit.
        parameters = self.network.parameters()
        self.optimizer = torch.optim.AdamW(parameters, lr=lr, betas=betas, weight_decay=weight_decay, fused=True)
        self.lr, self.clip_norm, self.may_skip = lr, hp.clip_grad_norm, hp.on_nonfinite == "skip"
        self.ema_decay = ema_decay
        self.average = Runner(copy.deepcopy(network).requires_grad_(False), hp, device) if ema_decay else None
        self._statistics = []

    @property
    def averaged(self) -> Runner:
        """What to evaluate and to use: the average over steps where there is one."""
        return self.average or self

    def networks(self, name: str) -> dict[str, nn.Module]:
        """What a checkpoint keeps, by name."""
        held = {name: self.network}
        return held | {f"{name}_ema": self.average.network} if self.average else held

    def zero_grad(self) -> None:
        self.optimizer.zero_grad(set_to_none=True)
        if self.may_skip:
            self._statistics = [buffer.clone() for buffer in self.network.buffers()]

    def step(self, steps_before: int) -> torch.Tensor:
        """One step of Adam; returns the gradient's norm, before it was clipped.

        steps_before: of the run. Raises NonFiniteGradient, in every process, instead of spoiling the weights.
        """
        parameters = list(self.network.parameters())
        distributed.average_gradients(parameters)
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        if not torch.isfinite(norm):
            for buffer, before in zip(self.network.buffers(), self._statistics, strict=False):
                buffer.copy_(before)
            raise NonFiniteGradient
        if self.clip_norm:
            nn.utils.clip_grads_with_norm_(parameters, self.clip_norm, norm)
        self.optimizer.step()
        if self.average:
            self._update_average(steps_before)
        return norm

    @torch.no_grad()
    def _update_average(self, steps_before: int) -> None:
        # Shorter at first, or the initial weights would stay in it for thousands of steps.
        keep = min(self.ema_decay, (1 + steps_before) / (10 + steps_before))
        average = self.average.network
        torch._foreach_lerp_(list(average.parameters()), list(self.network.parameters()), 1 - keep)
        for old, new in zip(average.buffers(), self.network.buffers(), strict=True):
            # The statistics of the averaged weights' activations are nearer to the average of the statistics.
            if old.is_floating_point():
                old.lerp_(new, 1 - keep)
            else:
                old.copy_(new)
