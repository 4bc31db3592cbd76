"""How many frames the sound lags behind the lips, without and with an expert, for one clip and for a corpus.

A clip gives a curve: how well lips and sound agree at each lag of -VSHIFT … +VSHIFT frames; a positive lag means that
the sound comes too late. Two gauges make such curves:

    LOUDNESS    correlation of loudness with what the mouth does; needs no network
    EXPERT      mean P_sync by an expert

What LOUDNESS can tell, tried with shifts planted into drawn faces and into 136 real clips of 51 people:

    a corpus    its mean curve peaks within two frames of the truth from 20 clips on (real ones at +1, as lips move
                before there is sound). In samples of 20 real clips, sound 3 frames late or more was always reported;
                sound 8 frames early in every second one, and in 95 of 100 samples of 50. In sync, nothing ever was.
    one clip    peaks anywhere within half a second, so a peak counts only where it is high and stands alone. Nine in
                ten drawn clips have such a peak, one in four real ones, and of these one in fifteen is still off by
                five frames or more.

What EXPERT can tell, tried with four experts of little data on 29 real clips of 14 people that none of them had seen:
two that tell 0.78 of pairs agree within a frame on all 29; two that tell 0.69, trained on different people, on 26. With
the speech of another clip, the mean curve's peak stays below 0.035. A peak that
fewer than 50 pairs of windows speak for must stand out by as much more: of pieces of these clips, 24 to 50 frames long,
three in 900 clear answers were then off by more than two frames, for experts that tell 0.69 to 0.78; with the demand of
long clips, up to a third of those of 24 frames.

Where every clip is late by another amount the mean curve has no peak, and yet there is a link: many clips have a peak
of their own. How many have one by chance depends on their length and on the expert (with the speech of others one in
five of 25 frames, one in a hundred to one in ten of 250), so it is measured on the same clips with their speech
backwards: as long and as varied, but the lips' at no lag. Tried with five experts: speech of others, in 100 to 1000
clips of 25 to 250 frames, was never taken for a link; sound with up to 8 frames of offset planted in each clip always.
"""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from scipy.ndimage import gaussian_filter1d
from scipy.stats import binomtest

from clips.index import Alignment
from evaluation.bootstrap import confidence_interval
from evaluation.expert_metrics import FEWEST_PAIRS, p_sync
from evaluation.lse import VSHIFT

LAGS = np.arange(-VSHIFT, VSHIFT + 1)
TREND_FRAMES = 25  # slower changes, such as of the light, are taken out of both signals
NEIGHBOURS = 4  # frames around a peak that belong to it
FEWEST_FRAMES = 50  # of a clip: shorter ones correlate by chance

FEWEST_CLIPS = 8  # from which a mean curve is believed when it is off …
FEWEST_FOR_NO_LINK = 20  # … and when it has no peak at all
CLEARLY_MORE = 2  # times as many clips with a clear peak as backwards, and …
BY_CHANCE = 0.01  # … this improbable by chance: then there is a link


@dataclass(frozen=True)
class Gauge:
    how: str  # for people: what was measured and how sure it is
    no_link_hint: str  # for people: what to look at when lips and sound agree at no lag
    link: float  # height of a mean curve's peak above its median, at least
    corpus_tolerance: int  # frames, of the mean curve's peak
    clip_tolerance: int  # frames, of one clip's peak
    clear_height: float  # a clip's peak counts from this height on …
    clear_prominence: float  # … and this much above all lags that are not its neighbours …
    enough_pairs: int  # … where so many pairs speak for it; with fewer, by as much more
    believable_share: float  # of clear clips that may be off by the gauge's own error …
    believable: int  # … or this many, however few there are


LOUDNESS = Gauge(
    "loudness against mouth motion: right to 2 frames for a whole corpus, for one clip only when grossly off; "
    "--checkpoint_path EXPERT measures better",
    no_link_hint="Look at a few clips: is it their own sound, do the crops show the mouth, do they face the camera? Or "
    "each is late by another amount, which an expert can tell (--checkpoint_path)",
    link=0.1,  # real clips: 0.2, drawn ones 0.6
    corpus_tolerance=2,
    clip_tolerance=4,
    clear_height=0.4,
    clear_prominence=0.15,
    enough_pairs=1,  # FEWEST_FRAMES sees to it
    believable_share=0.1,
    believable=2,
)
EXPERT = Gauge(
    "by the expert: right to a frame where it was trained on other clips; of its own it has learnt the offset too",
    no_link_hint="The expert has not learnt these faces yet, or the sound is not theirs; try without --checkpoint_path",
    link=0.05,  # real clips: 0.07 to 0.13
    corpus_tolerance=1,
    clip_tolerance=2,
    clear_height=-np.inf,
    clear_prominence=0.05,
    enough_pairs=50,
    believable_share=0.02,
    believable=0,
)


