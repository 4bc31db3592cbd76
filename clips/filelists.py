"""filelists/{train,val,test}.txt: which clips belong to which split, one "<id>/<clip>" per line (official format).

No identity is put into two splits: a network that has seen a face is no judge of how it does on strangers. A split
made by hand may do so, and stays as it is. exclude.txt beside them names clips that are to be in none.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Container, Iterable
from pathlib import Path, PurePath

import video
from clips.manifest import identity_of
from errors import UserError

SPLITS = ("train", "val", "test")
EXCLUDED = "exclude.txt"


def read(folder: Path, split: str) -> list[str]:
    """Lines of a split's list, in its order."""
    path = Path(folder) / f"{split}.txt"
    try:
        names = _lines(path)
    except FileNotFoundError:
        raise UserError(
            f"{path} is missing: run preprocess.py, which writes it, or name its folder with --filelists"
        ) from None
    except NotADirectoryError:
        raise UserError(
            f"{folder} is a file: --filelists takes the folder of train.txt, val.txt and test.txt"
        ) from None
    if not names and split != "test":
        if split == "train":
            raise UserError(f"{path} names no clip: lower val_share and test_share in hparams.py, or add videos")
        raise UserError(
            f"{path} names no clip: put some of train.txt into it; or, for a split drawn anew, add identities (first "
            f"folders of the data root) or raise {split}_share in hparams.py, delete the lists and run preprocess.py"
        )
    return names


def assign(
    identities: list[str], val_share: float, test_share: float, kept: dict[str, str], most: str | None = None
) -> dict[str, str]:
    """A split for each identity. Those in `kept` stay where they are; new ones fill the splits up to their share.

    The order in which identities are drawn depends on their names only, so the same data gives the same split; but
    `most`, the one that holds most of the clips, is drawn last: training has it, unless it is alone.
    From three new identities on, val and test have at least one each if their share is above zero.
    """
    splits = {name: kept[name] for name in identities if name in kept}
    new = sorted((name for name in identities if name not in kept), key=lambda name: (name == most, _shuffled(name)))
    for split, share in (("val", val_share), ("test", test_share)):
        have = sum(value == split for value in splits.values())
        # Training keeps one identity at least, then validation, then test.
        for_training = "train" not in splits.values()
        wanted = max(round(share * len(identities)), 1 if share > 0 else 0)
        for _ in range(max(min(wanted - have, len(new) - for_training), 0)):
            splits[new.pop(0)] = split
    splits.update(dict.fromkeys(new, "train"))
    return splits


def unlisted(clips: list[str], listed: dict[str, list[str]], val_share: float, test_share: float) -> dict[str, str]:
    """A split for each of `clips` that no list names; listed: names by split.

    It is the split of its identity. Where a split made by hand has that in several, it is train: what is held out
    grows only by hand. Identities that no list names are assigned by their shares.
    """
    found_in = {}
    for split, names in listed.items():
        for name in names:
            found_in.setdefault(identity_of(name), set()).add(split)
    settled = {identity: splits.pop() if len(splits) == 1 else "train" for identity, splits in found_in.items()}
    held = Counter(map(identity_of, clips))
    most = next((identity for identity, count in held.items() if count > len(clips) / 2), None)
    splits = assign(sorted(held), val_share, test_share, settled, most)
    named = {name for names in listed.values() for name in names}
    return {clip: splits[identity_of(clip)] for clip in clips if clip not in named}


def write(folder: Path, clips: dict[str, Iterable[str]]) -> None:
    """Writes the three lists, of clips by split."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    for split in SPLITS:
        names = sorted(set(clips.get(split, ())))
        part = folder / f"{split}.txt.part"
        part.write_text("".join(f"{name}\n" for name in names), encoding="utf-8")
        os.replace(part, folder / f"{split}.txt")


def existing(folder: Path) -> dict[str, list[str]]:
    """Lines by split, of the lists that exist already."""
    paths = {split: Path(folder) / f"{split}.txt" for split in SPLITS}
    return {split: _lines(path) for split, path in paths.items() if path.exists()}


def excluded(folder: Path) -> list[str]:
    """Lines of exclude.txt, none where there is no such file."""
    path = Path(folder) / EXCLUDED
    return _lines(path) if path.exists() else []


def clip_named(line: str, known: Container[str]) -> str:
    """The clip that a line names: lines of the official data sets may carry a label behind it.

    Where neither is known, the whole line.
    """
    name = line.split()[0]
    return name if name in known and line not in known else line


def naming_hint(line: str) -> str:
    """How clips are named, for a line that names none since it is written as the path of a file; "" for others."""
    endings = {PurePath(name).suffix.lower() for name in (line, line.split()[0])}
    is_path = line.startswith("/") or line[1:3] == ":/" or "\\" in line
    if not is_path and endings.isdisjoint(video.VIDEO_SUFFIXES | video.AUDIO_SUFFIXES | {".npz"}):
        return ""
    return "lists name clips as <id>/<clip>, without ending, relative to the store"


def can_hold(name: str) -> bool:
    """Whether a list can name it: a line of UTF-8 without blanks at its ends."""
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    stem = name.rpartition(".")[0]
    return "\n" not in name and "\r" not in name and stem == stem.strip()


def _lines(path: Path) -> list[str]:
    try:
        text = path.read_text(encoding="utf-8-sig")  # Windows editors put a mark in front
    except UnicodeDecodeError:
        raise UserError(f"{path}: is not UTF-8 text: save it as UTF-8") from None
    # Not splitlines: names may hold characters that it takes for line ends.
    return [line.strip() for line in text.split("\n") if line.strip()]


def _shuffled(name: str) -> str:
    return hashlib.sha256(name.encode()).hexdigest()
