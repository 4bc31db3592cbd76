"""From a file of weights to a network ready for use, and back to the official format.

Files may be this project's checkpoints, official ones ({"state_dict": …}) or bare state dicts, with or without
`module.` before the keys. Width and img_size are read from the shapes of the tensors, so no file needs a config.
"""

from pathlib import Path

import torch
from torch import nn

from hparams import HParams, from_dict
from models.blocks import EXTRA_STRIDES, WIDEST
from models.expert import SyncNetExpert
from models.files import CheckpointError, read_checkpoint, write_checkpoint
from models.generator import Generator
from models.lipgan import LipGanGenerator
from models.speech2vid import Speech2VidGenerator
from models.syncnet_v2 import SyncNetV2
from models.visual_discriminator import VisualDiscriminator

# Name, as in the "networks" of this project's checkpoints -> what messages call it, classes.
NETWORKS = {
    "generator": ("a generator", (Generator, LipGanGenerator, Speech2VidGenerator)),
    "expert": ("a SyncNet expert", (SyncNetExpert,)),
    "visual_discriminator": ("a visual discriminator", (VisualDiscriminator,)),
    "syncnet_v2": ("Chung's SyncNet v2", (SyncNetV2,)),
}
StateDict = dict[str, torch.Tensor]


class OtherNetwork(CheckpointError):
    """The file holds other networks than the one that was asked for: `held`, by their names in NETWORKS."""

    def __init__(self, message: str, held: list[str]):
        super().__init__(message)
        self.held = held


def load_generator(path: str | Path, device: str = "cpu") -> nn.Module:
    """The generator in `path`, Wav2Lip's or a baseline's, in eval mode with frozen weights.

    CheckpointError says what is wrong with the file.
    """
    return load("generator", path, device)


def load_expert(path: str | Path, device: str = "cpu") -> SyncNetExpert:
    """The lip-sync expert in `path`; as load_generator."""
    return load("expert", path, device)


def load_visual_discriminator(path: str | Path, device: str = "cpu") -> VisualDiscriminator:
    """The visual quality discriminator in `path`; as load_generator."""
    return load("visual_discriminator", path, device)


def load_syncnet_v2(path: str | Path, device: str = "cpu") -> SyncNetV2:
    """Chung's SyncNet in `path` (syncnet_v2.model); as load_generator."""
    return load("syncnet_v2", path, device)


def trained_with(path: str | Path) -> HParams:
    """The hparams that the network in `path` was trained with; see hparams.from_dict for what it does not say."""
    return from_dict(read_checkpoint(path).get("hparams", {}))


def export_official(network: nn.Module, path: str | Path, hparams: dict | None = None) -> None:
    """Writes a network's weights as the official Wav2Lip code saves them. The load_ functions read it back.

    hparams: those it was trained with, kept in a place of their own that the official code does not look at.
    """
    weights = {key: tensor.detach().cpu() for key, tensor in network.state_dict().items()}
    official = {"state_dict": weights, "optimizer": None, "global_step": 0, "global_epoch": 0}
    write_checkpoint({**official, "hparams": hparams} if hparams else official, path)


def load(name: str, path: str | Path, device: str = "cpu") -> nn.Module:
    """The network called `name` in NETWORKS; as load_generator."""
    held = _networks_in(read_checkpoint(path))
    if name not in held:
        found = " and ".join(_called(other) for other in held) or "no network known here"
        known = [other for other in held if other in NETWORKS]
        raise OtherNetwork(f"{path} holds {found}, not {_called(name)}: name another checkpoint", known)
    weights = held.get(f"{name}_ema", held[name])  # the average over the steps, where training kept one
    # The img_size whose network fits; if none does, the nearest one, whose first difference is the one to tell.
    network = min(_candidates(name, weights), key=lambda candidate: len(_differences(candidate, weights)))
    wrong = _differences(network, weights)
    if wrong:
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        raise CheckpointError(
            f"{path} holds {_called(name)} of another architecture ({wrong[0]}{more}): name a checkpoint of this "
            "project or an official one"
        )
    network.load_state_dict(weights, assign=True)
    return network.float().to(device).eval().requires_grad_(False)


def _called(name: str) -> str:
    return NETWORKS[name][0] if name in NETWORKS else name


def _networks_in(content: dict) -> dict[str, StateDict]:
    """The state dicts in a file by the network's name, keys without the `module.` of a network spread over GPUs."""
    if isinstance(content.get("networks"), dict):
        named = content["networks"]
    else:
        weights = content.get("state_dict", content)
        named = {_recognised(weights): weights} if _is_state_dict(weights) else {}
    return {
        name: {key.removeprefix("module."): tensor for key, tensor in weights.items()}
        for name, weights in named.items()
        if name and _is_state_dict(weights)
    }


def _is_state_dict(value) -> bool:
    return isinstance(value, dict) and all(
        isinstance(key, str) and isinstance(tensor, torch.Tensor) for key, tensor in value.items()
    )


def _recognised(weights: StateDict) -> str | None:
    """The name of the network that has the same parts as these weights, whatever their sizes."""
    parts = {key.removeprefix("module.").partition(".")[0] for key in weights}
    with torch.device("meta"):
        for name, (_, classes) in NETWORKS.items():
            if any(parts == {part for part, _ in network().named_children()} for network in classes):
                return name
    return None


def _candidates(name: str, weights: StateDict) -> list[nn.Module]:
    """Networks of every kind and img_size, as wide as the weights; on the meta device, so they take no memory."""
    # By the biases of convolutions, as those of a transposed one's weight come second.
    convolutions = [key.removesuffix("weight") for key, tensor in weights.items() if tensor.dim() == 4]
    biases = [weights[f"{name}bias"].numel() for name in convolutions if f"{name}bias" in weights]
    width = max(biases, default=WIDEST) / WIDEST
    with torch.device("meta"):
        return {
            "generator": lambda: [
                *(Generator(size, width) for size in EXTRA_STRIDES),
                LipGanGenerator(width),
                Speech2VidGenerator(width),
            ],
            "expert": lambda: [SyncNetExpert(size, width, _frames_seen(weights)) for size in EXTRA_STRIDES],
            "visual_discriminator": lambda: [VisualDiscriminator(size, width) for size in EXTRA_STRIDES],
            "syncnet_v2": lambda: [SyncNetV2()],
        }[name]()


def _frames_seen(expert_weights: StateDict) -> int:
    """T of an expert, which sees the three colours of T frames as channels."""
    first = expert_weights.get("face_encoder.0.conv_block.0.weight")
    return first.shape[1] // 3 if first is not None and first.dim() == 4 else 1


def _differences(network: nn.Module, weights: StateDict) -> list[str]:
    """One phrase per tensor of `weights` that `network` has no place for, or the other way round."""
    wanted = {key: tuple(tensor.shape) for key, tensor in network.state_dict().items()}
    # BatchNorm did not count batches before PyTorch 0.4.1; torch fills the counters in.
    missing = [key for key in wanted if key not in weights and not key.endswith("num_batches_tracked")]
    return (
        [f"{key} is missing" for key in missing]
        + [f"{key} is unknown" for key in weights if key not in wanted]
        + [
            f"{key} is {tuple(tensor.shape)}, expected {wanted[key]}"
            for key, tensor in weights.items()
            if key in wanted and tuple(tensor.shape) != wanted[key]
        ]
    )
