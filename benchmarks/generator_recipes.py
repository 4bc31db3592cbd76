"""What recipes of the generator make of the same data, width and steps: the table behind docs/generator.md.

    python -m benchmarks.generator_recipes --data_root data/toy --filelists filelists/toy \\
        --syncnet_checkpoint_path expert/best.pth --judge_path other_expert/best.pth --steps 1000 \\
        speech2vid lipgan wav2lip wav2lip_gan "stabilised: wav2lip: sync_loss=stabilised"

A row is a recipe of train_wav2lip.py, or "NAME: RECIPE: hparams", changes to the settings of --hparams. Measured on the
val list by the judge, an expert that did not teach. Runs that are finished are not repeated, interrupted ones go on:
name the same --outdir. A grid of sample images of every row is written beside the table.
"""

import argparse
import json
from collections import Counter
from pathlib import Path
from statistics import mean

import cv2
import numpy as np
import torch

import hparams
import train_wav2lip
from benchmarks.runs import refuse_another_run
from benchmarks.side_by_side import command_line, machine_facts, positive
from clips.corpus import open_split
from clips.dataset import GeneratorDataset
from clips.sampling import GeneratorSampling
from errors import UserError, run_script
from evaluation.generator_metrics import measure_generator
from evaluation.judges import refuse_other_sound
from models import load_expert, load_generator, trained_with, usable_device
from models.inputs import generator_faces, to_float
from training.checkpoint import FILE, fingerprint, found_in
from training.data import evaluation_batches
from training.images import tile
from training.loop import to_device
from training.script import cut_as_learnt, framed_as_stored

STUDY = "num_workers=0,sample_interval=0,keep_checkpoints=1,decay=cosine,sync_gate=0,eval_windows=60"
SHOWN = 6  # windows in the grid


def main(argv=None):
    args = parse_args(argv)
    rows = [row_of(text, args) for text in args.rows]
    twice = [name for name, count in Counter(folder_of(name) for name, *_ in rows).items() if count > 1]
    if twice:
        raise UserError(f"{twice[0]}: names two rows: give each a name of its own")
    results, device = {}, usable_device()
    teacher, judge = (load_expert(path, device) for path in (args.syncnet_checkpoint_path, args.judge_path))
    refuse_other_judge(teacher, judge, args)
    for name, recipe, overrides in rows:
        seeds = []
        for seed in args.seeds:
            folder = Path(args.outdir) / folder_of(name) / f"seed{seed}"
            hp = train(folder, recipe, overrides, seed, fingerprint(teacher), args)
            generator = load_generator(folder / FILE.format(args.steps), device)
            batches = held_out(hp, args)
            seeds.append(measure_generator(generator, judge, batches(), hp.mask_top))
            if seed == args.seeds[0]:
                save_grid(generator, to_device(next(batches()), device), hp.mask_top, folder.parent / "samples.png")
        results[name] = {key: [seed[key] for seed in seeds] for key in seeds[0]}
    table = markdown(results)
    (Path(args.outdir) / "table.md").write_text(table, encoding="utf-8")
    print(f"\n{table}")
    line = {"command": command_line("benchmarks.generator_recipes", argv), "settings": vars(args)}
    print(json.dumps({**line, "machine": machine_facts(str(device)), "results": results}))


