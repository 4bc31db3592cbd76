"""Checkpoints: everything a run needs to go on, in one file that is whole or not there.

{"kind": "expert" | "generator", "step": int, "hparams": {…}, "networks": {name: state dict},
 "optimizers": {name: state dict}, "recipe": {…}, "code": its version, and the facts of the data: "data",
 "data_described", "measured_on", "samples_per_step", "epoch"}

A network "…_ema" is the average of another over the steps, which `models.load_…` prefer. Of several processes, the
first one writes.
"""

import dataclasses
import hashlib
import re
from collections.abc import Callable
from pathlib import Path

import torch

import hparams
from errors import UserError
from models import read_checkpoint, write_checkpoint
from training import distributed
from training.code_version import code_version

FILE = "checkpoint_step{:09d}.pth"  # the official name
PATTERN = re.compile(r"checkpoint_step(\d{9})\.pth")


class Checkpoints:
    """The checkpoints of one run in one folder: the newest `keep`, and the best by the recipe's own measures."""

    def __init__(self, folder: Path, recipe, hp: hparams.HParams, facts: Callable[[int], dict], keep: int):
        """facts(step): of the data, see training.data.RunData."""
        self.folder, self.recipe, self.hp, self.facts, self.keep = Path(folder), recipe, hp, facts, keep

    def save(self, step: int) -> Path:
        path = self.folder / FILE.format(step)
        self._write(path, step)
        if not distributed.is_first():
            return path
        # Later ones are damaged, or this run would have gone on from there: they are no reason to delete this one.
        earlier = [old for at, old in sorted(found_in(self.folder).items()) if at < step]
        for old in earlier[: max(len(earlier) - self.keep + 1, 0)]:
            old.unlink()
        return path

    def save_best(self, step: int, name: str) -> Path:
        path = self.folder / f"{name}.pth"
        self._write(path, step)
        return path

    def _write(self, path: Path, step: int) -> None:
        if not distributed.is_first():
            return
        recipe = self.recipe
        content = {
            "kind": recipe.kind,
            "step": step,
            "hparams": dataclasses.asdict(self.hp),
            "networks": {name: network.state_dict() for name, network in recipe.networks.items()},
            "optimizers": {name: optimizer.state_dict() for name, optimizer in recipe.optimizers.items()},
            "recipe": recipe.state_dict(),
            "code": code_version(),
            **self.facts(step),
        }
        try:
            write_checkpoint(content, path)
        except UserError as error:
            kept = sorted(found_in(self.folder).values())
            last = f"the last good one is {kept[-1]}" if kept else "there is no earlier one"
            raise UserError(f"{error}; {last}") from error


def best_in(folder: Path) -> list[Path]:
    """The best checkpoints of a run that learnt something: not those of step 0, from before its first step."""
    return [path for path in sorted(Path(folder).glob("best*.pth")) if not _is_of_step_0(path)]


def _is_of_step_0(path: Path) -> bool:
    try:
        return read_checkpoint(path).get("step") == 0
    except UserError:
        return False


def found_in(folder: Path) -> dict[int, Path]:
    """Checkpoints by step."""
    matches = ((PATTERN.fullmatch(path.name), path) for path in Path(folder).glob("checkpoint_step*.pth"))
    return {int(match[1]): path for match, path in matches if match}


def newest(folder: Path) -> Path:
    """The newest checkpoint that can be read; a damaged one is passed over with a note."""
    for _, path in sorted(found_in(folder).items(), reverse=True):
        try:
            read_checkpoint(path)
            return path
        except UserError as error:
            print(f"note: passed over: {error}")
    refuse_nothing_to_resume(folder)
    raise UserError(
        f"{folder}: none of its checkpoints can be read: start anew in another --checkpoint_dir, from its best.pth "
        "(--checkpoint_path) if that is whole"
    )


def refuse_nothing_to_resume(folder: Path) -> None:
    """UserError where the folder holds no checkpoint of a run, whole or not."""
    if not found_in(folder):
        raise UserError(
            f"{folder}: no checkpoint to resume from: leave out --resume to start anew"
            + (", in another folder, as its best.pth is to stay" if best_in(folder) else "")
        )


