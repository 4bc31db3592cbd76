"""evaluation/expert_metrics.py, expert_report.py and bootstrap.py promise: each metric is what a person would compute
by hand, chance scores as chance, offsets have LSE's sign, intervals hold the truth, and batches change nothing."""

import dataclasses

import numpy as np
import pytest
import scipy.stats
import torch

from clips.corpus import open_split
from clips.dataset import ExpertDataset
from clips.sampling import EvaluationSampling
from evaluation import sync_scores
from evaluation.bootstrap import confidence_interval, mean_over_clips
from evaluation.expert_metrics import (
    OFFSETS,
    OTHER_CLIPS,
    EmbeddedClip,
    calibration_error,
    calibration_gap,
    offset_of,
    pair_counts,
    values_by_clip,
)
from evaluation.expert_report import (
    MOVED_EVERY,
    ROWS,
    SHOWN_OFFSETS,
    ExpertReport,
    _wrong_offsets,
    displaced,
    embed_clips,
    measure_expert,
)
from hparams import HParams, resolve
from models import SyncNetExpert
from training.data import evaluation_batches
from training.losses import expert_bce
from training.recipes.expert import ExpertRecipe

HP = HParams()
MIN_GAP = 2


def unit(vectors) -> np.ndarray:
    vectors = np.asarray(vectors, float)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def clip_of(face, speech, first=0) -> EmbeddedClip:
    """Every eighth window is also seen displaced, which changes nothing."""
    moved = np.arange(0, len(face), 8)
    return EmbeddedClip(np.arange(first, first + len(face)), face, speech, moved, face[moved])


def random_clips(rng, count, windows=24, dims=16) -> list[EmbeddedClip]:
    """An expert that knows nothing: faces and speech have nothing in common."""
    return [clip_of(*(unit(rng.uniform(0, 1, (windows, dims)) ** 4) for _ in range(2))) for _ in range(count)]


def perfect_clips(count, windows=24, early=0) -> list[EmbeddedClip]:
    """An expert that is always right; the sound comes `early` frames too early."""
    clips = []
    for i in range(count):
        said = np.zeros((windows, 200))
        # The face at v shows what is said at v + early in the sound's own time, that is, what was heard at v - early.
        said[np.arange(windows), (np.arange(windows) + 50 * i) % 200] = 1
        clips.append(clip_of(said, np.roll(said, -early, axis=0)))
    return clips


def mean_values(clips, min_gap=MIN_GAP) -> dict:
    return {name: mean_over_clips(values) for name, values in values_by_clip(clips, min_gap).items()}


def all_pairs(clips, min_gap=MIN_GAP):
    """(P_sync, frames between, clip) of every face with every speech of its clip, one at a time."""
    for number, clip in enumerate(clips):
        for face, at in zip(clip.face, clip.start, strict=True):
            for speech, heard in zip(clip.speech, clip.start, strict=True):
                if heard == at or abs(heard - at) >= min_gap:
                    yield float(np.clip(face @ speech, 0, 1)), int(heard - at), number


# each metric


def test_a_perfect_expert_scores_one_everywhere():
    values = mean_values(perfect_clips(4))
    for name in ("accuracy", "pair_accuracy", "other_clips_accuracy", "auc", "offset_accuracy", "confident"):
        assert values[name] == 1, name
    assert values["confident_offset_accuracy"] == values["moved_pair_accuracy"] == 1
    assert values["bce"] == values["moved_change"] == calibration_error(values["calibration_gap"]) == 0


def test_a_random_expert_scores_chance():
    values = mean_values(random_clips(np.random.default_rng(0), 200))
    for name in ("accuracy", "pair_accuracy", "other_clips_accuracy", "auc", "moved_pair_accuracy"):
        assert values[name] == pytest.approx(0.5, abs=0.03), name
    # Means over few windows scatter more, so the outermost offsets win more often than their share.
    assert values["offset_accuracy"] < 3 / 31 + 0.04


