"""Scores as people and programs read them: an aligned table, and JSON."""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np

from evaluation.scoring import Scores

# field of Scores, its title, how its numbers are written
COLUMNS = (
    ("frames", "frames", "d"),
    ("offset", "offset", "+d"),
    ("lse_d", "LSE-D", ".3f"),
    ("lse_c", "LSE-C", ".3f"),
    ("p_sync", "P_sync", ".3f"),
)
AVERAGED = ("lse_d", "lse_c", "p_sync")  # offsets of opposite sign would cancel out


def mean_scores(scores: list[Scores]) -> dict[str, float]:
    """Plain means over the videos, as protocol `lrs` takes them, of what their judge measures."""
    measured = [name for name in AVERAGED if getattr(scores[0], name) is not None]
    return {name: float(np.mean([getattr(s, name) for s in scores])) for name in measured}


def format_table(scores: list[Scores], asked: int) -> str:
    """One line per video and their mean; scores of one judge.

    asked: videos that were to be judged. The worst are often those that cannot be, so the mean says of how many it is.
    """
    columns = [column for column in COLUMNS if getattr(scores[0], column[0]) is not None]
    means = mean_scores(scores)
    rows = [["video"] + [title for _, title, _ in columns]]
    rows += [[s.video] + [format(getattr(s, name), spec) for name, _, spec in columns] for s in scores]
    rows += [
        [f"mean of {len(scores)} of {asked}"]
        + [format(means[name], spec) if name in means else "" for name, _, spec in columns]
    ]
    return align(rows)


def align(rows: list[list[str]]) -> str:
    """Columns side by side: the first one to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = []
    for first, *rest in rows:
        cells = [first.ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(rest, widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)


def write_json(path: str | Path, scores: list[Scores], refused: dict[str, str], **about) -> None:
    """{**about, "videos": [...], "mean": {...}, "refused": {path: reason}}, seen under its name only when whole."""
    report = about | {
        "videos": [dataclasses.asdict(s) for s in scores],
        "mean": mean_scores(scores) if scores else {},
        "refused": refused,
    }
    part = Path(f"{path}.part")
    try:
        part.write_text(json.dumps(report, indent=2) + "\n")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