def kind_of(path: Path) -> str:
    """What a checkpoint is of, in words."""
    try:
        return {"expert": "an expert", "generator": "a generator"}[read_checkpoint(path)["kind"]]
    except (UserError, KeyError):
        return "something unknown"


def fingerprint(network: torch.nn.Module) -> str:
    """12 hex digits that tell these weights from others."""
    digest = hashlib.sha256()
    for tensor in network.state_dict().values():
        digest.update(tensor.cpu().numpy().tobytes())
    return digest.hexdigest()[:12]


SIZES = {"width": "width", "img_size": "img_size", "syncnet_T": "T"}  # of networks, by hparam


def copy_weights(source: torch.nn.Module, target: torch.nn.Module, path: Path) -> None:
    """Starts `target` from the weights of `source`, which were read from `path`."""
    try:
        target.load_state_dict(source.state_dict())
    except RuntimeError as error:
        sizes = ((name, getattr(source, attribute, None)) for name, attribute in SIZES.items())
        its = ", ".join(f"{name}={value:g}" for name, value in sizes if value) or "its width, img_size, syncnet_T"
        raise UserError(f"{path}: its network has another size: set {its}") from error


def restore(path: Path, recipe, hp: hparams.HParams, facts: Callable[[int], dict]) -> int:
    """Puts a checkpoint of the same recipe into `recipe` and returns its step; says what differs from this run."""
    saved = read_checkpoint(path)
    held, wanted = _without_averages(saved.get("networks", {})), _without_averages(recipe.networks)
    if saved.get("kind") != recipe.kind or held != wanted:
        raise UserError(
            f"{path}: holds {', '.join(held) or 'no network of this project'}, cannot resume {', '.join(wanted)}: "
            "give the script, and the --recipe where it has one, that wrote it"
        )
    changed = hparams.differences(hparams.from_dict(saved["hparams"]), hp)
    changed += [f"{name}: not there -> {value}" for name, value in vars(hp).items() if name not in saved["hparams"]]
    for name in recipe.decisive:
        if name in saved["hparams"] and saved["hparams"][name] != getattr(hp, name):
            raise UserError(
                f"{path}: was trained with {name}={saved['hparams'][name]}, not {getattr(hp, name)}: give --preset "
                "and --hparams as before, or start a new run from its weights with --checkpoint_path"
            )
    if changed:
        print("resuming with other hparams (to go on as before, give --preset and --hparams as before):")
        print("".join(f"  {change}\n" for change in changed), end="")
    data = facts(saved["step"])
    if saved["data"] != data["data"]:
        before, now = saved.get("data_described", "unknown"), data["data_described"]
        now = "of as many, but other ones" if before == now else now
        print(f"resuming with other data: the training list was {before}; it is {now}")
    before, now = saved.get("samples_per_step", 0), data["samples_per_step"]  # 0: of an earlier version
    if before not in (0, now):
        print(
            f"resuming with {now} samples a step instead of {before}: the place in the data is {now} times the step, "
            "so some samples come twice or not at all"
        )
    if saved.get("code") != code_version():
        print("resuming with other code: this project's files have changed since the checkpoint was written")
    try:
        for name, network in recipe.networks.items():
            # An average that was not kept until now starts from the weights.
            weights = saved["networks"].get(name) or saved["networks"][name.removesuffix("_ema")]
            network.load_state_dict(weights)
        for name, optimizer in recipe.optimizers.items():
            # hparams decide on these, not the run before
            asked = [{key: group[key] for key in ("betas", "weight_decay")} for group in optimizer.param_groups]
            optimizer.load_state_dict(saved["optimizers"][name])
            for group, settings in zip(optimizer.param_groups, asked, strict=True):
                group.update(settings)
        recipe.load_state_dict(saved["recipe"])
        if saved.get("measured_on") not in (None, data["measured_on"]):
            print("resuming with another val list, or measured otherwise: the best checkpoints are chosen anew")
            recipe.forget_best()
    except (RuntimeError, ValueError, KeyError) as error:
        reason = " ".join(str(error).split()[:30])
        raise UserError(
            f"{path}: does not fit this run ({reason} …): use its hparams width, img_size and syncnet_T, of a "
            "generator its --recipe"
        ) from error
    return saved["step"]


def _without_averages(networks: dict) -> list[str]:
    return sorted(name for name in networks if not name.endswith("_ema"))
