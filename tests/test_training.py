"""training/ promises: a resumed run equals the uninterrupted one bit for bit, the expert stays frozen, what evolves is
in the checkpoint, and every way a run can end leaves a usable last checkpoint."""

import dataclasses
import errno
import multiprocessing
import os
import shutil
import signal
import time
import weakref
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY
from golden_weights import golden_file, golden_state_dict
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import train_syncnet
import train_wav2lip
from clips import manifest
from clips.corpus import open_split
from clips.dataset import GeneratorDataset
from clips.sampling import GeneratorSampling, fixed_draws
from clips.settings import settings_of
from errors import UserError
from hparams import resolve
from models import SyncNetExpert, export_official, load_expert, load_generator, read_checkpoint, write_checkpoint
from training import checkpoint, script
from training.checkpoint import Checkpoints
from training.learner import Learner
from training.loop import Evaluation, Intervals, train
from training.monitor import Monitor
from training.plot import read_events
from training.recipes import expert as expert_recipe
from training.recipes.expert import MultiwayExpertRecipe, negatives
from training.recipes.wav2lip import Wav2LipRecipe
from training.schedule import rate_at
from training.speed import Speed

CPU = torch.device("cpu")
# Runs are made longer on resuming, which changes a schedule.
CONSTANT = "syncnet_warmup_steps=0,syncnet_decay=none,syncnet_augment_growth=0"
EXPERT = f"{TINY},{CONSTANT},syncnet_batch_size=4,syncnet_eval_windows=20,syncnet_eval_interval=2"
EXPERT += ",syncnet_checkpoint_interval=2"
GENERATOR = f"{TINY},batch_size=2,eval_windows=2,eval_interval=2,checkpoint_interval=2,sync_gate=inf"


def train_expert(store, folder, steps, *flags, hp=EXPERT):
    data = ["--data_root", str(store), "--filelists", str(store / "lists"), "--device", "cpu"]
    train_syncnet.main([*data, "--checkpoint_dir", str(folder), "--hparams", f"{hp},syncnet_nsteps={steps}", *flags])
    return folder


def train_generator(store, expert, folder, steps, *flags, hp=GENERATOR):
    data = ["--data_root", str(store), "--filelists", str(store / "lists"), "--device", "cpu"]
    data += ["--syncnet_checkpoint_path", str(expert), "--checkpoint_dir", str(folder)]
    train_wav2lip.main([*data, "--hparams", f"{hp},nsteps={steps}", *flags])
    return folder


@pytest.fixture(scope="module")
def expert(store, tmp_path_factory):
    return train_expert(store, tmp_path_factory.mktemp("expert"), 4)


@pytest.fixture(scope="module")
def gan(store, expert, tmp_path_factory):
    return train_generator(store, expert / "best.pth", tmp_path_factory.mktemp("gan"), 4)


def at_step(folder: Path, step: int) -> dict:
    return read_checkpoint(folder / checkpoint.FILE.format(step))


