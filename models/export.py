"""Weights alone, without what training needs beside them: a third of the size or less, for inference and for others.

    python -m models.export checkpoints/wav2lip_gan/best.pth --outfile wav2lip_gan.safetensors
    python -m models.export checkpoints/expert/best.pth --network expert --outfile expert.pth

A .pth is in the official code's format, which that code reads where sizes are the paper's; it cuts the mel at whole
columns, so an expert that is to judge there is best trained with syncnet_mel_cut=nearest. Both kinds are read by every
script here, and hold the hparams of training, without which inference would not cut the mel and mask the face the same
way. Where training kept an average of the weights, that is what is exported.
"""

import argparse
from pathlib import Path

from errors import UserError, run_script
from models.files import read_checkpoint, write_safetensors
from models.loading import NETWORKS, OtherNetwork, export_official, load

WRITERS = {".pth": export_official, ".safetensors": write_safetensors}


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint", metavar="FILE", help="checkpoint of this project or official")
    parser.add_argument("--network", choices=NETWORKS, default="generator", help="which of its networks (%(default)s)")
    parser.add_argument("--outfile", metavar="FILE", required=True, help="*.safetensors or *.pth")
    args = parser.parse_args(argv)
    out = Path(args.outfile)
    if out.suffix not in WRITERS:
        raise UserError(f"--outfile {out}: must end in {' or '.join(WRITERS)}")
    if out.resolve() == Path(args.checkpoint).resolve():
        raise UserError(f"--outfile {out}: is the checkpoint itself, name another file")
    try:
        network = load(args.network, args.checkpoint)
    except OtherNetwork as error:
        raise UserError(" or ".join([str(error), *(f"--network {name}" for name in error.held)])) from None
    out.parent.mkdir(parents=True, exist_ok=True)
    WRITERS[out.suffix](network, out, read_checkpoint(args.checkpoint).get("hparams"))
    print(f"{args.network}: {out}, {out.stat().st_size / 2**20:.1f} MiB")


if __name__ == "__main__":
    run_script(main)
