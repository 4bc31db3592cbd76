"""dlib's HOG detector of frontal faces: no weights to download, no GPU, and no profiles."""

from collections.abc import Callable

import cv2
import dlib
import numpy as np
from scipy.special import expit, logit

from faces.detector import Detections

# The detector's window is 80 px high. Enlarging the searched copy twofold, once, finds faces from about 50 px (hairline
# to chin) in it; a second time would cost four times as long for faces too small to learn lips from.
UPSAMPLE = 1

# A HOG box goes from the brows to the chin and over the cheeks, a box of S3FD from the hairline to the chin: how far
# each side (x1, y1, x2, y2) moves, in shares of the HOG box's width and height. Measured on 197 frames of 67 talking
# people against another network trained on WIDER FACE (MTCNN), medians 0.04, -0.19, -0.05, 0.03. The lower edge goes
# further, to 0.13, below that network's in 95 % of the frames, to keep the chin inside. That puts the tip of the nose
# at 0.53 of the height and the mouth at 0.70 (0.63 to 0.76 in 90 % of the frames).
TO_S3FD_EXTENT = np.array([0.045, -0.20, -0.045, 0.13])


def hog_finder(min_score: float) -> Callable[[np.ndarray], list[Detections]]:
    """A `find` for `Detector`; faces scoring below `min_score` (0 to 1) are dropped.

    dlib scores a face by its distance from the decision plane, up to 3 or so, and by itself keeps what is above 0.
    The score here is the logistic function of that, so 0.5 is dlib's own threshold. It is no probability: real faces
    score 0.7 to 0.95, and 0.9 as `min_score` would already lose a good part of them.
    """
    detector = dlib.get_frontal_face_detector()
    threshold = float(logit(min_score))

    def find(frames):
        # Grey finds as many faces as colour and mistakes fewer things for one.
        greys = (cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY) for frame in frames)
        return [as_detections(*detector.run(grey, UPSAMPLE, threshold)[:2]) for grey in greys]

    return find


def as_detections(rectangles, margins) -> Detections:
    # dlib's right and bottom are the last pixel inside.
    corners = [(box.left(), box.top(), box.right() + 1, box.bottom() + 1) for box in rectangles]
    boxes = np.array(corners, dtype=np.float64).reshape(-1, 4)
    sizes = boxes[:, 2:] - boxes[:, :2]
    return Detections(boxes + TO_S3FD_EXTENT * np.tile(sizes, 2), expit(np.array(margins)))
