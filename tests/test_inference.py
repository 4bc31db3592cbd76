"""inference.py: the face of any video or image says any speech, for exactly as long as the speech lasts.

Networks stand in for trained ones: a tiny generator with random weights, or one that paints what it was given. Videos
are made up, or of the astronaut of scikit-image, whose face dlib finds.
"""

import dataclasses
import tracemalloc
from fractions import Fraction

import av
import cv2
import numpy as np
import pytest
import torch
from scipy.io import wavfile
from skimage import data
from torch import nn

import inference
from audio import melspectrogram
from errors import UserError
from faces import Detections, Detector
from hparams import HParams
from inference import LipSyncer
from models import Generator, export_official
from models.inputs import lower_half
from synthesis import FaceSource, lip_syncer
from synthesis.face_source import edited
from synthesis.lip_syncer import BATCH_BYTES, faces_at_once, frames_at_once
from video import VideoWriter, audio_rate, probe, read_audio, read_frames

DLIB = HParams(face_detector="dlib")
BOX = (60, 180, 170, 280)  # top, bottom, left, right of the astronaut's face, px
SMALL_BOX = (10, 42, 20, 52)  # somewhere in the frames of `levels_video`


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("inference")


@pytest.fixture(scope="module")
def checkpoint(folder):
    torch.manual_seed(0)
    path = folder / "generator.pth"
    networks = {"generator": Generator(96, width=0.0625).state_dict()}
    hp = HParams(width=0.0625, fmin=50.0)
    torch.save({"kind": "generator", "step": 1, "hparams": dataclasses.asdict(hp), "networks": networks}, path)
    return path


@pytest.fixture(scope="module")
def syncer(checkpoint):
    return LipSyncer(checkpoint, DLIB, "cpu")


@pytest.fixture(scope="module")
def astronaut():
    return data.astronaut()[:, :, ::-1].copy()  # (512, 512, 3) BGR


@pytest.fixture(scope="module")
def portrait(folder, astronaut):
    path = folder / "portrait.png"
    cv2.imwrite(str(path), astronaut)
    return path


def write_speech(path, seconds, rate=16000):
    """Noise that comes and goes."""
    n = round(seconds * rate)
    noise = np.random.default_rng(0).standard_normal(n) * np.sin(np.arange(n) / rate * 20)
    wavfile.write(path, rate, (0.1 * noise).astype(np.float32))
    return path


def write_video(path, frames, fps=25):
    with VideoWriter(path, fps) as writer:
        for frame in frames:
            writer.write(frame)
    return path


def levels_video(path, levels, fps=25):
    """64x80 frames that are grey all over: their level tells which frame it is."""
    return write_video(path, (np.full((64, 80, 3), level, np.uint8) for level in levels), fps)


def levels_of(path):
    """The grey level of a corner of each frame, far from any box."""
    return [frame[-8:, -8:].mean() for frame in read_frames(path)]


def never_finds(frames):
    return [Detections(np.zeros((0, 4)), np.zeros(0))] * len(frames)


class Counting:
    """Finds the same box everywhere, and counts the frames it was shown."""

    def __init__(self):
        self.seen = 0

    def __call__(self, frames):
        self.seen += len(frames)
        return [Detections(np.array([[20.0, 10, 52, 42]]), np.ones(1))] * len(frames)


# --- length and sound -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "seconds, fps, frames", [(1.0, 25, 25), (1.03, 25, 26), (1.0, 30000 / 1001, 30), (0.1, 25, 2), (0.004, 25, 1)]
)
def test_the_video_has_as_many_frames_as_the_speech_lasts_however_short_it_is(
    syncer, folder, portrait, seconds, fps, frames
):
    speech, out = write_speech(folder / "length.wav", seconds), folder / "length.mp4"
    summary = syncer.sync(portrait, speech, out, box=BOX, fps=fps)
    assert len(list(read_frames(out))) == summary.frames == frames
    assert probe(out).fps == pytest.approx(fps) == summary.fps
    assert len(read_audio(out, 16000)) == round(seconds * 16000)
    assert summary.duration_s == pytest.approx(seconds, abs=1e-4)


def test_the_sound_is_that_of_the_speech_at_its_own_rate_and_channels(syncer, folder, portrait):
    seconds = np.arange(44100) / 44100
    left, right = 0.3 * np.sin(2 * np.pi * 440 * seconds), 0.3 * np.sin(2 * np.pi * 1000 * seconds)
    speech = np.stack([left, right], axis=1).astype(np.float32)
    wavfile.write(folder / "stereo.wav", 44100, speech)
    out = folder / "stereo.mp4"
    syncer.sync(portrait, folder / "stereo.wav", out, box=BOX)
    written = read_audio(out, sample_rate=None, mono=False)
    assert audio_rate(out) == 44100 and written.shape == speech.shape
    # AAC changes a steady tone by little, and a shift by one frame of 25 fps would be 17.6 periods of the left one.
    assert np.abs(written - speech)[2048:-2048].mean() < 0.01


