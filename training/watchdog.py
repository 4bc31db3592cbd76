"""Says so when the expert learns nothing: its loss stays where guessing puts it, for days if nobody looks. Or when it
learns its own clips by heart and tells the pairs of strangers apart no better than by guessing.

Time goes in periods of `patience` samples. A period whose mean loss was no better than chance is worth a message if it
is the 1st, 2nd, 4th, 8th … of the run, so that messages become rare. Which period it is follows from the step alone; of
a resumed run's first period, the part that is left is judged.
"""

import math

from hparams import HParams
from training import distributed

LEARNS = 0.01  # nats below chance that count as learning; the mean over a period scatters by far less
PERIODS = 4  # at least, in a run of known length
HELD_OUT = "val/pair_accuracy"  # "…_low" is the lower end of its interval over clips
NEAR_CHANCE = 0.55  # pair accuracy below which an interval that holds 0.5 says so, not a val list that is too small
SHORTEST = 100_000  # samples in which little data is not learnt either, and that is no fault of theirs


class ChanceWatchdog:
    """watchdog(step, means) -> what to tell the person, or None.

    means: of the steps since the last call, with what an evaluation said in between, if there was one.
    """

    def __init__(self, loss: str, chance: float, patience: int, batch_size: int, first_step: int):
        """loss: name of the value to watch; chance: what guessing gives; patience: samples of a period."""
        self.loss, self.chance = loss, chance
        self.patience, self.batch_size = patience, batch_size
        self._period = first_step * batch_size // patience
        self._seen, self._held_out, self._held_out_before = [], {}, {}

    def __call__(self, step: int, means: dict[str, float]) -> str | None:
        self._seen += [means[self.loss]] if self.loss in means else []  # not where every step was skipped
        self._held_out = means if f"{HELD_OUT}_low" in means else self._held_out
        period = step * self.batch_size // self.patience
        if period == self._period:
            return None
        mean = sum(self._seen) / len(self._seen) if self._seen else float("-inf")
        # An evaluation of the very last step comes later than this; that of the period before does as well, but for the
        # first one, which says nothing of strangers: they take longer than own clips.
        held_out = self._held_out or (self._held_out_before if period > 2 else {})
        self._period, self._seen = period, []
        self._held_out, self._held_out_before = {}, self._held_out
        is_power_of_two = period & (period - 1) == 0
        if not is_power_of_two:
            return None
        if mean > self.chance - LEARNS:
            return self._guesses(step, mean)
        if period > 1 and mean > float("-inf") and is_chance(held_out):
            return self._knows_no_strangers(step, mean, held_out[HELD_OUT])
        return None

    def _guesses(self, step: int, mean: float) -> str:
        return (
            f"step {step}: after {step * self.batch_size:,} samples the expert still guesses: {self.loss} {mean:.3f}, "
            f"chance is {self.chance:.3f}\n"
            "  1. stop and look at the data: the same command with --check_data finds sound that is early or late,\n"
            "     silence, still faces and wrong frame rates; a constant offset of a few frames is enough\n"
            "  2. if the data is in order: lower syncnet_lr, raise syncnet_batch_size, use syncnet_loss=multiway\n"
            "  3. if it is little, or has few identities: add some, the paper's expert had 29 hours"
        )

    def _knows_no_strangers(self, step: int, mean: float, pair_accuracy: float) -> str:
        return (
            f"step {step}: after {step * self.batch_size:,} samples the expert learns its own clips ({self.loss} "
            f"{mean:.3f}) but still guesses on the val list: pair accuracy {pair_accuracy:.3f}, which may be 0.5\n"
            "  1. look at the data with --check_data: is the sound of the val clips theirs, and in time?\n"
            "  2. syncnet_loss=multiway and the default's augmentation keep it from learning faces by heart\n"
            "  3. more identities in train.txt help most"
        )


def expert_watchdog(hp: HParams, first_step: int) -> ChanceWatchdog:
    share = hp.syncnet_positive_share if hp.syncnet_loss == "bce" else 0.5
    samples_per_step = hp.syncnet_batch_size * distributed.ranks()
    quarter = hp.syncnet_nsteps * samples_per_step // PERIODS
    patience = min(hp.syncnet_patience, max(SHORTEST, quarter))
    return ChanceWatchdog("loss/bce", entropy(share), patience, samples_per_step, first_step)


def is_chance(held_out: dict[str, float]) -> bool:
    """Whether an evaluation found that pairs of the val list are told apart no better than by guessing."""
    return held_out.get(f"{HELD_OUT}_low", 1) < 0.5 and held_out[HELD_OUT] < NEAR_CHANCE


def entropy(share: float) -> float:
    """The lowest cross entropy of a constant guess when `share` of the pairs are in sync; ln 2 for one in two."""
    return sum(-p * math.log(p) for p in (share, 1 - share) if p > 0)
