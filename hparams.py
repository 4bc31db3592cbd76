"""Every knob of the project, once, in the order of the pipeline. Edit this file between experiments.

Each line ends with unit, meaning and source: [paper] Prajwal et al. 2020, [code] the official Wav2Lip code,
[ours] a choice of this project. A preset is a small dict of overrides. From the shell, on every script:

    --preset faithful
    --hparams "width=0.25,batch_size=8"
"""

import argparse
import copy
import dataclasses
import difflib
import math
from dataclasses import dataclass

from errors import UserError

INF = float("inf")


@dataclass(frozen=True)
class HParams:
    # --- sound: the official mel spectrogram; changing it breaks official checkpoints -------------------------------
    sample_rate: int = 16000  # Hz, mono [code]
    n_fft: int = 800  # samples [code]
    hop_size: int = 200  # samples between mel columns, 12.5 ms [code]
    win_size: int = 800  # samples of the Hann window, 50 ms [code]
    num_mels: int = 80  # mel bands [code]
    fmin: float = 55.0  # Hz, lower edge of the lowest band [code]
    fmax: float = 7600.0  # Hz, upper edge of the highest band [code]
    preemphasis: float = 0.97  # y[n] = x[n] - preemphasis x[n-1] [code]
    ref_level_db: float = 20.0  # dB subtracted from the mel before scaling [code]
    min_level_db: float = -100.0  # dB mapped to -max_abs_value [code]
    max_abs_value: float = 4.0  # mel values are scaled and clipped to +- this [code]

    # --- windows ----------------------------------------------------------------------------------------------------
    fps: int = 25  # frames per second of every clip in the store [paper]
    syncnet_T: int = 5  # frames of a window, of expert and generator alike [paper, section 3.1]
    correct_offsets: bool = True  # read speech where train_syncnet.py --correct_offsets found it to be [ours]
    syncnet_mel_step_size: int = 16  # mel columns of five frames, 0.2 s: what the generator hears of a frame [code]

    # --- preprocess.py: faces ---------------------------------------------------------------------------------------
    face_detector: str = "sfd"  # sfd | blazeface | yunet | retinaface | scrfd | dlib | full (crops already) [code: sfd]
    face_min_score: float = 0.5  # detections below it are dropped; ignored by detectors without a score [code]
    detect_max_side: int = 640  # px, faces are searched in a copy no larger than this; 0 = full size [ours]
    detect_every: int = 5  # one frame in so many is searched, and all around changes; 1 = every frame [ours; code: 1]
    face_det_batch_size: int = 16  # frames a detector gets at once; lower it when out of memory [code]
    max_gap_frames: int = 10  # frames without a detection that interpolation fills; longer gaps stay [ours; code: 0]

    # --- preprocess.py: the clip store ------------------------------------------------------------------------------
    store_size: int = 96  # px, side of the stored face crops; raise it to img_size for larger models [ours]
    jpeg_quality: int = 95  # 1..100, of the stored crops [ours]
    min_frames: int = 16  # usable face frames a clip needs, else it is rejected [code: more than 15]
    min_face_px: int = 32  # px, median box width below which a clip is rejected; 0 = off [ours]
    min_speech_rms: float = 0.001  # loudness (full scale = 1) below which a clip counts as silent [ours]
    val_share: float = 0.05  # share of identities in filelists/val.txt [ours]
    test_share: float = 0.05  # share of identities in filelists/test.txt [ours]
    preprocess_workers: int = 2  # processes of preprocess.py [ours]
    clip_timeout_s: float = 900.0  # seconds after which a clip that hangs is given up and reported [ours]

    # --- models -----------------------------------------------------------------------------------------------------
    img_size: int = 96  # px, side of the faces the models see: 96, 192, 288 or 384 [paper: 96]
    width: float = 1.0  # factor on every channel count; 1.0 = paper, 0.25 trains on a laptop [ours]

    # --- training, both scripts -------------------------------------------------------------------------------------
    seed: int = 0  # decides initial weights and every sample drawn [ours]
    num_workers: int = 4  # loader processes; 0 = load in the training process [code: 16]
    face_cache_gb: float = 0.0  # GB of decoded faces kept in every loader process, and as much for val; 0 = none [ours]
    precision: str = "fp32"  # fp32 | bf16: autocast of the networks, losses stay fp32 [ours; code: fp32]
    compile: bool = False  # torch.compile: minutes at the start, then faster steps, for GPUs [ours]
    accumulate: int = 1  # parts a batch is worked through in when memory is short; each is normalised by itself [ours]
    clip_grad_norm: float = 0.0  # largest norm of a network's gradient; 0 = off [ours]
    on_nonfinite: str = "stop"  # stop | skip: what to do with a step whose gradient is NaN or infinite [ours]
    log_interval: int = 10  # steps between points on the training curves [ours]
    sample_interval: int = 1000  # steps between grids of sample images; 0 = off [code: 3000]
    sample_videos: int = 2  # val clips that the generator is shown on with sound, as often; 0 = off [ours]
    keep_checkpoints: int = 3  # newest checkpoints kept beside the best one [ours; code: all]

    # --- train_syncnet.py: the lip-sync expert ----------------------------------------------------------------------
    syncnet_loss: str = "multiway"  # bce: pairs, as in the paper | multiway: all pairs of each clip at once [ours]
    syncnet_batch_size: int = 64  # windows per step; with bce, pairs [paper]
    syncnet_windows_per_clip: int = 8  # multiway: windows of one clip in a batch [ours]
    syncnet_nearby: int = 4  # multiway: more speech windows per face, off sync by 15 frames at most; 0 = none [ours]
    syncnet_balance: float = 0.5  # multiway: identities come as often as windows^this; 0 = all equally often [ours]
    syncnet_match_within: str = "batch"  # batch | clip: where matching seeks that of a window [ours]
    syncnet_temperature: float = 0.07  # of matching: P_sync is divided by it before the softmax [ours]
    syncnet_multiway_wt: float = 0.0  # multiway: weight of matching beside the BCE of all pairs; 0 = off [ours]
    syncnet_lr: float = 1e-3  # Adam; 1e-4 loses nothing in fine-tuning, both end level [paper; code: 1e-4]
    syncnet_warmup_steps: int = 100  # steps of rising learning rate, at most a fifth of all [ours; code: 0]
    syncnet_decay: str = "cosine"  # none | cosine: falls to 0 at syncnet_nsteps: set that to what you will run [ours]
    syncnet_beta1: float = 0.9  # Adam [code]
    syncnet_beta2: float = 0.999  # Adam [code]
    syncnet_nsteps: int = 100_000  # steps, then training ends [ours; authors: 45 million samples, 700_000 steps]
    syncnet_ema_decay: float = 0.0  # of the average of the weights that is evaluated and used; 0 = none [ours]
    syncnet_weight_decay: float = 0.0  # share taken off each weight, per step and learning rate [ours; code: 0]
    syncnet_positive_share: float = 0.5  # bce: share of in-sync pairs [code]
    syncnet_min_gap: int = 2  # frames between a negative's face window and its speech window, at least [ours; code: 1]
    syncnet_first_gap: int = 0  # multiway: frames, gap at first, shrinks in half of training, not fine-tuning [ours]
    syncnet_mel_cut: str = "exact"  # where a window's speech begins: exact | nearest column [ours; code: nearest]
    syncnet_flip: float = 0.5  # share of windows that are mirrored [ours; code: 0]
    syncnet_shift_px: int = 3  # px, windows are shifted by at most this; 0 = off [ours; code: 0]
    syncnet_turn: float = 0.0  # degrees, turns of windows, at most; 0 = off, try 8 in long runs on little data [ours]
    syncnet_zoom: float = 0.0  # largest change of a window's size; 0 = off, 0.12 likewise [ours]
    syncnet_colour: float = 0.2  # largest change of a channel's gain, twice that of brightness [ours; code: 0]
    syncnet_blur: float = 0.3  # share of windows seen at half the resolution [ours; code: 0]
    syncnet_speech_gain: float = 0.0  # largest change of level and of tilt of the mel, unit 12.5 dB; 0 = off [ours]
    syncnet_voice: float = 0.0  # largest change of a voice's frequencies, as a share; 0 = off, 0.15 likewise [ours]
    syncnet_augment_growth: float = 0.5  # share of training in which these grow, flip and fine-tuning apart [ours]
    syncnet_patience: int = 400_000  # samples without learning until training says so; or a quarter of all [ours]
    syncnet_eval_interval: int = 10_000  # steps [code]
    syncnet_checkpoint_interval: int = 10_000  # steps [code]
    syncnet_eval_min_gap: int = 2  # frames between face and speech from which a pair is evaluated as off sync [ours]
    syncnet_eval_clips: int = 2000  # val clips of an evaluation, at most, the same ones always; 0 = all [ours]
    syncnet_eval_windows: int = 64  # consecutive windows of each val clip per evaluation, at most [ours]

    # --- train_wav2lip.py: generator and visual quality discriminator -----------------------------------------------
    speech_encoder_init: str = "random"  # random | expert: starts as the expert's own [ours; code: random]
    batch_size: int = 16  # windows per step [code; paper: 80]
    initial_learning_rate: float = 1e-4  # Adam, generator [paper]
    beta1: float = 0.5  # Adam, generator and discriminator [paper]
    beta2: float = 0.999  # Adam, generator and discriminator [paper]
    ema_decay: float = 0.0  # of the average of the generator's weights that is evaluated and used; 0 = none [ours]
    warmup_steps: int = 0  # steps over which both learning rates rise from 0, at most a fifth of all [ours]
    decay: str = "none"  # none | cosine: falls to 0 at nsteps [ours]
    nsteps: int = 300_000  # steps, then training ends [ours]
    syncnet_wt: float = 0.03  # s_w, weight of E_sync once its gate is open [paper]
    sync_loss: str = "paper"  # paper: -log P_sync | stabilised: against P_sync of the true faces [ours]
    sync_gate: float = 0.75  # mean E_sync on the val list that opens the gate of s_w; inf = open from the start [code]
    sync_start_step: int = 0  # step from which s_w is on, whatever the gate says; 0 = the gate alone decides [ours]
    disc_wt: float = 0.07  # s_g, weight of L_gen in the wav2lip_gan recipe [paper]
    disc_start_step: int = 0  # step from which the discriminator trains and L_gen counts [ours; code: 0]
    disc_initial_learning_rate: float = 1e-4  # Adam, visual quality discriminator [paper]
    disc_label_smoothing: float = 0.0  # real faces are to score 1 minus this [ours]
    disc_r1_wt: float = 0.0  # weight of the R1 gradient penalty on real faces; 0 = off [ours]
    lipgan_wt: float = 0.01  # recipe lipgan: weight of the discriminator's loss beside L1 [code of LipGAN]
    guard_steps: int = 500  # steps over which the losses are judged before a warning [ours]
    mask_top: float = 0.5  # share of the height from which the target is masked; less hides cheeks too [paper: 0.5]
    reference_min_gap: int = 5  # frames between target and reference window where the clip allows it [ours; code: 1]
    reference_candidates: int = 1  # windows, of which one of like pose and other mouth is taken; 1 = random [ours]
    chin_jitter: float = 0.0  # largest share of the lowest rows that target and reference lose by chance [ours]
    perceptual_wt: float = 0.0  # weight of the VGG loss beside L1, needs --vgg_checkpoint_path; 0 = off [ours]
    eval_interval: int = 3_000  # steps [code]
    checkpoint_interval: int = 3_000  # steps [code]
    eval_windows: int = 500  # windows of the val list per evaluation, the same ones each time [ours]

    # --- inference.py -----------------------------------------------------------------------------------------------
    wav2lip_batch_size: int = 128  # faces of 96 px drawn at once; fewer larger ones, or when out of memory [code]
    blend: float = 0.1  # share of a box over which the drawn face fades in at its edges; 0 = pasted [ours; code: 0]
    smooth_frames: int = 5  # frames a box is averaged over against jitter; --nosmooth = 1 [code]

    @property
    def expert_mel_steps(self) -> int:
        """Mel columns of a window of the expert: as long as its frames."""
        return round(self.syncnet_mel_step_size * self.syncnet_T / 5)

    def __post_init__(self):
        _check_types(self)
        for name, allowed in CHOICES.items():
            if getattr(self, name) not in allowed:
                raise HParamError(
                    f"hparam {name}={getattr(self, name)!r}: choose one of {', '.join(map(str, allowed))}"
                )
        for name, (lowest, highest) in RANGES.items():
            if not lowest <= getattr(self, name) <= highest:
                bound = f"at least {lowest}" if highest == INF else f"from {lowest} to {highest}"
                raise HParamError(f"hparam {name}={getattr(self, name)!r}: must be {bound}")
        if self.syncnet_T != 5 and self.syncnet_mel_step_size != 16:
            raise HParamError(
                f"hparam syncnet_mel_step_size={self.syncnet_mel_step_size}: must be 16 where syncnet_T is not 5: "
                "the expert then hears as long as it sees"
            )
        for name in POSITIVE:
            if not 0 < getattr(self, name) < INF:
                raise HParamError(f"hparam {name}={getattr(self, name)!r}: must be greater than 0, and finite")
        _check_sound(self)


