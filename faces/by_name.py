"""The face detectors of `--hparams face_detector=NAME`."""

import numpy as np

from errors import UserError
from faces.detector import Detections, Detector
from faces.dlib_hog import hog_finder
from faces.face_alignment_networks import NETWORKS, network_finder
from hparams import CHOICES, HParams


def make_detector(
    name: str,
    device: str = "cpu",
    min_score: float = HParams.face_min_score,
    max_side: int = HParams.detect_max_side,
) -> Detector:
    """The face detector `name`, ready to use.

    sfd, blazeface, yunet, retinaface, scrfd: networks of the face-alignment package, on `device`; their weights are
        downloaded once.
    dlib: HOG, on the CPU, with nothing to download.
    full: the whole frame is the face; for data that is cropped already.

    min_score: 0 to 1, faces below it are dropped; full has no score. max_side: px, see `Detector`.
    Raises UserError for an unknown name, and when the weights or the package that a detector needs are not there.
    """
    if not 0 <= min_score <= 1:
        raise UserError(f"--hparams face_min_score={min_score}: must be between 0 and 1")
    if name == "full":
        return Detector(whole_frame)
    if name == "dlib":
        return Detector(hog_finder(min_score), max_side)
    if name in NETWORKS:
        return Detector(network_finder(name, device, min_score), max_side)
    raise UserError(f"--hparams face_detector={name}: choose one of {', '.join(CHOICES['face_detector'])}")


def whole_frame(frames: np.ndarray) -> list[Detections]:
    height, width = frames.shape[1:3]
    return [Detections(np.array([[0, 0, width, height]]), np.ones(1))] * len(frames)
