"""Raw videos -> clip store: faces cut out at 25 fps, 16 kHz mono sound, a manifest, and filelists split by identity.

    python preprocess.py --data_root lrs2/main --preprocessed_root data/lrs2
    python preprocess.py --data_root vox2/dev/mp4 --preprocessed_root data/vox2 --ngpu 4 --hparams preprocess_workers=8

Run it again to go on where it stopped: finished clips are not touched. Clips that a filelist names stay in it; those
that exclude.txt in the folder of the filelists names, one <id>/<clip> per line, are put into none.
"""

import argparse
import dataclasses
import errno
import multiprocessing
import os
import signal
from collections import Counter
from concurrent.futures import FIRST_COMPLETED, wait
from concurrent.futures import TimeoutError as ClipTimeout
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path

import torch
from pebble import ProcessExpired, ProcessPool
from tqdm import tqdm

import faces
import hparams
import video
from clips import filelists, manifest
from clips.ingest import ingest
from clips.settings import differences, settings_of
from clips.store import remove_parts, whole
from errors import OutOfMemory, UserError, run_script

STOPS_THE_RUN = (errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES, errno.ENOTDIR)
# First words of rejections that may be the machine's doing: such clips get another chance in every run.
MACHINE_FAULTS = ("crashed", "failed", "interrupted")

GPU_FAULTS = (OutOfMemory, torch.OutOfMemoryError, getattr(torch, "AcceleratorError", torch.OutOfMemoryError))
POOL_BROKE = (
    "the worker processes died, the reason may stand above: if memory is short, lower preprocess_workers; then run "
    "again, finished clips are kept"
)


def main(argv=None):
    args = parse_args(argv)
    hp = hparams.from_args(args)
    data_root, store_root, lists = Path(args.data_root), Path(args.preprocessed_root), Path(args.filelists)

    # everything that can fail on a typo, before hours of work
    if args.ngpu > torch.cuda.device_count():
        raise UserError(f"--ngpu {args.ngpu}: torch finds {torch.cuda.device_count()} GPUs here: lower it, 0 = CPU")
    refuse_unwritable("--preprocessed_root", store_root)
    refuse_unwritable("--filelists", lists)
    if store_root.resolve() == data_root.resolve():
        raise UserError(
            f"--preprocessed_root {store_root}: is the data root, whose videos it would replace: name another"
        )
    sources = find_videos(data_root, store_root)
    store_root.mkdir(parents=True, exist_ok=True)
    with manifest.alone_with(store_root):
        fill(store_root, data_root, sources, lists, args, hp)


def fill(store_root: Path, data_root: Path, sources: list[str], lists: Path, args, hp: hparams.HParams) -> None:
    rows = manifest.read(store_root)
    sizes = {source: size_of(data_root / source) for source in sources}
    refuse_foreign_lists(lists, sources, rows)
    if args.redo != "all":
        refuse_another_data_root(data_root, store_root, sizes, rows)
    devices = [f"cuda:{i}" for i in range(args.ngpu)] or ["cpu"]
    faces.make_detector(hp.face_detector, devices[0], hp.face_min_score, hp.detect_max_side)

    # what is left to do
    names = clip_names(sources, rows)
    lost = lost_clips(store_root, rows)
    todo = [source for source in sources if not is_done(rows.get(source), sizes[source], hp, args.redo, source in lost)]
    print(f"{len(sources)} videos in {data_root}, {len(sources) - len(todo)} of them done before")
    again = lost.intersection(todo)
    if again:
        print(f"note: {len(again)} stored clips, e.g. {rows[min(again)].clip}, have lost files and are made again")
    warn_of_other_settings(rows, sources, todo, hp)

    run_all(todo, names, data_root, store_root, devices, hp, rows)

    # filelists and summary
    kept = any(row.status == "kept" for row in rows.values())
    of_lists = write_filelists(lists, rows, hp) if kept else []
    print(summary(rows, of_lists, lists, hp))
    if not kept:
        raise UserError(f"no clip of {data_root} could be kept: the reasons stand above")


def parse_args(argv):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data_root", metavar="DIR", required=True, help="folder of videos, <id>/<clip>.mp4 or deeper")
    parser.add_argument("--preprocessed_root", metavar="DIR", required=True, help="the clip store to write or continue")
    parser.add_argument(
        "--filelists",
        metavar="DIR",
        default="filelists",
        help="where train, val, test.txt go, and exclude.txt may lie (%(default)s)",
    )
    parser.add_argument(
        "--ngpu",
        metavar="N",
        type=int,
        default=torch.cuda.device_count(),
        help="GPUs for the face detector; 0 = CPU (all there are)",
    )
    parser.add_argument(
        "--redo",
        metavar="WHICH",
        choices=("outdated", "all"),
        nargs="?",
        const="outdated",
        help="make again what was made with other hparams (the default WHICH; interrupted, it goes on), or all",
    )
    hparams.add_flags(parser)
    return parser.parse_args(argv)


