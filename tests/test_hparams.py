"""hparams.py promises: one frozen set of knobs, changed only by name, with every mistake refused in one line."""

import argparse
import dataclasses
from pathlib import Path

import pytest

import hparams
from clips.settings import HEARD
from hparams import HParamError, HParams, resolve


def test_overrides_are_parsed_as_the_type_of_their_knob():
    hp = resolve(overrides="width=0.25, batch_size=1_000,face_detector=dlib,sync_gate=inf")
    assert (hp.width, hp.batch_size, hp.face_detector, hp.sync_gate) == (0.25, 1000, "dlib", float("inf"))


def test_overrides_given_in_several_flags_all_count():
    parser = argparse.ArgumentParser()
    hparams.add_flags(parser)
    given = parser.parse_args(["--hparams", "width=0.5,batch_size=3", "--hparams", "batch_size=4"])
    assert hparams.from_args(given) == HParams(width=0.5, batch_size=4)
    assert hparams.from_args(parser.parse_args([])) == HParams()


def test_a_preset_is_applied_before_single_overrides():
    assert resolve("faithful").detect_every == 1
    assert resolve("faithful", "detect_every=3").detect_every == 3


def edited(**values) -> type[HParams]:
    """What hparams.py would be with other defaults."""
    fields = [(name, HParams.__annotations__[name], value) for name, value in values.items()]
    return dataclasses.make_dataclass("HParams", fields, bases=(HParams,), frozen=True)


def test_faithful_is_the_papers_recipe_whatever_the_defaults(monkeypatch):
    # Prajwal et al. 2020, sections 3 and 4.1, and the official code where the paper is silent.
    papers = {
        "syncnet_loss": "bce",
        "syncnet_batch_size": 64,
        "syncnet_T": 5,
        "syncnet_lr": 1e-3,
        "syncnet_beta1": 0.9,
        "syncnet_beta2": 0.999,
        "syncnet_positive_share": 0.5,
        "syncnet_min_gap": 1,
        "syncnet_mel_cut": "nearest",
        "syncnet_warmup_steps": 0,
        "syncnet_decay": "none",
        "img_size": 96,
        "width": 1.0,
        "initial_learning_rate": 1e-4,
        "syncnet_wt": 0.03,
        "disc_wt": 0.07,
        "sync_gate": 0.75,
        "sync_loss": "paper",
        "decay": "none",
        "speech_encoder_init": "random",
        "reference_candidates": 1,
        "mask_top": 0.5,
    }
    extras = "syncnet_flip syncnet_shift_px syncnet_turn syncnet_zoom syncnet_colour syncnet_blur syncnet_speech_gain "
    extras += (
        "syncnet_voice syncnet_weight_decay syncnet_ema_decay ema_decay clip_grad_norm disc_r1_wt disc_label_smoothing "
    )
    extras += "chin_jitter perceptual_wt warmup_steps"
    others = dict(syncnet_T=9, fmax=7000.0, syncnet_batch_size=256, syncnet_lr=3e-4, syncnet_beta2=0.99, img_size=288)
    others |= dict(syncnet_positive_share=0.3, width=0.5, syncnet_wt=0.01, disc_wt=0.01, sync_gate=0.0, mask_top=0.3)
    others |= dict(decay="cosine", sync_loss="stabilised", speech_encoder_init="expert", reference_candidates=8)
    others |= {name: HParams.__annotations__[name](0.05) or 1 for name in extras.split()}
    for default in (HParams, edited(**others)):
        monkeypatch.setattr(hparams, "HParams", default)
        hp = dataclasses.asdict(resolve("faithful"))
        assert {name: hp[name] for name in papers} == papers
        assert {name: hp[name] for name in extras.split()} == dict.fromkeys(extras.split(), 0)


def test_what_official_files_do_not_say_is_the_officials_whatever_the_defaults(monkeypatch):
    heard = {name: getattr(HParams(), name) for name in hparams.OFFICIAL} | {"syncnet_mel_cut": "nearest"}
    assert heard == hparams.OFFICIAL and set(HEARD) < set(heard)
    monkeypatch.setattr(hparams, "HParams", edited(syncnet_T=9, fmax=7000.0, hop_size=190, batch_size=3))
    read = dataclasses.asdict(hparams.from_dict({}))
    assert {name: read[name] for name in heard} == heard and read["batch_size"] == 3


