"""What a lip-sync expert can do, from its embeddings of in-sync windows: pure maths, no network and no files.

One clip's windows make a matrix P_sync (n, n), faces by speech: its diagonal is in sync, the rest is the same clip at
every shift there is. Each metric is a function of one mean over clips, in which every clip weighs the same, long or
short; so the bootstrap over clips (bootstrap.py) needs nothing but the values of each clip.

An offset has the sign it has in lse.py: at offset o the picture at v goes with the sound at v - o, and an expert whose
P_sync peaks at a positive offset says that the sound comes too early.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

THRESHOLD = 0.5  # P_sync above which a pair is called in sync
FAR = 5  # frames between the right speech and the wrong one of pair accuracy: 0.2 s, the paper's whole window
OTHER_CLIPS = 4  # clips whose speech each clip is compared with
BINS = 10  # of P_sync, for the calibration error
MAX_OFFSET = 15  # frames either way, as protocol `lrs` has it
TOLERANCE = 1  # frames an offset may be wrong by: what people do not see either
FEWEST_PAIRS = 5  # windows behind every point of a clip's own curve; shorter clips have no offset
CONFIDENT = 0.1  # peak of a clip's curve above its median from which its offset counts as sure

OFFSETS = np.arange(-MAX_OFFSET, MAX_OFFSET + 1)


@dataclass(frozen=True)
class EmbeddedClip:
    """In-sync windows of one clip, in order of time; embeddings have length 1 and no negative values.

    start (n,): first frame of each; face, speech (n, D).
    moved (m,): which windows were also embedded with their crops displaced; moved_face (m, D).
    """

    start: np.ndarray
    face: np.ndarray
    speech: np.ndarray
    moved: np.ndarray
    moved_face: np.ndarray

    @property
    def shift(self) -> np.ndarray:
        """Frames from the face of a row to the speech of a column, (n, n)."""
        return self.start[None] - self.start[:, None]


def values_by_clip(clips: list[EmbeddedClip], min_gap: int) -> dict[str, np.ndarray]:
    """For each metric what each clip says, (C,) or (C, K), NaN where a clip is too short to say it.

    min_gap: frames between face and speech from which a pair counts as off sync.

    bce                         expert's loss, half the weight on in-sync pairs and half on all off-sync ones
    accuracy                    balanced accuracy at THRESHOLD on the same pairs
    auc                         area under the ROC curve of the same pairs, over all clips together
    calibration_gap  (C, BINS)  mass of (P_sync - in sync) in each bin of P_sync, same pairs, see calibration_error
    pair_accuracy               right speech above speech of the same clip at least FAR frames away; ties count half
    other_clips_accuracy        right speech above speech of OTHER_CLIPS other clips
    curve      (C, 2 MAX + 1)   mean P_sync at each of OFFSETS
    offset_accuracy             1 where the curve peaks within TOLERANCE of 0, else 0
    confident                   1 where the peak stands CONFIDENT above the curve's median, else 0
    confident_offset_accuracy   offset_accuracy of the confident clips
    moved_change                mean |change| of in-sync P_sync when the crops are displaced
    moved_pair_accuracy         pair_accuracy of the displaced crops
    """
    each = [_values_of(clip, min_gap) for clip in clips]
    values = {name: np.array([one[name] for one in each]) for name in each[0]}
    values["auc"] = auc_by_clip([pairs_of(clip, min_gap) for clip in clips])
    values["other_clips_accuracy"] = np.array(list(_above_other_clips(clips)))
    return values


def _values_of(clip: EmbeddedClip, min_gap: int) -> dict[str, float | np.ndarray]:
    """What one clip says by itself."""
    matrix, shift = p_sync(clip.face, clip.speech), clip.shift  # (n, n)
    in_sync, off_sync = pairs_of(clip, min_gap)
    is_far = abs(shift) >= FAR
    by_offset = curve(matrix, shift)
    offset_is_right, is_confident = offset_of(by_offset, len(matrix))
    moved = p_sync(clip.moved_face, clip.speech)  # (m, n)
    moved_in_sync = moved[np.arange(len(moved)), clip.moved]
    return {
        "bce": _balanced(-_log(in_sync), -_log(1 - off_sync)),
        "accuracy": _balanced(in_sync > THRESHOLD, off_sync <= THRESHOLD),
        "calibration_gap": calibration_gap(in_sync, off_sync),
        "pair_accuracy": share_above(in_sync, matrix, is_far),
        "curve": by_offset,
        "offset_accuracy": offset_is_right,
        "confident": is_confident,
        "confident_offset_accuracy": offset_is_right if is_confident == 1 else np.nan,
        "moved_change": _mean(abs(moved_in_sync - in_sync[clip.moved])),
        "moved_pair_accuracy": share_above(moved_in_sync, moved, is_far[clip.moved]),
    }


def pairs_of(clip: EmbeddedClip, min_gap: int) -> tuple[np.ndarray, np.ndarray]:
    """P_sync of the pairs in sync (n,), and of all those at least min_gap frames off."""
    matrix = p_sync(clip.face, clip.speech)
    return matrix.diagonal(), matrix[abs(clip.shift) >= min_gap]


def p_sync(face: np.ndarray, speech: np.ndarray) -> np.ndarray:
    """P_sync of every face (n, D) with every speech (m, D), (n, m); the embeddings have length 1."""
    cosine = face.astype(np.float64) @ speech.astype(np.float64).T
    # To what float32 embeddings are good for: further digits would break the ties of an expert that has collapsed.
    return np.clip(np.round(cosine, 7), 0, 1)


def share_above(right: np.ndarray, others: np.ndarray, counts: np.ndarray) -> float:
    """How often right (n,) is above those of others (n, m) that count (n, m), ties half; each with the same weight."""
    wins = (right[:, None] > others) + 0.5 * (right[:, None] == others)
    return _mean(wins[counts])


def curve(matrix: np.ndarray, shift: np.ndarray) -> np.ndarray:
    """Mean P_sync at each of OFFSETS over the pairs that exist, NaN where there is none. Both arguments (n, n)."""
    return np.array([_mean(matrix[shift == -offset]) for offset in OFFSETS])


def offset_of(mean_p_sync: np.ndarray, windows: int) -> tuple[float, float]:
    """(whether a clip's curve peaks where it should, whether it does so clearly), each 1 or 0.

    NaN for clips too short for FEWEST_PAIRS at every offset: with fewer offsets to choose from, or with means over one
    or two windows, their chance of being right would be another.
    """
    if windows < MAX_OFFSET + FEWEST_PAIRS or np.isnan(mean_p_sync).any():
        return np.nan, np.nan
    peak = mean_p_sync.max()
    # An expert that answers the same everywhere has no peak: every place that ties with it has to be right.
    is_right = (abs(OFFSETS[mean_p_sync == peak]) <= TOLERANCE).all()
    return float(is_right), float(peak - np.median(mean_p_sync) >= CONFIDENT)


def auc_by_clip(pairs: list[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    """Area under the ROC curve of all clips' (in-sync, off-sync) P_sync together, as values whose mean it is.

    A clip's value is the share of all off-sync pairs below its in-sync ones, plus the share of all in-sync pairs above
    its off-sync ones, minus the area: so the mean is the area, and resampling the clips moves it as it moves the area
    itself, to first order (the structural components of DeLong 1988).
    """
    has_both = [i for i, (right, wrong) in enumerate(pairs) if len(right) and len(wrong)]
    values = np.full(len(pairs), np.nan)
    if not has_both:
        return values
    rights, wrongs = ([pairs[i][kind] for i in has_both] for kind in (0, 1))
    below = _mean_by_clip(_share_below(rights, wrongs), rights)
    above = _mean_by_clip(1 - _share_below(wrongs, rights), wrongs)
    values[has_both] = below + above - below.mean()
    return values


def calibration_gap(in_sync: np.ndarray, off_sync: np.ndarray) -> np.ndarray:
    """Sum of w (P_sync - in sync) in each of BINS bins, (BINS,); the weights w of each kind of pair sum to 1/2."""
    if not len(off_sync):
        return np.full(BINS, np.nan)
    probability = np.concatenate([in_sync, off_sync])
    label = np.repeat([1.0, 0.0], [len(in_sync), len(off_sync)])
    weight = np.repeat([0.5 / len(in_sync), 0.5 / len(off_sync)], [len(in_sync), len(off_sync)])
    place = np.minimum((np.nan_to_num(probability) * BINS).astype(int), BINS - 1)
    return np.bincount(place, weight * (probability - label), minlength=BINS)


def calibration_error(mean_gap: np.ndarray) -> np.ndarray:
    """Expected calibration error from the mean of calibration_gap: (…, BINS) -> (…), 0 = P_sync is a probability.

    How far P_sync is from the share of in-sync pairs, on average over pairs of which half are in sync. Chance
    differences add up, never cancel: few clips give too large a value, and too high an interval.
    """
    return abs(mean_gap).sum(axis=-1)


def pair_counts(clips: list[EmbeddedClip], min_gap: int) -> dict[str, int]:
    """How many clips, windows, pairs off sync and displaced windows the metrics are made of."""

    def pairs_apart(gap: int) -> int:
        return sum(int((abs(clip.shift) >= gap).sum()) for clip in clips)

    return {
        "clips": len(clips),
        "windows": sum(len(clip.start) for clip in clips),
        "off_sync_pairs": pairs_apart(min_gap),
        "far_pairs": pairs_apart(FAR),
        "other_clips_pairs": sum(
            len(clip.start) * sum(len(other.start) for other in others)
            for clip, others in zip(clips, _others(clips), strict=True)
        ),
        "moved_windows": sum(len(clip.moved) for clip in clips),
    }


def _above_other_clips(clips: list[EmbeddedClip]) -> Iterator[float]:
    """share_above of each clip's own speech over the speech of its `_others`."""
    for clip, others in zip(clips, _others(clips), strict=True):
        right = p_sync(clip.face, clip.speech).diagonal()
        matrix = np.concatenate([np.empty((len(right), 0)), *(p_sync(clip.face, other.speech) for other in others)], 1)
        yield share_above(right, matrix, np.ones(matrix.shape, bool))


def _others(clips: list[EmbeddedClip]) -> Iterator[list[EmbeddedClip]]:
    """For each clip the next OTHER_CLIPS in a circle of all, the same whatever the run, so that runs compare."""
    # In the order of the list a clip's neighbours would be of the same person.
    circle = np.random.default_rng(0).permutation(len(clips))
    place = np.argsort(circle)
    for i in range(len(clips)):
        yield [clips[j] for j in circle[(place[i] + 1 + np.arange(min(OTHER_CLIPS, len(clips) - 1))) % len(clips)]]


def _share_below(scores: list[np.ndarray], others: list[np.ndarray]) -> np.ndarray:
    """Share of all others below each score, ties half; every clip has the same weight among the others."""
    values = np.concatenate(others)
    order = np.argsort(values)
    weights = np.concatenate([np.full(len(clip), 1 / len(clip) / len(others)) for clip in others])
    mass = np.concatenate([[0], np.cumsum(weights[order])])
    ordered, wanted = values[order], np.concatenate(scores)
    return (mass[np.searchsorted(ordered, wanted, "left")] + mass[np.searchsorted(ordered, wanted, "right")]) / 2


def _mean_by_clip(values: np.ndarray, clips: list[np.ndarray]) -> np.ndarray:
    """Mean of values over each clip; values are those of the clips one after the other."""
    ends = np.cumsum([len(clip) for clip in clips])
    return np.array([part.mean() for part in np.split(values, ends[:-1])])


def _balanced(in_sync: np.ndarray, off_sync: np.ndarray) -> float:
    return 0.5 * _mean(in_sync) + 0.5 * _mean(off_sync)


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if values.size else np.nan


def _log(probability: np.ndarray) -> np.ndarray:
    """Logarithm, not below -100, as the loss takes it."""
    with np.errstate(divide="ignore"):
        return np.maximum(np.log(probability), -100)