def refuse_unwritable(flag: str, folder: Path) -> None:
    """UserError for a folder that cannot be written, or where a file is in its way."""
    nearest = next(path for path in (folder, *folder.parents) if path.exists())
    if not nearest.is_dir():
        raise UserError(f"{flag} {folder}: {nearest} is a file, a folder is needed: name another")
    if not os.access(nearest, os.W_OK):
        raise UserError(f"{flag} {folder}: nothing can be written in {nearest}: name another")


def find_videos(data_root: Path, store_root: Path) -> list[str]:
    """Paths of all videos below data_root, relative to it, in a fixed order; hidden ones and stores are left out."""
    if data_root.is_file():
        raise UserError(f"--data_root {data_root}: is a file: name the folder above it, {data_root.parent}")
    if not data_root.is_dir():
        raise UserError(f"--data_root {data_root}: no such folder")
    found = []
    for folder, subfolders, files in os.walk(data_root, followlinks=True):
        if {manifest.NAME, manifest.LOCK} <= set(files):
            print(f"note: {folder} is a clip store, its clips are left out")
            subfolders.clear()
            continue
        here = Path(folder).resolve()
        # A link to a folder above would lead round and round.
        closed = {store_root.resolve(), here, *here.parents}
        subfolders[:] = sorted(
            name for name in subfolders if not name.startswith(".") and Path(folder, name).resolve() not in closed
        )
        paths = (Path(folder, name) for name in sorted(files) if not name.startswith("."))
        found += [str(path.relative_to(data_root)) for path in paths if path.suffix.lower() in video.VIDEO_SUFFIXES]
    unwritable = [source for source in found if not filelists.can_hold(source)]
    if unwritable:
        example = unwritable[0].encode(errors="backslashreplace").decode()
        print(f"left out {len(unwritable)} videos whose names no filelist can hold, rename them: e.g. {example}")
        found = [source for source in found if filelists.can_hold(source)]
    if not found:
        endings = " ".join(sorted(video.VIDEO_SUFFIXES))
        raise UserError(f"--data_root {data_root}: no video in it, looked for {endings}")
    return found


def clip_names(sources: list[str], rows: dict[str, manifest.Row]) -> dict[str, str]:
    """The store's name for each source: its path without suffix; with suffix where two would share a name."""
    names = {source: row.clip for source, row in rows.items()}
    taken = set(names.values())
    for source in sources:
        if source in names:
            continue
        path = Path(source)
        # A video that lies directly in the data root is its own identity.
        folder = path.parent.as_posix() if path.parent != Path(".") else path.stem
        name = f"{folder}/{path.stem}"
        if name in taken:
            name = f"{folder}/{path.name}"
        taken.add(name)
        names[source] = name
    return names


def size_of(path: Path) -> int:
    """Bytes; 0 of what cannot be found: that is said when it is read."""
    try:
        return path.stat().st_size
    except OSError:
        return 0


def lost_clips(store_root: Path, rows: dict[str, manifest.Row]) -> set[str]:
    """Sources of the clips that were kept and whose files are no longer in the store."""
    kept = {source: row.clip for source, row in rows.items() if row.status == "kept"}
    there = whole(store_root, kept.values())
    return {source for source, clip in kept.items() if clip not in there}


def is_done(
    row: manifest.Row | None, size: int, hp: hparams.HParams, redo: str | None = None, is_lost: bool = False
) -> bool:
    """A clip is done when its source has not changed; a rejected one is tried again under other hparams.

    Where the machine may be to blame, a rejected one is tried again in any case. size: bytes of the source, 0 where
    that is gone; is_lost: the clip's own files are gone.
    """
    if row is None or (is_lost and size):
        return False
    if row.status == "kept" and (size == 0 or (redo is None and row.source_bytes == size)):
        return True  # also where the source was deleted since
    if redo == "all" or row.source_bytes != size:
        return False
    if row.status == "kept":
        return row.settings == settings_of(hp)  # a row of an earlier version, which names fewer, is outdated
    kind = row.reason.split(":")[0]
    return kind not in MACHINE_FAULTS and not differences(row.settings, hp)


