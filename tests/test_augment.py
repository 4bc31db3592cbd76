"""training/augment.py promises: windows change as a whole, within the stated limits, and the same way for one seed."""

import librosa
import numpy as np
import pytest
import torch

from audio import melspectrogram
from hparams import HParams
from training.augment import augment, augment_speech, rows_out_of_reach, shift, stretch_down, turn_and_zoom, warp_voice

FACES = torch.rand(4, 3, 5, 12, 16)


def augmented(**amounts) -> torch.Tensor:
    off = {"flip": 0, "shift_px": 0, "colour": 0, "blur": 0}
    return augment(FACES, torch.Generator().manual_seed(3), **(off | amounts))


def test_nothing_is_changed_when_everything_is_off():
    assert torch.equal(augmented(), FACES)


def test_one_seed_gives_one_result_and_another_seed_another():
    amounts = {"flip": 0.5, "shift_px": 2, "colour": 0.2, "blur": 0.5}
    assert torch.equal(augmented(**amounts), augmented(**amounts))
    assert not torch.equal(augmented(**amounts), augment(FACES, torch.Generator().manual_seed(4), **amounts))


def test_a_mirrored_window_is_mirrored_in_every_frame():
    assert torch.equal(augmented(flip=1), FACES.flip(-1))


def test_a_shift_moves_down_and_right_and_repeats_the_edge():
    moved = shift(FACES.transpose(1, 2), [[0, 0], [2, 0], [0, -1], [1, 3]], reach=3).transpose(1, 2)
    assert torch.equal(moved[0], FACES[0])
    assert torch.equal(moved[1][..., 2:, :], FACES[1][..., :-2, :])
    assert torch.equal(moved[1][..., 0, :], FACES[1][..., 0, :])
    assert torch.equal(moved[2][..., :-1], FACES[2][..., 1:])
    assert torch.equal(moved[3][..., 1:, 3:], FACES[3][..., :-1, :-3])


def test_colours_change_alike_in_all_frames_and_stay_in_range():
    changed = augmented(colour=0.2)
    assert 0 <= changed.min() <= changed.max() <= 1
    grey = augment(torch.full((2, 3, 5, 4, 4), 0.5), torch.Generator(), 0, 0, 0.2, 0)
    assert torch.equal(grey, grey[:, :, :1, :1, :1].expand_as(grey))
    assert (grey - 0.5).abs().max() <= 0.2
    assert len(grey.unique()) > 2


def test_blurring_keeps_the_mean_and_loses_detail():
    blurred = augmented(blur=1)
    assert torch.allclose(blurred.mean(dim=(-1, -2)), FACES.mean(dim=(-1, -2)), atol=0.05)
    assert blurred.std() < 0.6 * FACES.std()


@pytest.mark.parametrize("shift_px", [0, 1, 2, 3])
def test_lower_halves_are_augmented_alike_without_the_rows_out_of_reach(shift_px):
    faces = torch.rand(4, 3, 5, 24, 16)
    top = rows_out_of_reach(24, shift_px)
    assert top >= 24 // 2 - shift_px - 3

    def halves(rows: torch.Tensor) -> torch.Tensor:
        return augment(rows, torch.Generator().manual_seed(3), 0.5, shift_px, 0.2, 0.8)[..., -12:, :]

    assert torch.equal(halves(faces), halves(faces[..., top:, :]))
    assert shift_px == 0 or not torch.equal(halves(faces), halves(faces[..., top + 4 :, :]))


def test_mouths_turn_and_change_size_about_their_middle():
    height, width = 24, 48
    rows, columns = torch.meshgrid(torch.arange(height) - 11.5, torch.arange(width) - 23.5, indexing="ij")
    mouths = torch.stack([columns, rows]).expand(64, 2, height, width)  # each place says where it is, in px
    at_rest = turn_and_zoom(mouths, torch.Generator().manual_seed(3), 0, 0)
    assert torch.allclose(at_rest, mouths, atol=1e-4)
    changed = turn_and_zoom(mouths, torch.Generator().manual_seed(3), 10, 0.2)
    slopes = changed.diff(dim=-1)[:, :, 12, 23]  # (64, 2): over one px to the right, in px of the source
    angle, size = torch.rad2deg(torch.atan2(slopes[:, 1], slopes[:, 0])), slopes.norm(dim=1)
    assert angle.abs().max() <= 10 < 1.2 * angle.max() < 1.3 * -angle.min()
    assert 0.8 <= size.min() < 0.85 and 1.15 < size.max() <= 1.2
    assert changed[:, :, 11:13, 23:25].mean(dim=(2, 3)).abs().max() < 1e-3
    down = changed.diff(dim=-2)[:, :, 11, 24]
    assert torch.allclose(down, torch.stack([-slopes[:, 1], slopes[:, 0]], dim=1), atol=1e-3)  # no shear, no stretch
    halves = [turn_and_zoom(mouths[:32], torch.Generator().manual_seed(3), 10, 0.2, (i, 2)) for i in (0, 1)]
    assert torch.allclose(torch.cat(halves), changed, atol=1e-4)


