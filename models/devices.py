"""The device that networks run on: the one a script's --device names."""

import ctypes
import sys

import torch

from errors import UserError

M_TRIM_THRESHOLD, M_TOP_PAD, M_MMAP_MAX = -1, -2, -4  # glibc's malloc.h


def usable_device(name: str | None = None) -> torch.device:
    """The device `name`, after a try; None = a GPU if there is one, else the CPU.

    Raises UserError for one that this machine does not have or that gives nothing back.
    """
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        tensor = torch.zeros(1, device=name)
        tensor.cpu()
    except (RuntimeError, AssertionError, ImportError) as error:
        # torch raises whichever its back ends came up with.
        reason = str(error).splitlines()[0].rstrip(".")
        raise UserError(f"--device {name} cannot be used here ({reason}): give --device cpu, or another GPU") from None
    return tensor.device


def keep_freed_memory() -> None:
    """Lets this process reuse the memory of freed tensors: for training on a CPU.

    Otherwise glibc gives large tensors back to the system one by one and gets them anew, cleared page by page, at every
    step. Without glibc nothing is changed.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform == "linux" else None
    if mallopt:
        mallopt(M_MMAP_MAX, 0)  # large tensors are taken from the heap as well,
        mallopt(M_TRIM_THRESHOLD, 2**31 - 1)  # which keeps this many free bytes,
        mallopt(M_TOP_PAD, 64 * 2**20)  # and grows by these
