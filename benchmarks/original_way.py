"""How the official Wav2Lip code reads data and takes a step, plainly and in our own words: what ours is compared with.

Networks, mel numbers and window maths are this project's, so that only the way of working differs.
"""

import random
from functools import lru_cache
from pathlib import Path

import cv2
import librosa
import numpy as np
import scipy.signal
import torch
import torch.nn.functional as F
from torch import nn

from clips.index import Alignment
from hparams import HParams

# --- data: every sample opens an image per frame and the whole sound of a clip, and starts from nothing ---------------


class OriginalDataset(torch.utils.data.Dataset):
    """Samples of clips drawn at random; the index only says how many there are. Draws again until a clip serves."""

    def __init__(self, folders: list[Path], length: int, hp: HParams):
        self.folders, self.length, self.hp, self.alignment = folders, length, hp, Alignment.of(hp)

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, _):
        while True:
            folder = random.choice(self.folders)
            frames = [int(path.stem) for path in folder.glob("*.jpg")]
            if len(frames) <= 3 * self.hp.syncnet_T:
                continue
            sample = self.read(folder, *random.sample(frames, 2))
            if sample is not None:
                return sample

    def _window(self, folder: Path, first: int) -> np.ndarray | None:
        """(3, T, H, W) BGR in [0, 1], or None where a frame has no face."""
        paths = [folder / f"{i}.jpg" for i in range(first, first + self.hp.syncnet_T)]
        if not all(path.exists() for path in paths):
            return None
        size = (self.hp.img_size, self.hp.img_size)
        faces = [cv2.resize(cv2.imread(str(path)), size) for path in paths]
        return (np.asarray(faces) / 255.0).transpose(3, 0, 1, 2)

    def _slice(self, mel: np.ndarray, column: int) -> np.ndarray | None:
        columns = mel[:, max(column, 0) : column + self.hp.syncnet_mel_step_size]
        return columns if columns.shape[1] == self.hp.syncnet_mel_step_size else None


