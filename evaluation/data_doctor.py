"""What in a data set would stop the expert from learning, said before days of training: train_syncnet.py --check_data.

Every check is a function of a `Survey` and yields findings. A new fault is one function more in CHECKS, and where it
needs a number of the clips that nothing measures yet, one field more in clip_signs.py.

Not seen: a still mouth in a head that moves, a listener's face, noise without speech, an offset that lip_lag.py cannot
measure, one recording cut at other places in two splits, and all that only clips outside the sample show.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path

import numpy as np

from clips.manifest import identity_of
from clips.settings import HEARD, differences
from evaluation.clip_signs import Signs
from evaluation.judges import load_expert_judge, refuse_other_sound
from evaluation.lip_lag import Lags, in_words
from evaluation.survey import Survey, look_through, open_usable_splits
from hparams import HParams

SHOWN = 3  # examples in a finding

# Below these even drawn faces are too few; real ones take a hundred times as much.
FEWEST_IDENTITIES, FEWEST_CLIPS, FEWEST_MINUTES = 4, 8, 0.5
COMFORTABLE_HOURS = 5  # the paper's expert had 29 hours
ONE_HOLDS_MUCH = 0.25  # share of all windows, from which one identity is named

TOLERATED_SHARE = 0.01  # of the clips: a fault in fewer is a note, as training outlives it
STILL_LEVELS = 0.7  # grey levels; what moves less is a photo
MOSTLY_QUIET = 0.8  # share of a clip; pauses in speech stay below half
MANY_REPEATS = 0.2  # share of frames; drawn and real clips of 24 fps and more stay below 0.16
LENGTHS_DIFFER_S = 0.1  # of what is stored
SOURCE_DIFFERS_S, SOURCE_DIFFERS = 0.3, 0.02  # of the source: by both; real files stay below 0.2 s
SAME = 0.88  # correlation of two imprints, see clip_signs.Imprint


@dataclass(frozen=True)
class Finding:
    what: str
    remedy: str
    is_note: bool = False

    def __str__(self) -> str:
        return f"{'note' if self.is_note else 'problem'}: {self.what}. {self.remedy}"


def check_data(
    root: str | Path, lists: str | Path, hp: HParams, expert_path: str | None = None, device: str = "cpu"
) -> int:
    """Looks through the clip store, prints one line a finding, and returns the exit code: 0, or 1 with problems.

    expert_path: measure offsets with this expert rather than by loudness. UserError when no list can be used.
    """
    judge = load_expert_judge(expert_path, device) if expert_path else None
    if expert_path:
        refuse_other_sound(expert_path, hp)
    corpora, unusable = open_usable_splits(root, lists, hp)
    for split, corpus in corpora.items():
        print(f"{split}: {corpus.describe()}")
    survey = look_through(corpora, hp, judge, unusable)
    print(f"looked at {len(survey.names)} clips, closely at {len(survey.signs)} of them")
    print(describe_lags(survey.lags))

    findings = [finding for check in CHECKS for finding in check(survey)]
    for finding in sorted(findings, key=lambda finding: finding.is_note):
        print(finding)
    problems = sum(not finding.is_note for finding in findings)
    print(f"problems found: {problems}" if problems else "OK: nothing found that would stop the expert from learning")
    return 1 if problems else 0


def describe_lags(lags: Lags) -> str:
    if not len(lags.clips):
        return "offsets: no clip is fit to measure them"
    on_the_whole = "no lag in common" if lags.no_common_lag else f"sound {in_words(lags.corpus_lag)} on the whole"
    return (
        f"offsets: {on_the_whole}; {len(lags.clips)} clips measured, {len(lags.clear)} "
        f"with a clear answer of their own ({lags.gauge.how})"
    )


# Checks: what a survey says


def unusable_lists(survey: Survey) -> Iterator[Finding]:
    for split, reason in survey.unusable.items():
        yield Finding(f"{split} cannot be used", str(reason))


def too_little(survey: Survey) -> Iterator[Finding]:
    train = survey.corpora.get("train")
    if train is None:
        return  # unusable_lists says so
    identities = len({identity_of(name) for name in train.names})
    minutes = sum(survey.rows[name].frames for name in train.names) / survey.hp.fps / 60
    amount = f"train has {len(train)} clips, {identities} identities, {minutes:.1f} minutes"
    remedy = f"Add data: the paper's expert had 29 hours, plan for {COMFORTABLE_HOURS} at least"
    if len(train) < FEWEST_CLIPS or identities < FEWEST_IDENTITIES or minutes < FEWEST_MINUTES:
        yield Finding(f"too little data: {amount}", remedy)
    elif minutes < COMFORTABLE_HOURS * 60:
        yield Finding(f"little data for real faces: {amount}", remedy, is_note=True)


def too_little_to_measure_on(survey: Survey) -> Iterator[Finding]:
    val = survey.corpora.get("val")
    if val is not None and len(val) < 2:
        yield Finding(
            "val holds a single clip",
            "Put more there, of several identities: accuracies have no interval so, and none is against other clips",
            is_note=True,
        )


def one_holds_much(survey: Survey) -> Iterator[Finding]:
    train = survey.corpora.get("train")
    if train is None:
        return
    windows = Counter()
    for name, ranges in zip(train.names, train.windows, strict=True):
        windows[identity_of(name)] += sum(end - start for start, end in ranges)
    identity, most = windows.most_common(1)[0]
    held = most / windows.total()
    if held > max(ONE_HOLDS_MUCH, 2 / len(windows)):
        yield Finding(
            f"uneven: {identity} holds {held:.0%} of the windows of {len(windows)} identities",
            "Take some of its clips out of train.txt, or add others: the expert may learn one face and no other",
            is_note=True,
        )


def unused(survey: Survey) -> Iterator[Finding]:
    for split, corpus in survey.corpora.items():
        by_kind = defaultdict(list)
        for name, reason in corpus.skipped.items():
            by_kind[reason.split(":")[0]].append(name)
        for kind, names in by_kind.items():
            yield clips_finding(
                f"in {split}.txt, but {kind.removeprefix('listed, but ')}",
                names,
                len(corpus) + len(corpus.skipped),
                "Preprocess them again, or take them out of the list",
            )


def damaged(survey: Survey) -> Iterator[Finding]:
    if survey.damaged:
        first = next(iter(survey.damaged.values()))
        yield clips_finding("cannot be read", survey.damaged, len(survey.names), f"The first: {first}")


def in_two_splits(survey: Survey) -> Iterator[Finding]:
    """Identities, then clips of the same source file, then other clips that look and sound the same."""
    remedy = "Keep them in one split, or the held-out accuracy says nothing about strangers"
    for one, other in combinations(survey.corpora, 2):
        a, b = survey.corpora[one].names, survey.corpora[other].names
        identities = sorted({identity_of(name) for name in a} & {identity_of(name) for name in b})
        copies = copied_sources(survey, a, b)
        alike = [pair for pair in alike_clips(survey, a, b) if pair not in copies]
        for what, shared in (
            ("identities", identities),
            ("pairs of clips with the same source file", [" = ".join(pair) for pair in copies]),
            ("pairs of clips that look and sound the same", [" = ".join(pair) for pair in alike]),
        ):
            if shared:
                yield Finding(f"{what} in both {one} and {other}: {len(shared)}, {examples(shared)}", remedy)


def other_settings(survey: Survey) -> Iterator[Finding]:
    for name in ("fps", "sample_rate"):
        wanted = getattr(survey.hp, name)
        odd = [clip for clip, facts in survey.facts.items() if facts.get(name, wanted) != wanted]
        if odd:
            yield clips_finding(
                f"stored with {name}={survey.facts[odd[0]][name]}, now it is {wanted}, so lips and speech drift apart",
                odd,
                len(survey.facts),
                f"Preprocess with --redo, or set {name} in hparams.py",
            )


def other_mel(survey: Survey) -> Iterator[Finding]:
    names = [name for name in HEARD if name not in ("fps", "sample_rate")]  # other_settings knows those of every clip
    stored = {settings for corpus in survey.corpora.values() for settings in corpus.settings}
    changed = sorted({change for settings in stored for change in differences(settings, survey.hp, names)})
    if changed:
        yield Finding(
            f"clips stored with another mel: {'; '.join(changed)}",
            "Training will not have them: set it as it was, or preprocess with --redo",
        )


def lengths_differ(survey: Survey) -> Iterator[Finding]:
    odd = [name for name, signs in survey.signs.items() if np.ptp(signs.lengths_s) > LENGTHS_DIFFER_S]
    if odd:
        picture, sound, mel = survey.signs[odd[0]].lengths_s
        yield clips_finding(
            "picture, sound and mel differ in length",
            odd,
            len(survey.signs),
            f"The first has {picture:.2f} s of picture at {survey.hp.fps} fps, {sound:.2f} s of sound, {mel:.2f} s of "
            "mel: its frame rate or hop_size is another one, or something was cut off; make it anew with preprocess.py",
        )


def source_lengths_differ(survey: Survey) -> Iterator[Finding]:
    lengths = {
        name: (survey.rows[name].frames / facts["fps"], facts["source_sound_s"])
        for name, facts in survey.facts.items()
        if "source_sound_s" in facts
    }
    odd = [
        name
        for name, (picture, sound) in lengths.items()
        if abs(picture - sound) > max(SOURCE_DIFFERS_S, SOURCE_DIFFERS * picture)
    ]
    if odd:
        picture, sound = lengths[odd[0]]
        yield clips_finding(
            "picture and sound of the source differ in length",
            odd,
            len(lengths),
            f"The first has {picture:.2f} s of picture and {sound:.2f} s of sound: with a wrong frame rate, lips and "
            "speech drift apart; correct it or leave the file out",
        )


def repeated_frames(survey: Survey) -> Iterator[Finding]:
    yield from clips_where(
        "frames are repeated, as from a source of a far lower frame rate",
        survey,
        lambda signs: signs.repeated_share > MANY_REPEATS and not is_still(signs),
        "Take the recording at its full rate, or leave it out: so few pictures a second hardly tell speech apart",
    )


def still_pictures(survey: Survey) -> Iterator[Finding]:
    yield from clips_where("the face does not move", survey, is_still, "Leave photos and frozen videos out")
    yield from clips_where(
        "the mouth does not move",
        survey,
        lambda signs: signs.mouth_motion < STILL_LEVELS and not is_still(signs),
        "Leave out whoever listens, and covered or painted mouths",
    )


def silence(survey: Survey) -> Iterator[Finding]:
    yield from clips_where(
        "the sound is silent", survey, lambda signs: signs.quiet_share == 1, "Without speech, leave them out"
    )
    yield from clips_where(
        f"the sound is silent for more than {MOSTLY_QUIET:.0%} of the clip",
        survey,
        lambda signs: MOSTLY_QUIET < signs.quiet_share < 1,
        "Cut them to where somebody speaks",
    )


def offsets(survey: Survey) -> Iterator[Finding]:
    lags = survey.lags
    if lags.no_link:
        yield Finding(f"no link between lips and sound at any lag in {len(lags.clips)} clips", lags.gauge.no_link_hint)
        return
    if lags.corpus_is_off:
        yield Finding(
            f"offset: the sound of the whole data set is {in_words(lags.corpus_lag)}, over {len(lags.clips)} clips",
            f"Move the sound by {-lags.corpus_lag / survey.hp.fps:+.2f} s against the picture and preprocess again",
        )
    off = [f"{clip} ({in_words(lag)})" for clip, lag in lags.clips_off.items()]
    if off:
        yield Finding(
            f"offset: {len(off)} of {len(lags.clear)} clips with a clear answer have one, {examples(off)}",
            "Correct them with --correct_offsets and an expert, move their sound, or leave them out",
            is_note=lags.clips_off_may_be_error,
        )


CHECKS = (
    unusable_lists,
    too_little,
    too_little_to_measure_on,
    one_holds_much,
    unused,
    damaged,
    in_two_splits,
    other_settings,
    other_mel,
    lengths_differ,
    source_lengths_differ,
    repeated_frames,
    still_pictures,
    silence,
    offsets,
)


def copied_sources(survey: Survey, a: list[str], b: list[str]) -> list[tuple[str, str]]:
    """Pairs (of a, of b) of clips whose source files are the same to the byte."""
    by_source = {}
    for name in a:
        by_source.setdefault(survey.rows[name].source_sha256, name)
    by_source.pop("", None)  # not known, as in the official layout
    return [(by_source[source], name) for name in b if (source := survey.rows[name].source_sha256) in by_source]


def alike_clips(survey: Survey, a: list[str], b: list[str]) -> list[tuple[str, str]]:
    """Pairs (of a, of b) of different clips whose imprints are the same."""
    a, b = ([name for name in names if name in survey.imprints] for names in (a, b))
    if not a or not b:
        return []
    sound, faces = (np.stack([getattr(survey.imprints[name], part) for name in b]) for part in ("sound", "faces"))
    pairs, block = [], 1024  # rows at once, so that 100,000 clips against 5,000 need no gigabytes
    for start in range(0, len(a), block):
        imprints = [survey.imprints[name] for name in a[start : start + block]]
        same = np.stack([imprint.sound for imprint in imprints]) @ sound.T > SAME
        same &= np.stack([imprint.faces for imprint in imprints]) @ faces.T > SAME
        pairs += [(a[start + i], b[j]) for i, j in np.argwhere(same) if a[start + i] != b[j]]
    return pairs


def is_still(signs: Signs) -> bool:
    return max(signs.mouth_motion, signs.upper_motion) < STILL_LEVELS


def clips_where(what: str, survey: Survey, is_odd: Callable[[Signs], bool], remedy: str) -> Iterator[Finding]:
    odd = [name for name, signs in survey.signs.items() if is_odd(signs)]
    if odd:
        yield clips_finding(what, odd, len(survey.signs), remedy)


def clips_finding(what: str, odd: Iterable[str], looked_at: int, remedy: str) -> Finding:
    """A fault of clips: a note where it concerns few of those looked at."""
    odd = list(odd)
    share = len(odd) / looked_at
    return Finding(
        f"{what}: {len(odd)} of {looked_at} clips ({share:.1%}), {examples(odd)}", remedy, share < TOLERATED_SHARE
    )


def examples(items: list[str]) -> str:
    return "e.g. " + ", ".join(items[:SHOWN])
