"""Two processes with batch b train as one with batch 2b: same losses, same gradients, and one of them writes."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import TINY

from models import SyncNetExpert, read_checkpoint
from training import distributed
from training.checkpoint import FILE, found_in
from training.plot import read_events

ROOT = Path(__file__).resolve().parent.parent
STEPS = 2
EXPERT = f"{TINY},syncnet_windows_per_clip=2,syncnet_checkpoint_interval=1,syncnet_nsteps={STEPS},"
EXPERT += "syncnet_eval_windows=20,syncnet_eval_interval=100"
GENERATOR = f"{TINY},eval_windows=4,eval_interval=100,checkpoint_interval=1,sync_gate=inf,ema_decay=0.9,nsteps={STEPS}"


def free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def run(script: str, store: Path, folder: Path, processes: int, *flags: str) -> Path:
    command = [sys.executable]
    if processes > 1:
        command += ["-m", "torch.distributed.run", f"--nproc_per_node={processes}", f"--master_port={free_port()}"]
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
        assert a[tag] == pytest.approx(b[tag], rel=0.1), tag
    whole, shared = gradients(one), gradients(two)
    assert whole.keys() == shared.keys()
    for name, gradient in whole.items():
        # Batch norms over few values make 3% of rounding; without common statistics it is 100%.
        assert (gradient - shared[name]).norm() < 0.1 * gradient.norm(), name


@pytest.mark.parametrize("loss", ["bce", "multiway,syncnet_multiway_wt=0.3"])
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


def one_step_in_double(rank: int, ranks: int, folder: Path) -> None:
    """Of an expert that scores all pairs of six windows, shared among processes; leaves gradients and statistics."""
    torch.set_num_threads(1)
    if ranks > 1:
        torch.distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=ranks)
    torch.manual_seed(0)
    expert = distributed.with_common_statistics(SyncNetExpert(96, 0.0625, 5).double())
    faces, mel = torch.rand(6, 15, 48, 96, dtype=torch.double), torch.rand(6, 1, 80, 16, dtype=torch.double)
    mine = slice(rank * 6 // ranks, (rank + 1) * 6 // ranks)
    speech, face = (distributed.gather(embedding) for embedding in expert(mel[mine], faces[mine]))
    in_sync = torch.eye(6, dtype=torch.double)
    torch.nn.functional.mse_loss(face @ speech.T, in_sync).backward()
    distributed.average_gradients(expert.parameters())
    if rank == 0:
        gradients = {name: parameter.grad for name, parameter in expert.named_parameters()}
        torch.save(gradients | dict(expert.named_buffers()), folder / f"of_{ranks}.pt")
    if ranks > 1:
        torch.distributed.destroy_process_group()


@pytest.mark.parametrize("ranks", [2, 3])
def test_gradients_and_statistics_of_shared_batches_are_those_of_the_whole(tmp_path, ranks):
    one_step_in_double(0, 1, tmp_path)
    torch.multiprocessing.spawn(one_step_in_double, (ranks, tmp_path), ranks)
    whole, shared = (torch.load(tmp_path / f"of_{n}.pt", weights_only=True) for n in (1, ranks))
    assert whole.keys() == shared.keys() and any("running_var" in name for name in whole)
    for name, value in whole.items():
        scale = value.abs().max().item()
        assert (value - shared[name]).abs().max() <= 1e-9 * max(scale, 1e-3), name


def test_a_launchers_sigterm_to_all_processes_ends_the_run_with_a_checkpoint(store, tmp_path):
    command = [sys.executable, "train_syncnet.py", "--data_root", str(store), "--filelists", str(store / "lists")]
    settings = f"{EXPERT},syncnet_batch_size=4,num_workers=2".replace(
        f"syncnet_nsteps={STEPS}", "syncnet_nsteps=100000"
    )
    settings = settings.replace("syncnet_checkpoint_interval=1", "syncnet_checkpoint_interval=100000")
    log = tmp_path / "log"
    with open(log, "w") as out:
        process = subprocess.Popen(
            [*command, "--device", "cpu", "--checkpoint_dir", str(tmp_path / "run"), "--hparams", settings],
            cwd=ROOT,
            stdout=out,
            stderr=out,
            start_new_session=True,
        )
        deadline = time.monotonic() + 120
        while " 5/100000" not in log.read_text() and time.monotonic() < deadline:
            time.sleep(0.05)
        for _ in range(2):  # the trainer and its loader workers, and launchers say it twice
            os.killpg(process.pid, signal.SIGTERM)
        assert process.wait(timeout=60) == 130
    assert found_in(tmp_path / "run"), log.read_text()
    assert "Traceback" not in log.read_text()


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="only Linux lists a process's threads as files")
def test_no_thread_of_the_group_outlives_its_end(store, tmp_path):
    # One that does lets go of tensors when the interpreter is gone, and now and then aborts a run that has finished.
    (tmp_path / "watched.py").write_text(
        "import atexit, os, sys\n"
        "from pathlib import Path\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "def leave():\n"
        "    threads = [task.joinpath('comm').read_text().strip() for task in Path('/proc/self/task').iterdir()]\n"
        f"    Path({str(tmp_path)!r}, 'threads' + os.environ['RANK']).write_text(' '.join(threads))\n"
        "atexit.register(leave)\n"  # first registered, last called
        "import train_syncnet\n"
        "from errors import run_script\n"
        "run_script(train_syncnet.main)\n"
    )
    run(str(tmp_path / "watched.py"), store, tmp_path / "run", 2, "--hparams", f"{EXPERT},syncnet_batch_size=4")
    for rank in range(2):
        threads = (tmp_path / f"threads{rank}").read_text()
        assert threads and "gloo" not in threads


def test_a_process_that_fails_ends_the_others(store, tmp_path):
    # Only the second process's data are missing, so the first waits for it in its first step.
    (tmp_path / "only_first.py").write_text(
        "import os, sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "import train_syncnet, clips.dataset\n"
        "from errors import UserError, run_script\n"
        "def broken(self, draw):\n"
        "    raise UserError('this clip is damaged')\n"
        "if os.environ['RANK'] == '1':\n"
        "    clips.dataset.ExpertDataset.__getitem__ = broken\n"
        "run_script(train_syncnet.main)\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={free_port()}"]
    command += [str(tmp_path / "only_first.py"), "--data_root", str(store), "--filelists", str(store / "lists")]
    flags = [
        "--device",
        "cpu",
        "--checkpoint_dir",
        str(tmp_path / "run"),
        "--hparams",
        f"{EXPERT},syncnet_batch_size=4",
    ]
    done = subprocess.run([*command, *flags], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert "this clip is damaged" in done.stderr


def test_a_batch_that_one_process_cannot_read_loses_no_step(store, tmp_path):
    (tmp_path / "only_second.py").write_text(
        "import os, sys\n"
        f"sys.path.insert(0, {str(ROOT)!r})\n"
        "import train_syncnet, training.data\n"
        "from itertools import islice\n"
        "from errors import UserError, run_script\n"
        "whole = training.data.training_batches\n"
        "def broken(*given):\n"
        "    yield from islice(whole(*given), 3)\n"
        "    raise UserError('id1/clip7: this clip is damaged')\n"
        "if os.environ['RANK'] == '1':\n"
        "    training.data.training_batches = broken\n"
        "run_script(train_syncnet.main)\n"
    )
    command = [sys.executable, "-m", "torch.distributed.run", "--nproc_per_node=2", f"--master_port={free_port()}"]
    command += [str(tmp_path / "only_second.py"), "--data_root", str(store), "--filelists", str(store / "lists")]
    settings = f"{EXPERT},syncnet_batch_size=4,syncnet_checkpoint_interval=100,syncnet_nsteps=100"
    flags = ["--device", "cpu", "--checkpoint_dir", str(tmp_path / "run"), "--hparams", settings]
    done = subprocess.run([*command, *flags], cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    assert "id1/clip7: this clip is damaged" in done.stderr
    assert list(found_in(tmp_path / "run")) == [3]
