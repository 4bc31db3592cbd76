"""The one training loop. It knows steps, upkeep and stopping; what is trained is the recipe's business.

A recipe is an object with
    kind                        "expert" or "generator": what its checkpoints hold
    networks, optimizers        dicts by name: what a checkpoint keeps; "…_ema" is the average of a network over steps
    learning_rates              dict by the same names as optimizers: the rates before warm-up and decay
    step(batch)                 one optimisation step, returns named values for the curves, or NonFiniteGradient
    evaluate(batches)           an Evaluation over the val list; may change the recipe's own state
    best_of(values)             names of the checkpoints these values are the best so far for, such as ["best"]
    forget_best()               what comes next is the best so far
    samples(batch)              named image grids, uint8 (H, W, 3) BGR
    state_dict(), load_state_dict(state)      what else evolves, such as a gate or the best value so far
    is_fine_tuning              whether it began from weights that know their work
    owes_evaluation             whether its weights are those of a step whose evaluation was cut short
"""

import re
import signal
import time
import traceback
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from errors import UserError
from training import distributed
from training.checkpoint import Checkpoints
from training.learner import NonFiniteGradient
from training.monitor import Monitor
from training.speed import Speed

DEAD_WORKER = re.compile(r"DataLoader worker .*(killed by signal|exited unexpectedly)", re.DOTALL)
WORKER_DIED = (
    "a loader worker died, for want of memory (in a container perhaps of /dev/shm) or as the disk it read from is "
    "gone: lower num_workers in hparams.py or look at the disk; --resume goes on from the last checkpoint"
)


@dataclass(frozen=True)
class Intervals:
    """Steps between …; 0 = never."""

    log: int
    samples: int
    evaluation: int
    checkpoint: int


@dataclass(frozen=True)
class Evaluation:
    """What a recipe found out over the val list."""

    values: dict[str, float]  # on the curves and on the screen: the few that matter
    details: dict[str, float] = field(default_factory=dict)  # on the curves only
    images: dict[str, np.ndarray] = field(default_factory=dict)  # charts, uint8 (H, W, 3) BGR
    summary: str = ""  # for the end of training


def train(
    recipe,
    batches: Iterable[dict],
    val_batches: Callable[[], Iterable[dict]],
    checkpoints: Checkpoints,
    monitor: Monitor,
    intervals: Intervals,
    first_step: int,
    last_step: int,
    device: torch.device,
    rate_at: Callable[[int], float],
    on_nonfinite: Callable[[int, dict], dict[str, float]],
    watch: Callable[[int, dict[str, float]], str | None] | None = None,
    show: Callable[[int], None] | None = None,
) -> Evaluation:
    """Runs steps first_step + 1 … last_step and returns the last evaluation.

    rate_at(step): the factor on all learning rates, see schedule.py.
    on_nonfinite(step, batch): values for the curves in place of a step's that could not be taken, or raises.
    watch(step, means since the last point on the curves, with what was evaluated since, after step 0): something to
    tell the person, or None; see watchdog.py.
    show(step): more to look at than the recipe's sample images, as often as those and in the first process only.

    Ctrl-C or SIGTERM finishes the step under way, writes a checkpoint and raises KeyboardInterrupt. A batch that cannot
    be read, in any process, ends training with a checkpoint too, and with its error in all of them.
    """
    step, batches, speed = first_step, iter(batches), Speed(device)
    batch = unreadable = None
    upkeep = Upkeep(recipe, val_batches, checkpoints, monitor, intervals, last_step, device, speed, watch, show)
    with in_one_line(), StopSignal() as stop, progress(first_step, last_step) as bar:
        while True:
            waiting_since = time.perf_counter()
            if step < last_step:
                batch, unreadable = batch_or_error(batches)
            if unreadable:
                forget_variables(unreadable)
                del batches
            waited = time.perf_counter() - waiting_since
            # upkeep first, so that the last step needs no special copy; a resumed step had its upkeep before
            stopping = distributed.of_any(stop.asked or unreadable is not None)  # all processes after the same step
            is_last = step >= last_step or stopping
            if step > first_step or step == 0 or recipe.owes_evaluation:
                upkeep(step, step > first_step, is_last, bar)
            if is_last:
                break

            waiting_since = time.perf_counter()
            batch = to_device(batch, device)
            working_since = time.perf_counter()
            waited += working_since - waiting_since
            set_rates(recipe, rate_at(step))
            named = take_step(recipe, batch, step, on_nonfinite)
            step += 1
            monitor.add(named)
            samples = len(next(iter(batch.values())))
            speed.add(samples, waited, time.perf_counter() - working_since)
            bar.update()
        monitor.flush(step)
        end_together(unreadable, upkeep.kept, bar)
    if stopping:
        raise KeyboardInterrupt
    return upkeep.evaluation


