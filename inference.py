"""A face (video or image) + speech (any sound or video file) -> mp4 in which that face says it.

    python inference.py --checkpoint_path checkpoints/wav2lip_gan/best.pth --face speaker.mp4 --audio speech.wav
    python inference.py --checkpoint_path wav2lip_gan.pth --face portrait.jpg --audio talk.mp4 --outfile dubbed.mp4

The result lasts as long as the speech: a shorter face video starts again from its first frame, a longer one is cut.
In a notebook, where networks are loaded once for many videos:

    from inference import LipSyncer
    syncer = LipSyncer("checkpoints/wav2lip_gan/best.pth")
    syncer.sync("speaker.mp4", "speech.wav", "dubbed.mp4")
"""

import argparse
import dataclasses
from collections.abc import Iterator

import hparams
from errors import run_script
from synthesis import DETECT, OFFICIAL_PADS, OWN_PADS, WHOLE_FRAME, LipSyncer, Summary
from video import is_image

__all__ = ["LipSyncer"]


def main(argv=None):
    args = parse_args(argv)
    hp = hparams.from_args(args)
    batch_sizes = {name: getattr(args, name) for name in ("face_det_batch_size", "wav2lip_batch_size")}
    hp = dataclasses.replace(hp, **{name: size for name, size in batch_sizes.items() if size is not None})

    syncer = LipSyncer(args.checkpoint_path, hp, args.device)
    summary = syncer.sync(
        args.face,
        args.audio,
        args.outfile,
        static=args.static,
        fps=args.fps,
        resize_factor=args.resize_factor,
        rotate=args.rotate,
        crop=args.crop,
        box=args.box,
        pads=args.pads,
        nosmooth=args.nosmooth,
    )

    for note in notes(args, syncer, summary):
        print(f"note: {note}")
    print(f"{args.outfile}: {summary.frames} frames, {summary.duration_s:.2f} s at {summary.fps:.5g} fps")


def notes(args, syncer: LipSyncer, summary: Summary) -> Iterator[str]:
    """What the user may not expect of the result, and what would change it."""
    if args.fps and not (args.static or is_image(args.face)):
        yield f"{args.face} keeps its own frame rate, --fps is for images and --static"
    if summary.is_hdr:
        yield f"{args.face} is HDR and comes out flat: convert it to SDR first"
    if summary.frames_without_face:
        yield (
            f"{summary.frames_without_face} of {summary.frames} frames show no face and stay as they were; "
            f"--hparams detect_every=1 looks closer, --box says where it is"
        )
    trained = syncer.trained_with
    heard_s = trained.syncnet_mel_step_size * trained.hop_size / trained.sample_rate
    if summary.is_silent:
        yield f"{args.audio} is silent throughout: the face has nothing to say"
    elif summary.duration_s < heard_s:
        yield (
            f"{args.audio} lasts {summary.duration_s:.2f} s, less than the {heard_s:.2f} s that the generator hears "
            "for each frame: the rest is silence to it"
        )
    # "full" stands for crops that were made elsewhere, nobody knows how.
    detectors = syncer.hp.face_detector, trained.face_detector
    if tuple(args.box) == DETECT and len(set(detectors)) == 2 and "full" not in detectors:
        yield (
            f"faces were found with {detectors[0]}, the hparams of the generator's training say {detectors[1]}: "
            f"--hparams face_detector={detectors[1]} frames them alike"
        )


def parse_args(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    files = parser.add_argument_group("files")
    files.add_argument(
        "--checkpoint_path", metavar="FILE", required=True, help="a generator of train_wav2lip.py, or an official one"
    )
    files.add_argument("--face", metavar="FILE", required=True, help="the video or image whose face shall speak")
    files.add_argument("--audio", metavar="FILE", required=True, help="the speech: a sound file, or a video with sound")
    files.add_argument(
        "--outfile", metavar="FILE", default="results/result_voice.mp4", help="the mp4 to write (%(default)s)"
    )

    picture = parser.add_argument_group("the picture; px are those left by the steps before, in this order")
    picture.add_argument(
        "--static",
        metavar="BOOL",
        nargs="?",
        const=True,
        default=False,
        type=truth,
        help="take only the first frame of a video, like an image; official calls say True behind it",
    )
    picture.add_argument(
        "--fps",
        metavar="HZ",
        type=float,
        help="frame rate for an image (that of the training) or --static (the video's own)",
    )
    picture.add_argument(
        "--resize_factor", metavar="N", type=int, default=1, help="make frames N times smaller; 1 = off (%(default)s)"
    )
    picture.add_argument("--rotate", action="store_true", help="turn frames clockwise by 90 degrees")
    add_sides(
        picture,
        "--crop",
        WHOLE_FRAME,
        "keep only this part of the frames, px, as of several faces; -1 for B or R is the edge",
    )

    face = parser.add_argument_group("the face")
    add_sides(face, "--box", DETECT, "where it is in every frame, px, so that none is searched; all -1 = off")
    add_sides(
        face,
        "--pads",
        None,
        "grow the boxes that were found, px; raise B where the chin is cut off",
        f"{in_words(OWN_PADS)}, as in training; for official checkpoints {in_words(OFFICIAL_PADS)}",
    )
    face.add_argument("--nosmooth", action="store_true", help="do not average boxes over time; for fast movements")

    machine = parser.add_argument_group("machine")
    machine.add_argument("--device", metavar="NAME", help="cuda, cuda:1 or cpu (a GPU if there is one)")
    machine.add_argument(
        "--face_det_batch_size", metavar="N", type=int, help="the hparam; lower it when a detector is out of memory"
    )
    machine.add_argument("--wav2lip_batch_size", metavar="N", type=int, help="the hparam; halved while memory is short")
    hparams.add_flags(parser)
    return parser.parse_args(argv)


def truth(text: str) -> bool:
    words = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    if text.lower() not in words:
        raise argparse.ArgumentTypeError(f"{text!r} is neither True nor False")
    return words[text.lower()]


def add_sides(group, flag: str, default: tuple[int, int, int, int] | None, help: str, shown: str = "") -> None:
    """A flag of four px: top, bottom, left, right. shown: the default, where it depends on other things."""
    shown = shown or in_words(default)
    group.add_argument(flag, metavar=tuple("TBLR"), nargs=4, type=int, default=default, help=f"{help} ({shown})")


def in_words(sides: tuple[int, int, int, int]) -> str:
    return " ".join(map(str, sides))


if __name__ == "__main__":
    run_script(main, kept="no video was written")
