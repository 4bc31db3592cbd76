"""The speaker's face: found by every detector behind one interface, followed over time, cut out and put back.

Detectors: dlib on a real face; the face-alignment networks with weights made by hand, whose answer can be computed, so
that files are loaded the real way without the internet. Boxes and crops: hand-computed examples.
"""

import sys
import urllib.request
import weakref

import cv2
import numpy as np
import pytest
import torch
from skimage import data

from errors import UserError
from faces import (
    DETECTED,
    FILLED,
    NO_FACE,
    Detections,
    Detector,
    crop_face,
    face_alignment_networks,
    jumps,
    make_detector,
    pad_boxes,
    paste_face,
    smooth_boxes,
    steady_boxes,
    track_face,
)
from faces.track import detect, every_nth_and_last, fill_gaps, follow_speaker, longest_gap
from hparams import CHOICES, HParams

NAN_BOX = [np.nan] * 4

# The astronaut's face, read off the picture: corners of the mouth, tip of the nose and of the chin, px.
MOUTH_LEFT, MOUTH_RIGHT = (204, 141), (244, 141)
NOSE_TIP_Y, LOWER_LIP_Y, CHIN_Y = 129, 156, 178


@pytest.fixture(scope="module")
def astronaut():
    return data.astronaut()[:, :, ::-1].copy()  # (512, 512, 3) BGR


@pytest.fixture(scope="module")
def dlib_detector():
    return make_detector("dlib")


# --- dlib -------------------------------------------------------------------------------------------------------------


def only_box(detector, frame):
    (found,) = detector.detect(frame[None])
    assert len(found.boxes) == 1
    return found.boxes[0]


def test_what_a_detector_finds_beyond_the_edge_is_no_face():
    found = Detections(np.array([[645.0, 100, 700, 160], [10, 10, 50, 60], [5, 5.2, 90, 5.9]]), np.ones(3))
    (boxes, scores), *_ = Detector(lambda frames: [found]).detect([np.zeros((480, 640, 3), np.uint8)])
    assert boxes.tolist() == [[10, 10, 50, 60]] and len(scores) == 1


def test_a_blended_face_has_no_edge_and_is_whole_in_the_middle():
    frame, box = np.full((200, 200, 3), 100, np.uint8), (40, 20, 140, 120)
    pasted = paste_face(frame, box, np.full((96, 96, 3), 200, np.uint8), blend=0.1)
    row = pasted[70, :, 0].astype(int)
    assert (pasted[20 + 10 : 120 - 10, 40 + 10 : 140 - 10] == 200).all()
    assert np.abs(np.diff(row)).max() <= 15 and (np.diff(row[:90]) >= 0).all()  # against a step of 100
    assert (row[40:140] == row[40:140][::-1]).all() and (row[:40] == 100).all()
    hard = paste_face(frame, box, np.full((96, 96, 3), 200, np.uint8))
    assert np.abs(np.diff(hard[70, :, 0].astype(int))).max() == 100


@pytest.mark.parametrize(
    "box", [(0, 50, 100, 150), (100, 50, 200, 150), (50, 0, 150, 100), (50, 100, 150, 200), (-9, -9, 209, 209)]
)
def test_a_blended_face_does_not_fade_where_the_frame_ends(box):
    frame, face = np.full((200, 200, 3), 100, np.uint8), np.full((96, 96, 3), 200, np.uint8)
    pasted = paste_face(frame, box, face, blend=0.1)[:, :, 0]
    x1, y1, x2, y2 = np.clip(box, 0, 200)
    middle_x, middle_y = (x1 + x2) // 2, (y1 + y2) // 2
    for edge, ends_frame in [
        (pasted[middle_y, x1], x1 == 0),
        (pasted[middle_y, x2 - 1], x2 == 200),
        (pasted[y1, middle_x], y1 == 0),
        (pasted[y2 - 1, middle_x], y2 == 200),
    ]:
        assert edge == 200 if ends_frame else edge < 110