def refuse_another_data_root(data_root: Path, store_root: Path, sizes: dict[str, int], rows) -> None:
    """Stops before clips of one data set would be replaced by those of another with the same names."""
    known = [source for source in sizes if source in rows and rows[source].status == "kept"]
    changed = [source for source in known if sizes[source] and rows[source].source_bytes != sizes[source]]
    if len(changed) >= 5 and len(changed) > len(known) / 2:
        raise UserError(
            f"{store_root}: {len(changed)} of its {len(known)} clips with these names are of other files, such as "
            f"{changed[0]}: give {data_root} another --preprocessed_root, or replace them with --redo all"
        )


def warn_of_other_settings(rows, sources, todo, hp) -> None:
    kept = (rows[source] for source in set(sources) - set(todo) if rows[source].status == "kept")
    others = sum(bool(differences(row.settings, hp)) for row in kept)
    if others:
        print(f"note: {others} clips were made with other hparams and stay as they are; --redo makes them again")


def run_all(todo, names, data_root, store_root, devices, hp, rows) -> None:
    """Feeds the worker processes, adds each finished clip to the manifest and to `rows`."""
    if not todo:
        return
    context = multiprocessing.get_context("spawn")  # CUDA does not survive a fork
    counter = context.Value("i", 0)
    writer = manifest.ManifestWriter(store_root)
    workers = min(hp.preprocess_workers, len(todo))
    # Workers inherit that Ctrl-C is not their business; set in `start_worker` alone, it would come too late for those
    # that are still importing.
    not_ours = set(multiprocessing.active_children())
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    pool = ProcessPool(workers, initializer=start_worker, initargs=(hp, devices, counter), context=context)
    pool.active  # noqa: B018 (starts the workers)
    signal.signal(signal.SIGINT, before)
    results = Counter()
    try:
        waiting = iter(todo)
        running = {}
        with tqdm(total=len(todo), desc="preprocessing", unit="clip") as bar:
            while True:
                # A short queue: a hundred thousand scheduled clips would only take memory.
                while len(running) < 2 * workers and (source := next(waiting, None)) is not None:
                    if source in rows and rows[source].status == "kept":
                        # Its files change before its row can: until then it is not to be trained on.
                        reason = "interrupted: while it was made again; run preprocess.py once more"
                        writer.add(dataclasses.replace(rows[source], status="rejected", reason=reason))
                    job = (Path(source), names[source], data_root, store_root, hp)
                    running[schedule(pool, job, hp.clip_timeout_s)] = source
                if not running:
                    break
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    source = running.pop(future)
                    row = rows[source] = outcome(future, source, names[source], size_of(data_root / source), hp)
                    writer.add(row)
                    if row.status == "rejected":
                        remove_parts(store_root / names[source])
                    results[row.status] += 1
                    bar.set_postfix(results, refresh=False)
                    bar.update()
    finally:
        # Nothing is left to do here, or nothing more is wanted. Workers that outlive this process would go on writing
        # into a store that is free, and one that is still importing would complain about the pool's vanished locks, so
        # all go before the pool does; what they write is whole or not there.
        before = signal.signal(signal.SIGTERM, signal.SIG_IGN)  # launchers send it more than once
        pool.stop()
        for worker in set(multiprocessing.active_children()) - not_ours:
            worker.kill()
        pool.join()
        writer.close()
        signal.signal(signal.SIGTERM, before)


def schedule(pool: ProcessPool, job: tuple, timeout_s: float):
    try:
        return pool.schedule(work, args=job, timeout=timeout_s)
    except RuntimeError:  # what pebble says of a pool that broke a moment ago
        raise UserError(POOL_BROKE) from None


