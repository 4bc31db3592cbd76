"""Two ways of doing one thing, timed in turn in one run, since the speed of a machine changes while it is measured."""

import argparse
import json
import os
import platform
import shlex
import sys
from collections.abc import Callable
from statistics import median

import torch


def parser(description: str) -> argparse.ArgumentParser:
    """The flag every benchmark has; description is its docstring."""
    p = argparse.ArgumentParser(
        description=description,
        # Measured beside other jobs on two cores: steps took up to 30 times longer with two threads than with one.
        epilog="On a machine that does other work, set OMP_NUM_THREADS=1: more threads wait for each other.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument(
        "--repetitions",
        metavar="N",
        type=positive(int),
        default=5,
        help="times each side is measured, ours and the original in turn; raise it on a busy machine (%(default)s)",
    )
    return p


def command_line(module: str, argv: list[str] | None) -> str:
    """What was typed, for the record."""
    return shlex.join(["python", "-m", module, *(sys.argv[1:] if argv is None else argv)])


def positive(kind: type) -> Callable:
    """An argparse type: a number of this kind above zero."""

    def parse(text: str):
        value = kind(text)
        if value <= 0:
            raise argparse.ArgumentTypeError(f"{text}: must be greater than 0")
        return value

    parse.__name__ = kind.__name__  # what argparse names where `text` is no number at all
    return parse


class SideBySide:
    """Prints a table row per comparison and, at the end, everything as one line of JSON.

        table = SideBySide("benchmarks.loader", argv, args, per="sample")
        table.compare("expert, 2 workers", ours, original)
        table.finish(machine_facts("cpu"))

    Ratios are time of ours over time of the original: below 1, ours is faster.
    """

    def __init__(self, module: str, argv: list[str] | None, args: argparse.Namespace, per: str):
        self._command = command_line(module, argv)
        self._args, self._per, self._results = args, per, []
        self._row("", "ours", "original", "ours", "original", "ours/original", "range of pairs")
        self._row("", f"ms/{per}", f"ms/{per}", f"{per}s/s", f"{per}s/s", "times", "ours/original")

    def compare(self, case: str, ours: Callable[[], float], original: Callable[[], float]) -> None:
        """ours() and original() each do their work once more and return its seconds per unit."""
        pairs = [(ours(), original()) for _ in range(self._args.repetitions)]
        ours_s, original_s = (median(times) for times in zip(*pairs, strict=True))
        ratios = [a / b for a, b in pairs]
        result = {"ours_s": ours_s, "original_s": original_s, "ratio": ours_s / original_s}
        self._results.append({"case": case, **result, "ratio_low": min(ratios), "ratio_high": max(ratios)})
        milliseconds = [f"{1000 * time:.2f}" for time in (ours_s, original_s)]
        rates = [f"{1 / time:.2f}" for time in (ours_s, original_s)]
        spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
        self._row(case, *milliseconds, *rates, f"{ours_s / original_s:.3f}", spread)

    def finish(self, machine: dict) -> None:
        content = {"command": self._command, "settings": vars(self._args), "machine": machine}
        print(json.dumps({**content, "seconds_per": self._per, "results": self._results}))

    def _row(self, case: str, *columns: str) -> None:
        print(f"{case:32s}" + "".join(f"{column:>16s}" for column in columns), flush=True)


def machine_facts(device: str) -> dict:
    """What a number depends on besides the code; device as torch names it."""
    return {
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name(device) if torch.device(device).type == "cuda" else platform.machine(),
        "torch": torch.__version__,
        "python": platform.python_version(),
    }