@pytest.mark.parametrize(
    "rate, channels, written_rate, written_channels",
    [(192000, 1, 96000, 1), (37800, 2, 44100, 2), (6000, 1, 7350, 1), (16000, 8, 16000, 8), (48000, 12, 48000, 1)],
)
def test_speech_that_an_mp4_cannot_hold_as_it_is_is_converted(
    checkpoint, folder, portrait, rate, channels, written_rate, written_channels
):
    seconds = np.arange(rate // 2) / rate
    tone = np.tile(0.3 * np.sin(2 * np.pi * 60 * seconds)[:, None], channels).astype(np.float32)
    wavfile.write(folder / "odd.wav", rate, tone)
    out = folder / "odd.mp4"
    flags = f"--checkpoint_path {checkpoint} --face {portrait} --audio {folder / 'odd.wav'} --outfile {out}"
    inference.main(f"{flags} --device cpu --box".split() + [str(side) for side in BOX])
    written = read_audio(out, sample_rate=None, mono=False)
    assert audio_rate(out) == written_rate and written.shape == (written_rate // 2, written_channels)
    expected = 0.3 * np.sin(2 * np.pi * 60 * np.arange(written_rate // 2) / written_rate)[:, None]
    # AAC changes a steady tone by little, most in the subwoofer's channel; silence would be 0.19 away.
    assert np.abs(written - expected)[2048:-1024].mean() < 0.02


def test_a_face_video_that_changes_its_size_keeps_the_first(syncer, folder):
    face = folder / "joined.ts"
    for i, size in enumerate([(64, 80), (96, 48)]):
        with av.open(str(folder / "part.ts"), "w", format="mpegts") as container:
            video = container.add_stream("libx264", rate=25)
            (video.height, video.width), video.pix_fmt = size, "yuv420p"
            video.codec_context.max_b_frames = 0  # else each part begins before its first picture, in the one before
            for k in range(5):
                frame = av.VideoFrame.from_ndarray(np.full((*size, 3), 60 + 60 * i, np.uint8), format="bgr24")
                frame.pts, frame.time_base = 5 * i + k, Fraction(1, 25)
                container.mux(video.encode(frame))
            container.mux(video.encode())
        with open(face, "ab") as joined:
            joined.write((folder / "part.ts").read_bytes())
    out = folder / "joined_out.mp4"
    syncer.sync(face, write_speech(folder / "speech.wav", 0.4), out, box=SMALL_BOX)
    assert (probe(out).width, probe(out).height) == (80, 64)
    assert levels_of(out) == pytest.approx([60] * 5 + [120] * 5, abs=8)


def test_the_speech_may_be_a_video(syncer, folder, portrait):
    talk, out = folder / "talk.mp4", folder / "from_video.mp4"
    tone = np.sin(np.arange(16000) / 10).astype(np.float32)
    with VideoWriter(talk, 25, tone, 16000) as writer:
        for _ in range(25):
            writer.write(np.zeros((32, 32, 3), np.uint8))
    syncer.sync(portrait, talk, out, box=BOX)
    assert len(list(read_frames(out))) == 25 and len(read_audio(out, 16000)) == 16000


def late_picture_video(path, late_s, seconds):
    """Grey frames from `late_s` on, noise from the beginning on."""
    sound = np.random.default_rng(0).integers(-3000, 3000, (1, round(seconds * 16000)), np.int16)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=25, width=80, height=64)
        track = container.add_stream("pcm_s16le", rate=16000, layout="mono")
        for i in range(round((seconds - late_s) * 25)):
            frame = av.VideoFrame.from_ndarray(np.full((64, 80, 3), 90, np.uint8), format="bgr24")
            frame.pts, frame.time_base = round(late_s * 25) + i, Fraction(1, 25)
            container.mux(video.encode(frame))
        block = av.AudioFrame.from_ndarray(sound, "s16", "mono")
        block.sample_rate, block.pts, block.time_base = 16000, 0, Fraction(1, 16000)
        for stream, last in ((video, None), (track, block)):
            container.mux(stream.encode(last))
    return path


def test_speech_from_before_the_picture_of_its_file_is_spoken_too_unless_that_is_the_face(syncer, folder, portrait):
    talk, out = late_picture_video(folder / "late.mkv", 0.4, 1.0), folder / "late.mp4"
    assert syncer.sync(portrait, talk, out, box=BOX).frames == 25
    assert len(read_audio(out)) == 16000
    (folder / "linked.mkv").symlink_to(talk)
    assert syncer.sync(folder / "linked.mkv", talk, out, box=SMALL_BOX).frames == 15
    assert len(read_audio(out)) == pytest.approx(0.6 * 16000, abs=16)


# --- which speech a frame gets ----------------------------------------------------------------------------------------


class PaintsTheClick(nn.Module):
    """Paints the whole face grey: at which of the 16 columns a click is; black where none is as loud as `loud`."""

    img_size, takes_a_still = 96, False

    def __init__(self, loud):
        super().__init__()
        self.loud = loud

    def forward(self, mel, faces):
        loudness = mel.mean(dim=(0, 2, 3))  # (T, 16)
        level = torch.where(loudness.amax(1) > self.loud, 0.1 + loudness.argmax(1) / 20, 0)
        return level[None, None, :, None, None].expand_as(faces[:, :3])


@pytest.mark.parametrize("fps, start", [(25, lambda i: (16 * i - 16) // 5), (30, lambda i: (40 * i - 48) // 15)])
def test_a_frame_gets_the_16_columns_that_training_gave_it_one_training_frame_early(
    checkpoint, folder, portrait, fps, start
):
    clicks = [0, 80, 150]  # columns of 200 samples
    wav = np.zeros(2 * 16000, np.float32)
    wav[[200 * click for click in clicks]] = 0.9
    syncer = LipSyncer(checkpoint, DLIB, "cpu")
    # One column beside a click its window halves it, which is 0.48 on the scale of the mel.
    syncer.generator = PaintsTheClick(loud=melspectrogram(wav)[:, 80].mean() - 0.2)
    wavfile.write(folder / "clicks.wav", 16000, wav)
    out = folder / f"clicks{fps}.mp4"
    syncer.sync(portrait, folder / "clicks.wav", out, box=BOX, fps=fps)

    top, bottom, left, right = BOX
    frames = list(read_frames(out))
    assert len(frames) == 2 * fps
    for i, frame in enumerate(frames):
        painted = frame[top + 8 : bottom - 8, left + 8 : right - 8].mean() / 255
        heard = [click - start(i) for click in clicks if 0 <= click - start(i) < 16]
        # Half a column is 0.025.
        assert painted == pytest.approx(0.1 + heard[0] / 20 if heard else 0, abs=0.02), i
    assert start(0) == -4  # so the click at the very start is the fifth column of frame 0


def test_the_mel_is_the_one_the_generator_was_trained_with(checkpoint):
    syncer = LipSyncer(checkpoint, HParams(fmin=70.0, wav2lip_batch_size=3), "cpu")
    assert syncer.trained_with.fmin == 50
    assert syncer.hp.wav2lip_batch_size == 3


def test_official_generators_hear_the_official_mel_whatever_the_hparams(tmp_path):
    export_official(Generator(96, 0.0625), tmp_path / "official.pth")
    syncer = LipSyncer(tmp_path / "official.pth", HParams(fmin=70.0, hop_size=190), "cpu")
    assert (syncer.trained_with.fmin, syncer.trained_with.hop_size) == (55, 200)


# --- what is drawn ----------------------------------------------------------------------------------------------------


def test_the_generator_sees_the_frame_with_its_lower_half_masked_and_the_same_frame_whole(syncer):
    rng = np.random.default_rng(0)
    faces = rng.integers(0, 256, (3, 96, 96, 3), np.uint8)
    mels = rng.uniform(-4, 4, (3, 80, 16)).astype(np.float32)
    spoken = syncer.generate(mels, faces)
    assert spoken.shape == faces.shape and spoken.dtype == np.uint8
    for i in range(3):
        whole = torch.from_numpy(faces[i]).permute(2, 0, 1)[None] / 255
        masked = whole.clone()
        lower_half(masked).zero_()
        alone = syncer.generator(torch.from_numpy(mels[i])[None, None], torch.cat([masked, whole], dim=1))[0]
        # Rounded to 8 bits, and convolved in another order.
        assert np.abs(spoken[i] / 255 - alone.permute(1, 2, 0).numpy()).max() < 0.51 / 255 + 1e-4


class Repeats(nn.Module):
    """Gives back some of its six input channels as the face."""

    img_size, takes_a_still = 96, False

    def __init__(self, channels):
        super().__init__()
        self.channels = channels

    def forward(self, mel, faces):
        return faces[:, self.channels]


def test_a_face_comes_back_to_where_it_was_cut_out(checkpoint, astronaut):
    syncer = LipSyncer(checkpoint, dataclasses.replace(DLIB, blend=0), "cpu")
    boxes, mels = np.array([[180, 70, 276, 166]], np.float32), [np.zeros((80, 16), np.float32)]  # 96 px: not resized
    syncer.generator = Repeats(slice(3, 6))
    (as_it_was,) = syncer.speak(mels, [astronaut], boxes)
    assert (as_it_was == astronaut).all()
    syncer.generator = Repeats(slice(0, 3))
    (masked,) = syncer.speak(mels, [astronaut], boxes)
    expected = astronaut.copy()
    expected[70 + 48 : 166, 180:276] = 0
    assert (masked == expected).all()


def test_only_the_box_is_drawn_on(syncer, astronaut):
    top, bottom, left, right = BOX
    boxes = np.array([[left, top, right, bottom], [np.nan] * 4, [left, top, right, bottom]], np.float32)
    frames = [astronaut, astronaut, astronaut[:, ::-1]]
    spoken = list(syncer.speak([np.zeros((80, 16), np.float32)] * 3, frames, boxes))
    for frame, result, box in zip(frames, spoken, boxes, strict=True):
        changed = (frame != result).any(axis=2)
        inside = np.zeros_like(changed)
        if not np.isnan(box).any():
            inside[top:bottom, left:right] = True
            assert changed[inside].mean() > 0.9
        assert not changed[~inside].any()


def test_around_a_detected_face_the_picture_stays_as_it_was_but_for_the_codec(syncer, folder, portrait, astronaut):
    out = folder / "portrait.mp4"
    summary = syncer.sync(portrait, write_speech(folder / "short.wav", 0.2), out, pads=(0, 0, 0, 0))
    assert (summary.frames, summary.frames_without_face) == (5, 0)
    (x1, y1, x2, y2), *_ = syncer.detector.detect(astronaut[None])[0].boxes.astype(int)
    for frame in read_frames(out):
        error = np.abs(frame.astype(float) - astronaut).mean(axis=2)
        assert error[y1 + 8 : y2 - 8, x1 + 8 : x2 - 8].mean() > 20
        error[y1 - 8 : y2 + 8, x1 - 8 : x2 + 8] = 0
        assert error.mean() < 4  # most of it is the halved resolution of colour


def test_frames_without_a_face_keep_their_picture_and_are_counted(checkpoint, folder, astronaut):
    syncer = LipSyncer(checkpoint, dataclasses.replace(DLIB, detect_every=1, max_gap_frames=5), "cpu")
    head = astronaut[:256, 96:352]
    blank = np.full_like(head, 90)
    face = write_video(folder / "turns_away.mp4", [head] * 4 + [blank] * 6 + [head] * 4)
    out = folder / "kept.mp4"
    # Longer than the video, which starts again: 4 + 6 + 4, 4 + 2.
    summary = syncer.sync(face, write_speech(folder / "speech.wav", 0.8), out)
    assert (summary.frames, summary.frames_without_face) == (20, 8)
    for i, frame in enumerate(read_frames(out)):
        is_blank = 4 <= i % 14 < 10
        error = np.abs(frame - (blank if is_blank else head).astype(float))[70:170, 80:180].mean()
        assert error < 4 if is_blank else error > 20


def test_between_the_frames_that_are_searched_boxes_are_interpolated(checkpoint, folder):
    find = Counting()
    syncer = LipSyncer(checkpoint, HParams(detect_every=5), "cpu")
    syncer.detector = Detector(find)
    face, speech = levels_video(folder / "twelve.mp4", [90] * 12), write_speech(folder / "speech.wav", 0.48)
    summary = syncer.sync(face, speech, folder / "twelve_out.mp4")
    assert find.seen == 4  # frames 0, 5, 10 and the last
    assert (summary.frames, summary.frames_without_face) == (12, 0)


def test_around_a_cut_no_frame_keeps_its_mouth(checkpoint, folder):
    def find(frames):
        first, second = (Detections(np.array([[x, 10.0, x + 20, 30]]), np.ones(1)) for x in (5, 50))
        (nobody,) = never_finds(frames[:1])
        return [nobody if level < 30 else first if level < 100 else second for level in frames.mean(axis=(1, 2, 3))]

    syncer = LipSyncer(checkpoint, HParams(detect_every=5), "cpu")
    syncer.detector = Detector(find)
    face = levels_video(folder / "cut_in_two.mp4", [60] * 12 + [150] * 11 + [0] * 5)
    summary = syncer.sync(face, write_speech(folder / "speech.wav", 28 / 25), folder / "cut_in_two_out.mp4")
    assert (summary.frames, summary.frames_without_face) == (28, 5)


def test_boxes_are_padded_and_smoothed_unless_told_otherwise(checkpoint, folder):
    def find(frames):
        # The face moves by as many px as the frame is bright.
        steps = [int(round(frame.mean())) for frame in frames]
        return [Detections(np.array([[5.0 + s, 10, 25 + s, 30]]), np.ones(1)) for s in steps]

    syncer = LipSyncer(checkpoint, HParams(detect_every=1), "cpu")
    syncer.detector = Detector(find)
    source = FaceSource(levels_video(folder / "moves.mp4", [0, 10, 20, 30, 40, 50]))
    plain = syncer.find_boxes(source, 6, pads=(1, 10, 2, 3), window=1)
    assert plain[:, 0] == pytest.approx(np.arange(3, 60, 10), abs=4)  # the codec changes the brightness
    assert (plain[:, [1, 3]] == [9, 40]).all() and (plain[:, 2] - plain[:, 0] == 25).all()
    smooth = syncer.find_boxes(source, 6, pads=(1, 10, 2, 3), window=5)
    assert np.allclose(smooth[[0, 2]], [plain[0], plain[:5].mean(axis=0)])
    export_official(Generator(96, width=0.0625), folder / "official_smooth.pth")
    official = LipSyncer(folder / "official_smooth.pth", HParams(detect_every=1), "cpu")
    official.detector = Detector(find)
    smooth = official.find_boxes(source, 6, pads=(1, 10, 2, 3), window=5)
    assert smooth[0].tolist() == np.trunc(plain[:5].mean(axis=0)).tolist()


def test_boxes_are_padded_as_the_generator_was_trained(checkpoint, folder, monkeypatch):
    export_official(Generator(96, width=0.0625), folder / "official.pth")
    asked = []
    monkeypatch.setattr(lip_syncer, "pad_boxes", lambda boxes, pads, *size: asked.append(pads) or boxes)
    face, speech = levels_video(folder / "pads.mp4", [90] * 3), write_speech(folder / "speech.wav", 0.1)
    for made, pads in [(checkpoint, None), (folder / "official.pth", None), (checkpoint, (1, 2, 3, 4))]:
        syncer = LipSyncer(made, HParams(), "cpu")
        syncer.detector = Detector(Counting())
        syncer.sync(face, speech, folder / "pads_out.mp4", pads=pads)
    assert asked == [(0, 0, 0, 0), (0, 10, 0, 0), (1, 2, 3, 4)]


# --- which frames are shown -------------------------------------------------------------------------------------------


def test_a_video_shorter_than_the_speech_starts_again_at_its_own_rate(syncer, folder):
    levels = [40, 80, 120, 160, 200]
    face = levels_video(folder / "five.mp4", levels, fps=10)
    out = folder / "loops.mp4"
    summary = syncer.sync(face, write_speech(folder / "speech.wav", 1.2), out, box=SMALL_BOX)
    assert (summary.frames, summary.fps) == (12, 10)
    assert levels_of(out) == pytest.approx((levels * 3)[:12], abs=8)  # coded twice


def test_a_longer_video_is_cut_and_the_rest_is_not_looked_at(checkpoint, folder):
    find = Counting()
    syncer = LipSyncer(checkpoint, HParams(detect_every=1, face_det_batch_size=4), "cpu")
    syncer.detector = Detector(find)
    levels = [40 + 20 * (i % 10) for i in range(40)]
    out = folder / "cut.mp4"
    syncer.sync(levels_video(folder / "forty.mp4", levels), write_speech(folder / "speech.wav", 0.4), out)
    assert levels_of(out) == pytest.approx(levels[:10], abs=8)
    assert find.seen == 10


@pytest.mark.parametrize("fps, frames", [(None, 8), (25, 10)])
def test_static_shows_the_first_frame_only_and_looks_for_a_face_once(checkpoint, folder, fps, frames):
    find = Counting()
    syncer = LipSyncer(checkpoint, DLIB, "cpu")
    syncer.detector = Detector(find)
    face = levels_video(folder / "static.mp4", [60, 120, 180], fps=20)
    out = folder / "static_out.mp4"
    summary = syncer.sync(face, write_speech(folder / "speech.wav", 0.4), out, static=True, fps=fps)
    assert summary.frames == frames
    assert levels_of(out) == pytest.approx([60] * frames, abs=3)
    assert find.seen == 1


def test_frames_are_shrunk_then_turned_then_cropped():
    frame = np.random.default_rng(0).integers(0, 256, (40, 60, 3), np.uint8)
    shrunk = frame.reshape(20, 2, 30, 2, 3).mean(axis=(1, 3))
    turned = np.rot90(shrunk, k=-1)  # clockwise: (30, 20)
    assert edited(frame, 2, True, (4, -1, 3, 12)) == pytest.approx(turned[4:, 3:12], abs=1)
    assert edited(frame, 1, False, (0, 10, 0, -1)) == pytest.approx(frame[:10])
    assert edited(frame, 1, False, (0, -1, 0, -1)) is frame


# --- memory -----------------------------------------------------------------------------------------------------------


def test_large_frames_go_in_smaller_batches():
    assert frames_at_once(128, np.empty((96, 96, 3), np.uint8)) == 128
    ultra_hd = np.empty((2160, 3840, 3), np.uint8)
    assert 1 < frames_at_once(128, ultra_hd) == BATCH_BYTES // ultra_hd.nbytes
    assert frames_at_once(128, np.empty((16000, 16000, 3), np.uint8)) == 1


def test_large_faces_go_in_smaller_batches():
    assert [faces_at_once(128, size) for size in (96, 192, 288, 384)] == [128, 32, 14, 8]
    assert faces_at_once(4, 384) == 1


class ShortOfMemory(Repeats):
    """Gives back the faces, if they are not too many at once."""

    def __init__(self, most, error):
        super().__init__(slice(3, 6))
        self.most, self.error, self.asked = most, error, []

    def forward(self, mel, faces):
        self.asked.append(faces.shape[2])
        if faces.shape[2] > self.most:
            raise self.error
        return super().forward(mel, faces)


OUT_OF_MEMORY = [
    torch.OutOfMemoryError("CUDA out of memory"),
    RuntimeError("[enforce fail at alloc_cpu.cpp:118] DefaultCPUAllocator: can't allocate memory"),
]


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_out_of_memory_half_as_many_faces_are_drawn_at_once_from_then_on(checkpoint, error):
    syncer = LipSyncer(checkpoint, HParams(wav2lip_batch_size=20), "cpu")
    syncer.generator = ShortOfMemory(3, error)
    faces = np.random.default_rng(0).integers(0, 256, (20, 96, 96, 3), np.uint8)
    mels = np.zeros((20, 80, 16), np.float32)
    assert (syncer.generate(mels, faces) == faces).all()
    assert syncer.generator.asked == [20, 10, 5] + [2] * 10
    assert (syncer.generate(mels[:3], faces[:3]) == faces[:3]).all()
    assert syncer.generator.asked[-2:] == [2, 1]


@pytest.mark.parametrize("error", OUT_OF_MEMORY)
def test_without_memory_for_one_face_the_message_says_so(checkpoint, inputs, error):
    syncer = LipSyncer(checkpoint, HParams(), "cpu")
    syncer.generator = ShortOfMemory(0, error)
    with pytest.raises(UserError, match="cpu has no memory for a single face of 96 px: .*--device") as refusal:
        syncer.sync(**inputs, box=SMALL_BOX)
    assert "\n" not in str(refusal.value)
    syncer.generator.error = RuntimeError("an illegal memory access")
    with pytest.raises(RuntimeError, match="illegal"):
        syncer.sync(**inputs, box=SMALL_BOX)


def test_memory_does_not_grow_with_the_number_of_frames(checkpoint, folder):
    syncer = LipSyncer(checkpoint, HParams(wav2lip_batch_size=4, face_det_batch_size=4), "cpu")
    syncer.detector = Detector(Counting())
    face = write_video(folder / "long.mp4", (np.full((240, 320, 3), i, np.uint8) for i in range(100)))
    peaks = []
    for seconds in (1, 4):
        speech = write_speech(folder / "speech.wav", seconds)
        tracemalloc.start()
        syncer.sync(face, speech, folder / "long_out.mp4")
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    # 75 frames more are 17 MB; 3 s more of sound are 0.2 MB.
    assert peaks[1] - peaks[0] < 3e6


def test_batch_sizes_do_not_change_the_result(checkpoint, folder, portrait):
    results = []
    speech = write_speech(folder / "speech.wav", 0.4)
    for size in (3, 128):  # 10 frames
        syncer = LipSyncer(checkpoint, HParams(wav2lip_batch_size=size), "cpu")
        syncer.sync(portrait, speech, folder / "batches.mp4", box=BOX)
        results.append(np.stack(list(read_frames(folder / "batches.mp4"))).astype(float))
    # Sums in another order may round a pixel the other way, and the codec spreads it.
    assert np.abs(results[0] - results[1]).mean() < 0.1


# --- the script -------------------------------------------------------------------------------------------------------


def test_every_official_flag_is_accepted(checkpoint, folder, portrait, capsys):
    out = folder / "made" / "here" / "result.mp4"
    flags = (
        f"--checkpoint_path {checkpoint} --face {portrait} --audio {write_speech(folder / 'speech.wav', 0.2)} "
        f"--outfile {out} --static True --fps 20 --pads 0 20 0 0 --face_det_batch_size 2 --wav2lip_batch_size 4 "
        "--resize_factor 2 --crop 0 -1 0 200 --box -1 -1 -1 -1 --rotate --nosmooth --device cpu "
        "--hparams face_detector=full"
    )
    inference.main(flags.split())
    assert len(list(read_frames(out))) == 4
    info = probe(out)
    assert (info.width, info.height) == (200, 256)
    assert capsys.readouterr().out.strip() == f"{out}: 4 frames, 0.20 s at 20 fps"


def test_the_script_says_which_frames_kept_their_picture_and_that_a_video_keeps_its_rate(
    checkpoint, folder, astronaut, capsys
):
    head = astronaut[:256, 96:352]
    face = write_video(folder / "half.mp4", [head] * 5 + [np.full_like(head, 90)] * 5)
    flags = f"--checkpoint_path {checkpoint} --face {face} --audio {write_speech(folder / 'speech.wav', 0.4)}"
    out = folder / "half_out.mp4"
    inference.main(f"{flags} --outfile {out} --fps 30 --hparams face_detector=dlib,detect_every=1".split())
    printed = capsys.readouterr().out
    assert f"note: {face} keeps its own frame rate" in printed
    assert "note: 5 of 10 frames show no face" in printed
    assert printed.endswith(f"{out}: 10 frames, 0.40 s at 25 fps\n")


def test_the_script_says_when_faces_are_found_otherwise_than_in_training(checkpoint, folder, portrait, capsys):
    flags = f"--checkpoint_path {checkpoint} --face {portrait} --audio {write_speech(folder / 'speech.wav', 0.2)}"
    flags = f"{flags} --outfile {folder / 'alike.mp4'} --device cpu --hparams face_detector=dlib"
    inference.main(flags.split())
    assert (
        "note: faces were found with dlib, the hparams of the generator's training say sfd" in capsys.readouterr().out
    )
    inference.main([*flags.split(), "--box", *map(str, BOX)])
    export_official(Generator(96, width=0.0625), folder / "official.pth")  # which tells nothing
    inference.main([*flags.split(), "--checkpoint_path", str(folder / "official.pth")])
    assert "note:" not in capsys.readouterr().out


@pytest.mark.parametrize(
    "sound, said",
    [
        (np.full(1600, 0.1), "lasts 0.10 s, less than the 0.20 s that the generator hears"),
        (np.zeros(16000), "is silent throughout"),
    ],
)
def test_the_script_says_when_there_is_little_to_hear(checkpoint, folder, portrait, capsys, sound, said):
    wavfile.write(folder / "little.wav", 16000, sound.astype(np.float32))
    flags = f"--checkpoint_path {checkpoint} --face {portrait} --audio {folder / 'little.wav'}"
    inference.main([*flags.split(), "--outfile", str(folder / "little.mp4"), "--box", *map(str, BOX)])
    assert f"note: {folder / 'little.wav'} {said}" in capsys.readouterr().out


def test_a_given_box_needs_no_detector(checkpoint, folder, portrait):
    syncer = LipSyncer(checkpoint, HParams(face_detector="sfd"), "cpu")
    syncer.sync(portrait, write_speech(folder / "speech.wav", 0.1), folder / "boxed.mp4", box=BOX)
    assert "detector" not in vars(syncer)


# --- refusals ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def inputs(tmp_path, checkpoint):
    """Arguments of `sync` that would work, in a folder of their own, and a detector that must not be asked."""
    face, audio = levels_video(tmp_path / "face.mp4", [90] * 3), write_speech(tmp_path / "speech.wav", 0.2)
    (tmp_path / "old.mp4").write_bytes(b"an older result")
    (tmp_path / "a file").touch()
    (tmp_path / "empty.mp4").touch()
    wavfile.write(tmp_path / "empty.wav", 16000, np.zeros(0, np.float32))
    (tmp_path / "link.mp4").symlink_to(face)
    (tmp_path / "notes.mp4").write_text("not a video")
    cv2.imwrite(str(tmp_path / "wide.png"), np.zeros((16, 20000, 3), np.uint8))
    return {"face": face, "audio": audio, "outfile": tmp_path / "old.mp4"}


@pytest.mark.parametrize(
    "change, message",
    [
        ({"face": "gone.mp4"}, "gone.mp4: no such file"),
        ({"face": "gone.png"}, "gone.png: no such file"),
        ({"face": "empty.mp4"}, "empty.mp4: the file is empty"),
        ({"face": "notes.mp4"}, "notes.mp4: not a media file"),
        ({"face": "speech.wav"}, "speech.wav: no video stream"),
        ({"audio": "gone.wav"}, "gone.wav: no such file"),
        ({"audio": "face.mp4"}, "face.mp4: no audio stream"),
        ({"audio": "empty.wav"}, "empty.wav: its sound is empty or damaged; give another file"),
        ({"outfile": "face.mp4"}, "face.mp4 is also read"),
        ({"outfile": "link.mp4"}, "link.mp4 is also read"),
        ({"outfile": "result.avi"}, "only .mp4 files are written"),
        ({"outfile": "a file/result.mp4"}, "cannot make the folder"),
        ({"outfile": "/proc/result.mp4"}, "cannot be written"),
        ({"crop": (0, -1, 80, -1)}, "--crop 0 -1 80 -1 .* holds no pixel of the 80x64 frame"),
        ({"crop": (9, 9, 0, 10)}, "--crop 9 9 0 10 .* holds no pixel"),
        ({"box": (0, 65, 0, 80)}, "--box 0 65 0 80 .* does not lie in the 80x64 frame"),
        ({"box": (30, 20, 0, 80)}, "--box 30 20 0 80"),
        ({"resize_factor": 0}, "--resize_factor 0: must be at least 1"),
        ({"fps": 0, "static": True}, "--fps 0: must lie between"),
        (
            {"face": "wide.png"},
            "wide.png: frames of 20000x16 px are too large.*16384 px a side.*--resize_factor.*--crop",
        ),
    ],
)
def test_what_cannot_work_is_refused_in_one_line_before_the_work_starts(checkpoint, tmp_path, inputs, change, message):
    find = Counting()
    syncer = LipSyncer(checkpoint, HParams(), "cpu")
    syncer.detector = Detector(find)
    before = sorted(tmp_path.iterdir())
    for name in {"face", "audio", "outfile"} & change.keys():
        change = change | {name: tmp_path / change[name]}
    with pytest.raises(UserError, match=message) as error:
        syncer.sync(**inputs | change)
    assert "\n" not in str(error.value)
    assert find.seen == 0
    assert sorted(tmp_path.iterdir()) == before


def test_without_a_face_in_any_frame_the_message_says_what_helps(checkpoint, tmp_path, inputs):
    syncer = LipSyncer(checkpoint, DLIB, "cpu")
    before = sorted(tmp_path.iterdir())
    with pytest.raises(UserError, match=r"face.mp4: no face found in any of its 3 frames.*--rotate.*detector.*--box"):
        syncer.sync(**inputs)
    assert sorted(tmp_path.iterdir()) == before
    assert inputs["outfile"].read_bytes() == b"an older result"


def test_pads_that_leave_nothing_of_a_face_are_named(checkpoint, inputs):
    syncer = LipSyncer(checkpoint, HParams(), "cpu")
    syncer.detector = Detector(Counting())
    said = (
        r"--pads 0 -500 0 0 .top bottom left right. leaves nothing of a face of 32x32 px in .*face.mp4: take away less"
    )
    with pytest.raises(UserError, match=said):
        syncer.sync(**inputs, pads=(0, -500, 0, 0))


class Interrupted(nn.Module):
    """Ctrl-C in the middle of the work."""

    img_size, takes_a_still = 96, False

    def forward(self, mel, faces):
        raise KeyboardInterrupt


def test_ctrl_c_leaves_nothing_half_written(checkpoint, tmp_path, inputs):
    syncer = LipSyncer(checkpoint, HParams(), "cpu")
    syncer.generator = Interrupted()
    before = sorted(tmp_path.iterdir())
    with pytest.raises(KeyboardInterrupt):
        syncer.sync(**inputs, box=SMALL_BOX)
    assert sorted(tmp_path.iterdir()) == before
    assert inputs["outfile"].read_bytes() == b"an older result"


def test_a_wrong_checkpoint_or_device_is_refused(checkpoint, folder):
    with pytest.raises(UserError, match="gone.pth"):
        LipSyncer(folder / "gone.pth", device="cpu")
    with pytest.raises(UserError, match="--device warp9 cannot be used here .*: give --device cpu"):
        LipSyncer(checkpoint, device="warp9")
