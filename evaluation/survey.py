"""Looking through a data set: what its lists, its manifest and its clips show, for data_doctor.py to judge.

The lists, the manifest and a small imprint are taken of all clips; faces and sound closely of a sample.
"""

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cached_property, partial
from multiprocessing.pool import ThreadPool
from pathlib import Path

import cv2
import numpy as np
from tqdm import tqdm

from clips import filelists, manifest, official
from clips.corpus import Corpus, open_split
from clips.index import Alignment
from errors import UserError
from evaluation.clip_signs import Imprint, Signs, examine, glance
from evaluation.judges import ExpertJudge
from evaluation.lip_lag import EXPERT, LOUDNESS, Agreement, Lags, corrected, p_sync_by_lag
from hparams import HParams

SAMPLED_CLIPS = 2000  # examined closely; some minutes on two cores
JUDGED_CLIPS, JUDGED_FRAMES = 100, 100  # through the expert, if there is one


@dataclass(frozen=True)
class Survey:
    """All that the checks look at; clips by name."""

    hp: HParams
    corpora: dict[str, Corpus]  # by split
    rows: dict[str, manifest.Row]
    facts: dict[str, dict]  # what preprocessing wrote into each clip
    imprints: dict[str, Imprint]
    signs: dict[str, Signs]  # of the sampled clips
    damaged: dict[str, str]  # reason by clip, of those that could not be read
    lags: Lags
    unusable: dict[str, UserError]  # reason by split, of lists that cannot be used

    @cached_property
    def names(self) -> list[str]:
        """Every clip once."""
        return list(dict.fromkeys(name for corpus in self.corpora.values() for name in corpus.names))


def splits_in(lists: str | Path) -> tuple[str, ...]:
    """train and val, and test where there is such a list."""
    test = Path(lists) / "test.txt"
    return filelists.SPLITS if test.exists() and test.read_bytes().strip() else filelists.SPLITS[:2]


def open_splits(root, lists, hp: HParams) -> dict[str, Corpus]:
    """Every split; UserError where one cannot be used."""
    return {split: _open_split(root, lists, split, hp) for split in splits_in(lists)}


def open_usable_splits(root, lists, hp: HParams) -> tuple[dict[str, Corpus], dict[str, UserError]]:
    """The splits that can be used, and the reason for each that cannot; UserError where none can."""
    corpora, unusable = {}, {}
    for split in splits_in(lists):
        try:
            corpora[split] = _open_split(root, lists, split, hp)
        except UserError as reason:
            unusable[split] = reason
    if not corpora:
        raise unusable["train"]
    return corpora, unusable


def _open_split(root, lists, split: str, hp: HParams) -> Corpus:
    return open_split(root, lists, split, hp, "expert", span=hp.syncnet_min_gap)


def look_through(
    corpora: dict[str, Corpus], hp: HParams, judge: ExpertJudge | None, unusable: dict[str, UserError]
) -> Survey:
    """judge: measures the lags; None = they are measured by loudness."""
    where = {name: (corpus, i) for corpus in corpora.values() for i, name in enumerate(corpus.names)}
    rows = rows_of(next(iter(corpora.values())), where)
    runs = {name: max(rows[name].runs, key=lambda run: run[1] - run[0]) for name in where}
    sample = sampled(list(where), SAMPLED_CLIPS, hp.seed)
    damaged = {}

    def at_a_glance(name):
        corpus, index = where[name]
        clip = corpus.open(index)
        return {} if corpus.is_official else clip.facts, glance(clip, runs[name])

    def closely(name):
        corpus, index = where[name]
        return examine(corpus.open(index), rows[name].frames, runs[name], hp)

    def by_expert(name):
        corpus, index = where[name]
        return judged_agreement(judge, corpus.open(index), runs[name], hp)

    # Clips of the official layout have no mel at hand: to look at all of them takes as long as an epoch.
    is_official = any(corpus.is_official for corpus in corpora.values())
    glances = for_each(sample if is_official else where, at_a_glance, "glancing at clips", damaged)
    signs = for_each([name for name in sample if name in glances], closely, "examining clips", damaged)
    if judge is None:
        gauge, agreements = LOUDNESS, {name: sign.agreement for name, sign in signs.items()}
    else:
        # One after the other: the network uses all cores itself.
        names = tqdm(sampled(list(signs), JUDGED_CLIPS, hp.seed), desc="measuring offsets", unit="clip", disable=None)
        gauge, agreements = EXPERT, dict(filter(None, (attempted(name, by_expert, damaged) for name in names)))
    # What is corrected when it is read is in order.
    late = {name: corpus.late[index] for name, (corpus, index) in where.items()}
    agreements = {name: corrected(agreement, late[name]) for name, agreement in agreements.items()}
    return Survey(
        hp=hp,
        corpora=corpora,
        rows=rows,
        facts={name: facts for name, (facts, _) in glances.items()},
        imprints={name: imprint for name, (_, imprint) in glances.items()},
        signs=signs,
        damaged=damaged,
        lags=Lags(gauge, agreements.keys(), agreements.values()),
        unusable=unusable,
    )


def rows_of(corpus: Corpus, names: Iterable[str]) -> dict[str, manifest.Row]:
    if corpus.is_official:
        return official.scan(corpus.root, list(names), Alignment.of(corpus.hp))
    return {row.clip: row for row in manifest.read(corpus.root).values()}


def sampled(names: list[str], count: int, seed: int) -> list[str]:
    """All of them, or `count` that depend on the seed only."""
    if len(names) <= count:
        return names
    return [names[i] for i in sorted(np.random.default_rng(seed).choice(len(names), count, replace=False))]


def for_each(names: Iterable[str], look: Callable, doing: str, damaged: dict[str, str]) -> dict:
    """look(name) by name, in as many threads as there are cores; reasons of clips that cannot be read go to `damaged`.

    Threads do, as most of the time goes into decoding and array maths, which release the interpreter.
    """

    names = list(names)
    with ThreadPool(os.cpu_count()) as pool:
        looked = pool.imap(partial(attempted, look=look, damaged=damaged), names)
        return dict(filter(None, tqdm(looked, total=len(names), desc=doing, unit="clip", disable=None)))


def attempted(name: str, look: Callable, damaged: dict[str, str]) -> tuple | None:
    """(name, look(name)), or None where the clip cannot be read; the reason goes to `damaged`."""
    try:
        return name, look(name)
    except UserError as reason:
        damaged[name] = str(reason)
        return None


def judged_agreement(
    judge: ExpertJudge, clip, run: tuple[int, int], hp: HParams, frames: int = JUDGED_FRAMES
) -> Agreement | None:
    """As Signs.agreement, by the expert, over the first `frames` of a run of faces at most."""
    first, count = run[0], min(run[1] - run[0], frames)
    side = (judge.crop_size, judge.crop_size)
    faces = (cv2.resize(face, side, interpolation=cv2.INTER_AREA) for face in clip.read(first, count))
    speech = clip.speech()[first * hp.sample_rate // hp.fps :]
    features = judge.embed(faces, speech[: count * hp.sample_rate // hp.fps])
    return p_sync_by_lag(features.face, features.audio)
