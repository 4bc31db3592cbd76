"""What generator training promises beyond the loop: baselines, averages, parts, guards and the losses' variants."""

import math
from functools import partial

import numpy as np
import pytest
import torch
import torchvision
from test_training import EXPERT, GENERATOR, at_step, random_batch, train_expert, train_generator

import inference
import train_syncnet
import train_wav2lip
import video
from clips.store import Clip
from errors import UserError
from hparams import resolve
from inference import LipSyncer
from models import (
    Generator,
    LipGanDiscriminator,
    LipGanGenerator,
    Speech2VidGenerator,
    SyncNetExpert,
    VisualDiscriminator,
    export_official,
    load_expert,
    load_generator,
    read_checkpoint,
)
from models.inputs import to_float
from models.vgg import VggFeatures
from training.guards import GeneratorWatchdog, NonFiniteSteps, l1_of_grey
from training.learner import Learner, NonFiniteGradient
from training.losses import contrastive_loss, discriminator_losses, gradient_penalty, stabilised_sync_loss
from training.plot import read_events
from training.recipes.adversary import Adversary
from training.recipes.lipgan import LipGanRecipe
from training.recipes.wav2lip import Wav2LipRecipe

CPU = torch.device("cpu")
BASELINES = {"lipgan": LipGanGenerator, "speech2vid": Speech2VidGenerator}


@pytest.fixture(scope="module")
def expert(store, tmp_path_factory):
    return train_expert(store, tmp_path_factory.mktemp("expert"), 2) / "best.pth"


def recipe_of(overrides: str = "", gan: bool = True) -> Wav2LipRecipe:
    torch.manual_seed(0)
    hp = resolve(overrides=f"{GENERATOR},{overrides}")
    expert = SyncNetExpert(hp.img_size, hp.width, hp.syncnet_T).eval().requires_grad_(False)
    return Wav2LipRecipe(hp, expert, CPU, with_gan=gan)


# baselines


@pytest.mark.parametrize("recipe", BASELINES)
def test_a_baseline_trains_resumes_to_the_bit_and_infers(store, expert, tmp_path, recipe):
    whole = train_generator(store, expert, tmp_path / "whole", 4, "--recipe", recipe)
    parts = train_generator(store, expert, tmp_path / "parts", 2, "--recipe", recipe)
    train_generator(store, expert, parts, 4, "--recipe", recipe, "--resume")
    a, b = at_step(whole, 4), at_step(parts, 4)
    for name, weights in a["networks"].items():
        assert all(torch.equal(value, b["networks"][name][key]) for key, value in weights.items())
    generator = load_generator(whole / "best.pth")
    assert type(generator) is BASELINES[recipe]
    export_official(generator, tmp_path / "bare.pth")
    again = load_generator(tmp_path / "bare.pth")
    mel, faces = torch.randn(1, 2, 1, 80, 16), torch.rand(1, 6, 2, 96, 96)
    assert torch.equal(generator(mel, faces), again(mel, faces))

    face = store / "id0/clip0.mov"
    out = tmp_path / "out.mp4"
    flags = ["--checkpoint_path", str(whole / "best.pth"), "--face", str(face), "--audio", str(face)]
    inference.main([*flags, "--outfile", str(out), "--box", "0", "96", "0", "96", "--device", "cpu"])
    assert out.stat().st_size > 0


def test_a_generator_that_takes_a_still_gets_the_first_face_as_reference_for_all_frames():
    syncer = object.__new__(LipSyncer)
    syncer._still = None
    syncer.generator = Speech2VidGenerator(0.0625)
    first, later = torch.rand(1, 3, 4, 96, 96), torch.rand(1, 3, 2, 96, 96)
    assert torch.equal(syncer._reference(first), first[:, :, :1].expand_as(first))
    assert torch.equal(syncer._reference(later), first[:, :, :1].expand_as(later))
    syncer.generator = LipGanGenerator(0.0625)
    assert torch.equal(syncer._reference(later), later)


def test_speech2vid_never_sees_the_frame_it_replaces():
    network = Speech2VidGenerator(0.0625).eval()
    mel, faces = torch.randn(1, 1, 1, 80, 16), torch.rand(1, 6, 1, 96, 96)
    other = faces.clone()
    other[:, :3] = 0
    assert torch.equal(network(mel, faces), network(mel, other))


