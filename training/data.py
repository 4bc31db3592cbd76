"""What a run reads: batches for training, endless and by step number; batches for evaluation, always the same ones."""

import signal
from dataclasses import dataclass

import cv2
import torch
from torch.utils.data import DataLoader, Dataset

from clips.sampling import StepBatches, fixed_draws
from training import distributed

CPU = torch.device("cpu")
WORTH_WORKERS = 5_000  # samples of an evaluation from which worker processes save time


@dataclass(frozen=True)
class RunData:
    """What a run trains on and is measured on; the samplings turn (epoch, index) into what a dataset reads."""

    dataset: Dataset
    sampling: object
    val_dataset: Dataset
    val_sampling: object
    batch_size: int  # of one process
    eval_samples: int
    eval_settings: dict  # hparams without which values over the val list cannot be compared

    def batches(self, workers: int, first_step: int, device: torch.device) -> DataLoader:
        return training_batches(self.dataset, self.sampling, self.batch_size, workers, first_step, device)

    def val_batches(self, workers: int):
        return evaluation_batches(self.val_dataset, self.val_sampling, self.eval_samples, self.batch_size, workers)

    def facts(self, step: int) -> dict:
        """For checkpoints: what data this is, what values over the val list are made of, and epochs after `step`."""
        train, val, samples = self.dataset.corpus, self.val_dataset.corpus, self.batch_size * distributed.ranks()
        return {
            "data": train.fingerprint,
            "data_described": train.describe(),
            "measured_on": f"{val.fingerprint}, {self.eval_samples} samples, {self.eval_settings}",
            "samples_per_step": samples,
            "epoch": step * samples // len(self.sampling),
        }


class Drawn(Dataset):
    """The samples of a dataset by their place (epoch, index) in a sampling, so that workers draw them too."""

    def __init__(self, dataset: Dataset, sampling):
        self.dataset, self.sampling = dataset, sampling

    def __getitem__(self, place: tuple[int, int]) -> dict:
        return self.dataset[self.sampling(*place)]


def training_batches(
    dataset, sampling, batch_size: int, workers: int, first_step: int, device: torch.device = CPU
) -> DataLoader:
    """Endless batches from step `first_step` on: this process's own `batch_size` samples of each step.

    The number of workers changes no sample. Batches for a GPU `device` are pinned.
    """
    steps = StepBatches(len(sampling), batch_size, first_step, distributed.rank(), distributed.ranks())
    return DataLoader(
        Drawn(dataset, sampling),
        batch_sampler=steps,
        num_workers=workers,
        worker_init_fn=_start_worker if workers else None,
        pin_memory=device.type == "cuda",
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
