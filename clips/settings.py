"""Which hparams a stored clip depends on, and whether one was made with those of today."""

import json
from collections.abc import Iterable

from hparams import HParams

# What networks see and hear of a clip: training must mean the same by it as preprocessing did.
HEARD = (
    "fps",
    "sample_rate",
    "n_fft",
    "hop_size",
    "win_size",
    "num_mels",
    "fmin",
    "fmax",
    "preemphasis",
    "ref_level_db",
    "min_level_db",
    "max_abs_value",
)
# All that decides what a clip is; kept in its row to notice when it changes.
DECIDING = (
    *HEARD,
    "face_detector",
    "face_min_score",
    "detect_max_side",
    "detect_every",
    "max_gap_frames",
    "store_size",
    "jpeg_quality",
    "min_frames",
    "min_face_px",
    "min_speech_rms",
)


def settings_of(hp: HParams, more: Iterable[str] = ()) -> str:
    """The deciding hparams, and `more`, as text for a manifest row."""
    return json.dumps({name: getattr(hp, name) for name in (*DECIDING, *more)})


def value_in(settings: str, name: str):
    """What a row's settings say of this hparam, None if nothing."""
    return json.loads(settings).get(name)


def differences(settings: str, hp: HParams, names: Iterable[str] | None = None) -> list[str]:
    """One "name=then, now now" for each hparam in which a row's settings differ from hp; of `names`, or of all.

    What a row does not name, as rows of earlier versions do not, is no difference.
    """
    saved = json.loads(settings) if settings else {}
    wanted = saved if names is None else [name for name in names if name in saved]
    pairs = ((name, saved[name], getattr(hp, name, saved[name])) for name in wanted)
    return [f"{name}={then}, now {now}" for name, then, now in pairs if then != now]