@pytest.mark.parametrize("network", [LipGanGenerator, Speech2VidGenerator])
def test_speech_and_reference_change_what_a_baseline_draws(network):
    network = network(0.0625)  # in train mode: a fresh network's statistics would shrink every difference
    mel, faces = torch.randn(2, 3, 1, 80, 16), torch.rand(2, 6, 3, 96, 96)
    drawn = network(mel, faces)
    assert drawn.shape == (2, 3, 3, 96, 96)
    assert not torch.allclose(drawn, network(mel + 1, faces))
    assert not torch.allclose(drawn, network(mel, faces.flip(1)))
    # every frame on its own: a window's frames in another order come out in that order
    assert torch.allclose(network(mel.flip(1), faces.flip(2)), drawn.flip(2), atol=1e-5)


def test_the_lipgan_discriminator_measures_a_distance_of_unit_vectors():
    network = LipGanDiscriminator(0.0625)
    mel, faces = torch.randn(3, 1, 80, 16), torch.rand(3, 3, 96, 96)
    distance = network(mel, faces)
    assert distance.shape == (3,)
    with torch.no_grad():
        for branch in (network.face_branch, network.speech_branch):
            branch[-1].weight.mul_(100)
            branch[-1].bias.mul_(100)
    assert torch.allclose(network(mel, faces), distance, atol=1e-5)


def test_the_contrastive_loss_by_hand():
    distance = torch.tensor([0.5, 0.25, 1.5])
    assert contrastive_loss(distance, torch.tensor([0, 1, 1])) == pytest.approx((0.25 + 0.5625 + 0) / 3)


def test_a_baseline_refuses_settings_of_another_architecture(store, expert, tmp_path):
    with pytest.raises(UserError, match="img_size=96"):
        train_generator(store, expert, tmp_path, 1, "--recipe", "lipgan", hp=GENERATOR + ",img_size=192")


@pytest.mark.parametrize("T", [9, 16])
def test_longer_windows_train_expert_and_generator(store, tmp_path, T):
    long = f"syncnet_T={T}"
    expert = train_expert(store, tmp_path / "expert", 2, hp=f"{EXPERT},{long}") / "best.pth"
    assert load_expert(expert).T == T
    train_syncnet.main(
        ["--data_root", str(store), "--filelists", str(store / "lists"), "--device", "cpu"]
        + ["--evaluate_only", "--checkpoint_path", str(expert), "--hparams", f"{EXPERT},{long}"]
    )
    train_generator(store, expert, tmp_path / "gan", 1, hp=f"{GENERATOR},{long}")
    with pytest.raises(UserError, match="syncnet_T"):
        train_generator(store, expert, tmp_path / "short", 1)
    with pytest.raises(UserError, match="syncnet_mel_step_size"):
        resolve(overrides=f"{long},syncnet_mel_step_size=18")


@pytest.mark.parametrize("img_size", [192, 288])
def test_larger_faces_train_and_infer_with_the_same_commands(store, tmp_path, img_size):
    larger = f"img_size={img_size},store_size={img_size}"
    expert = train_expert(store, tmp_path / "expert", 1, hp=f"{EXPERT},{larger}") / "best.pth"
    folder = train_generator(store, expert, tmp_path / "gan", 1, hp=f"{GENERATOR},{larger}")
    assert load_generator(folder / "best.pth").img_size == img_size
    face = str(store / "id0/clip0.mov")
    flags = ["--checkpoint_path", str(folder / "best.pth"), "--face", face, "--audio", face, "--device", "cpu"]
    inference.main([*flags, "--outfile", str(tmp_path / "out.mp4"), "--box", "0", "96", "0", "96"])
    assert len(list(video.read_frames(tmp_path / "out.mp4"))) == 40


# losses


