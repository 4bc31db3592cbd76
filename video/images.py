"""Still images."""

from pathlib import Path

import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

from video.colour import to_bgr
from video.frames import video_stream
from video.media import IMAGE_SUFFIXES, MediaError, counted, decode, local_url, open_media, refuse_no_file
from video.orientation import Orientation


def is_image(path) -> bool:
    """Whether it is a still image: by its name, or a GIF of one picture."""
    path = Path(path)
    if path.suffix.lower() != ".gif":
        return path.suffix.lower() in IMAGE_SUFFIXES
    with open_media(path):
        return counted(local_url(path))[0] == 1


def read_image(path) -> np.ndarray:
    """uint8 (H, W, 3) BGR, turned upright as the file says; transparency is dropped. Raises MediaError."""
    refuse_no_file(path)
    image = None if Path(path).suffix.lower() == ".avif" else _read_with_opencv(path)
    if image is not None:
        return image
    # formats that OpenCV was built without, or leaves lying on their side
    with open_media(path) as container:
        frame = next(decode(container, video_stream(container, path)), None)
        if frame is None:
            raise MediaError(f"{path}: the image cannot be decoded")
        return Orientation.of(frame).apply(to_bgr(frame, VideoReformatter()))


def _read_with_opencv(path) -> np.ndarray | None:
    try:
        return cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    except (cv2.error, OSError):  # more pixels than it takes, no permission
        return None
