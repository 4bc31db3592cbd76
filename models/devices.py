"""The device that networks run on: the one a script's --device names."""

import torch

from errors import UserError


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
