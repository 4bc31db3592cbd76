"""Scores as people and programs read them: an aligned table, and JSON."""

import dataclasses
import json
import os
from pathlib import Path

import numpy as np

from evaluation.scoring import Scores


def mean_scores(scores: list[Scores]) -> dict[str, float]:
    """Plain means over videos, as protocol `lrs` takes them; p_sync only where all have one."""
    names = [name for name in ("lse_d", "lse_c", "p_sync") if all(getattr(s, name) is not None for s in scores)]
    return {name: float(np.mean([getattr(s, name) for s in scores])) for name in names}


def format_table(scores: list[Scores]) -> str:
    """One line per video and their mean."""
    with_p_sync = all(s.p_sync is not None for s in scores)
    rows = [["video", "frames", "offset", "LSE-D", "LSE-C"] + ["P_sync"] * with_p_sync]
    for s in scores:
        row = [s.video, str(s.frames), f"{s.offset:+d}", f"{s.lse_d:.3f}", f"{s.lse_c:.3f}"]
        rows.append(row + [f"{s.p_sync:.3f}"] * with_p_sync)
    # Offsets of opposite sign would cancel out, so they have no mean.
    rows.append(["mean", "", ""] + [f"{value:.3f}" for value in mean_scores(scores).values()])
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
    part.write_text(json.dumps(report, indent=2) + "\n")
    os.replace(part, path)
