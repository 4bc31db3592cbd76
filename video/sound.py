"""Sound of any media file, on the timeline of its picture or its own."""

from collections.abc import Iterable, Iterator
from fractions import Fraction
from itertools import chain
from math import prod
from typing import NamedTuple

import av
import numpy as np
import soxr

from video.media import Clock, MediaError, decode, main_stream, open_media, picture_start

# Seconds the sound may stray from its timestamps before it is moved: more than the rounding of timestamps to a
# millisecond (FLV, WebM), less than a frame of video.
MAX_DRIFT_S = Fraction(1, 50)

# What a sample format's full scale is divided by to reach 1.
FULL_SCALE = {"u8": 2.0**7, "s16": 2.0**15, "s32": 2.0**31, "s64": 2.0**63, "flt": 1.0, "dbl": 1.0}


PLANES = 7  # PyAV looks for the channels of a planar frame beyond the end of their list when there are more


class Block(NamedTuple):
    """A run of samples, and the time of the first in seconds on the file's clock; None where the file does not say."""

    time: Fraction | None
    rate: int  # Hz
    samples: np.ndarray  # float32 (n,) or (n, channels)


def read_audio(path, sample_rate: int | None = 16000, mono: bool = True, with_picture: bool = True) -> np.ndarray:
    """The sound of a media file: float32 (n,) in [-1, 1], or (n, channels) with mono=False.

    Sample 0 is the moment the first picture is shown: sound before it is left out, and silence stands where the sound
    starts later or pauses. Without pictures, or with_picture=False, it is the sound's own first sample. `sample_rate`
    in Hz, None for the file's own (`audio_rate` tells it). Mono is the mean of the channels. Decoded and resampled in
    pieces: the memory is that of the result, whatever the file's own rate and channels. Raises MediaError for a file
    without sound; of a damaged one it gives what can be decoded.
    """
    start = picture_start(path) if with_picture else None
    with open_media(path) as container:
        first, rest = first_and_rest(path, container, mono)
        if start is None:
            start = first.time or Fraction(0)
        placed = on_timeline(path, chain([first], rest), start)
        return joined(resampled(placed, first.rate, sample_rate or first.rate), first.samples.shape[1:])


def joined(pieces: Iterable[np.ndarray], channels: tuple[int, ...]) -> np.ndarray:
    """The pieces, float32 (n, *channels), one behind the other, without ever holding them twice."""
    sound = bytearray()  # grows in place, where a list of pieces would be copied into the result
    for piece in pieces:
        sound += piece.tobytes()
    item_bytes = np.dtype(np.float32).itemsize * prod(channels)
    return np.ndarray((len(sound) // item_bytes, *channels), np.float32, buffer=sound)


def audio_rate(path) -> int:
    """Samples per second of the file's own sound. Raises MediaError for a file without sound."""
    with open_media(path) as container:
        first, _ = first_and_rest(path, container, mono=True)
        return first.rate


def first_and_rest(path, container, mono: bool) -> tuple[Block, Iterator[Block]]:
    """The first block, which tells the rate, and an iterator over the others."""
    stream = main_stream(container.streams.audio)
    if stream is None:
        raise MediaError(f"{path}: no audio stream; give a file with sound")
    blocks = sound_blocks(path, container, stream, mono)
    first = next(blocks, None)
    if first is None:
        raise MediaError(f"{path}: its sound is empty or damaged; give another file, or export it anew")
    return first, blocks


def sound_blocks(path, container, stream, mono: bool) -> Iterator[Block]:
    """The decoded sound of a stream; encoder priming is cut off by the decoder, padding at the end here."""
    form, held, keep = None, None, None
    for frame in decode(container, stream):
        new_form = f"{frame.sample_rate} Hz" + ("" if mono else f", {frame.layout.nb_channels} channels")
        form = form or new_form
        if new_form != form:
            raise MediaError(f"{path}: its sound changes from {form} to {new_form} midway; re-encode it")
        if held:
            yield held
        time = None if frame.pts is None else frame.pts * stream.time_base
        held = Block(time, frame.sample_rate, to_float(frame, mono))
        keep = announced_samples(frame, stream.time_base)
    if held:
        # The last frame of a codec with fixed frames is padded; its duration says how much of it is sound.
        yield held._replace(samples=held.samples[:keep])


def announced_samples(frame: av.AudioFrame, tick_s: Fraction) -> int:
    """Samples of the frame that its duration covers; all of them where the duration is unknown or rounded to ticks."""
    announced_s = (frame.duration or 0) * tick_s
    missing_s = Fraction(frame.samples, frame.sample_rate) - announced_s
    return round(announced_s * frame.sample_rate) if announced_s and missing_s > tick_s else frame.samples


def to_float(frame: av.AudioFrame, mono: bool) -> np.ndarray:
    """float32 (n,) or (n, channels) of a decoded frame in any sample format."""
    if frame.format.is_planar and frame.layout.nb_channels > PLANES:
        (frame,) = av.AudioResampler(format=frame.format.packed.name).resample(frame)
    sample_format = frame.format.packed.name
    samples = frame.to_ndarray()  # (channels, n) planar, (1, n * channels) packed
    samples = samples.T if frame.format.is_planar else samples.reshape(frame.samples, -1)  # (n, channels)
    samples = samples.astype(np.float64 if sample_format in ("s32", "s64", "dbl") else np.float32)
    if sample_format == "u8":
        samples -= FULL_SCALE["u8"]  # 128 is silence
    samples /= FULL_SCALE[sample_format]
    samples = np.nan_to_num(samples, nan=0, posinf=1, neginf=-1)  # one of them would spread over all that is made of it
    return (samples.mean(axis=1) if mono else samples).astype(np.float32)


def on_timeline(path, blocks: Iterable[Block], start: Fraction) -> Iterator[np.ndarray]:
    """The samples from `start` on without a break: silence put into gaps, what overlaps or comes before it cut.

    Raises MediaError, with the `path`, where the clock goes back for good.
    """
    clock = Clock(path, start)
    reached = 0  # samples since `start`
    for time, rate, samples in blocks:
        time = clock(time, Fraction(len(samples), rate))
        gap = round((time - start) * rate) - reached
        # The beginning is exact to the sample. After it, only a real gap moves the sound: rounded timestamps would
        # tear it at every block.
        if reached > 0 and abs(gap) <= MAX_DRIFT_S * rate:
            gap = 0
        if gap > 0:
            yield np.zeros((gap, *samples.shape[1:]), np.float32)
        samples = samples[max(0, -gap) :]
        reached += max(0, gap) + len(samples)
        yield samples


def resampled(pieces: Iterable[np.ndarray], rate: int, new_rate: int) -> Iterator[np.ndarray]:
    """The pieces of one sound at another sample rate, as if resampled in one go."""
    if rate == new_rate:
        yield from pieces
        return
    stream = None
    for piece in pieces:
        if stream is None:
            channels = 1 if piece.ndim == 1 else piece.shape[1]
            stream = soxr.ResampleStream(rate, new_rate, channels, dtype="float32", quality="HQ")
        yield stream.resample_chunk(piece)
    if stream is not None:
        yield stream.resample_chunk(piece[:0], last=True)