def test_the_metrics_of_three_windows_by_hand():
    # Rows of P_sync, faces by speech: only the diagonal and the two corners (two frames apart) count at a gap of 2.
    face = np.eye(3)
    speech = np.array([[0.6, 0, 0.8], [0, 1, 0], [0.28, 0, 0.96]])
    clip = clip_of(face, speech)
    assert clip.face @ clip.speech.T == pytest.approx(np.array([[0.6, 0, 0.28], [0, 1, 0], [0.8, 0, 0.96]]))
    values = mean_values([clip])
    in_sync, off_sync = np.array([0.6, 1, 0.96]), np.array([0.28, 0.8])
    assert values["accuracy"] == pytest.approx((1 + 1 / 2) / 2)
    assert values["bce"] == pytest.approx(-np.log(in_sync).mean() / 2 - np.log(1 - off_sync).mean() / 2)
    assert values["auc"] == pytest.approx((3 + 2) / 6)  # 0.28 is below all three, 0.8 below two
    # bins: 0.28 | 0.6 | 0.8 | 0.96 and 1
    expected = 0.28 / 4 + 0.4 / 6 + 0.8 / 4 + 0.04 / 6
    assert calibration_error(values["calibration_gap"]) == pytest.approx(expected)
    assert np.isnan(values["pair_accuracy"])  # no speech is five frames away
    assert np.isnan(values["offset_accuracy"])
    assert np.isnan(values["other_clips_accuracy"])
    assert values["curve"][13:18] == pytest.approx([0.28, 0, 2.56 / 3, 0, 0.8])  # offset +2: face 2 with speech 0
    assert np.isnan(np.delete(values["curve"], range(13, 18))).all()
    assert pair_counts([clip], MIN_GAP) == {
        "clips": 1,
        "windows": 3,
        "off_sync_pairs": 2,
        "far_pairs": 0,
        "other_clips_pairs": 0,
        "moved_windows": 1,
    }
    counts = pair_counts([clip, clip], MIN_GAP)
    assert counts["other_clips_pairs"] == 2 * 3 * 3


def test_loss_accuracies_and_curve_equal_a_loop_over_all_pairs():
    clips = random_clips(np.random.default_rng(1), 3)
    values = mean_values(clips)
    pairs = list(all_pairs(clips))
    in_sync = np.array([p for p, shift, _ in pairs if shift == 0])
    off_sync = np.array([p for p, shift, _ in pairs if shift != 0])
    assert values["accuracy"] == pytest.approx(((in_sync > 0.5).mean() + (off_sync <= 0.5).mean()) / 2)
    loss = [expert_bce(torch.tensor(p), torch.full((len(p),), y)) for p, y in ((in_sync, 1.0), (off_sync, 0.0))]
    assert values["bce"] == pytest.approx(float(sum(loss)) / 2, rel=1e-6)
    for offset, mean in zip(OFFSETS, values["curve"], strict=True):
        if abs(offset) != 1:  # closer than the gap of all_pairs
            assert mean == pytest.approx(np.mean([p for p, shift, _ in pairs if shift == -offset]))


def test_pair_accuracy_equals_a_loop_and_counts_ties_half():
    rng = np.random.default_rng(2)
    # few different embeddings, so that many pairs tie
    clips = [clip_of(np.eye(16)[rng.integers(0, 3, 24)], np.eye(16)[rng.integers(0, 3, 24)]) for _ in range(3)]
    by_hand = []
    for clip in clips:
        p = clip.face @ clip.speech.T
        by_hand += [np.sign(p[i, i] - p[i, j]) / 2 + 0.5 for i in range(24) for j in range(24) if abs(i - j) >= 5]
    assert 0 < by_hand.count(0.5) < len(by_hand)
    assert mean_values(clips)["pair_accuracy"] == pytest.approx(np.mean(by_hand))


def test_accuracy_against_other_clips_equals_a_loop_over_all_of_them():
    clips = random_clips(np.random.default_rng(3), 4, windows=6)  # as few clips as are compared
    by_hand = [
        clips[a].face[i] @ clips[a].speech[i] > clips[a].face[i] @ clips[b].speech[j]
        for a in range(4)
        for b in range(4)
        for i in range(6)
        for j in range(6)
        if a != b
    ]
    assert mean_values(clips)["other_clips_accuracy"] == pytest.approx(np.mean(by_hand))


def test_auc_is_mann_whitneys_over_all_clips_together():
    rng = np.random.default_rng(4)
    clips = random_clips(rng, 5)
    clips += [clip_of(np.eye(16)[rng.integers(0, 3, 24)], np.eye(16)[rng.integers(0, 3, 24)])]  # with ties
    pairs = list(all_pairs(clips))
    in_sync, off_sync = [p for p, s, _ in pairs if s == 0], [p for p, s, _ in pairs if s != 0]
    u = scipy.stats.mannwhitneyu(np.round(in_sync, 12), np.round(off_sync, 12)).statistic
    assert mean_values(clips)["auc"] == pytest.approx(u / len(in_sync) / len(off_sync), abs=1e-9)


def test_every_clip_weighs_the_same_however_long_it_is():
    rng = np.random.default_rng(5)
    short, long = random_clips(rng, 1, windows=8), random_clips(rng, 1, windows=40)
    for name in ("bce", "accuracy", "pair_accuracy", "moved_pair_accuracy"):
        both = mean_values(short + long)[name]
        assert both == pytest.approx((mean_values(short)[name] + mean_values(long)[name]) / 2), name


