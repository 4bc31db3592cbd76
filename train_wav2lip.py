"""Clip store + expert -> generator.

    python train_wav2lip.py --data_root data/lrs2 --checkpoint_dir checkpoints/wav2lip_gan \\
        --syncnet_checkpoint_path checkpoints/expert/best.pth --recipe wav2lip_gan
    python train_wav2lip.py --data_root data/lrs2 --checkpoint_dir checkpoints/wav2lip_gan \\
        --syncnet_checkpoint_path checkpoints/expert/best.pth --recipe wav2lip_gan --resume

Recipes: wav2lip (L1 + sync loss), wav2lip_gan (with the visual quality discriminator), and the baselines of the paper's
table, lipgan and speech2vid, which the expert only measures.
Curves and sample images: tensorboard --logdir checkpoints. Sample videos: <checkpoint_dir>/samples.
"""

from pathlib import Path

import torch

import hparams
from clips.corpus import open_split
from clips.dataset import GeneratorDataset
from clips.sampling import GeneratorSampling, fixed_draws
from errors import UserError, run_script
from evaluation.judges import refuse_other_sound
from models import (
    as_generators,
    load_expert,
    load_generator,
    load_visual_discriminator,
    read_checkpoint,
)
from models.vgg import VggFeatures
from training import script
from training.checkpoint import copy_weights
from training.data import RunData
from training.guards import GeneratorWatchdog, l1_of_grey
from training.loop import Intervals
from training.recipes.generator import GeneratorRecipe
from training.recipes.lipgan import LipGanRecipe
from training.recipes.speech2vid import Speech2VidRecipe
from training.recipes.wav2lip import Wav2LipRecipe
from training.sample_videos import SampleVideos

GREY_FACES = 32  # windows of the val list that tell how far faces are from plain grey


def main(argv=None):
    args = parse_args(argv)
    hp = hparams.from_args(args)
    check_settings(args.recipe, hp, args.vgg_checkpoint_path)
    device = script.begin(args, hp)

    # the expert and the data: anything unusable ends the run here
    expert = load_expert(args.syncnet_checkpoint_path)
    if (expert.img_size, expert.T) != (hp.img_size, hp.syncnet_T):
        raise UserError(
            f"{args.syncnet_checkpoint_path}: its expert sees {expert.T} frames of {expert.img_size} px, the generator "
            f"draws {hp.syncnet_T} of {hp.img_size} px: train both with one img_size and syncnet_T"
        )
    hp = script.cut_as_learnt(args.syncnet_checkpoint_path, hp)
    refuse_other_sound(args.syncnet_checkpoint_path, hp)
    hp, data = open_data(args, hp)
    draws = fixed_draws(data.val_sampling, min(GREY_FACES, hp.eval_windows))
    grey_l1 = l1_of_grey([data.val_dataset[draw]["target"] for draw in draws])

    # networks, optimisers, and where to begin
    recipe = make_recipe(args, hp, expert, device)
    first_step = script.restore(args, recipe, hp, data, load_generator)

    evaluation = script.run(
        args,
        hp,
        device,
        recipe,
        data,
        first_step=first_step,
        last_step=hp.nsteps,
        intervals=Intervals(hp.log_interval, hp.sample_interval, hp.eval_interval, hp.checkpoint_interval),
        warmup_steps=hp.warmup_steps,
        decay=hp.decay,
        watch=GeneratorWatchdog(hp, first_step, grey_l1),
        show=SampleVideos(recipe, data.val_dataset, Path(args.checkpoint_dir) / "samples", device, hp.sample_videos),
    )
    values = evaluation.values
    print(f"held-out L1 {values['val/l1']:.4f}, P_sync {values['val/p_sync']:.3f}")
    print(f"generator: {args.checkpoint_dir}/best.pth")


def open_data(args, hp: hparams.HParams) -> tuple[hparams.HParams, RunData]:
    """Both lists as the generator reads them, and hparams with the detector that framed their clips."""
    sampled = []
    for split in ("train", "val"):
        corpus = open_split(args.data_root, args.filelists, split, hp, "generator", span=1)
        script.describe(split, corpus)
        # One candidate on the val list, so that runs with other settings stay comparable.
        candidates = hp.reference_candidates if split == "train" else 1
        sampling = GeneratorSampling(corpus, hp.seed, hp.reference_min_gap, candidates)
        sampled += [GeneratorDataset(corpus, hp.img_size), sampling]
    train, val = (dataset.corpus for dataset in sampled[::2])
    script.warn_of_shared_clips(train, val)
    hp = script.framed_as_stored(train, hp)
    eval_settings = hparams.some(hp, "syncnet_mel_cut mask_top reference_min_gap syncnet_wt")
    eval_settings |= {"seed": hp.seed} if hp.seed else {}  # which draws the windows; earlier versions did not name it
    return hp, RunData(*sampled, hp.batch_size, hp.eval_windows, eval_settings)


