"""One source video in, one stored clip and its manifest row out: a pure function that any executor can map."""

import hashlib
import json
from itertools import islice
from pathlib import Path

import numpy as np

import audio
import faces
import video
from clips.index import runs_of
from clips.manifest import Row
from clips.settings import settings_of
from clips.store import ClipWriter, as_stored
from hparams import HParams


class Rejected(Exception):
    """Why a clip is of no use: a short kind, then ": " and the particulars."""


def ingest(source: Path, name: str, data_root: Path, store_root: Path, detector: faces.Detector, hp: HParams) -> Row:
    """Stores the clip `name` of the video `data_root / source`; its row says "kept", or "rejected" and the reason.

    Raises only what concerns the whole run, such as a full disk.
    """
    path = data_root / source
    row = Row(source=str(source), clip=name, status="rejected", settings=settings_of(hp))
    try:
        _fingerprint(path, row)
        _store(path, store_root / name, row, detector, hp)
        row.status = "kept"
    except Rejected as why:
        row.reason = str(why)
    except video.MediaError as why:
        row.reason = f"unreadable: {why}"
    return row


def _store(path: Path, target: Path, row: Row, detector: faces.Detector, hp: HParams) -> None:
    if not video.probe(path).has_audio:
        raise Rejected("no sound: the file has no audio stream")
    speech = video.read_audio(path, hp.sample_rate)
    loudness = float(np.sqrt(np.mean(speech**2))) if len(speech) else 0.0
    if loudness < hp.min_speech_rms:
        raise Rejected(f"silent: loudness {loudness:.5f}, {hp.min_speech_rms} needed")

    boxes, status = faces.track_face(lambda stop: islice(video.read_frames(path, hp.fps), stop), detector, hp)
    has_face = status != faces.NO_FACE
    if len(boxes) < hp.min_frames:
        raise Rejected(f"too short: {len(boxes)} frames at {hp.fps} fps, {hp.min_frames} needed")
    if not has_face.any():
        raise Rejected(f"no face: none in {len(boxes)} frames")
    if has_face.sum() < hp.min_frames:
        raise Rejected(f"few faces: in {has_face.sum()} of {len(boxes)} frames, {hp.min_frames} needed")
    width_px = float(np.median(boxes[has_face, 2] - boxes[has_face, 0]))
    if width_px < hp.min_face_px:
        raise Rejected(f"small face: {width_px:.0f} px wide, {hp.min_face_px} needed")

    source_sound_s = len(speech) / hp.sample_rate
    # Sound as long as the picture; windows past its true end are not counted as usable.
    samples = len(boxes) * hp.sample_rate // hp.fps
    row.frames, row.runs = len(boxes), runs_of(has_face, faces.jumps(boxes))
    row.mel_columns = 1 + min(len(speech), samples) // hp.hop_size
    speech = as_stored(np.pad(speech[:samples], (0, max(samples - len(speech), 0))))

    writer = ClipWriter(target, hp.fps, hp.store_size, hp.sample_rate, hp.jpeg_quality)
    try:
        # Decoded a second time rather than kept: an hour of video does not fit in memory.
        for frame, box, ok in zip(video.read_frames(path, hp.fps), boxes, has_face, strict=True):
            writer.add_frame(faces.crop_face(frame, box, hp.store_size) if ok else None)
        facts = {
            "source": row.source,
            "source_sha256": row.source_sha256,
            "source_sound_s": source_sound_s,
            **json.loads(row.settings),
        }
        writer.close(speech, audio.melspectrogram(speech, hp), boxes, status, facts)
    except BaseException:
        writer.discard()
        raise


def _fingerprint(path: Path, row: Row) -> None:
    """Puts size and digest of the source into the row."""
    digest = hashlib.sha256()
    try:
        row.source_bytes = path.stat().st_size
        with open(path, "rb") as file:
            while block := file.read(1 << 20):
                digest.update(block)
    except FileNotFoundError:
        raise Rejected(f"unreadable: {path}: no such file") from None
    except OSError as error:  # of one file, or of a disk that is away for now: tried again in the next run
        raise Rejected(f"failed: {path}: {error.strerror or error}") from None
    row.source_sha256 = digest.hexdigest()