def _check_types(hp: HParams) -> None:
    """HParamError for the first value that its line in this file, or that of a preset, gives another type, or NaN."""
    for name, kind in TYPES.items():
        value = getattr(hp, name)
        if not _is_a(kind, value):
            raise HParamError(f"hparam {name}={value!r} in hparams.py: not {WRITTEN[kind]}")
        if kind is float and math.isnan(value):
            raise HParamError(f"hparam {name}=nan: not a number, give one")


def _check_sound(hp: HParams) -> None:
    """HParamError for mel bands that cannot be, and where the expert's windows of sound and picture are not alike."""
    if hp.num_mels != 80:
        raise HParamError(f"hparam num_mels={hp.num_mels}: must be 80, the networks have no place for another number")
    if hp.win_size > hp.n_fft:
        raise HParamError(f"hparams win_size={hp.win_size}, n_fft={hp.n_fft}: n_fft must be at least win_size")
    if not 0 <= hp.fmin < hp.fmax <= hp.sample_rate / 2:
        raise HParamError(
            f"hparams fmin={hp.fmin:g}, fmax={hp.fmax:g}: must rise from 0 to at most half of "
            f"sample_rate={hp.sample_rate}, in Hz"
        )
    mel_s, picture_s = hp.expert_mel_steps * hp.hop_size / hp.sample_rate, hp.syncnet_T / hp.fps
    if abs(mel_s - picture_s) > picture_s / 3:
        fitting = round(picture_s * hp.sample_rate / hp.expert_mel_steps)
        raise HParamError(
            f"hparams hop_size={hp.hop_size}, sample_rate={hp.sample_rate}, fps={hp.fps}: the expert would see "
            f"{picture_s:.3g} s and hear {mel_s:.3g} s: hop_size={fitting} makes them alike"
        )


