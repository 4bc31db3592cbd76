"""How fast training data is read: clip store + this project's loaders against the original's way.

    OMP_NUM_THREADS=2 python -m benchmarks.loader
    OMP_NUM_THREADS=2 python -m benchmarks.loader --data_root data/lrs2 --clips 50 --face_px 160

Without --data_root the clips are made here, of noise, in a temporary folder. Both sides read the same clips with the
same number of worker processes, in a steady state: starting workers and filling their queues is not counted. Files are
in the page cache, which spares the original more than us: it opens a file per frame. Its sound is 16 kHz mono already.

Ours opens each clip anew for every sample, as in a corpus far larger than what a worker keeps open; the rows "kept
open" show a corpus small enough to stay open. Ours hands over uint8, the original float32: making floats of them is in
the step that benchmarks.train_step times.
"""

import tempfile
import time
from functools import partial
from pathlib import Path

import torch
from torch.utils.data import DataLoader

from benchmarks.both_layouts import export_original, write_store
from benchmarks.original_way import OriginalExpertDataset, OriginalGeneratorDataset
from benchmarks.side_by_side import SideBySide, machine_facts, parser, positive
from clips import filelists, manifest
from clips.corpus import Corpus, open_split
from clips.dataset import ExpertDataset, GeneratorDataset
from clips.sampling import ExpertSampling, GeneratorSampling
from errors import UserError, run_script
from hparams import HParams
from models.inputs import to_float
from training.data import training_batches

ENDLESS = 10**6  # samples of the original's epoch: its workers would start anew with each


def main(argv=None):
    args = parse_args(argv)
    hp = HParams(syncnet_mel_cut="nearest")  # the original's: both sides are to read the same
    with tempfile.TemporaryDirectory() as temporary:
        # the same clips in both layouts
        folder = Path(temporary)
        store = Path(args.data_root or folder / "store")
        if not args.data_root:
            write_store(store, args.clips, args.seconds, hp)
        names = [row.clip for row in manifest.read(store).values() if row.status == "kept"][: args.clips]
        if not names:
            raise UserError(f"{store}: holds no clip store: --data_root takes the --preprocessed_root of preprocess.py")
        export_original(store, names, folder / "original", args.face_px, hp)
        filelists.write(folder, {"train": names})

        table = SideBySide("benchmarks.loader", argv, args, per="sample")
        for kind, sides in {"generator": generator_sides, "expert": expert_sides}.items():
            corpus = open_split(store, folder, "train", hp, kind, span=max(hp.reference_min_gap, hp.syncnet_min_gap))
            folders = [folder / "original" / name for name in corpus.names]
            dataset, sampling, original = sides(corpus, folders, hp)
            for workers in args.workers:
                originals = DataLoader(original, args.batch_size, num_workers=workers)
                for case, ours in ((kind, OpenedAnew(dataset)), (f"{kind}, kept open", dataset)):
                    batches = training_batches(ours, sampling, args.batch_size, workers, first_step=0)
                    table.compare(
                        f"{case}, {workers} workers",
                        partial(steady_seconds, batches, args.batches),
                        partial(steady_seconds, originals, args.batches),
                    )
        table.finish(machine_facts("cpu"))


def generator_sides(corpus: Corpus, folders: list[Path], hp: HParams):
    """Dataset and sampling of ours, dataset of the original, over the same clips."""
    dataset = GeneratorDataset(corpus, hp.img_size)
    sampling = GeneratorSampling(corpus, hp.seed, hp.reference_min_gap)
    original = OriginalGeneratorDataset(folders, ENDLESS, hp)
    draw = sampling(epoch=0, index=0)
    assert_same(dataset[draw], original.read(folders[draw.clip], draw.target, draw.references[0]))
    return dataset, sampling, original


def expert_sides(corpus: Corpus, folders: list[Path], hp: HParams):
    """As generator_sides; its windows are read by the same functions, so they are not compared again."""
    sampling = ExpertSampling(corpus, hp.seed, hp.syncnet_positive_share, hp.syncnet_min_gap)
    return ExpertDataset(corpus, hp.img_size), sampling, OriginalExpertDataset(folders, ENDLESS, hp)


def assert_same(ours: dict, original: tuple) -> None:
    """Both sides read the same faces and mels for one draw: else their times would be those of different work."""
    _, frame_mels, mel, truth = original
    mel_error = max(abs(mel[0].numpy() - ours["mel"]).max(), abs(frame_mels[:, 0].numpy() - ours["frame_mels"]).max())
    face_error = float((to_float(torch.from_numpy(ours["target"])[None])[0] - truth).abs().mean())
    # Faces went through another JPEG and resize on the original's side; those of other clips differ by 0.2 and more.
    assert mel_error < 1e-3 and face_error < 0.06, (mel_error, face_error)


class OpenedAnew(torch.utils.data.Dataset):
    """The same samples from a dataset that has not opened a clip yet, every time."""

    def __init__(self, dataset):
        self.dataset = dataset

    def __getitem__(self, draw):
        return type(self.dataset)(self.dataset.corpus, self.dataset.img_size)[draw]


def steady_seconds(loader: DataLoader, count: int) -> float:
    """Seconds per sample of `count` batches, once no finished ones are in store; the workers end with this call."""
    batches = iter(loader)
    for _ in range(2 * loader.num_workers + 2):  # each worker prepares two batches ahead
        next(batches)
    samples, start = 0, time.perf_counter()
    for _ in range(count):
        batch = next(batches)
        samples += len(next(iter(batch.values() if isinstance(batch, dict) else batch)))
    return (time.perf_counter() - start) / samples


def parse_args(argv):
    p = parser(__doc__)
    p.add_argument("--data_root", metavar="DIR", help="clip store to read instead of made-up clips")
    p.add_argument("--clips", metavar="N", type=positive(int), default=8, help="clips to read (%(default)s)")
    p.add_argument(
        "--seconds", metavar="S", type=positive(float), default=4.0, help="length of made-up clips (%(default)s)"
    )
    p.add_argument(
        "--face_px",
        metavar="PX",
        type=positive(int),
        default=128,
        help="side of the original's images; it keeps faces as large as in the video (%(default)s)",
    )
    p.add_argument("--workers", metavar="N", type=int, nargs="+", default=[0, 2], help="loader processes (0 and 2)")
    p.add_argument("--batch_size", metavar="N", type=positive(int), default=8, help="samples (%(default)s)")
    p.add_argument(
        "--batches", metavar="N", type=positive(int), default=8, help="batches timed per repetition (%(default)s)"
    )
    return p.parse_args(argv)


if __name__ == "__main__":
    run_script(main)
