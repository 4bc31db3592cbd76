"""A user's mistake, said in one line, and the way every script ends on one."""

import errno
import io
import sys
import traceback


class UserError(Exception):
    """Something the person at the shell can mend: the message names the file or flag and the remedy, in one line."""


class OutOfMemory(UserError):
    """A device has no memory for what was asked of it: no file is to blame."""


def run_script(main) -> None:
    """Runs `main()` and exits: 0 on success, 1 with one line on a user's mistake, 130 on Ctrl-C; 1 on a bug, traced."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a file name it cannot show is no reason to lose work
    try:
        sys.exit(main())
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("\nstopped by Ctrl-C; what was finished is kept", file=sys.stderr)
        sys.exit(130)
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
