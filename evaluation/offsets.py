"""Constant offsets between lips and sound, measured for every clip and kept in the manifest: train_syncnet.py
--correct_offsets. Training then reads the speech of a clip where its lips are.

A few frames suffice to keep an expert from learning, and broadcasts and re-encoded videos often have them: Chung &
Zisserman 2016 corrected theirs in the same way, with an expert trained on a part that was in order.
"""

import dataclasses
import hashlib
import json
from collections import Counter
from pathlib import Path

import numpy as np
from tqdm import tqdm

from clips import manifest
from errors import UserError
from evaluation.judges import load_expert_judge, refuse_other_sound
from evaluation.lip_lag import EXPERT, Agreement, Lags, in_words
from evaluation.survey import attempted, judged_agreement, open_splits
from hparams import HParams

MEASURED_FRAMES = 250  # of a clip's longest run of faces
MEASURED = "offsets_measured.jsonl"  # beside the manifest while clips are measured: what an interrupted run has done


def correct_offsets(root: str | Path, lists: str | Path, hp: HParams, expert_path: str, device: str = "cpu") -> None:
    """Writes offset_frames and confidence of all listed clips into the manifest, and prints a summary.

    A clip without a clear answer gets none, and is read as it is. Measuring again gives the same: earlier corrections
    do not count. Interrupted, it goes on where it was when started again. expert_path: a trained expert. UserError for
    the official layout, which has no manifest.
    """
    judge = load_expert_judge(expert_path, device)
    refuse_other_sound(expert_path, hp)
    corpora = open_splits(root, lists, dataclasses.replace(hp, correct_offsets=False))
    for corpus in corpora.values():
        corpus.refuse_other_sound()
    if any(corpus.is_official for corpus in corpora.values()):
        raise UserError(
            f"{root}: data of the official layout cannot keep offsets: make a clip store with preprocess.py"
        )
    with manifest.alone_with(root):
        _measure_and_write(Path(root), judge, corpora, hp, expert_path)


def _measure_and_write(root: Path, judge, corpora, hp: HParams, expert_path: str) -> None:
    rows = {row.clip: row for row in manifest.read(root).values()}
    clips = {name: (corpus, i) for corpus in corpora.values() for i, name in enumerate(corpus.names)}
    expert = hashlib.sha256(Path(expert_path).read_bytes()).hexdigest()
    keys = {name: _key(rows[name], expert) for name in clips}
    done = _Measured(root / MEASURED)
    damaged = {}

    def by_expert(name):
        run = max(rows[name].runs, key=lambda run: run[1] - run[0])
        corpus, i = clips[name]
        return judged_agreement(judge, corpus.open(i), run, hp, MEASURED_FRAMES)

    missing = [name for name in clips if keys[name] not in done.agreements]
    for name in tqdm(missing, desc="measuring offsets", unit="clip", disable=None):
        measured = attempted(name, by_expert, damaged)
        if measured:
            done.add(keys[name], measured[1])
    agreements = {name: done.agreements[keys[name]] for name in clips if name not in damaged}

    lags = Lags(EXPERT, agreements.keys(), agreements.values())
    if lags.no_link:
        raise UserError(
            f"{expert_path}: finds no link between lips and sound in {len(lags.clips)} clips: {EXPERT.no_link_hint}"
        )
    writer = manifest.ManifestWriter(root)
    for name in agreements:
        lag, confidence = lags.clear_with_prominence.get(name, (None, None))
        row = dataclasses.replace(rows[name], offset_frames=lag, confidence=confidence)
        if row != rows[name]:
            writer.add(row)
    writer.close()
    done.forget()
    print(summary(lags, len(clips), damaged))


def _key(row: manifest.Row, expert: str) -> str:
    """Of a measurement: the same for the same clip as preprocessing left it, measured by the same expert."""
    clip = dataclasses.replace(row, offset_frames=None, confidence=None)
    text = json.dumps([dataclasses.asdict(clip), expert, MEASURED_FRAMES, "P_sync, backwards, pairs"])
    return hashlib.sha256(text.encode()).hexdigest()[:16]


class _Measured:
    """Agreements by key, each in the file as soon as it is there; a line torn by an interruption is dropped."""

    def __init__(self, path: Path):
        self.path, self.agreements = path, {}
        self._file = open(path, "ab+")  # noqa: SIM115 (open for the whole run)
        self._file.seek(0)
        lines = self._file.read()
        self._file.truncate(lines.rfind(b"\n") + 1)
        for line in lines.split(b"\n")[:-1]:
            try:
                key, known = json.loads(line)
                self.agreements[key] = known and Agreement(np.array(known[0]), np.array(known[1]), known[2])
            except (ValueError, TypeError, IndexError):
                continue  # damaged, or of an earlier version: that clip is measured again

    def add(self, key: str, agreement: Agreement | None) -> None:
        self.agreements[key] = agreement
        known = agreement and [agreement.curve.tolist(), agreement.by_chance.tolist(), agreement.pairs]
        self._file.write(json.dumps([key, known]).encode() + b"\n")
        self._file.flush()

    def forget(self) -> None:
        self._file.close()
        self.path.unlink()


def summary(lags: Lags, clips: int, damaged: dict[str, str]) -> str:
    """How many clips are how late, for a person."""
    lines = [f"measured {len(lags.clips)} of {clips} clips ({lags.gauge.how})"]
    counts = Counter(lags.clear.values())
    lines += [f"sound {in_words(lag)}: {count} clips" for lag, count in sorted(counts.items())]
    lines.append(f"no clear answer, left as they are: {len(lags.clips) - len(lags.clear)} clips")
    if damaged:
        lines.append(f"cannot be read: {len(damaged)} clips, e.g. {next(iter(damaged.values()))}")
    lines.append("written into the manifest; correct_offsets=False in hparams.py reads the clips without it")
    return "\n".join(lines)
