"""Means of named values: over the parts of a batch, over the steps between two points of a curve."""

from collections import Counter, defaultdict

import torch


class Means:
    """Each name's mean is over the times it was added: a loss may be switched on in between."""

    def __init__(self):
        self._sums, self._counts = defaultdict(float), Counter()

    def add(self, values: dict[str, torch.Tensor | float]) -> None:
        """Tensors stay on their device, so that adding does not wait for a GPU."""
        for name, value in values.items():
            self._sums[name] = self._sums[name] + (value.detach() if torch.is_tensor(value) else value)
            self._counts[name] += 1

    def take(self) -> dict[str, torch.Tensor | float]:
        """The means since the last call."""
        means = {name: total / self._counts[name] for name, total in self._sums.items()}
        self._sums.clear()
        self._counts.clear()
        return means
