"""The lip-sync expert on real pairs, in sync or not: cosine similarity + binary cross entropy. Paper, section 3.1.

Two ways of making pairs: `ExpertRecipe` is the paper's, one pair a sample. `MultiwayExpertRecipe` embeds in-sync
windows, several of each clip, and scores every face with every speech of its clip: many more pairs a step. Matching
across the batch may be joined to it (syncnet_multiway_wt).
"""

import numpy as np
import torch

from evaluation.expert_report import measure_expert
from hparams import HParams
from models import SyncNetExpert, p_sync, pair_p_sync
from models.inputs import expert_faces, time_in_channels, to_float
from training import distributed
from training.augment import augment, augment_speech, rows_out_of_reach, turn_and_zoom, warp_voice
from training.images import tile
from training.learner import Learner
from training.loop import Evaluation
from training.losses import all_pairs_bce, expert_bce, multiway_loss
from training.means import Means
from training.recipes.recipe import Recipe

HEADLINE = ("val/bce", "val/accuracy", "val/pair_accuracy", "val/offset_accuracy")  # said at each evaluation


class ExpertRecipe(Recipe):
    kind, length = "expert", "syncnet_nsteps"
    decisive = ("syncnet_loss",)

    def __init__(self, hp: HParams, device: torch.device):
        expert = SyncNetExpert(hp.img_size, hp.width, hp.syncnet_T)
        betas = (hp.syncnet_beta1, hp.syncnet_beta2)
        self.expert = Learner(
            expert, hp.syncnet_lr, betas, hp, device, hp.syncnet_ema_decay, weight_decay=hp.syncnet_weight_decay
        )
        super().__init__(hp, {"expert": self.expert})
        self.forget_best()

    def part_step(self, part: dict, piece: tuple[int, int]) -> tuple[torch.Tensor, dict]:
        """part: faces uint8 (B, T, H, W, 3), mel (B, 80, 16), in_sync (B,)."""
        probability = p_sync(*self._embed(part["faces"], part["mel"][:, None], piece))
        loss = expert_bce(probability, part["in_sync"])
        accuracy = _accuracy(*map(distributed.gather, (probability.detach(), part["in_sync"])))
        return loss, {"loss/bce": loss, "sync/accuracy": accuracy}

    def evaluate(self, batches) -> Evaluation:
        """What the expert makes of in-sync windows of the val list, several of each clip."""
        expert = self.expert.averaged.network.eval()
        report = measure_expert(expert, batches, self.hp.syncnet_eval_min_gap, distributed.everyones)
        values = {f"val/{name}": value for name, value in report.values().items()}
        values["val/pair_accuracy_low"] = report.metrics["pair_accuracy"].low
        headline = {name: values.pop(name) for name in HEADLINE}
        return Evaluation(headline, values, {"val/p_sync_by_offset": report.chart()}, report.table())

    def forget_best(self) -> None:
        # of the checkpoints that are kept for it, the higher the better
        self.best = {"best": float("-inf"), "best_pair_accuracy": float("-inf")}

    def best_of(self, values: dict[str, float]) -> list[str]:
        # The lowest loss is not the best at telling windows apart: both are kept.
        scores = {"best": -values["val/bce"], "best_pair_accuracy": values["val/pair_accuracy"]}
        better = [name for name, score in scores.items() if score > self.best[name]]
        self.best |= {name: scores[name] for name in better}
        return better

    @torch.no_grad()
    def samples(self, batch: dict) -> dict[str, np.ndarray]:
        """The mouths the expert sees: one row a window, its five frames."""
        spread = batch["faces"][:: max(len(batch["faces"]) // 4, 1)][:4]  # neighbours look alike
        faces = expert_faces(to_float(spread))  # (4, 3T, H/2, W)
        frames = faces.unflatten(1, (-1, 3))  # (4, T, 3, H/2, W)
        return {"windows": tile(frames)}

    def optimise(self, batch: dict) -> dict:
        self.expert.network.train()
        self.expert.zero_grad()
        named = Means()
        for part, piece in self.parts(batch):
            loss, said = self.part_step(part, piece)
            (loss / self.hp.accumulate).backward()
            named.add(said)
        named.add({"gradient/expert": self.expert.step(self.steps)})
        return named.take()

    def recipe_state(self) -> dict:
        return {"best": self.best}

    def load_recipe_state(self, state: dict) -> None:
        self.best = dict(state["best"])

    def _embed(self, faces: torch.Tensor, mel: torch.Tensor, piece: tuple[int, int]) -> tuple[torch.Tensor, ...]:
        """Embeddings of augmented faces, uint8 (B, T, H, W, 3) -> (B, D), and of speech, (B, K, 80, 16) -> (K B, D).

        First comes the first speech of every face. piece: which of how many of the step's batch.
        """
        hp = self.hp
        rng = self.lot()
        # Changed faces hide the first traces of the mouth, so the changes grow from nothing: docs/expert.md.
        growing = 0 if self.is_fine_tuning else hp.syncnet_augment_growth * hp.syncnet_nsteps
        grown = min(1.0, self.steps / growing) if growing else 1.0
        shift_px = round(grown * hp.syncnet_shift_px)
        half = faces.shape[2] // 2
        top = rows_out_of_reach(faces.shape[2], shift_px)
        faces = augment(
            to_float(faces[:, :, top:]),
            rng,
            hp.syncnet_flip,
            shift_px,
            grown * hp.syncnet_colour,
            grown * hp.syncnet_blur,
            piece,
        )
        mouths = time_in_channels(faces[..., half - top :, :])
        if hp.syncnet_turn or hp.syncnet_zoom:
            mouths = turn_and_zoom(mouths, rng, grown * hp.syncnet_turn, grown * hp.syncnet_zoom, piece)
        if hp.syncnet_speech_gain:
            mel = augment_speech(mel, rng, grown * hp.syncnet_speech_gain, hp.max_abs_value, piece)
        if hp.syncnet_voice:
            mel = warp_voice(mel, rng, grown * hp.syncnet_voice, (hp.fmin, hp.fmax), piece)
        speech, face = self.expert(mel.transpose(0, 1).flatten(0, 1).unsqueeze(1), mouths)
        return face, speech


class MultiwayExpertRecipe(ExpertRecipe):
    def part_step(self, part: dict, piece: tuple[int, int]) -> tuple[torch.Tensor, dict]:
        """part: as for ExpertRecipe, all in sync, with clip and start (B,) of each window, and perhaps nearby speech.

        Windows of all processes meet each other; those of other parts of the batch do not.
        """
        mel, starts = part["mel"][:, None], part["start"][:, None]
        if "nearby_mel" in part:
            mel = torch.cat([mel, part["nearby_mel"]], dim=1)  # (B, K, 80, 16)
            starts = torch.cat([starts, part["nearby_start"]], dim=1)
        kinds = mel.shape[1]
        face, speech = self._embed(part["faces"], mel, piece)
        face = distributed.gather(face.float())
        speech = torch.cat([distributed.gather(rows) for rows in speech.float().chunk(kinds)])
        clip, starts = distributed.gather(part["clip"]), distributed.gather(starts)
        probability = pair_p_sync(face, speech)  # (B * ranks, K * B * ranks)
        same_clip, anywhere = negatives(clip, starts[:, 0], clip.repeat(kinds), starts.T.flatten(), self._min_gap())
        # The BCE keeps to the paper's negatives, of the same clip.
        bce = all_pairs_bce(probability, same_clip)
        if not self.hp.syncnet_multiway_wt:
            return bce, {"loss/bce": bce}
        others = {"clip": same_clip, "batch": anywhere}[self.hp.syncnet_match_within]
        matching = multiway_loss(probability, others, self.hp.syncnet_temperature)
        return bce + self.hp.syncnet_multiway_wt * matching, {"loss/bce": bce, "loss/matching": matching}

    def _min_gap(self) -> int:
        """Frames: easy negatives first, from syncnet_first_gap down to the nearest ones at half of training."""
        done = 1 if self.is_fine_tuning else 2 * self.steps / self.hp.syncnet_nsteps
        return max(self.hp.syncnet_min_gap, round(self.hp.syncnet_first_gap * (1 - done)))


def negatives(
    clip: torch.Tensor, start: torch.Tensor, speech_clip: torch.Tensor, speech_start: torch.Tensor, min_gap: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Which faces (rows) and speeches (columns) are off sync: two masks (N, M), within the same clip and anywhere.

    clip, start (N,) of the faces, (M,) of the speeches: where each window comes from. Those of one clip less than
    min_gap frames apart count neither way.
    """
    same_clip = clip[:, None] == speech_clip[None]
    apart = (start[:, None] - speech_start[None]).abs() >= min_gap
    return same_clip & apart, ~same_clip | apart


def _accuracy(probability: torch.Tensor, in_sync: torch.Tensor) -> torch.Tensor:
    """Mean of the accuracies on both kinds of pairs, so that a constant answer scores 0.5."""
    right = ((probability > 0.5) == (in_sync == 1)).float()
    kinds = [right[in_sync == label].mean() for label in (0, 1) if (in_sync == label).any()]
    return torch.stack(kinds).mean()
