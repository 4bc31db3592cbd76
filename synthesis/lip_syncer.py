"""A generator and a face detector, put to work on one video after the other.

The face video is read twice, first for the boxes and then to draw in them, so that memory does not grow with it; where
its face comes, goes or changes, once more for the boxes.
"""

import dataclasses
import os
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property
from itertools import cycle, islice
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

import hparams
from audio import melspectrogram
from clips.index import Alignment, runs_of
from errors import UserError
from faces import (
    NO_FACE,
    crop_face,
    jumps,
    make_detector,
    pad_boxes,
    paste_face,
    smooth_boxes,
    steady_boxes,
    track_face,
)
from hparams import HParams
from models import load_generator, read_checkpoint, usable_device
from models.inputs import generator_faces, to_float
from synthesis.face_source import WHOLE_FRAME, FaceSource
from video import MAX_SIDE, VideoWriter, audio_rate, is_image, read_audio

# Top, bottom, left, right, px.
OFFICIAL_PADS = (0, 10, 0, 0)  # more chin than the detector's box has [official code]
OWN_PADS = (0, 0, 0, 0)  # of generators trained here: the crops of a store are the detector's boxes
DETECT = (-1, -1, -1, -1)  # the box that stands for none

BATCH_BYTES = 128 * 2**20  # frames of a batch, 21 of full HD or 5 of 4K; twice that while the next batch is read


@dataclass(frozen=True)
class Summary:
    """What was written."""

    frames: int
    frames_without_face: int  # of them; they show the face video unchanged
    fps: float  # Hz
    duration_s: float  # of the speech
    is_silent: bool  # whether all samples of the speech are zero
    is_hdr: bool  # whether the face video is for other screens, and came out flat


