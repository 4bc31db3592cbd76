"""models.loading: official files and checkpoints of this project load, anything else is refused in one line."""

import os
import resource
import shlex
import subprocess
import sys

import pytest
import torch
from golden_weights import SEEDS, official

from errors import UserError
from models import (
    CheckpointError,
    Generator,
    SyncNetExpert,
    SyncNetV2,
    VisualDiscriminator,
    export,
    export_official,
    load_expert,
    load_generator,
    load_syncnet_v2,
    load_visual_discriminator,
    read_checkpoint,
    write_checkpoint,
)

LOADERS = {
    "generator": load_generator,
    "expert": load_expert,
    "visual_discriminator": load_visual_discriminator,
    "syncnet_v2": load_syncnet_v2,
}
TINY = 1 / 64


def official_weights(name: str) -> dict[str, torch.Tensor]:
    """A full-size state dict that takes no room: one value behind every shape."""
    return {
        key: torch.tensor(0) if key.endswith("num_batches_tracked") else torch.tensor(0.5).expand(shape)
        for key, shape in official(name)["shapes"].items()
    }


def prefixed(weights):
    return {f"module.{key}": tensor for key, tensor in weights.items()}


def assert_same_weights(loaded: torch.nn.Module, weights: dict[str, torch.Tensor]):
    state = loaded.state_dict()
    assert state.keys() == weights.keys()
    for key, tensor in weights.items():
        assert torch.equal(state[key], tensor), key


# --- what loads -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("old_format", [False, True], ids=["zip", "before torch 1.6"])
@pytest.mark.parametrize("wrapped", [False, True], ids=["bare", "state_dict"])
@pytest.mark.parametrize("parallel", [False, True], ids=["plain", "module."])
@pytest.mark.parametrize("name", SEEDS)
def test_official_files_load_in_every_form_they_exist_in(tmp_path, name, parallel, wrapped, old_format):
    weights = official_weights(name)
    content = prefixed(weights) if parallel else weights
    if wrapped:
        optimizer = torch.optim.Adam([torch.nn.Parameter(torch.zeros(2))]).state_dict()
        content = {"state_dict": content, "optimizer": optimizer, "global_step": 7, "global_epoch": 1}
    path = tmp_path / "official.pth"
    torch.save(content, path, _use_new_zipfile_serialization=not old_format)
    assert_same_weights(LOADERS[name](path), weights)


def test_files_from_before_batch_norm_counted_batches_load(tmp_path):
    weights = {k: v for k, v in official_weights("syncnet_v2").items() if not k.endswith("num_batches_tracked")}
    torch.save(weights, tmp_path / "syncnet_v2.model")
    network = load_syncnet_v2(tmp_path / "syncnet_v2.model")
    assert network.netcnnaud[1].num_batches_tracked == 0


@pytest.mark.parametrize("size", [96, 192, 288, 384])
@pytest.mark.parametrize("name, network", [("generator", Generator), ("visual_discriminator", VisualDiscriminator)])
def test_img_size_and_width_are_read_from_the_weights(tmp_path, name, network, size):
    trained = network(size, 0.03)
    write_checkpoint(trained.state_dict(), tmp_path / "bare.pth")
    loaded = LOADERS[name](tmp_path / "bare.pth")
    assert loaded.img_size == size
    assert_same_weights(loaded, trained.state_dict())


@pytest.mark.parametrize("size, T", [(96, 5), (192, 5), (288, 3), (384, 9)])
def test_img_size_width_and_frames_of_an_expert_are_read_from_the_weights(tmp_path, size, T):
    trained = SyncNetExpert(size, 0.05, T)
    write_checkpoint(trained.state_dict(), tmp_path / "bare.pth")
    loaded = load_expert(tmp_path / "bare.pth")
    assert loaded.img_size == size
    assert_same_weights(loaded, trained.state_dict())


def test_any_width_is_recovered_though_channels_are_rounded(tmp_path):
    for width in (0.001, 0.011, 0.0146, 0.2815, 0.3, 0.77):
        with torch.device("meta"):
            shapes = {key: tensor.shape for key, tensor in VisualDiscriminator(width=width).state_dict().items()}
        write_checkpoint({key: torch.tensor(0.5).expand(shape) for key, shape in shapes.items()}, tmp_path / "bare.pth")
        loaded = load_visual_discriminator(tmp_path / "bare.pth")
        assert {key: tensor.shape for key, tensor in loaded.state_dict().items()} == shapes


def test_this_projects_checkpoints_load_each_network_by_its_name(tmp_path):
    generator, discriminator = Generator(192, TINY), VisualDiscriminator(192, TINY)
    networks = {"generator": generator.state_dict(), "visual_discriminator": discriminator.state_dict()}
    path = tmp_path / "checkpoint_step000000001.pth"
    write_checkpoint({"kind": "generator", "hparams": {}, "networks": networks, "step": 1}, path)
    assert_same_weights(load_generator(path), generator.state_dict())
    assert_same_weights(load_visual_discriminator(path), discriminator.state_dict())


