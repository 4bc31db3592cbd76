"""The mel spectrogram of the official Wav2Lip models, number for number.

Pre-emphasis, magnitude of a centred STFT with reflected ends, Slaney's mel bands, decibels, scaled to +- max_abs_value.
"""

from functools import lru_cache

import librosa
import numpy as np
import torch
from torch import Tensor, nn

from errors import UserError
from hparams import HParams

BLOCK = 4096  # columns computed at once (51 s), so that an hour of speech does not become an hour of spectra in memory


def melspectrogram(wav: np.ndarray, hp: HParams | None = None) -> np.ndarray:
    """float32 (n,) in [-1, 1] at hp.sample_rate -> float32 (num_mels, 1 + n // hop_size), 80 columns a second.

    Raises UserError for sound too short to have a spectrum.
    """
    module = _mel_module(hp or HParams())
    return module(torch.from_numpy(np.asarray(wav, np.float32))[None])[0].numpy()


@lru_cache(maxsize=4)
def _mel_module(hp: HParams) -> "MelSpectrogram":
    return MelSpectrogram(hp)


class MelSpectrogram(nn.Module):
    """float (B, n) -> float32 (B, num_mels, 1 + n // hop_size), on the device the module is on.

    Computed in float64: the logarithm of a quiet band next to a loud one brings out the float32 noise of the STFT,
    2e-4 in a chirp, and here it costs 4 ms for 10 s of sound.
    Raises UserError for sound too short to have a spectrum.
    """

    def __init__(self, hp: HParams):
        super().__init__()
        self.n_fft, self.hop_size, self.win_size, self.preemphasis = hp.n_fft, hp.hop_size, hp.win_size, hp.preemphasis
        self.ref_level_db, self.min_level_db, self.max_abs_value = hp.ref_level_db, hp.min_level_db, hp.max_abs_value
        self.sample_rate = hp.sample_rate
        bands = librosa.filters.mel(
            sr=hp.sample_rate, n_fft=hp.n_fft, n_mels=hp.num_mels, fmin=hp.fmin, fmax=hp.fmax, dtype=np.float64
        )
        # Not persistent: they follow from the hparams and do not belong in checkpoints.
        self.register_buffer("bands", torch.from_numpy(bands), persistent=False)  # (num_mels, n_fft / 2 + 1)
        self.register_buffer("window", torch.hann_window(hp.win_size, dtype=torch.float64), persistent=False)

    def forward(self, wav: Tensor) -> Tensor:
        shortest = self.n_fft // 2 + 1  # the reflected ends need this much to reflect
        if wav.shape[-1] < shortest:
            raise UserError(
                f"the sound has {wav.shape[-1]} samples, a mel spectrogram needs at least {shortest} "
                f"({1000 * shortest / self.sample_rate:.0f} ms): give a longer recording"
            )
        columns = 1 + wav.shape[-1] // self.hop_size
        blocks = (range(first, min(first + BLOCK, columns)) for first in range(0, columns, BLOCK))
        return torch.cat([self._columns(wav, block) for block in blocks], dim=-1)

    def _columns(self, wav: Tensor, columns: range) -> Tensor:
        """Some columns of the mel of wav (B, n): (B, num_mels, len(columns))."""
        wav = self._emphasised(wav, columns[0] * self.hop_size - self.n_fft // 2, len(columns))
        spectrum = torch.stft(
            wav, self.n_fft, self.hop_size, self.win_size, self.window, center=False, return_complex=True
        )  # (B, n_fft / 2 + 1, T)
        mel = self.bands @ spectrum.abs()  # (B, num_mels, T)
        # The floor keeps the logarithm of digital silence finite; it lies below what the last line clips.
        floor = 10 ** (self.min_level_db / 20)
        level_db = 20 * torch.log10(mel.clamp_min(floor)) - self.ref_level_db
        scaled = 2 * self.max_abs_value * (level_db - self.min_level_db) / -self.min_level_db - self.max_abs_value
        return scaled.clamp(-self.max_abs_value, self.max_abs_value).float()

    def _emphasised(self, wav: Tensor, start: int, columns: int) -> Tensor:
        """float64 (B, samples): wav (B, n) with pre-emphasis from sample `start` on, as far as `columns` columns reach.

        What lies before sample 0 and behind the last one is the reflection of what they hold.
        """
        last = wav.shape[-1] - 1
        samples = torch.arange(start, start + (columns - 1) * self.hop_size + self.n_fft, device=wav.device)
        samples = last - (last - samples.abs()).abs()  # reflected at 0, then at the last
        before = wav[:, (samples - 1).clamp_min(0)].double() * (samples > 0)  # before the first there is silence
        return wav[:, samples].double() - self.preemphasis * before