def assert_identical(a, b, where=""):
    assert type(a) is type(b), where
    if isinstance(a, dict):
        assert list(a) == list(b), where
        for key in a:
            assert_identical(a[key], b[key], f"{where}/{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), where
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_identical(x, y, f"{where}/{i}")
    elif torch.is_tensor(a):
        assert torch.equal(a, b), where
    else:
        assert a == b, where


# resume


def test_a_resumed_expert_equals_the_uninterrupted_one(store, expert, tmp_path):
    train_expert(store, tmp_path, 2)
    train_expert(store, tmp_path, 4, "--resume", hp=EXPERT.replace("num_workers=0", "num_workers=2"))
    whole, resumed = at_step(expert, 4), at_step(tmp_path, 4)
    del whole["hparams"], resumed["hparams"]  # they differ in num_workers
    assert_identical(whole, resumed)
    assert whole["epoch"] == 0  # 16 of 64 windows: 8 clips, 8 windows at each visit
    train_expert(store, tmp_path / "short", 5, hp=EXPERT + ",syncnet_windows_per_clip=2,syncnet_batch_size=8")
    assert at_step(tmp_path / "short", 5)["epoch"] == 2  # 40 of 16 windows


def test_a_resumed_gan_equals_the_uninterrupted_one(store, expert, gan, tmp_path):
    train_generator(store, expert / "best.pth", tmp_path, 2)
    train_generator(store, expert / "best.pth", tmp_path, 4, "--resume")
    assert_identical(at_step(gan, 4), at_step(tmp_path, 4))


def test_an_evaluation_that_is_cut_short_loses_no_step_and_is_made_up_for(store, expert, gan, tmp_path, monkeypatch):
    def killed(recipe, batches):
        if recipe.steps == 4:
            raise KeyboardInterrupt
        return evaluate(recipe, batches)

    evaluate = Wav2LipRecipe.evaluate
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(Wav2LipRecipe, "evaluate", killed)
        train_generator(store, expert / "best.pth", tmp_path, 4)
    assert at_step(tmp_path, 4)["recipe"]["owes_evaluation"]
    train_generator(store, expert / "best.pth", tmp_path, 4, "--resume")
    assert_identical(at_step(gan, 4), at_step(tmp_path, 4))
    assert [step for _, step, _ in read_events(tmp_path)["val/l1"]] == [0, 2, 4]
    with pytest.raises(UserError, match="already at step 4 of 4"):
        train_generator(store, expert / "best.pth", tmp_path, 4, "--resume")


def test_a_best_checkpoint_of_an_earlier_run_is_not_replaced(store, expert, tmp_path):
    shutil.copy(expert / "best.pth", tmp_path)
    for flags in ([], ["--checkpoint_path", str(tmp_path / "best.pth")]):
        with pytest.raises(UserError, match="best.pth is of an earlier run.*name another --checkpoint_dir"):
            train_expert(store, tmp_path, 2, *flags)
    assert (tmp_path / "best.pth").read_bytes() == (expert / "best.pth").read_bytes()


def test_a_run_that_died_before_its_first_checkpoint_starts_anew(store, tmp_path, monkeypatch):
    def out_of_memory(recipe, batch):
        raise torch.OutOfMemoryError("CUDA out of memory")

    with monkeypatch.context() as patched, pytest.raises(UserError, match="the GPU has no memory for a step: lower"):
        patched.setattr(MultiwayExpertRecipe, "optimise", out_of_memory)
        train_expert(store, tmp_path, 2)
    assert not (tmp_path / "best.pth").exists() and not checkpoint.found_in(tmp_path)  # nothing was learnt
    with pytest.raises(UserError, match="leave out --resume to start anew$"):
        train_expert(store, tmp_path, 2, "--resume")
    train_expert(store, tmp_path, 2)
    assert checkpoint.found_in(tmp_path)


def test_advice_where_no_checkpoint_can_be_read_leads_on(store, tmp_path):
    (tmp_path / "checkpoint_step000000002.pth").write_bytes(b"torn")
    with pytest.raises(UserError, match="none of its checkpoints can be read: start anew in another --checkpoint_dir"):
        train_expert(store, tmp_path, 4, "--resume")


def test_resuming_with_another_window_says_what_to_set(store, expert, tmp_path):
    shutil.copy(expert / "checkpoint_step000000004.pth", tmp_path)
    with pytest.raises(UserError, match="size mismatch.*syncnet_T"):
        train_expert(store, tmp_path, 6, "--resume", hp=EXPERT + ",syncnet_T=9")


@pytest.mark.parametrize(
    ("other", "reason"),
    [
        ({"step": 6}, "their step differs: .* process 0: 3; process 1: 6$"),
        ({"val list": "xyz"}, "their val list differs"),
        ({"syncnet_lr": 0.5}, "their syncnet_lr differs: .* process 0: 0.001; process 1: 0.5"),
        ({"expert": "0123"}, "their expert differs"),
        ({"num_workers": 99}, None),
    ],
)
def test_processes_that_would_not_begin_alike_are_refused(monkeypatch, other, reason):
    hp, facts = resolve(overrides=EXPERT), {"data": "abc", "measured_on": "def"}
    recipe = MultiwayExpertRecipe(hp, CPU)
    monkeypatch.setattr(script.distributed, "everyones", lambda items: [*items, items[0] | other])
    with pytest.raises(UserError, match=reason) if reason else nullcontext():
        script.refuse_different_starts(3, recipe, hp, facts)


def test_another_mel_or_frame_rate_than_the_stores_or_the_experts_is_refused(store, expert, tmp_path):
    shutil.copytree(store, tmp_path / "store")
    rows = manifest.read(tmp_path / "store")
    writer = manifest.ManifestWriter(tmp_path / "store")
    for row in rows.values():
        writer.add(dataclasses.replace(row, settings=settings_of(resolve(overrides="fmin=90"))))
    writer.close()
    with pytest.raises(UserError, match="holds clips made with fmin=90.0, now 55.0: set it as it was"):
        train_expert(tmp_path / "store", tmp_path / "run", 2)
    with pytest.raises(UserError, match="its expert was trained with fmin=55.0 .here 90.0.: set the same, or"):
        hp = GENERATOR + ",fmin=90"
        train_generator(tmp_path / "store", expert / "best.pth", tmp_path / "gan", 2, hp=hp)
    with pytest.raises(UserError, match="its expert was trained with fmin=55.0 .here 90.0."):
        data = ["--data_root", str(tmp_path / "store"), "--filelists", str(store / "lists"), "--evaluate_only"]
        train_syncnet.main([*data, "--checkpoint_path", str(expert / "best.pth"), "--hparams", EXPERT + ",fmin=90"])
    described = open_split(store, store / "lists", "train", resolve(overrides="img_size=192"), "expert").describe()
    assert "enlarged" not in described  # stored without settings: not known
    larger = open_split(tmp_path / "store", store / "lists", "train", resolve(overrides="img_size=192"), "expert")
    assert larger.describe().endswith("crops of 96 px enlarged to 192")


def test_resuming_says_what_differs(store, expert, tmp_path, capsys):
    train_expert(store, tmp_path, 2)
    (tmp_path / "lists").mkdir()
    for split in ("train", "val"):
        names = (store / f"lists/{split}.txt").read_text().splitlines()
        (tmp_path / f"lists/{split}.txt").write_text("\n".join(names[:1]))
    flags = ["--resume", "--filelists", str(tmp_path / "lists")]
    train_expert(store, tmp_path, 3, *flags, hp=EXPERT + ",syncnet_lr=0.5")
    said = capsys.readouterr().out
    assert "syncnet_lr: 0.001 -> 0.5" in said
    assert "other data: the training list was 8 clips, 4 identities, 288 windows; it is 1 clips, 1 identities" in said


def test_another_val_list_starts_the_choice_of_the_best_anew(store, expert, tmp_path, capsys):
    shutil.copytree(expert, tmp_path / "run")
    path = checkpoint.newest(tmp_path / "run")
    saved = read_checkpoint(path)
    saved["recipe"]["best"] = {"best": 0.0, "best_pair_accuracy": 1.0}  # nothing is better
    write_checkpoint(saved, path)
    lists = tmp_path / "lists"
    shutil.copytree(store / "lists", lists)
    (lists / "val.txt").write_text((store / "lists/test.txt").read_text())
    for flags, is_new in (([], False), (["--filelists", str(lists)], True)):
        (tmp_path / "run/best.pth").unlink(missing_ok=True)
        train_expert(store, tmp_path / "run", 5 + is_new, "--resume", *flags)
        assert ("another val list, or measured otherwise" in capsys.readouterr().out) == is_new
        assert (tmp_path / "run/best.pth").exists() == is_new


def test_a_resumed_run_keeps_every_point_of_its_curves(store, tmp_path):
    for steps in (2, 4):
        train_expert(store, tmp_path, steps, *(["--resume"] if steps == 4 else []))
    events = read_events(tmp_path)
    assert [step for _, step, _ in events["loss/bce"]] == [1, 2, 3, 4]
    assert [step for _, step, _ in events["val/bce"]] == [0, 2, 4]


def test_the_best_by_loss_and_the_best_by_pair_accuracy_are_both_kept():
    recipe = MultiwayExpertRecipe(resolve(overrides=EXPERT), CPU)

    def best(bce: float, pair_accuracy: float) -> list[str]:
        return recipe.best_of({"val/bce": bce, "val/pair_accuracy": pair_accuracy})

    assert best(0.6, 0.7) == ["best", "best_pair_accuracy"]
    assert best(0.5, 0.6) == ["best"]
    assert best(0.55, 0.8) == ["best_pair_accuracy"]
    assert best(0.5, 0.8) == []
    recipe.forget_best()
    assert best(0.9, 0.5) == ["best", "best_pair_accuracy"]


def test_resuming_with_another_expert_or_number_of_processes_is_said(store, expert, gan, tmp_path, monkeypatch, capsys):
    shutil.copytree(gan, tmp_path / "run")
    other = train_expert(store, tmp_path / "other", 1, hp=EXPERT + ",seed=5") / "best.pth"
    capsys.readouterr()
    (tmp_path / "run/best.pth").unlink()
    train_generator(store, other, tmp_path / "run", 5, "--resume", hp=GENERATOR + ",initial_learning_rate=1")
    assert "resuming with another expert" in capsys.readouterr().out
    assert (tmp_path / "run/best.pth").exists()  # the first after it, however bad
    path = checkpoint.newest(tmp_path / "run")
    write_checkpoint({**read_checkpoint(path), "samples_per_step": 8}, path)
    train_generator(store, other, tmp_path / "run", 6, "--resume")
    said = capsys.readouterr().out
    assert "resuming with 2 samples a step instead of 8: " in said
    assert "another expert" not in said


def test_a_run_prolonged_from_its_weights_says_where_its_discriminator_is(store, expert, gan, tmp_path, capsys):
    weights = ["--checkpoint_path", str(gan / "best.pth"), "--recipe", "wav2lip_gan"]
    train_generator(store, expert / "best.pth", tmp_path / "anew", 1, *weights)
    assert "note: the discriminator begins anew" in capsys.readouterr().out
    train_generator(
        store, expert / "best.pth", tmp_path / "on", 1, *weights, "--disc_checkpoint_path", str(gan / "best.pth")
    )
    assert "note: the discriminator" not in capsys.readouterr().out
    with pytest.raises(SystemExit):
        train_generator(
            store, expert / "best.pth", tmp_path / "on", 2, "--resume", "--disc_checkpoint_path", str(gan / "best.pth")
        )
    assert "a resumed run goes on with its own discriminator" in capsys.readouterr().err


def test_a_generator_knows_the_detector_of_its_store(store, expert, tmp_path):
    other = shutil.copytree(store, tmp_path / "store")
    rows = list(manifest.read(other).values())
    (other / manifest.NAME).unlink()
    writer = manifest.ManifestWriter(other)
    for row in rows:
        writer.add(dataclasses.replace(row, settings=settings_of(resolve(overrides="face_detector=dlib"))))
    writer.close()
    run = train_generator(other, expert / "best.pth", tmp_path / "run", 1)
    assert read_checkpoint(run / "best.pth")["hparams"]["face_detector"] == "dlib"


def test_a_damaged_newest_checkpoint_is_passed_over(store, tmp_path, capsys):
    train_expert(store, tmp_path, 4)
    path = tmp_path / checkpoint.FILE.format(4)
    path.write_bytes(path.read_bytes()[:5000])
    assert checkpoint.newest(tmp_path).name == checkpoint.FILE.format(2)
    assert "passed over" in capsys.readouterr().out


def test_a_new_run_does_not_overwrite_an_old_one(store, expert):
    with pytest.raises(UserError, match="holds a run of an expert at step 4: go on with --resume"):
        train_expert(store, expert, 6)


def test_a_folder_takes_one_run_at_a_time(store, tmp_path):
    train_expert(store, tmp_path, 1)
    best = (tmp_path / "best.pth").read_bytes()
    with script.writing_alone(tmp_path), pytest.raises(UserError, match="another run is training in it"):
        train_expert(store, tmp_path, 2, "--resume")
    assert list(checkpoint.found_in(tmp_path)) == [1] and (tmp_path / "best.pth").read_bytes() == best
    train_expert(store, tmp_path, 2, "--resume")


def test_a_forked_process_does_not_hold_the_folder_of_a_run_that_is_gone(tmp_path):
    started, ends = multiprocessing.get_context("fork").Pipe()
    with script.writing_alone(tmp_path):
        worker = multiprocessing.get_context("fork").Process(target=lambda: (ends.send("here"), time.sleep(60)))
        worker.start()
        assert started.recv() == "here"
    with script.writing_alone(tmp_path):  # while the worker is there
        worker.kill()
        worker.join()


def test_a_file_or_an_empty_folder_as_checkpoint_dir_is_refused_before_anything_is_read(store, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"--checkpoint_dir .*file is a file"):
        train_expert(store, tmp_path / "file", 1)
    with pytest.raises(UserError, match="no checkpoint to resume from"):
        train_expert(store / "nowhere", tmp_path / "none", 1, "--resume")
    assert not (tmp_path / "none").exists()


def test_a_resumed_expert_keeps_its_loss(store, tmp_path, capsys):
    train_expert(store, tmp_path, 1, hp=EXPERT + ",syncnet_loss=bce")
    with pytest.raises(UserError, match="trained with syncnet_loss=bce, not multiway: give --preset and --hparams"):
        train_expert(store, tmp_path, 2, "--resume")
    train_expert(store, tmp_path, 2, "--resume", hp=EXPERT + ",syncnet_loss=bce,syncnet_lr=0.5")
    said = capsys.readouterr().out
    assert "\n  syncnet_lr: 0.001 -> 0.5\n" in said


def test_clips_in_both_lists_are_said(store, tmp_path, capsys):
    lists = shutil.copytree(store / "lists", tmp_path / "lists")
    shared = (lists / "train.txt").read_text().splitlines()[0]
    with open(lists / "val.txt", "a") as file:
        file.write(shared + "\n")
    data = ["--data_root", str(store), "--filelists", str(lists), "--device", "cpu"]
    hp = EXPERT + ",syncnet_nsteps=1"
    train_syncnet.main([*data, "--checkpoint_dir", str(tmp_path / "run"), "--hparams", hp])
    assert f"warning: 1 clips are in train.txt and val.txt, e.g. {shared}" in capsys.readouterr().out


def test_a_disk_without_room_for_curves_is_one_line_with_what_is_kept(store, tmp_path, monkeypatch):
    train_expert(store, tmp_path, 1)

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Monitor, "flush", full)
    last = tmp_path / checkpoint.FILE.format(1)
    with pytest.raises(UserError, match=f"No space left on device.*the last checkpoint is {last}, --resume goes on"):
        train_expert(store, tmp_path, 2, "--resume")