def _is_a(kind: type, value) -> bool:
    """Whether a knob of this type can have this value: whole numbers are floats too, truth values are no numbers."""
    if isinstance(value, bool):
        return kind is bool
    return isinstance(value, (float, int) if kind is float else kind)


TYPES = {field.name: field.type for field in dataclasses.fields(HParams)}
WRITTEN = {
    float: "a float: write a number such as 0.5, without quotes or a comma behind it",
    int: "an int: write a whole number such as 3, without quotes, point or a comma behind it",
    bool: "a bool: write True or False, without quotes or a comma behind it",
    str: "a str: write it in quotes, without a comma behind it",
}
CHOICES = {
    "syncnet_mel_cut": ("nearest", "exact"),
    "sync_loss": ("paper", "stabilised"),
    "precision": ("fp32", "bf16"),
    "on_nonfinite": ("stop", "skip"),
    "syncnet_match_within": ("batch", "clip"),
    "syncnet_decay": ("none", "cosine"),
    "decay": ("none", "cosine"),
    "speech_encoder_init": ("random", "expert"),
    "syncnet_loss": ("bce", "multiway"),
    "face_detector": ("sfd", "blazeface", "yunet", "retinaface", "scrfd", "dlib", "full"),
    "img_size": (96, 192, 288, 384),
}
RANGES = {
    "seed": (0, 2**32 - 1),  # what all generators of random numbers take
    "syncnet_mel_step_size": (13, 18),  # mel columns from which the speech encoder makes one vector
    "syncnet_batch_size": (2, INF),
    "syncnet_positive_share": (0, 1),
    "syncnet_windows_per_clip": (2, INF),
    "syncnet_nearby": (0, INF),
    "syncnet_balance": (0, 1),
    "max_gap_frames": (0, INF),
    "detect_max_side": (0, INF),
    "store_size": (16, INF),
    "jpeg_quality": (1, 100),
    "min_frames": (1, INF),
    "val_share": (0, 1),
    "test_share": (0, 1),
    "face_cache_gb": (0, 1000),
    "syncnet_warmup_steps": (0, INF),
    "syncnet_weight_decay": (0, INF),
    "syncnet_augment_growth": (0, 1),
    "syncnet_first_gap": (0, INF),
    "syncnet_speech_gain": (0, 4),
    "syncnet_voice": (0, 0.5),
    "syncnet_flip": (0, 1),
    "syncnet_shift_px": (0, 16),
    "syncnet_turn": (0, 45),
    "syncnet_zoom": (0, 0.5),
    "syncnet_colour": (0, 1),
    "syncnet_blur": (0, 1),
    "warmup_steps": (0, INF),
    "clip_grad_norm": (0, INF),
    "sample_videos": (0, INF),
    "disc_label_smoothing": (0, 0.5),
    "disc_r1_wt": (0, INF),
    "lipgan_wt": (0, 1),
    "blend": (0, 0.5),
    "mask_top": (0, 0.5),
    "syncnet_ema_decay": (0, 0.99999),
    "ema_decay": (0, 0.99999),
    "num_workers": (0, INF),
    "syncnet_beta1": (0, 0.99999),
    "syncnet_beta2": (0, 0.99999),
    "beta1": (0, 0.99999),
    "beta2": (0, 0.99999),
    "reference_candidates": (1, INF),
    "chin_jitter": (0, 0.1),
    "perceptual_wt": (0, INF),
    "syncnet_wt": (0, 1),
    "disc_wt": (0, 1),
    "sync_gate": (0, INF),
    "sync_start_step": (0, INF),
    "syncnet_eval_clips": (0, INF),
    "disc_start_step": (0, INF),
}
POSITIVE = (
    "sample_rate hop_size fps syncnet_T detect_every face_det_batch_size clip_timeout_s width syncnet_temperature "
    "syncnet_min_gap syncnet_eval_min_gap syncnet_lr syncnet_nsteps syncnet_patience syncnet_eval_windows "
    "syncnet_eval_interval syncnet_checkpoint_interval batch_size initial_learning_rate disc_initial_learning_rate "
    "nsteps eval_windows eval_interval checkpoint_interval log_interval wav2lip_batch_size smooth_frames "
    "preprocess_workers keep_checkpoints accumulate guard_steps"
).split()