@dataclass(frozen=True)
class Agreement:
    """How well lips and sound of one clip agree at each of LAGS, and how well by chance: with the sound backwards."""

    curve: np.ndarray
    by_chance: np.ndarray
    pairs: int  # at lag 0; one fewer at each lag further


def loudness(mel: np.ndarray, first_frame: int, frames: int, alignment: Alignment) -> np.ndarray:
    """Mean of the mel (80, S) during each frame, (n,): n < frames where the mel ends sooner."""
    edges = [alignment.expert_start(first_frame + i) for i in range(frames + 1)]
    columns = mel.mean(axis=0)
    spans = zip(edges, edges[1:], strict=False)
    return np.array([columns[start:end].mean() for start, end in spans if end <= len(columns)])


def mouth_activity(grey: np.ndarray, motion_of_mouth: np.ndarray, motion_of_rest: np.ndarray) -> np.ndarray:
    """How much the mouth does, (n,): its contrast, as an open mouth is dark inside, and its motion.

    grey: float32 (n, h, w) of the mouth region; motions (n,): mean change over two frames. What the rest of the face
    does too is movement of the head.
    """
    motion = np.log(motion_of_mouth + 0.3) - 0.7 * np.log(motion_of_rest + 0.3)
    return _standardised(grey.std(axis=(1, 2))) + _standardised(motion)


def agreement_by_lag(activity: np.ndarray, loudness: np.ndarray) -> Agreement | None:
    """Correlation at each of LAGS, of two signals with a value per frame; None if too short or constant."""
    n = min(len(activity), len(loudness))
    picture, sound = _standardised(activity[:n]), _standardised(loudness[:n])
    if n < FEWEST_FRAMES or not picture.any() or not sound.any():
        return None

    def by_lag(sound: np.ndarray) -> np.ndarray:
        # The picture at i goes with the sound at i + lag.
        pairs = ((picture[max(0, -lag) : n - max(0, lag)], sound[max(0, lag) : n + min(0, lag)]) for lag in LAGS)
        return np.array([_correlation(a, b) for a, b in pairs])

    return Agreement(by_lag(sound), by_lag(sound[::-1]), n)


def p_sync_by_lag(face: np.ndarray, speech: np.ndarray) -> Agreement | None:
    """Mean P_sync at each of LAGS, of embeddings (n, D) with a window per frame; None if too short."""
    if len(face) < VSHIFT + FEWEST_PAIRS:
        return None

    def by_lag(matrix: np.ndarray) -> np.ndarray:
        return np.array([matrix.diagonal(lag).mean() for lag in LAGS])  # the picture at i with the sound at i + lag

    matrix = p_sync(face, speech)
    return Agreement(by_lag(matrix), by_lag(matrix[:, ::-1]), len(matrix))


def corrected(agreement: Agreement | None, late: int) -> Agreement | None:
    """That of a clip once its sound is read `late` frames later; lags that come in at an end agree least."""
    if agreement is None or not late:
        return agreement
    curve = agreement.curve
    moved = np.full_like(curve, curve.min())
    kept = slice(max(0, -late), len(curve) - max(0, late))
    moved[kept] = curve[max(0, late) : len(curve) + min(0, late)]
    return dataclasses.replace(agreement, curve=moved)


