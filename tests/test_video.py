"""video: any media file read at a constant frame rate with its sound in step, mp4 written whole or not at all.

Test pictures are grey, their brightness tells which one it is; test sound is silence with a click, so that where a
frame or a sound has gone can be read off the result.
"""

import gc
import os
import resource
import struct
import tracemalloc
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import PIL.features
import PIL.Image
import pytest
from av.video.reformatter import VideoReformatter
from scipy.io import wavfile

from errors import UserError
from video import MAX_SIDE, MediaError, VideoWriter, audio_rate, is_image, probe, read_audio, read_frames, read_image
from video.colour import mark_bt709, to_yuv420p
from video.media import packets_of

RATE = 16000  # Hz
ATTACHED_PICTURE = 0x400  # FFmpeg's stream disposition of cover art
ODD_NAME = 'it\'s a; "näme" 日本 a:b %03d #?.mp4'


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


def mux(
    path, times=(), sounds=(), video_codec="libx264", audio_codec="aac", format=None, fps=25, b_frames=None, cover=None
):
    """Writes a file with PyAV alone: grey pictures 0, 4, 8 … shown at `times` (seconds), and sounds (start_s, wav)."""
    with av.open(f"file:{path}", "w", format=format) as container:
        streams = []
        if len(times):
            video = container.add_stream(video_codec, rate=fps)
            video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
            video.options = {"qp": "1"} if video_codec == "libx264" else {"b": "4M"}
            video.codec_context.time_base = (
                Fraction(1, 1000) if Path(path).suffix in (".mp4", ".mkv", ".webm") else Fraction(1, 25)
            )
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
            picture.disposition = ATTACHED_PICTURE
            streams.append(picture)
            container.mux(picture.encode(av.VideoFrame.from_ndarray(cover, format="bgr24")))
        for i, time in enumerate(times):
            frame = to_yuv420p(grey(4 * i), VideoReformatter())
            frame.pts, frame.time_base = round(time * 1000), Fraction(1, 1000)
            container.mux(video.encode(frame))
        for track, (start_s, wav) in zip(tracks, sounds, strict=True):
            wav = np.interp(
                np.arange(round(len(wav) * track.rate / RATE)) * RATE / track.rate, np.arange(len(wav)), wav
            )
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


