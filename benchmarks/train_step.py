"""How long a training step takes: the recipes of train_wav2lip.py and train_syncnet.py against the original's loop.

    OMP_NUM_THREADS=1 python -m benchmarks.train_step
    python -m benchmarks.train_step --device cuda --width 1 --batch_size 16 --steps 50

Same networks, weights and made-up batches on both sides, the sync loss always on. A step begins with a batch on the
CPU as the side's own loader hands it over (ours uint8, the original's float32) and ends with the weights updated.

With one CPU thread the time is what the processor spent on it, which other jobs on the machine change little; else it
is the clock's.

Before timing, the first step of both must give the same losses. For that step alone the original's expert is in eval
mode, as ours is; it then goes on in train mode, where the official code leaves it.
"""

import copy
import time
from collections.abc import Callable
from functools import partial

import torch

import hparams
import train_wav2lip
from benchmarks.original_way import OriginalExpertStep, OriginalWav2LipStep
from benchmarks.side_by_side import SideBySide, machine_facts, parser, positive
from errors import run_script
from hparams import HParams
from models import SyncNetExpert, usable_device
from models.inputs import expert_faces, generator_faces, to_float
from training.recipes.expert import ExpertRecipe, MultiwayExpertRecipe

Step = Callable[[], dict]
OF_THE_PAPER = {name: train_wav2lip.RECIPES[name] for name in ("wav2lip", "wav2lip_gan")}
NO_AUGMENTATION = "syncnet_flip=0,syncnet_shift_px=0,syncnet_colour=0,syncnet_blur=0"  # the original has none


def main(argv=None):
    args = parse_args(argv)
    hp = hparams.resolve(overrides=f"width={args.width},batch_size={args.batch_size},sync_gate=inf,{NO_AUGMENTATION}")
    device = usable_device(args.device)
    torch.manual_seed(hp.seed)

    cases = {name: partial(wav2lip_steps, recipe) for name, recipe in OF_THE_PAPER.items()}
    cases |= {"expert, bce": bce_expert_steps, "expert, multiway": multiway_expert_steps}
    table = SideBySide("benchmarks.train_step", argv, args, per="step")
    for case, steps_of in cases.items():
        ours, original = steps_of(hp, device)
        table.compare(case, partial(seconds, ours, args.steps, device), partial(seconds, original, args.steps, device))
    table.finish(machine_facts(args.device))


def wav2lip_steps(make_recipe: Callable, hp: HParams, device: torch.device) -> tuple[Step, Step]:
    """The step of our recipe and the original's, which have given the same losses once."""
    expert = SyncNetExpert(hp.img_size, hp.width, hp.syncnet_T).eval().requires_grad_(False)
    recipe = make_recipe(hp, expert, device)
    generator, discriminator = (as_original(recipe.networks.get(n)) for n in ("generator", "visual_discriminator"))
    original = OriginalWav2LipStep(generator, as_original(recipe.expert.network), discriminator, hp)
    batch = {
        "target": random_faces(hp),
        "reference": random_faces(hp),
        "mel": random_mels(hp, hp.batch_size),
        "frame_mels": random_mels(hp, hp.batch_size, hp.syncnet_T),
    }
    truth = to_float(batch["target"])
    faces = generator_faces(truth, to_float(batch["reference"]))
    ours = our_step(recipe, batch, device)
    originals = original_step(original, (faces, batch["frame_mels"][:, :, None], batch["mel"][:, None], truth), device)

    original.expert.eval()
    assert_same(ours(), originals())
    original.expert.train()
    return ours, originals


def bce_expert_steps(hp: HParams, device: torch.device) -> tuple[Step, Step]:
    """The paper's pairs on both sides, which have given the same loss once."""
    ours, originals = expert_steps(ExpertRecipe(hp, device), hp, device)
    assert_same(ours(), originals())
    return ours, originals


def multiway_expert_steps(hp: HParams, device: torch.device) -> tuple[Step, Step]:
    """Ours makes more pairs of as many windows, so the losses differ by intent."""
    return expert_steps(MultiwayExpertRecipe(hp, device), hp, device, hp.syncnet_nearby)


def expert_steps(recipe, hp: HParams, device: torch.device, nearby: int = 0) -> tuple[Step, Step]:
    """nearby: more speech windows for each face."""
    original = OriginalExpertStep(as_original(recipe.expert.network), hp)
    window = torch.arange(hp.batch_size)
    batch = {
        "faces": random_faces(hp),
        "mel": random_mels(hp, hp.batch_size),
        "in_sync": (window % 2).float(),
        "clip": window // hp.syncnet_windows_per_clip,
        "start": window % hp.syncnet_windows_per_clip * hp.syncnet_min_gap,
    }
    if nearby:
        batch["nearby_mel"] = random_mels(hp, hp.batch_size, nearby)
        batch["nearby_start"] = batch["start"][:, None] + 3 * torch.arange(1, 1 + nearby)
    floats = expert_faces(to_float(batch["faces"])), batch["mel"][:, None], batch["in_sync"][:, None]
    return our_step(recipe, batch, device), original_step(original, floats, device)


def as_original(network: torch.nn.Module | None) -> torch.nn.Module | None:
    """The same weights in torch's usual layout: ours are channels_last, and a copy would stay so."""
    return network and copy.deepcopy(network).to(memory_format=torch.contiguous_format)


def our_step(recipe, batch: dict, device: torch.device) -> Step:
    if device.type == "cuda":
        batch = {name: value.pin_memory() for name, value in batch.items()}  # as training_batches does
    return lambda: recipe.step({name: value.to(device, non_blocking=True) for name, value in batch.items()})


def original_step(original, batch: tuple, device: torch.device) -> Step:
    batch = [value.contiguous() for value in batch]
    return lambda: original.step(*(value.to(device) for value in batch))


def assert_same(ours: dict, original: dict) -> None:
    """The original's losses agree with ours of the same name, to float32 through some forty layers."""
    for name, loss in original.items():
        difference = abs(ours[name].item() - loss)
        assert difference <= 1e-4 * max(1, abs(loss)), (name, loss, difference)


def seconds(step: Step, count: int, device: torch.device) -> float:
    """Seconds per step, after one that is not counted: caches hold the other side's data."""
    is_alone = device.type == "cpu" and torch.get_num_threads() == 1
    clock = time.process_time if is_alone else time.perf_counter
    step()
    _wait(device)
    start = clock()
    for _ in range(count):
        step()
    _wait(device)
    return (clock() - start) / count


def random_faces(hp: HParams) -> torch.Tensor:
    """uint8 (B, T, H, W, 3)."""
    return torch.randint(0, 256, (hp.batch_size, hp.syncnet_T, hp.img_size, hp.img_size, 3), dtype=torch.uint8)


def random_mels(hp: HParams, *shape: int) -> torch.Tensor:
    """float32 (*shape, 80, 16) over the range of a mel."""
    return hp.max_abs_value * (2 * torch.rand(*shape, hp.num_mels, hp.syncnet_mel_step_size) - 1)


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def parse_args(argv):
    p = parser(__doc__)
    p.add_argument("--device", default="cpu", help="cuda, cuda:1 or cpu (%(default)s)")
    p.add_argument("--width", metavar="W", type=positive(float), default=0.25, help="of all networks (%(default)s)")
    p.add_argument("--batch_size", metavar="N", type=positive(int), default=8, help="windows a step (%(default)s)")
    p.add_argument("--steps", metavar="N", type=positive(int), default=2, help="steps timed a repetition (%(default)s)")
    return p.parse_args(argv)


if __name__ == "__main__":
    run_script(main)
