"""The runs of a comparison: what each was asked for is kept in its folder, so that it is reused for nothing else."""

import json
import os
from dataclasses import asdict
from pathlib import Path

import hparams
from errors import UserError
from training.checkpoint import found_in

ASKED = "asked.json"


def refuse_another_run(folder: Path, hp: hparams.HParams, **facts: str) -> None:
    """Notes down what a new run is asked for; UserError where the folder is of a run that was asked for otherwise.

    facts: all that its result depends on beside hparams, such as the fingerprints of its data.
    """
    path = folder / ASKED
    if not found_in(folder):  # nor where an earlier try came to nothing
        folder.mkdir(parents=True, exist_ok=True)
        keep(path, {"hparams": asdict(hp), **facts})
        return
    if not path.exists():
        raise UserError(f"{folder}: does not say what its run was asked for: name another --outdir")
    before = json.loads(path.read_text(encoding="utf-8"))
    changed = hparams.differences(hparams.from_dict(before["hparams"]), hp)
    changed += [f"{name}: {before.get(name)} -> {value}" for name, value in facts.items() if before.get(name) != value]
    if changed:
        raise UserError(f"{folder}: of a run with other settings ({'; '.join(changed)}): name another --outdir")


def keep(path: Path, content: dict) -> None:
    """Writes JSON, seen under its name only when whole."""
    part = path.with_suffix(".part")
    part.write_text(json.dumps(content, indent=1), encoding="utf-8")
    os.replace(part, path)
