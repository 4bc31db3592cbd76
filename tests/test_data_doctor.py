"""--check_data promises: a sound data set passes, each fault that keeps an expert from learning is named with its clips
and a remedy, and the exit code says which it was.

Stores are written directly from drawn faces that talk, each with one fault planted.
"""

import dataclasses
import re
from itertools import zip_longest
from pathlib import Path

import cv2
import numpy as np
import pytest
import scipy.io.wavfile
from scipy.ndimage import gaussian_filter1d

import audio
import train_syncnet
from clips import filelists, manifest
from clips.corpus import open_split
from clips.dataset import ExpertDataset, GeneratorDataset
from clips.settings import settings_of
from clips.store import ClipWriter, as_stored
from errors import UserError
from evaluation import offsets
from evaluation.data_doctor import clips_finding
from evaluation.lip_lag import EXPERT, LAGS, LOUDNESS, Agreement, Lags, agreement_by_lag, p_sync_by_lag
from evaluation.survey import sampled
from hparams import HParams
from models import SyncNetExpert, export_official
from toy import make_toy_clip

IDENTITIES, CLIPS, SECONDS = 10, 2, 3.0
VAL = "id9"
FRAME = 640  # samples of sound
HP = HParams()


@pytest.fixture(scope="module")
def toys() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Faces (75, 96, 96, 3) and speech of 20 clips by name."""
    clips = {}
    for identity in range(IDENTITIES):
        for clip in range(CLIPS):
            frames, speech = make_toy_clip(identity, clip, SECONDS)
            # The box that a detector finds in these frames.
            clips[f"id{identity}/clip{clip}"] = (
                np.stack([cv2.resize(f[34:178, 48:147], (96, 96)) for f in frames]),
                speech,
            )
    return clips


def write_clip(
    root: Path, name: str, faces, speech, mel_columns=None, facts=None, sha256="", settings=""
) -> manifest.Row:
    speech = as_stored(speech)
    mel = audio.melspectrogram(speech, HP)
    n = len(faces)
    writer = ClipWriter(root / name, HP.fps, 96, HP.sample_rate, HP.jpeg_quality)
    for face in faces:
        writer.add_frame(face)
    writer.close(speech, mel[:, :mel_columns], np.zeros((n, 4)), np.ones(n), {"fps": HP.fps} | (facts or {}))
    columns = mel.shape[1]
    stored = {"frames": n, "mel_columns": columns, "runs": [(0, n)], "source_sha256": sha256 or name}
    return manifest.Row(f"{name}.mp4", name, "kept", **stored, settings=settings)


def write_store(root: Path, clips: dict, **of_clip) -> Path:
    """clips: (faces, speech) by name; of_clip: more arguments of write_clip for clips called `id1_clip0` and so on."""
    root.mkdir()
    writer = manifest.ManifestWriter(root)
    for name, (faces, speech) in clips.items():
        writer.add(write_clip(root, name, faces, speech, **of_clip.get(name.replace("/", "_"), {})))
    writer.close()
    write_lists(root, list(clips))
    return root


def write_lists(root: Path, names: list[str]) -> None:
    held_out = [name for name in names if name.split("/")[0] == VAL]
    filelists.write(root / "lists", {"train": set(names) - set(held_out), "val": held_out})


@pytest.fixture(scope="module")
def clean(toys, tmp_path_factory) -> Path:
    return write_store(tmp_path_factory.mktemp("clean") / "store", toys)


@pytest.fixture
def check(capsys):
    """check(root, *flags) -> (exit code, findings, all that was printed)."""

    def run(root: Path, *flags):
        data = ["--data_root", str(root), "--filelists", str(root / "lists"), "--device", "cpu"]
        code = train_syncnet.main([*data, "--check_data", *flags])
        said = capsys.readouterr().out.splitlines()
        little = "note: little data for real faces"  # true of every store here
        return code, [x for x in said if x.startswith(("problem: ", "note: ")) and not x.startswith(little)], said

    return run


@pytest.fixture
def findings(toys, tmp_path, check):
    """findings(changes, **of_clip): what is found in a store where `changes` takes the place of clips."""

    def run(changes: dict, **of_clip):
        code, found, _ = check(write_store(tmp_path / "store", toys | changes, **of_clip))
        assert code == any(line.startswith("problem") for line in found)
        return found

    return run


def the_only(found: list[str]) -> str:
    assert len(found) == 1, found
    return found[0]


def delayed(speech: np.ndarray, frames: int) -> np.ndarray:
    """The speech so many frames later; what then is missing is silent."""
    samples = frames * FRAME
    if samples >= 0:
        return np.pad(speech, (samples, 0))[: len(speech)]
    return np.pad(speech[-samples:], (0, -samples))


# a sound data set


def test_a_sound_data_set_passes(clean, check):
    code, found, said = check(clean)
    assert (code, found) == (0, [])
    assert said[-1] == "OK: nothing found that would stop the expert from learning"
    assert "looked at 20 clips, closely at 20 of them" in said


def test_faults_planted_together_are_all_named(toys, findings):
    still = np.repeat(toys["id1/clip0"][0][:1], 75, axis=0)
    planted = {
        "id1/clip0": (still, toys["id1/clip0"][1]),
        "id2/clip0": (toys["id2/clip0"][0], np.zeros_like(toys["id2/clip0"][1])),
        "id3/clip0": (toys["id3/clip0"][0], delayed(toys["id3/clip0"][1], 8)),
        "id4/clip0": (toys["id4/clip0"][0], delayed(toys["id4/clip0"][1], -8)),
        "id9/clip0": toys["id5/clip0"],
    }
    of_clip = {"id6_clip0": {"facts": {"fps": 30}}, "id7_clip0": {"facts": {"source_sound_s": 2.5}}}
    found = findings(planted, **of_clip)
    for fault in (
        "the face does not move: 1 of 20 clips (5.0%), e.g. id1/clip0",
        "the sound is silent: 1 of 20 clips (5.0%), e.g. id2/clip0",
        "clips with a clear answer have one, e.g. id3/clip0 (8 frames late), id4/clip0 (8 frames early)",
        "look and sound the same in both train and val: 1, e.g. id5/clip0 = id9/clip0",
        "stored with fps=30, now it is 25, so lips and speech drift apart: 1 of 20 clips (5.0%), e.g. id6/clip0",
        "picture and sound of the source differ in length: 1 of 1 clips (100.0%), e.g. id7/clip0",
    ):
        assert sum(fault in line for line in found) == 1, (fault, found)
    assert len(found) == 6


def test_the_official_layout_is_checked_too(toys, tmp_path, check):
    for name, (faces, speech) in toys.items():
        (tmp_path / name).mkdir(parents=True)
        for i, face in enumerate(faces):
            cv2.imwrite(str(tmp_path / name / f"{i}.jpg"), face)
        # One source had 30 fps, which the official code does not convert: its sound is shorter.
        rate = 30 if name == "id4/clip1" else 25
        pcm = (speech[: len(faces) * 16000 // rate] * 32767).astype(np.int16)
        scipy.io.wavfile.write(tmp_path / name / "audio.wav", 16000, pcm)
    write_lists(tmp_path, list(toys))
    code, found, _ = check(tmp_path)
    assert code == 1 and "id4/clip1" in the_only(found)
    assert "3.00 s of picture at 25 fps, 2.50 s of sound" in found[0]


def test_no_checkpoint_folder_is_needed_but_for_training(clean, capsys):
    with pytest.raises(SystemExit):
        train_syncnet.main(["--data_root", str(clean)])
    assert "--checkpoint_dir is missing" in capsys.readouterr().err


def test_a_wrong_folder_ends_in_one_line(tmp_path):
    with pytest.raises(UserError, match="no such folder: --data_root"):
        train_syncnet.main(["--data_root", str(tmp_path / "x"), "--check_data", "--device", "cpu"])


# offsets


@pytest.mark.parametrize("lag, in_words, remedy", [(6, "6 frames late", "-0.24 s"), (-6, "6 frames early", "+0.24 s")])
def test_an_offset_of_the_whole_data_set_is_measured(toys, findings, lag, in_words, remedy):
    found = the_only(findings({name: (faces, delayed(speech, lag)) for name, (faces, speech) in toys.items()}))
    assert found.startswith(f"problem: offset: the sound of the whole data set is {in_words}, over 20 clips")
    assert f"Move the sound by {remedy}" in found


def test_an_offset_of_some_clips_is_found_in_them(toys, findings):
    off = ["id1/clip0", "id3/clip1", "id5/clip0"]
    found = the_only(findings({name: (toys[name][0], delayed(toys[name][1], 8)) for name in off}))
    assert re.match(r"problem: offset: 3 of \d+ clips with a clear answer have one, e.g. ", found)
    # One clip's peak may be a frame beside the truth.
    measured = dict(re.findall(r"(id\d/clip\d) \((\d+) frames late\)", found))
    assert list(measured) == off and all(7 <= int(lag) <= 9 for lag in measured.values())


def test_clips_that_are_all_late_by_other_amounts_are_not_taken_for_unrelated(toys, findings):
    lags = {name: (-1) ** i * (5 + i % 4) for i, name in enumerate(toys)}
    found = the_only(findings({name: (faces, delayed(speech, lags[name])) for name, (faces, speech) in toys.items()}))
    off, clear = map(int, re.match(r"problem: offset: (\d+) of (\d+) clips with a clear answer", found).groups())
    assert off == clear >= 8


def test_speech_of_other_clips_has_no_link_to_the_lips(toys, findings):
    others = np.roll(list(toys), 3)
    found = findings({name: (toys[name][0], toys[other][1]) for name, other in zip(toys, others, strict=True)})
    assert "problem: no link between lips and sound at any lag in 20 clips" in the_only(found)


def test_offsets_can_be_measured_with_an_expert(clean, tmp_path, check):
    expert = tmp_path / "expert.pth"
    export_official(SyncNetExpert(width=0.0625), expert)
    code, found, said = check(clean, "--checkpoint_path", str(expert))
    assert code == 1 and "The expert has not learnt these faces yet" in the_only(found)
    assert any(line.startswith("offsets: ") and "by the expert" in line for line in said)


def test_offsets_an_expert_has_measured_are_corrected_when_clips_are_read(toys, tmp_path, check, monkeypatch, capsys):
    planted = {"id1/clip0": 8, "id3/clip1": -6, "id9/clip0": 3}
    store = write_store(
        tmp_path / "store", toys | {name: (toys[name][0], delayed(toys[name][1], lag)) for name, lag in planted.items()}
    )
    assert re.match("note: offset: 2 of", the_only(check(store)[1]))

    def by_a_perfect_expert(judge, clip, run, hp, frames):
        name = "/".join(clip.path.parts[-2:])
        flat = np.zeros(len(LAGS))
        return Agreement(flat if name == "id0/clip0" else -0.1 * np.abs(LAGS - planted.get(name, 0.0)), flat, 100)

    measured = []

    def interrupted(judge, clip, run, hp, frames):
        if len(measured) == 7:
            raise KeyboardInterrupt
        measured.append(clip.path)
        return by_a_perfect_expert(judge, clip, run, hp, frames)

    def counted(judge, clip, run, hp, frames):
        measured.append(clip.path)
        return by_a_perfect_expert(judge, clip, run, hp, frames)

    expert = tmp_path / "expert.pth"
    export_official(SyncNetExpert(width=0.0625), expert)
    monkeypatch.setattr(offsets, "load_expert_judge", lambda path, device: None)
    flags = ["--data_root", str(store), "--filelists", str(store / "lists"), "--device", "cpu"]
    flags += ["--correct_offsets", "--checkpoint_path", str(expert)]
    with pytest.raises(UserError, match="its expert was trained with fps=25 .here 30."):
        train_syncnet.main([*flags, "--hparams", "fps=30"])
    monkeypatch.setattr(offsets, "judged_agreement", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train_syncnet.main(flags)
    with open(store / offsets.MEASURED, "ab") as file:
        file.write(b'\0\0\n["of an earlier version", [0.1, 0.2, 0.3]]\n["torn", [0.1')
    monkeypatch.setattr(offsets, "judged_agreement", counted)
    for _ in range(2):  # the second time finds nothing to write
        train_syncnet.main(flags)
        assert len(measured) == len(set(measured)) == 20 and not (store / offsets.MEASURED).exists()
        measured.clear()
        said = capsys.readouterr().out
        assert "sound 8 frames late: 1 clips" in said and "sound 6 frames early: 1 clips" in said
        assert "no clear answer" in said
        assert len((store / manifest.NAME).read_text().splitlines()) == 20 + 19

    rows = {row.clip: row for row in manifest.read(store).values()}
    assert {name: row.offset_frames for name, row in rows.items() if row.offset_frames} == planted
    assert rows["id0/clip0"].offset_frames is None and rows["id0/clip1"].offset_frames == 0
    code, found, _ = check(store)
    assert code == 0 and not found, found


@pytest.mark.parametrize("lag", [5, -5])
@pytest.mark.parametrize("kind", ["expert", "generator"])
def test_a_corrected_clip_reads_as_one_in_time(toys, tmp_path, lag, kind):
    faces, speech = toys["id1/clip0"]
    store = write_store(tmp_path / "store", {"id1/clip0": (faces, speech), "id1/late": (faces, delayed(speech, lag))})
    row = {row.clip: row for row in manifest.read(store).values()}["id1/late"]
    writer = manifest.ManifestWriter(store)
    writer.add(dataclasses.replace(row, offset_frames=lag))
    writer.close()
    corpus = open_split(store, store / "lists", "train", HP, kind)
    clip, late = (corpus.names.index(name) for name in ("id1/clip0", "id1/late"))
    dataset = {"expert": ExpertDataset, "generator": GeneratorDataset}[kind](corpus, 96)
    (first, end), (whole_first, whole_end) = *corpus.windows[late], *corpus.windows[clip]
    assert (first, end) == (max(whole_first - lag, 0), min(whole_end - lag, len(faces) - HP.syncnet_T + 1))
    for start in (first, end - 1):
        assert dataset.expert_mel(late, start).shape == (80, 16)
    for start in (first + 4, end - 8):  # what is nearer to the ends hears the silence that was put in
        assert np.allclose(dataset.expert_mel(late, start), dataset.expert_mel(clip, start), atol=1e-3)
        assert np.array_equal(dataset.faces(late, start), dataset.faces(clip, start))
        if kind == "generator":
            assert np.allclose(dataset.frame_mels(late, start), dataset.frame_mels(clip, start), atol=1e-3)
    as_it_is = open_split(store, store / "lists", "train", dataclasses.replace(HP, correct_offsets=False), kind)
    assert as_it_is.windows[late] == as_it_is.windows[clip] and not any(as_it_is.late)
    assert as_it_is.fingerprint != corpus.fingerprint


def test_offsets_of_the_official_layout_or_by_an_untrained_expert_are_not_written(clean, tmp_path):
    expert = tmp_path / "expert.pth"
    export_official(SyncNetExpert(width=0.0625), expert)
    before = (clean / manifest.NAME).read_bytes()
    flags = ["--data_root", str(clean), "--filelists", str(clean / "lists"), "--device", "cpu", "--correct_offsets"]
    with pytest.raises(UserError, match="finds no link between lips and sound in 20 clips"):
        train_syncnet.main([*flags, "--checkpoint_path", str(expert)])
    assert (clean / manifest.NAME).read_bytes() == before
    with pytest.raises(SystemExit):
        train_syncnet.main(flags)


def test_a_lag_is_positive_where_the_sound_comes_late():
    mouth = np.random.default_rng(0).normal(size=200)
    for lag in (-15, -3, 0, 7, 15):
        assert LAGS[agreement_by_lag(mouth, np.roll(mouth, lag)).curve.argmax()] == lag


@pytest.mark.parametrize("frames", [24, 40, 200])
@pytest.mark.parametrize("lag", [-9, 0, 4])
def test_a_weak_expert_finds_the_lag_of_short_clips_too(frames, lag):
    # Sound that is missing beyond the ends must not count: to unit vectors, nothing is nearer than what is wrong.
    def unit(features):
        return features / np.linalg.norm(features, axis=1, keepdims=True)

    rng = np.random.default_rng(1)
    said = np.abs(rng.normal(size=(frames + 40, 64)))
    face = unit(np.abs(rng.normal(size=(frames, 64))) + 0.6 * said[20 : 20 + frames])
    curve = p_sync_by_lag(face, unit(said[20 - lag : 20 - lag + frames])).curve
    assert LAGS[curve.argmax()] == lag and 0.05 < curve.max() - np.median(curve) < 0.3
    others = np.delete(curve, curve.argmax())
    assert others.max() - others.min() < 0.06
    assert p_sync_by_lag(face[:19], face[:19]) is None


def bump(lag: float, height: float = 1.0) -> np.ndarray:
    return height * np.exp(-(((LAGS - lag) / 2.0) ** 2))


def lags_of(gauge, curves, by_chance=()) -> Lags:
    """Lags of clips 0, 1, …; by_chance: of the first ones with their sound backwards, else flat."""
    flat = np.zeros(len(LAGS))
    pairs = zip_longest(curves, by_chance, fillvalue=flat)
    return Lags(gauge, range(len(curves)), [Agreement(curve, chance, 100) for curve, chance in pairs])


def test_an_agreement_that_rises_to_the_last_lag_is_no_peak():
    for rising in (np.exp(LAGS / 3.0), np.exp(-LAGS / 3.0)):
        assert lags_of(EXPERT, [rising]).clear == {}
    assert lags_of(EXPERT, [bump(14)]).clear == {0: 14}


def test_a_lag_within_the_tolerance_or_of_few_clips_is_not_reported():
    for gauge in (LOUDNESS, EXPERT):
        tolerated = gauge.corpus_tolerance
        assert not lags_of(gauge, [bump(tolerated)] * 50).corpus_is_off
        assert lags_of(gauge, [bump(tolerated + 1)] * 50).corpus_is_off
        assert not lags_of(gauge, [bump(9)] * 5).corpus_is_off
    # Of a corpus that is off, only those clips are named that are off from the others.
    mixed = lags_of(EXPERT, [bump(9)] * 49 + [bump(0)])
    assert mixed.corpus_lag == 9 and mixed.clips_off == {49: 0}


def test_clips_at_lags_of_their_own_have_a_link_unless_their_sound_backwards_has_as_clear_peaks():
    spread = [bump(lag) for lag in np.linspace(-13, 13, 30)]
    for gauge in (LOUDNESS, EXPERT):
        half = [*spread, *np.zeros((30, len(LAGS)))]
        each_its_own = lags_of(gauge, half, by_chance=spread[:5])
        assert each_its_own.no_common_lag and not each_its_own.no_link and not each_its_own.corpus_is_off
        assert lags_of(gauge, half, by_chance=spread[:16]).no_link  # not twice as many
        assert lags_of(gauge, [*spread[::14], *half[30:]]).no_link  # three of 33: may be chance


@pytest.mark.parametrize("frames", [40, 60])
def test_unrelated_speech_has_no_link_however_short_the_clips_and_many(frames):
    def unit(features):
        return features / np.linalg.norm(features, axis=1, keepdims=True)

    def features(rng):  # slow, as of an expert that is sure of itself: chance peaks are high and stand alone
        return unit(np.exp(5 * gaussian_filter1d(rng.normal(size=(frames, 16)), 2, axis=0)))

    def clip(seed, late=None):
        rng = np.random.default_rng(seed)
        face = features(rng)
        return p_sync_by_lag(face, features(rng) if late is None else np.roll(face, late, axis=0))

    unrelated = Lags(EXPERT, range(400), [clip(i) for i in range(400)])
    assert len(unrelated.clear) > 40 and unrelated.no_link
    late = Lags(EXPERT, range(75), [clip(i, late=i % 25 - 12) for i in range(75)])
    assert late.no_common_lag and not late.no_link
    assert np.mean([late.clear.get(i) == i % 25 - 12 for i in range(75)]) > 0.9


def test_short_clips_in_time_are_not_told_to_be_late():
    def unit(features):
        return features / np.linalg.norm(features, axis=1, keepdims=True)

    def clip(seed, frames=24):  # lips and speech have little in common, as for an expert that has learnt little
        rng = np.random.default_rng(seed)
        common, lips, speech = (gaussian_filter1d(rng.normal(size=(frames, 16)), 1, axis=0) for _ in range(3))
        return p_sync_by_lag(*(unit(np.exp(2 * (0.7 * common + own))) for own in (lips, speech)))

    clips = [clip(i) for i in range(300)]
    far = {}
    for gauge in (EXPERT, dataclasses.replace(EXPERT, enough_pairs=1)):
        lags = Lags(gauge, range(300), clips)
        assert not lags.no_link
        far[gauge.enough_pairs] = sum(abs(lag) > 2 for lag in lags.clear.values())
    assert far[1] > 15 and far[50] <= 1
    assert len(Lags(EXPERT, range(300), clips).clear) > 30


@pytest.mark.parametrize(
    "gauge, off, clear, may_be_error",
    [(LOUDNESS, 2, 5, True), (LOUDNESS, 3, 20, False), (LOUDNESS, 5, 50, True), (EXPERT, 1, 20, False)],
)
def test_a_few_clips_that_are_off_may_be_the_gauges_own_error(gauge, off, clear, may_be_error):
    lags = lags_of(gauge, [bump(9 * (i < off)) for i in range(clear)])
    assert len(lags.clips_off) == off and lags.clips_off_may_be_error == may_be_error


def test_clips_too_short_still_or_silent_give_no_lag():
    moving = np.random.default_rng(0).normal(size=200)
    assert agreement_by_lag(moving[:40], moving[:40]) is None
    assert agreement_by_lag(np.ones(200), moving) is None
    assert agreement_by_lag(moving, np.full(200, -4.0)) is None


# pictures


def test_still_images_are_found(toys, findings):
    faces, speech = toys["id2/clip0"]
    found = the_only(findings({"id2/clip0": (np.repeat(faces[:1], len(faces), axis=0), speech)}))
    assert found.startswith("problem: the face does not move: 1 of 20 clips (5.0%), e.g. id2/clip0. ")


def test_a_still_mouth_in_a_moving_face_is_found(toys, findings):
    faces, speech = toys["id2/clip0"]
    masked = faces.copy()
    masked[:, 48:] = faces[0, 48:]
    found = the_only(findings({"id2/clip0": (masked, speech)}))
    assert found.startswith("problem: the mouth does not move: 1 of 20 clips (5.0%), e.g. id2/clip0. ")


@pytest.mark.parametrize("source_fps", [10, 12.5, 15])
def test_frames_repeated_to_fill_a_low_frame_rate_are_found(toys, findings, source_fps):
    faces, speech = toys["id2/clip0"]
    shown = (np.floor(np.arange(75) * source_fps / 25) * 25 / source_fps).round().astype(int)
    found = the_only(findings({"id2/clip0": (faces[shown], speech)}))
    assert found.startswith("problem: frames are repeated") and "1 of 20 clips (5.0%), e.g. id2/clip0. " in found


# sound and lengths


def test_silence_is_found(toys, findings):
    faces, speech = toys["id2/clip0"]
    mostly = speech.copy()
    mostly[len(speech) // 10 :] = 0
    found = findings({"id2/clip0": (faces, np.zeros_like(speech)), "id3/clip0": (faces, mostly)})
    # The second shows the face of the first: that is no finding within one split.
    assert len(found) == 2
    assert found[0].startswith("problem: the sound is silent: 1 of 20 clips (5.0%), e.g. id2/clip0. ")
    assert found[1].startswith("problem: the sound is silent for more than 80% of the clip: 1 of 20 clips")
    assert "e.g. id3/clip0. " in found[1]


def test_clips_stored_at_another_frame_rate_are_found(findings):
    found = the_only(findings({}, id2_clip0={"facts": {"fps": 30}}))
    assert found.startswith("problem: stored with fps=30, now it is 25") and "e.g. id2/clip0. " in found


def test_clips_stored_with_another_mel_are_found(findings):
    found = the_only(findings({}, id2_clip0={"settings": settings_of(HParams(n_fft=1024, fps=30))}))
    assert found.startswith("problem: clips stored with another mel: n_fft=1024, now 800. Training will not have them")


def test_a_val_list_of_one_clip_is_found(clean, check):
    lists = clean / "lists"
    held_out = (lists / "val.txt").read_text(encoding="utf-8")
    try:
        (lists / "val.txt").write_text(held_out.splitlines()[0] + "\n", encoding="utf-8")
        code, found, _ = check(clean)
    finally:
        (lists / "val.txt").write_text(held_out, encoding="utf-8")
    assert code == 0 and the_only(found).startswith("note: val holds a single clip. Put more there")


def test_sound_of_another_length_than_the_picture_is_found(toys, findings):
    faces, speech = toys["id2/clip0"]
    found = the_only(findings({"id2/clip0": (faces, speech[: len(faces) * 16000 // 30])}))
    assert "e.g. id2/clip0. " in found and "3.00 s of picture at 25 fps, 2.50 s of sound, 2.50 s of mel" in found


def test_a_source_whose_sound_has_another_length_is_found(findings):
    # What is stored has the picture's length: only what preprocessing wrote down tells.
    of_clip = {"id2_clip0": {"facts": {"source_sound_s": 2.5}}, "id3_clip0": {"facts": {"source_sound_s": 3.2}}}
    found = the_only(findings({}, **of_clip))
    assert found.startswith("problem: picture and sound of the source differ in length: 1 of 2 clips")
    assert "e.g. id2/clip0. The first has 3.00 s of picture and 2.50 s of sound" in found


def test_a_truncated_mel_is_found(findings):
    found = the_only(findings({}, id2_clip0={"mel_columns": 181}))
    assert "e.g. id2/clip0. " in found and "3.00 s of sound, 2.25 s of mel" in found


# lists and splits


def test_an_identity_in_two_splits_is_found(toys, clean, tmp_path, check):
    lists = tmp_path / "lists"
    lists.mkdir()
    held_out = ("id9/clip0", "id8/clip0", "id8/clip1")
    (lists / "train.txt").write_text("\n".join(name for name in toys if name not in held_out))
    (lists / "val.txt").write_text("\n".join(held_out))
    code, found, _ = check(clean, "--filelists", str(lists))
    assert code == 1 and "problem: identities in both train and val: 1, e.g. id9. " in the_only(found)


def test_clips_of_one_source_file_in_two_splits_are_found(toys, findings):
    same = {"sha256": "abc"}
    found = the_only(findings({"id9/clip0": toys["id2/clip0"]}, id2_clip0=same, id9_clip0=same))
    assert "pairs of clips with the same source file in both train and val: 1, e.g. id2/clip0 = id9/clip0. " in found


def test_a_clip_encoded_again_in_another_split_is_found(toys, findings):
    faces, speech = toys["id2/clip0"]
    rng = np.random.default_rng(0)
    coarse = [cv2.imdecode(cv2.imencode(".jpg", face, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], 1) for face in faces]
    # A frame of the picture and of the sound is gone, and the sound is quieter, with a little noise.
    noisy = 0.7 * speech[FRAME:] + rng.normal(0, 0.0005, len(speech) - FRAME)
    found = the_only(findings({"id9/clip0": (np.stack(coarse[1:]), noisy.astype(np.float32))}))
    assert "pairs of clips that look and sound the same in both train and val: 1, e.g. id2/clip0 = id9/clip0. " in found


def test_listed_clips_that_are_absent_or_rejected_are_found(toys, tmp_path, check):
    root = write_store(tmp_path / "store", toys)
    writer = manifest.ManifestWriter(root)
    writer.add(manifest.Row("id2/clip0.mp4", "id2/clip0", "rejected", reason="no face: none in 75 frames"))
    writer.close()
    write_lists(root, [*toys, "id4/gone"])
    code, found, _ = check(root)
    assert code == 1 and len(found) == 2
    assert "in train.txt, but rejected by preprocess.py: 1 of 19 clips (5.3%), e.g. id2/clip0. " in found[0]
    assert "in train.txt, but not in the store: 1 of 19 clips (5.3%), e.g. id4/gone. " in found[1]


@pytest.mark.parametrize("split", ["train", "val"])
def test_a_list_that_cannot_be_used_is_found_and_the_others_looked_at(toys, clean, tmp_path, check, split):
    write_lists(tmp_path, list(toys))
    (tmp_path / f"lists/{split}.txt").write_text("id4/gone\n")
    code, found, said = check(clean, "--filelists", str(tmp_path / "lists"))
    assert code == 1 and the_only(found).startswith(
        f"problem: {split} cannot be used. {tmp_path}/lists/{split}.txt: none"
    )
    assert f"looked at {2 if split == 'train' else 18} clips" in " ".join(said)
    for other in ("train", "val"):
        (tmp_path / f"lists/{other}.txt").write_text("id4/gone\n")
    with pytest.raises(UserError, match="train.txt: none of its 1 clips"):
        check(clean, "--filelists", str(tmp_path / "lists"))


def test_a_damaged_clip_is_named_and_the_rest_looked_at(toys, tmp_path, check):
    root = write_store(tmp_path / "store", toys)
    (root / "id2/clip0.npz").write_bytes(b"torn")
    code, found, said = check(root)
    assert code == 1 and "cannot be read: 1 of 20 clips (5.0%), e.g. id2/clip0. " in the_only(found)
    assert "looked at 20 clips, closely at 19 of them" in said


def test_too_little_data_is_said(toys, clean, tmp_path, check):
    few = [name for name in toys if name.split("/")[0] in ("id1", "id2", VAL)]
    write_lists(tmp_path, few)
    code, found, _ = check(clean, "--filelists", str(tmp_path / "lists"))
    assert code == 1
    assert the_only(found).startswith("problem: too little data: train has 4 clips, 2 identities, 0.2 minutes")


def test_one_person_who_holds_most_minutes_is_a_note(toys, findings):
    faces, speech = toys["id2/clip0"]
    long = np.concatenate([faces, faces[::-1]] * 5), np.concatenate([speech, speech[::-1]] * 5)
    found = the_only(findings({"id2/clip0": long}))
    assert found.startswith("note: uneven: id2 holds 42% of the windows of 9 identities")


def test_a_fault_in_less_than_one_clip_of_a_hundred_is_a_note():
    assert (
        str(clips_finding("is odd", ["a"], 100, "Mend it")) == "problem: is odd: 1 of 100 clips (1.0%), e.g. a. Mend it"
    )
    assert clips_finding("is odd", ["a"], 101, "Mend it").is_note


def test_a_sample_depends_on_the_seed_only():
    names = [str(i) for i in range(1000)]
    assert sampled(names, 1000, seed=0) == names
    assert sampled(names, 10, seed=0) == sampled(names, 10, seed=0) != sampled(names, 10, seed=1)
    assert len(set(sampled(names, 10, seed=0))) == 10
