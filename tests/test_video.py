"""video: any media file read at a constant frame rate with its sound in step, mp4 written whole or not at all.

Test pictures are grey, their brightness tells which one it is; test sound is silence with a click, so that where a
frame or a sound has gone can be read off the result.
"""

import gc
import os
import struct
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from av.stream import Disposition

from errors import UserError
from video import MediaError, VideoWriter, audio_rate, is_image, probe, read_audio, read_frames, read_image

RATE = 16000  # Hz
ODD_NAME = "it's a; \"näme\" 日本 a:b %03d #?.mp4"


def grey(level, height=48, width=64):
    return np.full((height, width, 3), level, np.uint8)


def click(at_s, seconds, rate=RATE):
    """Silence with a 1 ms click in it."""
    wav = np.zeros(round(seconds * rate), np.float32)
    wav[round(at_s * rate) : round((at_s + 0.001) * rate)] = 0.9
    return wav


def click_time(wav, rate=RATE):
    """Seconds at which the click is, by the middle of its energy."""
    energy = np.square(wav.astype(np.float64))
    energy[energy < 0.1 * energy.max()] = 0
    return float((np.arange(len(wav)) * energy).sum() / energy.sum() / rate - 0.0005)


def brightness(frames):
    return [round(float(frame.mean())) for frame in frames]


def mux(path, times=(), sounds=(), video_codec="libx264", audio_codec="aac", format=None, b_frames=None, cover=None):
    """Writes a file with PyAV alone: grey pictures 0, 4, 8 … shown at `times` (seconds), and sounds (start_s, wav)."""
    with av.open(f"file:{path}", "w", format=format) as container:
        streams = []
        if len(times):
            video = container.add_stream(video_codec, rate=25)
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
            video.codec_context.time_base = Fraction(1, 1000) if Path(path).suffix in (".mp4", ".mkv") else Fraction(1, 25)
            if b_frames is not None:
                video.codec_context.max_b_frames = b_frames
            streams.append(video)
        tracks = []
        for _ in sounds:
            track = container.add_stream(audio_codec, rate=RATE if audio_codec in ("aac", "pcm_s16le") else 48000)
            track.layout = "mono"
            tracks.append(track)
        if cover is not None:
            picture = container.add_stream("mjpeg", rate=25)
            picture.width, picture.height, picture.pix_fmt = 64, 48, "yuvj420p"
            picture.disposition = Disposition.attached_pic
            streams.append(picture)
            container.mux(picture.encode(av.VideoFrame.from_ndarray(cover, format="bgr24")))
        for i, time in enumerate(times):
            frame = av.VideoFrame.from_ndarray(grey(4 * i), format="bgr24")
            frame.pts, frame.time_base = round(time * 1000), Fraction(1, 1000)
            container.mux(video.encode(frame))
        for track, (start_s, wav) in zip(tracks, sounds, strict=True):
            wav = np.interp(np.arange(round(len(wav) * track.rate / RATE)) * RATE / track.rate, np.arange(len(wav)), wav)
            pcm = np.round(wav * 32767).astype(np.int16)[None]
            size = track.codec_context.frame_size or 1024
            resampler = av.AudioResampler(format=track.format.name, layout="mono", rate=track.rate)
            for k in range(0, pcm.shape[1], size):
                block = av.AudioFrame.from_ndarray(np.ascontiguousarray(pcm[:, k : k + size]), "s16", "mono")
                block.sample_rate, block.time_base = track.rate, Fraction(1, track.rate)
                block.pts = k + round(start_s * track.rate)
                for converted in resampler.resample(block):
                    container.mux(track.encode(converted))
        for stream in [*streams, *tracks]:
            container.mux(stream.encode())
    return path


def write(path, frames, fps=25, **sound):
    with VideoWriter(path, fps, **sound) as writer:
        for frame in frames:
            writer.write(frame)
    return path


# --- pictures ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "codecs"),
    [
        ("a.mp4", {}),
        ("a.mov", {}),
        ("a.mkv", {}),
        ("a.ts", {}),
        ("a.webm", dict(video_codec="libvpx-vp9", audio_codec="libopus")),
        ("a.avi", dict(video_codec="mpeg4", audio_codec="pcm_s16le")),
        ("a.flv", dict(video_codec="flv")),
        ("a.mpg", dict(video_codec="mpeg1video", audio_codec="mp2", format="mpeg")),
    ],
)
def test_every_container_gives_all_frames_in_order_and_sound_in_step(tmp_path, name, codecs):
    path = mux(tmp_path / name, np.arange(50) / 25, [(0, click(1.0, 2.0))], **codecs)
    levels = brightness(read_frames(path, fps=25))
    assert np.abs(np.array(levels) - 4 * np.arange(50)).max() <= 8  # lossy, but never off by more than two frames
    wav = read_audio(path)
    start_s = 0 if name != "a.flv" else 0.0
    assert abs(click_time(wav) - 1.0 - start_s) < 0.03
    assert abs(len(wav) / RATE - 2) < 0.08  # these codecs pad to whole frames
    assert probe(path).has_audio
