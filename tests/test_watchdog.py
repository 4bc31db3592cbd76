"""training/watchdog.py promises: an expert that only guesses is named, rarely; one that learns never is; and a resumed
run says the same as an uninterrupted one."""

import math

import numpy as np
import pytest
from conftest import TINY

import train_syncnet
from clips import filelists, manifest
from clips.store import Clip, ClipWriter
from hparams import resolve
from training import distributed
from training.watchdog import ChanceWatchdog, entropy, expert_watchdog

PATIENCE, BATCH, LOG = 1000, 10, 5  # a period is 100 steps


def warned_at(loss_at, last_step: int, first_step: int = 0) -> list[int]:
    """Steps with a message, of a run whose loss is loss_at(step)."""
    watchdog = ChanceWatchdog("loss/bce", math.log(2), PATIENCE, BATCH, first_step)
    steps = range(first_step + LOG, last_step + 1, LOG)
    return [step for step in steps if watchdog(step, {"loss/bce": loss_at(step)})]


def at_chance(step: int) -> float:
    return math.log(2) + 0.003 * np.random.default_rng(step).normal()


def test_a_run_at_chance_is_told_once_and_then_ever_more_rarely():
    assert warned_at(at_chance, 99) == []
    assert warned_at(at_chance, 2000) == [100, 200, 400, 800, 1600]


def test_steps_that_were_skipped_are_no_reason_to_fail_or_to_speak():
    watchdog = ChanceWatchdog("loss/bce", math.log(2), PATIENCE, BATCH, 0)
    assert [watchdog(step, {"gradient/skipped_steps": 1.0}) for step in range(LOG, 501, LOG)] == [None] * 100


def test_a_loss_that_is_worse_than_chance_counts_too():
    assert warned_at(lambda step: 0.9, 200) == [100, 200]


@pytest.mark.parametrize("falls_from", [0, 60])
def test_a_run_that_learns_is_never_told(falls_from):
    def loss(step):
        return math.log(2) - 0.001 * max(step - falls_from, 0) + 0.02 * np.random.default_rng(step).normal()

    assert warned_at(loss, 600) == []


def test_a_run_that_learns_late_is_told_no_more():
    assert warned_at(lambda step: 0.693 if step <= 200 else 0.5, 2000) == [100, 200]


@pytest.mark.parametrize("resumed_at", [45, 100, 150, 395, 400])
def test_a_resumed_run_is_told_at_the_same_steps(resumed_at):
    assert warned_at(at_chance, resumed_at) + warned_at(at_chance, 2000, resumed_at) == warned_at(at_chance, 2000)


def test_a_loss_that_is_no_number_is_not_taken_for_chance():
    assert warned_at(lambda step: float("nan"), 400) == []


def test_a_run_that_learns_its_own_clips_only_is_told_from_the_second_period_on():
    def told(low: float, evaluated_at: int, value: float = 0.52, steps: int = 1000) -> list[int]:
        watchdog = ChanceWatchdog("loss/bce", math.log(2), PATIENCE, BATCH, 0)
        held_out = {"val/pair_accuracy": value, "val/pair_accuracy_low": low}
        each = ((step, held_out if step % evaluated_at == 0 else {}) for step in range(LOG, steps + 1, LOG))
        return [step for step, found in each if watchdog(step, {"loss/bce": 0.5} | found)]

    assert told(0.49, evaluated_at=50) == [200, 400, 800]
    assert told(0.51, 50) == told(float("nan"), 50) == told(0.45, 50, value=0.6) == []
    assert told(0.49, evaluated_at=150) == [200, 400, 800]
    assert told(0.49, evaluated_at=310) == [400, 800]  # at 200 there is nothing yet, at 800 that of step 620
    assert told(0.49, evaluated_at=350) == [400, 800]
    assert told(0.49, evaluated_at=550) == []  # that of step 550 is too old at 800
    assert told(0.49, evaluated_at=5000) == []

    watchdog = ChanceWatchdog("loss/bce", math.log(2), 100, BATCH, 15)
    said = watchdog(20, {"loss/bce": 0.5, "val/pair_accuracy": 0.52, "val/pair_accuracy_low": 0.49})
    assert said.startswith(
        "step 20: after 200 samples the expert learns its own clips (loss/bce 0.500) but still guesses"
    )
    assert "pair accuracy 0.520" in said and "--check_data" in said


def test_the_message_says_what_to_check():
    watchdog = ChanceWatchdog("loss/bce", math.log(2), 100, BATCH, first_step=0)
    said = watchdog(10, {"loss/bce": 0.693})
    assert said.startswith("step 10: after 100 samples the expert still guesses: loss/bce 0.693, chance is 0.693")
    for word in ("--check_data", "syncnet_lr", "syncnet_batch_size", "offset"):
        assert word in said


def test_chance_is_what_a_constant_guess_gives():
    assert entropy(0.5) == pytest.approx(math.log(2))
    assert entropy(1.0) == 0
    pairs = resolve(overrides="syncnet_loss=bce,syncnet_positive_share=0.2")
    # Guessing 0.2 for everything, of which one in five is in sync.
    assert expert_watchdog(pairs, 0).chance == pytest.approx(-0.2 * math.log(0.2) - 0.8 * math.log(0.8))
    every_pair = resolve(overrides="syncnet_loss=multiway,syncnet_positive_share=0.2")
    assert expert_watchdog(every_pair, 0).chance == pytest.approx(math.log(2))


def test_the_samples_of_all_processes_count(monkeypatch):
    hp = resolve(overrides="syncnet_batch_size=10")
    monkeypatch.setattr(distributed, "ranks", lambda: 4)
    assert expert_watchdog(hp, 0).batch_size == 40


@pytest.fixture(scope="module")
def unlearnable(store, tmp_path_factory):
    """The store with one still grey face everywhere: nothing tells which speech belongs to it."""
    root = tmp_path_factory.mktemp("unlearnable")
    writer = manifest.ManifestWriter(root)
    hp = resolve()
    for row in manifest.read(store).values():
        clip = Clip(store / row.clip)
        copy = ClipWriter(root / row.clip, hp.fps, 96, hp.sample_rate, hp.jpeg_quality)
        for _ in range(clip.frames):
            copy.add_frame(None)
        copy.close(clip.speech(), clip.mel, clip.boxes, clip.status, {})
        writer.add(row)
    writer.close()
    listed = filelists.existing(store / "lists")
    filelists.write(root / "lists", {"val": listed["val"], "train": listed["train"] + listed["test"]})
    return root


@pytest.mark.parametrize("loss", ["bce", "multiway"])
def test_training_tells_of_data_that_cannot_be_learnt(unlearnable, tmp_path, capsys, loss):
    hp = (
        f"{TINY},syncnet_loss={loss},syncnet_batch_size=8,syncnet_nsteps=45,syncnet_patience=160,syncnet_eval_interval=45,"
        "syncnet_checkpoint_interval=45,syncnet_lr=0.001"
    )
    data = ["--data_root", str(unlearnable), "--filelists", str(unlearnable / "lists"), "--device", "cpu"]
    train_syncnet.main([*data, "--checkpoint_dir", str(tmp_path), "--hparams", hp])
    told = [line for line in capsys.readouterr().out.splitlines() if "the expert still guesses" in line]
    assert [line.split(":")[0] for line in told] == ["step 20", "step 40"]