def set_rotation_matrix(path, a, b, c, d):
    """Puts a display matrix into an mp4: the point (x, y) is shown at (a x + c y, b x + d y), moved into view."""
    data = bytearray(path.read_bytes())
    matrix_at = data.index(b"tkhd") + 4 + 40  # ISO/IEC 14496-12, track header box, version 0
    one = 1 << 16
    data[matrix_at : matrix_at + 36] = struct.pack(">9i", a * one, b * one, 0, c * one, d * one, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


def peak_open_files():
    return len(os.listdir("/proc/self/fd"))


# --- pictures ----------------------------------------------------------------------------------------------------

CONTAINERS = {
    "a.mp4": {},
    "a.mov": {},
    "a.mkv": {},
    "a.ts": dict(format="mpegts"),
    "a.webm": dict(video_codec="libvpx-vp9", audio_codec="libopus"),
    "a.flv": dict(video_codec="flv"),
    "a.mpg": dict(video_codec="mpeg1video", audio_codec="mp2", format="mpeg"),
    "a.avi": dict(video_codec="mpeg4", audio_codec="pcm_s16le"),
    "b_frames.avi": dict(video_codec="mpeg4", audio_codec="pcm_s16le", b_frames=2),
    "h264.avi": dict(audio_codec="pcm_s16le", b_frames=2),
}


@pytest.mark.parametrize("name", CONTAINERS)
def test_every_container_gives_all_pictures_in_order_and_the_sound_in_step(tmp_path, name):
    path = mux(tmp_path / name, np.arange(50) / 25, [(0, click(1.0, 2.0))], **CONTAINERS[name])
    levels = brightness(read_frames(path, fps=25))
    assert len(levels) == 50
    assert np.abs(np.array(levels) - 4 * np.arange(50)).max() < 8  # lossy by a few levels; a picture is 4 apart
    wav = read_audio(path)
    assert abs(click_time(wav) - 1.0) < 0.001
    assert abs(len(wav) / RATE - 2) < 0.065  # some codecs pad to whole frames, and these containers do not say so
    info = probe(path)
    assert (info.width, info.height, info.has_audio) == (64, 48, True)
    assert info.fps == pytest.approx(25, abs=0.2) and info.duration_s == pytest.approx(2, abs=0.2)


@pytest.mark.parametrize(("source_fps", "fps"), [(30, 25), (15, 25), (50, 25), (25, 30)])
def test_another_frame_rate_shows_the_picture_nearest_in_time(tmp_path, source_fps, fps):
    path = mux(tmp_path / "a.mp4", np.arange(60) / source_fps, fps=source_fps)
    shown = np.array(brightness(read_frames(path, fps=fps))) / 4
    assert len(shown) == 60 / source_fps * fps
    lateness = np.arange(len(shown)) / fps - shown / source_fps
    slack = 1 / source_fps / 4  # brightness is read to a quarter of a picture
    assert lateness.min() >= -0.5 / fps - slack
    assert lateness.max() <= max(1 / source_fps - 0.5 / fps, 0.5 / fps) + slack


def test_uneven_frame_times_are_kept(tmp_path):
    path = mux(tmp_path / "a.mp4", [0, 0.04, 0.08, 0.4, 0.44, 1.0])
    levels = np.array(brightness(read_frames(path, fps=25)))[:26]
    expected = [0, 4] + [8] * 8 + [12] + [16] * 14 + [20]
    assert np.abs(levels - expected).max() <= 1


def test_default_rate_is_the_average_of_the_file(tmp_path):
    path = mux(tmp_path / "a.mp4", np.arange(30) / 15, fps=15)
    assert probe(path).fps == pytest.approx(15, abs=0.1)
    assert len(list(read_frames(path))) == 30


def test_a_single_picture_is_a_video_of_one_frame(tmp_path):
    assert len(list(read_frames(write(tmp_path / "a.mp4", [grey(7)]), fps=25))) == 1


def test_repeated_frames_share_no_memory(tmp_path):
    first, second, *_ = read_frames(mux(tmp_path / "a.mp4", np.arange(10) / 5), fps=25)
    first[:] = 255
    assert second.mean() < 10


@pytest.mark.parametrize(
    ("matrix", "corner"),
    [
        ((0, 1, -1, 0), (0, -1)),
        ((-1, 0, 0, -1), (-1, -1)),
        ((0, -1, 1, 0), (-1, 0)),
        ((-1, 0, 0, 1), (0, -1)),  # mirrored
        ((1, 0, 0, -1), (-1, 0)),
        ((0, 1, 1, 0), (0, 0)),
        ((0, -1, -1, 0), (-1, -1)),
        ((0, 0, 0, 0), (0, 0)),  # of a broken muxer
    ],
)
def test_rotation_metadata_turns_the_picture_upright(tmp_path, matrix, corner):
    picture = grey(0, 48, 64)
    picture[:16, :16] = 255  # lies where `corner` says once turned
    path = write(tmp_path / "a.mp4", [picture] * 3)
    set_rotation_matrix(path, *matrix)
    frame = next(read_frames(path))
    turned = matrix[1] != 0
    assert frame.shape == ((64, 48, 3) if turned else (48, 64, 3))
    assert frame[corner].mean() > 240 and frame.mean() < 40
    assert frame.flags.c_contiguous
    assert (probe(path).height, probe(path).width) == frame.shape[:2]


def test_a_video_that_names_no_matrix_is_read_as_players_show_it(tmp_path):
    picture = np.full((720, 720, 3), (40, 90, 200), np.uint8)
    named, unnamed = (tmp_path / f"{name}.mp4" for name in ("named", "unnamed"))
    for path in (named, unnamed):
        with av.open(str(path), "w") as container:
            stream = container.add_stream("libx264", rate=25, width=720, height=720, options={"crf": "5"})
            stream.pix_fmt = "yuv420p"
            if path == named:
                mark_bt709(stream.codec_context)
            container.mux(stream.encode(to_yuv420p(picture, VideoReformatter())))
            container.mux(stream.encode())
    assert np.abs(next(read_frames(named)).mean(axis=(0, 1)) - picture[0, 0]).max() < 3
    assert np.abs(next(read_frames(unnamed)).mean(axis=(0, 1)) - picture[0, 0]).max() < 3


@pytest.mark.parametrize(("transfer", "hdr"), [(1, False), (16, True), (18, True)])
def test_a_video_for_brighter_screens_is_known(tmp_path, transfer, hdr):
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=25, width=64, height=48)
        stream.pix_fmt, stream.codec_context.color_trc = "yuv420p", transfer
        container.mux(stream.encode(av.VideoFrame.from_ndarray(grey(9, 48, 64), format="bgr24")))
        container.mux(stream.encode())
    assert probe(tmp_path / "a.mp4").is_hdr == hdr


def test_pixels_that_are_not_square_are_kept_for_players(tmp_path):
    path = tmp_path / "a.mp4"
    with VideoWriter(path, 25, pixel_aspect=Fraction(4, 3)) as writer:
        writer.write(grey(9, 48, 64))
    assert probe(path).pixel_aspect == Fraction(4, 3)
    set_rotation_matrix(path, 0, 1, -1, 0)
    assert probe(path).pixel_aspect == Fraction(3, 4)


def test_a_full_disk_leaves_nothing_behind(tmp_path):
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, unlimited[1]))  # what a full disk does, without filling one
    try:
        with pytest.raises(OSError), VideoWriter(tmp_path / "a.mp4", 25) as writer:
            for seed in range(100):
                writer.write(np.random.default_rng(seed).integers(0, 255, (96, 96, 3), np.uint8))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert not list(tmp_path.iterdir())


def test_a_name_as_long_as_a_disk_takes_is_written(tmp_path):
    assert write(tmp_path / ("x" * 251 + ".mp4"), [grey(7)]).exists()


