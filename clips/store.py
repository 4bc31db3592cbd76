"""The clip store: one clip = one ordinary MOV (Motion-JPEG face crops + 16 kHz PCM) and a small sidecar.

    <root>/manifest.jsonl         one row per clip, see manifest.py
    <root>/<id>/<clip>.mov        any player opens it; every frame a JPEG of store_size x store_size
    <root>/<id>/<clip>.npz        what training needs at hand: mel, byte offset and size of each JPEG, boxes, status

The JPEGs lie whole in the MOV, so a random frame costs one read at its place and one JPEG decode, and a
corpus has two files a clip instead of hundreds. Sound is lossless and frames are encoded once: re-encoding both
leaves traces of the start time that let an expert cheat (Iashin et al. 2022, arXiv 2210.07055).
"""

import json
import os
import weakref
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from pathlib import Path

import av
import cv2
import numpy as np

import video
from errors import UserError

NO_FACE_GREY = 128  # what a frame without a face shows


@dataclass
class ClipWriter:
    """Writes one clip; nothing is seen under its name until `close` has written it whole.

    path: without suffix. frames go in one by one, the sound once: sample 0 belongs to frame 0.
    """

    path: Path
    fps: int
    size: int
    sample_rate: int
    jpeg_quality: int

    def __post_init__(self):
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._part = _with_suffix(self.path, ".mov.part")
        self._container = av.open(str(self._part), "w", format="mov")
        self._video = self._container.add_stream("mjpeg", rate=self.fps)
        self._video.width = self._video.height = self.size
        self._video.pix_fmt = "yuvj444p"
        self._audio = self._container.add_stream("pcm_s16le", rate=self.sample_rate, layout="mono")
        self._count = 0

    def add_frame(self, face: np.ndarray | None) -> None:
        """One face crop, uint8 (size, size, 3) BGR, or None where the frame has no face."""
        if face is None:
            face = np.full((self.size, self.size, 3), NO_FACE_GREY, np.uint8)
        # 4:4:4 keeps lip colour at full resolution; at this size the few extra bytes do not matter.
        options = [cv2.IMWRITE_JPEG_QUALITY, self.jpeg_quality]
        options += [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444]
        _, jpeg = cv2.imencode(".jpg", face, options)
        self._mux(self._video, jpeg.tobytes(), self._count, 1, Fraction(1, self.fps))
        self._count += 1

    def close(self, speech: np.ndarray, mel: np.ndarray, boxes: np.ndarray, status: np.ndarray, facts: dict) -> None:
        """speech float32 (frames / fps * sample_rate,), mel (80, S), boxes (frames, 4), status (frames,) uint8."""
        pcm = (as_stored(speech) * 32768).astype("<i2")
        for start in range(0, len(pcm), self.sample_rate):
            second = pcm[start : start + self.sample_rate]
            self._mux(self._audio, second.tobytes(), start, len(second), Fraction(1, self.sample_rate))
        self._container.close()

        offsets, sizes = _jpeg_places(self._part)
        side_part = _with_suffix(self.path, ".npz.part")
        with open(side_part, "wb") as file:
            np.savez(
                file,
                mel=mel.astype(np.float32),
                jpeg_offset=offsets,
                jpeg_size=sizes,
                boxes=boxes.astype(np.float32),
                status=status.astype(np.uint8),
                facts=np.array(json.dumps(facts)),
            )
        for part in (self._part, side_part):  # or a power cut leaves names without content, which the manifest lists
            with open(part, "rb") as file:
                os.fsync(file.fileno())
        os.replace(self._part, _with_suffix(self.path, ".mov"))
        os.replace(side_part, _with_suffix(self.path, ".npz"))

    def discard(self) -> None:
        """Drops what was written so far."""
        try:
            self._container.close()
        finally:
            remove_parts(self.path)

    def _mux(self, stream, data: bytes, pts: int, duration: int, time_base: Fraction) -> None:
        packet = av.Packet(data)
        packet.stream, packet.pts, packet.dts, packet.duration = stream, pts, pts, duration
        packet.time_base, packet.is_keyframe = time_base, True
        self._container.mux(packet)


def remove_parts(path: Path) -> None:
    """Removes what a writer of this clip (without suffix) left behind when it was stopped."""
    for suffix in (".mov.part", ".npz.part"):
        with suppress(OSError):  # not there, or a name too long to be
            _with_suffix(path, suffix).unlink()


