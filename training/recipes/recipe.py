"""What all recipes share: their learners, a count of steps, batches in parts, and what a checkpoint keeps of them."""

from collections.abc import Iterator

import torch

from hparams import HParams
from training import distributed
from training.learner import Learner


class Recipe:
    """A recipe of `training.loop`; a subclass adds kind, length, optimise, evaluate, best_of, forget_best, samples.

    kind: what it trains. length: the hparam that says for how many steps.
    """

    decisive: tuple[str, ...] = ()  # hparams that a run cannot change on its way

    def __init__(self, hp: HParams, learners: dict[str, Learner]):
        self.hp, self.steps = hp, 0
        self.is_fine_tuning = False  # begun from weights that know their work
        self.owes_evaluation = False  # at this step, which was not evaluated to the end
        self.networks = {name: net for key, learner in learners.items() for name, net in learner.networks(key).items()}
        self.optimizers = {name: learner.optimizer for name, learner in learners.items()}
        self.learning_rates = {name: learner.lr for name, learner in learners.items()}

    def step(self, batch: dict) -> dict:
        try:
            named = self.optimise(batch)
            return {**named, "gradient/skipped_steps": 0.0} if self.hp.on_nonfinite == "skip" else named
        finally:
            self.steps += 1  # of a step that was skipped too: its batch is gone

    def lot(self, salt: int = 0) -> torch.Generator:
        """What decides by chance in this step: another at every step, whatever was drawn before, and for each salt."""
        return torch.Generator().manual_seed((self.hp.seed + salt) * 1_000_003 + self.steps)

    def parts(self, batch: dict) -> Iterator[tuple[dict, tuple[int, int]]]:
        """hp.accumulate equal parts of a batch, each with its place among the pieces of the batch of all processes."""
        parts = self.hp.accumulate
        size = len(next(iter(batch.values()))) // parts
        for i in range(parts):
            part = {name: values[i * size : (i + 1) * size] for name, values in batch.items()}
            yield part, (distributed.rank() * parts + i, distributed.ranks() * parts)

    def state_dict(self) -> dict:
        own = {name: getattr(self, name) for name in ("steps", "is_fine_tuning", "owes_evaluation")}
        return own | self.recipe_state()

    def load_state_dict(self, state: dict) -> None:
        self.steps = state["steps"]
        self.is_fine_tuning = state.get("is_fine_tuning", False)
        self.owes_evaluation = state.get("owes_evaluation", False)
        self.load_recipe_state(state)

    def recipe_state(self) -> dict:
        """What else evolves."""
        return {}

    def load_recipe_state(self, state: dict) -> None:
        """The inverse of recipe_state."""
