"""The face detectors of the face-alignment package; only the detector is loaded, not the landmark network."""

import importlib
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import cv2
import numpy as np
import torch

from errors import OutOfMemory, UserError
from faces.detector import Detections


class Network(NamedTuple):
    min_score: str  # the package's name for the lowest score kept
    files: tuple[str, ...]  # what it downloads
    since: str  # the release of face-alignment that is known to have it
    takes_bgr: bool = False  # whether it must be given BGR for the network to see what it was trained on


# blazeface looks only at the square in the middle of the frame, at 128x128: for one large face in the middle.
NETWORKS = {
    "sfd": Network("filter_threshold", ("s3fd-619a316812.pth",), "1.4"),
    "blazeface": Network("min_score_thresh", ("blazeface.pth", "anchors.npy"), "1.4"),
    "yunet": Network("score_threshold", ("face_detection_yunet_2023mar.onnx",), "1.5"),
    "retinaface": Network("confidence_threshold", ("retinaface_mobilenet0.25.pth",), "1.5", takes_bgr=True),
    "scrfd": Network("confidence_threshold", ("scrfd_2.5g_bnkps.onnx",), "1.5", takes_bgr=True),
}


def network_finder(name: str, device: str, min_score: float) -> Callable[[np.ndarray], list[Detections]]:
    """A `find` for `Detector`, from one of NETWORKS on `device`; faces scoring below `min_score` are dropped.

    The numbers are the official ones: NMS at 0.3 for sfd, its input minus (104, 117, 123). Of RGB, the package
    makes what sfd and yunet (BGR) and blazeface (RGB) were trained on; the official code gives sfd RGB. retinaface's
    weights are of BGR, which the package leaves as it is, and scrfd's of RGB, which it turns round: both are given BGR.
    Raises UserError when the package, the weights or (scrfd) onnxruntime is missing.
    """
    network = load(name, device, min_score)

    def find(frames):
        frames = frames if NETWORKS[name].takes_bgr else frames[..., ::-1]
        batch = torch.from_numpy(frames.copy()).permute(0, 3, 1, 2)  # (n, 3, H, W) uint8
        try:
            found = network.detect_from_batch(batch)
        except torch.OutOfMemoryError:
            number, height, width = frames.shape[:3]
            raise OutOfMemory(
                f"the GPU has no memory for {number} frames of {width}x{height}: lower --hparams face_det_batch_size "
                "or detect_max_side"
            ) from None
        return [as_detections(faces) for faces in found]

    return find


def load(name: str, device: str, min_score: float):
    """The package's own detector object."""
    network = NETWORKS[name]
    # Imported here because the package takes seconds to import and dlib and full do without.
    try:
        module = importlib.import_module(f"face_alignment.detection.{name}")
    except ModuleNotFoundError as error:
        if not error.name.startswith("face_alignment"):
            raise
        raise UserError(
            f"--hparams face_detector={name} needs face-alignment {network.since} or newer: "
            f"pip install 'face-alignment>={network.since}'"
        ) from None

    files, folder = " and ".join(network.files), Path(torch.hub.get_dir(), "checkpoints")
    try:
        return module.FaceDetector(device=str(device), **{network.min_score: min_score})
    except ImportError as error:
        raise UserError(f"--hparams face_detector={name}: {error}") from None
    except OSError as error:
        raise UserError(
            f"--hparams face_detector={name}: its weights could not be downloaded ({error}): put {files} into "
            f"{folder}, or use --hparams face_detector=dlib, which needs none"
        ) from None
    except (RuntimeError, EOFError, pickle.UnpicklingError, cv2.error) as error:
        raise UserError(
            f"--hparams face_detector={name}: cannot use {files} in {folder} ({first_line(error)}): delete it, and it "
            "is downloaded again"
        ) from None


def first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0]


def as_detections(faces) -> Detections:
    faces = np.asarray(faces, dtype=np.float64).reshape(-1, 5)  # x1, y1, x2, y2, score; no face is an empty list
    return Detections(faces[:, :4], faces[:, 4])
