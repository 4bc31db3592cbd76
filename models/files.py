"""Files of weights on disk: the one place that calls torch.load, and an atomic torch.save."""

import json
import os
import pickle
import re
import shlex
import struct
import zipfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file

from errors import UserError

# What unpickling a damaged file has been seen to raise: bytes taken for something else can fail in any of these ways.
DAMAGE = (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, AttributeError, TypeError)
DAMAGE += (AssertionError, OverflowError, OSError, struct.error, zipfile.BadZipFile)


class CheckpointError(UserError):
    """A file of weights that cannot be used: which file, what is wrong with it, and what to do."""


def read_checkpoint(path: str | Path) -> dict:
    """The dict in a torch.save file, zip or older format, or in a .safetensors file; tensors on the CPU.

    Runs no code the file may contain.

    Raises CheckpointError for a file that is missing, damaged, not PyTorch's, not a dict, or that needs code to run.
    """
    path = Path(path)
    if path.suffix == ".safetensors" and path.is_file():
        try:
            with safe_open(path, "pt") as file:
                hparams = json.loads((file.metadata() or {}).get("hparams", "{}"))
            return {"state_dict": load_file(path), "hparams": hparams}
        except (SafetensorError, ValueError, OSError) as error:
            raise CheckpointError(_damaged(path)) from error
    try:
        with path.open("rb") as file:
            start = file.read(2)
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist: check the path of the checkpoint") from None
    except OSError as error:
        raise CheckpointError(
            f"{path} cannot be read ({error.strerror}): check that it is a file that you may read"
        ) from error

    if start == b"PK":
        _check_zip(path)
    elif start != b"\x80\x02":  # pickle, protocol 2: the format before PyTorch 1.6
        raise CheckpointError(f"{path} is {'not a PyTorch file' if start else 'empty'}: name a .pth checkpoint")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except DAMAGE as error:
        needed = re.search(r"GLOBAL ([\w.]+)", str(error))
        if isinstance(error, pickle.UnpicklingError) and needed:
            raise CheckpointError(
                f"{path} would run code when opened ({needed[1]}) and is refused: "
                "only tensors and plain values are read, ask its author for a state dict"
            ) from error
        raise CheckpointError(_damaged(path)) from error
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, not a checkpoint: name a .pth of a network")
    return content


def write_checkpoint(content: dict, path: str | Path) -> None:
    """torch.save, written beside and renamed: a kill at any moment leaves the old file or the new one, whole.

    Raises CheckpointError when the disk is full or the folder cannot be written.
    """
    _write(lambda part: torch.save(content, part), Path(path))


def write_safetensors(network: torch.nn.Module, path: str | Path, hparams: dict | None = None) -> None:
    """Weights in a format that holds nothing but tensors, and the hparams they were trained with as text.

    Errors as write_checkpoint.
    """
    weights = {key: tensor.detach().cpu().contiguous() for key, tensor in network.state_dict().items()}

    def save(part: Path) -> None:
        part.touch()
        mode = part.stat().st_mode
        save_file(weights, part, {"hparams": json.dumps(hparams or {})})
        with suppress(OSError):  # disks without modes
            part.chmod(mode)  # the library keeps its files from everybody else

    _write(save, Path(path))


def _write(save: Callable[[Path], None], path: Path) -> None:
    part = path.with_name(path.name + ".part")
    try:
        save(part)
        with part.open("rb+") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except (OSError, RuntimeError, SafetensorError) as error:  # torch reports a full disk as RuntimeError
        reason = str(error).splitlines()[0]
        raise CheckpointError(f"{path} could not be written ({reason}): check the folder and the free space") from error
    finally:
        part.unlink(missing_ok=True)


def _check_zip(path: Path) -> None:
    """Refuses what torch.load explains badly, and flipped bits, which it would take for weights."""
    try:
        with zipfile.ZipFile(path) as archive:
            names = {name.rpartition("/")[2] for name in archive.namelist()}
            broken = archive.testzip()
    except DAMAGE as error:
        raise CheckpointError(_damaged(path)) from error
    if broken:
        raise CheckpointError(_damaged(path))
    if "constants.pkl" in names:
        raise CheckpointError(
            f"{path} is a TorchScript program, whose code would run, and is refused. If you trust its source, this "
            f"runs the code and keeps the weights alone: {_conversion(path)}"
        )
    if "data.pkl" not in names:
        raise CheckpointError(f"{path} is not a PyTorch file: name a .pth checkpoint")


def _conversion(path: Path) -> str:
    """The shell command that makes a state dict of a TorchScript program, beside it."""
    code = "import sys, torch; torch.save(torch.jit.load(sys.argv[1], map_location='cpu').state_dict(), sys.argv[2])"
    return f'python -c "{code}" {shlex.join(map(str, (path, path.with_suffix(".state_dict.pth"))))}'


def _damaged(path: Path) -> str:
    return f"{path} is damaged or incomplete: copy or download it again"
