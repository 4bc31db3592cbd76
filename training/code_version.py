"""Which code trains: kept in checkpoints, so that a resumed run can say that it has changed."""

import hashlib
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
DECIDES = ("audio/**/*.py", "clips/**/*.py", "models/**/*.py", "training/**/*.py", "train_*.py")  # the weights


@cache
def code_version() -> str:
    """12 hex digits that change with the source of training; it needs no git."""
    digest = hashlib.sha256()
    for path in sorted(path for files in DECIDES for path in ROOT.glob(files)):
        digest.update(path.relative_to(ROOT).as_posix().encode() + b"\0" + path.read_bytes() + b"\0")
    return digest.hexdigest()[:12]