# What official files were trained with, and do not say, whatever the lines above have become.
OFFICIAL = dict(
    sample_rate=16000,
    n_fft=800,
    hop_size=200,
    win_size=800,
    num_mels=80,
    fmin=55.0,
    fmax=7600.0,
    preemphasis=0.97,
    ref_level_db=20.0,
    min_level_db=-100.0,
    max_abs_value=4.0,
    fps=25,
    syncnet_T=5,
    syncnet_mel_step_size=16,
    syncnet_mel_cut="nearest",
)

PRESETS = {
    # The paper's recipe, with the official code's numbers where the paper is silent, whatever the lines above say. What
    # a machine has to do with it stays as above: detector, precision, parts of a batch, workers.
    "faithful": dict(
        **OFFICIAL,
        img_size=96,
        width=1.0,
        detect_every=1,
        max_gap_frames=0,
        detect_max_side=0,
        min_face_px=0,
        min_speech_rms=0,
        syncnet_loss="bce",
        syncnet_batch_size=64,
        syncnet_lr=1e-3,
        syncnet_warmup_steps=0,
        syncnet_decay="none",
        syncnet_beta1=0.9,
        syncnet_beta2=0.999,
        syncnet_nsteps=700_000,
        syncnet_ema_decay=0,
        syncnet_weight_decay=0,
        syncnet_positive_share=0.5,
        syncnet_min_gap=1,
        syncnet_flip=0,
        syncnet_shift_px=0,
        syncnet_turn=0,
        syncnet_zoom=0,
        syncnet_colour=0,
        syncnet_blur=0,
        syncnet_speech_gain=0,
        syncnet_voice=0,
        syncnet_patience=2_000_000,
        clip_grad_norm=0,
        speech_encoder_init="random",
        batch_size=80,
        initial_learning_rate=1e-4,
        beta1=0.5,
        beta2=0.999,
        ema_decay=0,
        warmup_steps=0,
        decay="none",
        syncnet_wt=0.03,
        sync_loss="paper",
        sync_gate=0.75,
        sync_start_step=0,
        disc_wt=0.07,
        disc_start_step=0,
        disc_initial_learning_rate=1e-4,
        disc_label_smoothing=0,
        disc_r1_wt=0,
        mask_top=0.5,
        reference_min_gap=1,
        reference_candidates=1,
        chin_jitter=0,
        perceptual_wt=0,
        blend=0,
    ),
    # What demo.py uses: small networks that learn its toy corpus in minutes on two cores.
    "demo": dict(
        face_detector="dlib",
        val_share=0.06,
        test_share=0.06,
        width=0.25,
        num_workers=0,
        decay="cosine",
        speech_encoder_init="expert",
        syncnet_wt=0.006,
        sync_gate=0,
        sync_start_step=400,
        disc_start_step=600,
        syncnet_batch_size=32,
        syncnet_warmup_steps=0,
        syncnet_augment_growth=0,
        syncnet_nearby=0,
        syncnet_multiway_wt=0.3,
        syncnet_min_gap=5,
        syncnet_eval_min_gap=5,
        syncnet_nsteps=900,
        syncnet_eval_interval=100,
        syncnet_checkpoint_interval=100,
        batch_size=4,
        initial_learning_rate=1e-3,
        nsteps=1000,
        sample_interval=100,
        eval_interval=100,
        checkpoint_interval=100,
        eval_windows=96,
    ),
}