def test_samples_that_are_no_number_are_silence(tmp_path):
    bad = np.full(1600, 0.1, np.float32)
    bad[800:803] = np.nan, np.inf, -np.inf
    with av.open(str(tmp_path / "a.wav"), "w") as container:
        stream = container.add_stream("pcm_f32le", rate=RATE, layout="mono")
        block = av.AudioFrame.from_ndarray(bad.reshape(1, -1), format="flt", layout="mono")
        block.sample_rate = RATE
        container.mux(stream.encode(block))
        container.mux(stream.encode())
    assert read_audio(tmp_path / "a.wav")[799:804].tolist() == pytest.approx([0.1, 0, 1, -1, 0.1])


def test_colours_survive_writing_and_reading(tmp_path):
    patches = [(40, 90, 200), (200, 40, 40), (30, 200, 60), (255, 255, 255), (0, 0, 0), (128, 128, 128)]
    frame = np.concatenate([np.full((64, 32, 3), bgr, np.uint8) for bgr in patches], axis=1)
    back = next(read_frames(write(tmp_path / "a.mp4", [frame] * 5)))
    for i, bgr in enumerate(patches):
        assert np.abs(back[32, 32 * i + 16].astype(int) - bgr).max() <= 5  # 8-bit Y'CbCr in limited range


