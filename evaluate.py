"""Videos -> how well their lips match their speech: LSE-D (lower is better), LSE-C (higher is better) and offset.

    python evaluate.py results/*.mp4 --syncnet_path syncnet_v2.model --json scores.json
    python evaluate.py result.mp4 --expert_path checkpoints/expert/best.pth
    python evaluate.py dubbed.mp4 --faces_as_in original.mp4 --expert_path best.pth
    python evaluate.py face.mp4 --audio other.wav --expert_path best.pth --face_detector full

What the judge sees depends on its weights:

    --syncnet_path   the whole frame, squeezed to 224x224, at the file's own frame rate (protocol lrs: made for videos
                     of 25 fps that show little but the face). These are the numbers that papers publish.
    --expert_path    the lower half of the face crop that --face_detector finds, in the longest stretch of frames with
                     a face, at 25 fps; `full` takes the file as a crop already. Adds P_sync, the mean cosine of lips
                     and speech. Compare these numbers with each other, not with published ones.

The offset is in frames; a positive one means that the sound comes too early. The exit code is 0 if any video could be
judged: the last lines, and --json, name those that could not.
"""

import argparse
import dataclasses
from pathlib import Path

import av
import torch
from tqdm import tqdm

import hparams
from audio import load_wav
from errors import UserError, run_script
from evaluation import ExpertJudge, Scores, SyncNetV2Judge, format_table, score_video, write_json
from evaluation.judges import load_expert_judge
from evaluation.lse import VSHIFT
from faces import make_detector
from models import load_syncnet_v2, usable_device
from video import probe


def main(argv=None) -> int:
    """Returns the exit code: 0, or 1 when no video could be judged."""
    args = parse_args(argv)
    hp = hparams.from_args(args)
    if args.face_detector:
        hp = dataclasses.replace(hp, face_detector=args.face_detector)

    # everything that can fail on a typo, before minutes of work
    device = usable_device(args.device)
    if args.json:
        refuse_unwritable(Path(args.json))
    judge = load_judge(args, device)
    if args.faces_as_in:
        check_faces_as_in(args.faces_as_in, judge)
    speech = load_wav(args.audio, judge.sample_rate) if args.audio else None
    detector = None
    if judge.crop_size:
        detector = make_detector(hp.face_detector, device, hp.face_min_score, hp.detect_max_side)

    # one video after the other; what cannot be judged does not stop the rest
    scores, refused = [], {}
    try:
        for video in tqdm(args.videos, desc="evaluating", unit="video", disable=None):  # None: only on a terminal
            try:
                scores.append(score_video(video, judge, hp, detector, speech, args.faces_as_in))
            except (UserError, OSError, av.FFmpegError, torch.OutOfMemoryError) as reason:
                refused[video] = str(reason) if isinstance(reason, UserError) else f"{video}: {reason}"
    finally:
        report(args, judge, scores, refused)  # of what there is, also when it is stopped
    return 0 if scores else 1


def report(args, judge, scores: list[Scores], refused: dict[str, str]) -> None:
    """Writes --json and prints what was found out; where one of the two fails, the other is done."""
    try:
        if args.json and (scores or refused):
            weights = args.syncnet_path or args.expert_path
            left = len(args.videos) - len(scores) - len(refused)
            about = {"judge": judge.name, "weights": weights, "audio": args.audio, "faces_as_in": args.faces_as_in}
            counts = {"asked": len(args.videos), "judged": len(scores), "not_reached": left}
            write_json(args.json, scores, refused, **about, vshift=VSHIFT, **counts)
    finally:
        if scores:
            print(format_table(scores, len(args.videos)))
        for note in frame_rate_notes(scores, judge):
            print(note)
        for reason in refused.values():
            print(f"not judged: {reason}")


def parse_args(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("videos", metavar="VIDEO", nargs="+", help="files to judge, any format that ffmpeg reads")
    weights = parser.add_mutually_exclusive_group(required=True)
    weights.add_argument("--syncnet_path", metavar="FILE", help="Chung's SyncNet v2 weights (syncnet_v2.model)")
    weights.add_argument(
        "--expert_path", metavar="FILE", help="a checkpoint of train_syncnet.py, or the official expert"
    )
    parser.add_argument(
        "--audio", metavar="FILE", help="judge the pictures against this sound (default: each video's own)"
    )
    parser.add_argument(
        "--faces_as_in",
        metavar="FILE",
        help="for --expert_path: cut the faces out where they are in this video of the same frames, usually the "
        "original of lip-synced ones (default: where they are in each)",
    )
    parser.add_argument(
        "--face_detector",
        metavar="NAME",
        choices=hparams.CHOICES["face_detector"],
        help=f"for --expert_path, one of {', '.join(hparams.CHOICES['face_detector'])} (default: the hparam)",
    )
    parser.add_argument("--device", metavar="NAME", help="cuda, cuda:1 or cpu (a GPU if there is one)")
    parser.add_argument("--json", metavar="FILE", help="write all numbers here too")
    hparams.add_flags(parser)
    return parser.parse_args(argv)


def refuse_unwritable(path: Path) -> None:
    if path.is_dir():
        raise UserError(f"--json {path}: is a folder: name a file in it")
    # A slip of the shell would replace a video, or the weights, by numbers.
    if path.is_file() and path.suffix.lower() != ".json":
        raise UserError(f"--json {path}: is there, and no .json file: name another")
    if not path.parent.is_dir():
        raise UserError(f"--json {path}: there is no folder {path.parent}: create it first")


def check_faces_as_in(path: str, judge) -> None:
    """UserError for a judge that looks at whole frames, and for a file that is no video."""
    if judge.crop_size is None:
        raise UserError(f"--faces_as_in {path}: needs --expert_path, the judge of --syncnet_path sees whole frames")
    probe(path)


def load_judge(args, device: torch.device) -> SyncNetV2Judge | ExpertJudge:
    if args.syncnet_path:
        return SyncNetV2Judge(load_syncnet_v2(args.syncnet_path, device), device)
    return load_expert_judge(args.expert_path, device)


def frame_rate_notes(scores, judge) -> list[str]:
    """Protocol `lrs` reads frames as they come: at another rate than 25 fps, lips and speech drift apart."""
    if judge.read_fps:
        return []
    odd = [s for s in scores if abs(s.fps - judge.fps) > 0.1]
    return [f"note: {s.video} has {s.fps:.2f} fps, judged as if {judge.fps}: convert it to judge its sync" for s in odd]


if __name__ == "__main__":
    run_script(main)