class HParamError(UserError):
    """A wrong hparam, said in one line with what would be right."""


def resolve(preset: str | None = None, overrides: str = "") -> HParams:
    """The hparams of this file, changed by a preset and then by "name=value,name=value"."""
    values = {}
    if preset:
        if preset not in PRESETS:
            raise HParamError(f"unknown preset {preset!r}{nearest(preset, PRESETS)}")
        for name in PRESETS[preset]:
            if name not in TYPES:
                raise HParamError(f"preset {preset!r} in hparams.py: unknown hparam {name!r}{nearest(name, TYPES)}")
        values.update(PRESETS[preset])
    for item in filter(None, (part.strip() for part in overrides.split(","))):
        name, separator, text = item.partition("=")
        if not separator:
            raise HParamError(f"--hparams: {item!r} is not name=value")
        values[name.strip()] = parse(name.strip(), text.strip())
    return HParams(**values)


def from_dict(saved: dict) -> HParams:
    """The hparams kept in a checkpoint; knobs that are there no more, or of another type now, take this file's value.

    But a file that does not say what it hears and sees, such as an official one, has OFFICIAL. Ranges are not checked
    again: what was trained with them was trained.
    """
    saved = OFFICIAL | saved
    hp = copy.copy(HParams())
    vars(hp).update({name: value for name, value in saved.items() if name in TYPES and _is_a(TYPES[name], value)})
    return hp


