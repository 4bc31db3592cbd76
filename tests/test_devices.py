"""models.usable_device: a device that computes, or one line that names the flag and the remedy."""

import pytest
import torch

from errors import UserError
from models import usable_device


def test_without_a_name_it_is_a_gpu_if_there_is_one():
    assert usable_device().type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert usable_device("cpu") == torch.device("cpu")


@pytest.mark.parametrize("name", ["warp9", "cuda:99", "cuda:x", "mps:99", "meta", "xpu:99", "hpu"])
def test_what_cannot_compute_is_refused_in_one_line_with_the_remedy(name):
    with pytest.raises(UserError, match=f"^--device {name} cannot be used here .*: give --device cpu") as refusal:
        usable_device(name)
    assert "\n" not in str(refusal.value)
