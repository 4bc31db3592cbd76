"""Clip store -> lip-sync expert.

    python train_syncnet.py --data_root data/lrs2 --checkpoint_dir checkpoints/expert
    python train_syncnet.py --data_root data/lrs2 --checkpoint_dir checkpoints/expert --resume

Curves: tensorboard --logdir checkpoints. The expert to use for the generator: checkpoints/expert/best.pth.
"""

import hparams
from clips.corpus import open_split
from clips.dataset import ExpertDataset
from clips.sampling import ClipSampling, ExpertSampling
from errors import run_script
from models import load_expert
from training import script
from training.loop import Intervals
from training.recipes.expert import ExpertRecipe, MultiwayExpertRecipe


def main(argv=None):
    args = script.parser(__doc__).parse_args(argv)
    hp = hparams.from_args(args)
    device = script.begin(args, hp)

    # data: anything unusable ends the run here
    corpora = {}
    for split in ("train", "val"):
        corpora[split] = open_split(args.data_root, args.filelists, split, hp, "expert", span=hp.syncnet_min_gap)
        script.describe(split, corpora[split])
    pairs = {
        name: ExpertSampling(c, hp.seed, hp.syncnet_positive_share, hp.syncnet_min_gap) for name, c in corpora.items()
    }
    windows = ClipSampling(corpora["train"], hp.seed, hp.syncnet_windows_per_clip, hp.syncnet_min_gap)

    # network, optimiser, and where to begin
    recipe, sampling = {"bce": (ExpertRecipe, pairs["train"]), "multiway": (MultiwayExpertRecipe, windows)}[
        hp.syncnet_loss
    ]
    recipe = recipe(hp, device)
    first_step = script.restore(args, recipe, hp, corpora["train"], load_expert)

    values = script.run(
        args,
        hp,
        device,
        recipe,
        train_on=(ExpertDataset(corpora["train"], hp.img_size), sampling),
        validate_on=(ExpertDataset(corpora["val"], hp.img_size), pairs["val"]),
        batch_size=hp.syncnet_batch_size,
        eval_samples=hp.syncnet_eval_pairs,
        first_step=first_step,
        last_step=hp.syncnet_nsteps,
        intervals=Intervals(
            hp.log_interval, hp.sample_interval, hp.syncnet_eval_interval, hp.syncnet_checkpoint_interval
        ),
    )
    print(f"held-out accuracy {values['val/accuracy']:.3f} (chance is 0.5), expert: {args.checkpoint_dir}/best.pth")


if __name__ == "__main__":
    run_script(main)
