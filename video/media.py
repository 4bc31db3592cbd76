"""Opening a media file and decoding one of its streams: what pictures, sound and images have in common."""

from collections.abc import Iterator
from contextlib import contextmanager
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import av
from av.stream import Disposition

from errors import UserError

VIDEO_SUFFIXES = frozenset(".mp4 .m4v .mov .mkv .webm .avi .flv .mpg .mpeg .wmv .ts .mts .m2ts .3gp .ogv".split())
AUDIO_SUFFIXES = frozenset(".wav .mp3 .m4a .aac .flac .ogg .oga .opus .wma .aif .aiff".split())
IMAGE_SUFFIXES = frozenset(".jpg .jpeg .jfif .png .bmp .webp .tif .tiff .avif".split())
TILED_SUFFIXES = frozenset(".heic .heif".split())  # photos that FFmpeg gives in pieces

# Titles in another encoding are no reason to refuse a file; PyAV from 19 on thinks so too and has no such option.
ANY_METADATA = {"metadata_errors": "replace"} if int(av.__version__.split(".")[0]) < 19 else {}
FALLBACK_FPS = Fraction(25)  # for files that state no frame rate and have too few frames to guess one from
HIGHEST_STATED = 120  # frames per second; more is often the tick of the file's clock, as in browser recordings
LOWEST_RATE = Fraction(1, 10)  # frames per second; less is a slide show or a damaged header
MAX_JUMP_S = 600  # seconds; a timestamp further than this from the one before is damage, not a pause
MAX_STEP_BACK_S = Fraction(1, 2)  # seconds a timestamp may lie before the latest …
MAX_TIME_BACK_S = 1  # … and how long this may last until the clock counts as set back


class MediaError(UserError):
    """A media file that cannot be used, said in one line that names it."""


class Picture(NamedTuple):
    """A decoded frame and when it is shown, in seconds on the file's own clock."""

    time: Fraction
    duration: Fraction
    frame: av.VideoFrame


class Clock:
    """The times of successive frames, in seconds, with missing and damaged ones replaced.

    Believed as written, one damaged timestamp would ask for days of silence or of one repeated picture.
    """

    def __init__(self, path, expected: Fraction | None = None):
        self.path = path  # for messages
        self.expected = expected  # time of the next frame if it follows directly
        self.shift = Fraction(0)
        self._latest, self._back = None, Fraction(0)

    def __call__(self, time: Fraction | None, duration: Fraction) -> Fraction:
        """The time to believe for a frame stamped `time` (None = not stamped) that lasts `duration`.

        Raises MediaError where time goes back for good: what follows would be taken for what was there before.
        """
        if self.expected is None:
            self.expected = time or Fraction(0)
        if time is None:
            time = self.expected - self.shift
        elif abs(time + self.shift - self.expected) > MAX_JUMP_S:
            self.shift = self.expected - time
        time += self.shift
        self.expected = time + duration
        self._latest = time if self._latest is None else max(self._latest, time)
        self._back = self._back + duration if time < self._latest - MAX_STEP_BACK_S else Fraction(0)
        if self._back > MAX_TIME_BACK_S:
            raise MediaError(
                f"{self.path}: its clock is set back on the way, as in files joined end to end: encode it again "
                "(ffmpeg -i FILE OUT.mp4)"
            )
        return time


def local_url(path) -> str:
    """A name that FFmpeg takes for a file, whatever characters are in it: `a:b.mp4` alone would name a protocol."""
    return f"file:{path}"


@contextmanager
def open_media(path) -> Iterator[av.container.InputContainer]:
    """The opened container, closed at the end of the block. Raises MediaError for anything that is not media."""
    refuse_no_file(path)
    try:
        # "none": a % in the name of an image is no pattern for the names of a series.
        container = av.open(local_url(path), options={"pattern_type": "none"}, **ANY_METADATA)
    except PermissionError:
        raise MediaError(f"{path}: no permission to read it") from None
    except av.FFmpegError as error:
        raise MediaError(f"{path}: not a media file, or cut off before its index ({error.strerror})") from None
    with container:
        yield container


def refuse_no_file(path) -> None:
    """MediaError for what cannot hold media at all."""
    path = Path(path)
    if not path.exists():
        raise MediaError(f"{path}: no such file")
    if not path.is_file():
        raise MediaError(f"{path}: not a file; give a single video, sound or image file")
    if path.suffix.lower() in TILED_SUFFIXES:
        raise MediaError(f"{path}: photos of this format cannot be read; save it as jpg or png")
    if path.stat().st_size == 0:
        raise MediaError(f"{path}: the file is empty; copy or download it again")


