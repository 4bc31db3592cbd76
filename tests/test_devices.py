"""models.usable_device: a device that computes, or one line that names the flag and the remedy."""

import platform
import subprocess
import sys

import pytest
import torch

from errors import UserError
from models import usable_device
from training.distributed import own_device


def test_without_a_name_it_is_a_gpu_if_there_is_one():
    assert usable_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert usable_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["warp9", "cuda:99", "cuda:x", "mps:99", "meta", "xpu:99", "hpu"])
def test_what_cannot_compute_is_refused_in_one_line_with_the_remedy(name):
    with pytest.raises(UserError, match=f"^--device {name} cannot be used here .*: give --device cpu") as refusal:
        usable_device(name)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "gpus", "own"), [(None, 4, "cuda:2"), ("cuda", 4, "cuda:2"), ("cpu", 4, "cpu"), (None, 0, None)]
)
def test_every_process_of_torchrun_has_a_gpu_of_its_own(monkeypatch, name, gpus, own):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    assert own_device(name) == name  # without torchrun
    monkeypatch.setenv("RANK", "6")
    monkeypatch.setenv("LOCAL_RANK", "2")
    assert own_device(name) == own


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    monkeypatch.setenv("RANK", "2")
    monkeypatch.setenv("LOCAL_RANK", "2")
    with pytest.raises(UserError, match="more processes than this machine has GPUs .2.: lower --nproc_per_node"):
        own_device("cuda")


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="settings of glibc")
def test_memory_of_freed_tensors_is_used_again():
    # In a process of its own, as the setting cannot be taken back. A page that is touched anew is a minor fault.
    program = """
import resource, torch
from models import keep_freed_memory

def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(8):
        torch.ones(64 * 2**20 // 4)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

given_back = faults()
keep_freed_memory()
faults()
print(given_back, faults())
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    given_back, kept = map(int, done.stdout.split())
    assert kept < 0.1 * given_back
