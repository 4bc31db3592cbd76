"""audio: speech loads as the models need it, and the mel spectrogram is the official one, number for number.

The golden file holds what the official code gives for a stretch of speech and of a chirp.
"""

import wave
from pathlib import Path

import librosa
import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import audio.mel
from audio import MelSpectrogram, load_wav, melspectrogram
from errors import UserError
from hparams import HParams

GOLDEN = Path(__file__).parent / "golden" / "mel.npz"


@pytest.fixture(scope="module")
def golden():
    with np.load(GOLDEN) as file:
        return dict(file)


def tone(seconds, rate, hertz=440.0):
    return (0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)).astype(np.float32)


def write_wav(path, channels, rate):
    """16-bit PCM from float32 (n,) or (n, channels)."""
    channels = channels.reshape(len(channels), -1)
    with wave.open(str(path), "wb") as file:
        file.setnchannels(channels.shape[1])
        file.setsampwidth(2)
        file.setframerate(rate)
        file.writeframes(np.round(channels * 32767).astype("<i2").tobytes())
    return path


# --- mel spectrogram ---------------------------------------------------------------------------------------------


def test_mel_of_speech_equals_the_official_one(golden):
    mel = melspectrogram(golden["speech_pcm"].astype(np.float32) / 32768)
    assert mel.dtype == np.float32
    assert np.abs(mel - golden["speech_mel"]).max() < 1e-5


def test_mel_of_a_chirp_equals_the_official_one_next_to_loud_bands_too(golden):
    # The golden chirp went on for longer: kept are the columns that do not see where it is cut here.
    columns = golden["chirp_mel"].shape[1]
    mel = melspectrogram(golden["chirp"])
    assert np.abs(mel[:, :columns] - golden["chirp_mel"]).max() < 1e-5


def test_mel_equals_librosa_with_reflected_ends():
    wav = np.random.default_rng(0).normal(0, 0.1, 5000).astype(np.float32)
    emphasised = np.append(wav[:1], wav[1:] - 0.97 * wav[:-1]).astype(np.float64)
    spectrum = np.abs(librosa.stft(emphasised, n_fft=800, hop_length=200, win_length=800, pad_mode="reflect"))
    bands = librosa.filters.mel(sr=16000, n_fft=800, n_mels=80, fmin=55, fmax=7600, dtype=np.float64)
    level_db = 20 * np.log10(np.maximum(1e-5, bands @ spectrum)) - 20
    expected = np.clip(8 * (level_db + 100) / 100 - 4, -4, 4)
    assert np.abs(melspectrogram(wav) - expected).max() < 1e-5


@pytest.mark.parametrize("samples", [401, 600, 1999, 2000, 2001, 12345, 16000])
def test_mel_in_blocks_equals_mel_in_one_piece_up_to_both_reflected_ends(monkeypatch, samples):
    wav = np.random.default_rng(samples).normal(0, 0.1, samples).astype(np.float32)
    in_one_piece = melspectrogram(wav)
    for columns in (1, 2, 3, 7, 10):  # a last block of one column reflects sound of the block before
        monkeypatch.setattr(audio.mel, "BLOCK", columns)
        assert np.abs(melspectrogram(wav) - in_one_piece).max() < 1e-6


