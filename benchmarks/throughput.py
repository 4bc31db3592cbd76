"""How many samples a second training takes, where the time goes, and how much memory: batch sizes against precisions.

    python -m benchmarks.throughput --data_root data/lrs2 --batch_sizes 16 64 256 --modes fp32 bf16 compiled
    python -m benchmarks.throughput --device cpu --width 0.25 --batch_sizes 4 --modes fp32 --steps 5

Each row trains a fresh recipe with its own loader, as the scripts do: sync loss and discriminator on from the first
step. "with loader" counts waiting for data, "step alone" repeats one batch that lies ready on the CPU. The modes are
hparams: fp32 (convolutions in TF32 where the GPU has it, as torch has it), bf16, and compiled, which is bf16 too.
Memory is the most that torch held on the GPU. Without --data_root, clips are made here, of noise.
"""

import argparse
import gc
import json
import tempfile
import time
from pathlib import Path

import torch

import hparams
import train_syncnet
import train_wav2lip
from benchmarks.both_layouts import write_store
from benchmarks.side_by_side import command_line, machine_facts, positive
from clips import filelists, manifest
from clips.corpus import open_split
from clips.dataset import ExpertDataset, GeneratorDataset
from clips.sampling import GeneratorSampling
from errors import UserError, run_script
from hparams import HParams
from models import SyncNetExpert, usable_device
from training.data import training_batches
from training.loop import next_batch, to_device

MODES = {"fp32": "precision=fp32", "bf16": "precision=bf16", "compiled": "precision=bf16,compile=true"}
RECIPES = (*train_wav2lip.RECIPES, "expert")


def main(argv=None):
    args = parse_args(argv)
    device = usable_device(args.device)
    row("", "samples/s", "samples/s", "share waiting", "GiB", "s until")
    row("", "with loader", "step alone", "for data", "on the GPU", "it runs")
    results = []
    with tempfile.TemporaryDirectory() as temporary:
        store, lists = (args.data_root, args.filelists) if args.data_root else made_up(Path(temporary))
        for mode in args.modes:
            for recipe in args.recipes:
                for batch_size in args.batch_sizes:
                    settings = f"width={args.width},img_size={args.img_size},num_workers={args.workers},{MODES[mode]}"
                    settings += f",batch_size={batch_size},syncnet_batch_size={batch_size},sync_gate=inf"
                    hp = hparams.resolve(overrides=f"{settings},{args.hparams}")
                    case = {"recipe": recipe, "batch_size": batch_size, "mode": mode}
                    try:
                        found = measure(recipe, hp, store, lists, batch_size, args.steps, device)
                    except torch.OutOfMemoryError:
                        found = {"out_of_memory": True}
                    results.append(case | found)
                    shown = (f"{value:.3g}" for value in found.values()) if len(found) > 1 else ("out of memory",)
                    row(f"{recipe}, batch {batch_size}, {mode}", *shown)
    facts = {"command": command_line("benchmarks.throughput", argv), "settings": vars(args)}
    print(json.dumps({**facts, "machine": machine_facts(str(device)), "results": results}))


def measure(recipe_name: str, hp: HParams, store, lists, batch_size: int, steps: int, device: torch.device) -> dict:
    torch.manual_seed(hp.seed)
    torch.compiler.reset()
    gc.collect()  # what the row before held
    if device.type == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    recipe, dataset, sampling = set_up(recipe_name, hp, store, lists, device)
    batches = iter(training_batches(dataset, sampling, batch_size, hp.num_workers, first_step=0, device=device))
    begun = time.perf_counter()
    for _ in range(3 + 2 * hp.num_workers):  # each worker prepares two batches ahead
        recipe.step(to_device(next_batch(batches), device))
    finish(device)
    ready = time.perf_counter()

    waited = 0.0
    for _ in range(steps):
        since = time.perf_counter()
        batch = next_batch(batches)
        waited += time.perf_counter() - since
        recipe.step(to_device(batch, device))
    finish(device)
    with_loader = time.perf_counter() - ready

    del batches  # its workers would go on filling their queues
    since = time.perf_counter()
    for _ in range(steps):
        recipe.step(to_device(batch, device))
    finish(device)
    alone = time.perf_counter() - since
    return {
        "samples_per_s": steps * batch_size / with_loader,
        "samples_per_s_step_alone": steps * batch_size / alone,
        "share_waiting_for_data": waited / with_loader,
        "gpu_gib": torch.cuda.max_memory_allocated(device) / 2**30 if device.type == "cuda" else 0.0,
        "warm_up_s": ready - begun,
    }


def set_up(name: str, hp: HParams, store, lists, device: torch.device):
    """Recipe, dataset and sampling, as the training scripts put them together."""
    if hp.syncnet_batch_size % hp.accumulate:
        raise UserError(f"accumulate={hp.accumulate} parts do not divide a batch of {hp.syncnet_batch_size}")
    if name == "expert":
        corpus = open_split(store, lists, "train", hp, "expert", span=hp.syncnet_min_gap)
        make_recipe, sampling = train_syncnet.how_to_train(hp, corpus)
        return make_recipe(hp, device), ExpertDataset(corpus, hp.img_size), sampling
    train_wav2lip.check_settings(name, hp, vgg_path=None)
    corpus = open_split(store, lists, "train", hp, "generator")
    expert = SyncNetExpert(hp.img_size, hp.width, hp.syncnet_T).eval().requires_grad_(False)
    recipe = train_wav2lip.RECIPES[name](hp, expert, device)
    sampling = GeneratorSampling(corpus, hp.seed, hp.reference_min_gap, hp.reference_candidates)
    return recipe, GeneratorDataset(corpus, hp.img_size), sampling


def made_up(folder: Path) -> tuple[Path, Path]:
    store = folder / "store"
    write_store(store, clips=16, seconds=4.0, hp=HParams())
    names = [entry.clip for entry in manifest.read(store).values()]
    filelists.write(folder, {"train": names})
    return store, folder


def finish(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)


def row(case: str, *columns: str) -> None:
    print(f"{case:32s}" + "".join(f"{column:>16s}" for column in columns), flush=True)


def parse_args(argv):
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--data_root", metavar="DIR", help="clip store to read instead of made-up clips")
    p.add_argument("--filelists", metavar="DIR", default="filelists", help="(%(default)s)")
    p.add_argument("--recipes", nargs="+", choices=RECIPES, default=["wav2lip_gan", "expert"], help="(both kinds)")
    p.add_argument("--batch_sizes", metavar="N", type=positive(int), nargs="+", default=[16, 64, 256])
    p.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES), help="(all)")
    p.add_argument("--workers", metavar="N", type=int, default=4, help="loader processes (%(default)s)")
    p.add_argument("--steps", metavar="N", type=positive(int), default=30, help="timed (%(default)s)")
    p.add_argument("--width", metavar="X", type=positive(float), default=1.0, help="(%(default)s)")
    p.add_argument("--img_size", metavar="PX", type=int, default=96, help="(%(default)s)")
    p.add_argument("--device", metavar="NAME", help="cuda, cuda:1 or cpu (a GPU if there is one)")
    p.add_argument("--hparams", metavar="NAME=VALUE,…", default="", help="of all rows")
    return p.parse_args(argv)


if __name__ == "__main__":
    run_script(main)
