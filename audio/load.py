"""Loading speech from a file."""

import numpy as np

from video import read_audio


def load_wav(path, sr: int) -> np.ndarray:
    """The sound of an audio or video file as float32 (n,) in [-1, 1] at `sr` Hz.

    Channels are mixed to mono by their mean; the loudness is left as it is. Raises MediaError (a UserError) for a file
    that is missing, unreadable or without sound.
    """
    return read_audio(path, sample_rate=sr, mono=True)