def test_the_stabilised_sync_loss_is_zero_where_generated_faces_score_as_true_ones_do():
    true, other = torch.tensor([0.9, 0.6]), torch.tensor([0.1, 0.3])
    at_truth = stabilised_sync_loss(true, true, other)
    assert at_truth == 0
    assert stabilised_sync_loss(true, true, true) == 0  # also where the expert cannot tell true from reference
    # by hand: error 0.2 and scale 0.8 of the first, 0.1 and 0.3 of the second; eps 0.01
    by_hand = (math.log(1.01 / 0.81) + math.log(0.41 / 0.31)) / 2
    assert stabilised_sync_loss(torch.tensor([0.7, 0.5]), true, other) == pytest.approx(by_hand, rel=1e-5)


def test_the_stabilised_sync_loss_trains():
    recipe = recipe_of("sync_loss=stabilised", gan=False)
    named = recipe.step(random_batch())
    assert named["loss/sync"] >= 0
    assert named["sync/weight"] == 0.03


def test_label_smoothing_moves_the_target_of_real_faces_only():
    real, fake = torch.zeros(4), torch.zeros(4)
    real_loss, fake_loss = discriminator_losses(torch.full_like(real, 2.0), fake, smoothing=0.1)
    probability = torch.sigmoid(torch.tensor(2.0))
    assert real_loss == pytest.approx(float(-0.9 * probability.log() - 0.1 * (1 - probability).log()), rel=1e-5)
    assert fake_loss == pytest.approx(math.log(2), rel=1e-6)


def test_the_gradient_penalty_of_a_linear_judge_is_its_weight_squared():
    faces = torch.rand(2, 3, 5, 4, 4, requires_grad=True)
    weight = torch.randn(3, 4, 4)
    logits = (faces * weight[:, None]).sum(dim=(1, 3, 4))  # (B, T)
    assert gradient_penalty(logits, faces).item() == pytest.approx(weight.square().sum().item(), rel=1e-5)


def test_one_pass_over_both_kinds_of_faces_gives_the_losses_of_two():
    hp = resolve(overrides=GENERATOR)
    adversary = Adversary(hp, CPU)
    real, fake = torch.rand(2, 3, 5, 96, 96), torch.rand(2, 3, 5, 96, 96)
    _, named = adversary.discriminator_loss(real, fake)
    network: VisualDiscriminator = adversary.discriminator.network
    apart = discriminator_losses(network(real, logits=True), network(fake, logits=True))
    assert named["gan/disc_real"].item() == pytest.approx(apart[0].item(), rel=1e-5)
    assert named["gan/disc_fake"].item() == pytest.approx(apart[1].item(), rel=1e-5)


def test_the_r1_penalty_is_part_of_the_discriminators_loss():
    real, fake = torch.rand(2, 3, 5, 96, 96), torch.rand(2, 3, 5, 96, 96)
    adversary = Adversary(resolve(overrides=f"{GENERATOR},disc_r1_wt=3"), CPU)
    loss, named = adversary.discriminator_loss(real, fake)
    by_hand = named["gan/disc_real"] + named["gan/disc_fake"] + 1.5 * named["gan/r1"]
    assert loss.item() == pytest.approx(by_hand.item(), rel=1e-6)
    assert named["gan/r1"] > 0
    loss.backward()
    assert all(p.grad is not None for name, p in adversary.discriminator.network.named_parameters() if "weight" in name)


def lipgan() -> LipGanRecipe:
    torch.manual_seed(0)
    hp = resolve(overrides=GENERATOR)
    return LipGanRecipe(hp, SyncNetExpert(hp.img_size, hp.width).eval().requires_grad_(False), CPU)


def test_lipgans_total_is_l1_and_a_hundredth_of_the_match_and_its_judge_steps_on_its_own_loss_only():
    recipe, batch = lipgan(), random_batch()
    named = recipe.step(batch)
    assert named["loss/total"].item() == pytest.approx((named["loss/l1"] + 0.01 * named["loss/match"]).item(), rel=1e-6)
    # What the judge's step used is untouched by the generator's loss, which went through the judge afterwards.
    again = lipgan()
    loss, _ = again._judge_loss(batch, (0, 1))
    again.judge.zero_grad()
    loss.backward()
    for used, alone in zip(recipe.judge.network.parameters(), again.judge.network.parameters(), strict=True):
        assert torch.equal(used.grad, alone.grad)


