"""Says so when training goes wrong in a way that people know: numbers that are none, a GAN out of balance, a sync loss
that breaks the picture."""

from collections import defaultdict
from pathlib import Path

import numpy as np
from tqdm import tqdm

from errors import UserError
from hparams import HParams
from training import distributed

SATURATED_ACCURACY = 0.98  # of the discriminator, over a whole period: it is never wrong any more
COLLAPSED_LOSS = 4.0  # of its real or its fake half: it gives one answer to everything, and is sure of it
HOPELESS_GAN = 4.0  # L_gen of a generator that gets no use out of such a discriminator; ln 2 is a tie
EXPLODED_SYNC = 4.0  # E_sync; off-sync pairs of real faces lie between 1 and 2
HOPELESS_MATCH = 1.0  # squared distance of drawn faces from their speech from which LipGAN's discriminator is content
MOST_IN_A_ROW = 100  # steps that may be skipped
WORSE_L1 = 1.3  # L1 over that of the best period from which the other losses are said to break the picture


ANEW = "a new run from an earlier checkpoint (--checkpoint_path)"


class NonFiniteSteps:
    """What happens at a step whose gradient is NaN or infinite: its clips are noted, then the run stops or skips it."""

    def __init__(self, folder: Path, names: list[str], hp: HParams):
        """names: of the training clips, in the order of the indices in a batch."""
        self.path = Path(folder) / f"nonfinite_steps_rank{distributed.rank()}.txt"
        self.names, self.hp = names, hp
        self._count, self._in_a_row, self._last = 0, 0, -1

    def __call__(self, step: int, batch: dict) -> dict[str, float]:
        clips = sorted({self.names[index] for index in batch["clip"].tolist()})
        with open(self.path, "a", encoding="utf-8") as file:
            file.write(f"step {step}: {' '.join(clips)}\n")
        if self.hp.on_nonfinite == "stop":
            raise UserError(
                f"step {step}: the gradient is NaN or infinite; the clips of its batch are in {self.path}. The weights "
                "are unharmed up to the last checkpoint: look at the clips, then go on with --resume, or anew where "
                "there is none yet, and clip_grad_norm=1, a lower learning rate, or on_nonfinite=skip"
            )
        self._count += 1
        self._in_a_row = self._in_a_row + 1 if step == self._last + 1 else 1
        self._last = step
        if self._in_a_row == MOST_IN_A_ROW:
            raise UserError(
                f"step {step}: the gradients of {MOST_IN_A_ROW} steps in a row were NaN or infinite: lower the "
                f"learning rate, and look at the expert and at the clips in {self.path}"
            )
        if self._count & (self._count - 1) == 0:
            tqdm.write(f"step {step}: skipped, its gradient is NaN or infinite; {self._count} steps skipped so far")
        return {"gradient/skipped_steps": 1.0}


def l1_of_grey(windows: list[np.ndarray]) -> float:
    """L1 of the mean grey of each of the windows uint8 (T, H, W, 3), on the scale of 0 to 1."""
    return float(np.mean([np.abs(faces - faces.mean()).mean() / 255 for faces in windows]))