class Lags:
    """What many clips say together. clips: their names; measured: one a clip, None = not measurable."""

    def __init__(self, gauge: Gauge, clips: Iterable[str], measured: Iterable[Agreement | None]):
        self.gauge = gauge
        known = [(clip, agreement) for clip, agreement in zip(clips, measured, strict=True) if agreement is not None]
        self.clips = [clip for clip, _ in known]
        self.curves = np.array([agreement.curve for _, agreement in known]).reshape(-1, len(LAGS))
        self._agreements = [agreement for _, agreement in known]

    @cached_property
    def corpus_lag(self) -> int:
        """Frames by which the sound of the corpus as a whole seems late; only for at least one clip."""
        return int(LAGS[self.curves.mean(axis=0).argmax()])

    @cached_property
    def no_common_lag(self) -> bool:
        """Whether the mean curve of many clips has no peak: no link, or at another lag in every clip."""
        mean = self.curves.mean(axis=0) if len(self.clips) else np.zeros(1)
        return len(self.clips) >= FEWEST_FOR_NO_LINK and mean.max() - np.median(mean) < self.gauge.link

    @property
    def no_link(self) -> bool:
        """Whether lips and sound of many clips agree at no lag, neither all together nor each at its own."""
        if not self.no_common_lag:
            return False
        # However few its pairs: chance is as high backwards.
        clear = [self._clear_peak(agreement.curve) is not None for agreement in self._agreements]
        by_chance = [self._clear_peak(agreement.by_chance) is not None for agreement in self._agreements]
        if sum(clear) <= CLEARLY_MORE * sum(by_chance):
            return True
        # Without a link, clips that are clear in one direction only are as often clear in either (McNemar 1947).
        either = [(here, there) for here, there in zip(clear, by_chance, strict=True) if here != there]
        return binomtest(sum(here for here, _ in either), len(either), alternative="greater").pvalue > BY_CHANCE

    @cached_property
    def corpus_is_off(self) -> bool:
        """Whether the mean curve peaks beyond the tolerance, whichever of the clips are drawn (see bootstrap.py)."""
        if len(self.clips) < FEWEST_CLIPS or self.no_common_lag:
            return False
        low, high = confidence_interval(self.curves, of_mean=lambda mean: LAGS[mean.argmax(axis=-1)])
        return bool(low > self.gauge.corpus_tolerance or high < -self.gauge.corpus_tolerance)

    @cached_property
    def clear(self) -> dict[str, int]:
        """Lag by clip, of the clips with a clear peak."""
        return {clip: lag for clip, (lag, _) in self.clear_with_prominence.items()}

    @cached_property
    def clear_with_prominence(self) -> dict[str, tuple[int, float]]:
        """As `clear`, with how far the peak stands above all lags that are not its neighbours."""
        known = zip(self.clips, self._agreements, strict=True)
        peaks = {clip: self._clear_peak(agreement.curve, agreement.pairs) for clip, agreement in known}
        return {clip: peak for clip, peak in peaks.items() if peak is not None}

    def _clear_peak(self, curve: np.ndarray, pairs: int | None = None) -> tuple[int, float] | None:
        """(lag, prominence) of a curve's peak, if it is clear; pairs: of the clip, None = enough."""
        lag, height, prominence = _peak(curve)
        wanted = self.gauge
        # Few pairs agree by chance, above all at the far lags of short clips.
        few = wanted.enough_pairs / (pairs - abs(lag)) if pairs else 1
        demanded = wanted.clear_prominence * max(1, few)
        # At an end, agreement may go on rising beyond it: that is no peak.
        is_clear = abs(lag) < VSHIFT and height >= wanted.clear_height and prominence >= demanded
        return (lag, prominence) if is_clear else None

    @property
    def clips_off(self) -> dict[str, int]:
        """Of the clear ones, those that are off; where the whole corpus is, those that are off from it."""
        usual = self.corpus_lag if self.corpus_is_off else 0
        return {clip: lag for clip, lag in self.clear.items() if abs(lag - usual) > self.gauge.clip_tolerance}

    @property
    def clips_off_may_be_error(self) -> bool:
        """Whether so few are off that the gauge may have erred in all of them."""
        return len(self.clips_off) <= max(self.gauge.believable, self.gauge.believable_share * len(self.clear))


def _peak(curve: np.ndarray) -> tuple[int, float, float]:
    """(lag, height, height above all lags that are not neighbours)."""
    best = int(curve.argmax())
    elsewhere = np.abs(np.arange(len(curve)) - best) > NEIGHBOURS
    return int(LAGS[best]), float(curve[best]), float(curve[best] - curve[elsewhere].max())


def _standardised(signal: np.ndarray) -> np.ndarray:
    """Without its slow trend, mean 0, deviation 1; zeros where nothing changes."""
    if len(signal) == 0:
        return signal
    fast = signal - gaussian_filter1d(signal, TREND_FRAMES)
    fast = fast - fast.mean()
    deviation = fast.std()
    return fast / deviation if deviation > 1e-3 else np.zeros_like(fast)


def _correlation(a: np.ndarray, b: np.ndarray) -> float:
    a, b = a - a.mean(), b - b.mean()
    return float(a @ b / np.sqrt((a @ a) * (b @ b) + 1e-9))


def in_words(lag: int) -> str:
    """A lag of the sound behind the lips, in frames."""
    frames = "frame" if abs(lag) == 1 else "frames"
    return f"{abs(lag)} {frames} {'late' if lag > 0 else 'early'}" if lag else "in time"
