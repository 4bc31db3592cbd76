"""benchmarks/ promises: each checks that both ways do the same work, times them, and ends in one line of JSON."""

import dataclasses
import json
import shutil

import cv2
import numpy as np
import pytest

from benchmarks import expert_recipes, generator_recipes, loader, throughput, train_step
from clips import manifest
from errors import UserError
from models import SyncNetExpert
from models.export import export_official

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


def test_throughput_tells_rates_and_memory_of_every_recipe_and_mode(capsys):
    argv = "--device cpu --width 0.0625 --batch_sizes 2 --modes fp32 bf16 --workers 0 --steps 1".split()
    throughput.main(argv)
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert [(row["recipe"], row["mode"]) for row in told["results"]] == [
        ("wav2lip_gan", "fp32"),
        ("expert", "fp32"),
        ("wav2lip_gan", "bf16"),
        ("expert", "bf16"),
    ]
    for row in told["results"]:
        assert row["samples_per_s"] > 0
        assert row["samples_per_s_step_alone"] > 0
        assert 0 <= row["share_waiting_for_data"] <= 1


def test_recipes_of_the_expert_are_compared_and_finished_runs_not_repeated(store, tmp_path, capsys, monkeypatch):
    argv = ["default", "faithful", "hot: syncnet_lr=0.01", "--data_root", str(store), "--outdir", str(tmp_path)]
    argv += ["--filelists", str(store / "lists"), "--samples", "16", "--every", "8", "--batch", "4"]
    argv += ["--width", "0.0625", "--seeds", "0", "1"]
    results = []
    for _ in range(2):
        expert_recipes.main(argv)
        out = capsys.readouterr().out
        results.append(json.loads(out.splitlines()[-1])["results"])
        assert ("step 2:" in out) == (len(results) == 1)
    assert results[0] == results[1]
    with pytest.raises(UserError, match=r"other settings \(syncnet_lr: 0.01 -> 0.02"):
        expert_recipes.main(["hot: syncnet_lr=0.02", *argv[3:]])
    other = shutil.copytree(store / "lists", tmp_path / "lists")
    (other / "val.txt").write_text((other / "val.txt").read_text().splitlines()[0] + "\n")
    with pytest.raises(UserError, match=r"other settings \(val: \w+ -> \w+\)"):
        expert_recipes.main([*argv, "--filelists", str(other)])
    (tmp_path / "default/seed0/asked.json").rename(tmp_path / "asked.json")
    with pytest.raises(UserError, match="default/seed0: does not say what its run was asked for"):
        expert_recipes.main(argv)
    (tmp_path / "asked.json").rename(tmp_path / "default/seed0/asked.json")
    with pytest.raises(UserError, match=r"other settings \(syncnet_nsteps: 4 -> 8"):
        expert_recipes.main([*argv, "--samples", "32"])
    assert (tmp_path / "default/seed0/best.pth").exists()
    assert [result["recipe"] for result in results[0]] == ["default", "faithful", "hot"]
    assert all(len(result["bce"]["last"]) == 2 for result in results[0])
    for value, low, high in (run["pair_accuracy"] for result in results[0] for run in result["held_out"]):
        assert 0 <= low <= value <= high <= 1
    assert (tmp_path / "curves.png").stat().st_size > 0
    assert "| hot |" in (tmp_path / "table.md").read_text()

    last = tmp_path / "default/seed0/checkpoint_step000000004.pth"
    last.rename(last.with_name("checkpoint_step000000002.pth"))
    asked = []
    monkeypatch.setattr(expert_recipes.train_syncnet, "main", asked.append)
    expert_recipes.main(argv)
    assert [("--resume" in flags) for flags in asked] == [True]


def test_a_recipe_may_see_more_samples_than_the_others():
    args = expert_recipes.parse_args(["default", "--samples", "16", "--hparams", "width=0.5"])
    longer = expert_recipes.recipe_of("faithful@48", args)
    assert (longer.name, longer.preset, longer.samples) == ("faithful@48", "faithful", 48)
    hot = expert_recipes.recipe_of("hot@32: syncnet_lr=0.01", args)
    assert (hot.name, hot.preset, hot.overrides, hot.samples) == ("hot@32", None, "width=0.5,syncnet_lr=0.01", 32)
    assert expert_recipes.recipe_of("default", args).samples == 16
    slow = "syncnet_lr=1e-4"
    for text, name in ((f"faithful: {slow}", "faithful"), (f"slow@32: faithful: {slow}", "slow@32")):
        recipe = expert_recipes.recipe_of(text, args)
        assert (recipe.name, recipe.preset, recipe.overrides) == (name, "faithful", f"width=0.5,{slow}")
    assert expert_recipes.recipe_of(f"slow: default: {slow}", args).preset is None
    with pytest.raises(UserError, match="too many colons"):
        expert_recipes.recipe_of(f"slow: faithful: demo: {slow}", args)
    with pytest.raises(UserError, match="fatihful"):
        expert_recipes.recipe_of(f"slow: fatihful: {slow}", args)
    with pytest.raises(UserError, match="unknown hparam 'syncnet_lrr'"):
        expert_recipes.recipe_of("slip: syncnet_lrr=0.01", args)
    with pytest.raises(UserError, match="hot: names two recipes"):
        expert_recipes.main(["hot: syncnet_lr=0.01", "hot: syncnet_lr=0.02"])
    with pytest.raises(UserError, match="'many' is no number of samples"):
        expert_recipes.recipe_of("faithful@many", args)


