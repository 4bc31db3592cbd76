"""Making a face say something: from a generator's weights, a face and speech to an mp4."""

from synthesis.face_source import WHOLE_FRAME, FaceSource
from synthesis.lip_syncer import DETECT, OFFICIAL_PADS, OWN_PADS, LipSyncer, Summary

__all__ = ["DETECT", "OFFICIAL_PADS", "OWN_PADS", "WHOLE_FRAME", "FaceSource", "LipSyncer", "Summary"]
