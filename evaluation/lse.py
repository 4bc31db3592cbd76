"""LSE-D, LSE-C and offset: how far apart lips and speech are for a judge that has learned to tell (SyncNet).

Pure maths on features; the networks that make them are in `judges.py`. Sources: Chung and Zisserman 2016 for the
measure, its published code for the numbers, Prajwal et al. 2020 section 4 for the names LSE-D and LSE-C.
"""

import numpy as np
import scipy.fft
import torch
import torch.nn.functional as F

VSHIFT = 15  # frames the sound is shifted to either side in protocol `lrs`, 0.6 s at 25 fps

# The MFCC that SyncNet v2 was trained on.
SAMPLE_RATE = 16000  # Hz
WINDOW = SAMPLE_RATE * 25 // 1000  # samples in 25 ms
STEP = SAMPLE_RATE * 10 // 1000  # samples in 10 ms
FFT_SIZE = 512
FILTERS = 26  # triangles from 0 Hz to half the sample rate
COEFFICIENTS = 13
PREEMPHASIS = 0.97
LIFTER = 22
BLOCK = 4096  # columns computed at once (40 s), so that an hour of sound does not become an hour of spectra in memory


def mfcc(pcm16k: np.ndarray) -> np.ndarray:
    """Cepstra of speech as SyncNet v2 hears it.

    pcm16k (n,) at 16 kHz in int16's range, -32768 to 32767 -> (13, T) float64, one column per 10 ms, with
    T = 1 + ceil((n - 400) / 160): the last column is zero-padded. Row 0 is the log energy.
    """
    signal = pcm16k.astype(np.float64)
    emphasised = np.append(signal[:1], signal[1:] - PREEMPHASIS * signal[:-1])
    steps = max(0, -(-(len(signal) - WINDOW) // STEP))
    padded = np.pad(emphasised, (0, steps * STEP + WINDOW - len(signal)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, WINDOW)[::STEP]  # (T, 400), no copy
    filters = _mel_filters()
    return np.concatenate([_cepstra(windows[i : i + BLOCK], filters) for i in range(0, len(windows), BLOCK)]).T


def _cepstra(windows: np.ndarray, filters: np.ndarray) -> np.ndarray:
    """Windows (T, 400), left rectangular, and `_mel_filters()` -> (T, 13)."""
    power = np.abs(np.fft.rfft(windows, FFT_SIZE)) ** 2 / FFT_SIZE  # (T, 257)
    cepstra = scipy.fft.dct(_safe_log(power @ filters.T), norm="ortho")[:, :COEFFICIENTS]  # (T, 13)
    cepstra *= 1 + LIFTER / 2 * np.sin(np.pi * np.arange(COEFFICIENTS) / LIFTER)
    cepstra[:, 0] = _safe_log(power.sum(axis=1))
    return cepstra


def _mel_filters() -> np.ndarray:
    """(26, 257): triangles of height 1, corners equally spaced in mel and rounded down to FFT bins."""
    top_mel = 2595 * np.log10(1 + SAMPLE_RATE / 2 / 700)
    corners_hz = 700 * (10 ** (np.linspace(0, top_mel, FILTERS + 2) / 2595) - 1)
    corners = np.floor((FFT_SIZE + 1) * corners_hz / SAMPLE_RATE)
    bins = np.arange(FFT_SIZE // 2 + 1)
    return np.stack([np.interp(bins, corners[i : i + 3], [0, 1, 0]) for i in range(FILTERS)])


def _safe_log(power: np.ndarray) -> np.ndarray:
    # Digital silence has no energy at all; the original puts float64's epsilon there.
    return np.log(np.where(power == 0, np.finfo(np.float64).eps, power))


def shift_distances(face_features, audio_features, vshift: int) -> np.ndarray:
    """Mean distance between lips and speech at each shift, (2 vshift + 1,) float32 ("mdist").

    Both features (n, D), arrays or tensors, row v = the window that starts at frame v. Entry s compares the picture at
    v with the sound at v + s - vshift. Sound beyond the ends counts as zeros, in the mean too: that is part of the
    published numbers, and weighs most in short clips.
    """
    face = torch.as_tensor(face_features)
    audio = F.pad(torch.as_tensor(audio_features), (0, 0, vshift, vshift))  # (n + 2 vshift, D)
    n = len(face)
    # pairwise_distance adds 1e-6 to the difference, as the original does.
    means = [F.pairwise_distance(face, audio[s : s + n]).mean() for s in range(2 * vshift + 1)]
    return torch.stack(means).numpy()


def sync_scores(face_features, audio_features, vshift: int = VSHIFT) -> tuple[int, float, float]:
    """(offset in frames, LSE-C, LSE-D) of a clip, from features as in `shift_distances`.

    LSE-D is the smallest mean distance over all shifts, lower is better. LSE-C is the median of these means minus the
    smallest, higher is better. The picture at v fits the sound at v - offset best: a positive offset means that the
    sound comes too early.
    """
    distances = shift_distances(face_features, audio_features, vshift)
    best = int(distances.argmin())
    lse_d = float(distances[best])
    return vshift - best, float(np.median(distances)) - lse_d, lse_d
