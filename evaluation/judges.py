"""Judges of lip-sync: networks that turn a clip into features of lips and of speech, one row per window of five frames.

Each judge has the same few things, and nothing else in `evaluation/` knows which one it has:

    name                     what tables and JSON call it
    sample_rate              of the speech it wants, Hz
    fps                      the rate its windows of sound are cut for
    read_fps                 the rate it wants frames at; None = the file's own
    crop_size                side in px of the face crops it wants; None = whole frames
    min_frames               fewest frames, with as much sound, that it can judge
    embed(frames, speech)    -> Features

frames is any iterable of uint8 (H, W, 3) BGR, read once and never held as a whole; speech is float32 (n,) in [-1, 1]
whose sample 0 belongs to frame 0.
"""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import count, islice, takewhile
from pathlib import Path

import cv2
import numpy as np
import torch
from torch import nn

from audio import melspectrogram
from clips.index import Alignment
from clips.settings import HEARD
from errors import UserError
from evaluation.lse import SAMPLE_RATE, mfcc
from hparams import HParams, some
from models import load_expert, trained_with
from models.inputs import expert_faces, to_float

BATCH = 16  # windows through the network at once; SyncNet v2 takes 0.25 GB for them


@dataclass(frozen=True)
class Features:
    """face, audio (n, D) float32, row v = the window that starts at frame v; p_sync only from the expert."""

    face: np.ndarray
    audio: np.ndarray
    p_sync: float | None = None  # mean cosine of lips and speech, unshifted, in [0, 1]


class SyncNetV2Judge:
    """Chung's SyncNet v2 after protocol `lrs`, with which the published LSE numbers are made.

    Looks at whole frames, one after the other, whatever the file's frame rate; its windows assume 25 fps. The original
    passes the frames through JPEG files on the way, this does not.
    """

    name = "syncnet_v2"
    sample_rate = SAMPLE_RATE
    fps = 25
    read_fps = None
    crop_size = None
    T = 5  # frames of a window
    min_frames = T + 1  # the original leaves out the last window that would fit, and so do its numbers
    frame_px = 224  # side of what the network sees, whatever the shape of the frame
    frame_samples = SAMPLE_RATE // fps
    frame_columns = 4  # MFCC columns of a frame, 10 ms each
    window_columns = T * frame_columns

    def __init__(self, network: nn.Module, device: torch.device | str = "cpu"):
        self.network = network.to(device)
        self.device = device

    def embed(self, frames: Iterable[np.ndarray], speech: np.ndarray) -> Features:
        pcm = np.clip(np.round(speech * 32768), -32768, 32767)
        cepstra = mfcc(pcm).astype(np.float32)  # (13, columns)
        windows_with_sound = max(0, len(pcm) // self.frame_samples - self.min_frames + 1)
        starts = range(0, windows_with_sound * self.frame_columns, self.frame_columns)
        speech_windows = (cepstra[:, i : i + self.window_columns] for i in starts)

        shown = (cv2.resize(frame, (self.frame_px, self.frame_px)) for frame in frames)
        lip_windows = (window[: self.T] for window in sliding(shown, self.min_frames))
        return Features(*embed_pairs(self._embed_batch, zip(lip_windows, speech_windows, strict=False)))

    def _embed_batch(self, faces: torch.Tensor, cepstra: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """faces uint8 (B, T, 224, 224, 3), cepstra (B, 13, 20) -> lips, speech (B, 1024)."""
        faces = faces.to(self.device).permute(0, 4, 1, 2, 3).float()  # (B, 3, T, 224, 224), from 0 to 255
        return self.network.forward_lip(faces), self.network.forward_audio(cepstra[:, None].to(self.device))


class ExpertJudge:
    """A lip-sync expert of this project, or the official one: lower halves of face crops and their mel.

    Its numbers compare models with each other; they are not the published LSE, which SyncNet v2 defines.
    """

    name = "expert"

    def __init__(self, network: nn.Module, hp: HParams, device: torch.device | str = "cpu"):
        """hp: the sound, the frame rate and the window the network was trained with."""
        self.network = network.to(device)
        self.device = device
        self.hp = hp
        self.sample_rate = hp.sample_rate
        self.fps = self.read_fps = hp.fps
        self.crop_size = network.img_size
        self.min_frames = hp.syncnet_T

    def embed(self, frames: Iterable[np.ndarray], speech: np.ndarray) -> Features:
        mel = melspectrogram(speech, self.hp)  # (80, columns)
        alignment = Alignment.of(self.hp)
        speech_windows = (alignment.expert_mel(mel, first_frame) for first_frame in count())
        speech_windows = takewhile(lambda window: window.shape[1] == self.hp.expert_mel_steps, speech_windows)

        lip_windows = sliding(frames, self.hp.syncnet_T)
        face, audio = embed_pairs(self._embed_batch, zip(lip_windows, speech_windows, strict=False))
        p_sync = float((face * audio).sum(axis=1).mean()) if len(face) else None  # a cosine: both have length 1
        return Features(face, audio, p_sync)

    def _embed_batch(self, faces: torch.Tensor, mel: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """faces uint8 (B, T, H, W, 3), mel (B, 80, 16) -> lips, speech (B, D)."""
        faces = expert_faces(to_float(faces.to(self.device)))  # (B, 3T, H/2, W)
        audio, face = self.network(mel[:, None].to(self.device), faces)
        return face, audio


def sliding(items: Iterable, length: int) -> Iterator[list]:
    """All windows of `length` consecutive items; holds no more than one window."""
    window = deque(maxlen=length)
    for item in items:
        window.append(item)
        if len(window) == length:
            yield list(window)


@torch.inference_mode()
def embed_pairs(embed_batch: Callable, pairs: Iterator) -> tuple[np.ndarray, np.ndarray]:
    """Pairs (frames of a window, its stretch of sound) through `embed_batch` -> lips, speech (n, D); n may be 0."""
    lips, speech = [], []
    while batch := list(islice(pairs, BATCH)):
        windows, sounds = zip(*batch, strict=True)
        # cuDNN's convolutions default to TF32, ten bits of mantissa: coarser than the tolerance of the goldens.
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            embedded = embed_batch(torch.from_numpy(np.stack(windows)), torch.from_numpy(np.stack(sounds)))
        lips.append(embedded[0].cpu().numpy())
        speech.append(embedded[1].cpu().numpy())
    if not lips:
        return np.empty((0, 0), np.float32), np.empty((0, 0), np.float32)
    return np.concatenate(lips), np.concatenate(speech)


def load_expert_judge(path: str | Path, device: torch.device | str = "cpu") -> ExpertJudge:
    """With the sound and the window it was trained with, whatever --hparams says; official files have the official."""
    return ExpertJudge(load_expert(path, device), trained_with(path), device)


def other_sound(path: str | Path, hp: HParams) -> str:
    """What hparams of the mel that the expert in `path` was trained on differ from those it would now hear, if any."""
    names = " ".join((*HEARD, "syncnet_mel_step_size"))
    learnt, asked = some(trained_with(path), names), some(hp, names)
    return ", ".join(f"{name}={learnt[name]} (here {asked[name]})" for name in learnt if learnt[name] != asked[name])


def refuse_other_sound(path: str | Path, hp: HParams) -> None:
    """UserError where the expert in `path` was trained on another mel than it would now hear."""
    if changed := other_sound(path, hp):
        raise UserError(f"{path}: its expert was trained with {changed}: set the same, or train it anew")