class OriginalGeneratorDataset(OriginalDataset):
    def read(self, folder: Path, target: int, reference: int):
        """faces (6, T, H, W), mels of the frames (T, 1, 80, 16), mel (1, 80, 16), truth (3, T, H, W), all float32."""
        truth, other = self._window(folder, target), self._window(folder, reference)
        if truth is None or other is None:
            return None
        mel = whole_mel(folder / "audio.wav", self.hp)
        window_mel = self._slice(mel, self.alignment.expert_start(target))
        starts = [self.alignment.generator_start(target + i) for i in range(self.hp.syncnet_T)]
        frame_mels = [self._slice(mel, start) for start in starts]
        if window_mel is None or any(one is None for one in frame_mels):
            return None
        masked = truth.copy()
        masked[:, :, self.hp.img_size // 2 :] = 0
        faces = np.concatenate([masked, other])
        return _floats(faces, np.stack(frame_mels)[:, None], window_mel[None], truth)


class OriginalExpertDataset(OriginalDataset):
    def read(self, folder: Path, speech: int, other: int):
        """faces (3T, H/2, W), mel (1, 80, 16), label (1,), all float32."""
        in_sync = random.choice([True, False])
        window = self._window(folder, speech if in_sync else other)
        if window is None:
            return None
        mel = self._slice(whole_mel(folder / "audio.wav", self.hp), self.alignment.expert_start(speech))
        if mel is None:
            return None
        faces = np.concatenate(list(window.transpose(1, 0, 2, 3)))[:, self.hp.img_size // 2 :]
        return _floats(faces, mel[None], np.array([in_sync]))


def whole_mel(path: Path, hp: HParams) -> np.ndarray:
    """(80, S) of a whole sound file, with librosa."""
    wav, _ = librosa.load(path, sr=hp.sample_rate)
    wav = scipy.signal.lfilter([1, -hp.preemphasis], [1], wav)
    spectrum = librosa.stft(
        wav, n_fft=hp.n_fft, hop_length=hp.hop_size, win_length=hp.win_size, pad_mode="reflect"
    )  # (401, S)
    floor = 10 ** (hp.min_level_db / 20)
    level_db = 20 * np.log10(np.maximum(floor, _bands(hp) @ np.abs(spectrum))) - hp.ref_level_db
    scaled = 2 * hp.max_abs_value * (level_db - hp.min_level_db) / -hp.min_level_db - hp.max_abs_value
    return np.clip(scaled, -hp.max_abs_value, hp.max_abs_value)


@lru_cache(maxsize=1)
def _bands(hp: HParams) -> np.ndarray:
    return librosa.filters.mel(sr=hp.sample_rate, n_fft=hp.n_fft, n_mels=hp.num_mels, fmin=hp.fmin, fmax=hp.fmax)


def _floats(*arrays: np.ndarray) -> tuple[torch.Tensor, ...]:
    return tuple(torch.from_numpy(np.ascontiguousarray(array, np.float32)) for array in arrays)


# --- steps: batches are float when they reach the device, and every loss is read as it comes --------------------------


class OriginalExpertStep:
    def __init__(self, expert: nn.Module, hp: HParams):
        self.expert = expert
        betas = (hp.syncnet_beta1, hp.syncnet_beta2)
        self.optimizer = torch.optim.Adam(expert.parameters(), lr=hp.syncnet_lr, betas=betas)

    def step(self, faces: torch.Tensor, mel: torch.Tensor, label: torch.Tensor) -> dict[str, float]:
        """faces (B, 3T, H/2, W), mel (B, 1, 80, 16), label (B, 1)."""
        self.expert.train()
        self.optimizer.zero_grad()
        loss = _cosine_bce(*self.expert(mel, faces), label)
        loss.backward()
        self.optimizer.step()
        return {"loss/bce": loss.item()}


class OriginalWav2LipStep:
    """The generator's step and, with a discriminator, its step after it.

    The expert's weights are frozen but it is in train mode, as there: `expert.eval()` before `step` undoes that.
    """

    def __init__(self, generator: nn.Module, expert: nn.Module, discriminator: nn.Module | None, hp: HParams):
        self.generator, self.expert, self.discriminator, self.hp = generator, expert.train(), discriminator, hp
        betas = (hp.beta1, hp.beta2)
        self.optimizer = torch.optim.Adam(generator.parameters(), lr=hp.initial_learning_rate, betas=betas)
        if discriminator is not None:
            self.discriminator_optimizer = torch.optim.Adam(
                discriminator.parameters(), lr=hp.disc_initial_learning_rate, betas=betas
            )

    def step(self, faces: torch.Tensor, frame_mels: torch.Tensor, mel: torch.Tensor, truth: torch.Tensor) -> dict:
        """faces (B, 6, T, H, W), frame_mels (B, T, 1, 80, 16), mel (B, 1, 80, 16), truth (B, 3, T, H, W)."""
        hp = self.hp
        self.generator.train()
        self.optimizer.zero_grad()
        generated = self.generator(frame_mels, faces)
        l1 = F.l1_loss(generated, truth)
        sync = self._sync_loss(mel, generated) if hp.syncnet_wt > 0 else torch.zeros(())
        gan_wt, gan = 0.0, torch.zeros(())
        if self.discriminator is not None:
            # Its weights get gradients here that nobody uses: they are cleared before its own step.
            gan_wt, gan = hp.disc_wt, self._judged(generated, real=True)
        total = hp.syncnet_wt * sync + gan_wt * gan + (1 - hp.syncnet_wt - gan_wt) * l1
        total.backward()
        self.optimizer.step()
        named = {"loss/l1": l1.item(), "loss/sync": sync.item()}
        if self.discriminator is not None:
            named |= {"loss/gan": gan.item(), **self._discriminator_step(truth, generated.detach())}
        return named

    def _discriminator_step(self, truth: torch.Tensor, generated: torch.Tensor) -> dict[str, float]:
        self.discriminator_optimizer.zero_grad()
        real = self._judged(truth, real=True)
        real.backward()
        fake = self._judged(generated, real=False)
        fake.backward()
        self.discriminator_optimizer.step()
        return {"gan/disc_real": real.item(), "gan/disc_fake": fake.item()}

    def _judged(self, faces: torch.Tensor, real: bool) -> torch.Tensor:
        probability = self.discriminator(faces)
        return F.binary_cross_entropy(probability, torch.full_like(probability, float(real)))

    def _sync_loss(self, mel: torch.Tensor, generated: torch.Tensor) -> torch.Tensor:
        halves = generated[:, :, :, generated.shape[3] // 2 :]
        faces = torch.cat([halves[:, :, i] for i in range(halves.shape[2])], dim=1)  # (B, 3T, H/2, W)
        return _cosine_bce(*self.expert(mel, faces), torch.ones(len(faces), 1, device=faces.device))


def _cosine_bce(speech: torch.Tensor, face: torch.Tensor, label: torch.Tensor) -> torch.Tensor:
    return F.binary_cross_entropy(F.cosine_similarity(speech, face).unsqueeze(1), label)
