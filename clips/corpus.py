"""One split of a data set, ready to draw windows from: which clips, and where their windows lie.

Everything that can make a data set unusable is found here, before training starts.
"""

import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np

from clips import filelists, manifest, official
from clips.index import Alignment, Ranges
from clips.settings import HEARD, differences, value_in
from clips.store import Clip, whole
from errors import UserError
from hparams import HParams


@dataclass(frozen=True)
class Corpus:
    root: Path
    names: list[str]  # of the clips with at least one window
    windows: list[Ranges]  # per clip, ranges of window starts
    skipped: dict[str, str]  # reason by name of a listed clip that is not used
    hp: HParams
    is_official: bool
    late: list[int] = field(default_factory=list)  # per clip, frames by which its sound comes late; empty = in time
    settings: frozenset[str] = frozenset()  # the different ones with which its clips were stored

    def __len__(self) -> int:
        return len(self.names)

    def open(self, index: int):
        """The clip at `index`: read(first, count) and mel."""
        path = self.root / self.names[index]
        if self.is_official:
            alignment = Alignment.of(self.hp)
            last = self.windows[index][-1][1] + self.hp.syncnet_T
            columns = alignment.expert_start(last) + alignment.expert_mel_steps
            return official.OfficialClip(path, columns, max(self.hp.store_size, self.hp.img_size), self.hp)
        return Clip(path)

    def sample(self, count: int, seed: int) -> "Corpus":
        """At most `count` of its clips, which depend on the seed only, in order; all for a count of 0."""
        if not count or len(self) <= count:
            return self
        chosen = sorted(np.random.default_rng(seed).choice(len(self), count, replace=False))
        names, windows, late = (
            [items[i] for i in chosen] if items else [] for items in (self.names, self.windows, self.late)
        )
        return dataclasses.replace(self, names=names, windows=windows, late=late)

    def stored_with(self, name: str):
        """The value of this hparam with which all clips were stored, None where they differ or do not say."""
        values = {value_in(settings, name) for settings in self.settings}
        return values.pop() if len(values) == 1 else None

    def refuse_other_sound(self) -> None:
        """UserError where clips were stored at another rate, or with another mel, than the hparams of today name."""
        for settings in sorted(self.settings):
            changed = differences(settings, self.hp, HEARD)
            if changed:
                raise UserError(
                    f"{self.root}: holds clips made with {'; '.join(changed)}: set it as it was, or make them again "
                    "with preprocess.py --redo"
                )

    @cached_property
    def fingerprint(self) -> str:
        """Changes when the clips or their windows do; kept in checkpoints to notice that on resume."""
        text = repr((self.names, self.windows, self.late) if any(self.late) else (self.names, self.windows))
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    def describe(self) -> str:
        windows = sum(end - start for ranges in self.windows for start, end in ranges)
        identities = len(set(map(manifest.identity_of, self.names)))
        corrected = sum(map(bool, self.late))
        moved = f", speech of {corrected} clips moved to where their lips are" if corrected else ""
        wanted = self.hp.img_size
        smallest = min((json.loads(settings).get("store_size", wanted) for settings in self.settings), default=wanted)
        blurred = f", crops of {smallest} px enlarged to {wanted}" if smallest < wanted else ""
        return f"{len(self)} clips, {identities} identities, {windows} windows{moved}{blurred}"


def open_split(root: str | Path, lists: str | Path, split: str, hp: HParams, kind: str, span: int = 1) -> Corpus:
    """The clips of one filelist. kind: "expert" or "generator", whose windows differ by a frame.

    span: a clip needs window starts at least this many frames apart (a sample is made of two windows).
    UserError where nothing is left; what was skipped, and why, is in the result.
    """
    root = Path(root)
    if not root.is_dir():
        raise UserError(f"{root}: no such folder: --data_root takes the --preprocessed_root of preprocess.py")
    alignment = Alignment.of(hp)
    listed = filelists.read(Path(lists), split)
    if not listed:
        raise UserError(
            f"{Path(lists) / f'{split}.txt'} names no clip: put some of train.txt into it, or delete the lists and run "
            f"preprocess.py with a larger {split}_share"
        )
    is_official = official.is_official(root)
    if is_official:
        rows = official.scan(root, [line.split()[0] for line in listed], alignment)  # without label
    else:
        rows = {row.clip: row for row in manifest.read(root).values()}
        if not rows:
            raise UserError(f"{root}: holds no clips: {_where_clips_are(root)}")

    names, windows, late, skipped, settings = [], [], [], {}, set()
    # each clip once, also where several lines name it
    chosen = dict.fromkeys(filelists.clip_named(line, rows) for line in listed)
    kept = [name for name in chosen if name in rows and rows[name].status == "kept"]
    there = set(kept) if is_official else whole(root, kept)
    for name in chosen:
        row = rows.get(name)
        if row is None:
            hint = filelists.naming_hint(name)
            skipped[name] = "listed, but not in the store" + (f": {hint}" if hint else "")
            continue
        if row.status != "kept":
            skipped[name] = row.reason if is_official else f"rejected by preprocess.py: {row.reason}"
            continue
        if name not in there:
            skipped[name] = "its files are gone: run preprocess.py again"
            continue
        offset = (row.offset_frames or 0) if hp.correct_offsets else 0
        ranges = getattr(alignment, f"{kind}_windows")(row.runs, row.mel_columns, offset)
        if not ranges or ranges[-1][1] - 1 - ranges[0][0] < span:
            usable = sum(e - s for s, e in ranges)
            needed = f"two {span} frames apart" if span > 1 else "two"
            skipped[name] = f"too short: {row.frames} frames, {usable} usable windows, {needed} needed"
            continue
        names.append(name)
        windows.append(ranges)
        late.append(offset)
        settings |= {row.settings} if row.settings else set()
    if not names:
        example = next(iter(skipped.items()))
        path = Path(lists) / f"{split}.txt"
        raise UserError(
            f"{path}: none of its {len(chosen)} clips can be used in {root}, e.g. {example[0]}: {example[1]}"
        )
    return Corpus(root, names, windows, skipped, hp, is_official, late, frozenset(settings))


def _where_clips_are(root: Path) -> str:
    """The likely remedy for a data root that is neither a store nor of the official layout."""
    above = root.resolve().parent
    if (above / manifest.NAME).exists() or next(root.glob("*/*.jpg"), None):
        return f"it is a folder of {above}, give that as --data_root"
    return f"run preprocess.py --data_root VIDEOS --preprocessed_root {root}"
