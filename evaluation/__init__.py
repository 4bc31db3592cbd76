"""How well lips match speech: LSE-D, LSE-C and offset of videos."""

from evaluation.judges import ExpertJudge, Features, SyncNetV2Judge
from evaluation.lse import mfcc, shift_distances, sync_scores
from evaluation.report import format_table, mean_scores, write_json
from evaluation.scoring import Scores, score_video

__all__ = [
    "ExpertJudge",
    "Features",
    "Scores",
    "SyncNetV2Judge",
    "format_table",
    "mean_scores",
    "mfcc",
    "score_video",
    "shift_distances",
    "sync_scores",
    "write_json",
]