def test_loaded_networks_are_frozen_and_in_eval_mode(tmp_path):
    export_official(Generator(width=TINY), tmp_path / "g.pth")
    network = load_generator(tmp_path / "g.pth")
    assert not any(module.training for module in network.modules())
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_half_precision_weights_load_as_float32(tmp_path):
    export_official(SyncNetExpert(width=TINY).half(), tmp_path / "e.pth")
    assert {parameter.dtype for parameter in load_expert(tmp_path / "e.pth").parameters()} == {torch.float32}


# --- the official format, and back ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name, network", [("generator", Generator), ("expert", SyncNetExpert)])
def test_an_exported_network_has_the_official_form_and_computes_the_same_when_loaded_back(tmp_path, name, network):
    exported = network(width=TINY).eval()
    export_official(exported, tmp_path / "out.pth")
    content = read_checkpoint(tmp_path / "out.pth")
    assert content.keys() == {"state_dict", "optimizer", "global_step", "global_epoch"}
    assert content["optimizer"] is None and content["global_step"] == content["global_epoch"] == 0
    loaded = LOADERS[name](tmp_path / "out.pth")
    inputs = torch.rand(1, 1, 80, 16), torch.rand(1, *((6, 96, 96) if name == "generator" else (15, 48, 96)))
    with torch.no_grad():
        torch.testing.assert_close(loaded(*inputs), exported(*inputs), rtol=0, atol=0)


def test_writing_replaces_the_file_as_a_whole_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "out.pth"
    write_checkpoint({"step": 1}, path)
    write_checkpoint({"step": 2}, path)
    assert read_checkpoint(path) == {"step": 2}
    assert os.listdir(tmp_path) == ["out.pth"]


def test_a_write_that_fails_keeps_the_old_file_and_raises(tmp_path):
    path = tmp_path / "out.pth"
    write_checkpoint({"step": 1}, path)
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, unlimited[1]))  # what a full disk does, without filling one
    try:
        with pytest.raises(CheckpointError, match="out.pth could not be written .*: check the folder and the free"):
            write_checkpoint({"w": torch.zeros(100_000)}, path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert read_checkpoint(path) == {"step": 1}
    assert os.listdir(tmp_path) == ["out.pth"]


# --- what is refused ------------------------------------------------------------------------------------------------


def refusal(load, path) -> str:
    with pytest.raises(UserError) as caught:
        load(path)
    message = str(caught.value)
    assert "\n" not in message and path.name in message
    return message


@pytest.mark.parametrize(
    "held, network, called",
    [
        ("generator", Generator, "a generator"),
        ("expert", SyncNetExpert, "a SyncNet expert"),
        ("visual_discriminator", VisualDiscriminator, "a visual discriminator"),
        ("syncnet_v2", SyncNetV2, "Chung's SyncNet v2"),
    ],
)
def test_a_checkpoint_of_another_network_is_named_for_what_it_is(tmp_path, held, network, called):
    with torch.device("meta"):
        shapes = {key: tensor.shape for key, tensor in network().state_dict().items()}
    path = tmp_path / "x.pth"
    torch.save(prefixed({key: torch.tensor(0.5).expand(shape) for key, shape in shapes.items()}), path)
    for wanted, load in LOADERS.items():
        if wanted != held:
            assert f"x.pth holds {called}, not a" in refusal(load, path).replace("not Chung's", "not a")


def test_a_checkpoint_of_this_project_names_the_networks_it_does_hold(tmp_path):
    path = tmp_path / "x.pth"
    write_checkpoint({"kind": "expert", "networks": {"expert": SyncNetExpert(width=TINY).state_dict()}}, path)
    assert "x.pth holds a SyncNet expert, not a generator: name another" in refusal(load_generator, path)


def test_a_network_of_another_architecture_says_which_tensor_differs(tmp_path):
    weights = Generator(width=TINY).state_dict()
    key = "face_encoder_blocks.2.0.conv_block.0.weight"
    weights[key] = weights[key][..., :1, :1]
    write_checkpoint(weights, tmp_path / "wrong_shape.pth")
    message = refusal(load_generator, tmp_path / "wrong_shape.pth")
    assert f"another architecture ({key} is (1, 1, 1, 1), expected (1, 1, 3, 3))" in message

    del weights[key]
    write_checkpoint(weights, tmp_path / "incomplete.pth")
    assert f"({key} is missing)" in refusal(load_generator, tmp_path / "incomplete.pth")


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, {"w": torch.zeros(2)}, {"state_dict": {"conv.weight": 1}}])
def test_a_torch_file_without_a_known_network_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "other.pth")
    assert "other.pth holds no network known here, not a generator" in refusal(load_generator, tmp_path / "other.pth")


