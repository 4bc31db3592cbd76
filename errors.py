"""A user's mistake, said in one line, and the way every script ends on one."""

import errno
import io
import os
import signal
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager


class UserError(Exception):
    """Something the person at the shell can mend: the message names the file or flag and the remedy, in one line."""


class OutOfMemory(UserError):
    """A device has no memory for what was asked of it: no file is to blame."""


class Terminated(KeyboardInterrupt):
    """SIGTERM, as `kill`, `timeout` and SLURM send it: whatever cleans up on Ctrl-C does so too."""


def run_script(main, kept: str = "what was finished is kept") -> None:
    """Runs `main()` and exits: 0 on success, 1 with one line on a user's mistake; 1 on a bug, traced.

    On Ctrl-C 130 and on SIGTERM 143, once all is cleaned up; training, which takes both for a request, ends on 130.
    kept: what there then is, for people.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file name it cannot show is no reason to lose work
    try:
        with sigterm_like_ctrl_c():
            code = main()
        sys.exit(code)
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt as stop:
        print(f"\nstopped; {kept}", file=sys.stderr)
        sys.exit(128 + (signal.SIGTERM if isinstance(stop, Terminated) else signal.SIGINT))
    except OSError as error:
        # A full disk or a folder without permission is the machine's state, not a bug worth a traceback.
        remedy = "; free some space, what was finished is kept" if error.errno == errno.ENOSPC else ""
        where = error.filename or "see the message above"
        print(f"error: {error.strerror or error}: {where}{remedy}", file=sys.stderr)
        sys.exit(1)
    except Exception:
        # Left to Python, the traceback would keep a DataLoader and its workers alive, and exit would wait for them.
        traceback.print_exc()
        sys.exit(1)


@contextmanager
def sigterm_like_ctrl_c() -> Iterator[None]:
    """In the block SIGTERM raises `Terminated`, once: launchers send it again, which must not cut a clean-up short.

    Processes of torchrun keep what SIGTERM does by itself, which is at once: one that waits for another in C++ would
    not hear of it otherwise.
    """
    if "RANK" in os.environ:
        yield
        return

    def stop(number, frame):
        signal.signal(number, signal.SIG_IGN)
        raise Terminated

    try:
        before = signal.signal(signal.SIGTERM, stop)
    except ValueError:  # not in the main thread, as in a notebook's background job: no signals to handle
        before = None
    try:
        yield
    finally:
        if before is not None:
            signal.signal(signal.SIGTERM, before)
