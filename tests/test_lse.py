"""evaluation/lse.py and judges.py: LSE-D, LSE-C and offset are the published ones, to the last digit that matters.

Goldens were made with the original code; the network's come from weights drawn with a seed (golden_weights.py).
"""

import weakref

import numpy as np
import pytest
import torch
from golden_weights import golden_file, golden_state_dict

from audio import melspectrogram
from evaluation import ExpertJudge, SyncNetV2Judge, mfcc, shift_distances, sync_scores
from evaluation.judges import BATCH
from hparams import HParams
from models import SyncNetExpert, load_syncnet_v2


def assert_near(actual, golden, relative=1e-4):
    """Right float32 implementations differ by 2e-6 of the largest value; wrong ones by far more than 1e-4."""
    golden = np.asarray(golden)
    assert np.shape(actual) == golden.shape
    assert np.abs(actual - golden).max() <= relative * max(1, np.abs(golden).max())


@pytest.fixture(scope="module")
def syncnet(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "syncnet_v2.model"
    torch.save(golden_state_dict("syncnet_v2"), path)
    return SyncNetV2Judge(load_syncnet_v2(path))


@pytest.fixture(scope="module")
def clip():
    """30 frames (224, 224, 3) and 1.2 s of speech in [-1, 1], with what SyncNet v2 makes of them."""
    golden = {name: value.numpy() for name, value in golden_file("lse_end_to_end").items()}
    frames = golden["low"].repeat(16, axis=1).repeat(16, axis=2)
    return frames, golden["pcm"].astype(np.float32) / 32768, golden


# --- mfcc ---------------------------------------------------------------------------------------------------------


def test_mfcc_equals_the_original():
    golden = golden_file("lse")
    cepstra = mfcc(golden["pcm"].numpy())
    assert cepstra.dtype == np.float64
    assert_near(cepstra, golden["mfcc"], relative=1e-9)


@pytest.mark.parametrize("samples, columns", [(0, 1), (1, 1), (400, 1), (401, 2), (560, 2), (561, 3), (16000, 99)])
def test_the_last_mfcc_column_is_padded_rather_than_dropped(samples, columns):
    assert mfcc(np.ones(samples, np.int16)).shape == (13, columns)


def test_digital_silence_has_finite_mfccs():
    assert np.isfinite(mfcc(np.zeros(1600, np.int16))).all()


def test_mfccs_of_a_long_sound_are_those_of_its_parts():
    sound = np.random.default_rng(0).integers(-3000, 3000, 16000 * 45)  # more columns than are computed at once
    start = 4000
    part = mfcc(sound[(start - 1) * 160 :])  # one column early: the very first sample has no predecessor
    assert_near(mfcc(sound)[:, start:], part[:, 1:], relative=1e-9)


# --- scores -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("vshift", [10, 15])
def test_scores_equal_the_original(vshift):
    golden = golden_file("lse")
    face, audio = golden["n20_face"], golden["n20_audio"]
    assert_near(shift_distances(face, audio, vshift), golden[f"n20_v{vshift}_mdist"])
    offset, lse_c, lse_d = sync_scores(face.numpy(), audio.numpy(), vshift)
    assert offset == golden[f"n20_v{vshift}_offset"]
    assert_near(lse_c, golden[f"n20_v{vshift}_lse_c"])
    assert_near(lse_d, golden[f"n20_v{vshift}_lse_d"])


@pytest.mark.parametrize("offset", [-7, -1, 0, 1, 7])
def test_the_picture_at_v_fits_the_sound_at_v_minus_offset(offset):
    features = np.random.default_rng(0).standard_normal((80, 8)).astype(np.float32)
    face, audio = features[20:60], features[20 + offset : 60 + offset]
    assert sync_scores(face, audio, 10)[0] == offset


def test_sound_that_comes_three_frames_late_has_offset_minus_three(syncnet, clip):
    frames, speech, _ = clip
    late = np.concatenate([np.zeros(3 * 640, np.float32), speech])[: len(speech)]
    on_time = syncnet.embed(frames, speech).audio
    assert sync_scores(on_time, syncnet.embed(frames, late).audio)[0] == -3


# --- judges -------------------------------------------------------------------------------------------------------


def test_a_clip_is_judged_as_by_the_original(syncnet, clip):
    frames, speech, golden = clip
    features = syncnet.embed(iter(frames), speech)
    assert_near(features.face, golden["face_features"])
    assert_near(features.audio, golden["audio_features"])
    assert_near(shift_distances(features.face, features.audio, 15), golden["mdist"])
    offset, lse_c, lse_d = sync_scores(features.face, features.audio)
    assert offset == golden["offset"]
    assert_near(lse_c, golden["lse_c"])
    assert_near(lse_d, golden["lse_d"])


@pytest.mark.parametrize("frames_shown, samples, windows", [(8, 19200, 3), (30, 8 * 640 + 639, 3), (5, 19200, 0)])
def test_syncnet_v2_judges_five_windows_less_than_frames_with_sound(syncnet, clip, frames_shown, samples, windows):
    frames, speech, _ = clip
    features = syncnet.embed(frames[:frames_shown], speech[:samples])
    assert len(features.face) == len(features.audio) == windows


def test_syncnet_v2_sees_frames_of_any_size_squeezed_to_its_own(syncnet, clip):
    _, speech, golden = clip
    wide = np.full((12, 40, 90, 3), 77, np.uint8)
    square = np.full((12, 224, 224, 3), 77, np.uint8)
    assert_near(syncnet.embed(wide, speech).face, syncnet.embed(square, speech).face)


@pytest.fixture(scope="module")
def expert():
    torch.manual_seed(0)
    return SyncNetExpert(img_size=96, width=0.125).eval()


@pytest.mark.parametrize("cut", ["nearest", "exact"])
def test_the_expert_sees_lower_halves_with_the_mel_that_starts_with_them(expert, cut):
    rng = np.random.default_rng(0)
    faces = rng.integers(0, 256, (BATCH + 9, 96, 96, 3), np.uint8)  # more windows than one batch
    speech = rng.uniform(-0.1, 0.1, 16000).astype(np.float32)
    features = ExpertJudge(expert, HParams(syncnet_mel_cut=cut)).embed(iter(faces), speech)

    mel = torch.from_numpy(melspectrogram(speech))
    windows = min(len(faces) - 4, 1 + (mel.shape[1] - 16) * 5 // 16)
    cosines = []
    for k in range(windows):
        lower = torch.from_numpy(faces[k : k + 5, 48:]).permute(0, 3, 1, 2).reshape(1, 15, 48, 96) / 255
        column, late = 16 * k // 5, 16 * k % 5 / 5 if cut == "exact" else 0
        heard = mel[:, column : column + 16]
        if late:
            heard = (1 - late) * heard + late * mel[:, column + 1 : column + 17]
        with torch.no_grad():
            audio, face = expert(heard[None, None], lower)
        assert_near(features.face[k], face[0], relative=1e-5)
        assert_near(features.audio[k], audio[0], relative=1e-5)
        cosines.append(float(audio[0] @ face[0]))
    assert len(features.face) == len(features.audio) == windows
    assert features.p_sync == pytest.approx(np.mean(cosines), abs=1e-5)


def test_sound_too_short_for_a_window_leaves_nothing_to_judge(expert):
    features = ExpertJudge(expert, HParams()).embed(np.zeros((30, 96, 96, 3), np.uint8), np.zeros(2000, np.float32))
    assert len(features.face) == len(features.audio) == 0
    assert features.p_sync is None


def test_a_long_video_is_never_held_as_a_whole(expert):
    seen, most = [], 0

    def frames():
        nonlocal most
        for _ in range(150):
            frame = np.zeros((96, 96, 3), np.uint8)
            seen.append(weakref.ref(frame))
            most = max(most, sum(ref() is not None for ref in seen))
            yield frame

    features = ExpertJudge(expert, HParams()).embed(frames(), np.zeros(16000 * 6, np.float32))
    assert len(features.face) == 146
    assert most <= 3 * BATCH  # one batch in the network while the next is read
