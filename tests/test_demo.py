"""demo.py promises: from nothing to a report with measured numbers, and it deletes nothing but its own earlier run."""

import pytest

import demo
from errors import UserError
from video import probe


def test_the_demo_goes_from_nothing_to_a_report(tmp_path, monkeypatch):
    monkeypatch.setattr(demo, "IDENTITIES", 5)
    monkeypatch.setattr(demo, "SECONDS", 3.6)
    monkeypatch.setattr(demo, "SAMPLES", 8)
    small = (
        "width=0.0625,syncnet_batch_size=8,syncnet_eval_windows=8,syncnet_nsteps=2,batch_size=2,eval_windows=2,nsteps=2"
    )
    demo.main(["--outdir", str(tmp_path / "demo"), "--hparams", small])
    report = (tmp_path / "demo/report.md").read_text()
    assert "of held-out pairs judged right" in report
    assert all(f"| {name} | 0." in report for name in ("generated", "copied reference", "mean face"))
    assert all(f"| {name} | 0." in report for name in ("original video, new speech", "generated video, new speech"))
    synced = sorted((tmp_path / "demo").glob("*_synced.mp4"))
    assert len(synced) == 1
    assert probe(synced[0]).duration_s == pytest.approx(3.6, abs=0.05)
    assert (tmp_path / "demo/curves.png").stat().st_size > 10_000
    assert (tmp_path / "demo/frames.png").stat().st_size > 10_000


def test_a_folder_that_is_no_demo_is_not_emptied(tmp_path):
    (tmp_path / "corpus").mkdir()
    (tmp_path / "thesis.tex").touch()
    with pytest.raises(UserError, match="holds something else than an earlier demo"):
        demo.main(["--outdir", str(tmp_path)])
    assert (tmp_path / "thesis.tex").exists()