def test_every_preset_names_only_existing_knobs():
    assert all(isinstance(resolve(name), HParams) for name in hparams.PRESETS)


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        ("batchsize=3", "did you mean 'batch_size'"),
        ("batch_size=many", "not a valid int"),
        ("batch_size=0", "must be greater than 0"),
        ("syncnet_lr=nan", "syncnet_lr=nan: not a number"),
        ("syncnet_windows_per_clip=1", "must be at least 2"),
        ("syncnet_flip=1.5", "must be from 0 to 1"),
        ("batch_size", "not name=value"),
        ("syncnet_wt=3", "must be from 0 to 1"),
        ("seed=20240101120000", "must be from 0 to 4294967295"),
        ("sync_gate=nan", "sync_gate=nan: not a number"),
        ("min_level_db=nan", "min_level_db=nan: not a number"),
        ("val_share=1.5", "must be from 0 to 1"),
        ("test_share=-0.1", "must be from 0 to 1"),
        ("jpeg_quality=101", "must be from 1 to 100"),
        ("store_size=15", "must be at least 16"),
        ("max_gap_frames=-1", "must be at least 0"),
        ("min_frames=0", "must be at least 1"),
        ("clip_timeout_s=0", "must be greater than 0"),
        ("num_mels=40", "must be 80"),
        ("n_fft=512", "n_fft must be at least win_size"),
        ("detect_max_side=-1", "must be at least 0"),
        ("fmin=7600", "fmin=7600, fmax=7600: must rise from 0"),
        ("fmax=8001", "at most half of sample_rate=16000"),
        ("sample_rate=48000", "see 0.2 s and hear 0.0667 s: hop_size=600 makes them alike"),
        ("fps=50", "see 0.1 s and hear 0.2 s: hop_size=100 makes them alike"),
        ("face_detector=mtcnn", "choose one of sfd"),
        ("img_size=100", "choose one of 96"),
    ],
)
def test_a_wrong_override_is_refused_with_the_remedy(overrides, said):
    with pytest.raises(HParamError, match=said) as refusal:
        resolve(overrides=overrides)
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("syncnet_lr", "1e-4", "syncnet_lr='1e-4' in hparams.py: not a float"),
        ("syncnet_lr", (1e-4,), r"syncnet_lr=\(0.0001,\) in hparams.py: not a float"),
        ("syncnet_lr", None, "syncnet_lr=None in hparams.py: not a float"),
        ("syncnet_lr", True, "syncnet_lr=True in hparams.py: not a float"),
        ("keep_checkpoints", 3.0, "keep_checkpoints=3.0 in hparams.py: not an int"),
        ("keep_checkpoints", True, "keep_checkpoints=True in hparams.py: not an int"),
        ("compile", "False", "compile='False' in hparams.py: not a bool: write True or False"),
        ("compile", 0, "compile=0 in hparams.py: not a bool"),
        ("decay", None, "decay=None in hparams.py: not a str"),
    ],
)
def test_a_value_of_another_type_than_its_line_says_is_refused(monkeypatch, name, value, said):
    with pytest.raises(HParamError, match=said):
        HParams(**{name: value})
    monkeypatch.setitem(hparams.PRESETS, "mine", {name: value})
    with pytest.raises(HParamError, match=said):
        resolve("mine")


@pytest.mark.parametrize("T", [1, 5, 9, 16])
def test_the_expert_hears_as_long_as_it_sees_whatever_its_window(T):
    assert resolve(overrides=f"syncnet_T={T}")
    assert resolve(overrides=f"syncnet_T={T},fps=30")  # 0.17 s seen, 0.2 s heard
    with pytest.raises(HParamError, match="makes them alike"):
        resolve(overrides=f"syncnet_T={T},fps=50")


def test_a_typo_in_a_preset_names_the_preset_and_the_nearest_knob(monkeypatch):
    monkeypatch.setitem(hparams.PRESETS, "mine", {"batchsize": 3})
    with pytest.raises(HParamError, match="preset 'mine' in hparams.py: unknown hparam 'batchsize': .* 'batch_size'"):
        resolve("mine")


def test_an_unknown_preset_names_the_nearest():
    with pytest.raises(HParamError, match="did you mean 'faithful'"):
        resolve("faitful")


def test_hparams_cannot_be_changed_after_the_start():
    with pytest.raises(dataclasses.FrozenInstanceError):
        HParams().batch_size = 3


def test_saved_hparams_of_an_older_version_are_read():
    saved = dataclasses.asdict(HParams(width=0.5)) | {
        "a_knob_of_the_past": 1,
        "syncnet_balance": "by clip",
        "nsteps": 0.5,
        "keep_checkpoints": True,
    }
    del saved["seed"]
    assert hparams.from_dict(saved) == HParams(width=0.5)
    assert hparams.from_dict({**saved, "fps": 50, "min_frames": 0}).fps == 50  # ranges may be narrower today
    del saved["syncnet_mel_cut"]
    assert hparams.from_dict(saved) == HParams(width=0.5, syncnet_mel_cut="nearest")  # all there was then


def test_differences_name_the_knob_and_both_values():
    assert hparams.differences(HParams(), HParams(width=0.5)) == ["width: 1.0 -> 0.5"]


def test_every_knob_states_its_source():
    lines = Path(hparams.__file__).read_text(encoding="utf-8").split("\n")
    knobs = [line for line in lines if line.startswith("    ") and ": " in line.split("#")[0] and " = " in line]
    knobs = [line for line in knobs if line.split(":")[0].strip() in {f.name for f in dataclasses.fields(HParams)}]
    assert len(knobs) == len(dataclasses.fields(HParams))
    assert all(any(f"[{source}" in line for source in ("paper", "code", "ours")) for line in knobs)
