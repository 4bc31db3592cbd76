"""Writing H.264 + AAC mp4 files."""

import os
import zlib
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soxr
from av.video.reformatter import VideoReformatter

from errors import UserError
from video.colour import mark_bt709, to_yuv420p
from video.media import MediaError, local_url

MAX_SIDE = 16384  # px of width and of height, the most that x264 encodes
CRF = 18  # x264's constant quality, lower = better and larger: 18 shows no loss to the eye
AUDIO_BITS_PER_CHANNEL = 96_000  # bit/s, the most AAC takes at 16 kHz
AAC_FRAME = 1024  # samples the encoder takes at once
SQUARE = Fraction(1)
CHANNEL_LAYOUTS = ("mono", "stereo", "3.0", "4.0", "5.0", "5.1", "6.1", "7.1")  # of 1 to 8 channels


class VideoWriter:
    """Writes frames, and the sound that belongs to them, as an mp4 file.

    with VideoWriter("out.mp4", fps=25, audio=wav) as writer:
        for frame in frames:
            writer.write(frame)

    Frames are uint8 (H, W, 3) BGR, all of one size; an odd width or height is rounded up by repeating the last column
    or row, as H.264 needs even ones. `audio` is float32 (n,) or (n, channels) at `sample_rate` Hz and starts with the
    first frame; the file holds exactly its n samples, however many frames there are, or as long a sound if AAC cannot
    hold it as it is (`as_aac_holds`). pixel_aspect: width of a pixel over its height, for players. The file appears
    under its name only when complete: nothing is left of it when the block ends with an exception. Raises UserError for
    a path that cannot be written to, and for what cannot be encoded, such as frames of more than MAX_SIDE px a side.
    """

    def __init__(
        self,
        path,
        fps: float,
        audio: np.ndarray | None = None,
        sample_rate: int = 16000,
        pixel_aspect: Fraction = SQUARE,
    ):
        self.path = Path(path)
        if not self.path.name:
            raise UserError(f"{str(path)!r} names no file to write: name an .mp4")
        # Close to any rate in use, 30000/1001 among them, also when it comes as a float.
        self.fps = Fraction(fps).limit_denominator(1001)
        self.pixel_aspect = pixel_aspect
        self.audio, self.sample_rate = None, sample_rate
        if audio is not None and len(audio) > 0:
            self.audio, self.sample_rate = as_aac_holds(np.asarray(audio, np.float32), sample_rate)
        self.frames_written = 0
        self._samples_written = 0
        self._reformatter = VideoReformatter()
        # Short, as the longest name a disk takes is that of the file itself.
        self._part = self.path.with_name(f".{zlib.crc32(os.fsencode(self.path.name)):08x}.{os.getpid()}.part")

    def __enter__(self):
        if self.path.suffix.lower() != ".mp4":
            raise UserError(f"{self.path}: only .mp4 files are written; name it {self.path.stem}.mp4")
        if not self.path.parent.is_dir():
            raise UserError(f"{self.path}: there is no folder {self.path.parent}; create it first")
        try:
            if self.path.is_dir():
                raise UserError(f"{self.path}: is a folder; name a file")
            # The encoder would open it at the first frame only, after the work that led to that frame.
            self._part.touch()
        except OSError as error:
            raise UserError(f"{self.path}: cannot be written ({error.strerror})") from None
        # The movie's clock ticks in samples: in the default milliseconds the length of the sound would be rounded.
        options = {"movflags": "+faststart", "movie_timescale": str(self.sample_rate)}
        self._container = av.open(local_url(self._part), "w", format="mp4", options=options)
        return self

    def write(self, frame: np.ndarray) -> None:
        """Appends a frame, and the sound up to its end."""
        if self.frames_written == 0:
            self._shape = frame.shape
            self._add_streams()
        if frame.shape != self._shape:
            raise ValueError(f"frame {self.frames_written} has shape {frame.shape}, the first had {self._shape}")
        picture = to_yuv420p(to_even_size(frame), self._reformatter)
        picture.pts, picture.time_base = self.frames_written, 1 / self.fps
        self._container.mux(self._video.encode(picture))
        self.frames_written += 1
        # Written in step, so that a player finds both close together and little is held in memory.
        self._write_audio(until=self.frames_written / self.fps)

    def __exit__(self, exception_type, exception, traceback):
        try:
            if exception_type is None:
                self._finish()
                os.replace(self._part, self.path)
        finally:
            try:
                self._container.close()  # on a full disk it fails again
            finally:
                self._part.unlink(missing_ok=True)

    def _add_streams(self):
        height, width = self._shape[:2]
        self._video = self._container.add_stream("libx264", rate=self.fps, options={"crf": str(CRF)})
        self._video.width, self._video.height = width + width % 2, height + height % 2
        self._video.pix_fmt = "yuv420p"
        self._video.codec_context.sample_aspect_ratio = self.pixel_aspect
        mark_bt709(self._video.codec_context)
        if self.audio is not None:
            channels = 1 if self.audio.ndim == 1 else self.audio.shape[1]
            self._sound = self._container.add_stream("aac", rate=self.sample_rate)
            self._sound.layout = CHANNEL_LAYOUTS[channels - 1]
            self._sound.bit_rate = AUDIO_BITS_PER_CHANNEL * channels
        try:
            self._container.start_encoding()
        except av.FFmpegError as error:
            if isinstance(error, OSError):  # of the disk
                raise
            raise UserError(
                f"{self.path}: frames of {width}x{height} px cannot be encoded ({error.strerror}): give smaller ones, "
                f"of at most {MAX_SIDE} px a side"
            ) from None

    def _write_audio(self, until: Fraction | None) -> None:
        """Appends the sound up to this many seconds, in whole frames of the codec; None = all that is left."""
        if self.audio is None:
            return
        end = len(self.audio) if until is None else min(len(self.audio), int(until * self.sample_rate))
        while self._samples_written < end:
            chunk = self.audio[self._samples_written : self._samples_written + AAC_FRAME]
            # One row, channels interleaved: PyAV cannot fill the rows of a planar block of 8 channels.
            block = av.AudioFrame.from_ndarray(chunk.reshape(1, -1), format="flt", layout=self._sound.layout.name)
            block.sample_rate = self.sample_rate
            block.pts, block.time_base = self._samples_written, Fraction(1, self.sample_rate)
            self._container.mux(self._sound.encode(block))
            self._samples_written += len(chunk)

    def _finish(self):
        """Writes what the encoders still hold, and the file's index."""
        if self.frames_written == 0:
            raise MediaError(f"{self.path}: not written, there are no frames to write")
        self._write_audio(until=None)
        self._container.mux(self._video.encode())
        if self.audio is not None:
            self._container.mux(self._sound.encode())
        self._container.close()


def as_aac_holds(audio: np.ndarray, sample_rate: int) -> tuple[np.ndarray, int]:
    """float32 (n,) or (n, channels) and its rate in Hz, changed where AAC cannot hold them.

    More than 8 channels become their mean, a rate that AAC has not the next higher one or the highest.
    """
    if audio.ndim == 2 and audio.shape[1] > len(CHANNEL_LAYOUTS):
        audio = audio.mean(axis=1)
    rates = av.Codec("aac", "w").audio_rates
    if sample_rate in rates:
        return audio, sample_rate
    new_rate = min((rate for rate in rates if rate > sample_rate), default=max(rates))
    return soxr.resample(audio, sample_rate, new_rate), new_rate


def to_even_size(frame: np.ndarray) -> np.ndarray:
    height, width = frame.shape[:2]
    return np.pad(frame, ((0, height % 2), (0, width % 2), (0, 0)), mode="edge")