def as_stored(speech: np.ndarray) -> np.ndarray:
    """Speech rounded to 16 bits, as it will be read back; take the mel of this, so that both always agree."""
    return (np.clip(np.round(speech * 32768), -32768, 32767) / 32768).astype(np.float32)


class Clip:
    """Read access to one stored clip; `path` without suffix. Opens nothing until asked."""

    def __init__(self, path: Path):
        self.path = Path(path)

    @cached_property
    def mel(self) -> np.ndarray:
        """float32 (80, S), the official mel of the whole clip."""
        return self._sidecar["mel"]

    @property
    def frames(self) -> int:
        return len(self._sidecar["jpeg_offset"])

    @property
    def boxes(self) -> np.ndarray:
        """float32 (frames, 4): x1, y1, x2, y2 px in the source video; NaN where there is no face."""
        return self._sidecar["boxes"]

    @property
    def status(self) -> np.ndarray:
        """uint8 (frames,): faces.NO_FACE, DETECTED or FILLED."""
        return self._sidecar["status"]

    @property
    def facts(self) -> dict:
        """Source file, its checksum, detector, fps …, as preprocessing found them."""
        return json.loads(str(self._sidecar["facts"]))

    def read(self, first: int, count: int) -> np.ndarray:
        """uint8 (count, H, W, 3) BGR: consecutive face crops."""
        faces = [self._decode(i) for i in range(first, first + count)]
        if len({face.shape for face in faces}) > 1:
            raise self._broken("its frames differ in size")
        return np.stack(faces)

    def speech(self) -> np.ndarray:
        """float32 (n,) 16 kHz: the sound of the clip, as stored."""
        try:
            return video.read_audio(_with_suffix(self.path, ".mov"), sample_rate=None)
        except video.MediaError as error:
            raise self._broken(error) from error

    @cached_property
    def _sidecar(self) -> dict:
        path = _with_suffix(self.path, ".npz")
        try:
            with np.load(path, allow_pickle=False) as data:
                return {name: data[name] for name in data.files}
        except Exception as error:  # a damaged archive fails in a dozen ways, and nothing else can go wrong here
            raise self._broken(error) from error

    @cached_property
    def _file(self) -> int:
        """Descriptor of the open MOV: one that is replaced meanwhile is read on as it was, like the sidecar."""
        try:
            descriptor = os.open(_with_suffix(self.path, ".mov"), os.O_RDONLY)
        except OSError as error:
            raise self._broken(error) from error
        weakref.finalize(self, os.close, descriptor)
        return descriptor

    def _decode(self, index: int) -> np.ndarray:
        offset, size = int(self._sidecar["jpeg_offset"][index]), int(self._sidecar["jpeg_size"][index])
        try:
            # A memory map would be as fast, but the process dies of a file cut short or a failing disk, without a word.
            jpeg = os.pread(self._file, size, offset)
        except OSError as error:
            raise self._broken(error) from error
        # the decoder would fill up what a file cut short lacks
        whole = len(jpeg) == size > 0
        frame = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR) if whole else None
        if frame is None:
            raise self._broken(f"frame {index} does not decode")
        return frame

    def _broken(self, why) -> UserError:
        return UserError(
            f"{self.path}: stored clip is damaged ({why}): delete its rows in manifest.jsonl and preprocess again"
        )


def whole(root: Path, names: Iterable[str]) -> set[str]:
    """Those of `names` whose two files are there.

    One look into each folder rather than two at each clip: on a network disk every look is a round trip.
    """
    by_folder = {}
    for name in names:
        by_folder.setdefault(name.rpartition("/")[0], []).append(name)
    found = set()
    for folder, clips in by_folder.items():
        try:
            files = set(os.listdir(root / folder))
        except (FileNotFoundError, NotADirectoryError):
            continue
        for clip in clips:
            file = clip.rpartition("/")[2]
            if f"{file}.mov" in files and f"{file}.npz" in files:
                found.add(clip)
    return found


def _jpeg_places(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Byte offset and size of each video packet of a MOV."""
    with av.open(str(path), format="mov") as container:
        places = [(packet.pos, packet.size) for packet in container.demux(video=0) if packet.size]
    offsets, sizes = zip(*places, strict=True)
    return np.array(offsets, np.int64), np.array(sizes, np.int32)


def _with_suffix(path: Path, suffix: str) -> Path:
    # Not Path.with_suffix: a clip's name may itself hold a dot.
    return path.parent / (path.name + suffix)
