"""Short videos with sound of held-out clips, made while the generator trains: original on the left, generated right."""

from pathlib import Path

import numpy as np
import torch
from torch.utils.data import default_collate

from clips.dataset import GeneratorDataset
from clips.sampling import GeneratorDraw
from video import VideoWriter

SECONDS = 4  # at most, of a clip
BATCH = 8  # windows at once


class SampleVideos:
    """Called with a step, writes <folder>/step…_<clip>.mp4 for the first `count` clips of the val list."""

    def __init__(self, recipe, dataset: GeneratorDataset, folder: Path, device: torch.device, count: int):
        """recipe: a GeneratorRecipe. As in inference, the frame to redraw is its own reference, but for a still."""
        self.recipe, self.dataset, self.folder, self.device = recipe, dataset, Path(folder), device
        self.count = min(count, len(dataset.corpus))

    @torch.no_grad()
    def __call__(self, step: int) -> None:
        self.recipe.generator.averaged.network.eval()
        for clip in range(self.count):
            self.folder.mkdir(exist_ok=True)
            name = self.dataset.corpus.names[clip].replace("/", "_")
            self._write(clip, self.folder / f"step{step:09d}_{name}.mp4")

    def _write(self, clip: int, path: Path) -> None:
        alignment, rate = self.dataset.alignment, self.dataset.corpus.hp.sample_rate
        first, end = max(self.dataset.corpus.windows[clip], key=lambda window: window[1] - window[0])
        still = self.recipe.generator.network.takes_a_still
        starts = range(first, min(end, first + SECONDS * alignment.fps), alignment.T)
        # Sound of this stretch alone: the writer takes frame 0 for sample 0.
        samples = rate // alignment.fps
        late = self.dataset.late(clip)
        speech = self.dataset.clip(clip).speech()[
            (first + late) * samples : (starts[-1] + late + alignment.T) * samples
        ]
        with VideoWriter(path, alignment.fps, speech, rate) as writer:
            for i in range(0, len(starts), BATCH):
                draws = [
                    GeneratorDraw(clip, target=start, references=(starts[0] if still else start,))
                    for start in starts[i : i + BATCH]
                ]
                batch = default_collate([self.dataset[draw] for draw in draws])
                batch = {name: value.to(self.device) for name, value in batch.items()}
                truth, _, drawn = self.recipe.generate(batch, self.recipe.generator.averaged)
                for frame in side_by_side(truth, drawn):
                    writer.write(frame)


def side_by_side(left: torch.Tensor, right: torch.Tensor) -> np.ndarray:
    """Two (B, 3, T, H, W) in [0, 1], windows in a row -> uint8 (B*T, H, 2W, 3)."""
    frames = torch.cat([left, right], dim=-1).permute(0, 2, 3, 4, 1).flatten(0, 1)
    return (frames * 255).round().clamp(0, 255).to(torch.uint8).cpu().numpy()
