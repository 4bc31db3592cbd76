"""Speech as the models hear it: 16 kHz mono, and the official mel spectrogram."""

from audio.load import load_wav
from audio.mel import MelSpectrogram, melspectrogram

__all__ = ["MelSpectrogram", "load_wav", "melspectrogram"]