def start_worker(hp, devices, counter) -> None:
    """Runs once in every worker process: a detector of its own, on the next GPU in turn."""
    global _detector
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's business
    torch.set_num_threads(max(1, (os.cpu_count() or 1) // hp.preprocess_workers))
    with counter.get_lock():
        device = devices[counter.value % len(devices)]
        counter.value += 1
    _detector = faces.make_detector(hp.face_detector, device, hp.face_min_score, hp.detect_max_side)


def work(source, name, data_root, store_root, hp) -> manifest.Row:
    return ingest(source, name, data_root, store_root, _detector, hp)


def outcome(future, source: str, name: str, size: int, hp) -> manifest.Row:
    """The row a worker returned, or a rejection that says how it failed. size: bytes of the source."""
    rejected = manifest.Row(source, name, "rejected", settings=settings_of(hp), source_bytes=size)
    try:
        return future.result()
    except ClipTimeout:
        rejected.settings = settings_of(hp, ["clip_timeout_s"])  # with more time it may do
        rejected.reason = f"timed out: after {hp.clip_timeout_s:.0f} s, see clip_timeout_s in hparams.py"
    except ProcessExpired as error:
        rejected.reason = f"crashed: the worker process died on it (exit code {error.exitcode})"
    except BrokenProcessPool:
        raise UserError(POOL_BROKE) from None  # nothing that this clip did: it is left for the next run
    except Exception as error:
        # One odd file must not end a run over 100,000; a full disk or a GPU that fails at every clip must.
        if getattr(error, "errno", None) in STOPS_THE_RUN or isinstance(error, GPU_FAULTS):
            raise
        rejected.reason = f"failed: {type(error).__name__}: {error}"
    return rejected


def refuse_foreign_lists(lists: Path, sources, rows) -> None:
    """Stops before filelists of another data set would be overwritten."""
    known = set(clip_names(sources, rows).values())
    lines = [line for of_split in filelists.existing(lists).values() for line in of_split]
    foreign = [line for line in lines + filelists.excluded(lists) if filelists.clip_named(line, known) not in known]
    if foreign:
        remedy = filelists.naming_hint(foreign[0]) or "name another folder with --filelists"
        raise UserError(
            f"{lists} lists {len(foreign)} clips that are not in this data root, such as {foreign[0]}: {remedy}"
        )


def write_filelists(lists: Path, rows: dict[str, manifest.Row], hp) -> list[str]:
    """Takes what is excluded out of the lists, adds what none of them names, and says what is in them, in lines.

    What is rejected stays in its list, where training passes it over: it may be kept one day.
    """
    known = {row.clip for row in rows.values()}
    excluded = known & {filelists.clip_named(line, known) for line in filelists.excluded(lists)}
    kept = {row.clip for row in rows.values() if row.status == "kept"} - excluded
    listed = {
        split: [filelists.clip_named(line, known) for line in lines]
        for split, lines in filelists.existing(lists).items()
    }
    added = filelists.unlisted(sorted(kept), listed, hp.val_share, hp.test_share)
    clips = {split: set(listed.get(split, ())) - excluded for split in filelists.SPLITS}
    is_first = not any(clips.values())
    for clip, split in added.items():
        clips[split].add(clip)
    filelists.write(lists, clips)

    counts = {split: len(names & kept) for split, names in clips.items()}
    lines = [f"  {split + '.txt':<10}{count:>7} clips" for split, count in counts.items()]
    if added and not is_first:
        by_split = Counter(added.values())
        where = ", ".join(f"{by_split[split]} {split}" for split in filelists.SPLITS if by_split[split])
        lines.append(f"  {len(added)} clips that no list named were added: {where}")
    if excluded:
        lines.append(f"  {len(excluded)} clips that {filelists.EXCLUDED} names are in no list")
    return lines + note_on_identities(counts, len(set(map(manifest.identity_of, kept))))


def note_on_identities(counts: dict[str, int], identities: int) -> list[str]:
    """A line where they are too few for the lists to name a clip each; counts: clips by split."""
    empty = [f"{split}.txt" for split, count in counts.items() if not count]
    # With more identities, an empty test.txt is meant so: only the other two are needed.
    if not empty or (empty == ["test.txt"] and identities >= len(filelists.SPLITS)):
        return []
    return [
        f"  note: {identities} identities, no clip in {' and '.join(empty)}: the first folder below the data root "
        "counts as identity: give each person one, or put the files straight into the data root, each an identity "
        "then, and preprocess into another folder; where val_share or test_share were 0, raise them and delete the "
        "lists"
    ]


def summary(rows: dict[str, manifest.Row], of_lists: list[str], lists: Path, hp) -> str:
    """What was kept, and why the rest was not; of_lists: lines on the filelists, if they were written."""
    kept = [row for row in rows.values() if row.status == "kept"]
    rejected = [row for row in rows.values() if row.status != "kept"]
    minutes = sum(row.frames for row in kept) / hp.fps / 60
    lines = [f"kept {len(kept)} clips, {minutes:.1f} minutes, {len({row.identity for row in kept})} identities"]
    lines += of_lists
    lines += [f"rejected {len(rejected)} clips" + (":" if rejected else "")]
    by_kind = Counter(row.reason.split(":")[0] for row in rejected)
    for kind, count in by_kind.most_common():
        example = next(row for row in rejected if row.reason.split(":")[0] == kind)
        lines.append(
            f"  {kind:<12}{count:>7}   e.g. {example.source}: {example.reason.partition(': ')[2] or example.reason}"
        )
    if of_lists:
        lines.append(f"filelists in {lists}, all reasons in manifest.jsonl")
    return "\n".join(lines)


if __name__ == "__main__":
    run_script(main)