def test_calibration_error_of_a_probability_is_zero_and_of_an_overconfident_one_its_excess():
    p = np.array([0.25] * 4 + [0.75] * 4)
    label = np.array([1, 0, 0, 0, 1, 1, 1, 0])
    assert calibration_error(calibration_gap(p[label == 1], p[label == 0])) == pytest.approx(0)
    sure = np.where(p > 0.5, 0.95, 0.05)
    assert calibration_error(calibration_gap(sure[label == 1], sure[label == 0])) == pytest.approx(0.2)


# offsets


@pytest.mark.parametrize("early", [-7, -1, 0, 1, 2, 7])
def test_a_shifted_sound_shows_its_offset_with_the_sign_of_lse(early):
    clips = perfect_clips(3, windows=40, early=early)
    values = mean_values(clips)
    assert OFFSETS[np.nanargmax(values["curve"])] == early
    assert sync_scores(clips[0].face, clips[0].speech, 15)[0] == early
    assert values["offset_accuracy"] == (abs(early) <= 1)


def test_clips_too_short_for_every_offset_have_none_and_are_not_counted():
    clips = perfect_clips(1, windows=19) + perfect_clips(1, windows=20)
    assert values_by_clip(clips, MIN_GAP)["offset_accuracy"].tolist() == pytest.approx([np.nan, 1], nan_ok=True)


def test_a_flat_curve_is_neither_right_nor_confident():
    assert offset_of(np.full(31, 0.7), windows=40) == (0, 0)
    peak_at_one = 0.5 + 0.2 * (OFFSETS == 1)
    assert offset_of(peak_at_one, windows=40) == (1, 1)
    assert offset_of(0.5 + 0.05 * (OFFSETS == 1), windows=40) == (1, 0)


# intervals


def test_the_interval_holds_the_truth_about_as_often_as_it_says():
    rng = np.random.default_rng(6)
    held = 0
    for trial in range(300):
        low, high = confidence_interval(rng.beta(2, 1, size=40), seed=trial)
        held += low <= 2 / 3 <= high
    assert 0.89 <= held / 300 <= 0.98  # 0.95 in the limit; a little less with 40 clips


def test_the_interval_of_the_auc_is_that_of_computing_it_anew_for_each_resample():
    rng = np.random.default_rng(7)
    clips = random_clips(rng, 30)
    shared = [0.2 * rng.uniform(size=(24, 16)) * rng.uniform() for _ in clips]
    clips = [clip_of(unit(c.face + s), unit(c.speech + s)) for c, s in zip(clips, shared, strict=True)]
    low, high = confidence_interval(values_by_clip(clips, MIN_GAP)["auc"])
    anew = [mean_values([clips[i] for i in rng.integers(0, 30, 30)])["auc"] for _ in range(200)]
    assert [low, high] == pytest.approx(np.quantile(anew, [0.025, 0.975]), abs=0.01)


def test_intervals_are_the_same_each_time_and_missing_where_one_clip_speaks():
    values = np.random.default_rng(8).normal(size=(20, 3))
    values[1:, 1] = np.nan
    values[4:, 2] = np.nan
    low, high = confidence_interval(values, seed=5)
    assert np.array_equal((low, high), confidence_interval(values, seed=5), equal_nan=True)
    assert np.isnan([low[1], high[1]]).all()
    assert mean_over_clips(values)[1] == values[0, 1]
    assert low[2] < values[:4, 2].mean() < high[2]


# from windows to the report


@pytest.fixture(scope="module")
def expert():
    torch.manual_seed(0)
    return SyncNetExpert(96, 0.0625).eval()


def batches_of(store, batch_size, per_clip=24):
    corpus = open_split(store, store / "lists", "train", HP, "expert")
    sampling = EvaluationSampling(corpus, per_clip, MIN_GAP)
    return evaluation_batches(ExpertDataset(corpus, 96), sampling, len(sampling), batch_size)


