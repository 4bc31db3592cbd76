"""A folder of toy clips in the layout of real data: `<root>/<identity>/<clip>.mp4`."""

from pathlib import Path

from tqdm import tqdm

from toy.clip import EASY, FPS, draw_frames, make_toy_speech
from toy.looks import ToyStyle
from toy.speech import SAMPLE_RATE
from video import VideoWriter

# Corpora of different seeds share no identity as long as they are smaller than this.
IDENTITIES_PER_SEED = 100_000


def make_toy_corpus(
    root: Path | str,
    identities: int = 8,
    clips: int = 4,
    seconds: float = 6.0,
    seed: int = 0,
    style: ToyStyle = EASY,
) -> list[Path]:
    """Writes `identities` x `clips` videos of `seconds` each and returns their paths.

    The same arguments give the same pixels and samples before encoding. A clip that is there already is left alone,
    whatever it was made with; a run that was broken off goes on where it stopped.
    """
    wanted = [(identity, clip) for identity in range(identities) for clip in range(clips)]
    paths = []
    for identity, clip in tqdm(wanted, desc="toy corpus", unit="clip"):
        path = Path(root) / f"{identity:03d}" / f"{clip:03d}.mp4"
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_clip(path, seed * IDENTITIES_PER_SEED + identity, clip, seconds, style)
        paths.append(path)
    return paths


def write_clip(path: Path, identity_seed: int, clip_seed: int, seconds: float, style: ToyStyle) -> None:
    speech = make_toy_speech(identity_seed, clip_seed, seconds, style)
    with VideoWriter(path, FPS, audio=speech, sample_rate=SAMPLE_RATE) as writer:
        for frame in draw_frames(identity_seed, clip_seed, seconds, style):
            writer.write(frame)
