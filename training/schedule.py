"""The learning rate over a run: a linear rise, then constant or a cosine fall. A pure function of the step."""

import math


def rate_at(step: int, last_step: int, warmup_steps: int, decay: str) -> float:
    """Factor on the learning rate for the step after `step`, 0 < factor <= 1.

    The warm-up is cut to a fifth of the run, so that a short one gets to its learning rate too.
    decay: "none", or "cosine": from 1 after the warm-up to 0 at last_step.
    """
    warmup_steps = min(warmup_steps, last_step // 5)
    if step < warmup_steps:
        return (step + 1) / (warmup_steps + 1)
    if decay == "none":
        return 1.0
    done = (step - warmup_steps) / max(last_step - warmup_steps, 1)
    return max(0.5 * (1 + math.cos(math.pi * done)), 1e-3)  # never 0: a run that goes on still learns