class LipSyncer:
    """The networks, loaded once for any number of videos; the detector when it is first needed."""

    def __init__(self, checkpoint_path, hp: HParams | None = None, device: str | None = None):
        """checkpoint_path: of this project or official. device: None = a GPU if there is one.

        hp decides about detection and batch sizes; the mel is the one that the generator was trained with.
        """
        self.hp = hp or HParams()
        self.device = usable_device(device)
        self.generator = load_generator(checkpoint_path, self.device)
        self.faces_at_once = faces_at_once(self.hp.wav2lip_batch_size, self.generator.img_size)
        self._still = None  # the reference face of the video under way, where the generator takes a still
        trained_with = read_checkpoint(checkpoint_path).get("hparams", {})
        self.trained_with = hparams.from_dict(dataclasses.asdict(self.hp) | hparams.OFFICIAL | trained_with)
        self.pads, self._smooth = (OWN_PADS, steady_boxes) if trained_with else (OFFICIAL_PADS, smooth_boxes)

    @cached_property
    def detector(self):
        hp = self.hp
        return make_detector(hp.face_detector, self.device, hp.face_min_score, hp.detect_max_side)

    def sync(
        self,
        face,
        audio,
        outfile,
        *,
        static: bool = False,
        fps: float | None = None,
        resize_factor: int = 1,
        rotate: bool = False,
        crop: tuple[int, int, int, int] = WHOLE_FRAME,
        box: tuple[int, int, int, int] = DETECT,
        pads: tuple[int, int, int, int] | None = None,
        nosmooth: bool = False,
    ) -> Summary:
        """Writes `outfile`, an mp4 in which the face of `face` says `audio`. Arguments are the flags of inference.py.

        pads: None = those that the generator's training asks for, `self.pads`.
        It has exactly the sound of `audio`, from its first sample on or, where that is the face video itself, from the
        first picture on, and round(its seconds * frames per second) frames, at least one.
        Raises UserError, before any work, for whatever cannot be read or written, and when no frame has a face.
        """
        # everything that can fail on a typo, before minutes of work
        if fps is None and is_image(face):
            fps = self.trained_with.fps
        source = FaceSource(face, static, fps, resize_factor, rotate, crop)
        refuse_large(face, source.first)
        given_box = None if tuple(box) == DETECT else as_boxes(box, source.first)
        # Sound from before the picture belongs to no frame of the face video itself, but is spoken in any other file.
        of_face = is_same_file(audio, face)
        speech = read_audio(audio, self.trained_with.sample_rate, with_picture=of_face)
        sound = read_audio(audio, sample_rate=None, mono=False, with_picture=of_face)
        sound_rate = audio_rate(audio)
        if len(sound) == 0:
            raise UserError(f"{audio}: its sound ends before its picture begins: give the sound alone")
        refuse_overwriting(outfile, face, audio)
        make_folder(outfile)

        self._still = None
        duration_s = Fraction(len(sound), sound_rate)
        frames = max(1, round(duration_s * source.fps))
        with VideoWriter(outfile, source.fps, sound, sound_rate, source.pixel_aspect) as writer:
            # first pass: where the face is; one box stands for all frames of a still, and for a given box
            boxes = given_box
            if boxes is None:
                window = 1 if nosmooth else self.hp.smooth_frames
                boxes = self.find_boxes(source, frames, self.pads if pads is None else pads, window)

            # second pass: the same frames, each with its stretch of speech
            mels = mel_slices(speech, frames, source.fps, self.trained_with)
            rows = zip(mels, source.endless(), cycle(boxes), strict=False)
            batch_size = frames_at_once(self.faces_at_once, source.first)
            with tqdm(total=frames, desc="generating", unit="frame") as bar:
                while batch := list(islice(rows, batch_size)):
                    for frame in self.speak(*zip(*batch, strict=True)):
                        writer.write(frame)
                        bar.update()
        without_face = np.resize(is_missing(boxes), frames).sum()
        return Summary(frames, int(without_face), float(source.fps), float(duration_s), not sound.any(), source.is_hdr)

    def find_boxes(self, source: FaceSource, at_most: int, pads, window: int) -> np.ndarray:
        """The box of each frame, of `at_most` from the first on: float32 (N, 4), NaN where there is no face.

        pads: see `faces.pad_boxes`. window: frames a box is averaged over.
        """
        hp, detector = self.hp, self.detector

        def read(stop: int | None) -> Iterator[np.ndarray]:
            total = stop or min(at_most, source.announced_frames)
            doing = "looking again" if stop else "looking for the face"
            return tqdm(islice(source.once(), stop or at_most), desc=doing, unit="frame", total=total)

        batch_size = frames_at_once(hp.face_det_batch_size, source.first)
        boxes, status = track_face(read, detector, hp, batch_size)
        if (status == NO_FACE).all():
            raise UserError(
                f"{source.path}: no face found in any of its {len(boxes)} frames: turn it upright with --rotate, try "
                f"another --hparams face_detector than {hp.face_detector}, or say where the face is with --box"
            )
        height, width = source.first.shape[:2]
        # Each stretch by itself: a mean over a gap or a cut would lie between two places.
        stretches = runs_of(status != NO_FACE, jumps(boxes))
        boxes = padded(boxes, pads, height, width, source.path)
        for start, end in stretches:
            boxes[start:end] = self._smooth(boxes[start:end], window)
        return boxes

    def speak(self, mels, frames, boxes) -> Iterator[np.ndarray]:
        """The frames with the face in each box saying its mel (80, 16); as they are where the box is NaN."""
        has_face = ~is_missing(np.stack(boxes))
        spoken = iter(())
        if has_face.any():
            faces = [crop_face(frames[i], boxes[i], self.generator.img_size) for i in np.flatnonzero(has_face)]
            spoken = iter(self.generate(np.stack(mels)[has_face], np.stack(faces)))
        for frame, box, shows_face in zip(frames, boxes, has_face, strict=True):
            yield paste_face(frame, box, next(spoken), self.hp.blend) if shows_face else frame

    def _reference(self, faces: torch.Tensor) -> torch.Tensor:
        """Of faces (1, 3, T, H, W): themselves, or the first face of the video for a generator that takes a still."""
        if not self.generator.takes_a_still:
            return faces
        if self._still is None:
            self._still = faces[:, :, :1]
        return self._still.expand_as(faces)

    def generate(self, mels: np.ndarray, faces: np.ndarray) -> np.ndarray:
        """mels float32 (T, 80, 16), faces uint8 (T, img_size, img_size, 3) BGR -> those faces saying it, same shape.

        Where the device has no memory for so many at once, half as many are tried, from then on. UserError when it has
        none for a single one.
        """
        spoken = np.empty_like(faces)
        done = 0
        while done < len(faces):
            part = slice(done, done + self.faces_at_once)
            try:
                spoken[part] = self._generate(mels[part], faces[part])
                done += self.faces_at_once
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                tried = len(faces[part])
                if tried == 1:
                    raise UserError(
                        f"{self.device} has no memory for a single face of {faces.shape[1]} px: end what else takes "
                        "it, or choose another --device"
                    ) from None
                self.faces_at_once = tried // 2
        return spoken

    @torch.inference_mode()
    def _generate(self, mels: np.ndarray, faces: np.ndarray) -> np.ndarray:
        """`generate`, all at once."""
        mels = torch.from_numpy(mels).to(self.device)[None, :, None]  # (1, T, 1, 80, 16)
        faces = to_float(torch.from_numpy(faces).to(self.device)[None])  # (1, 3, T, H, W)
        masked_and_reference = generator_faces(faces, self._reference(faces), self.trained_with.mask_top)
        spoken = self.generator(mels, masked_and_reference)[0]  # (3, T, H, W)
        return (spoken * 255).round().byte().permute(1, 2, 3, 0).cpu().numpy()


