"""Whether training survives kill -9 at any moment: a run killed often ends with the weights of one left alone.

    python -m benchmarks.kill_test --kills 30

A short wav2lip_gan run on a toy corpus, with loader workers, a checkpoint every few steps and an average of the
weights. Most kills come while it trains or writes a checkpoint, every fourth while it starts. Afterwards --resume
goes on to the last step, and every tensor of the last checkpoint is compared. Exit code 1 when one differs.
"""

import argparse
import json
import random
import subprocess
import sys
import time
from pathlib import Path

import torch

import preprocess
from benchmarks.side_by_side import command_line, machine_facts, positive
from errors import UserError, run_script
from models import read_checkpoint
from toy import make_toy_corpus
from training.checkpoint import FILE, found_in

ROOT = Path(__file__).resolve().parent.parent
EXPERT_STEPS, STEPS = 4, 900
TINY = "width=0.0625,sample_interval=0"
EXPERT = f"{TINY},num_workers=0,syncnet_nsteps={EXPERT_STEPS},syncnet_eval_windows=20,syncnet_batch_size=8"
GENERATOR = f"{TINY},num_workers=2,batch_size=2,nsteps={STEPS},checkpoint_interval=3,eval_interval=30,eval_windows=4"
GENERATOR += ",sync_gate=inf,ema_decay=0.9,decay=cosine"
TRAINS_AT_MOST_S, STARTS_AT_MOST_S, HANGS_S = 1.0, 6.0, 300.0


def main(argv=None):
    args = parse_args(argv)
    out = Path(args.outdir)
    if out.exists() and any(out.iterdir()):
        raise UserError(f"--outdir {out}: is not empty, name another folder")
    data = make_data(out)
    expert = out / "expert"
    run_to_end(["train_syncnet.py", *data, "--checkpoint_dir", str(expert), "--hparams", EXPERT], out / "expert.log")
    train = ["train_wav2lip.py", *data, "--syncnet_checkpoint_path", str(expert / "best.pth"), "--hparams", GENERATOR]

    print("the run that is left alone", flush=True)
    run_to_end([*train, "--checkpoint_dir", str(out / "whole")], out / "whole.log")
    moments = kill_again_and_again(train, out / "killed", args.kills, random.Random(args.seed))
    run_to_end([*train, "--checkpoint_dir", str(out / "killed"), "--resume"], out / "killed.log")

    differing = differences(*(read_checkpoint(out / name / FILE.format(STEPS)) for name in ("whole", "killed")))
    print(f"{args.kills} kills, {len(differing)} values differ: {', '.join(differing[:5]) or 'identical to the bit'}")
    result = {"kills": args.kills, "killed_at_steps": moments, "differing": len(differing)}
    line = {"command": command_line("benchmarks.kill_test", argv), "machine": machine_facts("cpu"), **result}
    print(json.dumps(line))
    return 1 if differing else 0


def parse_args(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", metavar="N", type=positive(int), default=30, help="(%(default)s)")
    parser.add_argument("--seed", metavar="N", type=int, default=0, help="of the moments (%(default)s)")
    parser.add_argument("--outdir", metavar="DIR", default="results/kill_test", help="an empty folder (%(default)s)")
    return parser.parse_args(argv)


def make_data(out: Path) -> list[str]:
    make_toy_corpus(out / "corpus", 8, 1, 1.6)
    lists = ["--filelists", str(out / "filelists")]
    store = ["--data_root", str(out / "corpus"), "--preprocessed_root", str(out / "store")]
    preprocess.main([*store, *lists, "--hparams", "face_detector=dlib,val_share=0.2,test_share=0"])
    return ["--data_root", str(out / "store"), *lists, "--device", "cpu"]


def run_to_end(command: list[str], log: Path) -> None:
    with open(log, "a") as file:
        code = subprocess.run([sys.executable, *command], cwd=ROOT, stdout=file, stderr=file).returncode
    if code:
        raise UserError(f"{command[0]} ended with exit code {code}: see {log}")


def kill_again_and_again(train: list[str], folder: Path, kills: int, rng: random.Random) -> list[int]:
    """Starts and kills; returns the step of the newest checkpoint at each kill."""
    moments = []
    for number in range(1, kills + 1):
        before = max(found_in(folder), default=0)
        resume = ["--resume"] if before else []
        with open(folder.with_suffix(".log"), "a") as log:
            command = [sys.executable, *train, "--checkpoint_dir", str(folder), *resume]
            process = subprocess.Popen(command, cwd=ROOT, stdout=log, stderr=log)
            if number % 4:
                wait_for_progress(process, folder, before)
                time.sleep(rng.uniform(0, TRAINS_AT_MOST_S))
            else:
                time.sleep(rng.uniform(0, STARTS_AT_MOST_S))
            process.kill()
            process.wait()
        moments.append(max(found_in(folder), default=0))
        print(f"kill {number}: the newest checkpoint is of step {moments[-1]}", flush=True)
        if moments[-1] >= STEPS:
            raise UserError(f"the run was over after {number} kills: raise STEPS in {Path(__file__).name}")
    return moments


def wait_for_progress(process: subprocess.Popen, folder: Path, before: int) -> None:
    deadline = time.monotonic() + HANGS_S
    while max(found_in(folder), default=0) <= before:
        if process.poll() is not None or time.monotonic() > deadline:
            raise UserError(f"the run did not go on from step {before}: see {folder.with_suffix('.log')}")
        time.sleep(0.02)


def differences(a, b, where: str = "") -> list[str]:
    """Where two checkpoints differ: names of values, dots between levels."""
    if isinstance(a, dict) and isinstance(b, dict):
        keys = sorted(set(a) | set(b), key=str)
        return [place for key in keys for place in differences(a.get(key), b.get(key), f"{where}.{key}")]
    if isinstance(a, list | tuple) and isinstance(b, list | tuple) and len(a) == len(b):
        return [place for i, (x, y) in enumerate(zip(a, b, strict=True)) for place in differences(x, y, f"{where}.{i}")]
    same = torch.equal(a, b) if torch.is_tensor(a) and torch.is_tensor(b) else a == b
    return [] if same else [where.removeprefix(".")]


if __name__ == "__main__":
    run_script(main)
