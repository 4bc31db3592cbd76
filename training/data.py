"""Loaders: batches for training, endless and by step number; batches for evaluation, always the same ones."""

import signal

import cv2
import torch
from torch.utils.data import DataLoader

from clips.sampling import StepBatches, fixed_draws
from training import distributed

WORTH_WORKERS = 5_000  # samples of an evaluation from which worker processes save time


def training_batches(dataset, sampling, batch_size: int, workers: int, first_step: int) -> DataLoader:
    """Endless batches from step `first_step` on: this process's own `batch_size` samples of each step.

    The number of workers changes no sample.
    """
    steps = StepBatches(sampling, batch_size, first_step, distributed.rank(), distributed.ranks())
    return DataLoader(
        dataset,
        batch_sampler=steps,
        num_workers=workers,
        worker_init_fn=_start_worker if workers else None,
        pin_memory=torch.cuda.is_available(),
    )


def evaluation_batches(dataset, sampling, count: int, batch_size: int, workers: int = 0):
    """A function that gives the same samples, in batches, each time it is called: this process's share of `count`."""
    draws = fixed_draws(sampling, count)
    groups = [draws[i : i + batch_size] for i in range(0, len(draws), batch_size)][
        distributed.rank() :: distributed.ranks()
    ]
    # A few thousand frames are read sooner than worker processes start.
    workers = workers if len(groups) * batch_size >= WORTH_WORKERS else 0
    loader = DataLoader(
        dataset, batch_sampler=groups, num_workers=workers, worker_init_fn=_start_worker if workers else None
    )
    return lambda: iter(loader)


def _start_worker(_: int) -> None:
    # How to stop is the training process's business: launchers and terminals signal the workers as well, and a batch is
    # still needed for the step under way.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    # One thread each: the workers are the parallelism.
    torch.set_num_threads(1)
    cv2.setNumThreads(0)
