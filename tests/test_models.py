"""models: the networks equal the official ones, number for number, and grow and shrink by width and img_size alone."""

import numpy as np
import pytest
import torch
from golden_weights import SEEDS, golden_file, golden_state_dict, official

from models import Generator, SyncNetExpert, SyncNetV2, VisualDiscriminator
from models.blocks import scaled
from models.inputs import expert_faces, fold_time, generator_faces, to_float, unfold_time

CLASSES = {
    "generator": Generator,
    "expert": SyncNetExpert,
    "visual_discriminator": VisualDiscriminator,
    "syncnet_v2": SyncNetV2,
}
TINY = 1 / 32
SIZES = (96, 192, 288, 384)


def golden_network(name: str) -> torch.nn.Module:
    with torch.device("meta"):
        network = CLASSES[name]()
    network.load_state_dict(golden_state_dict(name), assign=True)
    return network.eval()


def assert_golden(ours: torch.Tensor, golden: torch.Tensor):
    """Right float32 implementations differ by up to 4e-5 of values near 1, through the order of their sums."""
    torch.testing.assert_close(ours, golden, rtol=0, atol=1e-4 * max(1.0, golden.abs().max().item()))


# --- equal to the official networks ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SEEDS)
def test_keys_shapes_and_parameter_count_are_the_official_ones(name):
    with torch.device("meta"):
        network = CLASSES[name]()
    shapes = {key: list(tensor.shape) for key, tensor in network.state_dict().items()}
    assert list(shapes.items()) == list(official(name)["shapes"].items())
    assert sum(p.numel() for p in network.parameters()) == official(name)["parameters"]


@pytest.fixture(scope="module")
def generator_inputs() -> dict[str, torch.Tensor]:
    """Inputs of the generator's goldens: drawn again in this order, since they would take megabytes."""
    rng = np.random.default_rng(150)

    def mel(*shape):
        return torch.from_numpy(rng.uniform(-4, 4, shape).astype(np.float32))

    def faces(*shape, masked=True):
        drawn = rng.random(shape).astype(np.float32)
        if masked:
            drawn[:, :3, ..., 48:, :] = 0
        return torch.from_numpy(drawn)

    return {
        "mel4": mel(2, 1, 80, 16),
        "face4": faces(2, 6, 96, 96),
        "mel5": mel(2, 5, 1, 80, 16),
        "face5": faces(2, 6, 5, 96, 96),
        "train_mel": mel(4, 1, 80, 16),
        "train_face": faces(4, 6, 96, 96, masked=False),
    }


@torch.no_grad()
def test_generator_equals_the_official_one_on_frames_windows_and_in_train_mode(generator_inputs):
    inputs, golden = generator_inputs, golden_file("generator")  # kept: every fourth row and column, two frames of five
    generator = golden_network("generator")
    assert_golden(generator(inputs["mel4"], inputs["face4"])[..., ::4, ::4], golden["out4"])
    assert_golden(generator(inputs["mel5"][:, :2], inputs["face5"][:, :, :2])[..., ::4, ::4], golden["out5"])
    state = {key: tensor.clone() for key, tensor in generator.state_dict().items()}  # train mode writes statistics
    generator.load_state_dict(state, assign=True)
    generator.train()
    assert_golden(generator(inputs["train_mel"], inputs["train_face"])[..., ::4, ::4], golden["train_out"])


@torch.no_grad()
def test_expert_equals_the_official_one():
    golden = golden_file("expert")
    audio_embedding, face_embedding = golden_network("expert")(golden["mel"], golden["face"])
    assert_golden(audio_embedding, golden["audio_embedding"])
    assert_golden(face_embedding, golden["face_embedding"])


@torch.no_grad()
def test_visual_discriminator_equals_the_official_one_and_never_looks_at_the_upper_half():
    golden = golden_file("visual_discriminator")
    discriminator = golden_network("visual_discriminator")
    lower_half = golden["lower_half"]  # (2, 3, 2, 48, 96)
    faces = torch.cat([torch.full_like(lower_half, torch.nan), lower_half], dim=3)
    probabilities = discriminator(faces)
    # Finer than the other goldens: with these weights all faces get 0.52 to 0.53, and implementations agree to 1e-6.
    torch.testing.assert_close(probabilities, golden["pred"], rtol=0, atol=1e-5)
    assert torch.equal(discriminator(faces, logits=True).sigmoid(), probabilities)


@torch.no_grad()
def test_syncnet_v2_equals_the_official_one():
    golden = golden_file("syncnet_v2")
    syncnet = golden_network("syncnet_v2")
    assert_golden(syncnet.forward_audio(golden["mfcc"]), golden["aud_out"])
    frames = golden["low"].repeat_interleave(16, 1).repeat_interleave(16, 2).float()  # (6, 224, 224, 3)
    windows = frames.unfold(0, 5, 1).permute(0, 3, 4, 1, 2)  # (2, 3, 5, 224, 224)
    assert_golden(syncnet.forward_lip(windows), golden["face_features"])


# --- width and img_size ---------------------------------------------------------------------------------------------