def parse_args(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("rows", metavar="ROW", nargs="+", help='a recipe, or "NAME: RECIPE: hparams"')
    parser.add_argument("--data_root", metavar="DIR", required=True, help="clip store")
    parser.add_argument("--filelists", metavar="DIR", default="filelists", help="(%(default)s)")
    parser.add_argument("--syncnet_checkpoint_path", metavar="FILE", required=True, help="the expert that teaches")
    parser.add_argument("--vgg_checkpoint_path", metavar="FILE", help="for rows with a perceptual_wt")
    parser.add_argument("--judge_path", metavar="FILE", required=True, help="another expert, that measures")
    parser.add_argument("--outdir", metavar="DIR", default="results/generator_recipes", help="(%(default)s)")
    parser.add_argument("--seeds", metavar="N", type=int, nargs="+", default=[0], help="(%(default)s)")
    parser.add_argument("--steps", metavar="N", type=positive(int), default=1000, help="of every run (%(default)s)")
    parser.add_argument("--windows", metavar="N", type=positive(int), default=200, help="measured (%(default)s)")
    parser.add_argument("--hparams", metavar="NAME=VALUE,…", default="", help="of all rows")
    return parser.parse_args(argv)


def row_of(text: str, args) -> tuple[str, str, str]:
    """Name, recipe and overrides; UserError where it cannot be trained, before any other row is."""
    parts = [part.strip() for part in text.split(":")]
    name, recipe, overrides = parts if len(parts) == 3 else (text, text, "")
    if recipe not in train_wav2lip.RECIPES:
        raise UserError(f"{text!r}: {recipe!r} is no recipe: one of {', '.join(train_wav2lip.RECIPES)}")
    hp = hparams.resolve(overrides=f"{args.hparams},{overrides}")
    train_wav2lip.check_settings(recipe, hp, vgg_of(hp, args))
    return name, recipe, overrides


def folder_of(name: str) -> str:
    return name.replace(" ", "_")


def vgg_of(hp: hparams.HParams, args) -> str | None:
    """--vgg_checkpoint_path where the row needs it."""
    return args.vgg_checkpoint_path if hp.perceptual_wt else None


def refuse_other_judge(teacher: torch.nn.Module, judge: torch.nn.Module, args) -> None:
    """UserError where the judge sees or hears otherwise than the generators that the teacher teaches."""
    learnt, judged = (
        (expert.img_size, expert.T, trained_with(path).syncnet_mel_cut)
        for expert, path in ((teacher, args.syncnet_checkpoint_path), (judge, args.judge_path))
    )
    if learnt != judged:
        raise UserError(
            f"{args.judge_path}: its img_size, syncnet_T and syncnet_mel_cut are {judged}, the teacher's {learnt}: "
            "name another judge"
        )
    refuse_other_sound(args.judge_path, hparams.resolve(overrides=args.hparams))


def train(folder: Path, recipe: str, overrides: str, seed: int, teacher: str, args) -> hparams.HParams:
    # The picture comes first: sync loss from a third, discriminator from half of the steps on.
    steps = args.steps
    settings = f"{STUDY},sync_start_step={steps // 3},disc_start_step={steps // 2},nsteps={steps},eval_interval={steps}"
    settings += f",checkpoint_interval={max(steps // 10, 1)},seed={seed},{args.hparams},{overrides}"
    hp = cut_as_learnt(args.syncnet_checkpoint_path, hparams.resolve(overrides=settings))
    corpora = {split: open_split(args.data_root, args.filelists, split, hp, "generator") for split in ("train", "val")}
    hp, done = framed_as_stored(corpora["train"], hp), max(found_in(folder), default=0)
    data = {split: corpus.fingerprint for split, corpus in corpora.items()}
    refuse_another_run(folder, hp, recipe=recipe, teacher=teacher, vgg=vgg_of(hp, args), **data)
    if done < steps:
        data = ["--data_root", args.data_root, "--filelists", args.filelists, "--checkpoint_dir", str(folder)]
        teachers = ["--syncnet_checkpoint_path", args.syncnet_checkpoint_path, "--recipe", recipe]
        if vgg_of(hp, args):
            teachers += ["--vgg_checkpoint_path", args.vgg_checkpoint_path]
        train_wav2lip.main([*data, *teachers, "--hparams", settings, *(["--resume"] if done else [])])
    return hp


def held_out(hp: hparams.HParams, args):
    corpus = open_split(args.data_root, args.filelists, "val", hp, "generator")
    sampling = GeneratorSampling(corpus, seed=0, min_gap=hp.reference_min_gap)  # the same windows for all seeds
    return evaluation_batches(GeneratorDataset(corpus, hp.img_size), sampling, args.windows, batch_size=8)


@torch.inference_mode()
def save_grid(generator: torch.nn.Module, batch: dict, mask_top: float, path: Path) -> None:
    """Rows: reference, masked, generated, with another clip's speech, truth; a column a window."""
    batch = {name: value[:SHOWN] for name, value in batch.items()}
    truth, reference = to_float(batch["target"]), to_float(batch["reference"])
    faces, mels = generator_faces(truth, reference, mask_top), batch["frame_mels"].unsqueeze(2)
    drawn = [reference, faces[:, :3], generator(mels, faces), generator(mels.roll(1, dims=0), faces), truth]
    picture = tile(torch.stack([frames[:, :, frames.shape[2] // 2] for frames in drawn]))
    cv2.imwrite(str(path), np.ascontiguousarray(picture))


def markdown(results: dict[str, dict[str, list[float]]]) -> str:
    """Means over the seeds; with several, the smallest and largest behind them."""
    columns = list(next(iter(results.values())))
    lines = [["", *columns], ["---"] * (len(columns) + 1)]
    for name, row in results.items():
        lines.append([name, *(spread(row[column]) for column in columns)])
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def spread(values: list[float]) -> str:
    text = f"{mean(values):.4f}"
    return f"{text} ({min(values):.4f} to {max(values):.4f})" if len(values) > 1 else text


if __name__ == "__main__":
    run_script(main)