def some(hp: HParams, names: str) -> dict:
    """The hparams with these names, separated by blanks."""
    return {name: getattr(hp, name) for name in names.split()}


def parse(name: str, text: str):
    """`text` as the type of the hparam `name`."""
    if name not in TYPES:
        raise HParamError(f"unknown hparam {name!r}{nearest(name, TYPES)}")
    kind = TYPES[name]
    try:
        if kind is bool:
            return {"true": True, "false": False}[text.lower()]
        if kind is int:
            return int(text.replace("_", ""))
        return kind(text)
    except (ValueError, KeyError):
        raise HParamError(f"hparam {name}={text!r}: not a valid {kind.__name__}") from None


def nearest(name: str, known) -> str:
    """A hint for a misspelt name: the closest known ones, or all when there are few."""
    close = difflib.get_close_matches(name, list(known), n=1, cutoff=0.5)
    if close:
        return f": did you mean {close[0]!r}?"
    return f": choose one of {', '.join(known)}" if len(known) <= 12 else ": see hparams.py"


def differences(a: HParams, b: HParams) -> list[str]:
    """One "name: old -> new" for each knob in which two sets of hparams differ."""
    pairs = ((f.name, getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(HParams))
    return [f"{name}: {old} -> {new}" for name, old, new in pairs if old != new]


def add_flags(parser: argparse.ArgumentParser) -> None:
    """Adds --preset and --hparams, which `from_args` reads."""
    group = parser.add_argument_group("hyperparameters (all in hparams.py)")
    here = HParams()
    presets = {
        name: [f"{k}={v}" for k, v in preset.items() if getattr(here, k, None) != v] for name, preset in PRESETS.items()
    }
    shown = "; ".join(f"{name}: {', '.join(changes)}" for name, changes in presets.items())
    group.add_argument("--preset", metavar="NAME", help=f"a named set of overrides; what each changes: {shown}")
    group.add_argument(
        "--hparams",
        metavar="NAME=VALUE,…",
        action="append",
        default=[],
        help='single overrides, e.g. "width=0.25,batch_size=8"; may be given several times',
    )


def from_args(args: argparse.Namespace) -> HParams:
    return resolve(args.preset, ",".join(args.hparams))
