"""Two processes with batch b train as one with batch 2b: same losses, same weights, and one of them writes."""

import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import TINY

from models import read_checkpoint
from training.checkpoint import FILE
from training.plot import read_events

ROOT = Path(__file__).resolve().parent.parent
STEPS = 2
EXPERT = f"{TINY},syncnet_windows_per_clip=2,syncnet_checkpoint_interval=1,syncnet_nsteps={STEPS},"
EXPERT += "syncnet_eval_windows=20,syncnet_eval_interval=100"
GENERATOR = f"{TINY},eval_windows=4,eval_interval=100,checkpoint_interval=1,sync_gate=inf,ema_decay=0.9,nsteps={STEPS}"


def run(script: str, store: Path, folder: Path, processes: int, *flags: str) -> Path:
    command = [sys.executable]
    if processes > 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        command += ["-m", "torch.distributed.run", f"--nproc_per_node={processes}", f"--master_port={port}"]
    command += [script, "--data_root", str(store), "--filelists", str(store / "lists"), "--device", "cpu"]
    done = subprocess.run(
        [*command, "--checkpoint_dir", str(folder), *flags],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("hparams: ") == 1  # one process talks
    return folder


def losses(folder: Path) -> dict[str, list[float]]:
    """Of each step; those of the val list at the end."""
    shown = ("loss/", "sync/", "gan/", "val/bce", "val/l1", "val/p_sync")
    events = read_events(folder).items()
    return {tag: [value for _, _, value in points] for tag, points in events if tag.startswith(shown)}


def gradients(folder: Path) -> dict[str, torch.Tensor]:
    """Of the first step, of each network, as one vector; Adam's first moment then is a multiple of it."""
    optimizers = read_checkpoint(folder / FILE.format(1))["optimizers"]
    return {
        name: torch.cat([state["exp_avg"].flatten() for state in optimizer["state"].values()])
        for name, optimizer in optimizers.items()
    }


def assert_trained_alike(one: Path, two: Path):
    a, b = losses(one), losses(two)
    assert a.keys() == b.keys()
    for tag in a:
        assert a[tag][0] == pytest.approx(b[tag][0], rel=1e-4, abs=1e-6), tag
        # Adam makes rounding noise large where a gradient is near zero, so later steps drift apart a little.
        assert a[tag] == pytest.approx(b[tag], rel=2e-2), tag
    whole, shared = gradients(one), gradients(two)
    assert whole.keys() == shared.keys()
    for name, gradient in whole.items():
        # Batch norms over few values make 3% of rounding; without common statistics it is 100%.
        assert (gradient - shared[name]).norm() < 0.1 * gradient.norm(), name


@pytest.mark.parametrize("loss", ["bce", "multiway"])
def test_two_processes_train_the_expert_of_one_with_twice_the_batch(store, tmp_path, loss):
    script, flags = "train_syncnet.py", f"{EXPERT},syncnet_loss={loss}"
    one = run(script, store, tmp_path / "one", 1, "--hparams", f"{flags},syncnet_batch_size=8")
    two = run(script, store, tmp_path / "two", 2, "--hparams", f"{flags},syncnet_batch_size=4")
    assert_trained_alike(one, two)


def test_two_processes_train_the_gan_of_one_with_twice_the_batch(store, tmp_path):
    expert = run("train_syncnet.py", store, tmp_path / "expert", 1, "--hparams", f"{EXPERT},syncnet_batch_size=8")
    flags = ["--syncnet_checkpoint_path", str(expert / "best.pth"), "--recipe", "wav2lip_gan", "--hparams"]
    one = run("train_wav2lip.py", store, tmp_path / "one", 1, *flags, f"{GENERATOR},batch_size=4")
    two = run("train_wav2lip.py", store, tmp_path / "two", 2, *flags, f"{GENERATOR},batch_size=2")
    assert_trained_alike(one, two)
    assert torch.is_tensor(next(iter(read_checkpoint(two / "best.pth")["networks"]["generator_ema"].values())))
