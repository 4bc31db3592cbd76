"""Which windows make up which sample: a pure function of (seed, epoch, index).

Nothing here depends on what was drawn before, so the number of loader workers changes no sample, a resumed run goes
on at the exact one, and ranks take disjoint ones. An epoch has as many visits as there are clips, in shuffled order.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from clips.corpus import Corpus
from clips.manifest import identity_of
from errors import UserError

NEARBY = 15  # frames: as far as an offset is sought


@dataclass(frozen=True)
class ExpertDraw:
    clip: int
    faces: int  # first frame of the face window
    speech: int  # first frame of the speech window; in sync when it is the same
    nearby: tuple[int, ...] = ()  # first frames of more speech windows, off sync

    @property
    def in_sync(self) -> bool:
        return self.faces == self.speech


@dataclass(frozen=True)
class GeneratorDraw:
    clip: int
    target: int  # first frame of the window to redraw
    references: tuple[int, ...]  # first frames of windows that show the identity: the dataset takes the fittest


class ExpertSampling:
    """Pairs for the expert: in sync, or the faces of another window of the same clip at least `min_gap` frames away."""

    def __init__(self, corpus: Corpus, seed: int, positive_share: float, min_gap: int):
        self.corpus, self.seed, self.positive_share, self.min_gap = corpus, seed, positive_share, min_gap

    def __len__(self) -> int:
        return len(self.corpus)

    def __call__(self, epoch: int, index: int) -> ExpertDraw:
        clip = _clip_of(self.seed, epoch, index, len(self.corpus))
        rng = _generator(self.seed, epoch, index)
        starts = _starts(self.corpus.windows[clip])
        if rng.random() < self.positive_share:
            start = int(rng.choice(starts))
            return ExpertDraw(clip, faces=start, speech=start)
        speech, faces = _two_apart(rng, starts, self.min_gap)
        return ExpertDraw(clip, faces=faces, speech=speech)


class ClipSampling:
    """In-sync windows only, `per_clip` of one clip in a row, `min_gap` frames apart where the clip is long enough.

    A batch of them holds its negatives itself: the faces of each window with the speech of any other.
    balance: identities come as often as (their windows) ** balance says: 0 equally often, 1 every window equally often.
    nearby: more speech windows drawn with each, `min_gap` to NEARBY frames off.
    """

    def __init__(self, corpus: Corpus, seed: int, per_clip: int, min_gap: int, balance: float = 1.0, nearby: int = 0):
        self.corpus, self.seed, self.per_clip, self.min_gap, self.nearby = corpus, seed, per_clip, min_gap, nearby
        windows = np.array([sum(end - start for start, end in ranges) for ranges in corpus.windows], float)
        identities = [identity_of(name) for name in corpus.names]
        of_identity = dict.fromkeys(identities, 0.0)
        for identity, count in zip(identities, windows, strict=True):
            of_identity[identity] += count
        weights = windows * np.array([of_identity[identity] ** (balance - 1) for identity in identities])
        self._up_to = np.cumsum(weights) / weights.sum()  # of a clip's chance, its and those of all before

    def __len__(self) -> int:
        return len(self.corpus) * self.per_clip

    def __call__(self, epoch: int, index: int) -> ExpertDraw:
        visit, place = divmod(index, self.per_clip)
        rng = _generator(self.seed, epoch, visit)  # the windows of a visit are drawn together
        # The visits of an epoch are spread evenly over the chances, so no clip comes more or less often by luck.
        clips = len(self.corpus)
        chance = (_clip_of(self.seed, epoch, visit, clips) + rng.random()) / clips
        clip = min(int(np.searchsorted(self._up_to, chance, side="right")), clips - 1)
        ranges = self.corpus.windows[clip]
        start = int(_spread(rng, ranges, self.per_clip, self.min_gap)[place])
        nearby = _nearby(_generator(self.seed, epoch, index), _starts(ranges), start, self.min_gap, self.nearby)
        return ExpertDraw(clip, faces=start, speech=start, nearby=nearby)


class GeneratorSampling:
    """Target and reference windows of one clip, `min_gap` frames apart where the clip is long enough for it.

    candidates: windows drawn that may become the reference.
    """

    def __init__(self, corpus: Corpus, seed: int, min_gap: int, candidates: int = 1):
        self.corpus, self.seed, self.min_gap, self.candidates = corpus, seed, min_gap, candidates

    def __len__(self) -> int:
        return len(self.corpus)

    def __call__(self, epoch: int, index: int) -> GeneratorDraw:
        clip = _clip_of(self.seed, epoch, index, len(self.corpus))
        rng = _generator(self.seed, epoch, index)
        starts = _starts(self.corpus.windows[clip])
        gap = min(self.min_gap, int(starts[-1] - starts[0]))
        target, reference = _two_apart(rng, starts, gap)
        others = rng.choice(starts[np.abs(starts - target) >= max(gap, 1)], self.candidates - 1)
        return GeneratorDraw(clip, target=target, references=(reference, *others.tolist()))


class EvaluationSampling:
    """In-sync windows to measure the expert on: of every clip, up to `per_clip` consecutive ones, in order.

    They lie in the middle of the clip's longest run of windows. Nothing is drawn: every epoch is the same.
    UserError where no clip has two windows `min_gap` frames apart, which is what a negative takes.
    """

    def __init__(self, corpus: Corpus, per_clip: int, min_gap: int):
        self.corpus = corpus
        middles = [_middle(ranges, per_clip) for ranges in corpus.windows]
        if max(map(len, middles)) <= min_gap:
            raise UserError(
                f"{corpus.root}: no clip to evaluate on has {min_gap + 1} consecutive windows, as "
                f"syncnet_eval_min_gap={min_gap} needs: raise syncnet_eval_windows ({per_clip}), or list longer clips"
            )
        self._draws = [ExpertDraw(clip, faces=k, speech=k) for clip, middle in enumerate(middles) for k in middle]

    def __len__(self) -> int:
        return len(self._draws)

    def __call__(self, epoch: int, index: int) -> ExpertDraw:
        return self._draws[index]


class StepBatches:
    """Endless batches of places (epoch, index) from step `first_step` on, for a DataLoader's batch_sampler.

    Of the batch_size x ranks samples of a step, this rank takes its own batch_size. length: places of an epoch.
    """

    def __init__(self, length: int, batch_size: int, first_step: int = 0, rank: int = 0, ranks: int = 1):
        self.length, self.batch_size, self.first_step = length, batch_size, first_step
        self.rank, self.ranks = rank, ranks

    def __iter__(self) -> Iterator[list]:
        step = self.first_step
        while True:
            first = (step * self.ranks + self.rank) * self.batch_size
            yield [divmod(i, self.length) for i in range(first, first + self.batch_size)]
            step += 1


def fixed_draws(sampling, count: int) -> list:
    """The first `count` draws: the same ones at every evaluation, and each clip as often as any other (within one)."""
    return [sampling(*divmod(i, len(sampling))) for i in range(count)]


def _generator(seed: int, epoch: int, index: int) -> np.random.Generator:
    # Philox is counter-based: any (seed, epoch, index) is a stream of its own at no cost.
    return np.random.Generator(np.random.Philox(key=[seed, 0], counter=[0, 0, epoch, index]))


def _clip_of(seed: int, epoch: int, index: int, clips: int) -> int:
    return int(_order(seed, epoch, clips)[index])


@lru_cache(maxsize=4)
def _order(seed: int, epoch: int, clips: int) -> np.ndarray:
    return np.random.Generator(np.random.Philox(key=[seed, 1], counter=[0, 0, epoch, 0])).permutation(clips)


def _starts(ranges) -> np.ndarray:
    return np.concatenate([np.arange(start, end) for start, end in ranges])


def _middle(ranges, count: int) -> range:
    """Up to `count` consecutive starts from the middle of the longest range."""
    start, end = max(ranges, key=lambda r: r[1] - r[0])
    first = start + max(end - start - count, 0) // 2
    return range(first, min(first + count, end))


def _spread(rng: np.random.Generator, ranges, per_clip: int, min_gap: int) -> np.ndarray:
    """`per_clip` starts at least `min_gap` apart; a clip too short for that gives some of them more than once."""
    starts = _starts(ranges)
    comb = starts[(starts - starts[0]) % min_gap == rng.integers(min_gap)]
    comb = comb if len(comb) else starts
    return rng.choice(comb, per_clip, replace=len(comb) < per_clip)


def _nearby(rng: np.random.Generator, starts: np.ndarray, start: int, min_gap: int, count: int) -> tuple[int, ...]:
    """`count` of the starts, `min_gap` to NEARBY frames off `start`; where there is none, `start` itself."""
    distance = np.abs(starts - start)
    near = starts[(distance >= min_gap) & (distance <= max(NEARBY, min_gap))]
    return tuple(rng.choice(near if len(near) else [start], count, replace=len(near) < count).tolist()) if count else ()


def _two_apart(rng: np.random.Generator, starts: np.ndarray, gap: int) -> tuple[int, int]:
    """Two of the sorted `starts` at least `gap` >= 1 frames apart; exists when their span is at least `gap`."""
    # Starts in the middle of a short clip may have no partner that far away: only those that have one are drawn.
    gap = max(gap, 1)
    partnered = starts[(starts - starts[0] >= gap) | (starts[-1] - starts >= gap)]
    first = int(rng.choice(partnered))
    return first, int(rng.choice(starts[np.abs(starts - first) >= gap]))
