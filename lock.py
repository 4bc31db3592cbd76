"""A folder for one process alone, as long as it changes what is in there."""

import fcntl
import os
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from errors import UserError

_held = weakref.WeakSet()
# A forked process, such as a loader worker, shares the lock, and would keep it when its parent is killed.
os.register_at_fork(after_in_child=lambda: [file.close() for file in list(_held)])


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
        _held.add(file)
        yield
