"""benchmarks/ promises: each checks that both ways do the same work, times them, and ends in one line of JSON."""

import json

import pytest

from benchmarks import loader, train_step
from errors import UserError

SMALLEST = {
    loader: "--clips 2 --seconds 1.5 --workers 0 --batch_size 1 --batches 1 --repetitions 1",
    train_step: "--width 0.0625 --batch_size 2 --steps 1 --repetitions 1",
}
CASES = {
    loader: [f"{kind}{how}, 0 workers" for kind in ("generator", "expert") for how in ("", ", kept open")],
    train_step: ["wav2lip", "wav2lip_gan", "expert, bce", "expert, multiway"],
}


@pytest.mark.parametrize("benchmark", [loader, train_step], ids=lambda module: module.__name__)
def test_the_last_line_is_json_with_both_times_and_their_ratio(benchmark, capsys):
    benchmark.main(SMALLEST[benchmark].split())
    *_, last = capsys.readouterr().out.splitlines()
    told = json.loads(last)
    assert told["command"] == f"python -m {benchmark.__name__} {SMALLEST[benchmark]}"
    assert told["settings"]["repetitions"] == 1
    assert {"cores", "threads", "torch", "device"} <= set(told["machine"])
    assert [result["case"] for result in told["results"]] == CASES[benchmark]
    for result in told["results"]:
        assert result["ratio"] == result["ours_s"] / result["original_s"] > 0


def test_a_folder_that_is_no_store_is_refused_in_one_line(tmp_path):
    with pytest.raises(UserError, match="holds no clip store: --data_root takes"):
        loader.main(["--data_root", str(tmp_path)])