def test_a_stream_that_changes_its_size_midway_keeps_the_first(tmp_path):
    path = tmp_path / "joined.ts"
    for i, (height, width) in enumerate([(48, 64), (96, 80), (24, 32)]):
        part = tmp_path / "part.ts"
        with av.open(str(part), "w", format="mpegts") as container:
            video = container.add_stream("libx264", rate=25)
            video.width, video.height, video.pix_fmt = width, height, "yuv420p"
            video.codec_context.max_b_frames = 0  # else each part begins before its first picture, in the one before
            for k in range(10):
                picture = grey(0, height, width)
                picture[: height // 2] = 60 + 60 * i  # the upper half stays the upper half
                frame = to_yuv420p(picture, VideoReformatter())
                frame.pts, frame.time_base = 10 * i + k, Fraction(1, 25)
                container.mux(video.encode(frame))
            container.mux(video.encode())
        with open(path, "ab") as joined:
            joined.write(part.read_bytes())
    frames = list(read_frames(path, fps=25))
    assert (probe(path).width, probe(path).height) == (64, 48)
    assert {frame.shape for frame in frames} == {(48, 64, 3)} and len(frames) == 30
    uppers = [frame[4:20].mean() for frame in frames]
    assert np.abs(uppers - np.repeat([60, 120, 180], 10)).max() < 8  # lossy by a few levels
    assert max(frame[28:44].mean() for frame in frames) < 8


def test_a_bare_stream_without_times_has_its_length_counted(tmp_path):
    with av.open(str(tmp_path / "a.h264"), "w", format="h264") as container:
        stream = container.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for i in range(10):
            container.mux(stream.encode(to_yuv420p(grey(20 * i, 48, 64), VideoReformatter())))
        container.mux(stream.encode())
    assert probe(tmp_path / "a.h264").duration_s == pytest.approx(10 / 25)


def test_cover_art_is_not_video(tmp_path):
    path = mux(tmp_path / "song.m4a", sounds=[(0, click(0.5, 1.0))], format="mp4", cover=grey(99))
    assert abs(click_time(read_audio(path)) - 0.5) < 0.001
    with pytest.raises(MediaError, match="song.m4a: no video stream"):
        probe(path)


def test_video_beside_cover_art_is_read(tmp_path):
    path = mux(tmp_path / "a.mp4", np.arange(10) / 25, cover=grey(255))
    assert np.abs(np.array(brightness(read_frames(path, fps=25))) - 4 * np.arange(10)).max() <= 4


def test_file_is_closed_when_reading_ends_or_is_broken_off(tmp_path):
    path = mux(tmp_path / "a.mp4", np.arange(10) / 25)
    gc.collect()
    before = peak_open_files()
    frames = read_frames(path)
    next(frames)
    assert peak_open_files() > before
    frames.close()
    assert peak_open_files() == before
    list(read_frames(path))
    assert peak_open_files() == before


# --- sound -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".mp4", ".mkv"])
@pytest.mark.parametrize(("picture_start", "sound_start"), [(0, 0.5), (0.3, 0), (0.3, 0.1), (0.2, 0.7)])
def test_sound_is_placed_on_the_timeline_of_the_picture(tmp_path, suffix, picture_start, sound_start):
    path = mux(tmp_path / f"a{suffix}", picture_start + np.arange(50) / 25, [(sound_start, click(0.8, 1.5))])
    wav = read_audio(path)
    ahead = sound_start - picture_start
    assert abs(click_time(wav) - (ahead + 0.8)) < 0.001
    assert abs(len(wav) / RATE - (ahead + 1.5)) < 0.065
    if ahead > 0.1:
        assert np.abs(wav[: int((ahead - 0.01) * RATE)]).max() < 1e-3


@pytest.mark.parametrize(("picture_start", "sound_start"), [(0, 0.5), (0.7, 0), (0.3, 0.1)])
def test_sound_without_the_picture_starts_at_its_own_first_sample(tmp_path, picture_start, sound_start):
    path = mux(tmp_path / "a.mkv", picture_start + np.arange(50) / 25, [(sound_start, click(0.4, 1.5))])
    wav = read_audio(path, with_picture=False)
    assert abs(click_time(wav) - 0.4) < 0.001
    assert abs(len(wav) / RATE - 1.5) < 0.065


@pytest.mark.parametrize("at_s", [0.0, 0.013, 0.5, 0.98])
def test_a_click_written_with_the_pictures_is_read_back_at_its_time(tmp_path, at_s):
    path = write(tmp_path / "a.mp4", [grey(0)] * 25, audio=click(at_s, 1.0))
    assert abs(click_time(read_audio(path)) - at_s) < 0.001


def test_a_pause_in_the_timestamps_becomes_silence(tmp_path):
    pause = [(0, click(0.5, 1.0)), (2.5, click(0.25, 1.0))]
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        track = container.add_stream("pcm_s16le", rate=RATE, layout="mono")
        for start_s, wav in pause:
            block = av.AudioFrame.from_ndarray((wav[None] * 32767).astype(np.int16), "s16", "mono")
            block.sample_rate, block.pts, block.time_base = RATE, round(start_s * RATE), Fraction(1, RATE)
            container.mux(track.encode(block))
    wav = read_audio(tmp_path / "a.mkv")
    assert len(wav) == 3.5 * RATE
    assert abs(click_time(wav[: 2 * RATE]) - 0.5) < 0.001
    assert abs(click_time(wav[2 * RATE :]) - 0.75) < 0.001


def test_the_default_of_several_audio_streams_is_taken(tmp_path):
    path = mux(tmp_path / "a.mp4", np.arange(50) / 25, [(0, click(0.5, 2.0)), (0, click(1.5, 2.0))])
    assert abs(click_time(read_audio(path)) - 0.5) < 0.001
    # The enabled flag of a track header (ISO/IEC 14496-12) is what makes a stream the default one in mp4.
    data = bytearray(path.read_bytes())
    headers = [i for i in range(len(data)) if data[i : i + 4] == b"tkhd"]
    data[headers[1] + 7] &= ~1
    data[headers[2] + 7] |= 1
    path.write_bytes(data)
    assert abs(click_time(read_audio(path)) - 1.5) < 0.001


def test_resampling_in_pieces_keeps_the_exact_length_and_time(tmp_path):
    rate = 44100
    path = write(tmp_path / "a.mp4", [grey(0)] * 50, audio=click(1.5, 2.0, rate), sample_rate=rate)
    wav = read_audio(path)
    assert len(wav) == 2 * RATE
    assert abs(click_time(wav) - 1.5) < 0.001
    assert audio_rate(path) == rate
    assert len(read_audio(path, sample_rate=None)) == 2 * rate


@pytest.mark.parametrize(("sample_rate", "mono"), [(None, False), (16000, True)])
def test_reading_a_sound_takes_the_memory_of_the_sound(tmp_path, sample_rate, mono):
    noise = np.random.default_rng(0).integers(-3000, 3000, (60 * 48000, 2), np.int16)
    wavfile.write(tmp_path / "a.wav", 48000, noise)
    tracemalloc.start()
    sound = read_audio(tmp_path / "a.wav", sample_rate, mono)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert sound.shape == ((60 * 16000,) if mono else noise.shape) and sound.flags.writeable
    assert mono or (sound == noise / np.float32(2**15)).all()
    assert peak < 1.2 * sound.nbytes + 1e6


def test_channels_are_kept_on_request(tmp_path):
    stereo = np.stack([click(0.25, 1.0), click(0.75, 1.0)], axis=1)
    path = write(tmp_path / "a.mp4", [grey(0)] * 25, audio=stereo)
    back = read_audio(path, mono=False)
    assert back.shape == (RATE, 2) and back.dtype == np.float32
    assert abs(click_time(back[:, 0]) - 0.25) < 0.001 and abs(click_time(back[:, 1]) - 0.75) < 0.001
    assert np.abs(read_audio(path) - back.mean(axis=1)).max() < 1e-6


@pytest.mark.parametrize("codec", ["aac", "pcm_s16le", "flac"])
@pytest.mark.parametrize("layout", ["5.0", "7.1"])
def test_all_channels_of_surround_sound_are_read(tmp_path, codec, layout):
    channels = av.AudioLayout(layout).nb_channels
    # Low tones: the channel for the subwoofer holds no others.
    wav = np.stack([0.3 * np.sin(np.arange(RATE) / RATE * 2 * np.pi * (20 + 5 * i)) for i in range(channels)], axis=1)
    with av.open(str(tmp_path / "a.mkv"), "w") as container:
        track = container.add_stream(codec, rate=RATE, layout=layout)
        block = av.AudioFrame.from_ndarray(wav.astype(np.float32).reshape(1, -1), "flt", layout)
        block.sample_rate, block.pts, block.time_base = RATE, 0, Fraction(1, RATE)
        container.mux(track.encode(block))
        container.mux(track.encode())
    back = read_audio(tmp_path / "a.mkv", mono=False)
    assert back.shape[1] == channels
    # AAC rings at the cut ends.
    assert np.abs(back[2048 : RATE - 2048] - wav[2048:-2048]).max() < 0.03
    assert np.abs(read_audio(tmp_path / "a.mkv") - back.mean(axis=1)).max() < 1e-6


@pytest.mark.parametrize("codec", ["pcm_u8", "pcm_s16le", "pcm_s24le", "pcm_s32le", "pcm_f32le", "pcm_f64le"])
def test_every_sample_format_is_scaled_to_one(tmp_path, codec):
    wav = (0.5 * np.sin(np.arange(RATE) / 20)).astype(np.float32)
    with av.open(str(tmp_path / "a.wav"), "w") as container:
        track = container.add_stream(codec, rate=RATE, layout="mono")
        block = av.AudioFrame.from_ndarray(wav[None], "flt", "mono")
        block.sample_rate, block.pts = RATE, 0
        for converted in av.AudioResampler(format=track.format.name, layout="mono", rate=RATE).resample(block):
            container.mux(track.encode(converted))
    step = 2**-7 if codec == "pcm_u8" else 2**-15
    assert np.abs(read_audio(tmp_path / "a.wav") - wav).max() <= step


# --- images ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", [".png", ".bmp", ".tiff", ".jpg", ".webp"])
def test_images_read_as_opencv_reads_them(tmp_path, suffix):
    picture = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 255, (33, 47, 3), np.uint8), (0, 0), 4)
    path = tmp_path / f"a %03d{suffix}"
    cv2.imwrite(str(path), picture)
    is_lossy = suffix in (".jpg", ".webp")
    assert is_image(path) and is_image(path.with_suffix(suffix.upper()))
    # Decoders of lossy formats differ in how they spread colour over pixels.
    assert np.abs(read_image(path).astype(int) - cv2.imread(str(path))).max() <= (6 if is_lossy else 0)