def test_curves_show_the_learning_rate_and_hold_the_hparams(store, tmp_path):
    train_expert(store, tmp_path, 2)
    assert [step for _, step, _ in read_events(tmp_path)["learning_rate/expert"]] == [1, 2]
    texts = EventAccumulator(str(tmp_path / "tensorboard"), size_guidance={"tensors": 0}).Reload()
    shown = texts.Tensors("hparams/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "\nwidth=0.0625\n" in shown
    assert "balanced accuracy" in texts.Tensors("val/text_summary")[0].tensor_proto.string_val[0].decode()


def test_fine_tuning_starts_at_step_0_in_a_folder_of_its_own(store, expert, tmp_path):
    weights = ["--checkpoint_path", str(expert / "best.pth")]
    with pytest.raises(UserError, match="holds a run of an expert at step 4"):
        train_expert(store, expert, 6, *weights)
    train_expert(store, tmp_path, 1, *weights)
    assert list(checkpoint.found_in(tmp_path)) == [1]
    assert (tmp_path / "best.pth").exists()


def test_fine_tuning_an_expert_of_another_sound_is_said(store, expert, tmp_path, capsys):
    train_expert(store, tmp_path / "same", 1, "--checkpoint_path", str(expert / "best.pth"))
    assert "warning" not in capsys.readouterr().out
    other = torch.load(expert / "best.pth", weights_only=True)
    other["hparams"] |= {"fps": 30}
    torch.save(other, tmp_path / "other.pth")
    train_expert(store, tmp_path / "run", 1, "--checkpoint_path", str(tmp_path / "other.pth"))
    assert (
        "other.pth: its expert was trained with fps=30 (here 25), and has to learn that anew" in capsys.readouterr().out
    )


def test_fine_tuning_eases_nothing_in_also_when_resumed(store, expert, tmp_path, monkeypatch):
    amounts = []
    monkeypatch.setattr(expert_recipe, "augment", lambda faces, rng, *drawn: amounts.append(drawn[1]) or faces)
    hp = EXPERT + ",syncnet_shift_px=4,syncnet_augment_growth=1"
    train_expert(store, tmp_path / "new", 2, hp=hp)
    train_expert(store, tmp_path / "tuned", 1, "--checkpoint_path", str(expert / "best.pth"), hp=hp)
    train_expert(store, tmp_path / "tuned", 2, "--resume", hp=hp)
    assert amounts == [0, 2, 4, 4]


@pytest.mark.parametrize("loss", ["bce", "multiway"])
def test_parts_too_small_for_batch_norm_are_refused(store, tmp_path, loss):
    with pytest.raises(UserError, match="accumulate=8 leaves less than 2 windows"):
        train_expert(store, tmp_path, 1, hp=EXPERT + f",syncnet_loss={loss},syncnet_batch_size=8,accumulate=8")


def test_an_expert_is_measured_on_the_list_that_is_named(store, expert, tmp_path, capsys):
    data = ["--data_root", str(store), "--device", "cpu", "--checkpoint_path", str(expert / "best.pth")]
    for split, clips in (("train", 8), ("val", 2), ("test", 2)):
        train_syncnet.main([*data, "--filelists", str(store / "lists"), "--evaluate_only", "--split", split])
        said = capsys.readouterr().out
        assert f"on the {split} list" in said
        assert f"\n{clips} clips, " in said
        assert "\nP_sync peaks beyond 1 frame (+: sound too early, * confident): " in said
    shutil.copytree(store / "lists", tmp_path / "lists")
    (tmp_path / "lists/test.txt").write_text("")
    with pytest.raises(UserError, match="test.txt names no clip: put some of train.txt into it"):
        train_syncnet.main([*data, "--filelists", str(tmp_path / "lists"), "--evaluate_only", "--split", "test"])
    with pytest.raises(SystemExit):
        train_syncnet.main([*data, "--split", "test", "--checkpoint_dir", str(tmp_path / "run")])
    assert "--split is the list for --evaluate_only" in capsys.readouterr().err


def test_a_device_that_is_not_there_is_refused_before_the_work(store, tmp_path):
    with pytest.raises(UserError, match="--device warp9 cannot be used here .*: give --device cpu"):
        train_expert(store, tmp_path / "run", 2, "--device", "warp9")
    assert not (tmp_path / "run").exists()


def test_a_finished_run_says_so(store, expert):
    with pytest.raises(UserError, match="already at step 4 of 4"):
        train_expert(store, expert, 4, "--resume")


def test_weights_of_an_official_file_are_the_start_of_a_new_run(store, expert, tmp_path, capsys):
    official = tmp_path / "official.pth"
    export_official(load_expert(expert / "best.pth"), official)
    train_expert(store, tmp_path / "run", 1, "--checkpoint_path", str(official), hp=EXPERT + ",syncnet_lr=1e-30")
    assert "starting from the weights of" in capsys.readouterr().out
    started, given = at_step(tmp_path / "run", 1)["networks"]["expert"], read_checkpoint(official)["state_dict"]
    weights = [name for name in given if name.endswith("weight")]
    assert all(torch.equal(started[name], given[name]) for name in weights)


def test_checkpoints_of_something_else_are_refused(store, expert, gan, tmp_path):
    with pytest.raises(UserError, match="best.pth holds a generator"):
        train_expert(store, tmp_path / "a", 2, "--checkpoint_path", str(gan / "best.pth"))
    shutil.copytree(gan, tmp_path / "gan")
    with pytest.raises(UserError, match="holds generator, visual_discriminator, cannot resume expert"):
        train_expert(store, tmp_path / "gan", 6, "--resume")
    with pytest.raises(UserError, match="cannot resume generator: give the script, and the --recipe"):
        train_generator(store, expert / "best.pth", tmp_path / "gan", 6, "--resume", "--recipe", "wav2lip")
    with pytest.raises(UserError, match="best.pth holds a generator"):
        train_generator(store, gan / "best.pth", tmp_path / "b", 2)
    wider = EXPERT.replace("width=0.0625", "width=0.125")
    with pytest.raises(UserError, match="another size: set width=0.0625, img_size=96, syncnet_T=5"):
        train_expert(store, tmp_path / "c", 2, "--checkpoint_path", str(expert / "best.pth"), hp=wider)
    with pytest.raises(UserError, match="does not fit this run"):
        train_expert(store, expert, 6, "--resume", hp=wider)
    broken = tmp_path / "broken.pth"
    broken.write_bytes(b"PK not really")
    with pytest.raises(UserError, match="broken.pth is damaged"):
        train_generator(store, broken, tmp_path / "d", 2)
    with pytest.raises(UserError, match="no checkpoint to resume from"):
        train_expert(store, tmp_path / "e", 2, "--resume")


# what is trained


@pytest.mark.parametrize("loss", ["bce", "multiway", "multiway,syncnet_multiway_wt=0.3", "multiway,syncnet_nearby=0"])
def test_the_expert_trains_and_resumes_on_pairs_and_on_whole_batches(store, tmp_path, loss):
    hp = EXPERT + f",syncnet_loss={loss},syncnet_windows_per_clip=2"
    train_expert(store, tmp_path / "whole", 4, hp=hp)
    train_expert(store, tmp_path / "parts", 2, hp=hp)
    train_expert(store, tmp_path / "parts", 4, "--resume", hp=hp)
    assert_identical(at_step(tmp_path / "whole", 4), at_step(tmp_path / "parts", 4))


def test_nearby_speech_is_off_sync_to_its_own_face_and_to_the_others_of_the_clip():
    clip, start = torch.tensor([0, 0, 1]), torch.tensor([3, 20, 3])
    nearby_clip, nearby_start = torch.tensor([0, 0, 1]), torch.tensor([7, 21, 9])
    same_clip, anywhere = negatives(clip, start, nearby_clip, nearby_start, min_gap=2)
    assert same_clip.tolist() == [[True, True, False], [True, False, False], [False, False, True]]
    assert anywhere.tolist() == [[True, True, True], [True, False, True], [True, True, True]]


def test_negatives_are_of_the_same_clip_and_at_least_the_gap_apart():
    clip, start = torch.tensor([0, 0, 0, 1]), torch.tensor([3, 4, 9, 20])
    same_clip, anywhere = negatives(clip, start, clip, start, min_gap=2)
    assert same_clip.nonzero().tolist() == [[0, 2], [1, 2], [2, 0], [2, 1]]
    assert (anywhere & ~same_clip).nonzero().tolist() == [[0, 3], [1, 3], [2, 3], [3, 0], [3, 1], [3, 2]]


def test_negatives_come_nearer_over_half_of_training():
    hp = resolve(overrides=f"{EXPERT},syncnet_first_gap=10,syncnet_min_gap=2,syncnet_nsteps=40")
    recipe = MultiwayExpertRecipe(hp, CPU)
    gaps = []
    for step in (0, 5, 10, 20, 39):
        recipe.steps = step
        gaps.append(recipe._min_gap())
    assert gaps == [10, 8, 5, 2, 2]
    recipe.hp = resolve(overrides=EXPERT)
    assert recipe._min_gap() == recipe.hp.syncnet_min_gap


def test_augmentation_grows_over_a_share_of_training(monkeypatch):
    amounts, turns, gains, voices = [], [], [], []
    monkeypatch.setattr(expert_recipe, "augment", lambda faces, rng, *drawn: amounts.append(drawn[:4]) or faces)
    monkeypatch.setattr(expert_recipe, "turn_and_zoom", lambda mouths, rng, *drawn: turns.append(drawn) or mouths)
    settings = f"{EXPERT},syncnet_nsteps=40,syncnet_flip=0.5,syncnet_shift_px=3,syncnet_colour=0.2,syncnet_blur=0.4"
    settings += ",syncnet_turn=8,syncnet_zoom=0.1,syncnet_speech_gain=0.6,syncnet_voice=0.2"
    monkeypatch.setattr(expert_recipe, "augment_speech", lambda mel, rng, gain, *_: gains.append(gain) or mel)
    monkeypatch.setattr(expert_recipe, "warp_voice", lambda mel, rng, *drawn: voices.append(drawn) or mel)
    batch = random_batch()["target"], torch.randn(2, 1, 80, 16)
    for growth, steps in ((0.5, (0, 10, 20, 39)), (0, (0,))):
        recipe = MultiwayExpertRecipe(resolve(overrides=f"{settings},syncnet_augment_growth={growth}"), CPU)
        for recipe.steps in steps:
            recipe._embed(*batch, (0, 1))
    whole = (0.5, 3, 0.2, 0.4)
    assert amounts == [(0.5, 0, 0.0, 0.0), (0.5, 2, 0.1, 0.2), whole, whole, whole]
    assert turns == [(0, 0, (0, 1)), (4, 0.05, (0, 1)), *[(8, 0.1, (0, 1))] * 3]
    assert gains == [0, 0.3, 0.6, 0.6, 0.6]
    assert voices == [(amount, (55, 7600), (0, 1)) for amount in (0, 0.1, 0.2, 0.2, 0.2)]


def test_weight_decay_shrinks_weights_beside_adam():
    def weight_after_a_step(decay: float) -> float:
        line = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.constant_(line.weight, 2.0)
        learner = Learner(line, 0.1, (0.9, 0.999), resolve(), CPU, weight_decay=decay)
        learner.zero_grad()
        learner(torch.ones(1, 1)).sum().backward()
        learner.step(0)
        return line.weight.item()

    assert weight_after_a_step(0) == pytest.approx(2 - 0.1)
    assert weight_after_a_step(0.5) == pytest.approx(2 * (1 - 0.1 * 0.5) - 0.1)


def test_hparams_decide_over_the_optimizer_of_a_resumed_run(store, tmp_path, capsys):
    train_expert(store, tmp_path / "run", 1)
    hp = f"{EXPERT},syncnet_weight_decay=0.1,syncnet_beta1=0.5"
    train_expert(store, tmp_path / "run", 2, "--resume", hp=hp)
    assert "syncnet_weight_decay: 0.0 -> 0.1" in capsys.readouterr().out
    (group,) = at_step(tmp_path / "run", 2)["optimizers"]["expert"]["param_groups"]
    assert (group["weight_decay"], group["betas"][0]) == (0.1, 0.5)


def test_speed_counts_waiting_and_working_since_it_was_last_asked():
    speed = Speed(CPU)
    assert speed.take() == {}
    speed.add(4, waited=1.0, worked=3.0)
    speed.add(4, waited=0.0, worked=4.0)
    assert speed.take() == {"speed/samples_per_second": 1.0, "speed/share_waiting_for_data": 0.125}
    assert speed.take() == {}


def test_the_expert_is_untouched_by_the_generators_training(store, expert):
    hp = resolve(overrides=GENERATOR)
    frozen = load_expert(expert / "best.pth")
    before = {name: value.clone() for name, value in frozen.state_dict().items()}
    recipe = Wav2LipRecipe(hp, frozen, CPU, with_gan=True)
    corpus = open_split(store, store / "lists", "train", hp, "generator")
    sampling = GeneratorSampling(corpus, 0, 5)
    loader = torch.utils.data.DataLoader(GeneratorDataset(corpus, 96), batch_sampler=[fixed_draws(sampling, 2)] * 2)
    for batch in loader:
        recipe.step(batch)
    recipe.evaluate(loader)
    assert not frozen.training
    assert_identical(before, dict(frozen.state_dict()))


def test_the_total_is_the_papers_weighted_sum(store, expert):
    hp = resolve(overrides=GENERATOR)
    device = CPU
    recipe = Wav2LipRecipe(hp, load_expert(expert / "best.pth"), device, with_gan=True)
    corpus = open_split(store, store / "lists", "train", hp, "generator")
    draws = fixed_draws(GeneratorSampling(corpus, 0, 5), 2)
    batch = next(iter(torch.utils.data.DataLoader(GeneratorDataset(corpus, 96), batch_sampler=[draws])))
    named = recipe.step(batch)
    by_hand = 0.90 * named["loss/l1"] + 0.03 * named["loss/sync"] + 0.07 * named["loss/gan"]
    assert named["loss/total"].item() == pytest.approx(by_hand.item(), rel=1e-6)


def test_the_losses_of_a_faithful_step_equal_the_official_ones(tmp_path, monkeypatch):
    golden = golden_file("faithful_step")
    levels = 1023  # of the faces kept here, which moves the losses by 2e-6 at most
    truth, fake = (golden[name].float() / levels for name in ("gt", "fake"))
    torch.save({"state_dict": golden_state_dict("expert")}, tmp_path / "expert.pth")
    hp = resolve("faithful", "sync_gate=inf,batch_size=2")
    recipe = Wav2LipRecipe(hp, load_expert(tmp_path / "expert.pth"), CPU, with_gan=True)
    recipe.networks["visual_discriminator"].load_state_dict(golden_state_dict("visual_discriminator"))
    drawn_by = next(recipe.networks["generator"].parameters())

    def generate(batch, generator, piece):
        return truth, torch.cat([truth, truth], dim=1), fake + 0 * drawn_by.sum()

    monkeypatch.setattr(recipe, "generate", generate)
    named = recipe.step({"mel": golden["mel"][:, 0]})
    official = {
        "loss/l1": "l1",
        "loss/sync": "sync_loss",
        "loss/gan": "perceptual_loss",
        "loss/total": "total",
        "gan/disc_real": "disc_real_loss",
        "gan/disc_fake": "disc_fake_loss",
    }
    for name, in_golden in official.items():
        assert named[name].item() == pytest.approx(golden[in_golden].item(), abs=1e-5), name


def test_one_seed_means_the_same_generator_with_and_without_a_discriminator():
    weights = []
    for with_gan in (False, True):
        torch.manual_seed(0)
        hp = resolve(overrides=GENERATOR)
        recipe = Wav2LipRecipe(hp, SyncNetExpert(hp.img_size, hp.width).eval(), CPU, with_gan=with_gan)
        weights.append(recipe.networks["generator"].state_dict())
    assert_identical(*map(dict, weights))


def test_the_last_words_name_the_best_experts_and_their_steps(store, tmp_path, capsys):
    train_expert(store, tmp_path, 2)
    best, pairs = tmp_path / "best.pth", tmp_path / "best_pair_accuracy.pth"
    assert f"expert: {best} (step 2), of the lowest held-out loss, or {pairs} (step 2)" in capsys.readouterr().out
    pairs.unlink()
    assert train_syncnet.which_to_use(tmp_path) == f"expert: {best} (step 2)"
    best.unlink()
    assert "none, as no evaluation gave a number" in train_syncnet.which_to_use(tmp_path)


def test_a_value_that_is_no_number_is_never_the_best():
    hp = resolve(overrides=GENERATOR)
    recipe = Wav2LipRecipe(hp, SyncNetExpert(hp.img_size, hp.width).eval(), CPU)
    losses = [float("nan"), 0.3, float("nan"), 0.2, 0.25]
    best = [recipe.best_of({"val/l1": loss, "val/sync": 0.0}) == ["best"] for loss in losses]
    assert best == [False, True, False, True, False]


def random_batch() -> dict:
    return {
        "target": torch.randint(0, 255, (2, 5, 96, 96, 3), dtype=torch.uint8),
        "reference": torch.randint(0, 255, (2, 5, 96, 96, 3), dtype=torch.uint8),
        "mel": torch.randn(2, 80, 16),
        "frame_mels": torch.randn(2, 5, 80, 16),
    }


def test_the_gate_of_the_sync_loss_opens_once_and_is_remembered(expert):
    hp = resolve(overrides=GENERATOR.replace("sync_gate=inf", "sync_gate=0.75"))
    recipe = Wav2LipRecipe(hp, load_expert(expert / "best.pth"), CPU)
    batch = random_batch()
    assert "loss/sync" not in recipe.step(batch)
    recipe.hp = resolve(overrides=GENERATOR.replace("sync_gate=inf", "sync_gate=100"))
    recipe.evaluate([batch])
    assert recipe.step(batch)["sync/weight"] == 0.03
    again = Wav2LipRecipe(hp, load_expert(expert / "best.pth"), CPU)
    again.load_state_dict(recipe.state_dict())
    assert "loss/sync" in again.step(batch)


@pytest.mark.parametrize("is_fine_tuning", [False, True])
def test_the_gate_stays_shut_before_the_first_step_of_a_generator_that_knows_nothing(expert, is_fine_tuning):
    hp = resolve(overrides=GENERATOR.replace("sync_gate=inf", "sync_gate=100"))
    recipe = Wav2LipRecipe(hp, load_expert(expert / "best.pth"), CPU)
    recipe.is_fine_tuning = is_fine_tuning
    recipe.evaluate([random_batch()])
    assert recipe.sync_is_on == is_fine_tuning


def test_a_gate_that_is_opened_by_hand_stays_open_on_resuming(expert):
    hp = resolve(overrides=GENERATOR.replace("sync_gate=inf", "sync_gate=0"))
    shut = Wav2LipRecipe(hp, load_expert(expert / "best.pth"), CPU)
    opened = Wav2LipRecipe(resolve(overrides=GENERATOR), load_expert(expert / "best.pth"), CPU)
    opened.load_state_dict(shut.state_dict())
    assert opened.step(random_batch())["sync/weight"] == 0.03


def test_the_sync_loss_can_start_at_a_given_step_whatever_the_gate_says(expert):
    hp = resolve(overrides=GENERATOR.replace("sync_gate=inf", "sync_gate=0,sync_start_step=2"))
    recipe = Wav2LipRecipe(hp, load_expert(expert / "best.pth"), CPU)
    batch = random_batch()
    weights = [recipe.step(batch)["sync/weight"] for _ in range(2)]
    again = Wav2LipRecipe(hp, load_expert(expert / "best.pth"), CPU)
    again.load_state_dict(recipe.state_dict())
    weights += [again.step(batch)["sync/weight"] for _ in range(2)]
    assert weights == [0, 0, 0.03, 0.03]


def test_the_discriminator_rests_until_its_step(expert):
    hp, device = resolve(overrides=GENERATOR + ",disc_start_step=1"), CPU
    recipe = Wav2LipRecipe(hp, load_expert(expert / "best.pth"), device, with_gan=True)
    first, second = (recipe.step(random_batch()) for _ in range(2))
    assert "loss/gan" not in first
    assert "gan/disc_real" not in first
    assert {"loss/gan", "gan/disc_real", "gan/disc_fake"} <= set(second)


def test_the_generators_speech_encoder_can_start_as_the_experts(store, expert, tmp_path):
    hp = GENERATOR + ",initial_learning_rate=1e-9,speech_encoder_init=expert"
    train_generator(store, expert / "best.pth", tmp_path, 1, hp=hp)
    ours = load_generator(tmp_path / "best.pth").audio_encoder
    theirs = load_expert(expert / "best.pth").audio_encoder
    weights = [[p for p in e.parameters() if p.dim() == 4] for e in (ours, theirs)]
    weights[1].pop(-3)  # the expert's last 3 x 3 stage has one residual block more
    assert len(weights[0]) == 13
    for our, their in zip(*weights, strict=True):
        torch.testing.assert_close(our, their, atol=1e-7, rtol=0)


def test_the_generators_checkpoint_opens_without_its_hparams(gan):
    generator = load_generator(gan / "best.pth")
    assert generator.img_size == 96
    assert not any(parameter.requires_grad for parameter in generator.parameters())


def test_curves_and_sample_images_are_written(store, expert, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    hp = GENERATOR.replace("sample_interval=0", "sample_interval=2")
    folder = train_generator(store, expert / "best.pth", tmp_path, 2, "--recipe", "wav2lip", hp=hp)
    log = EventAccumulator(str(folder / "tensorboard")).Reload()
    assert {"loss/l1", "loss/sync", "val/l1", "val/p_sync"} <= set(log.Tags()["scalars"])
    assert all(event.value > 0 for event in log.Scalars("speed/samples_per_second"))
    assert all(0 <= event.value <= 1 for event in log.Scalars("speed/share_waiting_for_data"))
    assert [event.step for event in log.Scalars("loss/l1")] == [1, 2]
    assert [event.step for event in log.Images("reference_masked_generated_truth")] == [0, 2]


def test_experts_and_generators_must_agree_on_the_image_size(store, tmp_path):
    torch.save({"state_dict": SyncNetExpert(192, 0.0625).state_dict()}, tmp_path / "expert192.pth")
    with pytest.raises(UserError, match="its expert sees 5 frames of 192 px, the generator draws 5 of 96 px"):
        train_generator(store, tmp_path / "expert192.pth", tmp_path / "run", 2)


def test_an_expert_hears_speech_cut_as_it_has_learnt_it(store, expert, tmp_path, capsys):
    official = tmp_path / "official.pth"
    export_official(load_expert(expert / "best.pth"), official)  # which does not say, and knows whole columns only
    nearest = train_expert(store, tmp_path / "nearest", 1, hp=f"{EXPERT},syncnet_mel_cut=nearest") / "best.pth"
    capsys.readouterr()
    for i, teacher in enumerate((official, nearest, expert / "best.pth")):
        folder = train_generator(store, teacher, tmp_path / f"run{i}", 1)
        was_said = "trained with syncnet_mel_cut=nearest, which is used in place of exact" in capsys.readouterr().out
        cut = at_step(folder, 1)["hparams"]["syncnet_mel_cut"]
        assert (cut, was_said) == (("exact", False) if i == 2 else ("nearest", True))
    data = ["--data_root", str(store), "--filelists", str(store / "lists"), "--device", "cpu"]
    train_syncnet.main([*data, "--evaluate_only", "--checkpoint_path", str(nearest), "--hparams", EXPERT])
    assert "syncnet_mel_cut=nearest, which is used" in capsys.readouterr().out


# the loop, with a recipe that has nothing to do with lips


class Line:
    """Fits y = 2x with one weight."""

    kind = "line"

    def __init__(self, after_step=lambda step: None):
        self.line = torch.nn.Linear(1, 1, bias=False)
        self.networks = {"line": self.line}
        self.optimizers = {"sgd": torch.optim.SGD(self.line.parameters(), lr=0.1)}
        self.learning_rates = {"sgd": 0.1}
        self.steps, self.after_step, self.owes_evaluation, self.is_fine_tuning = 0, after_step, False, False

    def step(self, batch):
        loss = ((self.line(batch["x"]) - 2 * batch["x"]) ** 2).mean()
        self.optimizers["sgd"].zero_grad()
        loss.backward()
        self.optimizers["sgd"].step()
        self.steps += 1
        self.after_step(self.steps)
        return {"loss/mse": loss}

    def evaluate(self, batches):
        return Evaluation({"val/mse": sum(((self.line(b["x"]) - 2 * b["x"]) ** 2).mean().item() for b in batches)})

    def best_of(self, values):
        return ["best"]

    def samples(self, batch):
        return {}

    def state_dict(self):
        return {"steps": self.steps, "owes_evaluation": self.owes_evaluation}

    def load_state_dict(self, state):
        self.steps = state["steps"]


def run_line(recipe, folder, steps, batches=None, keep=2, rate_at=lambda step: 1.0, samples=0, watch=None):
    monitor = Monitor(folder / "tensorboard", 0)
    endless = iter(lambda: {"x": torch.ones(4, 1)}, None)
    try:
        return train(
            recipe,
            batches or endless,
            lambda: iter([{"x": torch.ones(1, 1)}]),
            Checkpoints(folder, recipe, resolve(), lambda step: {"data": "x"}, keep),
            monitor,
            Intervals(log=1, samples=samples, evaluation=5, checkpoint=3),
            0,
            steps,
            CPU,
            rate_at,
            on_nonfinite=lambda step, batch: {},
            watch=watch,
        )
    finally:
        monitor.close()


def test_the_loop_reaches_its_last_step_evaluates_and_keeps_the_newest_checkpoints(tmp_path):
    values = run_line(Line(), tmp_path, 20).values
    assert values["val/mse"] < 1e-3
    assert sorted(checkpoint.found_in(tmp_path)) == [18, 20]
    assert (tmp_path / "best.pth").exists()
    assert not list(tmp_path.glob("*.part"))


def test_the_watch_hears_of_the_steps_and_of_evaluations_since(tmp_path):
    heard = {}
    run_line(Line(), tmp_path, 7, watch=lambda step, means: heard.update({step: means}))
    assert list(heard) == [1, 2, 3, 4, 5, 6, 7] and all("loss/mse" in means for means in heard.values())
    # Evaluated at steps 0, which is no news, 5 and 7, the last.
    assert [step for step, means in heard.items() if "val/mse" in means] == [6]


def test_a_loss_that_is_switched_on_between_two_points_is_averaged_over_its_own_steps(tmp_path):
    monitor = Monitor(tmp_path, 0)
    monitor.add({"loss/l1": 2.0})
    monitor.add({"loss/l1": 4.0, "loss/sync": torch.tensor(1.0)})
    assert monitor.flush(2) == {"loss/l1": 3.0, "loss/sync": 1.0}
    assert monitor.flush(3) == {}
    monitor.close()


def test_the_learning_rate_is_set_from_the_schedule_at_every_step(tmp_path):
    recipe, seen = Line(), []
    recipe.after_step = lambda step: seen.append(recipe.optimizers["sgd"].param_groups[0]["lr"])
    run_line(recipe, tmp_path, 4, rate_at=lambda step: 1 / (step + 1))
    assert seen == pytest.approx([0.1, 0.05, 0.1 / 3, 0.025])


def test_learning_rates_rise_linearly_and_fall_as_a_cosine():
    rates = [rate_at(step, last_step=104, warmup_steps=4, decay="cosine") for step in range(104)]
    assert rates[:5] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    assert rates[54] == pytest.approx(0.5)
    assert rates == sorted(rates[:5]) + sorted(rates[5:], reverse=True)
    assert rates[-1] > 0
    assert {rate_at(step, 10, 0, "none") for step in range(20)} == {1.0}
    assert [rate_at(step, 10, 100, "none") for step in range(4)] == pytest.approx([1 / 3, 2 / 3, 1, 1])


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_step_and_writes_a_checkpoint(tmp_path, number):
    before = signal.getsignal(signal.SIGINT)  # ignored in a shell's background job
    recipe = Line(after_step=lambda step: signal.raise_signal(number) if step == 7 else None)
    with pytest.raises(KeyboardInterrupt):
        run_line(recipe, tmp_path, 20)
    assert recipe.steps == 7
    assert max(checkpoint.found_in(tmp_path)) == 7
    assert signal.getsignal(signal.SIGINT) is before


class Failing(torch.utils.data.Dataset):
    """Samples for Line, of which the eleventh does what it is told to."""

    def __init__(self, fail):
        self.fail = fail

    def __len__(self):
        return 100

    def __getitem__(self, i):
        if i == 10:
            self.fail()
        return {"x": np.float32([1])}


@pytest.mark.parametrize(("step_s", "die_s"), [(0.1, 0), (0, 0.5)])  # while a step is under way, or is waited for
def test_a_worker_that_dies_ends_the_run_in_one_line(tmp_path, step_s, die_s):
    def die():
        time.sleep(die_s)
        os.kill(os.getpid(), signal.SIGKILL)

    recipe = Line(after_step=lambda step: time.sleep(step_s))
    loader = torch.utils.data.DataLoader(Failing(die), batch_size=1, num_workers=1)
    with pytest.raises(UserError, match="a loader worker died.*lower num_workers.*--resume"):
        run_line(recipe, tmp_path, 20, batches=loader)
    assert step_s or max(checkpoint.found_in(tmp_path)) == 10


@pytest.mark.parametrize("kind", [ConnectionResetError, EOFError])
def test_a_worker_that_dies_while_it_hands_over_is_said_too(tmp_path, kind):
    def half_way():
        yield from ({"x": torch.ones(4, 1)} for _ in range(4))
        raise kind("Connection reset by peer")

    with pytest.raises(UserError, match="a loader worker died"):
        run_line(Line(), tmp_path, 20, batches=half_way())
    assert max(checkpoint.found_in(tmp_path)) == 4


def test_a_death_of_a_worker_during_a_save_is_not_blamed_on_the_disk(tmp_path, monkeypatch):
    def save(content, path):
        # torch's own report comes as a signal and interrupts whatever the main thread does.
        raise RuntimeError("DataLoader worker (pid(s) 7) exited unexpectedly")

    monkeypatch.setattr(torch, "save", save)
    with pytest.raises(UserError, match="a loader worker died"):
        run_line(Line(), tmp_path, 20)


def test_a_bug_in_a_worker_is_not_taken_for_its_death(tmp_path):
    def fail():
        raise RuntimeError("sizes of tensors must match")

    loader = torch.utils.data.DataLoader(Failing(fail), batch_size=1, num_workers=1)
    with pytest.raises(RuntimeError, match="sizes of tensors"):
        run_line(Line(), tmp_path, 20, batches=loader)


def test_a_clip_that_turns_unreadable_ends_the_run_with_its_name(tmp_path, capsys):
    def fail():
        raise UserError("id1/clip7: stored clip is damaged: preprocess it again")

    loader = torch.utils.data.DataLoader(Failing(fail), batch_size=1, num_workers=1)
    with pytest.raises(UserError) as refusal:
        run_line(Line(), tmp_path, 20, batches=loader)
    assert str(refusal.value) == "id1/clip7: stored clip is damaged: preprocess it again"
    assert max(checkpoint.found_in(tmp_path)) == 10  # the steps before it, also those since the last one that was due
    assert f"what was learnt is kept in {tmp_path}/checkpoint_step000000010.pth" in capsys.readouterr().out


def test_the_loader_is_gone_before_what_was_learnt_is_saved(tmp_path, monkeypatch):
    def fail():
        raise ValueError("a file is not what it was")

    loader = torch.utils.data.DataLoader(Failing(fail), batch_size=1, num_workers=1)
    iterators, alive = weakref.WeakSet(), []

    class Watched:
        def __iter__(self):
            iterators.add(iterator := iter(loader))
            return iterator

    save = torch.save
    monkeypatch.setattr(torch, "save", lambda *args: (alive.append(len(iterators)), save(*args)))
    with pytest.raises(ValueError, match="a file is not what it was"):
        run_line(Line(), tmp_path, 20, batches=Watched())
    assert max(checkpoint.found_in(tmp_path)) == 10
    assert alive[0] == 1 and alive[-1] == 0


@pytest.mark.parametrize("fails", ["evaluate", "samples"])
def test_what_only_looks_at_the_val_list_loses_no_step_when_it_fails(tmp_path, capsys, fails):
    class Blind(Line):
        def evaluate(self, batches):
            return fail() if fails == "evaluate" and self.steps else super().evaluate(batches)

        def samples(self, batch):
            return fail() if fails == "samples" and self.steps else {}

    def fail():
        raise UserError("id1/clip7: stored clip is damaged")

    with pytest.raises(UserError, match="id1/clip7: stored clip is damaged"):
        run_line(Blind(), tmp_path, 20, samples=7)
    at = {"evaluate": 5, "samples": 7}[fails]
    assert max(checkpoint.found_in(tmp_path)) == at
    assert at_step(tmp_path, at)["recipe"]["owes_evaluation"] == (fails == "evaluate")
    assert f"what was learnt is kept in {tmp_path}/checkpoint_step00000000{at}.pth" in capsys.readouterr().out


def test_an_evaluation_that_was_made_up_for_is_owed_no_more(tmp_path):
    recipe = Line()
    recipe.owes_evaluation = True
    run_line(recipe, tmp_path, 4)
    assert not at_step(tmp_path, 3)["recipe"]["owes_evaluation"]


def test_a_damaged_later_checkpoint_does_not_cost_the_one_just_written(tmp_path):
    checkpoints = Checkpoints(tmp_path, Line(), resolve(), lambda step: {"data": "x"}, keep=1)
    checkpoints.save(1)
    (tmp_path / checkpoint.FILE.format(3)).write_bytes(b"torn")
    checkpoints.save(2)
    assert sorted(checkpoint.found_in(tmp_path)) == [2, 3]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_ends_the_run_with_the_last_good_checkpoint_named(tmp_path):
    recipe = Line()
    checkpoints = Checkpoints(tmp_path, recipe, resolve(), lambda step: {"data": "x"}, keep=2)
    good = checkpoints.save(1)
    (tmp_path / "checkpoint_step000000002.pth.part").symlink_to("/dev/full")
    with pytest.raises(UserError, match=f"could not be written.*the last good one is {good}"):
        checkpoints.save(2)
    assert read_checkpoint(good)["step"] == 1
    assert not (tmp_path / "checkpoint_step000000002.pth").exists()
