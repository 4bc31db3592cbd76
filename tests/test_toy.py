"""The toy corpus: the same seeds give the same clip, lips and sound fit, and a face detector finds every face."""

import numpy as np
import pytest

from faces import make_detector
from toy import FPS, FRAME_PX, SAMPLE_RATE, ToyStyle, make_toy_clip, make_toy_corpus, make_toy_speech, toy_gestures
from video import probe, read_audio, read_frames

SAMPLES_PER_FRAME = SAMPLE_RATE // FPS
LAGS = range(-6, 7)


@pytest.fixture(scope="module")
def clip():
    return make_toy_clip(identity_seed=3, clip_seed=1, seconds=6)


@pytest.fixture(scope="module")
def opening():
    return toy_gestures(identity_seed=3, clip_seed=1, seconds=6).opening


def best_lag(a, b):
    """The shift of `b` against `a`, in frames, at which they correlate most."""
    middle = slice(6, -6)
    return max(LAGS, key=lambda lag: np.corrcoef(a[middle], np.roll(b, -lag)[middle])[0, 1])


def frame_rms(speech, milliseconds=40):
    """Loudness around the moment of each frame."""
    around = milliseconds * SAMPLE_RATE // 1000
    padded = np.pad(speech, around // 2)
    return np.array([np.sqrt(np.mean(padded[i : i + around] ** 2)) for i in range(0, len(speech), SAMPLES_PER_FRAME)])


def pixel_difference_from_closed(frames, opening):
    """How much the region of the mouth differs from that of the frame with the lips closed most."""
    mouths = frames[:, 110:165, 60:132].astype(float)
    return np.abs(mouths - mouths[opening.argmin()]).mean(axis=(1, 2, 3))


def test_frames_and_speech_have_the_documented_shapes(clip):
    frames, speech = clip
    assert frames.shape == (150, FRAME_PX, FRAME_PX, 3) and frames.dtype == np.uint8
    assert speech.shape == (150 * SAMPLES_PER_FRAME,) and speech.dtype == np.float32


def test_the_same_seeds_give_the_same_clip_and_other_seeds_another():
    hard = ToyStyle(noise=0.5, head_motion=0.5, lighting=0.5)
    (frames, speech), (again_frames, again_speech) = (make_toy_clip(1, 2, 0.4, hard) for _ in range(2))
    np.testing.assert_array_equal(frames, again_frames)
    np.testing.assert_array_equal(speech, again_speech)
    for identity_seed, clip_seed in ((1, 3), (2, 2)):
        other_frames, other_speech = make_toy_clip(identity_seed, clip_seed, 0.4, hard)
        assert not np.array_equal(frames, other_frames) and not np.array_equal(speech, other_speech)


def test_speech_alone_is_the_speech_of_the_clip(clip):
    np.testing.assert_array_equal(make_toy_speech(identity_seed=3, clip_seed=1, seconds=6), clip[1])


def test_speech_is_as_loud_as_a_recording_and_silent_while_lips_are_closed(clip):
    _, speech = clip
    gestures = toy_gestures(identity_seed=3, clip_seed=1, seconds=6)
    assert 0.05 < np.sqrt(np.mean(speech**2)) < 0.1 and np.abs(speech).max() < 1
    loudness = frame_rms(speech, milliseconds=10)
    closed = gestures.loudness < 0.01
    assert closed.sum() > 5
    assert np.median(loudness[closed]) < 0.01 * np.median(loudness[~closed])


def test_lips_close_fully_and_open_wide(opening):
    assert opening.min() < 0.02 and opening.max() > 0.8


def test_the_drawn_mouth_follows_the_articulation_without_lag(clip, opening):
    measured = pixel_difference_from_closed(clip[0], opening)
    assert best_lag(opening, measured) == 0
    assert np.corrcoef(opening, measured)[0, 1] > 0.6


def test_the_sound_follows_the_articulation_without_lag(clip, opening):
    assert best_lag(opening, frame_rms(clip[1])) == 0


def test_picture_and_sound_fit_best_without_lag(clip, opening):
    assert best_lag(pixel_difference_from_closed(clip[0], opening), frame_rms(clip[1])) == 0


@pytest.mark.parametrize(
    "style", [ToyStyle(), ToyStyle(noise=0.5, head_motion=0.5, lighting=0.5)], ids=["demo", "hard"]
)
def test_a_face_detector_finds_every_identity(style):
    detector = make_detector("dlib")
    for identity_seed in range(8):
        frames, _ = make_toy_clip(identity_seed, 0, 1.2, style)
        found = detector.detect(frames[::10])
        boxes = np.stack([detections.boxes[0] for detections in found])
        widths = boxes[:, 2] - boxes[:, 0]
        assert np.all((widths > 70) & (widths < 140)), f"identity {identity_seed}: widths {widths}"


def test_a_style_changes_only_what_it_names(clip):
    still, _ = make_toy_clip(3, 1, 0.4)
    np.testing.assert_array_equal(still[:2], make_toy_clip(3, 1, 0.4, ToyStyle())[0][:2])
    for field in ("noise", "head_motion", "lighting", "mumbling"):
        frames, speech = make_toy_clip(3, 1, 0.4, ToyStyle(**{field: 0.5}))
        assert not np.array_equal(frames, still), field
        assert np.array_equal(speech, make_toy_speech(3, 1, 0.4)) == (field != "noise")


def test_a_mumbling_mouth_moves_less(clip):
    plain, mumbling = (make_toy_clip(3, 1, 2.0, ToyStyle(mumbling=amount))[0].astype(float) for amount in (0, 1))
    moves = [np.abs(np.diff(frames, axis=0)).max(axis=0).mean() for frames in (plain, mumbling)]
    assert 0.2 * moves[0] < moves[1] < 0.8 * moves[0]


def test_a_corpus_is_a_folder_of_videos_per_identity(tmp_path):
    paths = make_toy_corpus(tmp_path, identities=2, clips=2, seconds=0.6, seed=5)
    assert [str(path.relative_to(tmp_path)) for path in paths] == [
        "000/000.mp4",
        "000/001.mp4",
        "001/000.mp4",
        "001/001.mp4",
    ]
    info = probe(paths[0])
    assert (info.width, info.height, info.fps) == (FRAME_PX, FRAME_PX, FPS) and info.has_audio
    assert len(list(read_frames(paths[0]))) == 15
    assert len(read_audio(paths[0], SAMPLE_RATE)) == 15 * SAMPLES_PER_FRAME


def test_a_corpus_goes_on_where_it_stopped(tmp_path):
    first, second = make_toy_corpus(tmp_path, identities=1, clips=2, seconds=0.4)
    first.write_bytes(b"kept as it is")
    whole = second.read_bytes()
    second.unlink()
    make_toy_corpus(tmp_path, identities=1, clips=2, seconds=0.4)
    assert first.read_bytes() == b"kept as it is" and second.read_bytes() == whole
