"""How fast recipes of the lip-sync expert learn, on equal data, width and samples: the curves behind docs/expert.md.

    python -m benchmarks.expert_recipes default faithful --samples 20000 --seeds 0 1 2
    python -m benchmarks.expert_recipes --data_root data/real --filelists filelists/real --samples 100000 \\
        default "lr 3e-4: syncnet_lr=3e-4" "no flip: syncnet_flip=0"

A recipe is "default", a preset of hparams.py, "NAME: hparams", changes to the default, or "PRESET: hparams" or "NAME:
PRESET: hparams", changes to a preset, as in "faithful at 1e-4: faithful: syncnet_lr=1e-4". With a number after its
name, as in faithful@60000, it sees as many samples instead of --samples. Without --data_root it makes a toy corpus
harder than the demo's: noise, head motion, lighting, and as asked lips that move less (--mumbling 1); a fifth of the
identities is held out.
Runs that are finished are not repeated, interrupted ones go on: name the same --outdir. The JSON has for each run what
its best checkpoint by pair accuracy makes of the val list, 1,000 windows a clip at most, with 95% intervals over clips.
"""

import argparse
import dataclasses
import json
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import matplotlib

matplotlib.use("Agg")  # no screen needed
import matplotlib.pyplot as plt
import numpy as np

import hparams
import preprocess
import train_syncnet
from benchmarks.runs import keep, refuse_another_run
from benchmarks.side_by_side import command_line, machine_facts, positive
from clips.corpus import open_split
from errors import UserError, run_script
from models import read_checkpoint, trained_with, usable_device
from toy import ToyStyle, make_toy_corpus
from training.checkpoint import found_in
from training.plot import read_events

HARD = {"noise": 1.0, "head_motion": 1.0, "lighting": 1.0}
TOY_IDENTITIES, TOY_CLIPS, TOY_SECONDS = 50, 2, 4.0
TOY_HPARAMS = "face_detector=dlib,val_share=0.2,test_share=0"
# what a small study needs: narrow networks, evaluations often enough for a curve, in this process
STUDY = "width={width},num_workers=0,sample_interval=0,keep_checkpoints=1,syncnet_eval_windows=32"
WINDOWS = {"syncnet_eval_windows": 1000, "num_workers": 0}  # of a clip, at most, of the last measurement
# tag of the curve, whether higher is better, and the marks a run may reach
MARKS = {
    "val/accuracy": (True, (0.75, 0.9)),
    "val/pair_accuracy": (True, (0.75, 0.85)),
    "val/offset_accuracy": (True, (0.75, 0.95)),
    "val/bce": (False, (0.4, 0.25)),
}


@dataclass(frozen=True)
class Recipe:
    """What is trained: a preset and hparams on top of it, for so many samples."""

    name: str
    preset: str | None
    overrides: str
    samples: int


@dataclass(frozen=True)
class Curve:
    """One quantity of one run over training: samples seen, minutes gone by (evaluations included), values."""

    samples: np.ndarray
    minutes: np.ndarray
    values: np.ndarray


def main(argv=None):
    args = parse_args(argv)
    recipes = [recipe_of(text, args) for text in args.recipes]
    twice = [name for name, count in Counter(map(folder_of, recipes)).items() if count > 1]
    if twice:
        raise UserError(f"{twice[0]}: names two recipes: give each a name of its own")
    out = Path(args.outdir)
    data_root, lists = (args.data_root, args.filelists) if args.data_root else toy_store(out, args.mumbling)
    runs, measured = {}, {}
    for seed in args.seeds:  # seeds outside: cut short, every recipe has been run as often
        for recipe in recipes:
            folder = out / folder_of(recipe) / f"seed{seed}"
            train(folder, data_root, lists, recipe, seed, args)
            runs.setdefault(recipe.name, []).append(curves_of(folder, batch_size(recipe, args)))
            measured.setdefault(recipe.name, []).append(held_out(folder, data_root, lists))
    results = [summary(name, curves) | {"held_out": measured[name]} for name, curves in runs.items()]
    draw(runs, out / "curves.png")
    table = markdown(results)
    (out / "table.md").write_text(table, encoding="utf-8")
    print(f"\n{table}\ncurves: {out / 'curves.png'}")
    line = {"command": command_line("benchmarks.expert_recipes", argv), "settings": vars(args)}
    print(json.dumps({**line, "machine": machine_facts(str(usable_device())), "results": results}, allow_nan=False))