def make_recipe(args, hp: hparams.HParams, expert: torch.nn.Module, device: torch.device) -> GeneratorRecipe:
    """The recipe with what its networks start from, but for --resume and --checkpoint_path."""
    networks = (expert, device, VggFeatures(args.vgg_checkpoint_path)) if hp.perceptual_wt else (expert, device)
    recipe = RECIPES[args.recipe](hp, *networks)
    if hp.speech_encoder_init == "expert":
        speech_encoder = recipe.networks["generator"].audio_encoder
        copy_weights(as_generators(expert.audio_encoder), speech_encoder, args.syncnet_checkpoint_path)
    if args.disc_checkpoint_path:
        discriminator = load_visual_discriminator(args.disc_checkpoint_path)
        copy_weights(discriminator, recipe.networks["visual_discriminator"], args.disc_checkpoint_path)
    elif args.recipe == "wav2lip_gan" and holds_discriminator(args.checkpoint_path):
        print("note: the discriminator begins anew; to go on with its own: --disc_checkpoint_path, the same file")
    return recipe


def holds_discriminator(path: str | None) -> bool:
    return bool(path) and "visual_discriminator" in read_checkpoint(path).get("networks", {})


def check_settings(recipe: str, hp: hparams.HParams, vgg_path: str | None) -> None:
    """UserError where the recipe cannot do what hparams ask for."""
    if recipe in ONLY_96_PX and (hp.img_size != 96 or hp.speech_encoder_init != "random"):
        raise UserError(f"recipe {recipe} has an architecture of its own: img_size=96, speech_encoder_init=random")
    if hp.speech_encoder_init == "expert" and hp.syncnet_T != 5:
        raise UserError(
            f"speech_encoder_init=expert: the generator hears 0.2 s for a frame, an expert of syncnet_T={hp.syncnet_T} "
            "hears another length: set speech_encoder_init=random"
        )
    if hp.perceptual_wt and (recipe in ONLY_96_PX or not vgg_path):
        raise UserError(
            f"perceptual_wt={hp.perceptual_wt} is for the recipes wav2lip and wav2lip_gan and needs "
            "--vgg_checkpoint_path: torchvision's vgg16-397923af.pth"
        )
    others = hp.syncnet_wt + (hp.disc_wt if recipe == "wav2lip_gan" else 0)
    if recipe not in ONLY_96_PX and others >= 1:
        raise UserError(
            f"syncnet_wt={hp.syncnet_wt}, disc_wt={hp.disc_wt}: L1 has the rest of 1 for its weight in {recipe}, and "
            "nothing is left: lower them"
        )
    if vgg_path and not hp.perceptual_wt:
        raise UserError(
            f"--vgg_checkpoint_path {vgg_path} is not used: set perceptual_wt in hparams.py or leave it out"
        )


def wav2lip(hp, expert, device, vgg=None) -> Wav2LipRecipe:
    return Wav2LipRecipe(hp, expert, device, vgg=vgg)


def wav2lip_gan(hp, expert, device, vgg=None) -> Wav2LipRecipe:
    return Wav2LipRecipe(hp, expert, device, with_gan=True, vgg=vgg)


RECIPES = {"wav2lip": wav2lip, "wav2lip_gan": wav2lip_gan, "lipgan": LipGanRecipe, "speech2vid": Speech2VidRecipe}
ONLY_96_PX = ("lipgan", "speech2vid")


def parse_args(argv):
    parser = script.parser(__doc__)
    networks = parser.add_argument_group("networks")
    networks.add_argument("--recipe", choices=RECIPES, default="wav2lip_gan", help="losses to train with (%(default)s)")
    networks.add_argument(
        "--syncnet_checkpoint_path", metavar="FILE", required=True, help="the expert, from train_syncnet.py or official"
    )
    networks.add_argument(
        "--disc_checkpoint_path",
        metavar="FILE",
        help="visual quality discriminator to start from: official, or a checkpoint of recipe wav2lip_gan",
    )
    networks.add_argument(
        "--vgg_checkpoint_path", metavar="FILE", help="torchvision's vgg16-397923af.pth, for perceptual_wt"
    )
    args = parser.parse_args(argv)
    if args.disc_checkpoint_path and args.recipe != "wav2lip_gan":
        parser.error(f"--disc_checkpoint_path: recipe {args.recipe} has no discriminator")
    if args.disc_checkpoint_path and args.resume:
        parser.error("--disc_checkpoint_path: a resumed run goes on with its own discriminator")
    return args


if __name__ == "__main__":
    run_script(main)
