"""From a video file to its scores: read, crop where the judge wants crops, judge."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from math import ceil
from pathlib import Path

import numpy as np
from tqdm import tqdm

from clips.index import runs_of
from errors import UserError
from evaluation.judges import ExpertJudge, SyncNetV2Judge
from evaluation.lse import sync_scores
from faces import NO_FACE, Detector, crop_face, jumps, track_face
from hparams import HParams
from video import probe, read_audio, read_frames

SLACK_S = 1  # seconds by which a file may be longer than it announces


@dataclass(frozen=True)
class Scores:
    """How well one video's lips fit its speech; `evaluation.lse.sync_scores` says what the numbers mean."""

    video: str
    fps: float  # Hz, of the file
    frames: int  # frames judged
    offset: int  # frames, positive: the sound comes too early
    lse_d: float
    lse_c: float
    p_sync: float | None  # mean cosine at shift zero, from an expert only


def score_video(
    path: str | Path,
    judge: SyncNetV2Judge | ExpertJudge,
    hp: HParams,
    detector: Detector | None = None,
    speech: np.ndarray | None = None,
    faces_as_in: str | Path | None = None,
) -> Scores:
    """Scores of the video's own sound, or of `speech` (float32 (n,), of the judge's sample_rate) in its place.

    detector: needed by a judge with a crop_size; the longest stretch of frames with a face is judged, with its sound.
    faces_as_in: a video of the same frames to find the faces in, such as the original of a lip-synced one: both are
    then judged by the same crops, as far as the shorter one goes.
    Raises UserError, with the path in it, when there is no sound, no face or less than one window, and when faces_as_in
    has frames of another size.
    """
    if speech is None:
        speech = read_audio(path, judge.sample_rate)
    if faces_as_in is not None:
        refuse_other_size(path, faces_as_in)
    if judge.crop_size is None:
        frames = read_frames(path, judge.read_fps)
    else:
        first, boxes = longest_face_track(faces_as_in or path, judge.read_fps, detector, hp, probe(path).duration_s)
        frames = read_crops(path, judge.read_fps, first, boxes, judge.crop_size)
        speech = speech[round(first / judge.read_fps * judge.sample_rate) :]

    shortest_s, sound_s = judge.min_frames / judge.fps, len(speech) / judge.sample_rate
    if sound_s < shortest_s:
        raise UserError(f"{path}: too short to judge: {sound_s:.2f} s of sound, {shortest_s:.2f} s are needed")
    features = judge.embed(progress(frames, "judging"), speech)
    windows = len(features.face)
    if windows == 0:
        raise UserError(f"{path}: too short to judge: fewer than {judge.min_frames} usable frames in a row")
    offset, lse_c, lse_d = sync_scores(features.face, features.audio)
    frames_judged = windows + judge.min_frames - 1
    return Scores(str(path), probe(path).fps, frames_judged, offset, lse_d, lse_c, features.p_sync)


def longest_face_track(
    path: str | Path, fps: float, detector: Detector, hp: HParams, duration_s: float
) -> tuple[int, np.ndarray]:
    """(first frame, boxes (n, 4)) of the longest stretch in which every frame has a face, as preprocessing finds it.

    duration_s: of the video that is judged, which may be another and shorter one, as it announces itself.
    """

    def read(stop: int | None) -> Iterator[np.ndarray]:
        stop = stop or ceil((duration_s + SLACK_S) * fps)
        return progress(islice(read_frames(path, fps), stop), "looking for the face")

    boxes, status = track_face(read, detector, hp)
    runs = runs_of(status != NO_FACE, jumps(boxes))
    if not runs:
        raise UserError(f"{path}: no face found: try another --face_detector, or `full` for a file that is a face crop")
    first, end = max(runs, key=lambda run: min(run[1], duration_s * fps) - run[0])
    return first, boxes[first:end]


def refuse_other_size(path: str | Path, faces_as_in: str | Path) -> None:
    """UserError where boxes in pixels of the one video would lie elsewhere in the other.

    One pixel more is none, as an mp4 of a video with an odd side has it.
    """
    own, other = probe(path), probe(faces_as_in)
    if abs(own.width - other.width) > 1 or abs(own.height - other.height) > 1:
        raise UserError(
            f"{path}: is {own.width}x{own.height} px but --faces_as_in {faces_as_in} {other.width}x{other.height}: "
            "name a video of this size"
        )


def read_crops(path: str | Path, fps: float, first: int, boxes: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Face crops (size, size, 3) of the frames from `first` on, one for each box; fewer where the video ends before."""
    frames = islice(read_frames(path, fps), first, first + len(boxes))
    return (crop_face(frame, box, size) for frame, box in zip(frames, boxes, strict=False))


def progress(frames: Iterator[np.ndarray], doing: str) -> Iterator[np.ndarray]:
    return tqdm(frames, desc=doing, unit="frame", leave=False, disable=None)  # None: only on a terminal