EXIF_CORNERS = {1: (0, 0), 2: (0, -1), 3: (-1, -1), 4: (-1, 0), 5: (0, 0), 6: (0, -1), 7: (-1, -1), 8: (-1, 0)}


@pytest.mark.parametrize("orientation", EXIF_CORNERS)
def test_exif_orientation_turns_and_mirrors_a_photo_upright(tmp_path, orientation):
    picture = grey(0, 48, 64)
    picture[:16, :16] = 255
    jpeg = cv2.imencode(".jpg", picture)[1].tobytes()
    entry = struct.pack(">HHHIHH", 1, 0x0112, 3, 1, orientation, 0) + bytes(4)  # one entry
    exif = b"Exif\0\0MM\0*\0\0\0\x08" + entry
    path = tmp_path / "photo.jpg"
    path.write_bytes(jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:])
    image = read_image(path)
    assert image.shape == ((64, 48, 3) if orientation > 4 else (48, 64, 3))
    assert image[EXIF_CORNERS[orientation]].mean() > 240


@pytest.mark.skipif(not PIL.features.check("avif"), reason="needs a Pillow that writes AVIF")
@pytest.mark.parametrize("orientation", EXIF_CORNERS)
def test_an_avif_photo_is_turned_and_mirrored_upright(tmp_path, orientation):
    picture = grey(0, 48, 64)
    picture[:16, :16] = 255
    exif = PIL.Image.Exif()
    exif[0x0112] = orientation
    PIL.Image.fromarray(picture).save(tmp_path / "photo.avif", exif=exif)
    image = read_image(tmp_path / "photo.avif")
    assert image.shape == ((64, 48, 3) if orientation > 4 else (48, 64, 3))
    assert image[EXIF_CORNERS[orientation]].mean() > 240


@pytest.mark.parametrize(("suffix", "codec"), [(".gif", "gif"), (".avif", "libsvtav1")])
def test_a_file_of_one_picture_is_an_image(tmp_path, suffix, codec):
    pictures = [grey(level, 48, 64) for level in (60, 60, 200)]
    for name, frames in (("still", pictures[:1]), ("moving", pictures)):
        with av.open(str(tmp_path / (name + suffix)), "w") as container:
            stream = container.add_stream(codec, rate=5, width=64, height=48)
            stream.pix_fmt = "rgb8" if suffix == ".gif" else "yuv420p"
            for frame in frames:
                container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="bgr24")))
            container.mux(stream.encode())
    still = tmp_path / f"still{suffix}"
    assert is_image(still)
    assert abs(read_image(still).mean() - 60) < 10
    assert suffix != ".gif" or not is_image(tmp_path / "moving.gif")


def test_a_video_is_no_image():
    assert not is_image("clip.mp4")


# --- bad inputs --------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def video_bytes(tmp_path_factory):
    """An mp4 of 50 noisy pictures and two seconds of sound, its index at the front."""
    noise = np.random.default_rng(0).integers(0, 255, (50, 96, 96, 3), np.uint8)
    tone = (0.5 * np.sin(np.arange(2 * RATE) / 10)).astype(np.float32)
    return write(tmp_path_factory.mktemp("video") / "a.mp4", noise, audio=tone).read_bytes()


def read_all(path):
    return [probe(path), list(read_frames(path)), read_audio(path)]


@pytest.mark.parametrize("read", [probe, lambda path: list(read_frames(path)), read_audio, read_image, audio_rate])
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (None, "no such file"),
        (b"", "the file is empty"),
        (b"these are words, not pictures\n" * 100, "not a media file"),
        ("headless", "not a media file, or cut off"),
        ("folder", "not a file"),
    ],
)
def test_unreadable_files_are_refused_in_one_line_with_their_name(tmp_path, video_bytes, read, content, reason):
    path = tmp_path / "talk.mp4"
    if content == "folder":
        path.mkdir()
    elif content == "headless":
        path.write_bytes(video_bytes.replace(b"moov", b"none"))
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(MediaError, match=f"talk.mp4: {reason}") as refusal:
        read(path)
    assert "\n" not in str(refusal.value)


