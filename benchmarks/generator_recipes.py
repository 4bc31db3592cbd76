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
from pathlib import Path
from statistics import mean

import cv2
import numpy as np
import torch

import hparams
import train_wav2lip
from benchmarks.expert_recipes import refuse_other_settings
from benchmarks.side_by_side import command_line, machine_facts, positive
from clips.corpus import open_split
from clips.dataset import GeneratorDataset
from clips.sampling import GeneratorSampling
from errors import UserError, run_script
from evaluation.generator_metrics import measure_generator
from models import load_expert, load_generator, trained_with, usable_device
from models.inputs import generator_faces, to_float
from training.checkpoint import FILE, found_in
from training.data import evaluation_batches
from training.images import tile
from training.loop import to_device
from training.script import cut_as_learnt, framed_as_stored

STUDY = "num_workers=0,sample_interval=0,keep_checkpoints=1,decay=cosine,sync_gate=0,eval_windows=60"
SHOWN = 6  # windows in the grid


def main(argv=None):
    args = parse_args(argv)
    rows = [row_of(text) for text in args.rows]
    results, device = {}, usable_device()
    judge = load_expert(args.judge_path, device)
    if trained_with(args.judge_path).syncnet_mel_cut != trained_with(args.syncnet_checkpoint_path).syncnet_mel_cut:
        raise UserError(
            f"{args.judge_path}: was trained with another syncnet_mel_cut than the teacher: name another judge"
        )
    for name, recipe, overrides in rows:
        seeds = []
        for seed in args.seeds:
            folder = Path(args.outdir) / name.replace(" ", "_") / f"seed{seed}"
            hp = train(folder, recipe, overrides, seed, args)
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


def row_of(text: str) -> tuple[str, str, str]:
    """Name, recipe and overrides."""
    parts = [part.strip() for part in text.split(":")]
    name, recipe, overrides = parts if len(parts) == 3 else (text, text, "")
    if recipe not in train_wav2lip.RECIPES:
        raise UserError(f"{text!r}: {recipe!r} is no recipe: one of {', '.join(train_wav2lip.RECIPES)}")
    return name, recipe, overrides


def train(folder: Path, recipe: str, overrides: str, seed: int, args) -> hparams.HParams:
    # The picture comes first: sync loss from a third, discriminator from half of the steps on.
    steps = args.steps
    settings = f"{STUDY},sync_start_step={steps // 3},disc_start_step={steps // 2},nsteps={steps},eval_interval={steps}"
    settings += f",checkpoint_interval={max(steps // 10, 1)},seed={seed},{args.hparams},{overrides}"
    hp = cut_as_learnt(args.syncnet_checkpoint_path, hparams.resolve(overrides=settings))
    corpus = open_split(args.data_root, args.filelists, "train", hp, "generator")
    hp, found = framed_as_stored(corpus, hp), found_in(folder)
    if found:
        refuse_other_settings(found[max(found)], hp, corpus)
    done = max(found, default=0)
    if done < steps:
        data = ["--data_root", args.data_root, "--filelists", args.filelists, "--checkpoint_dir", str(folder)]
        teachers = ["--syncnet_checkpoint_path", args.syncnet_checkpoint_path, "--recipe", recipe]
        if hp.perceptual_wt and args.vgg_checkpoint_path:
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