def main_stream(streams):
    """The stream a player would choose: the default one, else the first; None when there is none.

    Cover art is stored as a video stream too, and is not one.
    """
    still = Disposition.attached_pic | Disposition.timed_thumbnails
    candidates = [stream for stream in streams if stream.codec_context and not stream.disposition & still]
    return min(candidates, key=lambda stream: not stream.disposition & Disposition.default, default=None)


def decode(container, stream) -> Iterator[av.frame.Frame]:
    """Every frame of the stream that can be decoded; what is broken or cut off is passed over."""
    for packet in packets_of(container, stream):
        yield from decoded(stream, packet)
    # What the decoder still holds, for a file whose container broke off before its end.
    yield from decoded(stream, None)


def packets_of(container, stream) -> Iterator[av.Packet]:
    """The packets of the stream, to the end or to where the file is broken off."""
    packets = container.demux(stream)
    while True:
        try:
            packet = next(packets)
        except (StopIteration, av.InvalidDataError, av.EOFError, av.MemoryError):
            return  # no memory: of a packet whose size is damaged
        except IndexError:
            # PyAV's demuxer trips at the end of a file in which another stream turned up after the start.
            return
        yield packet


def decoded(stream, packet) -> list[av.frame.Frame]:
    """The frames that this packet completes: none when it is broken."""
    try:
        return stream.codec_context.decode(packet)
    except av.BlockingIOError:
        # Broken data can leave a frame inside the decoder that is never fetched, and it then refuses all that follows.
        stream.codec_context.flush_buffers()
        return []
    except av.FFmpegError:
        # Each decoder has error codes of its own for broken data, "operation not permitted" among them.
        return []


def average_rate(container, stream) -> Fraction:
    """Frames per second of a video stream over its whole length."""
    for stated in (stream.average_rate, stream.guessed_rate):
        if stated and LOWEST_RATE <= stated <= HIGHEST_STATED:
            return Fraction(stated)
    count, seconds = counted(container.name)
    return count / seconds if seconds else FALLBACK_FPS


def counted(url: str) -> tuple[int, Fraction]:
    """Pictures of a file's main video stream and the seconds they last, found by walking through it undecoded.

    0 s where its packets have no times at all, as in a bare stream such as .h264.
    """
    with av.open(url, options={"pattern_type": "none"}, **ANY_METADATA) as container:
        stream = main_stream(container.streams.video)
        count, first, last = 0, None, None
        for packet in packets_of(container, stream):
            if packet.size:
                count += 1
                if packet.pts is not None:
                    end = packet.pts + (packet.duration or 0)
                    first, last = (packet.pts, end) if first is None else (min(first, packet.pts), max(last, end))
        return count, Fraction(0) if first is None else (last - first) * stream.time_base


def pictures(container, stream, rate: Fraction | None = None) -> Iterator[Picture]:
    """The decoded frames of a video stream in the order they are shown, with their times; rate: its average_rate."""
    period = 1 / (rate or average_rate(container, stream))
    clock, first_ticks = Clock(container.name.removeprefix("file:")), None
    for frame in decode(container, stream):
        if container.format.name == "avi":
            # AVI stores no times of showing. Its decoding times rise evenly but are late by the decoder's reordering
            # (two frames for H.264 with B-frames), while the first frame is meant to be shown at the stream's start.
            # The frames a decoder gives up at the end have none and follow directly.
            first_ticks = frame.dts if first_ticks is None else first_ticks
            ticks = None if frame.dts is None else frame.dts - first_ticks + (stream.start_time or 0)
        else:
            ticks = frame.pts
        duration = (frame.duration or 0) * stream.time_base
        if not 0 < duration <= MAX_JUMP_S:
            duration = period
        time = clock(None if ticks is None else ticks * stream.time_base, duration)
        yield Picture(time, duration, frame)


def picture_start(path) -> Fraction | None:
    """When the first picture of the file is shown, in seconds on the file's clock; None without pictures."""
    with open_media(path) as container:
        stream = main_stream(container.streams.video)
        first = next(pictures(container, stream), None) if stream else None
        return first.time if first else None