@torch.no_grad()
@pytest.mark.parametrize("size, width", [(96, 0.25), (96, 0.125)] + [(size, TINY) for size in SIZES])
def test_networks_of_every_size_and_width_give_the_right_shapes_and_ranges(size, width):
    mel, faces = torch.rand(1, 2, 1, 80, 16), torch.rand(1, 6, 2, size, size)
    made = Generator(size, width).eval()(mel, faces)
    assert made.shape == (1, 3, 2, size, size)
    assert made.min() >= 0 and made.max() <= 1
    assert VisualDiscriminator(size, width).eval()(made).shape == (2, 1)
    embeddings = SyncNetExpert(size, width).eval()(mel[:, 0], torch.rand(1, 15, size // 2, size))
    for embedding in embeddings:
        assert embedding.shape == (1, 512 * width)


@torch.no_grad()
@pytest.mark.parametrize("size", SIZES)
def test_identity_maps_go_down_to_one_pixel_and_the_decoder_comes_back_through_the_same_sides(size):
    generator = Generator(size, TINY).eval()
    maps = generator.face_encoder_blocks(torch.rand(1, 6, size, size))
    assert [m.shape[-1] for m in maps[:6]] == [size // 2**stage for stage in range(6)]
    assert [m.shape[-1] for m in maps[-2:]] == [3, 1]
    x = torch.rand(1, 16, 1, 1)
    for stage, same_side in zip(generator.face_decoder_blocks, reversed(maps), strict=True):
        x = torch.cat([stage(x), same_side], dim=1)  # concatenates only what has the same side
    assert x.shape[-1] == size


def test_half_the_width_is_about_a_quarter_of_the_parameters():
    def count(width):
        return sum(p.numel() for p in Generator(width=width).parameters())

    assert count(0.5) == pytest.approx(official("generator")["parameters"] / 4, rel=0.01)


def test_channels_are_rounded_and_never_zero():
    assert [scaled(channels, 0.25) for channels in (16, 32, 384, 512)] == [4, 8, 96, 128]
    assert scaled(16, 0.001) == 1


@torch.no_grad()
def test_faces_of_another_size_than_the_network_are_refused():
    mel, faces = torch.rand(1, 1, 80, 16), torch.rand(1, 6, 192, 192)
    with pytest.raises(AssertionError, match="96, .*192"):
        Generator(96, TINY)(mel, faces)
    with pytest.raises(AssertionError, match="96, .*192"):
        SyncNetExpert(96, TINY)(mel, torch.rand(1, 15, 96, 192))
    with pytest.raises(AssertionError, match="96, .*192"):
        VisualDiscriminator(96, TINY)(faces[:, :3, None])


# --- what the networks promise --------------------------------------------------------------------------------------


@torch.no_grad()
def test_a_window_is_made_frame_by_frame_each_from_its_own_mel():
    generator = Generator(width=TINY).eval()
    mel, faces = torch.rand(2, 3, 1, 80, 16), torch.rand(2, 6, 3, 96, 96)
    window = generator(mel, faces)
    for t in range(3):
        torch.testing.assert_close(window[:, :, t], generator(mel[:, t], faces[:, :, t]))


@torch.no_grad()
def test_expert_embeddings_have_unit_length_and_no_negative_values():
    for embedding in SyncNetExpert(width=TINY)(torch.randn(4, 1, 80, 16), torch.randn(4, 15, 48, 96)):
        torch.testing.assert_close(embedding.norm(dim=1), torch.ones(4))
        assert embedding.min() >= 0


def test_every_weight_learns():
    generator, discriminator, expert = Generator(width=TINY), VisualDiscriminator(width=TINY), SyncNetExpert(width=TINY)
    mel, faces = torch.rand(2, 5, 1, 80, 16), torch.rand(2, 6, 5, 96, 96)
    made = generator(mel, faces)
    audio_embedding, face_embedding = expert(mel[:, 0], expert_faces(made))
    loss = discriminator(made, logits=True).sum() + (audio_embedding * face_embedding).sum() + made.sum()
    loss.backward()
    for network in (generator, discriminator, expert):
        assert [name for name, p in network.named_parameters() if p.grad is None] == []


# --- inputs ---------------------------------------------------------------------------------------------------------


def test_stored_bytes_become_float_channels_first():
    stored = torch.randint(0, 256, (2, 5, 4, 6, 3), dtype=torch.uint8)
    faces = to_float(stored)
    assert faces.shape == (2, 3, 5, 4, 6) and faces.dtype == torch.float32
    assert faces[1, 2, 3, 0, 5] == stored[1, 3, 0, 5, 2] / 255


def test_generator_sees_the_target_without_its_lower_half_and_the_whole_reference():
    target, reference = torch.rand(2, 3, 5, 8, 8), torch.rand(2, 3, 5, 8, 8)
    kept = target.clone()
    faces = generator_faces(target, reference)
    assert torch.equal(faces[:, :3, :, :4], target[:, :, :, :4])
    assert (faces[:, :3, :, 4:] == 0).all()
    assert torch.equal(faces[:, 3:], reference)
    assert torch.equal(target, kept)


def test_a_higher_mask_hides_more_of_the_target_and_nothing_of_the_reference():
    target, reference = torch.rand(2, 3, 5, 8, 8), torch.rand(2, 3, 5, 8, 8)
    faces = generator_faces(target, reference, mask_top=0.25)
    assert torch.equal(faces[:, :3, :, :2], target[:, :, :, :2])
    assert (faces[:, :3, :, 2:] == 0).all()
    assert torch.equal(faces[:, 3:], reference)


def test_expert_sees_lower_halves_in_time_order_along_the_channels():
    frames = torch.rand(2, 3, 5, 8, 6)
    faces = expert_faces(frames)
    assert faces.shape == (2, 15, 4, 6)
    for t in range(5):
        for c in range(3):
            assert torch.equal(faces[:, 3 * t + c], frames[:, c, t, 4:])


def test_time_is_folded_time_major_and_unfolded_again():
    faces = torch.rand(2, 3, 5, 4, 4)
    folded = fold_time(faces)
    assert torch.equal(folded[2 * 3 + 1], faces[1, :, 3])  # frame 3 of clip 1, after three frames of two clips
    assert torch.equal(unfold_time(folded, T=5), faces)
