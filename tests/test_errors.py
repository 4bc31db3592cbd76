"""errors.py promises: however a script ends, the person at the shell sees one line and the right exit code."""

import errno
import importlib
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from errors import UserError, run_script

ROOT = Path(__file__).parent.parent


def ending(error, capsys):
    def main():
        raise error

    with pytest.raises(SystemExit) as end:
        run_script(main)
    return end.value.code, capsys.readouterr().err


def test_success_is_exit_code_0():
    with pytest.raises(SystemExit) as end:
        run_script(lambda: None)
    assert not end.value.code


def test_a_users_mistake_is_one_line_and_exit_code_1(capsys):
    assert ending(UserError("a.mp4: is empty"), capsys) == (1, "error: a.mp4: is empty\n")


def test_ctrl_c_is_exit_code_130(capsys):
    code, said = ending(KeyboardInterrupt(), capsys)
    assert code == 130
    assert said == "\nstopped; what was finished is kept\n"

    def stopped():
        raise KeyboardInterrupt

    with pytest.raises(SystemExit):
        run_script(stopped, kept="no video was written")
    assert capsys.readouterr().err == "\nstopped; no video was written\n"


def test_sigterm_is_exit_code_143_after_a_clean_up_that_a_second_one_does_not_cut_short(tmp_path):
    program = """
import os, signal, sys, time
from video import VideoWriter
from errors import run_script
import numpy as np

def main():
    try:
        with VideoWriter(sys.argv[1], 25) as writer:
            writer.write(np.zeros((48, 64, 3), np.uint8))
            os.kill(os.getpid(), signal.SIGTERM)
            time.sleep(60)
    finally:
        os.kill(os.getpid(), signal.SIGTERM)
        print("cleaned up")

run_script(main)
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "a.mp4")], cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (143, "\nstopped; what was finished is kept\n")
    assert done.stdout == "cleaned up\n"
    assert not list(tmp_path.iterdir())


def test_run_script_leaves_the_signals_as_they_were_and_runs_in_any_thread():
    before = signal.getsignal(signal.SIGTERM)
    codes = []

    def run():
        with pytest.raises(SystemExit) as end:
            run_script(lambda: signal.getsignal(signal.SIGTERM) is before)
        codes.append(end.value.code)

    run()
    assert codes == [False] and signal.getsignal(signal.SIGTERM) is before
    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert codes == [False, True]


def test_a_full_disk_names_the_file_and_the_remedy(capsys):
    full = OSError(errno.ENOSPC, "No space left on device", "store/a.mov")
    remedy = "free some space, what was finished is kept"
    assert ending(full, capsys) == (1, f"error: No space left on device: store/a.mov; {remedy}\n")


def test_a_bug_keeps_its_traceback(capsys):
    code, said = ending(ZeroDivisionError("division by zero"), capsys)
    assert code == 1
    assert "Traceback" in said and "ZeroDivisionError: division by zero" in said and __file__ in said


def test_a_bug_ends_a_run_that_has_loader_workers():
    # They ignore the signals of launchers, and Python waits for them at its exit as long as their loader is alive.
    program = """
import torch
from errors import run_script
from training.data import _start_worker

def main():
    rows = [torch.zeros(1)] * 1000
    batches = iter(torch.utils.data.DataLoader(rows, num_workers=1, worker_init_fn=_start_worker))
    next(batches)
    raise RuntimeError("an illegal memory access")

run_script(main)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    assert "RuntimeError: an illegal memory access" in done.stderr


def test_a_name_that_a_terminal_cannot_show_is_shown_in_another_way():
    program = "from errors import run_script\nrun_script(lambda: print('caf\\udce9.mp4'))"
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env={"PYTHONIOENCODING": "ascii:strict", "PATH": ""},
    )
    assert (done.returncode, done.stdout) == (0, "caf\\udce9.mp4\n"), done.stderr


ARGUMENTS = {
    "preprocess": ["--data_root", "x", "--preprocessed_root", "y"],
    "train_syncnet": ["--data_root", "x", "--checkpoint_dir", "y"],
    "train_wav2lip": ["--data_root", "x", "--checkpoint_dir", "y", "--syncnet_checkpoint_path", "z"],
    "inference": ["--checkpoint_path", "x", "--face", "y", "--audio", "z"],
    "evaluate": ["x.mp4", "--expert_path", "y"],
    "demo": [],
}


@pytest.mark.parametrize("script", ARGUMENTS)
def test_every_script_explains_itself(script, capsys):
    with pytest.raises(SystemExit) as end:
        importlib.import_module(script).main(["--help"])
    told = capsys.readouterr().out
    assert end.value.code == 0
    assert "--hparams" in told
    assert f"python {script}.py" in told


@pytest.mark.parametrize("script", ARGUMENTS)
def test_every_script_refuses_an_unknown_hparam_and_names_the_nearest(script):
    with pytest.raises(UserError, match="unknown hparam 'widht': did you mean 'width'?"):
        importlib.import_module(script).main([*ARGUMENTS[script], "--hparams", "widht=0.5"])


def test_a_script_run_from_the_shell_ends_on_one_line():
    command = [sys.executable, "train_syncnet.py", *ARGUMENTS["train_syncnet"], "--preset", "faitful"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (1, "error: unknown preset 'faitful': did you mean 'faithful'?\n")


def test_processes_of_torchrun_keep_what_sigterm_does(monkeypatch):
    monkeypatch.setenv("RANK", "1")
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SystemExit) as end:
        run_script(lambda: int(signal.getsignal(signal.SIGTERM) is not before))
    assert end.value.code == 0
