"""Everything this project does, on a corpus it makes itself: `make demo`, or `python demo.py`.

Toy corpus -> preprocess -> expert -> generator with GAN -> inference with speech no network has heard -> report.
Needs no data, no GPU and no download; about twelve minutes on two cores. What it makes is in results/demo/: report.md,
curves.png, frames.png and the videos. Running it again starts anew.
"""

import argparse
import shutil
import time
from pathlib import Path

import cv2
import numpy as np
import scipy.io.wavfile

import hparams
import preprocess
import train_syncnet
import train_wav2lip
from clips import filelists
from clips.corpus import open_split
from clips.dataset import ExpertDataset, GeneratorDataset
from clips.manifest import identity_of
from clips.sampling import EvaluationSampling, GeneratorSampling
from errors import UserError, run_script
from evaluation import ExpertJudge, Scores, score_video
from evaluation.expert_report import ExpertReport, measure_expert
from evaluation.reconstruction import l1_errors, mean_face
from faces import make_detector
from hparams import HParams
from inference import LipSyncer
from models import load_expert, load_generator
from toy import SAMPLE_RATE, ToyStyle, make_toy_corpus, make_toy_speech
from training import plot
from training.data import evaluation_batches
from video import read_frames

IDENTITIES, CLIPS, SECONDS = 80, 1, 3.6
# Heads that move about as much as in real clips: in a nearly still picture, copying the reference is hard to beat.
STYLE = ToyStyle(head_motion=0.7)
SAMPLES = 256  # held-out windows the generator is measured on
MARK = ".made_by_demo"  # in the folder of a demo, which the next one may empty
SHOWN_FRAMES = range(40, 88, 6)  # of the videos, in frames.png


def main(argv=None):
    args = parse_args(argv)
    hp = hparams.from_args(args)
    started = time.monotonic()
    out = start_anew(Path(args.outdir))
    settings = ["--preset", args.preset, "--hparams", ",".join(args.hparams)]
    lists = ["--filelists", str(out / "filelists")]
    data = ["--data_root", str(out / "store"), *lists, *settings]

    stage(1, "make a toy corpus of drawn faces that speak")
    make_toy_corpus(out / "corpus", IDENTITIES, CLIPS, SECONDS, style=STYLE)

    stage(2, "preprocess: find and cut out the faces")
    store = ["--data_root", str(out / "corpus"), "--preprocessed_root", str(out / "store")]
    preprocess.main([*store, *lists, *settings])

    stage(3, "train the lip-sync expert on real pairs")
    train_syncnet.main([*data, "--checkpoint_dir", str(out / "expert")])

    stage(4, "train the generator and its visual quality discriminator")
    expert_path, generator_path = out / "expert/best.pth", out / "wav2lip_gan/best.pth"
    networks = ["--syncnet_checkpoint_path", str(expert_path), "--recipe", "wav2lip_gan"]
    train_wav2lip.main([*data, *networks, "--checkpoint_dir", str(out / "wav2lip_gan")])

    stage(5, "inference: held-out faces speak what no network has heard")
    pairs = lip_sync(out, generator_path, hp)

    stage(6, "measure on held-out identities")
    expert = measured_expert(out, expert_path, hp)
    l1 = generator_l1(out, generator_path, hp)
    sync = judge(pairs, expert_path, hp)
    plot.plot({name: out / name for name in ("expert", "wav2lip_gan")}, out / "curves.png")
    save_frames(pairs, out / "frames.png")
    text = report(expert, l1, sync, pairs, minutes=(time.monotonic() - started) / 60)
    (out / "report.md").write_text(text, encoding="utf-8")
    print(f"\n{text}\neverything is in {out}")


