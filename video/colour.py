"""Between the Y'CbCr pictures of a video and BGR arrays, without shifting the colours.

FFmpeg's fast conversion truncates: each way makes a picture darker by one to two levels and tints it.
"""

import av
import numpy as np
from av.video.reformatter import VideoReformatter

# Flags of libswscale, as numbers because older releases of PyAV do not name them.
BILINEAR, FULL_CHROMA, ACCURATE_ROUNDING = 0x2, 0x2000, 0x40000

BT709 = 1  # code of BT.709 for matrix, primaries and transfer in the stream's header (ITU-T H.273)
LIMITED_RANGE = 1  # luma 16..235, what players expect of video
UNSPECIFIED = 2  # of a matrix
# px: players take a video that names no matrix for BT.709 from the one on, or above the other
HD_LONGER, SD_SHORTER = 1280, 576
HDR_TRANSFERS = (16, 18)  # PQ, HLG


def to_bgr(
    frame: av.VideoFrame, reformatter: VideoReformatter, width: int | None = None, height: int | None = None
) -> np.ndarray:
    """uint8 (H, W, 3) BGR of a decoded frame, by the colour matrix that the file names.

    If it names none, by BT.709 in high definition and BT.601 below, as players do.
    width, height: px to stretch it to; None = its own.
    """
    flags = BILINEAR | ACCURATE_ROUNDING | FULL_CHROMA
    longer, shorter = max(frame.width, frame.height), min(frame.width, frame.height)
    is_hd = frame.colorspace == UNSPECIFIED and (longer >= HD_LONGER or shorter > SD_SHORTER)
    matrix = {"src_colorspace": "ITU709"} if is_hd else {}
    return reformatter.reformat(frame, width, height, format="bgr24", interpolation=flags, **matrix).to_ndarray()


def is_hdr(frame: av.VideoFrame) -> bool:
    return frame.color_trc in HDR_TRANSFERS


def to_yuv420p(image: np.ndarray, reformatter: VideoReformatter) -> av.VideoFrame:
    """uint8 (H, W, 3) BGR as a frame for the encoder: BT.709 in limited range."""
    frame = av.VideoFrame.from_ndarray(image, format="bgr24")
    flags = BILINEAR | ACCURATE_ROUNDING
    return reformatter.reformat(frame, format="yuv420p", dst_colorspace="ITU709", interpolation=flags)


def mark_bt709(codec: av.VideoCodecContext) -> None:
    """Says in the file how its colours were encoded, so that no player has to guess it from the size."""
    codec.colorspace = codec.color_primaries = codec.color_trc = BT709
    codec.color_range = LIMITED_RANGE
