"""Clip store -> lip-sync expert.

    python train_syncnet.py --data_root data/lrs2 --checkpoint_dir checkpoints/expert
    python train_syncnet.py --data_root data/lrs2 --checkpoint_dir checkpoints/expert --resume
    python train_syncnet.py --data_root data/lrs2 --checkpoint_dir checkpoints/expert --evaluate_only
    python train_syncnet.py --data_root data/lrs2 --check_data
    python train_syncnet.py --data_root data/lrs2 --correct_offsets --checkpoint_path checkpoints/expert/best.pth

Curves: tensorboard --logdir checkpoints. The expert to use for the generator: checkpoints/expert/best.pth, of the
lowest held-out loss; best_pair_accuracy.pth tells the right speech best from speech of the same clip.
"""

import dataclasses
from pathlib import Path

from tqdm import tqdm

import hparams
from clips.corpus import Corpus, open_split
from clips.dataset import ExpertDataset
from clips.filelists import SPLITS
from clips.sampling import ClipSampling, EvaluationSampling, ExpertSampling
from errors import UserError, run_script
from evaluation.data_doctor import check_data
from evaluation.expert_report import ExpertReport, measure_expert
from evaluation.judges import other_sound, refuse_other_sound
from evaluation.offsets import correct_offsets
from hparams import HParams
from models import load_expert, read_checkpoint, trained_with, usable_device
from training import distributed, script
from training.data import RunData, evaluation_batches
from training.loop import Intervals, in_one_line, whole
from training.recipes.expert import ExpertRecipe, MultiwayExpertRecipe
from training.watchdog import expert_watchdog


def main(argv=None):
    args = parse_args(argv)
    hp = hparams.from_args(args)
    if args.check_data:
        return check_data(args.data_root, args.filelists, hp, args.checkpoint_path, usable_device(args.device))
    if args.correct_offsets:
        return correct_offsets(args.data_root, args.filelists, hp, args.checkpoint_path, usable_device(args.device))
    if args.evaluate_only:
        evaluate(args, hp)
        return 0
    device = script.begin(args, hp)

    # data: anything unusable ends the run here
    train = open_corpus(args, "train", hp, widest_gap(hp))
    val = open_measured(args, "val", hp)
    script.warn_of_shared_clips(train, val)
    validation = EvaluationSampling(val, hp.syncnet_eval_windows, hp.syncnet_eval_min_gap)

    # network, optimiser, and where to begin
    make_recipe, sampling = how_to_train(hp, train)
    recipe = make_recipe(hp, device)
    data = RunData(
        ExpertDataset(train, hp.img_size),
        sampling,
        ExpertDataset(val, hp.img_size),
        validation,
        hp.syncnet_batch_size,
        eval_samples=len(validation),
        eval_settings=hparams.some(hp, "syncnet_mel_cut syncnet_eval_min_gap"),
    )
    first_step = script.restore(args, recipe, hp, data, load_expert)
    if args.checkpoint_path and (changed := other_sound(args.checkpoint_path, hp)):
        print(f"warning: {args.checkpoint_path}: its expert was trained with {changed}, and has to learn that anew")
    if args.checkpoint_path and (cut := trained_with(args.checkpoint_path).syncnet_mel_cut) != hp.syncnet_mel_cut:
        print(
            f"note: {args.checkpoint_path}: its expert has learnt speech with syncnet_mel_cut={cut}, which keeps what "
            f"it knows; here it is {hp.syncnet_mel_cut}"
        )

    evaluation = script.run(
        args,
        hp,
        device,
        recipe,
        data,
        first_step=first_step,
        last_step=hp.syncnet_nsteps,
        intervals=Intervals(
            hp.log_interval, hp.sample_interval, hp.syncnet_eval_interval, hp.syncnet_checkpoint_interval
        ),
        warmup_steps=hp.syncnet_warmup_steps,
        decay=hp.syncnet_decay,
        watch=expert_watchdog(hp, first_step),
    )
    print(f"the expert after the last step, on the val list:\n{evaluation.summary}")
    if distributed.is_first():  # others may not see its files, on another machine
        print(which_to_use(Path(args.checkpoint_dir)))


def which_to_use(folder: Path) -> str:
    """The best checkpoints, and of which step each is."""
    paths = [path for name in ("best", "best_pair_accuracy") if (path := folder / f"{name}.pth").exists()]
    kept = {path.stem: f"{path} (step {read_checkpoint(path)['step']})" for path in paths}
    if len(kept) < 2:
        return f"expert: {next(iter(kept.values()), 'none, as no evaluation gave a number')}"
    return (
        f"expert: {kept['best']}, of the lowest held-out loss, or {kept['best_pair_accuracy']}, which tells pairs "
        "apart best; with little data the loss rises while pairs are still learnt: then the second"
    )