def test_of_a_file_cut_off_the_beginning_is_read(tmp_path, video_bytes):
    path = tmp_path / "cut.mp4"
    path.write_bytes(video_bytes[: len(video_bytes) // 2])
    frames, wav = list(read_frames(path, fps=25)), read_audio(path)
    assert 10 < len(frames) < 50
    assert 0.4 < len(wav) / RATE < 2


def test_a_file_cut_off_before_its_first_picture_is_refused(tmp_path, video_bytes):
    path = tmp_path / "cut.mp4"
    path.write_bytes(video_bytes[: video_bytes.index(b"mdat") + 8])
    for read in (probe, lambda path: list(read_frames(path))):
        with pytest.raises(MediaError, match="cut.mp4: no picture"):
            read(path)
    with pytest.raises(MediaError, match="cut.mp4: its sound is empty or damaged"):
        read_audio(path)


@pytest.mark.parametrize("seed", range(8))
def test_damaged_files_are_read_or_refused_but_never_hang_or_crash(tmp_path, video_bytes, seed):
    rng = np.random.default_rng(seed)
    data = bytearray(video_bytes)
    for i in rng.integers(0, len(data), 60):
        data[i] = rng.integers(256)
    path = tmp_path / "damaged.mp4"
    path.write_bytes(data)
    for read in (probe, lambda path: sum(1 for _ in read_frames(path, fps=25)), read_audio):
        try:
            read(path)
        except MediaError as refusal:
            assert "damaged.mp4" in str(refusal)


def test_one_damaged_timestamp_does_not_ask_for_days_of_silence_or_pictures(tmp_path):
    path = tmp_path / "a.flv"
    mux(path, np.arange(50) / 25, [(0, click(1.5, 2.0))], video_codec="flv")
    data, at = bytearray(path.read_bytes()), 13  # FLV: a 9 byte header, then tags with the size of the last before each
    tags = {8: [], 9: []}
    while at < len(data):
        tags[data[at]].append(at) if data[at] in tags else None
        at += 11 + int.from_bytes(data[at + 1 : at + 4], "big") + 4
    for positions in tags.values():
        data[positions[20] + 7] = 5  # the top byte of its time in ms: 23 hours later
    path.write_bytes(data)
    assert abs(len(list(read_frames(path, fps=25))) - 50) <= 1
    wav = read_audio(path)
    assert abs(len(wav) / RATE - 2) < 0.1 and abs(click_time(wav) - 1.5) < 0.07


def test_a_browser_recording_has_the_rate_of_its_pictures_not_of_its_clock(tmp_path):
    path, times = tmp_path / "a.webm", np.cumsum(np.tile([0.025, 0.044, 0.033], 20))
    mux(path, times, [(0, click(0.5, 2.0))], video_codec="vp8", audio_codec="libopus")
    data = path.read_bytes()
    at = data.index(b"\x23\xe3\x83\x84")  # the frame rate a browser does not write, as it does not know it
    path.write_bytes(data[:at] + b"\xec\x86" + bytes(6) + data[at + 8 :])
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate is None
    assert probe(path).fps == pytest.approx(60 / (times[-1] - times[0]), rel=0.05)
    assert abs(len(list(read_frames(path))) - 60) <= 2
    assert abs(len(list(read_frames(path, fps=25))) - 25 * times[-1]) <= 2


def test_sound_that_starts_seconds_before_the_picture_is_no_clock_set_back(tmp_path):
    path = tmp_path / "a.mkv"
    mux(path, 3 + np.arange(50) / 25, [(0, click(4.0, 5.0))])
    assert abs(click_time(read_audio(path)) - 1.0) < 0.01


def test_files_joined_end_to_end_are_refused_not_read_in_part(tmp_path):
    path = tmp_path / "a.ts"
    mux(path, np.arange(63) / 25, [(0, click(1.5, 2.52))])
    assert len(list(read_frames(path))) == 63
    path.write_bytes(path.read_bytes() * 2)
    for read in (lambda: list(read_frames(path)), lambda: read_audio(path)):
        with pytest.raises(MediaError, match="a.ts: its clock is set back on the way.*encode it again"):
            read()


def test_video_without_sound_says_so(tmp_path):
    path = write(tmp_path / "mute.mp4", [grey(0)] * 5)
    assert not probe(path).has_audio
    with pytest.raises(MediaError, match="mute.mp4: no audio stream"):
        read_audio(path)


def test_sound_without_picture_says_so(tmp_path):
    path = mux(tmp_path / "voice.m4a", sounds=[(0, click(0.5, 1.0))], format="mp4")
    for read in (probe, lambda path: next(read_frames(path))):
        with pytest.raises(MediaError, match="voice.m4a: no video stream"):
            read(path)


def test_any_character_in_a_name_is_only_a_name(tmp_path):
    path = write(tmp_path / ODD_NAME, [grey(80)] * 25, audio=click(0.5, 1.0))
    assert sorted(tmp_path.iterdir()) == [path]
    assert brightness(read_frames(path)) == [80] * 25
    assert abs(click_time(read_audio(path)) - 0.5) < 0.001
    assert probe(path).path == path


# --- writing -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("rate", "samples"), [(16000, 16000), (16000, 12345), (44100, 50001), (48000, 100)])
def test_the_sound_of_a_written_file_has_exactly_its_samples(tmp_path, rate, samples):
    wav = 0.3 * np.sin(2 * np.pi * 440 * np.arange(samples) / rate)
    wav = (wav * np.hanning(samples)).astype(np.float32)  # faded in and out: at cut ends AAC rings
    frames = int(np.ceil(samples / rate * 25))
    path = write(tmp_path / "a.mp4", [grey(0)] * frames, audio=wav, sample_rate=rate)
    back = read_audio(path, sample_rate=None)
    assert len(back) == samples
    assert np.abs(back - wav).max() < 0.003
    assert len(list(read_frames(path))) == frames
    with av.open(str(path)) as container:
        assert container.duration / av.time_base == pytest.approx(max(frames / 25, samples / rate), abs=1e-3)
        sound = container.streams.audio[0]
        assert sound.duration * sound.time_base == Fraction(samples, rate)


@pytest.mark.parametrize(("rate", "written_rate"), [(192000, 96000), (37800, 44100), (6000, 7350), (96000, 96000)])
def test_a_rate_that_aac_has_not_becomes_the_next_higher_or_the_highest(tmp_path, rate, written_rate):
    tones = np.sin(2 * np.pi * np.array([[440], [700]]) * np.arange(rate) / rate).T  # (n, 2)
    wav = (0.3 * tones * np.hanning(rate)[:, None]).astype(np.float32)
    path = write(tmp_path / "a.mp4", [grey(0)] * 25, audio=wav, sample_rate=rate)
    assert audio_rate(path) == written_rate
    back = read_audio(path, sample_rate=None, mono=False)
    assert back.shape == (written_rate, 2)
    seconds = np.arange(written_rate)[:, None] / written_rate
    expected = 0.3 * np.sin(2 * np.pi * np.array([440, 700]) * seconds) * np.hanning(written_rate)[:, None]
    assert np.abs(back - expected).max() < 0.01


@pytest.mark.parametrize("channels", range(1, 13))
def test_up_to_8_channels_are_kept_and_more_are_mixed(tmp_path, channels):
    # Low tones: the channel for the subwoofer holds no others.
    wav = np.stack([np.sin(np.arange(RATE) / RATE * 2 * np.pi * (20 + 5 * i)) for i in range(channels)], axis=1)
    wav = (0.3 * wav * np.hanning(RATE)[:, None]).astype(np.float32)
    back = read_audio(write(tmp_path / "a.mp4", [grey(0)] * 25, audio=wav), mono=False)
    expected = wav if channels <= 8 else wav.mean(axis=1, keepdims=True)
    assert back.shape == expected.shape
    if channels == 7:  # in which order they come is up to FFmpeg
        back = back[:, np.argmax(back.T @ expected, axis=0)]
    assert np.abs(back - expected).max() < 0.02


def test_sound_longer_or_shorter_than_the_pictures_is_kept_whole(tmp_path):
    for frames in (5, 100):
        path = write(tmp_path / f"{frames}.mp4", [grey(0)] * frames, audio=click(1.5, 2.0))
        assert len(read_audio(path)) == 2 * RATE
        assert len(list(read_frames(path))) == frames


def test_written_files_are_h264_and_aac_with_the_index_in_front(tmp_path):
    path = write(tmp_path / "a.mp4", [grey(0)] * 5, audio=click(0.1, 0.2))
    data = path.read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(path)) as container:
        assert container.streams.video[0].codec_context.name == "h264"
        assert container.streams.video[0].codec_context.pix_fmt == "yuv420p"
        assert container.streams.audio[0].codec_context.name == "aac"


def test_sound_and_picture_lie_interleaved_in_the_file(tmp_path):
    path = write(tmp_path / "a.mp4", [grey(i) for i in range(250)], audio=click(5, 10))
    with av.open(str(path)) as container:
        ends = {"video": 0.0, "audio": 0.0}
        for packet in container.demux():
            if packet.dts is not None:
                ends[packet.stream.type] = float(packet.dts * packet.time_base)
                assert abs(ends["video"] - ends["audio"]) < 1.1  # PyAV's muxer reads in file order


@pytest.mark.parametrize("size", [(48, 64), (47, 63), (1, 1)])
def test_odd_sizes_are_rounded_up_by_repeating_the_edge(tmp_path, size):
    frame = next(read_frames(write(tmp_path / "a.mp4", [grey(120, *size)] * 3)))
    assert frame.shape == (size[0] + size[0] % 2, size[1] + size[1] % 2, 3)
    assert np.abs(frame.astype(int) - 120).max() <= 2


@pytest.mark.parametrize("fps", [25, 30000 / 1001, 29.97, 15, 23.976, 59.94, 12.5])
def test_any_frame_rate_is_written(tmp_path, fps):
    path = write(tmp_path / "a.mp4", [grey(i) for i in range(60)], fps=fps)
    assert probe(path).fps == pytest.approx(fps, rel=1e-4)
    assert probe(path).duration_s == pytest.approx(60 / fps, rel=1e-3)
    assert len(list(read_frames(path))) == 60


def test_an_exception_leaves_no_file_and_keeps_the_old_one(tmp_path):
    path = tmp_path / "a.mp4"
    path.write_bytes(b"the result of yesterday")
    with pytest.raises(ZeroDivisionError), VideoWriter(path, 25, audio=click(0.1, 1.0)) as writer:
        writer.write(grey(0))
        raise ZeroDivisionError
    assert path.read_bytes() == b"the result of yesterday"
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_appears_only_when_complete(tmp_path):
    with VideoWriter(tmp_path / "a.mp4", 25) as writer:
        writer.write(grey(0))
        assert not (tmp_path / "a.mp4").exists()
    assert (tmp_path / "a.mp4").exists()


def test_a_video_without_frames_is_refused(tmp_path):
    with pytest.raises(MediaError, match="a.mp4: not written, there are no frames"):
        write(tmp_path / "a.mp4", [])
    assert not list(tmp_path.iterdir())


def test_a_frame_of_another_size_is_refused(tmp_path):
    with pytest.raises(ValueError, match="frame 1 has shape"):
        write(tmp_path / "a.mp4", [grey(0), grey(0, 10, 10)])
    assert not list(tmp_path.iterdir())


def test_a_side_longer_than_h264_takes_is_refused_in_one_line(tmp_path):
    write(tmp_path / "a.mp4", [grey(0, 16, MAX_SIDE)])
    (tmp_path / "a.mp4").unlink()
    with pytest.raises(UserError, match=f"a.mp4: frames of 16386x16 px cannot be encoded .*at most {MAX_SIDE} px"):
        write(tmp_path / "a.mp4", [grey(0, 16, MAX_SIDE + 2)], audio=click(0.1, 0.2))
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("missing/a.mp4", "there is no folder"),
        ("file/a.mp4", "there is no folder"),
        ("folder.mp4", "is a folder"),
        ("n" * 300 + ".mp4", "cannot be written"),
        ("a.avi", "only .mp4 files"),
    ],
)
def test_paths_that_cannot_be_written_are_refused_before_the_first_frame(tmp_path, name, reason):
    (tmp_path / "file").write_text("")
    (tmp_path / "folder.mp4").mkdir()
    with pytest.raises(UserError, match=reason) as refusal, VideoWriter(tmp_path / name, 25):
        pytest.fail("was accepted")
    assert Path(name).name in str(refusal.value)


