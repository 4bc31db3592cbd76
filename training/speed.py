"""How fast a run goes and what holds it up, for the curves."""

import torch

from training import distributed


class Speed:
    """Adds up steps; `take` says how they went since it was last called. Upkeep between the steps does not count."""

    def __init__(self, device: torch.device):
        self._device = device
        self._samples, self._waited, self._worked = 0, 0.0, 0.0

    def add(self, samples: int, waited: float, worked: float) -> None:
        """One step of this process: its samples, seconds waiting for the batch, seconds working on it."""
        self._samples += samples
        self._waited += waited
        self._worked += worked

    def take(self) -> dict[str, float]:
        """samples_per_second of all processes, share_waiting_for_data, and gpu_memory_gib, the most so far."""
        seconds = self._waited + self._worked
        if not seconds:
            return {}
        values = {
            "speed/samples_per_second": distributed.ranks() * self._samples / seconds,
            "speed/share_waiting_for_data": self._waited / seconds,
        }
        if self._device.type == "cuda":
            values["speed/gpu_memory_gib"] = torch.cuda.max_memory_allocated(self._device) / 2**30
        self._samples, self._waited, self._worked = 0, 0.0, 0.0
        return values