def test_time_an_interrupted_run_lay_idle_does_not_count():
    wall = np.array([100.0, 160, 220, 50_220, 50_280])
    assert expert_recipes.minutes_of(wall).tolist() == [0, 1, 2, 5, 6]


def test_every_toy_corpus_has_a_store_of_its_own(tmp_path, monkeypatch):
    made = []
    monkeypatch.setattr(expert_recipes, "make_toy_corpus", lambda folder, *_, style: made.append(style.mumbling))
    monkeypatch.setattr(expert_recipes.preprocess, "main", lambda argv: None)
    stores = [expert_recipes.toy_store(tmp_path, mumbling)[0] for mumbling in (0.0, 0.5, 1.0)]
    assert made == [0.0, 0.5, 1.0]
    assert len(set(stores)) == 3


def test_a_mark_is_reached_when_it_is_kept_at_the_next_evaluation():
    curve = expert_recipes.Curve(np.array([0, 10, 20, 30]), np.arange(4) / 2, np.array([0.5, 0.8, 0.7, 0.9]))
    assert expert_recipes.reached(curve, 0.75, higher=True) == (30, 1.5)
    assert expert_recipes.reached(curve, 0.7, higher=True) == (10, 0.5)
    assert expert_recipes.reached(curve, 0.95, higher=True) is None
    assert expert_recipes.reached(curve, 0.75, higher=False) is None
    assert expert_recipes.needed([None, (10_000, 1.5), (30_000, 2)]) == "30.0k (2.0)"
    assert expert_recipes.needed([None, None, (30_000, 2)]) == "never"


def test_recipes_of_the_generator_are_compared_and_finished_runs_not_repeated(store, tmp_path, capsys, monkeypatch):
    found = shutil.copytree(store, tmp_path / "store")
    rows = list(manifest.read(found).values())
    writer = manifest.ManifestWriter(found)
    for row in rows:
        writer.add(dataclasses.replace(row, settings=json.dumps({"face_detector": "dlib"})))
    writer.close()
    expert = tmp_path / "expert.pth"
    export_official(SyncNetExpert(width=0.0625), expert)
    argv = ["wav2lip", "low: wav2lip: syncnet_wt=0.006", "--data_root", str(found), "--filelists", str(found / "lists")]
    argv += ["--syncnet_checkpoint_path", str(expert), "--judge_path", str(expert), "--steps", "2", "--windows", "4"]
    argv += ["--outdir", str(tmp_path / "out"), "--hparams", "width=0.0625,batch_size=2"]
    generator_recipes.main(argv)
    first = json.loads(capsys.readouterr().out.splitlines()[-1])["results"]
    assert list(first) == ["wav2lip", "low"]
    assert all(len(values) == 1 and np.isfinite(values[0]) for row in first.values() for values in row.values())
    assert cv2.imread(str(tmp_path / "out/low/samples.png")) is not None
    assert "| low |" in (tmp_path / "out/table.md").read_text()

    monkeypatch.setattr(generator_recipes.train_wav2lip, "main", None)  # which is not called again
    generator_recipes.main(argv)
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["results"] == first
    with pytest.raises(UserError, match=r"other settings \(syncnet_wt: 0.006 -> 0.01"):
        generator_recipes.main(["low: wav2lip: syncnet_wt=0.01", *argv[2:]])
    with pytest.raises(UserError, match=r"other settings \(recipe: wav2lip -> speech2vid\)"):
        generator_recipes.main(["wav2lip: speech2vid:", *argv[2:]])
    other = tmp_path / "other_expert.pth"
    export_official(SyncNetExpert(width=0.0625), other)
    with pytest.raises(UserError, match=r"other settings \(teacher: \w+ -> \w+\)"):
        generator_recipes.main([*argv, "--syncnet_checkpoint_path", str(other)])
    with pytest.raises(UserError, match="a_b: names two rows"):
        generator_recipes.main(["a b: wav2lip:", "a_b: wav2lip_gan:", *argv[2:]])
    with pytest.raises(UserError, match="unknown hparam 'ema'"):
        generator_recipes.main([argv[0], "EMA: wav2lip: ema=0.9", *argv[2:]])
    export_official(SyncNetExpert(width=0.0625, T=9), other)
    with pytest.raises(UserError, match=r"syncnet_T and syncnet_mel_cut are \(96, 9, .*: name another judge"):
        generator_recipes.main([*argv, "--judge_path", str(other)])
