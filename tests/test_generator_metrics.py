"""evaluation.generator_metrics on generators whose answers are known: one that copies, one that obeys the speech."""

import pytest
import torch

from errors import UserError
from evaluation.generator_metrics import SILENCE, measure_generator
from models.inputs import lower_half


class Stub(torch.nn.Module):
    def __init__(self, draw):
        super().__init__()
        self.draw, self.weight = draw, torch.nn.Parameter(torch.zeros(()))

    def forward(self, mel, faces):
        return self.draw(mel, faces)


class BrightnessExpert(torch.nn.Module):
    """P_sync is high where the mean of the mel and the brightness of the lower half are alike."""

    def forward(self, mel, faces):
        angles = [torch.pi / 2 * x.flatten(1).mean(dim=1).clamp(0, 1) for x in (mel, faces)]
        return [torch.stack([angle.cos(), angle.sin()], dim=1) for angle in angles]


def batches():
    """Two clips, one dark and one bright, whose speech is as loud as they are bright."""
    level = torch.tensor([0.1, 0.9])
    faces = (255 * level)[:, None, None, None, None].expand(2, 5, 16, 16, 3)
    flicker = torch.tensor([0, 10, 0, 10, 0])[None, :, None, None, None]
    mel = level[:, None, None].expand(2, 80, 16)
    frame_mels = mel[:, None].expand(2, 5, 80, 16)
    target = (faces + flicker).clamp(0, 255).to(torch.uint8)
    return [{"target": target, "reference": target, "mel": mel, "frame_mels": frame_mels}]


def test_a_last_window_by_itself_counts_for_nothing():
    copies = Stub(lambda mel, faces: faces[:, 3:])
    whole = batches()
    single = {name: value[:1] for name, value in whole[0].items()}
    assert measure_generator(copies, BrightnessExpert(), [*whole, single], 0.5) == measure_generator(
        copies, BrightnessExpert(), whole, 0.5
    )
    with pytest.raises(UserError, match="a single window cannot be measured"):
        measure_generator(copies, BrightnessExpert(), [single], 0.5)


def test_a_generator_that_copies_is_true_leaks_and_does_not_stop_in_silence():
    copies = Stub(lambda mel, faces: faces[:, 3:])
    values = measure_generator(copies, BrightnessExpert(), batches(), mask_top=0.5)
    assert values["l1"] == values["lower_l1"] == 0
    assert values["ssim"] == pytest.approx(1)
    assert values["p_sync"] > 0.99
    assert values["p_sync_other"] < 0.5
    assert values["leak"] > 0.5
    assert values["silence_motion"] == pytest.approx(1)


def test_a_generator_that_obeys_the_speech_is_in_sync_with_it_does_not_leak_and_rests_in_silence():
    def obeys(mel, faces):
        drawn = faces[:, 3:].clone()
        lower_half(drawn)[:] = mel.mean(dim=(2, 3, 4)).clamp(0, 1)[:, None, :, None, None]
        return drawn

    values = measure_generator(Stub(obeys), BrightnessExpert(), batches(), mask_top=0.5)
    assert values["p_sync"] > 0.99
    assert values["p_sync_other"] > 0.99
    assert abs(values["leak"]) < 0.02
    assert values["silence_motion"] == 0
    assert SILENCE == -4
