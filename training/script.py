"""What both training scripts do in the same way: flags, device and seed, where to begin, and the run itself."""

import argparse
import dataclasses
import errno
import os
import sys
from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from functools import partial
from pathlib import Path

import torch

import hparams
from clips.corpus import Corpus
from errors import UserError
from lock import alone_in
from models import keep_freed_memory, trained_with, usable_device
from training import checkpoint, distributed
from training.data import RunData
from training.guards import NonFiniteSteps
from training.loop import Intervals, train
from training.monitor import Monitor
from training.schedule import rate_at

LOCK = ".training"
OF_A_MACHINE = ("num_workers", "face_cache_gb")  # hparams that change nothing but how fast it reads
FAILING_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.ESTALE)


def parser(description: str, needs_folder: bool = True) -> argparse.ArgumentParser:
    """The flags of both scripts. description: the script's docstring; needs_folder: whether every use writes to one."""
    p = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    data = p.add_argument_group("data")
    data.add_argument(
        "--data_root", metavar="DIR", required=True, help="clip store, or data preprocessed by the official code"
    )
    data.add_argument(
        "--filelists", metavar="DIR", default="filelists", help="folder of train.txt and val.txt (%(default)s)"
    )
    run = p.add_argument_group("run")
    run.add_argument("--checkpoint_dir", metavar="DIR", required=needs_folder, help="where checkpoints and curves go")
    start = run.add_mutually_exclusive_group()
    start.add_argument(
        "--resume",
        action="store_true",
        help="go on from the newest checkpoint in --checkpoint_dir; give --preset and --hparams as before",
    )
    start.add_argument(
        "--checkpoint_path", metavar="FILE", help="start a new run from these weights, official or own: fine-tuning"
    )
    run.add_argument("--device", metavar="NAME", help="cuda, cuda:1 or cpu (a GPU if there is one)")
    hparams.add_flags(p)
    return p


