"""Still images."""

from pathlib import Path

import numpy as np
from av.video.reformatter import VideoReformatter

from video.colour import to_bgr
from video.frames import upright, video_stream
from video.media import IMAGE_SUFFIXES, MediaError, decode, open_media


def is_image(path) -> bool:
    """Whether the name is that of a still image."""
    return Path(path).suffix.lower() in IMAGE_SUFFIXES


def read_image(path) -> np.ndarray:
    """uint8 (H, W, 3) BGR, turned upright by its EXIF orientation; transparency is dropped. Raises MediaError."""
    with open_media(path) as container:
        frame = next(decode(container, video_stream(container, path)), None)
        if frame is None:
            raise MediaError(f"{path}: the image cannot be decoded")
        return upright(to_bgr(frame, VideoReformatter()), frame.rotation)