def parse_args(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument(
        "recipes",
        metavar="RECIPE",
        nargs="+",
        help='default, PRESET@SAMPLES, "NAME: hparams", "NAME: PRESET: hparams", …',
    )
    parser.add_argument("--data_root", metavar="DIR", help="clip store (a toy corpus)")
    parser.add_argument("--mumbling", metavar="X", type=float, default=0.0, help="of the toy corpus (%(default)s)")
    parser.add_argument(
        "--filelists", metavar="DIR", default="filelists", help="its train.txt and val.txt (%(default)s)"
    )
    parser.add_argument("--outdir", metavar="DIR", default="results/expert_recipes", help="(%(default)s)")
    parser.add_argument("--seeds", metavar="N", type=int, nargs="+", default=[0], help="(%(default)s)")
    parser.add_argument("--samples", metavar="N", type=positive(int), default=20_000, help="a run (%(default)s)")
    parser.add_argument("--every", metavar="N", type=positive(int), default=1600, help="samples between evaluations")
    parser.add_argument("--width", metavar="X", type=positive(float), default=0.25, help="(%(default)s)")
    parser.add_argument("--hparams", metavar="NAME=VALUE,…", default="", help="of all recipes")
    parser.add_argument("--batch", metavar="N", type=positive(int), default=64, help="windows a step (%(default)s)")
    return parser.parse_args(argv)


def recipe_of(text: str, args) -> Recipe:
    """The recipe that an argument stands for; the hparams of all recipes come before its own."""
    title, *base, overrides = map(str.strip, text.split(":")) if ":" in text else (text.strip(), "")
    name, at, samples = title.partition("@")
    name = name.strip()
    if len(base) > 1:
        raise UserError(f'{text}: has too many colons, "NAME: PRESET: hparams" has two')
    if at and not samples.isdecimal():
        raise UserError(f"{text}: {samples!r} is no number of samples")
    names_preset = ":" not in text or name in hparams.PRESETS
    preset = base[0] if base else name if names_preset else "default"
    preset = None if preset == "default" else preset
    hparams.resolve(preset, f"{args.hparams},{overrides}")  # a slip in the last one is said before the first one trains
    return Recipe(title, preset, f"{args.hparams},{overrides}", int(samples) if at else args.samples)


def toy_store(out: Path, mumbling: float) -> tuple[Path, Path]:
    """Store and lists of the hard toy corpus; made once."""
    toy = f"toy_mumbling_{mumbling:g}" if mumbling else "toy"
    store, lists = out / f"{toy}_store", out / f"{toy}_lists"
    if not (lists / "val.txt").exists():
        make_toy_corpus(
            out / f"{toy}_corpus", TOY_IDENTITIES, TOY_CLIPS, TOY_SECONDS, style=ToyStyle(**HARD, mumbling=mumbling)
        )
        data = ["--data_root", str(out / f"{toy}_corpus"), "--preprocessed_root", str(store), "--filelists", str(lists)]
        preprocess.main([*data, "--hparams", TOY_HPARAMS])
    return store, lists


def folder_of(recipe: Recipe) -> str:
    return recipe.name.replace(" ", "_")


def batch_size(recipe: Recipe, args) -> int:
    return hparams.resolve(recipe.preset, f"syncnet_batch_size={args.batch},{recipe.overrides}").syncnet_batch_size


def train(folder: Path, data_root, lists, recipe: Recipe, seed: int, args) -> None:
    per_step = batch_size(recipe, args)
    steps, every = recipe.samples // per_step, max(args.every // per_step, 1)
    intervals = f"syncnet_eval_interval={every},syncnet_checkpoint_interval={every}"
    settings = f"{STUDY.format(width=args.width)},syncnet_batch_size={args.batch},{intervals},seed={seed}"
    settings += f",syncnet_nsteps={steps},{recipe.overrides}"
    found, hp = found_in(folder), hparams.resolve(recipe.preset, settings)
    data = {
        split: open_split(data_root, lists, split, hp, "expert", span=gap).fingerprint
        for split, gap in (("train", train_syncnet.widest_gap(hp)), ("val", hp.syncnet_eval_min_gap))
    }
    refuse_another_run(folder, hp, **data)
    if steps in found and not read_checkpoint(found[steps])["recipe"].get("owes_evaluation"):
        return
    data = ["--data_root", str(data_root), "--filelists", str(lists), "--checkpoint_dir", str(folder)]
    data += ["--resume"] if found else []
    train_syncnet.main([*data, *(["--preset", recipe.preset] if recipe.preset else []), "--hparams", settings])


def curves_of(folder: Path, samples_per_step: int) -> dict[str, Curve]:
    curves = {}
    for tag, events in read_events(folder).items():
        if tag in MARKS:
            wall, step, value = (np.array(column, float) for column in zip(*events, strict=True))
            curves[tag] = Curve(step * samples_per_step, minutes_of(wall), value)
    if not curves:
        raise UserError(f"{folder}: its event log holds no evaluation, delete the folder and run again")
    return curves


def held_out(folder: Path, data_root, lists) -> dict[str, list[float | None]] | None:
    """[value, low, high] of each metric, by the best checkpoint by pair accuracy on the val list; measured once."""
    checkpoint, kept = folder / "best_pair_accuracy.pth", folder / "held_out.json"
    if not checkpoint.exists():  # pairs need clips long enough
        return None
    if kept.exists() and kept.stat().st_mtime > checkpoint.stat().st_mtime:
        return json.loads(kept.read_text(encoding="utf-8"))
    flags = ["--data_root", str(data_root), "--filelists", str(lists), "--checkpoint_path", str(checkpoint)]
    args = train_syncnet.parse_args([*flags, "--evaluate_only"])
    report = train_syncnet.evaluate(args, dataclasses.replace(trained_with(checkpoint), **WINDOWS))
    found = {name: (metric.value, metric.low, metric.high) for name, metric in report.metrics.items()}
    found = {name: [value if np.isfinite(value) else None for value in values] for name, values in found.items()}
    keep(kept, found)
    return found


def minutes_of(wall: np.ndarray) -> np.ndarray:
    """Minutes since the first of these times (s), without what an interrupted run lay idle."""
    between = np.diff(wall)
    between = np.minimum(between, 3 * np.median(between)) if len(between) else between
    return np.concatenate([[0.0], np.cumsum(between)]) / 60


def reached(curve: Curve, mark: float, higher: bool) -> tuple[float, float] | None:
    """Samples and minutes at the first evaluation that keeps the mark at the next one too, if there is a next."""
    good = curve.values >= mark if higher else curve.values <= mark
    kept = good & np.append(good[1:], True)
    if not kept.any():
        return None
    first = int(kept.argmax())
    return float(curve.samples[first]), float(curve.minutes[first])


def summary(name: str, seeds: list[dict[str, Curve]]) -> dict:
    """Per quantity the last value of each seed (null: it had none), and what each needed to a mark (null: never)."""
    result = {"recipe": name, "minutes": [float(curves["val/bce"].minutes[-1]) for curves in seeds]}
    for tag, (higher, marks) in MARKS.items():
        curves = [seed[tag] for seed in seeds]
        reach = {str(mark): [reached(curve, mark, higher) for curve in curves] for mark in marks}
        last = [float(curve.values[-1]) if np.isfinite(curve.values[-1]) else None for curve in curves]
        result[tag.removeprefix("val/")] = {"last": last, "reached": reach}
    return result


def markdown(results: list[dict]) -> str:
    """Medians over the seeds: the last values, then thousands of samples (minutes) until each mark."""
    names = [tag.removeprefix("val/") for tag in MARKS]
    marks = [(name, str(mark)) for name, (_, values) in zip(names, MARKS.values(), strict=True) for mark in values]
    header = ["recipe", *names, *(f"{name} {mark}" for name, mark in marks), "minutes"]
    rows = [header, ["---"] * len(header)]
    for result in results:
        row = [result["recipe"], *(middle(result[name]["last"]) for name in names)]
        row += [needed(result[name]["reached"][mark]) for name, mark in marks]
        rows.append([*row, f"{median(result['minutes']):.1f}"])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)


