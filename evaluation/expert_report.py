"""Measures a lip-sync expert on held-out clips: embeddings -> metrics with intervals -> curves, table, chart."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from evaluation import expert_metrics as metrics
from evaluation.bootstrap import LEVEL, confidence_interval, mean_over_clips
from evaluation.expert_metrics import EmbeddedClip
from evaluation.report import align
from models.inputs import expert_faces, to_float

NAMED = 20  # clips in a line, at most
MOVED_EVERY = 8  # every eighth window is looked at with displaced crops, too: it costs an eighth more
SHOWN_OFFSETS = (-15, -10, -7, -5, -4, -3, -2, -1, 0, 1, 2, 3, 4, 5, 7, 10, 15)  # of the curve, in the table
MOVED_BY = 1 / 32  # of the side of a crop, how far it is displaced at most: 3 px of 96

# name, what the table calls it, what an expert that knows nothing scores
ROWS = (
    ("bce", "BCE, half of the pairs in sync", "0.693"),
    ("accuracy", f"balanced accuracy at P_sync {metrics.THRESHOLD}", "0.500"),
    ("pair_accuracy", f"pair accuracy, same clip >= {metrics.FAR} frames away", "0.500"),
    ("other_clips_accuracy", "pair accuracy, speech of other clips", "0.500"),
    ("auc", "ROC AUC", "0.500"),
    ("calibration_error", "calibration error", ""),
    ("offset_accuracy", f"offset right within {metrics.TOLERANCE} frame", f"{3 / len(metrics.OFFSETS):.3f}"),
    ("confident_offset_accuracy", "  of the confident clips", ""),
    ("confident", f"  share of confident clips (peak >= median + {metrics.CONFIDENT})", ""),
    ("moved_change", "crops moved by up to 3%: change of in-sync P_sync", ""),
    ("moved_pair_accuracy", "crops moved by up to 3%: pair accuracy", "0.500"),
)


@dataclass(frozen=True)
class Measured:
    """One metric: its value, its 95% interval over clips, and how many clips had a say in it."""

    value: float
    low: float
    high: float
    clips: int


@dataclass(frozen=True)
class ExpertReport:
    """metrics by the names of ROWS; curve, curve_low, curve_high: mean P_sync at each of expert_metrics.OFFSETS."""

    metrics: dict[str, Measured]
    curve: np.ndarray
    curve_low: np.ndarray
    curve_high: np.ndarray
    counts: dict[str, int]
    min_gap: int
    wrong_offsets: dict[int, tuple[int, bool]]  # by place of the clip: where its curve peaks, and whether clearly

    def name_wrong_offsets(self, clips: list[str]) -> str:
        """One line with the clips whose curve peaks elsewhere than it should; clips: names in the order of places."""
        confident_first = sorted(self.wrong_offsets.items(), key=lambda item: not item[1][1])
        said = [f"{clips[i]} {offset:+d}{'*' * clear}" for i, (offset, clear) in confident_first]
        more = [f"{len(said) - NAMED} more"] if len(said) > NAMED else []
        named = ", ".join(said[:NAMED] + more) or "none"
        return f"P_sync peaks beyond {metrics.TOLERANCE} frame (+: sound too early, * confident): {named}"

    def values(self) -> dict[str, float]:
        return {name: measured.value for name, measured in self.metrics.items()}

    def table(self) -> str:
        """Each metric with its interval, and what they are made of."""
        rows = [["", "value", f"{LEVEL:.0%} interval", "chance", "clips"]]
        for name, title, chance in ROWS:
            m = self.metrics[name]
            interval = f"{m.low:.3f} to {m.high:.3f}" if np.isfinite(m.low) else "n/a"
            value = f"{m.value:.3f}" if m.clips else "n/a"
            rows.append([title, value, interval, chance, str(m.clips)])
        c = self.counts
        about = (
            f"{c['clips']} clips, {c['windows']} pairs in sync, {c['off_sync_pairs']} off sync (same clip, at least "
            f"{self.min_gap} frames apart; {c['far_pairs']} at least {metrics.FAR}), {c['other_clips_pairs']} with "
            f"speech of other clips, {c['moved_windows']} moved crops; intervals: bootstrap over clips"
        )
        shown = np.isin(metrics.OFFSETS, SHOWN_OFFSETS)
        offsets = ["offset in frames", *(f"{offset:+d}" if offset else "0" for offset in metrics.OFFSETS[shown])]
        lines = {"mean P_sync": self.curve, f"{LEVEL:.0%} from": self.curve_low, "to": self.curve_high}
        curve = [[name, *(f"{value:.3f}" for value in values[shown])] for name, values in lines.items()]
        return f"{align(rows)}\n{about}\n{align([offsets, *curve])}"

    def chart(self) -> np.ndarray:
        """Mean P_sync against the offset with its interval, uint8 (H, W, 3) BGR."""
        figure = Figure(figsize=(6, 4), dpi=100, layout="tight")
        canvas = FigureCanvasAgg(figure)
        ax = figure.add_subplot()
        ax.fill_between(metrics.OFFSETS, self.curve_low, self.curve_high, alpha=0.3)
        ax.plot(metrics.OFFSETS, self.curve, marker="o", markersize=3)
        ax.axvline(0, color="grey", linewidth=0.8)
        ax.set(xlabel="offset in frames; positive: the sound comes too early", ylabel="mean P_sync", ylim=(0, 1))
        canvas.draw()
        return np.asarray(canvas.buffer_rgba())[..., 2::-1].copy()


def measure_expert(
    expert: torch.nn.Module, batches: Iterable[dict], min_gap: int, everyones: Callable[[list], list] = list
) -> ExpertReport:
    """What `expert`, in eval mode, makes of batches of an ExpertDataset, all in sync, on the expert's device.

    min_gap: frames between face and speech from which a pair counts as off sync. The same for any batch size.
    everyones: of several processes that have batches of their own each, makes a list of all items of their lists.
    """
    clips = embed_clips(expert, batches, everyones)
    by_clip = metrics.values_by_clip(clips, min_gap)
    curves, gaps = by_clip.pop("curve"), by_clip.pop("calibration_gap")

    measured = {name: _measured(values) for name, values in by_clip.items()}
    measured["calibration_error"] = _measured(gaps, metrics.calibration_error)
    curve = (mean_over_clips(curves), *confidence_interval(curves))
    counts = metrics.pair_counts(clips, min_gap)
    return ExpertReport(measured, *curve, counts, min_gap, _wrong_offsets(curves, **by_clip))


@torch.inference_mode()
def embed_clips(
    expert: torch.nn.Module, batches: Iterable[dict], everyones: Callable[[list], list] = list
) -> list[EmbeddedClip]:
    """The windows of all batches, put together by clip. Only embeddings are kept, on the CPU."""
    device = next(expert.parameters()).device
    seen, seen_moved = [], []
    for batch in batches:
        place = torch.stack([batch["clip"], batch["start"]], dim=1).cpu()  # (B, 2)
        faces, mel = batch["faces"].to(device), batch["mel"].to(device)
        seen.append((place, *_embed(expert, faces, mel)))

        # Chosen by where a window lies, so that the size of a batch changes nothing.
        chosen = (place[:, 1] % MOVED_EVERY == 0).nonzero()[:, 0]
        if len(chosen):
            moved_faces = displaced(faces[chosen.to(device)], place[chosen])
            seen_moved.append((place[chosen], _embed(expert, moved_faces, mel[chosen.to(device)])[0]))

    moved = _by_clip(everyones(seen_moved))
    clips = []
    for clip, (start, face, speech) in _by_clip(everyones(seen)).items():
        moved_start, moved_face = moved.get(clip, (start[:0], face[:0]))
        clips.append(EmbeddedClip(start, face, speech, np.searchsorted(start, moved_start), moved_face))
    return clips


def displaced(faces: torch.Tensor, place: torch.Tensor) -> torch.Tensor:
    """Crops moved by up to MOVED_BY of their side, as a worse detector would; at the edge their pixels are repeated.

    faces (B, T, H, W, 3); place (B, 2), clip and start, decides how each window moves, all its frames alike.
    """
    size = faces.shape[2]
    most = round(size * MOVED_BY)
    moves = np.array([np.random.default_rng(window).integers(-most, most + 1, 2) for window in place.tolist()])
    sources = (np.arange(size) + moves[:, :, None]).clip(0, size - 1)  # (B, 2, size), for rows and columns
    rows, columns = torch.from_numpy(sources).to(faces.device).unbind(1)
    window = torch.arange(len(faces), device=faces.device)
    return faces[window[:, None, None], :, rows[:, :, None], columns[:, None]].permute(0, 3, 1, 2, 4)


def _embed(expert: torch.nn.Module, faces: torch.Tensor, mel: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """faces uint8 (B, T, H, W, 3), mel (B, 80, 16) -> embeddings of faces and of speech, (B, D) on the CPU."""
    speech, face = expert(mel.unsqueeze(1), expert_faces(to_float(faces)))
    return face.float().cpu(), speech.float().cpu()


def _by_clip(parts: list[tuple[torch.Tensor, ...]]) -> dict[int, tuple[np.ndarray, ...]]:
    """From batches of (place (B, 2), anything (B, D) …): (start (n,), anything (n, D) …) of each clip, in order."""
    if not parts:
        return {}
    place, *rest = (torch.cat(tensors).numpy() for tensors in zip(*parts, strict=True))
    order = np.lexsort((place[:, 1], place[:, 0]))
    clip, start = place[order].T
    borders = np.flatnonzero(np.diff(clip)) + 1
    columns = [np.split(column, borders) for column in (clip, start, *(array[order] for array in rest))]
    return {int(clip[0]): tuple(arrays) for clip, *arrays in zip(*columns, strict=True)}


def _wrong_offsets(
    curves: np.ndarray, offset_accuracy: np.ndarray, confident: np.ndarray, **_
) -> dict[int, tuple[int, bool]]:
    """See ExpertReport; of clips that are long enough to tell, and of ties the one that is furthest off."""
    found = {}
    for i in np.flatnonzero(offset_accuracy == 0):
        peaks = metrics.OFFSETS[curves[i] == curves[i].max()]
        if len(peaks) < len(metrics.OFFSETS):  # else it is the expert that says the same of all
            found[int(i)] = (int(max(peaks, key=abs)), bool(confident[i]))
    return found


def _measured(values: np.ndarray, of_mean=lambda mean: mean) -> Measured:
    low, high = confidence_interval(values, of_mean)
    clips = int(np.isfinite(values).reshape(len(values), -1).all(axis=1).sum())
    return Measured(float(of_mean(mean_over_clips(values))), float(low), float(high), clips)