def test_dlib_finds_a_face_from_forehead_to_chin_with_the_mouth_in_the_lower_half(astronaut, dlib_detector):
    x1, y1, x2, y2 = only_box(dlib_detector, astronaut)
    assert 160 < x1 < MOUTH_LEFT[0] - 10 and MOUTH_RIGHT[0] + 10 < x2 < 280
    assert 40 < y1 < 90  # between the top of the hair and the brows
    assert CHIN_Y <= y2 < CHIN_Y + 15
    middle = (y1 + y2) / 2
    assert middle < NOSE_TIP_Y
    assert middle + 10 < MOUTH_LEFT[1] and y2 - 10 > LOWER_LIP_Y


@pytest.mark.parametrize("scale", [0.5, 2.0])
def test_dlib_finds_the_same_face_in_a_scaled_picture(astronaut, dlib_detector, scale):
    scaled = cv2.resize(astronaut, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    # A HOG box moves in steps of an eighth of the face.
    assert only_box(dlib_detector, scaled) / scale == pytest.approx(only_box(dlib_detector, astronaut), abs=15)


def test_a_face_searched_in_a_smaller_copy_is_given_in_pixels_of_the_frame(astronaut, dlib_detector):
    wide = np.pad(astronaut, ((0, 0), (0, 300), (0, 0)))
    box = only_box(make_detector("dlib", max_side=400), wide)
    assert box == pytest.approx(only_box(dlib_detector, astronaut), abs=15)


def test_dlib_finds_no_face_in_a_blank_frame(dlib_detector):
    (found,) = dlib_detector.detect(np.full((1, 120, 160, 3), 128, np.uint8))
    assert found.boxes.shape == (0, 4) and found.scores.shape == (0,)


def test_dlib_scores_lie_between_its_own_threshold_and_one_and_min_score_drops_faces(astronaut, dlib_detector):
    (found,) = dlib_detector.detect(astronaut[None])
    (score,) = found.scores
    assert 0.5 < score < 1
    assert len(make_detector("dlib", min_score=score - 0.01).detect(astronaut[None])[0].scores) == 1
    assert len(make_detector("dlib", min_score=score + 0.01).detect(astronaut[None])[0].scores) == 0


# --- the other detectors ----------------------------------------------------------------------------------------------


def test_full_takes_the_whole_frame_as_the_face():
    frames = np.zeros((2, 1079, 1917, 3), np.uint8)
    for boxes, scores in make_detector("full", max_side=100).detect(frames):
        assert boxes.tolist() == [[0, 0, 1917, 1079]]
        assert scores.tolist() == [1]


@pytest.fixture
def weights_folder(tmp_path, monkeypatch):
    """Where face-alignment looks for weights; a download fails at once instead of reaching for the internet."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    monkeypatch.setattr(urllib.request, "_opener", None)  # an opener made earlier would not know the proxy
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def zero_weights(network):
    return {name: torch.zeros_like(value) for name, value in network.state_dict().items()}


def s3fd_that_finds_red_cells():
    """Weights of S3FD that find a face of 64 px around each 16x16 cell (of the stride-16 map) with much red in it."""
    from face_alignment.detection.sfd.net_s3fd import s3fd

    weights = zero_weights(s3fd())
    # Channel 0 carries the network's third input, red in the BGR it was trained on, to the stride-16 map; channel 1 a
    # constant, against which the map's normalisation measures it.
    layers = "1_1 1_2 2_1 2_2 3_1 3_2 3_3 4_1 4_2 4_3 5_1 5_2 5_3".split()
    for layer in layers:
        weights[f"conv{layer}.weight"][0, 2 if layer == "1_1" else 0, 1, 1] = 1
    weights["conv5_3.bias"][1] = 50
    weights["conv5_3_norm.weight"][:] = 1
    weights["conv5_3_norm_mbox_conf.weight"][1, 0, 1, 1] = 10
    weights["conv5_3_norm_mbox_conf.bias"][1] = -6
    for layer in ("conv3_3_norm", "conv4_3_norm", "fc7", "conv6_2", "conv7_2"):
        weights[f"{layer}_mbox_conf.bias"][-1] = -9
    return weights


def test_sfd_loads_its_weights_and_boxes_what_they_say_in_the_right_colour_order(weights_folder):
    torch.save(s3fd_that_finds_red_cells(), weights_folder / "s3fd-619a316812.pth")
    detector = make_detector("sfd")
    frames = np.zeros((3, 96, 128, 3), np.uint8)
    frames[0, 32:48, 64:80] = (0, 0, 255)  # red, one cell
    frames[1, 32:48, 64:80] = (255, 0, 0)  # blue
    frames[2, 0:16, 112:128] = (0, 0, 255)  # red, in a corner
    red, blue, corner = detector.detect(frames)
    assert red.boxes == pytest.approx(np.array([[40, 8, 104, 72]]))
    # Red 255 - 123 against the constant 50, normalised, times 10 minus 6, through the softmax.
    assert red.scores == pytest.approx(1 / (1 + np.exp(6 - 10 * 132 / np.hypot(132, 50))), abs=1e-4)
    assert blue.boxes.shape == (0, 4)
    assert corner.boxes == pytest.approx(np.array([[88, 0, 128, 40]]))  # clipped to the frame

    assert len(make_detector("sfd", min_score=0.99).detect(frames[:1])[0].boxes) == 0


@pytest.mark.parametrize("name", face_alignment_networks.NETWORKS)
def test_every_network_gets_the_colour_order_its_weights_are_of(name, monkeypatch):
    given = []

    class Package:
        def detect_from_batch(self, batch):
            given.append(batch)
            return [[]]

    monkeypatch.setattr(face_alignment_networks, "load", lambda *args: Package())
    frame = np.zeros((1, 8, 8, 3), np.uint8)
    frame[..., 0] = 7  # blue
    face_alignment_networks.network_finder(name, "cpu", 0.5)(frame)
    # What the package does to retinaface's (nothing, they are of BGR) and scrfd's (it turns them round, to RGB).
    assert given[0][0, :, 0, 0].tolist() == ([7, 0, 0] if name in ("retinaface", "scrfd") else [0, 0, 7])


def test_blazeface_loads_its_weights_and_anchors(weights_folder):
    from face_alignment.detection.blazeface.net_blazeface import BlazeFace

    weights = zero_weights(BlazeFace())
    for side in (8, 16):
        weights[f"classifier_{side}.bias"][:] = 2
        weights[f"regressor_{side}.bias"].view(-1, 16)[:, 2:4] = 64  # width and height: half of the anchor's
    torch.save(weights, weights_folder / "blazeface.pth")
    np.save(weights_folder / "anchors.npy", np.tile([0.5, 0.5, 1, 1], (896, 1)))
    for boxes, scores in make_detector("blazeface").detect(np.zeros((2, 100, 160, 3), np.uint8)):
        assert boxes == pytest.approx(np.array([[55, 25, 105, 75]]), abs=1e-3)  # the middle of the middle square
        assert scores == pytest.approx(1 / (1 + np.exp(-2)))


def test_retinaface_loads_its_weights(weights_folder):
    net = pytest.importorskip("face_alignment.detection.retinaface.net_retinaface", reason="face-alignment < 1.5")
    weights = zero_weights(net.RetinaFace(net.cfg_mnet))
    for level in range(3):
        weights[f"ClassHead.{level}.conv1x1.bias"][0::2] = 9  # background, of both anchors
    weights["ClassHead.2.conv1x1.bias"][:] = torch.tensor([0, 3.0, 9, 0])  # faces of 256 px on the coarsest map
    torch.save(weights, weights_folder / "retinaface_mobilenet0.25.pth")
    for boxes, scores in make_detector("retinaface").detect(np.zeros((2, 32, 32, 3), np.uint8)):
        assert boxes.tolist() == [[0, 0, 32, 32]]
        assert scores == pytest.approx(1 / (1 + np.exp(-3)))


@pytest.mark.parametrize("name, file", [("sfd", "s3fd-619a316812.pth"), ("blazeface", "blazeface.pth and anchors.npy")])
def test_missing_weights_end_in_one_line_that_names_the_file_the_folder_and_the_way_round(weights_folder, name, file):
    with pytest.raises(UserError) as error:
        make_detector(name)
    message = str(error.value)
    assert f"put {file} into {weights_folder}" in message
    assert "--hparams face_detector=dlib" in message
    assert "\n" not in message


@pytest.mark.parametrize("content", [b"<html>not found</html>", b""])
def test_damaged_weights_are_named(weights_folder, content):
    (weights_folder / "s3fd-619a316812.pth").write_bytes(content)
    with pytest.raises(UserError, match=r"cannot use s3fd-619a316812\.pth in .*: delete it") as error:
        make_detector("sfd")
    assert "\n" not in str(error.value)


def test_a_detector_that_the_installed_package_lacks_is_refused_with_the_version_it_needs(monkeypatch):
    monkeypatch.setitem(sys.modules, "face_alignment.detection.retinaface", None)
    with pytest.raises(UserError, match="face_detector=retinaface needs face-alignment 1.5 or newer"):
        make_detector("retinaface")


def test_scrfd_without_onnxruntime_is_refused_with_the_package_to_install(monkeypatch):
    pytest.importorskip("face_alignment.detection.scrfd", reason="face-alignment < 1.5")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(UserError, match="face_detector=scrfd.*pip install onnxruntime"):
        make_detector("scrfd")


def test_an_unknown_detector_is_refused_with_the_known_ones():
    with pytest.raises(UserError, match=f"face_detector=haar: choose one of {', '.join(CHOICES['face_detector'])}"):
        make_detector("haar")


@pytest.mark.parametrize("min_score", [-0.1, 60])
def test_a_min_score_that_is_no_share_is_refused(min_score):
    with pytest.raises(UserError, match="face_min_score.*between 0 and 1"):
        make_detector("dlib", min_score=min_score)


def test_every_detector_the_hparams_offer_is_known(weights_folder):
    for name in CHOICES["face_detector"]:
        try:
            make_detector(name)
        except UserError as error:
            assert "choose one of" not in str(error)


# --- following one face -----------------------------------------------------------------------------------------------


def find_grey_rectangles(frames):
    """A detector for made-up frames: each grey level above black is one face, the brighter the surer."""
    found = []
    for frame in frames:
        levels = [level for level in np.unique(frame) if level > 0]
        where = [np.nonzero(frame[:, :, 0] == level) for level in levels]
        boxes = [(xs.min(), ys.min(), xs.max() + 1, ys.max() + 1) for ys, xs in where]
        scores = np.array(levels, np.float32) / 255
        found.append(Detections(np.array(boxes, dtype=np.float32).reshape(-1, 4), scores))
    return found


def draw(*rectangles):
    """A frame of 100x80 with a grey rectangle for each (level, (x1, y1, x2, y2))."""
    frame = np.zeros((80, 100, 3), np.uint8)
    for level, (x1, y1, x2, y2) in rectangles:
        frame[y1:y2, x1:x2] = level
    return frame


A, A_MOVED, B = (10, 10, 30, 30), (14, 12, 34, 32), (60, 40, 80, 60)


def test_detections_are_ordered_by_score():
    (found,) = Detector(find_grey_rectangles).detect([draw((100, A), (200, B))])
    assert found.boxes.tolist() == [list(B), list(A)]
    assert found.scores == pytest.approx([200 / 255, 100 / 255])


def detect_boxes(frames, detector, every=1, batch_size=16, max_gap=0):
    seen = detect(every_nth_and_last(frames, every), detector, batch_size)
    return follow_speaker(seen, longest_gap(max_gap, every))[0]


def track(frames, **settings):
    return track_face(lambda stop: iter(frames[:stop]), Detector(find_grey_rectangles), HParams(**settings))


def test_every_nth_frame_and_the_last_are_looked_at():
    frames = [draw((200, (i, 0, i + 20, 20))) for i in range(6)]
    boxes = detect_boxes(iter(frames), Detector(find_grey_rectangles), every=4)
    looked_at = np.flatnonzero(~np.isnan(boxes).any(axis=1))
    assert boxes.shape == (6, 4) and boxes.dtype == np.float32
    assert looked_at.tolist() == [0, 4, 5]
    assert boxes[looked_at].tolist() == [[0, 0, 20, 20], [4, 0, 24, 20], [5, 0, 25, 20]]


@pytest.mark.parametrize("number", [0, 1, 4, 5, 8])
def test_there_is_a_row_for_every_frame_whatever_the_batch(number):
    frames = [draw((200, (i, 0, i + 20, 20))) for i in range(number)]
    one, four = (detect_boxes(frames, Detector(find_grey_rectangles), every=3, batch_size=n) for n in (1, 4))
    assert one.shape == (number, 4)
    np.testing.assert_array_equal(one, four)


def test_a_frame_without_a_face_is_a_row_of_nan():
    boxes = detect_boxes([draw((200, A)), draw(), draw((200, A))], Detector(find_grey_rectangles))
    np.testing.assert_array_equal(boxes, np.array([A, NAN_BOX, A], np.float32))


def test_the_face_of_the_frames_before_is_preferred_to_a_better_scoring_one():
    frames = [draw((200, A), (100, B)), draw(), draw((100, A_MOVED), (200, B))]
    boxes = detect_boxes(frames, Detector(find_grey_rectangles), batch_size=2)
    assert boxes[[0, 2]].tolist() == [list(A), list(A_MOVED)]


def test_the_best_scoring_face_is_taken_when_none_is_where_the_last_one_was():
    elsewhere = (30, 50, 50, 70)
    frames = [draw((200, A)), draw((100, elsewhere), (200, B))]
    assert detect_boxes(frames, Detector(find_grey_rectangles))[1].tolist() == list(B)


def test_another_person_is_not_followed_while_the_speaker_is_missed_for_a_moment():
    both, only_b = draw((200, A), (100, B)), draw((100, B))
    find = Detector(find_grey_rectangles)
    missed = detect_boxes([both, only_b, only_b, both], find, max_gap=2)
    np.testing.assert_array_equal(missed, np.array([A, NAN_BOX, NAN_BOX, A], np.float32))
    gone = detect_boxes([both, only_b, only_b, only_b, both], find, max_gap=2)
    np.testing.assert_array_equal(gone, np.array([A, B, B, B, B], np.float32))
    every_other = detect_boxes([both, both, only_b, only_b, both], find, every=2, max_gap=3)
    np.testing.assert_array_equal(every_other[::2], np.array([A, NAN_BOX, A], np.float32))


@pytest.mark.parametrize("every", [1, 2])
def test_a_gap_in_which_only_another_scene_is_seen_is_not_filled(every):
    speaker, with_company, elsewhere = draw((200, A)), draw((200, A), (100, B)), draw((100, B))
    settings = dict(detect_every=every, max_gap_frames=5)
    _, status = track([speaker] * 4 + [elsewhere] * 4 + [speaker] * 4, **settings)
    assert (status[4:8] == NO_FACE).all()
    # B was beside A, who is missed
    _, status = track([with_company] * 4 + [elsewhere] * 4 + [speaker] * 4, **settings)
    assert NO_FACE not in status


@pytest.mark.parametrize("cut", range(51, 56))
def test_between_frames_of_two_speakers_every_frame_is_looked_at(cut):
    boxes, status = track([draw((200, A))] * cut + [draw((200, B))] * 50, detect_every=5)
    assert NO_FACE not in status
    assert boxes[cut - 1].tolist() == list(A) and boxes[cut].tolist() == list(B)
    assert jumps(boxes) == [cut]


@pytest.mark.parametrize("instead", [draw(), draw((100, B))], ids=["nobody", "somebody_else"])
@pytest.mark.parametrize(("start", "end"), [(53, 62), (51, 64), (55, 65)])
def test_a_speaker_is_known_to_the_frame_where_he_goes_and_comes_back(start, end, instead):
    frames = [draw((200, A))] * 100
    frames[start:end] = [instead] * (end - start)
    _, status = track(frames, detect_every=5, max_gap_frames=20 if instead.any() else 0)
    assert np.flatnonzero(status == NO_FACE).tolist() == list(range(start, end))


def test_a_face_that_comes_or_goes_near_the_ends_is_known_to_the_frame():
    _, status = track([draw()] * 3 + [draw((200, A))] * 50 + [draw()] * 2, detect_every=5)
    assert np.flatnonzero(status == NO_FACE).tolist() == [0, 1, 2, 53, 54]


def test_a_face_that_moves_on_by_its_own_width_between_looks_is_followed():
    boxes, status = track([draw((200, (10 + 7 * i, 10, 30 + 7 * i, 30))) for i in range(10)], detect_every=5)
    assert NO_FACE not in status and boxes[:, 0].tolist() == [10 + 7 * i for i in range(10)]


def test_only_what_is_disputed_is_looked_at_again_and_read_no_further_than_that():
    frames = [draw((200, A))] * 23 + [draw((200, B))] * 40 + [draw()] * 20
    reads, looked_at = [], 0

    def read(stop):
        reads.append(stop)
        return iter(frames[:stop])

    def find(batch):
        nonlocal looked_at
        looked_at += len(batch)
        return find_grey_rectangles(batch)

    track_face(read, Detector(find), HParams(detect_every=5))
    assert reads == [None, 65] and looked_at == 17 + 1 + 4 + 4  # 0, 5 … 80, the last; 21 … 24; 61 … 64
    frames[23:] = []
    track_face(read, Detector(find), HParams(detect_every=5))
    assert reads[2:] == [None]


def test_somebody_new_at_the_end_is_followed():
    a, b = draw((200, A)), draw((100, B))
    boxes = detect_boxes([a] + [draw()] * 4 + [b] * 6, Detector(find_grey_rectangles), max_gap=10)
    assert boxes[5:].tolist() == [list(B)] * 6
    c = (70, 5, 90, 25)
    both, b_and_c = draw((200, A), (150, B)), draw((150, B), (100, c))
    boxes = detect_boxes([both] * 4 + [b_and_c] * 3, Detector(find_grey_rectangles), max_gap=10)
    assert boxes[4:].tolist() == [list(c)] * 3  # not B, who was beside A


def test_who_is_away_until_the_end_stays_the_speaker_for_as_long_as_a_gap():
    both, only_b = draw((200, A), (100, B)), draw((100, B))
    find = Detector(find_grey_rectangles)
    assert np.isnan(detect_boxes([both] * 4 + [only_b] * 3, find, max_gap=3)[4:]).all()
    assert detect_boxes([both] * 4 + [only_b] * 4, find, max_gap=3)[4:].tolist() == [list(B)] * 4


def test_a_box_that_leaps_to_another_place_is_a_jump():
    boxes = np.array([A, A_MOVED, B, B, NAN_BOX, A], np.float32)
    assert jumps(boxes) == [2]
    assert jumps(boxes[:0]) == []


def test_frames_are_streamed():
    alive = weakref.WeakSet()
    most = 0

    class Frame(np.ndarray):  # plain arrays cannot be put in a set
        __hash__ = object.__hash__

    def frames():
        nonlocal most
        for _ in range(50):
            frame = draw((200, A)).view(Frame)
            alive.add(frame)
            most = max(most, len(alive))
            yield frame

    detect_boxes(frames(), Detector(find_grey_rectangles), every=2, batch_size=3)
    assert most <= 8  # a batch being searched, the next being gathered, and the frame in hand


# --- gaps -------------------------------------------------------------------------------------------------------------


def with_gaps(*rows):
    return np.array([NAN_BOX if row is None else row for row in rows], np.float32)


def fill(boxes, longest):
    return fill_gaps(boxes, longest, np.zeros(len(boxes), bool))


def test_a_gap_is_filled_linearly_and_marked():
    boxes = with_gaps((0, 0, 40, 40), None, None, None, (8, 4, 48, 52))
    filled, status = fill(boxes, 3)
    assert filled.tolist() == [[0, 0, 40, 40], [2, 1, 42, 43], [4, 2, 44, 46], [6, 3, 46, 49], [8, 4, 48, 52]]
    assert status.tolist() == [DETECTED, FILLED, FILLED, FILLED, DETECTED]
    assert filled.dtype == np.float32 and status.dtype == np.uint8
    assert np.isnan(boxes[1]).all()  # the input is left alone


def test_a_gap_longer_than_allowed_stays_empty():
    boxes = with_gaps((0, 0, 40, 40), None, None, (4, 0, 44, 40))
    filled, status = fill(boxes, 1)
    np.testing.assert_array_equal(filled, boxes)
    assert status.tolist() == [DETECTED, NO_FACE, NO_FACE, DETECTED]


def test_frames_that_were_not_looked_at_are_filled_whatever_max_gap():
    boxes = with_gaps((0, 0, 40, 40), None, None, (3, 0, 43, 40), None, None, None, (3, 0, 43, 40))
    _, status = fill(boxes, longest_gap(0, every=3))
    assert status.tolist() == [DETECTED, FILLED, FILLED, DETECTED, NO_FACE, NO_FACE, NO_FACE, DETECTED]


def test_a_gap_between_two_different_faces_stays_empty():
    _, status = fill(with_gaps(A, None, B), 5)
    assert status.tolist() == [DETECTED, NO_FACE, DETECTED]


@pytest.mark.parametrize(
    "shift, status_between",
    # Squares of 100 px moved by d overlap by (100 - d) / (100 + d): 0.307 and 0.299.
    [(53, FILLED), (54, NO_FACE)],
)
def test_two_boxes_are_one_face_when_they_share_more_than_0_3_of_their_union(shift, status_between):
    _, status = fill(with_gaps((0, 0, 100, 100), None, (shift, 0, 100 + shift, 100)), 1)
    assert status[1] == status_between


def test_the_ends_of_a_video_are_not_extrapolated():
    _, status = fill(with_gaps(None, A, A, None), 5)
    assert status.tolist() == [NO_FACE, DETECTED, DETECTED, NO_FACE]
    assert fill(np.empty((0, 4), np.float32), 5)[1].shape == (0,)


# --- smoothing and padding --------------------------------------------------------------------------------------------


def test_boxes_are_steadied_without_running_ahead_of_the_head():
    moving = np.arange(12, dtype=np.float32)[:, None] * 4 + np.array([0, 10, 30, 50], np.float32)
    assert np.allclose(steady_boxes(moving), moving, atol=1e-4)
    shaking = moving + np.tile([1, -1], 6)[:, None].astype(np.float32)
    assert np.abs(steady_boxes(shaking) - moving)[2:-2].max() <= 0.21 and steady_boxes(shaking).dtype == np.float32
    assert np.array_equal(steady_boxes(shaking, window=1), shaking)
    assert np.array_equal(steady_boxes(shaking, window=4), steady_boxes(shaking, window=3))
    assert np.array_equal(steady_boxes(shaking[:1]), shaking[:1])
    x = np.array([0, 1, 4, 9, 16, 25], np.float32)
    assert steady_boxes(np.stack([x] * 4, axis=1))[:, 0] == pytest.approx([0, 5 / 3, 6, 11, 50 / 3, 25])


def test_smoothing_is_the_official_one_with_its_last_four_boxes():
    x1 = np.array([0, 1, 4, 9, 16, 25, 36], np.float32)
    boxes = np.stack([x1, x1, x1 + 10, x1 + 20], axis=1)
    smooth = smooth_boxes(boxes)
    # By hand: 30/5 = 6; 55/5 = 11; 90/5 = 18, and from here the window stays on the last five, now 18 9 16 25 36:
    # 104/5 = 20.8 -> 20; 18 20 16 25 36: 115/5 = 23; 18 20 23 25 36: 122/5 = 24.4 -> 24; 18 20 23 24 36: 24.2 -> 24.
    expected = np.array([6, 11, 18, 20, 23, 24, 24])
    assert smooth[:, 0].tolist() == expected.tolist()
    assert smooth.dtype == np.float32
    assert boxes[0, 0] == 0  # the input is left alone


def test_smoothing_over_one_box_only_truncates_to_whole_pixels():
    assert smooth_boxes(np.array([[1.9, 2.1, 30.99, 40]], np.float32), window=1).tolist() == [[1, 2, 30, 40]]


def test_a_video_shorter_than_the_window_is_averaged_as_a_whole():
    boxes = np.array([[0, 0, 10, 10], [4, 4, 14, 14]], np.float32)
    # 0 and 4: 2; then 2 and 4: 3.
    assert smooth_boxes(boxes).tolist() == [[2, 2, 12, 12], [3, 3, 13, 13]]


def test_padding_is_top_bottom_left_right_and_stops_at_the_frame():
    boxes = np.array([[20, 30, 60, 70], [2, 1, 99, 79], NAN_BOX], np.float32)
    padded = pad_boxes(boxes, (1, 10, 3, 4), height=80, width=100)
    np.testing.assert_array_equal(padded, np.array([[17, 29, 64, 80], [0, 0, 100, 80], NAN_BOX], np.float32))


# --- cropping and pasting ---------------------------------------------------------------------------------------------


@pytest.fixture
def noise():
    return np.random.default_rng(0).integers(0, 256, (40, 60, 3), dtype=np.uint8)


def test_a_crop_of_the_same_size_is_the_pixels_of_the_box_truncated(noise):
    np.testing.assert_array_equal(crop_face(noise, (10.9, 4.9, 26.9, 20.9), 16), noise[4:20, 10:26])


def test_a_shrunk_crop_averages_areas(noise):
    blocks = noise[0:32, 8:40].reshape(16, 2, 16, 2, 3).mean(axis=(1, 3))
    assert np.abs(crop_face(noise, (8, 0, 40, 32), 16) - blocks).max() <= 0.5


def test_an_enlarged_crop_is_bilinear():
    frame = np.zeros((2, 2, 3), np.uint8)
    frame[:, 1] = 200
    assert crop_face(frame, (0, 0, 2, 2), 4)[0, :, 0].tolist() == [0, 50, 150, 200]


def test_a_box_over_the_border_is_cropped_at_the_border(noise):
    np.testing.assert_array_equal(crop_face(noise, (-9.5, -3, 16, 16), 16), noise[:16, :16])
    np.testing.assert_array_equal(crop_face(noise, (44, 24, 70, 55), 16), noise[24:, 44:])


@pytest.mark.parametrize("box", [(60, 0, 80, 20), (10, 10, 10.9, 20), (20, 20, 10, 30)])
def test_a_box_without_a_pixel_in_the_frame_is_refused(noise, box):
    with pytest.raises(UserError, match="holds no pixel of the 60x40 frame"):
        crop_face(noise, box, 16)


def test_a_pasted_face_fills_the_box_and_nothing_else(noise):
    box = (50.7, 30.2, 75, 38)
    pasted = paste_face(noise, box, np.full((96, 96, 3), 7, np.uint8))
    inside = np.zeros(noise.shape[:2], bool)
    inside[30:38, 50:60] = True
    assert (pasted[inside] == 7).all()
    np.testing.assert_array_equal(pasted[~inside], noise[~inside])
    assert not (noise[inside] == 7).all()  # the input is left alone


def test_a_crop_pasted_back_gives_the_frame(noise):
    box = (10, 4, 26, 20)
    np.testing.assert_array_equal(paste_face(noise, box, crop_face(noise, box, 16)), noise)
