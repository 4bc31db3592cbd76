"""The scripts promise to work on real recordings too. Needs LIPSYNC_CLIPS, a folder of <id>/<clip> videos with speech:

LIPSYNC_CLIPS=clips make test-slow
"""

import os
from pathlib import Path

import numpy as np
import pytest

import inference
import preprocess
import train_syncnet
import train_wav2lip
from clips import manifest
from models import read_checkpoint
from training import checkpoint
from video import VIDEO_SUFFIXES, probe, read_audio, read_frames

CLIPS = os.environ.get("LIPSYNC_CLIPS")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not CLIPS, reason="LIPSYNC_CLIPS names no folder of real clips")]
IDENTITIES = 8
SMALL = "width=0.125,num_workers=0,log_interval=1,sample_interval=0,face_detector=dlib,val_share=0.2,test_share=0.2"


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> Path:
    """The shortest clip of each of some identities, as links."""
    root = tmp_path_factory.mktemp("videos")
    for folder in sorted(path for path in Path(CLIPS).iterdir() if path.is_dir()):
        videos = [path for path in folder.iterdir() if path.suffix.lower() in VIDEO_SUFFIXES and probe(path).has_audio]
        if not videos or len(list(root.iterdir())) == IDENTITIES:
            continue
        shortest = min(videos, key=lambda path: probe(path).duration_s)
        (root / folder.name).mkdir()
        (root / folder.name / shortest.name).symlink_to(shortest.resolve())
    return root


@pytest.fixture(scope="module")
def run(sources, tmp_path_factory) -> Path:
    """A folder with a store, an expert and a generator, each trained for two steps and resumed for two more."""
    out = tmp_path_factory.mktemp("run")
    lists = ["--filelists", str(out / "lists")]
    store = ["--data_root", str(sources), "--preprocessed_root", str(out / "store")]
    preprocess.main([*store, *lists, "--ngpu", "0", "--hparams", SMALL])
    data = ["--data_root", str(out / "store"), *lists]
    for steps, flags in ((2, []), (4, ["--resume"])):
        hp = f"{SMALL},syncnet_batch_size=4,syncnet_windows_per_clip=2,syncnet_nsteps={steps}"
        train_syncnet.main([*data, "--checkpoint_dir", str(out / "expert"), "--hparams", hp, *flags])
    expert = ["--syncnet_checkpoint_path", str(out / "expert/best.pth")]
    for steps, flags in ((2, []), (4, ["--resume"])):
        hp = f"{SMALL},batch_size=2,eval_windows=4,nsteps={steps}"
        train_wav2lip.main([*data, *expert, "--checkpoint_dir", str(out / "gan"), "--hparams", hp, *flags])
    return out


def test_clips_with_faces_are_kept(run):
    rows = manifest.read(run / "store").values()
    assert sum(row.status == "kept" for row in rows) >= IDENTITIES - 1


def test_both_trainings_run_and_resume(run):
    assert max(checkpoint.found_in(run / "expert")) == max(checkpoint.found_in(run / "gan")) == 4
    networks = read_checkpoint(run / "gan/best.pth")["networks"]
    assert set(networks) == {"generator", "visual_discriminator"}


def test_a_real_video_speaks_another_clips_words(run, sources, tmp_path):
    face, speech = sorted(sources.glob("*/*"))[:2]
    arguments = ["--checkpoint_path", str(run / "gan/best.pth"), "--face", str(face), "--audio", str(speech)]
    inference.main([*arguments, "--outfile", str(tmp_path / "out.mp4"), "--hparams", "face_detector=dlib"])
    seconds = len(read_audio(speech, 16000)) / 16000
    frames = sum(1 for _ in read_frames(tmp_path / "out.mp4"))
    assert frames == pytest.approx(seconds * probe(face).fps, abs=1)
    assert probe(tmp_path / "out.mp4").duration_s == pytest.approx(seconds, abs=0.05)
    sound = read_audio(tmp_path / "out.mp4", 16000)
    assert np.corrcoef(sound[: 2 * 16000], read_audio(speech, 16000)[: 2 * 16000])[0, 1] > 0.95
