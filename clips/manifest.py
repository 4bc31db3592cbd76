"""manifest.jsonl: what preprocessing found, one JSON row per source video, appended as each is finished.

The row is the commit point of a clip: files without a row are leftovers of an interrupted run. A later row for
the same source replaces an earlier one; a torn last line, from a power cut, is ignored.
"""

import json
import os
from contextlib import AbstractContextManager
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from clips.index import Ranges
from errors import UserError
from lock import alone_in

NAME = "manifest.jsonl"
LOCK = ".lock"


def identity_of(clip: str) -> str:
    """The person that a clip's name, "<id>/<clip>", says it is of."""
    return clip.split("/")[0]


@dataclass
class Row:
    source: str  # path of the video below the data root
    clip: str  # name in the store, "<id>/<clip>" or deeper; its first part is the identity
    status: str  # "kept" or "rejected"
    reason: str = ""  # why it was rejected, in words
    frames: int = 0
    mel_columns: int = 0
    runs: Ranges = field(default_factory=list)  # ranges of consecutive frames with a face
    settings: str = ""  # the hparams that decided, to notice when they change
    source_bytes: int = 0
    source_sha256: str = ""
    offset_frames: int | None = None  # by which the sound comes late, where evaluation/offsets.py found a clear answer
    confidence: float | None = None  # of that answer: how far its peak stands above all other offsets

    @property
    def identity(self) -> str:
        return identity_of(self.clip)


def read(root: Path) -> dict[str, Row]:
    """Rows by source; empty where there is no manifest yet."""
    path = Path(root) / NAME
    rows, known = {}, {f.name for f in fields(Row)}
    if not path.exists():
        return rows
    lines = path.read_text(encoding="utf-8", errors="replace").split("\n")
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
            row = Row(**{name: value for name, value in values.items() if name in known})
        except (ValueError, TypeError, AttributeError):
            if number == len(lines):
                continue  # no newline behind it, so torn by an interruption: that clip is simply done again
            raise UserError(
                f"{path}:{number}: not a manifest row: delete this line and run preprocess.py again"
            ) from None
        row.runs = [tuple(run) for run in row.runs]
        rows[row.source] = row
    return rows


def alone_with(root: Path) -> AbstractContextManager[None]:
    """Holds the store for this process while it changes it; UserError where another holds it."""
    return alone_in(root, LOCK, "another preprocess.py or --correct_offsets is changing it: wait for it")


class ManifestWriter:
    """Appends rows; each is on disk before `add` returns."""

    def __init__(self, root: Path):
        path = Path(root) / NAME
        # A reason may hold a path that is not UTF-8: what that cannot hold is escaped, which JSON reads as it was.
        self._file = open(path, "a+", encoding="utf-8", errors="backslashreplace")  # noqa: SIM115 (for the whole run)
        self._file.truncate(path.read_bytes().rfind(b"\n") + 1)  # a line torn by an interruption

    def add(self, row: Row) -> None:
        self._file.write(json.dumps(asdict(row), ensure_ascii=False) + "\n")
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        self._file.close()
