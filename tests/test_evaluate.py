"""evaluate.py: a table and JSON of the videos that can be judged, a reason for each that cannot."""

import dataclasses
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from golden_weights import golden_state_dict
from scipy.io import wavfile

import evaluate
import evaluation.scoring
from errors import UserError
from evaluation import ExpertJudge, score_video, sync_scores
from faces import Detections, Detector, make_detector
from hparams import HParams
from models import SyncNetExpert, load_expert
from video import VideoWriter, read_audio, read_frames


def write_video(path, frames=30, fps=25, with_sound=True, seed=0, dark=()):
    """A moving smear with noise of changing loudness: nothing to see or hear, but no two windows alike.

    dark: numbers of the frames that are black.
    """
    rng = np.random.default_rng(seed)
    seconds = frames / fps
    loudness = np.interp(np.linspace(0, 1, int(16000 * seconds)), np.linspace(0, 1, 12), rng.uniform(0, 0.3, 12))
    speech = (loudness * rng.standard_normal(len(loudness))).astype(np.float32)
    with VideoWriter(path, fps, audio=speech if with_sound else None, sample_rate=16000) as writer:
        for i in range(frames):
            smear = cv2.resize(rng.integers(0, 256, (6, 6, 3), np.uint8), (96, 96))
            writer.write(np.zeros_like(smear) if i in dark else smear)
    return str(path)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("videos")


@pytest.fixture(scope="module")
def talking(folder):
    return write_video(folder / "talking.mp4")


@pytest.fixture(scope="module")
def expert_path(folder):
    hp = HParams(width=0.125)
    torch.manual_seed(0)
    network = SyncNetExpert(hp.img_size, hp.width)
    path = folder / "best.pth"
    networks = {"expert": network.state_dict()}
    torch.save({"kind": "expert", "step": 1, "hparams": dataclasses.asdict(hp), "networks": networks}, path)
    return str(path)


@pytest.fixture(scope="module")
def syncnet_path(folder):
    path = folder / "syncnet_v2.model"
    torch.save(golden_state_dict("syncnet_v2"), path)
    return str(path)


def test_the_table_has_a_line_per_video_and_their_mean(folder, talking, expert_path, capsys):
    other = write_video(folder / "a longer name.mp4", frames=40, seed=1)
    report = folder / "scores.json"
    code = evaluate.main(
        [talking, other, "--expert_path", expert_path, "--face_detector", "full", "--json", str(report)]
    )
    assert code == 0

    header, *lines = capsys.readouterr().out.splitlines()
    assert header.split() == ["video", "frames", "offset", "LSE-D", "LSE-C", "P_sync"]
    saved = json.loads(report.read_text())
    for line, scores in zip(lines, saved["videos"], strict=False):
        numbers = [f"{scores['offset']:+d}"] + [f"{scores[name]:.3f}" for name in ("lse_d", "lse_c", "p_sync")]
        assert line.split()[-5:] == [str(scores["frames"])] + numbers
    assert lines[-1].startswith("mean of 2 of 2")
    assert (saved["asked"], saved["judged"], saved["not_reached"]) == (2, 2, 0)
    for name, mean in saved["mean"].items():
        assert mean == pytest.approx(np.mean([scores[name] for scores in saved["videos"]]))
    assert (saved["judge"], saved["weights"], saved["refused"]) == ("expert", expert_path, {})
    assert not list(folder.glob("*.part"))


def test_a_face_crop_is_judged_as_it_is(folder, talking, expert_path):
    report = folder / "crop.json"
    evaluate.main([talking, "--expert_path", expert_path, "--face_detector", "full", "--json", str(report)])
    scores = json.loads(report.read_text())["videos"][0]

    judge = ExpertJudge(load_expert(expert_path), HParams())
    features = judge.embed(read_frames(talking), read_audio(talking, 16000))
    offset, lse_c, lse_d = sync_scores(features.face, features.audio)
    assert (scores["offset"], scores["frames"]) == (offset, len(features.face) + 4)
    assert [scores["lse_c"], scores["lse_d"], scores["p_sync"]] == pytest.approx([lse_c, lse_d, features.p_sync])


def test_the_longest_stretch_with_a_face_is_judged_with_its_own_sound(folder, expert_path):
    video = write_video(folder / "late.mp4", frames=60, dark=[*range(20), 25, *range(50, 60)])

    def find_light(frames):
        box = np.array([[10, 10, 90, 90]])
        return [
            Detections(box, np.ones(1)) if frame.mean() > 60 else Detections(box[:0], np.ones(0)) for frame in frames
        ]

    judge = ExpertJudge(load_expert(expert_path), HParams())
    scores = score_video(video, judge, HParams(detect_every=1, max_gap_frames=1), Detector(find_light))

    crops = [cv2.resize(frame[10:90, 10:90], (96, 96)) for frame in list(read_frames(video))[20:50]]
    features = judge.embed(crops, read_audio(video, 16000)[20 * 640 :])
    assert scores.frames == 30
    assert scores.p_sync == pytest.approx(features.p_sync, abs=1e-6)
    assert scores.lse_d == pytest.approx(sync_scores(features.face, features.audio)[2], abs=1e-6)


