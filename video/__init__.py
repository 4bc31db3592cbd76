"""Reading frames and sound of any media file, writing mp4. PyAV only: streaming, no temporary files, no shell."""

from video.frames import VideoInfo, probe, read_frames
from video.images import is_image, read_image
from video.media import AUDIO_SUFFIXES, IMAGE_SUFFIXES, VIDEO_SUFFIXES, MediaError
from video.sound import audio_rate, read_audio
from video.writer import MAX_SIDE, VideoWriter

__all__ = [
    "AUDIO_SUFFIXES",
    "IMAGE_SUFFIXES",
    "MAX_SIDE",
    "VIDEO_SUFFIXES",
    "MediaError",
    "VideoInfo",
    "VideoWriter",
    "audio_rate",
    "is_image",
    "probe",
    "read_audio",
    "read_frames",
    "read_image",
]