def middle(last: list[float | None]) -> str:
    """Median of what there is: offsets of clips too short to have any are None."""
    known = [value for value in last if value is not None]
    return f"{median(known):.3f}" if known else "n/a"


def needed(seeds: list[tuple[float, float] | None]) -> str:
    """Median thousands of samples (minutes); a seed that never got there counts as later than any other."""
    inf = float("inf")
    samples, minutes = (median(values) for values in zip(*(seed or (inf, inf) for seed in seeds), strict=True))
    return "never" if samples == inf else f"{samples / 1000:.1f}k ({minutes:.1f})"


def draw(runs: dict[str, list[dict[str, Curve]]], path: Path) -> None:
    """One panel per quantity over samples: a colour per recipe, a line per seed."""
    figure, axes = plt.subplots(1, len(MARKS), figsize=(5 * len(MARKS), 4.5), layout="constrained")
    for ax, (tag, (_, marks)) in zip(axes, MARKS.items(), strict=True):
        for colour, (name, seeds) in enumerate(runs.items()):
            for k, curves in enumerate(seeds):
                label = name if k == 0 else None
                ax.plot(curves[tag].samples, curves[tag].values, color=f"C{colour}", label=label, alpha=0.8)
        for mark in marks:
            ax.axhline(mark, color="grey", linewidth=0.5)
        ax.set_title(f"held-out {tag.removeprefix('val/')}", fontsize=10)
        ax.set_xlabel("windows seen")
        ax.locator_params(axis="x", nbins=5)
        ax.grid(alpha=0.3)
    figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=5)
    figure.savefig(path, dpi=100)
    plt.close(figure)


if __name__ == "__main__":
    run_script(main)
