"""Still images."""

from pathlib import Path

import cv2
import numpy as np
from av.video.reformatter import VideoReformatter

from video.colour import to_bgr
from video.frames import video_stream
from video.media import IMAGE_SUFFIXES, MediaError, counted, decode, local_url, open_media, refuse_no_file


def is_image(path) -> bool:
    """Whether it is a still image: by its name, or a GIF of one picture."""
    path = Path(path)
    if path.suffix.lower() != ".gif":
        return path.suffix.lower() in IMAGE_SUFFIXES
    with open_media(path):
        return counted(local_url(path))[0] == 1


def read_image(path) -> np.ndarray:
    """uint8 (H, W, 3) BGR, turned upright by its EXIF orientation; transparency is dropped. Raises MediaError."""
    refuse_no_file(path)
    try:
        image = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_COLOR)
    except (cv2.error, OSError):  # more pixels than it takes, no permission
        image = None
    if image is not None:
        return image
    # formats that OpenCV was built without
    with open_media(path) as container:
        frame = next(decode(container, video_stream(container, path)), None)
        if frame is None:
            raise MediaError(f"{path}: the image cannot be decoded")
        return to_bgr(frame, VideoReformatter())
