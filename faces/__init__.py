"""Finding the speaker's face in every frame, and cutting it out and putting it back.

Boxes are float32 (x1, y1, x2, y2) in pixels, frames uint8 (H, W, 3) BGR.
"""

from faces.boxes import pad_boxes, smooth_boxes, steady_boxes
from faces.by_name import make_detector
from faces.crop import crop_face, paste_face
from faces.detector import Detections, Detector
from faces.track import DETECTED, FILLED, NO_FACE, jumps, track_face

__all__ = [
    "DETECTED",
    "FILLED",
    "NO_FACE",
    "Detections",
    "Detector",
    "crop_face",
    "jumps",
    "make_detector",
    "pad_boxes",
    "paste_face",
    "smooth_boxes",
    "steady_boxes",
    "track_face",
]