@pytest.fixture
def finds_light(monkeypatch):
    """A detector that finds a face in the middle of every frame that is not black."""

    def find(frames):
        box = np.array([[20, 20, 80, 80]])
        return [Detections(box[: int(frame.mean() > 60)], np.ones(int(frame.mean() > 60))) for frame in frames]

    monkeypatch.setattr(evaluate, "make_detector", lambda *_: Detector(find))


@pytest.mark.usefixtures("finds_light")
def test_faces_are_cut_out_where_another_video_has_them(folder, talking, expert_path, capsys):
    dark = write_video(folder / "dark.mp4", frames=20, dark=range(20))  # shorter, and nothing to be found in it
    report = folder / "as_in.json"
    flags = ["--expert_path", expert_path, "--json", str(report), "--hparams", "detect_every=1"]
    assert evaluate.main([dark, *flags]) == 1
    assert evaluate.main([dark, *flags, "--faces_as_in", talking]) == 0
    saved = json.loads(report.read_text())
    assert (saved["faces_as_in"], saved["videos"][0]["frames"]) == (talking, 20)

    judge = ExpertJudge(load_expert(expert_path), HParams())
    crops = [cv2.resize(frame[20:80, 20:80], (96, 96)) for frame in read_frames(dark)]
    assert saved["videos"][0]["p_sync"] == pytest.approx(judge.embed(crops, read_audio(dark, 16000)).p_sync, abs=1e-6)


@pytest.mark.usefixtures("finds_light")
def test_faces_are_sought_only_as_far_as_the_judged_video_goes(folder, expert_path):
    original = write_video(folder / "original.mp4", frames=60, dark=[20, 21])  # the longest stretch begins after them
    short = write_video(folder / "short.mp4", frames=20)
    detector = evaluate.make_detector()
    judge = ExpertJudge(load_expert(expert_path), HParams())
    hp = HParams(detect_every=1, max_gap_frames=0)
    assert score_video(short, judge, hp, detector, faces_as_in=original).frames == 20


@pytest.mark.usefixtures("finds_light")
def test_boxes_of_a_video_of_another_size_are_refused(folder, talking, expert_path, capsys):
    with VideoWriter(folder / "small.mp4", 25) as writer:
        writer.write(np.full((64, 64, 3), 90, np.uint8))
    as_in = ["--faces_as_in", str(folder / "small.mp4")]
    assert evaluate.main([talking, "--expert_path", expert_path, *as_in]) == 1
    assert f"{talking}: is 96x96 px but --faces_as_in {as_in[1]} 64x64" in capsys.readouterr().out
    cv2.imwrite(str(folder / "odd.png"), np.zeros((95, 95, 3), np.uint8))
    evaluation.scoring.refuse_other_size(talking, folder / "odd.png")  # what an mp4 of it has grown to


def test_another_sound_is_judged_in_place_of_the_videos_own(folder, talking, expert_path):
    own, same, other = folder / "own.json", folder / "same.json", folder / "other.json"
    speech = read_audio(talking, 16000)
    wavfile.write(folder / "same.wav", 16000, speech)
    wavfile.write(folder / "other.wav", 16000, speech[::-1])
    flags = ["--expert_path", expert_path, "--face_detector", "full"]
    evaluate.main([talking, *flags, "--json", str(own)])
    evaluate.main([talking, *flags, "--json", str(same), "--audio", str(folder / "same.wav")])
    evaluate.main([talking, *flags, "--json", str(other), "--audio", str(folder / "other.wav")])
    own, same, other = (json.loads(path.read_text())["mean"] for path in (own, same, other))
    assert same == pytest.approx(own, abs=1e-4)
    assert other["p_sync"] != pytest.approx(own["p_sync"], abs=1e-4)


def test_syncnet_v2_judges_whole_frames_and_says_when_they_are_not_25_fps(folder, talking, syncnet_path, capsys):
    fast = write_video(folder / "fast.mp4", frames=16, fps=30)
    report = folder / "syncnet.json"
    assert evaluate.main([talking, fast, "--syncnet_path", syncnet_path, "--json", str(report)]) == 0
    out = capsys.readouterr().out
    assert out.splitlines()[0].split() == ["video", "frames", "offset", "LSE-D", "LSE-C"]
    assert f"note: {fast} has 30.00 fps, judged as if 25" in out
    assert f"note: {talking}" not in out
    saved = json.loads(report.read_text())
    # 16 frames last 0.53 s, which is sound for 13 of them: the frames are not brought to 25 fps.
    assert [scores["frames"] for scores in saved["videos"]] == [30, 13]
    assert [scores["p_sync"] for scores in saved["videos"]] == [None, None]
    assert set(saved["mean"]) == {"lse_d", "lse_c"}