def test_speech_changes_its_level_and_tilt_and_nothing_else():
    mel = torch.randn(6, 80, 16)
    change = augment_speech(mel, torch.Generator().manual_seed(3), 0.5, 99) - mel
    assert torch.allclose(change, change[:, :, :1].expand_as(change), atol=1e-5)  # alike in all columns
    steps = change[:, 1:, 0] - change[:, :-1, 0]
    assert torch.allclose(steps, steps[:, :1].expand_as(steps), atol=1e-4)  # a line over the bands
    assert change.abs().max() <= 1.0
    assert change.mean(dim=(1, 2)).std() > 0.1
    halves = [augment_speech(mel[i * 3 :][:3], torch.Generator().manual_seed(3), 0.5, 99, (i, 2)) for i in (0, 1)]
    assert torch.allclose(torch.cat(halves), mel + change, atol=1e-6)
    assert augment_speech(4 * mel, torch.Generator().manual_seed(3), 0.5, 4).abs().max() == 4  # as every mel is clipped


def test_a_voice_warps_as_if_all_its_frequencies_were_higher_or_lower():
    hp, tones_hz = HParams(), np.array([400, 2500])
    wav = np.sin(2 * np.pi * tones_hz[:, None] * np.arange(16000) / 16000).sum(0) / 4
    mel = torch.from_numpy(melspectrogram(wav, hp))[:, 20:36].expand(64, 3, 80, 16)
    bands_hz = librosa.mel_frequencies(82, fmin=hp.fmin, fmax=hp.fmax)[1:-1]

    def peaks(mel: torch.Tensor) -> torch.Tensor:
        """(B, 2): the frequency in Hz of the loudest band below 1 kHz and above."""
        low = int((bands_hz < 1000).sum())
        loudest = torch.stack([mel[..., :low, 8].argmax(-1), low + mel[..., low:, 8].argmax(-1)], dim=-1)
        assert torch.equal(loudest, loudest[:, :1].expand_as(loudest))  # all windows of a row alike
        return torch.from_numpy(bands_hz)[loudest[:, 0]]

    warped = warp_voice(mel, torch.Generator().manual_seed(3), 0.2, (hp.fmin, hp.fmax))
    low, high = (peaks(warped) / torch.from_numpy(tones_hz)).T
    assert torch.allclose(low, high, atol=0.08)  # bands are 7% apart at 400 Hz, 4% at 2.5 kHz
    assert 0.75 < high.min() < 0.85 and 1.15 < high.max() < 1.25
    assert torch.equal(warped[..., :1].expand_as(warped).argmax(-2), warped.argmax(-2))  # time is as it was
    halves = [warp_voice(mel[:32], torch.Generator().manual_seed(3), 0.2, (hp.fmin, hp.fmax), (i, 2)) for i in (0, 1)]
    assert torch.allclose(torch.cat(halves), warped)
    speech = torch.randn(4, 80, 16)
    assert torch.allclose(warp_voice(speech, torch.Generator(), 0, (hp.fmin, hp.fmax)), speech, atol=1e-5)


def test_faces_are_stretched_downwards_all_frames_alike():
    rows = torch.linspace(0, 1, 96).view(1, 1, 1, 96, 1).expand(8, 3, 5, 96, 96)
    stretched = stretch_down(rows, torch.Generator().manual_seed(3), 0.2)
    assert stretched.shape == rows.shape
    assert torch.allclose(stretched[:, :, :1, :, :1].expand_as(stretched), stretched, atol=1e-5)
    lowest = stretched[:, 0, 0, -1, 0]  # what was higher up lies at the bottom now
    assert lowest.min() >= 0.79
    assert lowest.max() <= 1.0
    assert len(lowest.unique()) == 8
    assert torch.allclose(stretched[:, 0, 0, 0, 0], torch.zeros(8), atol=0.02)
    assert torch.allclose(stretch_down(rows, torch.Generator(), 0.0), rows, atol=1e-5)