class LargestTensor(TorchDispatchMode):
    """Notes the size of the largest tensor that is made meanwhile."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if isinstance(result, torch.Tensor):
            self.elements = max(self.elements, result.numel())
        return result


def test_mel_of_long_speech_never_holds_more_than_a_block_of_its_spectrum():
    minutes = 5
    wav = np.zeros(minutes * 60 * 16000, np.float32)
    with LargestTensor() as largest:
        mel = melspectrogram(wav)
    # The sound is 2.5 times as large as its mel, and 1 / 2 of its spectrum.
    assert mel.shape == (80, minutes * 60 * 80 + 1) and largest.elements == len(wav)


def test_digital_silence_is_minus_four_everywhere():
    assert (melspectrogram(np.zeros(8000, np.float32)) == -4).all()


def test_faint_noise_is_minus_four_everywhere(golden):
    assert (melspectrogram(golden["quiet"]) == -4).all()


def test_full_scale_noise_stays_within_four():
    mel = melspectrogram(np.sign(np.random.default_rng(0).normal(size=16000)).astype(np.float32))
    assert np.isfinite(mel).all() and mel.max() <= 4


@pytest.mark.parametrize("samples", [401, 800, 12345, 16000])
def test_mel_has_80_columns_a_second(samples):
    assert melspectrogram(tone(samples / 16000, 16000)).shape == (80, 1 + samples // 200)


def test_module_gives_each_sound_of_a_batch_its_own_mel():
    wavs = np.stack([tone(1, 16000, hertz) for hertz in (200, 440, 3000)])
    mels = MelSpectrogram(HParams())(torch.from_numpy(wavs))
    assert mels.shape == (3, 80, 81) and mels.dtype == torch.float32
    for wav, mel in zip(wavs, mels, strict=True):
        assert np.abs(mel.numpy() - melspectrogram(wav)).max() < 1e-5


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_module_gives_the_same_numbers_on_the_gpu(golden):
    wav = torch.from_numpy(golden["speech_pcm"].astype(np.float32) / 32768)[None].cuda()
    mel = MelSpectrogram(HParams()).cuda()(wav)
    assert mel.is_cuda
    assert np.abs(mel[0].cpu().numpy() - golden["speech_mel"]).max() < 1e-4


def test_mel_follows_the_hparams():
    hp = HParams(hop_size=160)
    assert melspectrogram(tone(1, 16000), hp).shape == (80, 101)


def test_mel_module_adds_nothing_to_checkpoints():
    assert not MelSpectrogram(HParams()).state_dict()


@pytest.mark.parametrize("samples", [0, 1, 400])
def test_sound_too_short_for_a_mel_is_refused_with_its_length(samples):
    with pytest.raises(UserError, match=f"{samples} samples, a mel spectrogram needs at least 401"):
        melspectrogram(np.zeros(samples, np.float32))


# --- loading -----------------------------------------------------------------------------------------------------


def test_wav_at_the_same_rate_loads_bit_by_bit(tmp_path):
    wav = tone(1, 16000)
    loaded = load_wav(write_wav(tmp_path / "a.wav", wav, 16000), 16000)
    assert loaded.dtype == np.float32
    assert np.array_equal(loaded, np.round(wav * 32767).astype(np.float32) / 32768)


def test_stereo_is_mixed_to_the_mean_of_its_channels(tmp_path):
    left, right = tone(1, 16000, 440), tone(1, 16000, 700)
    loaded = load_wav(write_wav(tmp_path / "a.wav", np.stack([left, right], axis=1), 16000), 16000)
    assert np.abs(loaded - (left + right) / 2).max() < 1e-4  # 16-bit steps


@pytest.mark.parametrize("rate", [8000, 22050, 44100, 48000])
def test_other_rates_are_resampled_as_librosa_does(tmp_path, rate):
    wav = tone(1.234, rate)
    path = write_wav(tmp_path / "a.wav", wav, rate)
    loaded = load_wav(path, 16000)
    expected = librosa.resample(wav, orig_sr=rate, target_sr=16000)
    assert abs(len(loaded) - len(wav) * 16000 / rate) < 1
    n = min(len(loaded), len(expected))  # librosa rounds the length up
    assert np.abs(loaded[:n] - expected[:n]).max() < 1e-4  # 16-bit steps


def test_a_file_that_is_no_sound_is_refused_by_name(tmp_path):
    path = tmp_path / "speech.wav"
    path.write_text("not a sound\n" * 100)
    with pytest.raises(UserError, match="speech.wav"):
        load_wav(path, 16000)
