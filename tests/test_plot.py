"""training.plot promises: a panel for every quantity of every run that is named."""

from pathlib import Path

from training.plot import named


def test_runs_are_called_by_their_last_folder_where_that_tells_them_apart():
    assert named(["a/expert", "b/generator/"]) == {"expert": Path("a/expert"), "generator": Path("b/generator")}


def test_runs_whose_last_folders_are_the_same_are_all_drawn():
    runs = ["out/wav2lip/seed0", "out/wav2lip_gan/seed0"]
    assert named(runs) == {run: Path(run) for run in runs}
    assert len(named([*runs, runs[0]])) == 2