# --- real clips --------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif("LIPSYNC_CLIPS" not in os.environ, reason="LIPSYNC_CLIPS names no folder of <identity>/<clip>")
def test_every_real_clip_gives_pictures_and_sound_of_about_the_same_length():
    paths = sorted(path for path in Path(os.environ["LIPSYNC_CLIPS"]).glob("*/*") if path.is_file())
    assert paths
    for path in paths:
        info = probe(path)
        frames = sum(1 for _ in read_frames(path, fps=25))
        assert frames > 0, path
        if info.has_audio:
            assert abs(len(read_audio(path)) / RATE - frames / 25) < 0.5, path


def test_a_title_in_another_encoding_is_no_reason_to_refuse_a_file(tmp_path):
    path = tmp_path / "a.mkv"
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "Café"
        stream = container.add_stream("mpeg4", rate=25)
        stream.width = stream.height = 64
        for packet in (*stream.encode(av.VideoFrame.from_ndarray(grey(9), "bgr24")), *stream.encode(None)):
            container.mux(packet)
    data = path.read_bytes()
    assert "Café".encode() in data
    path.write_bytes(data.replace("Café".encode(), "Café!".encode("latin-1")))
    assert len(list(read_frames(path))) == 1


def test_the_tick_of_a_clock_is_not_taken_for_the_frame_rate(tmp_path):
    path = tmp_path / "browser.mkv"
    mux(path, times=[i / 25 for i in range(50)], fps=1000)
    with av.open(str(path)) as container:
        assert container.streams.video[0].average_rate == 1000
    assert probe(path).fps == pytest.approx(25, rel=0.03)
    assert len(list(read_frames(path))) == pytest.approx(50, abs=2)


def test_pictures_that_would_stand_for_minutes_are_refused(tmp_path):
    path = tmp_path / "slides.mkv"
    mux(path, times=[0, 60, 120, 180], fps=Fraction(1, 60))
    for read in (probe, lambda path: next(read_frames(path, 25))):
        with pytest.raises(
            MediaError, match=f"^{path}: shows each picture for 60 s: if it is no slide show, its header"
        ):
            read(path)
    mux(path.with_suffix(".mp4"), times=[0, 60], sounds=[(0, click(1, 2))], fps=Fraction(1, 60))
    assert click_time(read_audio(path.with_suffix(".mp4"))) == pytest.approx(1, abs=0.1)  # which may be all that counts


def test_a_packet_whose_size_is_damaged_is_where_the_file_breaks_off():
    class Container:
        def demux(self, stream):
            yield "packet"
            raise av.MemoryError(12, "Cannot allocate memory")

    assert list(packets_of(Container(), None)) == ["packet"]
