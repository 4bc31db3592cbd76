"""Training curves of one or more runs as one PNG, for a paper or a README.

python -m training.plot checkpoints/expert checkpoints/wav2lip_gan --outfile curves.png
"""

import argparse
from pathlib import Path

import matplotlib

matplotlib.use("Agg")  # no screen needed
import matplotlib.pyplot as plt
from matplotlib.backend_bases import FigureCanvasBase
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from errors import UserError, run_script

HIDDEN = ("speed/",)  # of interest while training, not afterwards


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", metavar="DIR", nargs="+", help="--checkpoint_dir of a training run")
    parser.add_argument("--outfile", metavar="FILE", default="results/curves.png", help="*.png, *.pdf … (%(default)s)")
    args = parser.parse_args(argv)
    plot(named(args.runs), Path(args.outfile))
    print(f"curves: {args.outfile}")


def named(runs: list[str]) -> dict[str, Path]:
    """Runs by the last folder of their paths, or by the whole path where these are not all different."""
    paths = dict.fromkeys(map(Path, runs))
    has_names = len({path.name for path in paths}) == len(paths)
    return {path.name if has_names else str(path): path for path in paths}


def read_events(run: Path) -> dict[str, list[tuple[float, int, float]]]:
    """Scalar events (wall_time in s, step, value) by tag, from the log that a training script left in its folder."""
    folder = run / "tensorboard"
    if not folder.is_dir():
        raise UserError(f"{run}: no curves in it: name the --checkpoint_dir of a training run")
    log = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return {tag: [(e.wall_time, e.step, e.value) for e in log.Scalars(tag)] for tag in log.Tags()["scalars"]}


def plot(runs: dict[str, Path], outfile: Path) -> None:
    """One panel for each quantity of each run; training and validation of the same quantity share a panel.

    Raises UserError, before any log is read, for an outfile of a kind that matplotlib cannot write.
    """
    writable = FigureCanvasBase.get_supported_filetypes()
    if outfile.suffix.lower().removeprefix(".") not in writable:
        raise UserError(f"--outfile {outfile}: must end in .png or another of .{', .'.join(sorted(writable))}")
    panels = {}
    for name, run in runs.items():
        for tag, events in read_events(run).items():
            if not tag.startswith(HIDDEN):
                panels.setdefault(f"{name}: {tag.split('/')[-1]}", {})[tag] = events
    if not panels:
        raise UserError(f"{', '.join(map(str, runs.values()))}: the event log is still empty")
    columns = min(3, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = plt.subplots(rows, columns, figsize=(5 * columns, 3 * rows), squeeze=False)
    for ax in axes.flat[len(panels) :]:
        ax.remove()
    for ax, (title, curves) in zip(axes.flat, panels.items(), strict=False):
        for tag, events in sorted(curves.items()):
            _, steps, values = zip(*events, strict=True)
            ax.plot(steps, values, label=tag, marker="o" if tag.startswith("val/") else None, markersize=3)
        ax.set_title(title, fontsize=10)
        ax.set_xlabel("step")
        ax.legend(fontsize=8)
        ax.grid(alpha=0.3)
    figure.tight_layout()
    outfile.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(outfile, dpi=100)
    plt.close(figure)


if __name__ == "__main__":
    run_script(main)