def test_a_missing_file_and_a_folder_are_refused(tmp_path):
    assert "none.pth does not exist: check the path" in refusal(read_checkpoint, tmp_path / "none.pth")
    assert "cannot be read (Is a directory)" in refusal(read_checkpoint, tmp_path)


@pytest.mark.parametrize(
    "content, reason", [(b"", "is empty"), (b"<html>Not found</html>", "is not a PyTorch file"), (b"P", "is not a PyT")]
)
def test_a_file_that_is_not_pytorchs_is_refused(tmp_path, content, reason):
    (tmp_path / "page.pth").write_bytes(content)
    assert reason in refusal(read_checkpoint, tmp_path / "page.pth")


@pytest.mark.parametrize("old_format", [False, True], ids=["zip", "before torch 1.6"])
def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path, old_format):
    path = tmp_path / "cut.pth"
    torch.save({"state_dict": {"w": torch.arange(300.0)}}, path, _use_new_zipfile_serialization=not old_format)
    whole = path.read_bytes()
    for length in range(2, len(whole), 41):
        path.write_bytes(whole[:length])
        assert "ask its author" in (message := refusal(read_checkpoint, path)) or "is damaged" in message


def test_a_single_flipped_bit_in_the_weights_is_noticed(tmp_path):
    path = tmp_path / "flipped.pth"
    torch.save({"w": torch.arange(1000.0)}, path)
    content = bytearray(path.read_bytes())
    content[content.index(torch.arange(1000.0).numpy().tobytes()) + 2000] ^= 1
    path.write_bytes(content)
    assert "is damaged or incomplete: copy or download it again" in refusal(read_checkpoint, path)


class RunsCode:
    """Unpickling this would create a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


@pytest.mark.parametrize("old_format", [False, True], ids=["zip", "before torch 1.6"])
def test_a_file_that_would_run_code_is_refused_and_runs_none(tmp_path, old_format):
    path = tmp_path / "evil.pth"
    content = {"state_dict": {}, "optimizer": RunsCode(tmp_path / "ran")}
    torch.save(content, path, _use_new_zipfile_serialization=not old_format)
    assert "would run code when opened (posix.mkdir) and is refused" in refusal(load_generator, path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.filterwarnings("ignore:.*torch.jit")  # deprecated, but such files are about
@pytest.mark.filterwarnings("ignore::torch.jit.TracerWarning")
def test_a_torchscript_program_is_refused_with_the_command_that_takes_its_weights(tmp_path):
    network, path = Generator(width=TINY).eval(), tmp_path / "the author's GAN.pt"
    torch.jit.trace(network, (torch.rand(1, 1, 80, 16), torch.rand(1, 6, 96, 96))).save(path)
    message = refusal(load_generator, path)
    assert "is a TorchScript program, whose code would run, and is refused. If you trust its source" in message

    python, *arguments = shlex.split(message[message.index("python -c") :])
    subprocess.run([sys.executable, *arguments], check=True, capture_output=True)
    loaded = load_generator(tmp_path / "the author's GAN.state_dict.pth")
    assert_same_weights(loaded, network.state_dict())


@pytest.mark.parametrize("suffix", [".safetensors", ".pth"])
def test_an_exported_generator_draws_the_same(tmp_path, suffix):
    network = Generator(96, 0.0625).eval()
    export_official(network, tmp_path / "own.pth")
    out = tmp_path / f"weights{suffix}"
    export.main([str(tmp_path / "own.pth"), "--outfile", str(out)])
    mel, faces = torch.randn(1, 1, 80, 16), torch.rand(1, 6, 96, 96)
    again = load_generator(out)
    assert all(torch.equal(again.state_dict()[key], value) for key, value in network.state_dict().items())
    assert torch.allclose(again(mel, faces), network(mel, faces), atol=1e-6)
    assert not list(tmp_path.glob("*.part"))
    (tmp_path / "other").touch()
    assert out.stat().st_mode == (tmp_path / "other").stat().st_mode  # others may read it as any file


def test_export_refuses_what_it_cannot_write_or_find(tmp_path):
    export_official(Generator(96, 0.0625), tmp_path / "own.pth")
    with pytest.raises(UserError, match="must end in"):
        export.main([str(tmp_path / "own.pth"), "--outfile", str(tmp_path / "weights.onnx")])
    with pytest.raises(UserError, match="itself"):
        export.main([str(tmp_path / "own.pth"), "--outfile", str(tmp_path / "own.pth")])
    export_official(SyncNetExpert(width=0.0625), tmp_path / "expert.pth")
    with pytest.raises(UserError, match="not a generator: name another checkpoint or --network expert"):
        export.main([str(tmp_path / "expert.pth"), "--outfile", str(tmp_path / "weights.pth")])
    (tmp_path / "broken.safetensors").write_bytes(b"no tensors")
    with pytest.raises(UserError, match="damaged"):
        load_generator(tmp_path / "broken.safetensors")