def test_lipgans_judge_sees_faces_drawn_in_eval_mode():
    recipe = lipgan()
    before = {key: value.clone() for key, value in recipe.networks["generator"].state_dict().items()}
    for step in range(4):  # both lots come up
        recipe.steps = step
        recipe._judge_loss(random_batch(), (0, 1))
    assert all(torch.equal(value, before[key]) for key, value in recipe.networks["generator"].state_dict().items())


# what a person looks at


def test_sample_videos_show_original_and_generated_with_the_sound_of_the_stretch(store, expert, tmp_path):
    settings = GENERATOR.replace("sample_interval=0", "sample_interval=2")
    train_generator(store, expert, tmp_path, 4, "--recipe", "wav2lip", hp=settings)
    names = sorted(path.name for path in (tmp_path / "samples").iterdir())
    assert names[:2] == ["step000000000_id0_clip0.mp4", "step000000000_id0_clip1.mp4"]
    assert len(names) == 6
    path = tmp_path / "samples" / names[0]
    frames = list(video.read_frames(path))
    # 40 frames, of which the generator's windows are 1 to 36: of every fifth start, five frames each
    assert len(frames) == 35
    assert frames[0].shape == (96, 192, 3)
    truth = Clip(store / "id0/clip0").read(1, 1)[0].astype(float)
    assert np.abs(frames[0][:, :96] - truth).mean() < 12  # H.264
    assert np.abs(frames[0][:, 96:] - truth).mean() > 12
    speech = video.read_audio(path, 16000)
    assert len(speech) == pytest.approx(35 * 640, abs=64)
    own = Clip(store / "id0/clip0").speech()[640 : 36 * 640]
    assert np.corrcoef(speech[: len(own)], own[: len(speech)])[0, 1] > 0.8


# learners


def test_the_average_follows_the_weights_and_is_what_inference_loads(store, expert, tmp_path):
    folder = train_generator(store, expert, tmp_path, 4, hp=GENERATOR + ",ema_decay=0.5")
    networks = at_step(folder, 4)["networks"]
    key = "face_encoder_blocks.0.0.conv_block.0.weight"
    assert not torch.equal(networks["generator"][key], networks["generator_ema"][key])
    loaded = load_generator(folder / "checkpoint_step000000004.pth")
    assert torch.equal(loaded.state_dict()[key], networks["generator_ema"][key])


def test_the_average_by_hand():
    hp = resolve()
    learner = Learner(torch.nn.Linear(1, 1, bias=False), 0.1, (0.9, 0.999), hp, CPU, ema_decay=0.5)
    average = weight = learner.network.weight.item()
    for step in range(20):
        learner.zero_grad()
        learner(torch.ones(1, 1)).sum().backward()
        learner.step(step)
        weight = learner.network.weight.item()
        keep = min(0.5, (1 + step) / (10 + step))
        average = keep * average + (1 - keep) * weight
    assert learner.averaged.network.weight.item() == pytest.approx(average, abs=1e-5)
    assert abs(average - weight) > 0.05


def test_the_average_has_the_average_statistics():
    norm = torch.nn.Sequential(torch.nn.BatchNorm2d(1))
    learner = Learner(norm, 0.1, (0.9, 0.999), resolve(), CPU, ema_decay=0.5)
    average = 0.0
    for step in range(5):
        learner.zero_grad()
        learner(torch.full((2, 1, 2, 2), float(step)) + torch.arange(4).view(1, 1, 2, 2)).sum().backward()
        learner.step(step)
        keep = min(0.5, (1 + step) / (10 + step))
        average = keep * average + (1 - keep) * norm[0].running_mean.item()
    kept = learner.averaged.network[0]
    assert kept.running_mean.item() == pytest.approx(average, rel=1e-5)
    assert kept.running_mean.item() < norm[0].running_mean.item() - 0.1
    assert kept.num_batches_tracked == 5


def test_a_run_without_an_average_goes_on_with_one(store, expert, tmp_path):
    train_generator(store, expert, tmp_path, 2)
    folder = train_generator(store, expert, tmp_path, 4, "--resume", hp=GENERATOR + ",ema_decay=0.9")
    assert "generator_ema" in at_step(folder, 4)["networks"]


def gradients_of(recipe: Wav2LipRecipe) -> dict[str, torch.Tensor]:
    """Of the last step, each network's as one vector."""
    nets = {name: net for name, net in recipe.networks.items() if not name.endswith("_ema")}
    return {name: torch.cat([p.grad.flatten() for p in net.parameters()]) for name, net in nets.items()}


