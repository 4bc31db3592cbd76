"""Pictures of any video file at a constant frame rate, one at a time."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from math import floor
from pathlib import Path

import av
import numpy as np
from av.video.reformatter import VideoReformatter

from video.colour import is_hdr, to_bgr
from video.media import LOWEST_RATE, MediaError, Picture, average_rate, counted, main_stream, open_media, pictures
from video.orientation import Orientation


@dataclass(frozen=True)
class VideoInfo:
    """What a video file says of itself."""

    path: Path
    width: int  # px, upright
    height: int  # px, upright
    fps: float  # average over the file
    duration_s: float  # of the picture, as announced or estimated; only decoding tells it to the frame
    has_audio: bool
    pixel_aspect: Fraction  # width of a pixel over its height, as shown
    is_hdr: bool  # its brightness is coded for screens of another kind: it comes out flat


def probe(path) -> VideoInfo:
    """Facts of a video file, its first picture decoded to be sure of them.

    Raises MediaError for a missing, empty or unreadable file and for one without a picture.
    """
    with open_media(path) as container:
        stream, rate = moving_pictures(container, path)
        first = next(pictures(container, stream, rate), None)
        if first is None:
            raise MediaError(f"{path}: no picture of its video stream can be decoded")
        orientation = Orientation.of(first.frame)
        width, height = orientation.size(first.frame.width, first.frame.height)
        aspect = Fraction(stream.sample_aspect_ratio or 1)
        if orientation.transposed:
            aspect = 1 / aspect
        has_audio = main_stream(container.streams.audio) is not None
        duration = announced_duration(container, stream) or scanned_duration(container, rate)
    return VideoInfo(Path(path), width, height, float(rate), float(duration), has_audio, aspect, is_hdr(first.frame))


def announced_duration(container, stream) -> Fraction | None:
    """Seconds of picture according to the file's header; None where it says nothing, as in browser recordings."""
    if stream.duration:
        return stream.duration * stream.time_base
    return Fraction(container.duration, av.time_base) if container.duration else None


def scanned_duration(container, rate: Fraction) -> Fraction:
    """Seconds of picture found by walking through the file without decoding it."""
    count, seconds = counted(container.name)
    return seconds or count / rate


def read_frames(path, fps: float | None = None) -> Iterator[np.ndarray]:
    """Yields uint8 (H, W, 3) BGR frames of the video at a constant rate, turned upright; memory stays constant.

    Frame i is the picture on screen at i / fps seconds after the first picture, times rounded to the nearest frame.
    fps=None takes the file's average rate. All frames have the size of the first: where a stream changes its size
    midway, the rest is stretched. Pixels are otherwise taken as stored: a sample aspect ratio and an alpha plane are
    ignored. The file is closed when the iterator ends or is closed. Raises MediaError as `probe` does, on the first
    frame; of a damaged file it gives what can be decoded.
    """
    with open_media(path) as container:
        stream, rate = moving_pictures(container, path)
        reformatter, size = VideoReformatter(), None
        for frame, repeats in at_constant_rate(pictures(container, stream, rate), Fraction(fps or rate)):
            orientation = Orientation.of(frame)
            size = size or orientation.size(frame.width, frame.height)
            # Converted anew for each repeat, so that no two frames share memory that a caller may draw on.
            for _ in range(repeats):
                yield orientation.apply(to_bgr(frame, reformatter, *orientation.size(*size)))
    if size is None:
        raise MediaError(f"{path}: no picture of its video stream can be decoded")


def at_constant_rate(shown: Iterable[Picture], fps: Fraction) -> Iterator[tuple[av.VideoFrame, int]]:
    """(frame, how many output frames show it) for pictures at any times.

    A picture takes the output slot nearest to its time, measured from the first picture, and stays until the slot
    of the next. Rounding to the nearest keeps lips and sound together: taking the last one at or before i / fps
    would show 30 fps material half a frame late on average.
    """
    held, start, given = None, None, 0
    for picture in shown:
        if start is None:
            start = picture.time
        slot = nearest(fps * (picture.time - start))
        if slot > given:
            yield held.frame, slot - given
            given = slot
        held = picture
    if held is not None:
        # However short, a video has one frame.
        end = max(1, nearest(fps * (held.time + held.duration - start)))
        if end > given:
            yield held.frame, end - given


def nearest(x: Fraction) -> int:
    """The nearest integer, halves upwards (Python's round takes them to the even one)."""
    return floor(x + Fraction(1, 2))


def moving_pictures(container, path) -> tuple[av.VideoStream, Fraction]:
    """The stream with the pictures and their average rate; MediaError where there are none that move."""
    stream = video_stream(container, path)
    rate = average_rate(container, stream)
    if rate < LOWEST_RATE:
        # Believed, a damaged header would have each picture repeated for minutes or days.
        raise MediaError(
            f"{path}: shows each picture for {float(1 / rate):.3g} s: if it is no slide show, its header is damaged: "
            "write it anew (ffmpeg -r 25 -i FILE OUT.mp4)"
        )
    return stream, rate


def video_stream(container, path) -> av.VideoStream:
    stream = main_stream(container.streams.video)
    if stream is None:
        raise MediaError(f"{path}: no video stream; give a file with moving pictures")
    return stream