def begin(args, hp: hparams.HParams) -> torch.device:
    """Joins the processes of torchrun, shows the hparams, opens the checkpoint folder, seeds the initial weights.

    Returns the device of this process.
    """
    # Chosen before anything touches a GPU: every process would take memory of the first one.
    device = usable_device(distributed.own_device(args.device))
    if device.type == "cpu":
        keep_freed_memory()
    distributed.join(device)
    if not distributed.is_first():
        # Until the end: one process talks; errors go to stderr.
        sys.stdout = open(os.devnull, "w", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115
    open_folder(Path(args.checkpoint_dir), args.resume)
    if hp.compile and device.type == "cuda" and distributed.ranks() > 1:
        print("note: compile=True is for a single GPU, several train as without it")
    if changed := hparams.differences(hparams.HParams(), hp):
        print(f"changed from hparams.py: {', '.join(changed)}")
    print("hparams: " + ", ".join(f"{name}={value}" for name, value in dataclasses.asdict(hp).items()))
    torch.manual_seed(hp.seed)
    return device


def open_folder(folder: Path, resume: bool) -> None:
    """Makes --checkpoint_dir; UserError where it holds another run, or none to resume."""
    if folder.exists() and not folder.is_dir():
        raise UserError(f"--checkpoint_dir {folder} is a file: name a folder")
    if resume:
        if distributed.is_first():  # others may not see its files yet, on a network disk
            checkpoint.refuse_nothing_to_resume(folder)
        return
    folder.mkdir(parents=True, exist_ok=True)
    found = checkpoint.found_in(folder)
    if found:
        last = max(found)
        raise UserError(
            f"{folder} holds a run of {checkpoint.kind_of(found[last])} at step {last}: go on with --resume of its own "
            "script, or name another --checkpoint_dir"
        )
    if checkpoint.best_in(folder):
        raise UserError(
            f"{checkpoint.best_in(folder)[0]} is of an earlier run, and would be replaced: name another "
            "--checkpoint_dir, or move it away"
        )


def describe(split: str, corpus: Corpus) -> None:
    """Says what a split holds and what of its list is not used; UserError where its clips have another sound."""
    corpus.refuse_other_sound()
    print(f"{split}: {corpus.describe()}")
    if corpus.skipped:
        name, reason = next(iter(corpus.skipped.items()))
        print(f"{split}: {len(corpus.skipped)} listed clips are not used, e.g. {name}: {reason}")


def warn_of_shared_clips(train: Corpus, val: Corpus) -> None:
    """Says so where clips are both trained and measured on."""
    shared = sorted(set(train.names) & set(val.names))
    if shared:
        print(
            f"warning: {len(shared)} clips are in train.txt and val.txt, e.g. {shared[0]}: what is measured on them "
            "says nothing of faces and speech that are new; take them out of one"
        )


def cut_as_learnt(path: str | Path, hp: hparams.HParams) -> hparams.HParams:
    """hparams with the cut of speech that the expert in `path` has learnt on, as it judges no other well; says so."""
    cut = trained_with(path).syncnet_mel_cut
    if cut != hp.syncnet_mel_cut:
        print(
            f"{path}: its expert was trained with syncnet_mel_cut={cut}, which is used in place of {hp.syncnet_mel_cut}"
        )
    return dataclasses.replace(hp, syncnet_mel_cut=cut)


def framed_as_stored(corpus: Corpus, hp: hparams.HParams) -> hparams.HParams:
    """hparams with the detector whose boxes the clips are crops of: inference learns of it from the checkpoint."""
    detector = corpus.stored_with("face_detector")
    known = detector in hparams.CHOICES["face_detector"]
    return dataclasses.replace(hp, face_detector=detector) if known else hp


def restore(args, recipe, hp: hparams.HParams, data: RunData, load_weights) -> int:
    """Puts --resume or --checkpoint_path into the recipe and returns the step to go on from, 0 for a new run.

    load_weights(path): the module with the weights of a file, official or own.
    """
    if args.resume:
        # One process chooses: on a network disk, others may not see the newest file yet.
        path = distributed.from_first(checkpoint.newest(args.checkpoint_dir) if distributed.is_first() else None)
        step = checkpoint.restore(path, recipe, hp, data.facts)
        print(f"going on from {path}, step {step}")
        return step
    if args.checkpoint_path:
        weights = load_weights(args.checkpoint_path)
        wanted = recipe.networks[recipe.kind]
        if type(weights) is not type(wanted):
            raise UserError(
                f"{args.checkpoint_path}: holds a {type(weights).__name__}, this run trains a {type(wanted).__name__}: "
                "give the --recipe it is of"
            )
        for name in {recipe.kind, f"{recipe.kind}_ema"} & set(recipe.networks):
            checkpoint.copy_weights(weights, recipe.networks[name], args.checkpoint_path)
        recipe.is_fine_tuning = True
        print(f"starting from the weights of {args.checkpoint_path}")
    return 0


def refuse_different_starts(first_step: int, recipe, hp: hparams.HParams, facts: dict) -> None:
    """UserError where processes would train side by side with other weights, on other data or with other hparams."""
    start = {"step": first_step, "data": facts["data"], "val list": facts["measured_on"], "state": recipe.state_dict()}
    start |= {name: checkpoint.fingerprint(network) for name, network in recipe.networks.items()}
    start |= {name: value for name, value in vars(hp).items() if name not in OF_A_MACHINE}
    starts = distributed.everyones([start])
    for name, value in start.items():
        if any(other[name] != value for other in starts):
            said = "; ".join(f"process {i}: {other[name]}" for i, other in enumerate(starts))
            raise UserError(
                f"the processes do not begin alike, their {name} differs: do all machines see the same files and "
                f"hparams? {said}"
            )


def run(
    args,
    hp,
    device,
    recipe,
    data: RunData,
    first_step,
    last_step,
    intervals: Intervals,
    warmup_steps: int,
    decay: str,
    watch=None,
    show=None,
):
    """Trains and returns the last evaluation. warmup_steps, decay: see `rate_at`; watch, show: see `train`."""
    refuse_different_starts(first_step, recipe, hp, data.facts(first_step))
    if first_step >= last_step and not recipe.owes_evaluation:
        raise UserError(
            f"already at step {first_step} of {last_step}: raise {recipe.length} to go on, which lifts a cosine's "
            "learning rate again, or start a new run from its weights with --checkpoint_path"
        )
    if data.batch_size % hp.accumulate:
        raise UserError(
            f"accumulate={hp.accumulate} parts do not divide a batch of {data.batch_size}: change one in hparams.py"
        )
    folder = Path(args.checkpoint_dir)
    with writing_alone(folder), closing(Monitor(folder / "tensorboard", first_step)) as monitor:
        monitor.text("hparams", "\n".join(f"{name}={value}" for name, value in vars(hp).items()), first_step)
        evaluation = train(
            recipe,
            batches=data.batches(hp.num_workers, first_step, device),
            val_batches=data.val_batches(hp.num_workers),
            checkpoints=checkpoint.Checkpoints(folder, recipe, hp, data.facts, hp.keep_checkpoints),
            monitor=monitor,
            intervals=intervals,
            first_step=first_step,
            last_step=last_step,
            device=device,
            rate_at=partial(rate_at, last_step=last_step, warmup_steps=warmup_steps, decay=decay),
            on_nonfinite=NonFiniteSteps(folder, data.dataset.corpus.names, hp),
            watch=watch,
            show=show,
        )
        distributed.finished()
        return evaluation


@contextmanager
def writing_alone(folder: Path) -> Iterator[None]:
    """Holds the folder of a run, by the first process; a disk that takes no more is one line with what is kept."""
    with ExitStack() as held:
        reason = None
        if distributed.is_first():
            try:
                otherwise = "another run is training in it: wait for it, or name another --checkpoint_dir"
                held.enter_context(alone_in(folder, LOCK, otherwise))
            except (UserError, OSError) as error:
                reason = str(error)
        reason = distributed.from_first(reason)  # all processes end on it
        if reason:
            raise UserError(reason)
        try:
            yield
        except OSError as error:
            if error.errno not in FAILING_DISK:
                raise
            kept = checkpoint.found_in(folder)
            last = f"the last checkpoint is {kept[max(kept)]}, --resume goes on from it" if kept else "nothing is kept"
            where = error.filename or folder
            raise UserError(f"{where}: cannot be written or read ({error.strerror}): {last}") from error