def test_the_report_is_the_same_for_any_batch_size(store, expert):
    small, large = (measure_expert(expert, batches_of(store, size)(), MIN_GAP) for size in (7, 64))
    for name, measured in small.metrics.items():
        # Convolutions over other batches round otherwise.
        assert dataclasses.astuple(measured) == pytest.approx(
            dataclasses.astuple(large.metrics[name]), abs=2e-3, nan_ok=True
        ), name
    assert small.curve == pytest.approx(large.curve, abs=1e-5)
    off_sync_pairs = {"off_sync_pairs": 8 * (24 * 24 - 70), "far_pairs": 8 * 19 * 20}
    others = {"other_clips_pairs": 8 * 24 * 24 * min(OTHER_CLIPS, 7), "moved_windows": 8 * 24 // MOVED_EVERY}
    assert small.counts == large.counts == {"clips": 8, "windows": 8 * 24} | off_sync_pairs | others


def test_experts_of_other_seeds_hear_the_same_other_clips(store, expert):
    def measured(seed: int) -> dict[str, float]:
        recipe = ExpertRecipe(resolve(overrides=f"width=0.0625,seed={seed}"), torch.device("cpu"))
        recipe.networks["expert"].load_state_dict(expert.state_dict())
        return recipe.evaluate(batches_of(store, 64)()).details

    assert measured(1) == pytest.approx(measured(2), nan_ok=True)


def test_windows_come_together_by_clip_whatever_their_order(store, expert):
    batches = list(batches_of(store, 16)())
    clips = embed_clips(expert, batches)
    again = embed_clips(expert, batches[::-1])
    assert [c.start.tolist() for c in clips] == [list(range(6, 30))] * 8
    assert [(c.start[c.moved] % 8 == 0).all() and len(c.moved) == 3 for c in clips] == [True] * 8
    for a, b in zip(clips, again, strict=True):
        assert np.array_equal(a.face, b.face)
        assert np.array_equal(a.moved_face, b.moved_face)


def test_displaced_crops_are_shifted_copies_with_repeated_edges():
    faces = torch.randint(0, 255, (6, 5, 96, 96, 3), dtype=torch.uint8)
    place = torch.tensor([[3, 8 * i] for i in range(6)])
    moved = displaced(faces, place)
    assert moved.shape == faces.shape
    seen = set()
    for before, after in zip(faces.numpy(), moved.numpy(), strict=True):
        padded = np.pad(before, ((0, 0), (3, 3), (3, 3), (0, 0)), "edge")
        fits = [
            (dy, dx) for dy in range(7) for dx in range(7) if (padded[:, dy : dy + 96, dx : dx + 96] == after).all()
        ]
        assert len(fits) == 1
        seen |= set(fits)
    assert len(seen) > 3
    # the place of a window decides, not that in the batch
    assert torch.equal(displaced(faces[2:3], place[2:3]), moved[2:3])


def test_an_untrained_expert_is_reported_as_knowing_nothing(store, expert):
    report = measure_expert(expert, batches_of(store, 64)(), MIN_GAP)
    low, high = report.metrics["accuracy"].low, report.metrics["accuracy"].high
    assert low <= 0.5 <= high or report.metrics["accuracy"].value == pytest.approx(0.5, abs=0.05)
    lines = report.table().splitlines()
    assert len(lines) == len(ROWS) + 6
    counted = "8 clips, 192 pairs in sync, 4048 off sync (same clip, at least 2 frames apart; 3040 at least 5), "
    counted += f"{8 * 24 * 24 * OTHER_CLIPS} with speech of other clips, 24 moved crops"
    assert counted in lines[-5]
    assert lines[-4].split()[3:] == [f"{offset:+d}" if offset else "0" for offset in SHOWN_OFFSETS]
    for line, curve in zip(lines[-3:], (report.curve, report.curve_low, report.curve_high), strict=True):
        at_zero = line.split()[-len(SHOWN_OFFSETS) :][SHOWN_OFFSETS.index(0)]
        assert float(at_zero) == pytest.approx(curve[15], abs=6e-4)
    assert report.values().keys() == {name for name, _, _ in ROWS}
    chart = report.chart()
    assert chart.dtype == np.uint8
    assert chart.shape == (400, 600, 3)
    assert chart.std() > 10


def test_clips_whose_curve_peaks_elsewhere_are_named():
    rng = np.random.default_rng(0)
    faces = unit(rng.uniform(0, 1, (40, 16)) ** 4)
    clips = [clip_of(faces, np.roll(faces, late, axis=0)) for late in (0, 4, 1, -3)]
    by_clip = values_by_clip(clips, MIN_GAP)
    wrong = _wrong_offsets(by_clip.pop("curve"), **by_clip)
    assert wrong == {1: (-4, True), 3: (3, True)}  # +: the sound comes too early
    report = ExpertReport({}, *np.zeros((3, 31)), {}, MIN_GAP, wrong | {2: (9, False)})
    said = report.name_wrong_offsets(["a", "b", "c", "d"])
    assert said == "P_sync peaks beyond 1 frame (+: sound too early, * confident): b -4*, d +3*, c +9"
    many = dataclasses.replace(report, wrong_offsets=dict.fromkeys(range(25), (5, False)))
    assert many.name_wrong_offsets([f"clip{i}" for i in range(25)]).endswith("clip19 +5, 5 more")
    flat, tie = np.full(31, 0.5), np.where(np.isin(OFFSETS, (0, 10)), 0.9, 0.1)
    assert _wrong_offsets(np.stack([flat, tie]), np.zeros(2), np.array([0, 1])) == {1: (10, True)}


def test_one_clip_has_values_but_no_intervals(store, expert):
    batch = next(batches_of(store, 24)())
    report = measure_expert(expert, [batch], MIN_GAP)
    assert np.isfinite(report.metrics["bce"].value)
    assert np.isnan(report.metrics["bce"].low)
    assert report.table().count("n/a") >= len(ROWS)
