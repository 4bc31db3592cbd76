"""The device that a script's --device names."""

import torch

from errors import UserError


def usable_device(name: str | None = None) -> torch.device:
    """The device `name`; None = a GPU if there is one, else the CPU. Raises UserError when it cannot compute."""
    name = name or ("cuda" if torch.cuda.is_available() else "cpu")
    try:
        # Brought back, because the meta device takes tensors and never returns them.
        return torch.zeros(1, device=name).cpu() is not None and torch.device(name)
    except (RuntimeError, AssertionError, ImportError) as error:
        pass
