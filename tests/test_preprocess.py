"""preprocess.py promises: every usable video becomes a clip, every other one is rejected with its reason, no identity
is in two splits, and a run that stops goes on where it was."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import cv2
import numpy as np
import pytest
import skimage.data
from pebble import ProcessExpired

import preprocess
from clips import filelists, manifest
from clips.ingest import ingest
from clips.store import Clip
from errors import OutOfMemory, UserError
from faces import DETECTED, FILLED
from hparams import HParams
from video import VideoWriter

HPARAMS = "face_detector=dlib,detect_every=5,preprocess_workers=2,min_face_px=32"
ODD_NAME = 'it\'s "quoted"; rm -rf $HOME & ünï 話'


def portrait() -> np.ndarray:
    """A real face: the portrait photograph that scikit-image ships, uint8 (240, 240, 3) BGR."""
    photo = cv2.cvtColor(skimage.data.astronaut(), cv2.COLOR_RGB2BGR)
    return np.ascontiguousarray(photo[0:240, 110:350])


def write_video(path: Path, frames: int = 30, faces: slice = slice(None), loudness: float = 0.1) -> None:
    """A face that sways by a few pixels, shown in the frames of `faces`; noise as speech, or none at loudness None."""
    path.parent.mkdir(parents=True, exist_ok=True)
    shown = np.zeros(frames, bool)
    shown[faces] = True
    rng = np.random.default_rng(len(path.name))
    audio = None if loudness is None else rng.normal(0, 1, frames * 640).astype(np.float32) * loudness
    with VideoWriter(path, 25, audio) as writer:
        for i in range(frames):
            picture = np.roll(portrait(), i % 4, axis=1) if shown[i] else np.full((240, 240, 3), 90, np.uint8)
            writer.write(picture)


@pytest.fixture(scope="module")
def data_root(tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("videos")
    for i in range(4):
        write_video(root / f"id{i}/talk.mp4")
    write_video(root / "deep/a/b/talk.mp4")
    write_video(root / "twins/talk.mp4")
    os.link(root / "twins/talk.mp4", root / "twins/talk.mov")
    write_video(root / ODD_NAME / f"{ODD_NAME}.mp4")
    write_video(root / "some/half.mp4", frames=60, faces=slice(0, 33))
    write_video(root / "bad/no_face.mp4", faces=slice(0))
    write_video(root / "bad/few_faces.mp4", faces=slice(0, 6))
    write_video(root / "bad/no_sound.mp4", loudness=None)
    write_video(root / "bad/silent.mp4", loudness=0.0)
    write_video(root / "bad/short.mp4", frames=8)
    (root / "bad/empty.mp4").touch()
    (root / "bad/text.mp4").write_text("not a video")
    whole = (root / "id0/talk.mp4").read_bytes()
    (root / "bad/truncated.mp4").write_bytes(whole[:500])
    (root / "bad/notes.txt").write_text("not a video, and not named like one")
    (root / ".hidden").mkdir()
    (root / ".hidden/talk.mp4").write_bytes(whole)
    return root


def run(data_root, store_root, *flags, hparams=HPARAMS):
    lists = store_root / "lists"
    arguments = ["--data_root", str(data_root), "--preprocessed_root", str(store_root), "--filelists", str(lists)]
    preprocess.main([*arguments, "--ngpu", "0", "--hparams", hparams, *flags])


@pytest.fixture(scope="module")
def store(data_root, tmp_path_factory):
    root = tmp_path_factory.mktemp("store")
    run(data_root, root, hparams=HPARAMS + ",val_share=0.2,test_share=0.2")
    return root


@pytest.fixture(scope="module")
def rows(store):
    return manifest.read(store)


def test_every_video_is_kept_or_rejected_with_its_reason(rows):
    kept = {source for source, row in rows.items() if row.status == "kept"}
    assert kept == {f"id{i}/talk.mp4" for i in range(4)} | {
        "deep/a/b/talk.mp4",
        "twins/talk.mp4",
        "twins/talk.mov",
        "some/half.mp4",
        f"{ODD_NAME}/{ODD_NAME}.mp4",
    }
    reasons = {Path(source).stem: row.reason.split(":")[0] for source, row in rows.items() if row.status != "kept"}
    assert reasons == {
        "no_face": "no face",
        "few_faces": "few faces",
        "no_sound": "no sound",
        "silent": "silent",
        "short": "too short",
        "empty": "unreadable",
        "text": "unreadable",
        "truncated": "unreadable",
    }
    assert all(row.reason == "" or "\n" not in row.reason for row in rows.values())


def test_a_stored_clip_shows_the_face_at_25_fps_with_its_sound(store):
    clip = Clip(store / "id0/talk")
    assert clip.frames == 30
    assert len(clip.speech()) == 30 * 640
    assert clip.mel.shape == (80, 1 + 30 * 640 // 200)
    assert [int(s) for s in clip.status[:6]] == [DETECTED, FILLED, FILLED, FILLED, FILLED, DETECTED]
    x1, y1, x2, y2 = clip.boxes[0]
    assert x1 < 224 - 110 < x2  # her nose is at about (224, 115) of the photograph
    assert y1 < 115 < y2
    assert clip.facts["source"] == "id0/talk.mp4"
    assert clip.facts["face_detector"] == "dlib"
    assert clip.facts["source_sound_s"] == pytest.approx(30 / 25, abs=0.1)


def test_frames_without_a_face_are_no_part_of_any_window(rows):
    assert rows["some/half.mp4"].frames == 60
    assert rows["some/half.mp4"].runs == [(0, 33)]


def test_two_files_of_one_stem_do_not_overwrite_each_other(store, rows):
    names = {rows["twins/talk.mp4"].clip, rows["twins/talk.mov"].clip}
    assert names == {"twins/talk", "twins/talk.mp4"}
    assert all(Clip(store / name).frames == 30 for name in names)


def test_no_identity_is_in_two_splits(store):
    identities = [{name.split("/")[0] for name in filelists.read(store / "lists", s)} for s in filelists.SPLITS]
    assert sum(len(some) for some in identities) == len(set.union(*identities)) == 8
    assert all(identities)


def test_nothing_is_left_half_written(store):
    assert not list(store.rglob("*.part"))


def test_a_second_run_touches_nothing(data_root, store, capsys):
    before = {path: path.stat().st_mtime_ns for path in store.rglob("*.mov")}
    run(data_root, store)
    assert {path: path.stat().st_mtime_ns for path in store.rglob("*.mov")} == before
    said = capsys.readouterr().out
    assert "17 of them done before" in said
    assert "rejected 8 clips" in said


def test_the_summary_counts_by_reason(rows, store):
    said = preprocess.summary(rows, [], store, preprocess.hparams.resolve())
    assert "kept 9 clips" in said
    assert "unreadable        3" in said
    assert "bad/no_sound.mp4: the file has no audio stream" in said


def hp_of(more: str = "") -> HParams:
    return preprocess.hparams.resolve(overrides=HPARAMS + more)


def test_rejected_clips_are_tried_again_under_other_hparams(rows):
    rejected, kept = rows["bad/few_faces.mp4"], rows["id0/talk.mp4"]
    lower = hp_of(",min_frames=5")
    assert preprocess.is_done(rejected, rejected.source_bytes, hp_of())
    assert not preprocess.is_done(rejected, rejected.source_bytes, lower)
    assert preprocess.is_done(kept, kept.source_bytes, lower)
    assert preprocess.is_done(kept, kept.source_bytes, hp_of(), redo="outdated")
    assert not preprocess.is_done(kept, kept.source_bytes, lower, redo="outdated")
    assert not preprocess.is_done(kept, kept.source_bytes, hp_of(), redo="all")
    earlier = dataclasses.replace(kept, settings=kept.settings.replace('"fmin": 55.0, ', ""))
    assert preprocess.is_done(earlier, kept.source_bytes, hp_of(",fmin=90"))
    assert not preprocess.is_done(earlier, kept.source_bytes, hp_of(), redo="outdated")


def test_a_source_that_changed_is_done_again_and_one_that_is_gone_is_not(rows):
    kept = rows["id0/talk.mp4"]
    assert not preprocess.is_done(kept, kept.source_bytes + 1, hp_of())
    assert preprocess.is_done(kept, 0, hp_of(), redo="all")


@pytest.mark.parametrize("suffix", [".mov", ".npz"])
def test_a_clip_whose_files_are_gone_is_made_again_while_its_source_is_there(rows, store, tmp_path, suffix):
    shutil.copytree(store, tmp_path / "store")
    assert not preprocess.lost_clips(tmp_path / "store", rows)
    (tmp_path / f"store/id0/talk{suffix}").unlink()
    shutil.rmtree(tmp_path / "store/some")
    assert preprocess.lost_clips(tmp_path / "store", rows) == {"id0/talk.mp4", "some/half.mp4"}
    lost = rows["some/half.mp4"]
    assert not preprocess.is_done(lost, lost.source_bytes, hp_of(), is_lost=True)
    assert preprocess.is_done(lost, 0, hp_of(), is_lost=True)


@pytest.mark.parametrize("error", [ProcessExpired("died", code=1), ValueError("odd")])
def test_what_may_be_the_machines_fault_is_tried_again(error):
    row = preprocess.outcome(failed(error), "a.mp4", "a", 5, hp_of())
    assert row.status == "rejected" and not preprocess.is_done(row, 5, hp_of())


def test_what_timed_out_is_tried_again_with_more_time():
    row = preprocess.outcome(failed(preprocess.ClipTimeout()), "a.mp4", "a", 5, hp_of())
    assert preprocess.is_done(row, 5, hp_of(",preprocess_workers=3"))
    assert not preprocess.is_done(row, 5, hp_of(",clip_timeout_s=1800"))


def test_a_gpu_without_memory_ends_the_run_and_blames_no_clip():
    with pytest.raises(UserError, match="the GPU has no memory"):
        preprocess.outcome(failed(OutOfMemory("the GPU has no memory")), "a.mp4", "a", 5, hp_of())
    assert preprocess.outcome(failed(UserError("odd box")), "a.mp4", "a", 5, hp_of()).status == "rejected"


def failed(error: Exception) -> Future:
    future = Future()
    future.set_exception(error)
    return future


def test_a_store_in_the_place_of_its_videos_is_refused(tmp_path):
    write_video(tmp_path / "id0/a.mp4")
    (tmp_path / "id0/a.mp4").rename(tmp_path / "id0/a.mov")
    before = (tmp_path / "id0/a.mov").read_bytes()
    with pytest.raises(UserError, match="is the data root"):
        run(tmp_path, tmp_path)
    assert (tmp_path / "id0/a.mov").read_bytes() == before


def test_a_store_that_lost_a_clip_is_repaired_by_a_plain_run(tmp_path, capsys):
    for name in ("a", "b"):
        write_video(tmp_path / f"videos/id0/{name}.mp4")
    run(tmp_path / "videos", tmp_path / "store")
    (tmp_path / "store/id0/a.npz").unlink()
    before = (tmp_path / "store/id0/b.mov").stat().st_mtime_ns
    run(tmp_path / "videos", tmp_path / "store")
    said = capsys.readouterr().out
    assert "1 stored clips, e.g. id0/a, have lost files and are made again" in said
    assert "note: 1 identities, no clip in val.txt and test.txt" in said
    assert Clip(tmp_path / "store/id0/a").frames == 30
    assert (tmp_path / "store/id0/b.mov").stat().st_mtime_ns == before


def test_another_data_root_with_the_same_names_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr(preprocess, "run_all", lambda *args: None)
    for i in range(6):
        for root in ("main", "pretrain"):
            (tmp_path / f"{root}/id{i}").mkdir(parents=True)
            (tmp_path / f"{root}/id{i}/a.mp4").write_text(root)
    (tmp_path / "store").mkdir()
    writer = manifest.ManifestWriter(tmp_path / "store")
    for i in range(6):
        writer.add(manifest.Row(f"id{i}/a.mp4", f"id{i}/a", "kept", frames=30, source_bytes=len("main")))
    writer.close()
    with pytest.raises(UserError, match="6 of its 6 clips with these names are of other files.*--redo all"):
        run(tmp_path / "pretrain", tmp_path / "store")
    run(tmp_path / "main", tmp_path / "store")
    writer = manifest.ManifestWriter(tmp_path / "store")
    for i in range(6):  # links that led nowhere in the first run
        writer.add(manifest.Row(f"id{i}/a.mp4", f"id{i}/a", "rejected", "unreadable: no such file"))
    with pytest.raises(UserError, match="no clip of .* could be kept"):
        run(tmp_path / "main", tmp_path / "store")
    for i in range(6):
        writer.add(manifest.Row(f"id{i}/a.mp4", f"id{i}/a", "kept", frames=30, source_bytes=len("main")))
    writer.close()
    run(tmp_path / "pretrain", tmp_path / "store", "--redo", "all")


def test_two_runs_on_one_store_are_refused(data_root, tmp_path):
    with manifest.alone_with(tmp_path), pytest.raises(UserError, match="another preprocess.py .* is changing it"):
        run(data_root, tmp_path)
    with manifest.alone_with(tmp_path):
        pass


def test_a_clip_that_is_made_again_is_not_trained_on_until_it_is_whole(data_root, store, tmp_path, monkeypatch):
    shutil.copytree(store, tmp_path / "store")
    shutil.copytree(data_root, tmp_path / "videos", ignore=shutil.ignore_patterns("bad"))
    monkeypatch.setattr(preprocess, "outcome", interrupt)
    monkeypatch.setattr(preprocess, "refuse_foreign_lists", lambda *args: None)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "videos", tmp_path / "store", "--redo", "all")
    rows = manifest.read(tmp_path / "store")
    torn = [row for row in rows.values() if row.reason.startswith("interrupted: ")]
    assert torn and all(not preprocess.is_done(row, row.source_bytes, hp_of()) for row in torn)


def interrupt(*args):
    raise KeyboardInterrupt


def test_odd_paths_do_not_end_a_run(tmp_path, capsys):
    videos = tmp_path / "videos"
    write_video(videos / "id0/a.mp4")
    (videos / "id0/gone.mp4").symlink_to(tmp_path / "nowhere.mp4")
    (videos / "id0/round").symlink_to(videos)
    Path(os.fsdecode(os.fsencode(videos / "id0") + b"/caf\xe9.mp4")).touch()
    (videos / "id0/talk .mp4").touch()
    assert preprocess.find_videos(videos, tmp_path / "store") == ["id0/a.mp4", "id0/gone.mp4"]
    assert "left out 2 videos whose names no filelist can hold" in capsys.readouterr().out
    row = ingest(Path("id0/gone.mp4"), "id0/gone", videos, tmp_path / "store", None, hp_of())
    assert row.status == "rejected" and row.reason.startswith("unreadable: ") and "no such file" in row.reason


def test_filelists_of_other_data_are_not_overwritten(data_root, tmp_path):
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/train.txt").write_text("lrs2/00001\n")
    with pytest.raises(UserError, match="lists 1 clips that are not in this data root, such as lrs2/00001"):
        run(data_root, tmp_path)
    assert (tmp_path / "lists/train.txt").read_text() == "lrs2/00001\n"


def test_lists_with_labels_name_the_same_clips(tmp_path):
    (tmp_path / "test.txt").write_text("id0/talk NF\nid1/\u2028talk\n")
    assert filelists.existing(tmp_path) == {"test": ["id0/talk NF", "id1/\u2028talk"]}
    preprocess.refuse_foreign_lists(tmp_path, ["id0/talk.mp4", "id1/\u2028talk.mp4"], {})


def split_by_hand(lists: Path, **clips: str) -> None:
    lists.mkdir()
    for split, names in clips.items():
        (lists / f"{split}.txt").write_text("".join(f"{name}\n" for name in names.split()))


def kept_rows(*clips: str) -> dict[str, manifest.Row]:
    return {f"{clip}.mp4": manifest.Row(f"{clip}.mp4", clip, "kept") for clip in clips}


def test_a_split_made_by_hand_stays_as_it_is(tmp_path):
    split_by_hand(tmp_path / "lists", train="id0/a id0/b id1/a id2/a", val="id0/c id0/b", test="id0/d id3/a")
    rows = kept_rows("id0/a", "id0/b", "id0/c", "id0/d", "id0/new", "id1/a", "id1/new", "id3/a", "id3/new")
    rows["id2/a.mp4"] = manifest.Row("id2/a.mp4", "id2/a", "rejected", "silent: loudness 0")
    said = preprocess.write_filelists(tmp_path / "lists", rows, hp_of(",val_share=0.9"))
    assert filelists.existing(tmp_path / "lists") == {
        "train": ["id0/a", "id0/b", "id0/new", "id1/a", "id1/new", "id2/a"],
        "val": ["id0/b", "id0/c"],  # a clip that two lists name stays in both
        "test": ["id0/d", "id3/a", "id3/new"],
    }
    assert "  3 clips that no list named were added: 2 train, 1 test" in said
    assert "  train.txt       5 clips" in said  # without the rejected one


def test_a_clip_that_fails_once_stays_in_its_list(tmp_path):
    split_by_hand(tmp_path / "lists", train="id0/a", val="id0/b id0/later")
    rows = kept_rows("id0/a", "id0/b")
    rows["id0/b.mp4"].status = "rejected"
    preprocess.write_filelists(tmp_path / "lists", rows, hp_of())
    rows["id0/b.mp4"].status = "kept"
    preprocess.write_filelists(tmp_path / "lists", rows, hp_of())
    assert filelists.existing(tmp_path / "lists") == {"train": ["id0/a"], "val": ["id0/b", "id0/later"], "test": []}


def test_clips_that_are_excluded_are_put_into_no_list(tmp_path):
    split_by_hand(tmp_path / "lists", train="id0/a id0/b", exclude="id0/b id1/a")
    said = preprocess.write_filelists(tmp_path / "lists", kept_rows("id0/a", "id0/b", "id1/a", "id1/b"), hp_of())
    assert filelists.existing(tmp_path / "lists") == {"train": ["id0/a"], "val": ["id1/b"], "test": []}
    assert "  2 clips that exclude.txt names are in no list" in said
    (tmp_path / "lists/exclude.txt").write_text("id0/typo\n")
    with pytest.raises(UserError, match="1 clips that are not in this data root, such as id0/typo: name another"):
        preprocess.refuse_foreign_lists(tmp_path / "lists", ["id0/a.mp4", "id0/b.mp4", "id1/b.mp4"], {})
    (tmp_path / "lists/exclude.txt").write_text("id0/a.mp4\n")
    with pytest.raises(UserError, match="such as id0/a.mp4: lists name clips as <id>/<clip>, without ending"):
        preprocess.refuse_foreign_lists(tmp_path / "lists", ["id0/a.mp4", "id0/b.mp4", "id1/b.mp4"], {})


@pytest.mark.parametrize(
    ("identities", "shares", "told"),
    [(1, "", "1 identities, no clip in val.txt and test.txt"), (2, "", "2 identities, no clip in test.txt")]
    + [(3, "", None), (4, ",test_share=0", None), (4, ",val_share=0", "4 identities, no clip in val.txt")],
)
def test_too_few_identities_for_the_lists_are_said(tmp_path, identities, shares, told):
    said = preprocess.write_filelists(tmp_path, kept_rows(*(f"id{i}/a" for i in range(identities))), hp_of(shares))
    notes = [line for line in said if line.startswith("  note: ")]
    assert notes == [] if told is None else notes[0].startswith(f"  note: {told}: the first folder below")


def test_an_empty_or_missing_data_root_is_refused(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        run(tmp_path / "nowhere", tmp_path / "store")
    (tmp_path / "videos").mkdir()
    with pytest.raises(UserError, match="no video in it, looked for .3gp"):
        run(tmp_path / "videos", tmp_path / "store")


@pytest.mark.parametrize("flag", ["--preprocessed_root", "--filelists"])
def test_a_file_where_a_folder_is_needed_is_refused_before_the_work(data_root, tmp_path, flag):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=f"{flag} .*file is a file, a folder is needed"):
        run(data_root, tmp_path / "store", flag, str(tmp_path / "file"))
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("flag", ["--preprocessed_root", "--filelists"])
def test_a_folder_that_cannot_be_written_is_refused_before_the_work(data_root, tmp_path, monkeypatch, flag):
    (tmp_path / "locked").mkdir()
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path).name != "locked")
    with pytest.raises(UserError, match=f"{flag} .*: nothing can be written in .*locked: name another"):
        run(data_root, tmp_path / "store", flag, str(tmp_path / "locked/lists"))
    assert not (tmp_path / "store").exists()


def test_a_video_as_data_root_is_told_to_name_its_folder(data_root, tmp_path):
    with pytest.raises(UserError, match=f"talk.mp4: is a file: name the folder above it, {data_root}/id0"):
        run(data_root / "id0/talk.mp4", tmp_path / "store")


def test_more_gpus_than_there_are_are_refused_before_the_work(data_root, tmp_path):
    with pytest.raises(UserError, match="--ngpu 99: torch finds .* GPUs here: lower it, 0 = CPU"):
        run(data_root, tmp_path / "store", "--ngpu", "99")
    assert not (tmp_path / "store").exists()


def test_a_store_that_cannot_be_written_is_refused_before_the_work(data_root, tmp_path):
    (tmp_path / "file").touch()
    command = [sys.executable, "preprocess.py", "--data_root", str(data_root)]
    command += ["--preprocessed_root", str(tmp_path / "file/store"), "--hparams", HPARAMS]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(preprocess.__file__).parent)
    assert done.returncode == 1
    assert done.stderr.startswith(f"error: --preprocessed_root {tmp_path}/file/store: {tmp_path}/file is a file")
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("send", "number", "code"),
    [(os.killpg, signal.SIGINT, 130), (os.kill, signal.SIGTERM, 143)],
    ids=["ctrl_c", "sigterm"],
)
def test_a_stop_keeps_what_is_finished_and_the_next_run_goes_on(data_root, tmp_path, send, number, code):
    command = [sys.executable, "preprocess.py", "--data_root", str(data_root), "--ngpu", "0"]
    command += ["--preprocessed_root", str(tmp_path), "--filelists", str(tmp_path / "lists"), "--hparams", HPARAMS]
    log = tmp_path / "log"
    with open(log, "w") as out:
        process = subprocess.Popen(
            command,
            stdout=out,
            stderr=out,
            cwd=Path(preprocess.__file__).parent,
            start_new_session=True,
            # A shell starts background jobs with Ctrl-C ignored, and the tests may be one.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        manifest_path = tmp_path / manifest.NAME
        deadline = time.monotonic() + 120
        while not (manifest_path.exists() and manifest_path.stat().st_size) and time.monotonic() < deadline:
            time.sleep(0.05)
        send(process.pid, number)  # Ctrl-C as a terminal does, to parent and workers; SIGTERM to the parent alone
        assert process.wait(timeout=60) == code
    assert "Traceback" not in log.read_text()
    done = [json.loads(line) for line in manifest_path.read_text().splitlines()]
    assert 0 < len(done) < 17
    run(data_root, tmp_path)
    lines = [json.loads(line)["source"] for line in manifest_path.read_text().splitlines()]
    assert len(lines) == len(set(lines)) == 17
    assert not list(tmp_path.rglob("*.part"))


def test_another_store_below_the_data_root_holds_no_videos(tmp_path, capsys):
    for name in ("id0/a.mp4", "id0/manifest.jsonl", "store96/id0/a.mov", "store96/manifest.jsonl", "store96/.lock"):
        name = f"videos/{name}"
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert preprocess.find_videos(tmp_path / "videos", tmp_path / "videos/store288") == ["id0/a.mp4"]
    assert "store96 is a clip store, its clips are left out" in capsys.readouterr().out


def test_a_pool_that_breaks_stops_the_run_and_blames_no_clip():
    broken = failed(BrokenProcessPool("All workers expired"))
    with pytest.raises(UserError, match="the worker processes died.*lower preprocess_workers"):
        preprocess.outcome(broken, "a.mp4", "a", 5, HParams())


def test_workers_that_cannot_start_end_the_run_in_one_line(tmp_path):
    # As when memory is short, or in a script without the line `if __name__ == "__main__"`.
    for i in range(4):
        write_video(tmp_path / f"videos/id{i}/a.mp4")
    script = tmp_path / "script.py"
    script.write_text(
        "import os, sys\n"
        "if __name__ != '__main__':\n"
        "    os._exit(1)\n"
        f"sys.path.insert(0, {str(Path(preprocess.__file__).parent)!r})\n"
        "import preprocess\n"
        "from errors import run_script\n"
        "run_script(preprocess.main)\n"
    )
    flags = ["--data_root", str(tmp_path / "videos"), "--preprocessed_root", str(tmp_path / "store")]
    flags += ["--filelists", str(tmp_path / "lists"), "--ngpu", "0", "--hparams", "face_detector=full"]
    done = subprocess.run([sys.executable, str(script), *flags], capture_output=True, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: the worker processes died")
    assert not manifest.read(tmp_path / "store")
