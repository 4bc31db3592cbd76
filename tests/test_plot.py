"""training.plot promises: a panel for every quantity of every run that is named."""

from pathlib import Path

import pytest

from errors import UserError
from training import plot
from training.plot import named


def test_runs_are_called_by_their_last_folder_where_that_tells_them_apart():
    assert named(["a/expert", "b/generator/"]) == {"expert": Path("a/expert"), "generator": Path("b/generator")}


def test_runs_whose_last_folders_are_the_same_are_all_drawn():
    runs = ["out/wav2lip/seed0", "out/wav2lip_gan/seed0"]
    assert named(runs) == {run: Path(run) for run in runs}
    assert len(named([*runs, runs[0]])) == 2


@pytest.mark.parametrize("outfile", ["out", "out.xyz"])
def test_a_kind_of_file_that_cannot_be_drawn_is_refused_before_the_logs_are_read(tmp_path, outfile):
    with pytest.raises(UserError, match=f"--outfile .*{outfile}: must end in .png or another of ") as refusal:
        plot.main([str(tmp_path / "no run"), "--outfile", str(tmp_path / outfile)])
    assert "\n" not in str(refusal.value) and not list(tmp_path.iterdir())