def mel_slices(speech: np.ndarray, frames: int, fps: Fraction, hp: HParams) -> Iterator[np.ndarray]:
    """The mel (80, 16) of each frame of a video at `fps`, cut as in training; hp: that of the generator.

    Silence is put before and behind the speech, so that the first and the last frame have all their columns, however
    short it is.
    """
    alignment = Alignment.of(hp)
    lead = -alignment.generator_start(0, fps)  # columns
    silence_before, silence_behind = (np.zeros(n * hp.hop_size, np.float32) for n in (lead, alignment.mel_steps))
    mel = melspectrogram(np.concatenate([silence_before, speech, silence_behind]), hp)  # (80, columns)
    for i in range(frames):
        start = lead + alignment.generator_start(i, fps)
        yield mel[:, start : start + alignment.mel_steps]


def as_boxes(box: tuple[int, int, int, int], frame: np.ndarray) -> np.ndarray:
    """Top, bottom, left, right of --box -> float32 (1, 4). Raises UserError when it does not lie in the frame."""
    top, bottom, left, right = box
    height, width = frame.shape[:2]
    if not (0 <= top < bottom <= height and 0 <= left < right <= width):
        numbers = " ".join(map(str, box))
        raise UserError(f"--box {numbers} (top bottom left right) does not lie in the {width}x{height} frame")
    return np.array([[left, top, right, bottom]], np.float32)


def padded(boxes: np.ndarray, pads: tuple[int, int, int, int], height: int, width: int, path) -> np.ndarray:
    """`faces.pad_boxes`; UserError, naming --pads and the file, where no pixel of a face is left."""
    grown = pad_boxes(boxes, pads, height, width)
    empty = (np.trunc(grown[:, 2:]) <= np.trunc(grown[:, :2])).any(axis=1)  # not those of NaN
    if empty.any():
        sides = boxes[empty][0, 2:] - boxes[empty][0, :2]
        raise UserError(
            f"--pads {' '.join(map(str, pads))} (top bottom left right) leaves nothing of a face of "
            f"{sides[0]:.0f}x{sides[1]:.0f} px in {path}: take away less"
        )
    return grown


def is_missing(boxes: np.ndarray) -> np.ndarray:
    """bool (N,): which of the boxes (N, 4) say that there is no face."""
    return np.isnan(boxes).any(axis=1)


def faces_at_once(wanted: int, img_size: int) -> int:
    """As many faces of `img_size` px as take the memory of `wanted` ones of 96 px; at least one."""
    return max(1, wanted * 96**2 // img_size**2)


def is_out_of_memory(error: RuntimeError) -> bool:
    """Whether a GPU has no memory left, or the CPU, for which torch has no error of its own."""
    said = ("DefaultCPUAllocator", "not enough memory")
    return isinstance(error, torch.OutOfMemoryError) or any(words in str(error) for words in said)


def frames_at_once(wanted: int, frame: np.ndarray) -> int:
    """`wanted`, or as many frames like this one as BATCH_BYTES hold."""
    return max(1, min(wanted, BATCH_BYTES // frame.nbytes))


def is_same_file(one, other) -> bool:
    return os.path.exists(one) and os.path.exists(other) and os.path.samefile(one, other)


def refuse_overwriting(outfile, *inputs) -> None:
    for path in inputs:
        if is_same_file(outfile, path):
            raise UserError(f"--outfile {outfile} is also read: name another file, inputs are not overwritten")


def refuse_large(path, frame: np.ndarray) -> None:
    """UserError where no H.264 video can hold frames like this one (H, W, 3) of `path`."""
    height, width = frame.shape[:2]
    if max(height, width) > MAX_SIDE:
        raise UserError(
            f"{path}: frames of {width}x{height} px are too large for the mp4, which holds {MAX_SIDE} px a side: make "
            "them smaller with --resize_factor, or take a part with --crop"
        )


def make_folder(outfile) -> None:
    folder = Path(outfile).parent
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"--outfile {outfile}: cannot make the folder {folder} ({error.strerror})") from None