def parse_args(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--outdir", metavar="DIR", default="results/demo", help="emptied first (%(default)s)")
    hparams.add_flags(parser)
    parser.set_defaults(preset="demo")
    return parser.parse_args(argv)


def start_anew(out: Path) -> Path:
    """An empty folder in place of an earlier demo's; anything else that lies there is not deleted."""
    if out.exists() and any(out.iterdir()):
        if not (out / MARK).exists():
            raise UserError(f"--outdir {out}: holds something else than an earlier demo, name an empty folder")
        shutil.rmtree(out)
    out.mkdir(parents=True, exist_ok=True)
    (out / MARK).touch()
    return out


def stage(number: int, what: str) -> None:
    print(f"\n[{number}/6] {what}", flush=True)


def lip_sync(out: Path, generator_path: Path, hp: HParams) -> list[tuple[Path, Path, np.ndarray]]:
    """One (original video, lip-synced video, new speech at 16 kHz) for each identity of the test list."""
    syncer = LipSyncer(generator_path, hp)
    pairs = []
    for identity in sorted(set(map(identity_of, filelists.read(out / "filelists", "test")))):
        face, synced, wav = out / f"corpus/{identity}/000.mp4", out / f"{identity}_synced.mp4", out / f"{identity}.wav"
        # A clip that is not in the corpus, in the voice of somebody who is in no list the networks trained on.
        speech = make_toy_speech(int(identity), clip_seed=CLIPS, seconds=SECONDS)
        scipy.io.wavfile.write(wav, SAMPLE_RATE, speech)
        syncer.sync(face, wav, synced)
        pairs.append((face, synced, speech))
    return pairs


def measured_expert(out: Path, expert_path: Path, hp: HParams) -> ExpertReport:
    corpus = open_split(out / "store", out / "filelists", "test", hp, "expert", span=hp.syncnet_eval_min_gap)
    sampling = EvaluationSampling(corpus, hp.syncnet_eval_windows, hp.syncnet_eval_min_gap)
    dataset = ExpertDataset(corpus, hp.img_size)
    batches = evaluation_batches(dataset, sampling, len(sampling), hp.syncnet_batch_size)
    return measure_expert(load_expert(expert_path), batches(), hp.syncnet_eval_min_gap)


def generator_l1(out: Path, generator_path: Path, hp: HParams) -> dict[str, tuple[float, float]]:
    def batches(split):
        corpus = open_split(out / "store", out / "filelists", split, hp, "generator")
        sampling = GeneratorSampling(corpus, hp.seed, hp.reference_min_gap)
        return evaluation_batches(GeneratorDataset(corpus, hp.img_size), sampling, SAMPLES, hp.batch_size)()

    return l1_errors(load_generator(generator_path), batches("test"), mean_face(batches("train")), hp.mask_top)


def judge(pairs, expert_path: Path, hp: HParams) -> dict[str, list[Scores]]:
    """What the expert says of the original videos with their own and with the new speech, and of the synced ones."""
    expert = ExpertJudge(load_expert(expert_path), hp)
    detector = make_detector(hp.face_detector, "cpu", hp.face_min_score, hp.detect_max_side)
    return {
        "original video, its own speech": [score_video(face, expert, hp, detector) for face, _, _ in pairs],
        "original video, new speech": [score_video(face, expert, hp, detector, new) for face, _, new in pairs],
        "generated video, new speech": [
            score_video(synced, expert, hp, detector, faces_as_in=face) for face, synced, _ in pairs
        ],
    }


def save_frames(pairs, path: Path) -> None:
    """Frames of each original video, and below them the same moments of the lip-synced one."""
    rows = []
    for face, synced, _ in pairs:
        for video in (face, synced):
            frames = enumerate(read_frames(video))
            rows.append(np.hstack([frame for i, frame in frames if i in SHOWN_FRAMES]))
    cv2.imwrite(str(path), np.vstack(rows))


def report(
    expert: ExpertReport, l1: dict[str, tuple[float, float]], sync: dict[str, list[Scores]], pairs, minutes: float
) -> str:
    lines = [
        "# Demo",
        "",
        f"Toy corpus of {IDENTITIES} identities; all numbers are on identities that no network was trained on.",
        f"It took {minutes:.1f} minutes.",
        "",
        f"- Expert: {expert.metrics['accuracy'].value:.3f} of held-out pairs judged right (chance is 0.5):",
        "",
        "```",
        expert.table(),
        "```",
        "",
        f"- Generator: L1 to the true face, 0 to 1, lower is better ({SAMPLES} windows of 5 frames):",
        "",
        "| | whole face | lower half, which is redrawn |",
        "| --- | --- | --- |",
        *(f"| {name} | {whole:.4f} | {lower:.4f} |" for name, (whole, lower) in l1.items()),
        "",
        f"- Lip-sync of {len(pairs)} videos, in the eyes of the expert that also taught the generator:",
        "",
        "| | P_sync | LSE-D | LSE-C |",
        "| --- | --- | --- | --- |",
    ]
    for name, scores in sync.items():
        p_sync, lse_d, lse_c = (np.mean([getattr(s, key) for s in scores]) for key in ("p_sync", "lse_d", "lse_c"))
        lines.append(f"| {name} | {p_sync:.3f} | {lse_d:.3f} | {lse_c:.3f} |")
    lines += ["", "Curves: curves.png. Originals above, lip-synced below: frames.png. Videos: *_synced.mp4.", ""]
    return "\n".join(lines)


if __name__ == "__main__":
    run_script(main)