def test_a_judge_of_whole_frames_takes_no_boxes(talking, syncnet_path):
    with pytest.raises(UserError, match="--faces_as_in .*: needs --expert_path"):
        evaluate.main([talking, "--syncnet_path", syncnet_path, "--faces_as_in", talking])


def test_json_replaces_no_video_and_no_weights(folder, talking, expert_path):
    before = Path(talking).read_bytes(), Path(expert_path).read_bytes()
    for path in (talking, expert_path):
        with pytest.raises(UserError, match="is there, and no .json file: name another"):
            evaluate.main([talking, "--expert_path", expert_path, "--face_detector", "full", "--json", path])
    assert (Path(talking).read_bytes(), Path(expert_path).read_bytes()) == before


def test_what_cannot_be_judged_is_listed_with_the_reason_beside_the_rest(folder, talking, expert_path, capsys):
    silent = write_video(folder / "silent.mp4", with_sound=False)
    short = write_video(folder / "short.mp4", frames=4)
    missing = str(folder / "missing.mp4")
    report = folder / "refused.json"
    flags = ["--expert_path", expert_path, "--face_detector", "full", "--json", str(report)]
    assert evaluate.main([silent, talking, short, missing, *flags]) == 0
    out = capsys.readouterr().out
    saved = json.loads(report.read_text())
    refused = saved["refused"]
    assert "\nmean of 1 of 4  " in out
    assert (saved["asked"], saved["judged"]) == (4, 1)
    assert list(refused) == [silent, short, missing]
    assert "no audio" in refused[silent]
    assert "too short to judge: 0.16 s of sound, 0.20 s are needed" in refused[short]
    for video, reason in refused.items():
        assert video in reason
        assert f"not judged: {reason}" in out.splitlines()


def test_stopped_it_tells_what_it_has_found_so_far(folder, talking, expert_path, capsys, monkeypatch):
    asked = []

    def stopped_at_the_third(video, *args):
        asked.append(video)
        if len(asked) == 2:
            raise OSError(5, "Input/output error")
        if len(asked) == 3:
            raise KeyboardInterrupt
        return score_video(video, *args)

    monkeypatch.setattr(evaluate, "score_video", stopped_at_the_third)
    flags = ["--expert_path", str(expert_path), "--face_detector", "full", "--device", "cpu"]
    with pytest.raises(KeyboardInterrupt):
        evaluate.main([talking, "a.mp4", talking, talking, *flags, "--json", str(folder / "partly.json")])
    written = json.loads((folder / "partly.json").read_text())
    assert len(written["videos"]) == 1 and written["not_reached"] == 2
    assert "a.mp4" in written["refused"] and "LSE-D" in capsys.readouterr().out


def test_speech_is_read_as_the_judge_hears_it(talking, expert_path, monkeypatch):
    rates = []

    def spied(path, sample_rate):
        rates.append(sample_rate)
        return read_audio(path, sample_rate)

    monkeypatch.setattr(evaluation.scoring, "read_audio", spied)
    hp = HParams(sample_rate=8000, n_fft=400, hop_size=100, win_size=400, fmax=3800)
    detector = make_detector("full", "cpu", 0.5, 640)
    scores = score_video(talking, ExpertJudge(load_expert(expert_path), hp), HParams(), detector)
    assert rates == [8000] and scores.frames > 20


def test_without_a_single_face_the_exit_code_is_1(talking, expert_path, capsys):
    assert evaluate.main([talking, "--expert_path", expert_path, "--face_detector", "dlib"]) == 1
    assert f"not judged: {talking}: no face found" in capsys.readouterr().out


def test_a_typo_ends_before_the_work_starts(folder, talking, expert_path, capsys):
    flags = ["--expert_path", expert_path, "--face_detector", "full"]
    with pytest.raises(UserError, match="nowhere: create it first"):
        evaluate.main([talking, *flags, "--json", str(folder / "nowhere" / "scores.json")])
    with pytest.raises(UserError, match="is a folder"):
        evaluate.main([talking, *flags, "--json", str(folder)])
    with pytest.raises(UserError, match="missing.wav"):
        evaluate.main([talking, *flags, "--audio", str(folder / "missing.wav")])
    with pytest.raises(UserError, match="missing.mp4"):
        evaluate.main([talking, *flags, "--faces_as_in", str(folder / "missing.mp4")])
    with pytest.raises(UserError, match="missing.pth"):
        evaluate.main([talking, "--expert_path", str(folder / "missing.pth")])
    with pytest.raises(UserError, match="missing.model"):
        evaluate.main([talking, "--syncnet_path", str(folder / "missing.model")])
    with pytest.raises(UserError, match="--device warp9 cannot be used here"):
        evaluate.main([talking, *flags, "--device", "warp9"])
    with pytest.raises(SystemExit):
        evaluate.main([talking])
    assert "one of the arguments --syncnet_path --expert_path is required" in capsys.readouterr().err