class GeneratorWatchdog:
    """watchdog(step, means of the steps since the last call) -> what to tell the person, or None.

    grey_l1: L1 of pictures that are all of one grey, see `l1_of_grey`; what is not nearer to a face has learnt nothing.
    Judges periods of hp.guard_steps steps. The same warning comes at its 1st, 2nd, 4th, 8th … period.
    Nothing of this is in checkpoints: a resumed run judges by what it sees itself.
    """

    def __init__(self, hp: HParams, first_step: int, grey_l1: float):
        self.hp, self.grey_l1, self._period = hp, grey_l1, first_step // hp.guard_steps
        self._seen, self._said = defaultdict(list), defaultdict(int)
        self._best_l1 = float("inf")
        self._is_first_period = True

    def __call__(self, step: int, means: dict[str, float]) -> str | None:
        for name, value in means.items():
            self._seen[name].append(value)
        period = step // self.hp.guard_steps
        if period == self._period:
            return None
        of_period = {name: sum(values) / len(values) for name, values in self._seen.items()}
        self._period = period
        self._seen.clear()
        said = [text for kind, text in self._judge(of_period) if self._is_time_for(kind)]
        return "\n".join(f"step {step}: warning: {text}" for text in said) or None

    def _judge(self, means: dict[str, float]):
        hp = self.hp
        accuracy = means.get("gan/disc_accuracy", 0.5)
        if accuracy > SATURATED_ACCURACY and means.get("loss/gan", 0.0) > HOPELESS_GAN:
            yield (
                "saturated",
                f"the discriminator is saturated: right in {accuracy:.0%} of the cases, L_gen {means['loss/gan']:.1f} "
                "(a tie is 0.69), so the generator learns nothing from it\n"
                f"  1. lower disc_initial_learning_rate (now {hp.disc_initial_learning_rate:g}), or set disc_r1_wt=1 "
                "or disc_label_smoothing=0.1\n"
                "  2. let the picture come first: disc_start_step, from a checkpoint without a discriminator\n"
                f"  3. begin it anew: {ANEW}, without --disc_checkpoint_path",
            )
        if accuracy > SATURATED_ACCURACY and means.get("loss/match", 0.0) > HOPELESS_MATCH:
            yield (
                "saturated",
                f"LipGAN's discriminator is saturated: right in {accuracy:.0%} of the cases, and drawn faces are at a "
                f"distance of {means['loss/match'] ** 0.5:.1f} from their speech, where 1 is wrong already\n"
                f"  1. lower disc_initial_learning_rate (now {hp.disc_initial_learning_rate:g})\n"
                f"  2. begin it anew: {ANEW}",
            )
        halves = means.get("gan/disc_real", 0.0), means.get("gan/disc_fake", 0.0)
        if max(halves) > COLLAPSED_LOSS:
            yield (
                "collapsed",
                f"the discriminator has collapsed: its loss is {halves[0]:.1f} on real and {halves[1]:.1f} on "
                f"generated faces, so it says the same of both\n"
                f"  1. begin it anew: {ANEW}, without --disc_checkpoint_path\n"
                f"  2. lower disc_initial_learning_rate (now {hp.disc_initial_learning_rate:g}), set disc_r1_wt=1",
            )
        sync = means.get("loss/sync", 0.0)
        if hp.sync_loss == "paper" and sync > EXPLODED_SYNC:
            yield (
                "exploded",
                f"the sync loss has exploded: E_sync {sync:.1f}; off-sync pairs of real faces lie between 1 and 2\n"
                f"  1. lower syncnet_wt (now {hp.syncnet_wt:g}) or initial_learning_rate, set clip_grad_norm=1, or "
                "sync_loss=stabilised\n"
                "  2. measure the expert on these faces: train_syncnet.py --evaluate_only; one that is not sure of "
                "true pairs cannot teach\n"
                "  3. a new run from an earlier checkpoint (--checkpoint_path), with a lower sync_gate or a later "
                "sync_start_step",
            )
        l1 = means.get("loss/l1", float("inf"))
        if not self._is_first_period and self.grey_l1 < l1 < float("inf"):
            yield (
                "unlearnt",
                f"the picture is not learnt: L1 {l1:.4f} over a whole period, and plain grey has {self.grey_l1:.4f}: "
                f"lower initial_learning_rate (now {hp.initial_learning_rate:g}){self._weights_beside_l1(means)}",
            )
        self._is_first_period = False
        if l1 > WORSE_L1 * self._best_l1:
            yield (
                "worse",
                f"the picture gets worse: L1 {l1:.4f}, it was {self._best_l1:.4f}: another loss outweighs it, or steps "
                f"are too large; lower initial_learning_rate (now {hp.initial_learning_rate:g})"
                f"{self._weights_beside_l1(means)}",
            )
        self._best_l1 = min(l1, self._best_l1)

    def _weights_beside_l1(self, means: dict[str, float]) -> str:
        """Those of the losses that are at work, as more to lower."""
        weights = {"loss/sync": "syncnet_wt", "loss/gan": "disc_wt", "loss/match": "lipgan_wt"}
        named = (f"{name} (now {getattr(self.hp, name):g})" for loss, name in weights.items() if loss in means)
        return "".join(f" or {text}" for text in named)

    def _is_time_for(self, kind: str) -> bool:
        self._said[kind] += 1
        return self._said[kind] & (self._said[kind] - 1) == 0
