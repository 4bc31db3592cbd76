"""A folder for one process alone, as long as it changes what is in there."""

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from errors import UserError


@contextmanager
def alone_in(folder: Path, name: str, otherwise: str) -> Iterator[None]:
    """Holds `folder` by its file `name` (hidden, empty, left there); UserError, `otherwise`, where another does."""
    with open(Path(folder) / name, "a", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise UserError(f"{folder}: {otherwise}") from None
        except OSError:
            pass  # a disk without locks
        yield