@dataclass
class Upkeep:
    """upkeep(step, …): what is due between two steps, all but the step itself; see `train` for what it is given."""

    recipe: Any
    val_batches: Callable[[], Iterable[dict]]
    checkpoints: Checkpoints
    monitor: Monitor
    intervals: Intervals
    last_step: int
    device: torch.device
    speed: Speed
    watch: Callable[[int, dict[str, float]], str | None] | None
    show: Callable[[int], None] | None
    evaluation: Evaluation | None = None  # the last one
    found: dict[str, float] = field(default_factory=dict)  # by evaluations that `watch` has not heard of yet
    kept: Path | None = None  # the last checkpoint

    def __call__(self, step: int, has_stepped: bool, is_last: bool, bar: tqdm) -> None:
        """has_stepped: whether this run took a step before; is_last: whether it takes none after."""
        due = self.intervals
        saves = step > 0 and (_due(step, due.checkpoint) or is_last)
        if has_stepped and _due(step, due.log):
            self._log(step, bar)
        if _due(step, due.evaluation) or step >= self.last_step:
            if saves or (has_stepped and distributed.ranks() > 1):  # of others that fail, the first one may not hear
                # Evaluating takes long, and launchers do not wait for ever once they have asked to stop.
                self._save(step, owes_evaluation=True)
            self.recipe.owes_evaluation = False
            with self._keeping(step, has_stepped and not saves, bar, owes_evaluation=True):
                self.evaluation = evaluate(self.recipe, self._val_batches(), self.checkpoints, self.monitor, step)
            if step:  # an untrained network is no news
                self.found = self.evaluation.values | self.evaluation.details
            said = (f"{name} {value:.4f}" for name, value in self.evaluation.values.items())
            bar.write(f"step {step}: {', '.join(said)}")
        if saves:
            self._save(step)
        if distributed.is_first() and (_due(step, due.samples) or step >= self.last_step):
            with self._keeping(step, has_stepped and not saves, bar):
                self.monitor.images(self.recipe.samples(next(self._val_batches())), step)
                if self.show and due.samples:
                    self.show(step)

    def _save(self, step: int, owes_evaluation: bool = False) -> None:
        self.recipe.owes_evaluation = owes_evaluation
        self.kept = self.checkpoints.save(step)

    @contextmanager
    def _keeping(self, step: int, saves: bool, bar: tqdm, owes_evaluation: bool = False) -> Iterator[None]:
        """Where the val list cannot be read or the memory does not suffice for it, the steps so far are kept first."""
        try:
            yield
        except Exception as error:
            if saves:
                forget_variables(error)
                self._save(step, owes_evaluation)
                bar.write(f"what was learnt is kept in {self.kept}")
            raise

    def _log(self, step: int, bar: tqdm) -> None:
        self.monitor.add(self.speed.take())
        rates = {f"learning_rate/{name}": rate for name, rate in rates_of(self.recipe).items()}
        self.monitor.scalars(rates, step)
        means = self.monitor.flush(step)
        bar.set_postfix({name.split("/")[-1]: f"{value:.3f}" for name, value in means.items()})
        if self.watch and (said := self.watch(step, means | self.found)):
            bar.write(said)
        self.found = {}

    def _val_batches(self) -> Iterator[dict]:
        return _on_device(self.val_batches(), self.device)


def end_together(unreadable: Exception | None, kept: Path | None, bar: tqdm) -> None:
    """Raises why a batch could not be read, in this process or another one, in all of them."""
    # Nobody leaves while the first process writes: a launcher ends the others soon after one has failed.
    reasons = distributed.everyones([last_line(unreadable)] if unreadable else [])
    if reasons and kept:
        bar.write(f"a batch cannot be read; what was learnt is kept in {kept}")
    if unreadable:
        raise unreadable
    if reasons:
        raise UserError(reasons[0])


def evaluate(recipe, batches: Iterable[dict], checkpoints: Checkpoints, monitor: Monitor, step: int) -> Evaluation:
    """What the recipe finds out over the val list, on the curves, and in the best checkpoints if it is the best."""
    evaluation = recipe.evaluate(batches)
    # Every process evaluates its share and learns of all. What follows for training, such as an open gate, the first
    # one decides for all.
    recipe.load_state_dict(distributed.from_first(recipe.state_dict()))
    monitor.scalars(evaluation.values | evaluation.details, step)
    monitor.images(evaluation.images, step)
    monitor.text("val", evaluation.summary, step)
    if step or recipe.is_fine_tuning:  # what has learnt nothing yet is no best, even where all that follows is worse
        for name in recipe.best_of(evaluation.values):
            checkpoints.save_best(step, name)
    return evaluation