def widest_gap(hp: HParams) -> int:
    """Frames between two windows of a clip that training may ask for."""
    return hp.syncnet_min_gap if hp.syncnet_loss == "bce" else max(hp.syncnet_min_gap, hp.syncnet_first_gap)


def how_to_train(hp: HParams, corpus: Corpus):
    """The recipe's class and the sampling that goes with it."""
    if hp.syncnet_batch_size // hp.accumulate < 2:
        raise UserError(
            f"accumulate={hp.accumulate} leaves less than 2 windows of syncnet_batch_size={hp.syncnet_batch_size} in a "
            "part, which batch norm needs: lower it in hparams.py"
        )
    if hp.syncnet_loss == "bce":
        return ExpertRecipe, ExpertSampling(corpus, hp.seed, hp.syncnet_positive_share, hp.syncnet_min_gap)
    windows = ClipSampling(
        corpus, hp.seed, hp.syncnet_windows_per_clip, hp.syncnet_min_gap, hp.syncnet_balance, hp.syncnet_nearby
    )
    return MultiwayExpertRecipe, windows


def evaluate(args, hp: HParams) -> ExpertReport:
    """Measures one expert on a list, and says what it finds; trains and writes nothing."""
    path = args.checkpoint_path or Path(args.checkpoint_dir) / "best.pth"
    expert = load_expert(path, usable_device(args.device))
    if hp.syncnet_T != expert.T:
        raise UserError(f"{path}: its windows have {expert.T} frames: set syncnet_T={expert.T}")
    refuse_other_sound(path, hp)
    hp = dataclasses.replace(script.cut_as_learnt(path, hp), img_size=expert.img_size)
    corpus = open_measured(args, args.split, hp)
    sampling = EvaluationSampling(corpus, hp.syncnet_eval_windows, hp.syncnet_eval_min_gap)
    dataset = ExpertDataset(corpus, expert.img_size)
    batches = evaluation_batches(dataset, sampling, len(sampling), hp.syncnet_batch_size, hp.num_workers)
    with in_one_line():
        batches = tqdm(whole(batches()), desc="evaluating", total=-(-len(sampling) // hp.syncnet_batch_size))
        report = measure_expert(expert, batches, hp.syncnet_eval_min_gap)
    print(f"{path} on the {args.split} list:\n{report.table()}\n{report.name_wrong_offsets(corpus.names)}")
    return report


def open_corpus(args, split: str, hp: HParams, min_gap: int) -> Corpus:
    corpus = open_split(args.data_root, args.filelists, split, hp, "expert", span=min_gap)
    script.describe(split, corpus)
    return corpus


def open_measured(args, split: str, hp: HParams) -> Corpus:
    """What the expert is measured on: the same clips whatever the seed, so that runs can be compared."""
    corpus = open_corpus(args, split, hp, hp.syncnet_eval_min_gap)
    measured = corpus.sample(hp.syncnet_eval_clips, seed=0)
    if len(measured) < len(corpus):
        print(f"{split}: {len(measured)} of its {len(corpus)} clips are measured (syncnet_eval_clips)")
    return measured


def parse_args(argv):
    parser = script.parser(__doc__, needs_folder=False)
    group = parser.add_argument_group("instead of training")
    checks = group.add_mutually_exclusive_group()
    checks.add_argument(
        "--evaluate_only",
        action="store_true",
        help="measure --checkpoint_path, or else the best.pth of --checkpoint_dir, on a list",
    )
    checks.add_argument(
        "--check_data",
        action="store_true",
        help="look for what would stop the expert from learning: bad offsets, silence, still faces, wrong frame rates, "
        "clips in two splits; exit code 1 if there is something. --checkpoint_path: an expert to measure offsets with",
    )
    checks.add_argument(
        "--correct_offsets",
        action="store_true",
        help="measure with the expert in --checkpoint_path by how many frames the sound of each clip is off, and write "
        "it into the manifest: training, of expert and generator, then reads the speech where the lips are",
    )
    group.add_argument("--split", choices=SPLITS, help="list for --evaluate_only (val, by which the best are chosen)")
    args = parser.parse_args(argv)
    if args.correct_offsets and not args.checkpoint_path:
        parser.error("--correct_offsets measures with an expert: name it with --checkpoint_path")
    if args.split and not args.evaluate_only:
        parser.error("--split is the list for --evaluate_only")
    args.split = args.split or "val"
    names_expert = args.evaluate_only and args.checkpoint_path
    if not (args.check_data or args.correct_offsets or names_expert or args.checkpoint_dir):
        parser.error("--checkpoint_dir is missing: name the folder where checkpoints and curves go")
    return args


if __name__ == "__main__":
    run_script(main)
