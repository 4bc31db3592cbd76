"""clips/ promises: what goes into the store comes out, windows follow the official maths, samples depend on nothing
but (seed, epoch, index), and unusable data is named before training starts."""

import dataclasses
import errno
import os
import pickle
import shutil
from collections import Counter
from itertools import islice

import av
import cv2
import numpy as np
import pytest
from conftest import write_clip

from clips import dataset, filelists, manifest
from clips.corpus import open_split
from clips.dataset import ExpertDataset, GeneratorDataset, fittest
from clips.index import Alignment, mel_start, runs_of
from clips.sampling import ClipSampling, ExpertSampling, GeneratorSampling, StepBatches, fixed_draws
from clips.store import Clip, ClipWriter
from errors import UserError
from hparams import HParams
from training.data import training_batches

HP = HParams()
ALIGNMENT = Alignment.of(HP)


# frame <-> mel


def test_a_frame_starts_at_the_official_column():
    assert [mel_start(k) for k in range(11)] == [int(80.0 * (k / 25.0)) for k in range(11)]
    assert [mel_start(k) for k in range(6)] == [0, 3, 6, 9, 12, 16]


@pytest.mark.parametrize("fps", [25, 30, 24000 / 1001, 50])
def test_the_column_is_exact_at_every_frame_of_an_hour(fps):
    frames = np.arange(0, 90_000, 997)
    exact = [int((80 * int(k) * 1001) // (round(fps * 1001))) for k in frames]
    assert [mel_start(int(k), fps) for k in frames] == exact


def test_the_generator_hears_each_frame_one_frame_early():
    assert [ALIGNMENT.generator_start(k) for k in range(1, 8)] == [mel_start(k - 1) for k in range(1, 8)]
    assert ALIGNMENT.generator_start(0) == -4
    # at 50 fps every second frame coincides with a frame at 25
    assert [ALIGNMENT.generator_start(2 * k, fps=50) for k in range(1, 8)] == [
        ALIGNMENT.generator_start(k) for k in range(1, 8)
    ]


def test_windows_need_five_frames_with_a_face_and_sixteen_columns():
    plenty = 1000
    assert ALIGNMENT.expert_windows([(0, 20)], plenty) == [(0, 16)]
    assert ALIGNMENT.generator_windows([(0, 20)], plenty) == [(1, 16)]
    assert ALIGNMENT.expert_windows([(0, 4), (6, 11), (15, 30)], plenty) == [(6, 7), (15, 26)]
    # 20 frames of sound have 1 + 20 * 640 // 200 = 65 columns; start(15) + 16 = 64 fits
    assert ALIGNMENT.expert_windows([(0, 20)], 65) == [(0, 16)]
    assert ALIGNMENT.expert_windows([(0, 20)], 63) == [(0, 15)]
    # the generator's last slice starts at start(k + 3)
    assert ALIGNMENT.generator_windows([(0, 20)], 65) == [(1, 13)]
    assert ALIGNMENT.generator_windows([(0, 4)], plenty) == []


def test_runs_are_the_ranges_of_true():
    assert runs_of([1, 1, 0, 1, 0, 0, 1]) == [(0, 2), (3, 4), (6, 7)]
    assert runs_of([]) == [] == runs_of([0, 0])


# the store


def test_a_stored_clip_gives_back_its_faces_sound_and_mel(tmp_path):
    row = write_clip(tmp_path, "a/b", 30, np.random.default_rng(1), missing=(3,))
    clip = Clip(tmp_path / "a/b")
    faces = clip.read(0, 30)
    assert faces.shape == (30, 96, 96, 3)
    assert faces.dtype == np.uint8
    assert clip.mel.shape == (80, row.mel_columns)
    assert len(clip.speech()) == 30 * 640
    assert row.runs == [(0, 3), (4, 30)]
    # a player that knows nothing of us sees the same frames, and grey where there is no face
    with av.open(str(tmp_path / "a/b.mov")) as container:
        shown = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
        assert container.streams.video[0].average_rate == 25
    assert len(shown) == 30
    assert np.abs(shown[10].astype(int) - faces[10]).mean() < 3
    assert np.abs(shown[3].astype(int) - 128).max() < 3


def test_sound_is_stored_without_loss(tmp_path):
    speech = np.round(np.random.default_rng(2).uniform(-1, 1, 5 * 640) * 32767).astype(np.float32) / 32768
    writer = ClipWriter(tmp_path / "x", 25, 96, 16000, 95)
    for _ in range(5):
        writer.add_frame(np.zeros((96, 96, 3), np.uint8))
    writer.close(speech, np.zeros((80, 17)), np.zeros((5, 4)), np.ones(5), {})
    assert np.array_equal(Clip(tmp_path / "x").speech(), speech)


def test_an_abandoned_clip_leaves_nothing(tmp_path):
    writer = ClipWriter(tmp_path / "x", 25, 96, 16000, 95)
    writer.add_frame(None)
    writer.discard()
    assert list(tmp_path.iterdir()) == []


def test_a_clip_that_could_not_be_written_leaves_nothing(tmp_path):
    writer = ClipWriter(tmp_path / "id/clip", 25, 96, 16000, 95)
    (tmp_path / "id/clip.npz.part").touch()

    class Full:
        def close(self):
            raise OSError(errno.ENOSPC, "No space left on device")

    writer._container = Full()
    with pytest.raises(OSError, match="No space left"):
        writer.discard()
    assert not list((tmp_path / "id").iterdir())


def test_long_clips_are_not_all_kept_open(store, monkeypatch):
    data = ExpertDataset(open_split(store, store / "lists", "train", HP, "expert"), 96)
    monkeypatch.setattr(dataset, "OPEN_FRAMES", 3 * max(ranges[-1][1] for ranges in data.corpus.windows))
    for index in range(len(data.corpus)):
        data.clip(index)
    assert len(data.corpus) > data._open.cache_info().currsize >= 3


@pytest.mark.parametrize("suffix", [".mov", ".npz"])
def test_a_damaged_clip_is_named(tmp_path, suffix):
    write_clip(tmp_path, "a", 10, np.random.default_rng(1))
    path = tmp_path / f"a{suffix}"
    path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(UserError, match="a: stored clip is damaged"):
        Clip(tmp_path / "a").read(0, 5)


def test_a_clip_cut_short_after_it_was_opened_is_named(tmp_path):
    write_clip(tmp_path, "a", 10, np.random.default_rng(1))
    clip = Clip(tmp_path / "a")
    clip.read(0, 10)
    os.truncate(tmp_path / "a.mov", 3000)
    with pytest.raises(UserError, match="a: stored clip is damaged"):
        clip.read(0, 10)


def test_a_clip_that_is_replaced_is_read_on_as_it_was(tmp_path):
    write_clip(tmp_path, "a", 10, np.random.default_rng(1))
    clip = Clip(tmp_path / "a")
    before = clip.read(0, 10)
    write_clip(tmp_path, "a", 10, np.random.default_rng(2))
    assert np.array_equal(clip.read(0, 10), before)
    assert not np.array_equal(Clip(tmp_path / "a").read(0, 10), before)


def test_a_manifest_survives_a_torn_last_line(tmp_path):
    writer = manifest.ManifestWriter(tmp_path)
    writer.add(manifest.Row("a.mp4", "a/a", "kept", runs=[(0, 5)]))
    writer.close()
    path = tmp_path / manifest.NAME
    path.write_text(path.read_text() + '{"source": "b.mp4", "cl')
    assert list(manifest.read(tmp_path)) == ["a.mp4"]
    writer = manifest.ManifestWriter(tmp_path)
    writer.add(manifest.Row("c.mp4", "c/c", "rejected", reason="no face"))
    writer.close()
    rows = manifest.read(tmp_path)
    assert list(rows) == ["a.mp4", "c.mp4"]
    assert rows["a.mp4"].runs == [(0, 5)]


def test_a_reason_that_is_not_utf8_is_written_and_read_back(tmp_path):
    writer = manifest.ManifestWriter(tmp_path)
    writer.add(manifest.Row("a.mp4", "a/a", "rejected", "unreadable: caf\udce9/ä.mp4"))
    writer.close()
    assert manifest.read(tmp_path)["a.mp4"].reason == "unreadable: caf\udce9/ä.mp4"


# filelists


def test_no_identity_is_in_two_splits_and_each_split_has_one():
    splits = filelists.assign([f"id{i}" for i in range(40)], 0.1, 0.05, kept={})
    counts = [list(splits.values()).count(split) for split in filelists.SPLITS]
    assert counts == [34, 4, 2]
    assert sorted(filelists.assign(["a", "b", "c"], 0.05, 0.05, {}).values()) == ["test", "train", "val"]
    assert sorted(filelists.assign(["a"], 0.05, 0.05, {}).values()) == ["train"]


def test_whoever_holds_most_of_the_clips_is_trained_on():
    for me in (f"me{i}" for i in range(8)):  # whatever the name, by which the order is drawn
        clips = [f"{me}/{i}" for i in range(4)] + ["guest/0"]
        splits = filelists.unlisted(clips, {}, val_share=0.05, test_share=0.05)
        assert [splits[clip] for clip in clips] == ["train"] * 4 + ["val"]


def test_identities_that_come_one_by_one_fill_val_and_test_too():
    lists = {}
    for i in range(12):
        added = filelists.unlisted([f"id{j}/a" for j in range(i + 1)], lists, val_share=0.1, test_share=0.1)
        lists.setdefault(added[f"id{i}/a"], []).append(f"id{i}/a")
    assert [len(lists[split]) for split in filelists.SPLITS] == [10, 1, 1]


def test_identities_stay_in_their_split_when_data_is_added():
    before = filelists.assign([f"id{i}" for i in range(20)], 0.1, 0.1, {})
    after = filelists.assign([f"id{i}" for i in range(60)], 0.1, 0.1, before)
    assert all(after[name] == split for name, split in before.items())
    assert list(after.values()).count("val") == 6


# what a split offers


def test_a_filelist_that_names_absent_clips_says_so(store, tmp_path):
    (tmp_path / "train.txt").write_text("id2/clip0\nid9/gone\n")
    corpus = open_split(store, tmp_path, "train", HP, "expert")
    assert corpus.names == ["id2/clip0"]
    assert corpus.skipped == {"id9/gone": "listed, but not in the store"}
    (tmp_path / "train.txt").write_text("id9/gone\n")
    with pytest.raises(UserError, match="none of its 1 clips can be used.*id9/gone: listed, but not in the store"):
        open_split(store, tmp_path, "train", HP, "expert")


def test_lists_from_windows_are_read(store, tmp_path):
    (tmp_path / "train.txt").write_bytes("\ufeffid2/clip0\r\nid2/clip1\r\nid2/clip1 label\r\n".encode())
    corpus = open_split(store, tmp_path, "train", HP, "expert")
    assert (corpus.names, corpus.skipped) == (["id2/clip0", "id2/clip1"], {})
    (tmp_path / "train.txt").write_text("id2/clip0\n", encoding="utf-16")
    with pytest.raises(UserError, match="train.txt: is not UTF-8 text: save it as UTF-8"):
        open_split(store, tmp_path, "train", HP, "expert")


@pytest.mark.parametrize("name", ["/data/id2/clip0", r"id2\clip0", "C:/my clip", "id2/my clip.mp4", "id2/a.MOV NF"])
def test_a_list_that_names_files_is_told_how_clips_are_named(store, tmp_path, name):
    (tmp_path / "train.txt").write_text(f"id2/clip0\n{name}\n")
    corpus = open_split(store, tmp_path, "train", HP, "expert")
    hint = "lists name clips as <id>/<clip>, without ending, relative to the store"
    assert corpus.skipped == {name: f"listed, but not in the store: {hint}"}


@pytest.mark.parametrize("suffix", [".mov", ".npz"])
def test_a_listed_clip_whose_files_are_gone_is_not_used(store, tmp_path, suffix):
    shutil.copytree(store, tmp_path / "store")
    (tmp_path / f"store/id2/clip0{suffix}").unlink()
    corpus = open_split(tmp_path / "store", store / "lists", "train", HP, "expert")
    assert corpus.skipped == {"id2/clip0": "its files are gone: run preprocess.py again"}
    assert len(corpus) == 7


def test_a_missing_or_empty_filelist_and_store_are_refused(store, tmp_path):
    with pytest.raises(UserError, match="train.txt is missing: run preprocess.py"):
        open_split(store, tmp_path, "train", HP, "expert")
    (tmp_path / "train.txt").write_text("\n")
    with pytest.raises(UserError, match="names no clip"):
        open_split(store, tmp_path, "train", HP, "expert")
    with pytest.raises(UserError, match="train.txt is a file: --filelists takes the folder"):
        open_split(store, tmp_path / "train.txt", "train", HP, "expert")
    (tmp_path / "test.txt").touch()
    with pytest.raises(UserError, match="test.txt names no clip: put some of train.txt into it, or delete the lists"):
        open_split(store, tmp_path, "test", HP, "expert")
    with pytest.raises(UserError, match="no such folder"):
        open_split(tmp_path / "nowhere", store / "lists", "train", HP, "expert")
    with pytest.raises(UserError, match="holds no clips"):
        open_split(tmp_path, store / "lists", "train", HP, "expert")


def test_a_data_root_one_level_too_deep_is_named(store, tmp_path):
    with pytest.raises(UserError, match=f"id2: holds no clips: it is a folder of {store}, give that"):
        open_split(store / "id2", store / "lists", "train", HP, "expert")
    (tmp_path / "id2/clip0").mkdir(parents=True)
    (tmp_path / "id2/clip0/0.jpg").touch()
    with pytest.raises(UserError, match=f"id2: holds no clips: it is a folder of {tmp_path}, give that"):
        open_split(tmp_path / "id2", store / "lists", "train", HP, "expert")


def test_clips_of_the_official_layout_that_cannot_be_used_say_why(tmp_path):
    for name in ("whole", "mute", "empty", "padded"):
        (tmp_path / f"id0/{name}").mkdir(parents=True)
        for i in range(20):
            (tmp_path / f"id0/{name}" / (f"{i:03d}.jpg" if name == "padded" else f"{i}.jpg")).touch()
        (tmp_path / f"id0/{name}/audio.wav").write_bytes(b"" if name == "empty" else b"RIFF")
    (tmp_path / "id0/whole/020.jpg").touch()  # is never read
    (tmp_path / "id0/mute/audio.wav").unlink()
    (tmp_path / "train.txt").write_text("id0/whole\nid0/mute\nid0/empty\nid0/padded\nid0/gone\n")
    corpus = open_split(tmp_path, tmp_path, "train", HP, "expert")
    assert (corpus.names, corpus.windows) == (["id0/whole"], [[(0, 16)]])
    assert corpus.skipped == {
        "id0/mute": "audio.wav is missing: preprocess the clip again",
        "id0/empty": "audio.wav is empty: preprocess the clip again",
        "id0/padded": "no frames: they are called 0.jpg, 1.jpg and so on",
        "id0/gone": "listed, but not in the store",
    }


def test_the_official_layout_is_read_as_it_is(store, tmp_path):
    import wave

    source = Clip(store / "id2/clip0")
    folder = tmp_path / "id2/clip0"
    folder.mkdir(parents=True)
    for i, face in enumerate(source.read(0, 40)):
        if i != 20:  # a frame without a face has no file
            cv2.imwrite(str(folder / f"{i}.jpg"), cv2.resize(face, (110, 130)), [cv2.IMWRITE_JPEG_QUALITY, 95])
    with wave.open(str(folder / "audio.wav"), "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(16000)
        file.writeframes((source.speech() * 32768).astype("<i2").tobytes())
    (tmp_path / "train.txt").write_text("id2/clip0 some label\n")
    corpus = open_split(tmp_path, tmp_path, "train", HP, "generator")
    assert corpus.windows == [[(1, 16), (21, 33)]]
    theirs = GeneratorDataset(corpus, 96)
    ours = GeneratorDataset(open_split(store, store / "lists", "train", HP, "generator"), 96)
    index = ours.corpus.names.index("id2/clip0")
    assert np.array_equal(theirs.expert_mel(0, 5), ours.expert_mel(index, 5))
    assert np.abs(theirs.faces(0, 5).astype(int) - ours.faces(index, 5)).mean() < 12


# samples


@pytest.fixture(scope="module")
def expert_data(store):
    corpus = open_split(store, store / "lists", "train", HP, "expert")
    return ExpertDataset(corpus, 96), ExpertSampling(corpus, 0, 0.5, 4)


def test_pairs_are_in_sync_or_at_least_the_gap_apart(expert_data):
    draws = fixed_draws(expert_data[1], 800)
    gaps = np.array([abs(draw.faces - draw.speech) for draw in draws])
    assert set(gaps[gaps > 0] >= 4) == {True}
    assert 0.4 < (gaps == 0).mean() < 0.6
    assert {draw.clip for draw in draws} == set(range(8))


def test_reference_keeps_its_distance_from_the_target(store):
    corpus = open_split(store, store / "lists", "train", HP, "generator")
    draws = fixed_draws(GeneratorSampling(corpus, 0, 10), 400)
    assert min(abs(draw.target - draw.references[0]) for draw in draws) >= 10
    assert min(draw.target for draw in draws) >= 1


def test_windows_of_one_clip_come_in_a_row_and_keep_their_distance(expert_data):
    sampling = ClipSampling(expert_data[1].corpus, seed=0, per_clip=6, min_gap=4)
    draws = fixed_draws(sampling, 2 * len(sampling))
    assert all(draw.in_sync for draw in draws)
    groups = [draws[i : i + 6] for i in range(0, len(draws), 6)]
    assert all(len({draw.clip for draw in group}) == 1 for group in groups)
    assert sorted(group[0].clip for group in groups[:8]) == list(range(8))
    gaps = {abs(a.faces - b.faces) for group in groups for a in group for b in group if a is not b}
    assert min(gaps) == 4
    assert len({draw.faces % 4 for draw in draws}) == 4  # every start can be drawn


def test_nearby_speech_is_off_by_the_gap_to_15_frames(expert_data):
    dataset, plain = expert_data[0], ClipSampling(expert_data[1].corpus, seed=0, per_clip=4, min_gap=2)
    sampling = ClipSampling(plain.corpus, seed=0, per_clip=4, min_gap=2, nearby=3)
    draws = fixed_draws(sampling, 20 * len(sampling))
    assert [(d.clip, d.faces, d.speech) for d in draws] == [
        (d.clip, d.faces, d.speech) for d in fixed_draws(plain, 20 * len(plain))
    ]
    assert {abs(start - draw.faces) for draw in draws for start in draw.nearby} == set(range(2, 16))
    assert all(len(set(draw.nearby)) == 3 for draw in draws)
    starts = [range(*ranges[0]) for ranges in plain.corpus.windows]
    assert all(start in starts[draw.clip] for draw in draws for start in draw.nearby)
    item = dataset[draws[0]]
    assert item["nearby_start"].tolist() == list(draws[0].nearby)
    for mel, start in zip(item["nearby_mel"], draws[0].nearby, strict=True):
        np.testing.assert_array_equal(mel, dataset.expert_mel(draws[0].clip, start))


def test_a_clip_without_windows_nearby_gives_its_own(tmp_path):
    from clips.sampling import _nearby

    rng = np.random.default_rng(0)
    assert _nearby(rng, np.array([3, 4]), 3, min_gap=2, count=2) == (3, 3)  # which no mask counts
    assert _nearby(rng, np.array([3, 40]), 3, min_gap=20, count=1) == (3,)
    assert _nearby(rng, np.array([3, 23]), 3, min_gap=20, count=2) == (23, 23)


@pytest.mark.parametrize(("balance", "shares"), [(0, (1 / 3, 1 / 3)), (0.5, (0.55, 0.225)), (1, (0.75, 0.125))])
def test_identities_come_as_often_as_a_power_of_their_windows(expert_data, balance, shares):
    names = ["a/1", "a/2", "a/3", "a/4", "a/5", "a/6", "b/1", "c/1"]
    corpus = dataclasses.replace(expert_data[1].corpus, names=names)
    sampling = ClipSampling(corpus, seed=0, per_clip=2, min_gap=4, balance=balance)
    epochs = 100
    visits = [draw.clip for draw in fixed_draws(sampling, epochs * len(sampling))[::2]]
    assert len(visits) == epochs * 8
    of_identity = Counter(names[clip][0] for clip in visits)
    assert of_identity["a"] / len(visits) == pytest.approx(shares[0], abs=0.02)
    assert of_identity["b"] / len(visits) == pytest.approx(shares[1], abs=0.02)
    # clips of one identity by their windows, which are as many here
    of_clip = Counter(visits)
    assert max(of_clip[clip] for clip in range(6)) < 1.4 * min(of_clip[clip] for clip in range(6))
    # and an epoch is never far from its share, unlike one of independent draws
    by_epoch = [sum(names[clip][0] == "a" for clip in visits[8 * i : 8 * i + 8]) for i in range(epochs)]
    assert max(by_epoch) - min(by_epoch) <= 1


def test_a_clip_too_short_for_its_windows_repeats_them(tmp_path):
    from clips.sampling import _spread

    starts = _spread(np.random.default_rng(0), [(3, 6)], per_clip=8, min_gap=5)
    assert len(starts) == 8
    assert set(starts) <= {3, 4, 5}


def test_each_epoch_draws_every_clip_once(expert_data):
    sampling = expert_data[1]
    for epoch in range(3):
        assert sorted(sampling(epoch, i).clip for i in range(8)) == list(range(8))
    assert [sampling(0, i) for i in range(8)] != [sampling(1, i) for i in range(8)]


def test_a_resumed_run_draws_what_the_uninterrupted_one_would(expert_data):
    def batches(first_step: int, count: int):
        return list(islice(training_batches(*expert_data, batch_size=3, workers=0, first_step=first_step), count))

    for resumed, whole in zip(batches(3, 2), batches(0, 5)[3:], strict=True):
        assert all((resumed[name] == whole[name]).all() for name in whole)


def test_two_ranks_share_out_the_batch_of_one():
    whole = next(iter(StepBatches(10, 8, first_step=3)))
    halves = [next(iter(StepBatches(10, 4, first_step=3, rank=rank, ranks=2))) for rank in (0, 1)]
    assert halves[0] + halves[1] == whole == [(2, i) for i in range(4, 10)] + [(3, 0), (3, 1)]


def test_the_number_of_workers_changes_no_sample(expert_data):
    def first_batches(workers):
        loader = iter(training_batches(*expert_data, batch_size=3, workers=workers, first_step=2))
        return [next(loader) for _ in range(4)]

    for alone, shared in zip(first_batches(0), first_batches(2), strict=True):
        assert all((alone[name] == shared[name]).all() for name in alone)


def test_a_sample_holds_the_window_that_was_drawn(expert_data, store):
    dataset, sampling = expert_data
    draw = next(d for d in fixed_draws(sampling, 50) if not d.in_sync)
    sample = dataset[draw]
    clip = Clip(store / dataset.corpus.names[draw.clip])
    assert np.array_equal(sample["faces"], clip.read(draw.faces, 5))
    column = int(80 * draw.speech / 25)
    assert np.array_equal(sample["mel"], clip.mel[:, column : column + 16])
    assert sample["in_sync"] == 0


def test_the_generators_slices_are_the_official_ones(store):
    corpus = open_split(store, store / "lists", "train", HP, "generator")
    dataset = GeneratorDataset(corpus, 192)
    draw = GeneratorSampling(corpus, 0, 5)(0, 0)
    sample = dataset[draw]
    mel = Clip(store / corpus.names[draw.clip]).mel
    starts = [int(80.0 * ((draw.target + j - 1) / 25.0)) for j in range(5)]
    assert np.array_equal(sample["frame_mels"], np.stack([mel[:, s : s + 16] for s in starts]))
    assert sample["target"].shape == (5, 192, 192, 3)


def test_candidates_for_the_reference_keep_their_distance_and_the_first_stays_the_same(store):
    corpus = open_split(store, store / "lists", "train", HP, "generator")
    one, four = (fixed_draws(GeneratorSampling(corpus, 0, 10, candidates), 100) for candidates in (1, 4))
    assert [draw.references[0] for draw in one] == [draw.references[0] for draw in four]
    assert {len(draw.references) for draw in four} == {4}
    assert min(abs(draw.target - start) for draw in four for start in draw.references) >= 10


def test_the_fittest_reference_has_the_targets_pose_and_another_mouth():
    def face(pose: int, mouth: int) -> np.ndarray:
        picture = np.full((96, 96, 3), pose, np.uint8)
        picture[48:] = mouth
        return picture

    target = face(100, 50)
    alike, alike_other_mouth = face(102, 55), face(103, 200)
    turned, turned_other_mouth = face(180, 50), face(190, 250)
    assert fittest(target, [turned_other_mouth, alike, alike_other_mouth, turned]) == 2
    assert fittest(target, [alike, alike_other_mouth]) == 1
    assert fittest(target, [alike_other_mouth, turned_other_mouth, alike]) == 0


def test_a_sample_shows_the_fittest_of_its_candidates(store):
    corpus = open_split(store, store / "lists", "train", HP, "generator")
    dataset = GeneratorDataset(corpus, 96)
    draw = GeneratorSampling(corpus, 0, 10, candidates=4)(0, 3)
    sample = dataset[draw]
    middles = [dataset.faces(draw.clip, start)[2] for start in (draw.target, *draw.references)]
    fit = draw.references[fittest(middles[0], middles[1:])]
    assert np.array_equal(sample["reference"], dataset.faces(draw.clip, fit))


@pytest.mark.parametrize("gigabytes", [1.0, 40 * 96 * 96 * 3 * 1.5 / 1e9])  # for all clips, and for one of them
def test_faces_kept_decoded_are_the_same(store, gigabytes):
    draws = fixed_draws(ExpertSampling(open_split(store, store / "lists", "train", HP, "expert"), 0, 0.5, 4), 30)
    hp = dataclasses.replace(HP, face_cache_gb=gigabytes)
    plain, kept = (ExpertDataset(open_split(store, store / "lists", "train", h, "expert"), 96) for h in (HP, hp))
    assert all(np.array_equal(plain[draw]["faces"], kept[draw]["faces"]) for draw in draws)
    assert len(kept._decoded) == (8 if gigabytes == 1 else 1)
    assert not plain._decoded
    copy = pickle.loads(pickle.dumps(kept))  # as in loader processes, which start with nothing and all the room
    assert not copy._decoded
    assert np.array_equal(copy[draws[0]]["faces"], plain[draws[0]]["faces"])
    assert len(copy._decoded) == 1


def test_the_exact_cut_lies_between_columns(store):
    hp = dataclasses.replace(HP, syncnet_mel_cut="exact")
    dataset = ExpertDataset(open_split(store, store / "lists", "train", hp, "expert"), 96)
    mel = dataset.clip(0).mel
    assert np.array_equal(dataset.expert_mel(0, 5), mel[:, 16:32])  # 5 frames are 16 columns
    assert np.allclose(dataset.expert_mel(0, 6), 0.8 * mel[:, 19:35] + 0.2 * mel[:, 20:36], atol=1e-5)  # 19.2
    # at the end of the sound, where there is no column to go to
    alignment = Alignment.of(hp)
    assert np.allclose(alignment.expert_mel(mel[:, :35], 6)[:, -1], mel[:, 34], atol=1e-5)
    assert alignment.expert_mel(mel[:, :34], 6).shape == (80, 15)