def test_a_batch_in_parts_has_the_mean_of_the_parts_gradients():
    batch = random_batch()
    whole = recipe_of("accumulate=2")
    whole.step(batch)
    halves = []
    for i in range(2):
        half = recipe_of()
        half.step({name: value[i : i + 1] for name, value in batch.items()})
        halves.append(gradients_of(half))
    # The discriminator learns from faces drawn before the generator's step, so both networks can be compared.
    for name, gradient in gradients_of(whole).items():
        mean = (halves[0][name] + halves[1][name]) / 2
        assert (gradient - mean).norm() < 0.02 * mean.norm(), name


def test_parts_must_divide_the_batch(store, tmp_path):
    train_expert(store, tmp_path / "even", 2, hp=EXPERT + ",accumulate=2")
    with pytest.raises(UserError, match="accumulate=3"):
        train_expert(store, tmp_path / "odd", 2, hp=EXPERT + ",accumulate=3")


def test_gradients_are_clipped_to_the_norm():
    learner = Learner(torch.nn.Linear(1, 1, bias=False), 0.1, (0.9, 0.999), resolve(overrides="clip_grad_norm=2"), CPU)
    learner.zero_grad()
    (100 * learner(torch.ones(1, 1))).sum().backward()
    assert learner.step(0) == pytest.approx(100)
    assert learner.network.weight.grad.item() == pytest.approx(2, rel=1e-4)


def test_bf16_trains_with_losses_in_fp32():
    named = recipe_of("precision=bf16").step(random_batch())
    assert all(math.isfinite(value) for value in named.values())
    assert named["loss/l1"].dtype == torch.float32


