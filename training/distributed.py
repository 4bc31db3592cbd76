"""Several processes as one: torchrun starts them, each trains on its own samples, all hold the same weights.

Without torchrun every function here does what one process needs: nothing. Gradients are averaged by one call per
network and step, not by DistributedDataParallel: a GAN runs its networks several times a step, and a gradient penalty
differentiates twice, neither of which that wrapper allows.
"""

import atexit
import importlib
import os
import sys
from collections.abc import Iterable

import torch
import torch.distributed as dist
from torch import nn

from errors import UserError

_finished = False


def own_device(name: str | None) -> str | None:
    """The name of the device of this process: where torchrun started it on GPUs, the one that is its own."""
    on_gpus = name.startswith("cuda") if name else torch.cuda.is_available()
    if "RANK" not in os.environ or not on_gpus:
        return name
    local, gpus = int(os.environ["LOCAL_RANK"]), torch.cuda.device_count()
    if 0 < gpus <= local:
        raise UserError(f"torchrun started more processes than this machine has GPUs ({gpus}): lower --nproc_per_node")
    return f"cuda:{local}"


def join(device: torch.device) -> None:
    """Joins the processes torchrun started, if it did. device: of this process."""
    if "RANK" not in os.environ:
        return
    # Optimizers import it. Imported once a group exists it holds on to it, whose threads then outlive `_leave` and now
    # and then abort a process that has finished its work, as they let go of a tensor after the interpreter is gone.
    importlib.import_module("torch._dynamo")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo")
    atexit.register(_leave)


def finished() -> None:
    """Says that the run has come to its end in this process, so that the processes may part in good order."""
    global _finished
    _finished = True


def _leave() -> None:
    if _finished:
        dist.destroy_process_group()
        return
    # The others wait for this one in the middle of a step: taking leave of them would wait for ever, and torchrun ends
    # them as soon as this process is gone.
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(1)


def rank() -> int:
    return dist.get_rank() if dist.is_initialized() else 0


def ranks() -> int:
    return dist.get_world_size() if dist.is_initialized() else 1


def is_first() -> bool:
    """Whether this process is the one that writes and talks."""
    return rank() == 0


def average_gradients(parameters: Iterable[nn.Parameter]) -> None:
    """The mean over all processes, in every process. All must call it with the same network."""
    if ranks() == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    dist.all_reduce(flat)
    flat /= ranks()
    for gradient, mean in zip(gradients, flat.split([g.numel() for g in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def gather(rows: torch.Tensor) -> torch.Tensor:
    """Rows (B, …) of every process, in the order of ranks: (B * ranks, …).

    Gradients come back to the process whose rows they are of; multiplied by ranks, as `average_gradients` divides by it
    and each process computes the whole loss.
    """
    if ranks() == 1:
        return rows
    # A sum of zeros and one's own rows: gloo has no all_gather with gradients.
    places = torch.zeros(ranks(), *rows.shape, dtype=rows.dtype, device=rows.device)
    places[rank()] = rows
    return Sum.apply(places).flatten(0, 1)


def means(values: dict[str, float]) -> dict[str, float]:
    """The mean of each value over all processes, which must hold the same names."""
    if ranks() == 1 or not values:
        return values
    device = torch.device("cuda", torch.cuda.current_device()) if dist.get_backend() == "nccl" else "cpu"
    summed = torch.tensor([values[name] for name in sorted(values)], dtype=torch.float64, device=device)
    dist.all_reduce(summed)
    return dict(zip(sorted(values), (summed / ranks()).tolist(), strict=True))


def everyones(items: list) -> list:
    """The items of all processes, in the order of ranks; tensors among them must be on the CPU."""
    if ranks() == 1:
        return items
    held = [None] * ranks()
    dist.all_gather_object(held, items)
    return [item for part in held for item in part]


def of_any(flag: bool) -> bool:
    """Whether it is true in any process."""
    return flag if ranks() == 1 else means({"flag": float(flag)})["flag"] > 0


def from_first(value):
    """The first process's value, in every process."""
    if ranks() == 1:
        return value
    held = [value]
    dist.broadcast_object_list(held)
    return held[0]


class Sum(torch.autograd.Function):
    """The sum of a tensor over all processes; the gradient of every process's sum comes back to each."""

    @staticmethod
    def forward(ctx, x: torch.Tensor) -> torch.Tensor:
        x = x.clone(memory_format=torch.contiguous_format)
        dist.all_reduce(x)
        return x

    @staticmethod
    def backward(ctx, gradient: torch.Tensor) -> torch.Tensor:
        return Sum.apply(gradient)


def with_common_statistics(network: nn.Module) -> nn.Module:
    """The network with batch norms that count the samples of all processes; its state dict stays the same."""
    if ranks() == 1:
        return network
    if dist.get_backend() == "nccl":
        return nn.SyncBatchNorm.convert_sync_batchnorm(network)
    for module in network.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = CommonBatchNorm2d
    return network


class CommonBatchNorm2d(nn.BatchNorm2d):
    """Batch norm over the batches of all processes on CPUs, where torch.nn.SyncBatchNorm does not run."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.training:
            return super().forward(x)
        dtype = x.dtype
        x = x.to(torch.promote_types(dtype, torch.float32))  # under bf16, too, statistics are taken in fp32
        count = x.numel() // x.shape[1] * ranks()
        mean = Sum.apply(x.sum(dim=(0, 2, 3))) / count
        centred = x - mean[:, None, None]
        variance = Sum.apply(centred.square().sum(dim=(0, 2, 3))) / count
        with torch.no_grad():
            self.num_batches_tracked += 1
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        scale = self.weight / (variance + self.eps).sqrt()
        return (centred * scale[:, None, None] + self.bias[:, None, None]).to(dtype)