def take_step(recipe, batch: dict, step: int, on_nonfinite) -> dict:
    """Named values of one step of the recipe, or of `on_nonfinite`; see `train`."""
    try:
        return recipe.step(batch)
    except NonFiniteGradient:
        return on_nonfinite(step, batch)


def progress(first_step: int, last_step: int) -> tqdm:
    hidden = not distributed.is_first()
    return tqdm(total=last_step, initial=first_step, desc="training", unit="step", disable=hidden)


def set_rates(recipe, factor: float) -> None:
    """Set anew at every step, so that hparams decide after a resume too, not the optimiser's saved state."""
    for name, optimizer in recipe.optimizers.items():
        for group in optimizer.param_groups:
            group["lr"] = factor * recipe.learning_rates[name]


class StopSignal:
    """Turns Ctrl-C and SIGTERM into a flag the loop looks at between steps; a second Ctrl-C stops at once."""

    def __init__(self):
        self.asked = False

    def __enter__(self) -> "StopSignal":
        try:
            self._before = {number: signal.signal(number, self._ask) for number in (signal.SIGINT, signal.SIGTERM)}
        except ValueError:  # not in the main thread, as in a notebook's background job: no signals to handle
            self._before = {}
        return self

    def __exit__(self, *_):
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def _ask(self, number, frame):
        if self.asked and number == signal.SIGINT:  # launchers send SIGTERM more than once
            raise KeyboardInterrupt
        self.asked = True
        print("\nstopping: finishing this step and writing a checkpoint (Ctrl-C again to stop at once)")


def next_batch(batches):
    """The next batch; an error in a loader worker comes back as the one line it was raised with."""
    try:
        return next(batches)
    except UserError as error:
        raise UserError(last_line(error)) from None
    except (ConnectionError, EOFError) as error:  # in the middle of what a worker was handing over
        raise UserError(WORKER_DIED) from error
    except OSError as error:
        if "end of file during message" in str(error):  # as before
            raise UserError(WORKER_DIED) from error
        raise


def last_line(error: Exception) -> str:
    """What an error says, without the traceback that torch puts before it where it comes from a worker."""
    line = (str(error).rstrip().splitlines() or [type(error).__name__])[-1]
    return re.sub(r"^[\w.]+Error: ", "", line)


def batch_or_error(batches) -> tuple[dict | None, Exception | None]:
    """The next batch, or why there is none: the weights are good until then, and all processes are to keep them."""
    try:
        return next_batch(batches), None
    except Exception as error:  # whatever a library makes of a file that is damaged
        return None, error


def forget_variables(error: BaseException | None) -> None:
    """Lets go what the functions that an error came through hold, such as the loader.

    As long as a loader is there, torch reports a dead worker anew, into whatever is going on.
    """
    while error:
        traceback.clear_frames(error.__traceback__)
        error = error.__context__


@contextmanager
def in_one_line() -> Iterator[None]:
    """Turns torch's report of a worker process that is gone, which interrupts whatever is going on, into one line.

    That of a GPU without memory too.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise UserError(
            "the GPU has no memory for a step: lower the batch size, or raise accumulate or set precision=bf16 in "
            "hparams.py"
        ) from error
    except (RuntimeError, UserError) as error:
        # What was going on may have taken the report for an error of its own, such as a file that could not be written.
        if not any(DEAD_WORKER.search(str(each)) for each in (error, error.__cause__)):
            raise
        raise UserError(WORKER_DIED) from error


def rates_of(recipe) -> dict[str, float]:
    """Those of the last step, by optimiser."""
    return {name: optimizer.param_groups[0]["lr"] for name, optimizer in recipe.optimizers.items()}


def _due(step: int, interval: int) -> bool:
    return interval > 0 and step % interval == 0


def whole(batches: Iterable[dict]) -> Iterator[dict]:
    """The batches; an error among them is raised as by `next_batch`."""
    batches = iter(batches)
    while True:
        try:
            batch = next_batch(batches)
        except StopIteration:
            return
        yield batch


def _on_device(batches: Iterable[dict], device: torch.device):
    return (to_device(batch, device) for batch in whole(batches))


def to_device(batch: dict, device: torch.device) -> dict:
    """Copies go on while the CPU prepares the next step, where the batch is pinned."""
    return {name: value.to(device, non_blocking=True) for name, value in batch.items()}