@pytest.mark.parametrize("network", [Generator, LipGanGenerator, Speech2VidGenerator])
def test_in_bf16_a_bright_pixel_still_learns(network):
    sigmoid = network(width=0.0625).output_block[-1]
    logits = torch.tensor([6.5, 10.0], dtype=torch.bfloat16, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        face = sigmoid(logits)
    face.sum().backward()
    assert (face < 1).all() and (logits.grad > 0).all()


# guards


def test_compiled_networks_learn_what_plain_ones_do_and_their_checkpoints_open_alike(store, tmp_path, monkeypatch):
    # Traced and differentiated as by the default backend, but without the C++ compiler it needs.
    compiled, compile_network = [], partial(torch.compile, backend="aot_eager")
    monkeypatch.setattr(torch, "compile", lambda network: compiled.append(network) or compile_network(network))
    plain, fast = (
        train_expert(store, tmp_path / f"expert{i}", 2, hp=EXPERT + more)
        for i, more in enumerate(("", ",compile=true"))
    )
    assert len(compiled) == 1
    assert_close_networks(at_step(plain, 2), at_step(fast, 2))
    plain, fast = (
        train_generator(store, plain / "best.pth", tmp_path / f"gan{i}", 3, hp=GENERATOR + more)
        for i, more in enumerate(("", ",compile=true"))
    )
    assert len(compiled) == 4  # generator, frozen expert, discriminator
    assert_close_networks(at_step(plain, 3), at_step(fast, 3))
    assert isinstance(load_generator(fast / "best.pth"), torch.nn.Module)


def assert_close_networks(a: dict, b: dict) -> None:
    for name, weights in a["networks"].items():
        assert weights.keys() == b["networks"][name].keys()
        for key, value in weights.items():
            assert torch.allclose(value, b["networks"][name][key], atol=1e-4), (name, key)


def poisoned(batch: dict) -> dict:
    batch["frame_mels"][0, 0, 0, 0] = float("nan")
    return batch


def test_a_gradient_that_is_no_number_leaves_weights_and_statistics_alone():
    recipe = recipe_of("on_nonfinite=skip")
    before = {key: value.clone() for key, value in recipe.networks["generator"].state_dict().items()}
    with pytest.raises(NonFiniteGradient):
        recipe.step(poisoned(random_batch()))
    after = recipe.networks["generator"].state_dict()
    assert all(torch.equal(value, after[key]) for key, value in before.items())
    assert recipe.steps == 1
    assert math.isfinite(recipe.step(random_batch())["loss/total"])


@pytest.mark.parametrize("then", ["stop", "skip"])
def test_a_clip_with_a_broken_mel_is_named_and_stops_the_run_or_is_skipped(store, expert, tmp_path, monkeypatch, then):
    from clips.dataset import GeneratorDataset

    good = GeneratorDataset.__getitem__

    def bad(self, draw):
        sample = good(self, draw)
        if self.corpus.names[draw.clip] == "id2/clip1":
            sample["frame_mels"] = sample["frame_mels"] * float("nan")
        return sample

    monkeypatch.setattr(GeneratorDataset, "__getitem__", bad)
    settings = f"{GENERATOR},on_nonfinite={then},eval_interval=100"
    if then == "stop":
        with pytest.raises(UserError, match="nonfinite_steps"):
            train_generator(store, expert, tmp_path, 8, hp=settings)
    else:
        train_generator(store, expert, tmp_path, 8, hp=settings)
        weights = at_step(tmp_path, 8)["networks"]["generator"]
        assert all(torch.isfinite(value.float()).all() for value in weights.values())
    assert "id2/clip1" in (tmp_path / "nonfinite_steps_rank0.txt").read_text()


def warnings_of(means: dict, periods: int = 1, overrides: str = "") -> list[str]:
    watch = GeneratorWatchdog(resolve(overrides=f"guard_steps=10,{overrides}"), 0, grey_l1=0.11)
    said = (watch(step, means) for step in range(1, 10 * periods + 1))
    return [text for text in said if text]


def test_healthy_training_gives_no_warning():
    healthy = {"loss/l1": 0.05, "loss/sync": 1.2, "loss/gan": 0.9, "gan/disc_accuracy": 0.7}
    assert warnings_of(healthy, periods=20) == []


def test_a_saturated_discriminator_is_named_with_its_remedy_and_not_at_every_period():
    said = warnings_of({"gan/disc_accuracy": 1.0, "loss/gan": 9.0}, periods=9)
    assert len(said) == 4  # the 1st, 2nd, 4th and 8th
    assert "saturated" in said[0]
    assert "disc_initial_learning_rate" in said[0]


def test_a_saturated_discriminator_of_lipgan_is_named_too():
    (said,) = warnings_of({"gan/disc_accuracy": 1.0, "loss/match": 1.3})
    assert "LipGAN's discriminator is saturated" in said
    assert "disc_r1_wt" not in said  # which the recipe does not know


def test_a_picture_that_is_not_learnt_is_blamed_on_the_weights():
    said = warnings_of({"loss/l1": 0.12, "loss/sync": 0.01}, periods=3, overrides="syncnet_wt=0.9")
    assert len(said) == 2  # not at the first period: every run begins so
    assert "not learnt: L1 0.1200 over a whole period, and plain grey has 0.1100" in said[0]
    assert "syncnet_wt (now 0.9)" in said[0]
    assert "disc_wt" not in said[0]
    assert not warnings_of({"loss/l1": 0.1, "loss/sync": 0.01}, periods=3, overrides="syncnet_wt=0.9")


def test_grey_is_measured_against_each_window():
    dark_and_light = [np.full((5, 4, 4, 3), grey, np.uint8) for grey in (40, 200)]
    assert l1_of_grey(dark_and_light) == 0
    dark_and_light[0][:, :2] += 51
    assert l1_of_grey(dark_and_light) == pytest.approx(0.05)


def test_skipped_steps_are_counted_aloud_and_end_the_run_where_there_is_nothing_else(tmp_path, capsys):
    skip = NonFiniteSteps(tmp_path, ["id1/clip0"], resolve(overrides="on_nonfinite=skip"))
    batch = {"clip": torch.tensor([0])}
    for step in (3, *range(5, 104)):
        assert skip(step, batch) == {"gradient/skipped_steps": 1.0}
    said = capsys.readouterr().out.splitlines()
    assert [line.split()[-5] for line in said] == ["1", "2", "4", "8", "16", "32", "64"]
    assert said[1].startswith("step 5: skipped")
    with pytest.raises(UserError, match="gradients of 100 steps in a row.*lower the learning rate"):
        skip(104, batch)


def test_an_exploded_sync_loss_is_named_with_its_remedy():
    (said,) = warnings_of({"loss/sync": 18.0})
    assert "exploded" in said
    assert "syncnet_wt" in said


def test_a_picture_that_gets_worse_is_blamed_on_the_other_losses():
    watch = GeneratorWatchdog(resolve(overrides="guard_steps=10"), 0, grey_l1=0.11)
    said = [watch(step, {"loss/l1": 0.05 if step <= 10 else 0.09}) for step in range(1, 21)]
    assert [text is not None for text in said].count(True) == 1
    assert "L1 0.0900, it was 0.0500" in said[-1]


def test_a_run_from_a_collapsed_discriminator_says_so(store, expert, tmp_path, capsys):
    hp = resolve(overrides=GENERATOR)
    sure = VisualDiscriminator(hp.img_size, hp.width)
    torch.nn.init.constant_(sure.binary_pred[0].bias, -30.0)  # to it, everything is fake
    export_official(sure, tmp_path / "sure.pth")
    settings = f"{GENERATOR},guard_steps=2,eval_interval=100,disc_initial_learning_rate=1e-9"
    flags = ["--recipe", "wav2lip_gan", "--disc_checkpoint_path", str(tmp_path / "sure.pth")]
    train_generator(store, expert, tmp_path / "run", 4, *flags, hp=settings)
    said = capsys.readouterr().out
    assert "warning: the discriminator has collapsed" in said
    assert "without --disc_checkpoint_path" in said


def test_a_discriminator_that_wins_every_time_is_called_saturated():
    hp = resolve(overrides=f"{GENERATOR},guard_steps=10,disc_initial_learning_rate=0.01")
    adversary, watch = Adversary(hp, CPU), GeneratorWatchdog(hp, 0, grey_l1=0.11)
    bright, dark = torch.ones(2, 3, 5, 96, 96), torch.zeros(2, 3, 5, 96, 96)
    said = []
    for step in range(1, 61):
        adversary.discriminator.zero_grad()
        loss, named = adversary.discriminator_loss(bright, dark)
        loss.backward()
        adversary.discriminator.step(step)
        named["loss/gan"] = adversary.generator_loss(dark)
        said.append(watch(step, {name: torch.as_tensor(value).item() for name, value in named.items()}))
    assert any(text and "saturated" in text for text in said)


def test_a_run_with_an_expert_that_denies_everything_says_so(store, tmp_path, capsys):
    hp = resolve(overrides=GENERATOR)
    expert = SyncNetExpert(hp.img_size, hp.width, hp.syncnet_T)
    # Speech lights one half of the embedding and faces the other, so P_sync is 0 whatever they are.
    for encoder, side in ((expert.audio_encoder, 1.0), (expert.face_encoder, -1.0)):
        norm = encoder[-1].conv_block[1]
        torch.nn.init.zeros_(norm.weight)
        with torch.no_grad():
            norm.bias.copy_(side * torch.linspace(-1, 1, len(norm.bias)).sign())
    export_official(expert, tmp_path / "denies.pth")
    settings = f"{GENERATOR},guard_steps=2,eval_interval=100"
    train_generator(store, tmp_path / "denies.pth", tmp_path / "run", 4, "--recipe", "wav2lip", hp=settings)
    said = capsys.readouterr().out
    assert "warning: the sync loss has exploded" in said
    assert "lower syncnet_wt (now 0.03)" in said


def test_a_run_with_a_wrong_sync_weight_says_so(store, expert, tmp_path, capsys):
    settings = f"{GENERATOR},guard_steps=2,eval_interval=100,syncnet_wt=0.99,initial_learning_rate=1e-9"
    train_generator(store, expert, tmp_path / "run", 6, "--recipe", "wav2lip", hp=settings)
    said = capsys.readouterr().out
    assert "warning: the picture is not learnt" in said
    assert "lower initial_learning_rate (now 1e-09) or syncnet_wt (now 0.99)" in said


# perceptual loss, chin jitter


@pytest.fixture(scope="module")
def vgg_file(tmp_path_factory):
    """A file as torchvision's, with weights made here."""
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("vgg") / "vgg16.pth"
    network = torchvision.models.vgg16(weights=None)
    torch.save({k: v for k, v in network.state_dict().items() if not k.startswith("classifier")}, path)
    return path


def test_vgg_features_are_torchvisions_of_a_normalised_rgb_picture(vgg_file):
    features, frames = VggFeatures(vgg_file), torch.rand(2, 3, 32, 32)
    reference = torchvision.models.vgg16(weights=None).eval()
    reference.load_state_dict(torch.load(vgg_file, weights_only=True), strict=False)
    normalise = torchvision.transforms.Normalize((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    found = features(frames)
    assert [tuple(layer.shape[1:]) for layer in found] == [(64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4)]
    with torch.no_grad():
        assert torch.allclose(found[-1], reference.features[:23](normalise(frames.flip(1))), atol=1e-5)
    assert not any(p.requires_grad for p in features.parameters())
    before = torch.get_rng_state()
    VggFeatures(vgg_file)
    assert torch.equal(torch.get_rng_state(), before)  # a run with it starts from the weights of one without


def test_a_perceptual_loss_trains_and_is_part_of_the_total(store, expert, vgg_file, tmp_path):
    hp = f"{GENERATOR},perceptual_wt=0.1,batch_size=2"
    flags = ["--vgg_checkpoint_path", str(vgg_file)]
    folder = train_generator(store, expert, tmp_path / "run", 1, *flags, hp=hp)
    events = {tag: points[-1][2] for tag, points in read_events(folder).items()}
    by_hand = 0.9 * events["loss/l1"] + 0.03 * events["loss/sync"] + 0.07 * events["loss/gan"]
    assert events["loss/perceptual"] > 0
    assert events["loss/total"] == pytest.approx(by_hand + 0.1 * events["loss/perceptual"], rel=1e-5)
    assert set(read_checkpoint(folder / "best.pth")["networks"]) == {"generator", "visual_discriminator"}


def test_a_perceptual_loss_without_vgg_is_refused(store, expert, vgg_file, tmp_path):
    hp = f"{GENERATOR},perceptual_wt=0.1"
    with pytest.raises(UserError, match="needs --vgg_checkpoint_path: torchvision's vgg16-397923af.pth"):
        train_generator(store, expert, tmp_path, 1, hp=hp)
    with pytest.raises(UserError, match="perceptual_wt=0.1 is for the recipes wav2lip and wav2lip_gan"):
        train_generator(store, expert, tmp_path, 1, "--recipe", "lipgan", "--vgg_checkpoint_path", str(vgg_file), hp=hp)
    with pytest.raises(UserError, match="is not used: set perceptual_wt"):
        train_generator(store, expert, tmp_path, 1, "--vgg_checkpoint_path", str(vgg_file))
    with pytest.raises(UserError, match="holds no weights of VGG16"):
        train_generator(store, expert, tmp_path, 1, "--vgg_checkpoint_path", str(expert), hp=hp)


def test_the_chin_is_moved_in_training_only_and_of_target_and_reference_apart():
    recipe, batch = recipe_of("chin_jitter=0.1"), random_batch()
    plain = to_float(batch["target"])
    assert torch.equal(recipe.generate(batch, recipe.generator)[0], plain)
    batch["reference"] = batch["target"]
    truth, faces, _ = recipe.generate(batch, recipe.generator, (0, 1))
    assert not torch.allclose(truth, plain)
    assert not torch.allclose(truth, faces[:, 3:])
    assert torch.equal(recipe.generate(batch, recipe.generator, (0, 1))[0], truth)  # drawn by step


def test_weights_that_leave_none_for_l1_are_refused_where_they_count():
    with pytest.raises(UserError, match="L1 has the rest of 1.*lower them"):
        train_wav2lip.check_settings("wav2lip_gan", resolve(overrides="syncnet_wt=0.95"), None)
    train_wav2lip.check_settings("wav2lip", resolve(overrides="syncnet_wt=0.95"), None)
    train_wav2lip.check_settings("lipgan", resolve(overrides="syncnet_wt=1"), None)
    with pytest.raises(UserError, match="set speech_encoder_init=random"):
        train_wav2lip.check_settings("wav2lip", resolve(overrides="syncnet_T=9,speech_encoder_init=expert"), None)
