"""preprocess.py promises: every usable video becomes a clip, every other one is rejected with its reason, no identity
is in two splits, and a run that stops goes on where it was."""

import json
import os
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

import preprocess
from clips import filelists, manifest
from clips.store import Clip
from errors import UserError
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
    write_video(root / "some/half.mp4", frames=60, faces=slice(0, 31))
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
    assert rows["some/half.mp4"].runs == [(0, 31)]


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
    said = preprocess.summary(rows, {}, store, preprocess.hparams.resolve())
    assert "kept 9 clips" in said
    assert "unreadable        3" in said
    assert "bad/no_sound.mp4: the file has no audio stream" in said


def test_rejected_clips_are_tried_again_under_other_hparams(data_root, store, rows, tmp_path):
    hp = preprocess.hparams.resolve(overrides=HPARAMS)
    assert preprocess.is_done(rows["bad/few_faces.mp4"], data_root / "bad/few_faces.mp4", hp)
    lower = preprocess.hparams.resolve(overrides=HPARAMS + ",min_frames=5")
    assert not preprocess.is_done(rows["bad/few_faces.mp4"], data_root / "bad/few_faces.mp4", lower)
    assert preprocess.is_done(rows["id0/talk.mp4"], data_root / "id0/talk.mp4", lower)


def test_a_source_that_changed_is_done_again(data_root, rows):
    hp = preprocess.hparams.resolve(overrides=HPARAMS)
    assert not preprocess.is_done(rows["id0/talk.mp4"], data_root / "some/half.mp4", hp)


def test_filelists_of_other_data_are_not_overwritten(data_root, tmp_path):
    (tmp_path / "lists").mkdir()
    (tmp_path / "lists/train.txt").write_text("lrs2/00001\n")
    with pytest.raises(UserError, match="lists 1 clips that are not in this data root, such as lrs2/00001"):
        run(data_root, tmp_path)
    assert (tmp_path / "lists/train.txt").read_text() == "lrs2/00001\n"


def test_an_empty_or_missing_data_root_is_refused(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        run(tmp_path / "nowhere", tmp_path / "store")
    (tmp_path / "videos").mkdir()
    with pytest.raises(UserError, match="no video in it, looked for .3gp"):
        run(tmp_path / "videos", tmp_path / "store")


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
    assert done.stderr.startswith("error: Not a directory")
    assert "Traceback" not in done.stderr


def test_ctrl_c_keeps_what_is_finished_and_the_next_run_goes_on(data_root, tmp_path):
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
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: parent and workers
        assert process.wait(timeout=60) == 130
    assert "Traceback" not in log.read_text()
    done = [json.loads(line) for line in manifest_path.read_text().splitlines()]
    assert 0 < len(done) < 17
    run(data_root, tmp_path)
    lines = [json.loads(line)["source"] for line in manifest_path.read_text().splitlines()]
    assert len(lines) == len(set(lines)) == 17
    assert not list(tmp_path.rglob("*.part"))


def test_a_pool_that_breaks_stops_the_run_and_blames_no_clip(tmp_path):
    (tmp_path / "a.mp4").write_bytes(b"video")
    future = Future()
    future.set_exception(BrokenProcessPool("All workers expired"))
    with pytest.raises(UserError, match="the worker processes died.*lower preprocess_workers"):
        preprocess.outcome(future, "a.mp4", "a", tmp_path, HParams())


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
