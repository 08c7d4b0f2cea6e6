"""Screen: drop candidates, and write the release.

By what rule sites judge was committed before candidates were drawn: none, by the noised votes of members (FORMAL), or
by the exact filter (EMPIRICAL), whose acceptance is rounded and thinned by a lot before anybody hears of it.

Settings:
    sampled: the stage that drew the candidates; drawn_by: the one that trained their generator.
    decoys: made-up patients handed to every site that is asked.
    views: {name, config, prior, trained} of the view classifier that recognises candidates.
    least_view_probability: a frame whose requested view the classifier finds less likely is dropped.
    similarity: two candidates at least this similar are one too many (self-similarity, privacy.md 1.6).
    subjects: synthetic subjects to release.
    classes: what they are labelled with.
    clips: whether the candidates move. Then moments all over each beat are looked at beside end diastole and end
        systole, and the clips are released with them.

A synthetic subject is judged and released only whole. Writes `release/` beside the campaign, `released.safetensors`,
`phantoms.safetensors` (the same subjects) and `screened.json`; of what moves also both as clips.
"""

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cohorts import clips as moving
from cohorts import frames as table
from cohorts.frames import Frames
from cohorts.study import Origin
from learning import arrays
from privacy.randomness import SecureRandom
from privacy.votes import everywhere
from server.campaign import State
from server.decoys import plant
from server.failure import CampaignFailed
from server.stages.film import CANDIDATE_CLIPS, PHANTOM_CLIPS
from server.stages.sample import CANDIDATES, COMMITMENT, PHANTOMS
from server.stages.train import WEIGHTS

RELEASED, SCREENED, RELEASE = "released.safetensors", "screened.json", "release"
RELEASED_CLIPS = "released_clips.safetensors"
ROUNDED = 0.05  # the share kept is said in steps of five percent
THINNED = 0.1  # share of accepted subjects that a lot leaves out, where the exact filter judged


def run(state: State) -> None:
    """Decide picture by picture, then subject by subject; keep whole subjects, write the release."""
    from synthesis import release
    from synthesis.candidates import Candidates

    told: dict[str, Any] = dict(state.stage.settings)
    commitment = state.read_json(told["sampled"], COMMITMENT)
    rule = commitment["rule"]
    candidates = table.read(state.output(told["sampled"], CANDIDATES))
    clips = moving.read(state.output(told["sampled"], CANDIDATE_CLIPS)) if told.get("clips") else None
    looked = Candidates(stills=candidates, clips=clips).looked_at()
    checks = {"view": _recognised(state, looked), "self_similarity": _unlike_each_other(looked, told)}
    whole = _whole(looked, checks.values())
    said: dict[str, Any] = {"counts": {}, "drawn_again": None, "decoys": {}}
    if "apart" in rule:
        fair = _apart(looked, whole, rule)
        checks["apart"] = ~np.isin(looked.subject, np.setdiff1d(whole, fair))
        whole = fair
    if whole and ("votes" in rule or "exact" in rule):
        stays, said = _unlike_patients(state, looked, whole, commitment)
        checks["patients"] = ~np.isin(looked.subject, np.array(whole)[~stays])
        whole = [s for s, kept in zip(whole, stays, strict=True) if kept]
    if not whole:
        raise CampaignFailed(f"screening kept none of {len(candidates.subjects)} candidates: {_shares(checks)}")
    thin = _thinned(whole) if "exact" in rule else whole
    chosen = [candidates.subjects[s] for s in thin[: told["subjects"]]]
    released = candidates.select(chosen)
    release.write(
        Path(state.campaign.out) / RELEASE,
        released,
        origin=Origin.SYNTHETIC,
        of=told["classes"]["of"],
        names=told["classes"]["names"],
        clips=clips.select(chosen) if clips is not None else None,
    )
    if clips is not None:
        phantoms = moving.read(state.output(told["sampled"], PHANTOM_CLIPS))
        moving.write(state.folder / RELEASED_CLIPS, clips.select(chosen))
        moving.write(state.folder / PHANTOM_CLIPS, phantoms.select(chosen))
    table.write(state.folder / RELEASED, released)
    table.write(state.folder / PHANTOMS, table.read(state.output(told["sampled"], PHANTOMS)).select(chosen))
    rounded = round(len(whole) / len(candidates.subjects) / ROUNDED) * ROUNDED
    exact = "exact" in rule  # then only rounded numbers may be told
    state.write_json(
        SCREENED,
        {
            "candidates": len(candidates.subjects),
            "kept": round(rounded * len(candidates.subjects)) if exact else len(whole),
            "released": len(chosen),
            "acceptance_rounded": round(rounded, 2),
            "checks": _shares(checks),
            "refused": _refused(looked, np.logical_and.reduce(list(checks.values())), told["classes"]["names"]),
            **said,
        },
    )


def _whole(looked: Frames, checks: Iterable[NDArray[np.bool_]]) -> list[int]:
    """Return the subjects of whom every picture passes every check."""
    keep = np.logical_and.reduce(list(checks))
    return sorted(set(range(len(looked.subjects))) - set(looked.subject[~keep].tolist()))


def _recognised(state: State, candidates: Frames) -> NDArray[np.bool_]:
    """Say of each frame whether the privately trained classifier recognises the view that was asked for."""
    from learning.learners.view_classifier import ViewLearner
    from synthesis.parts import build

    told = state.stage.settings["views"]
    learner = build("learner", told["name"], told["config"], seed=state.campaign.seed, prior=told["prior"])
    if not isinstance(learner, ViewLearner):
        raise TypeError(f"{told['name']!r} does not name views")
    arrays.load(learner.module, arrays.read(state.output(told["trained"], WEIGHTS)))
    state.tell(0.2, "are the views recognised?")
    likely = learner.predict(candidates.pixels)[np.arange(len(candidates)), candidates.view]
    found: NDArray[np.bool_] = likely >= state.stage.settings["least_view_probability"]
    return found


def _unlike_each_other(candidates: Frames, told: dict[str, Any]) -> NDArray[np.bool_]:
    """Say of each frame whether it is no twin of an earlier candidate of the same view and phase."""
    from privacy.embedding import embed
    from privacy.reidentification import self_similar

    keep = np.ones(len(candidates), bool)
    for view in np.unique(candidates.view):
        for phase in np.unique(candidates.phase):
            rows = np.flatnonzero((candidates.view == view) & (candidates.phase == phase))
            keep[rows] = self_similar(embed(candidates.pixels[rows]), threshold=told["similarity"])
    return keep


def _apart(candidates: Frames, subjects: list[int], rule: Mapping[str, Any]) -> list[int]:
    """Return those of `subjects` that are unlike all before them: what members vote on must not share their votes."""
    from privacy.embedding import embed
    from privacy.votes import spread

    rows = np.flatnonzero(np.isin(candidates.subject, subjects))
    place = np.searchsorted(subjects, candidates.subject[rows])
    keep = spread(embed(candidates.pixels[rows]), place, tau=math.sqrt((1 + rule["apart"]) / 2))
    return [s for s, kept in zip(subjects, keep, strict=True) if kept]


def _unlike_patients(
    state: State, candidates: Frames, subjects: list[int], told: Mapping[str, Any]
) -> tuple[NDArray[np.bool_], dict[str, Any]]:
    """Ask every site once: a subject stays only where all sites say so; and return what else they said."""
    from learning.messages import Kept, Screen
    from server.rounds import Answers, ask
    from synthesis.candidates import by_subject

    pixels = by_subject(candidates)[subjects]
    decoys = plant(pixels, state.stage.settings["decoys"], told["rule"], random=SecureRandom())
    request = Screen(
        run=state.campaign.run,
        stage=state.stage.name,
        rule=told["rule"],
        recipe=told["recipe"],
        committed=told["digests"]["committed"],
        numbers={"of": subjects},
        weights=arrays.read(state.output(state.stage.settings["drawn_by"], WEIGHTS)),
        candidates={"pixels": pixels},
        decoys={"pixels": decoys.pixels} if len(decoys.pixels) else {},
    )
    size = (len(subjects) + 7) // 8

    def check(reply: Kept) -> None:
        if len(reply.bits) != size:
            raise ValueError(f"it has {len(reply.bits)} bytes of verdicts, not {size}")

    state.tell(0.5, "every site draws candidates again, and judges them once")
    answers: Answers[Kept] = ask(
        state.grid, state.sites, lambda _: request, quorum=len(state.sites), seconds=state.campaign.seconds, check=check
    )
    bits = {
        name: np.unpackbits(np.frombuffer(reply.bits, np.uint8), count=len(subjects)).astype(bool)
        for name, reply in answers.replies.items()
    }
    stays = everywhere(list(bits.values()))
    stays[decoys.marked] = False
    return stays, {
        "counts": {name: dict(reply.counts) for name, reply in answers.replies.items()},
        "drawn_again": min(reply.drawn_again for reply in answers.replies.values()),
        "decoys": {name: decoys.answers(kept, told["rule"]) for name, kept in bits.items()}
        if len(decoys.marked)
        else {},
    }


def _thinned(chosen: list[int]) -> list[int]:
    """Leave out a tenth at random: nobody can tell whether a hole was dropped by a site or by this lot."""
    dropped = math.ceil(THINNED * len(chosen))
    lot = np.argsort(np.frombuffer(SecureRandom().bytes(8 * len(chosen)), np.uint64))
    return sorted(chosen[k] for k in lot[dropped:]) or chosen[:1]


def _refused(candidates: Frames, kept: NDArray[np.bool_], names: Sequence[str]) -> list[dict[str, Any]]:
    """Return, by view and by band of ejection fraction, how many candidates went, in steps of five percent."""
    found = []
    for by, words in (("view", _views(candidates, names)), ("ef_class", _bands(candidates))):
        for group in sorted(set(words) - {""}):
            people = np.unique(candidates.subject[words == group])
            gone = len(np.setdiff1d(people, np.unique(candidates.subject[kept & (words == group)])))
            share = round(gone / len(people) / ROUNDED) * ROUNDED
            found.append({"by": by, "group": group, "n": len(people), "refused": round(share * len(people))})
    return found


def _views(candidates: Frames, names: Sequence[str]) -> NDArray[np.str_]:
    return np.array([names[v] if v >= 0 else "" for v in candidates.view])


def _bands(candidates: Frames) -> NDArray[np.str_]:
    """Return the class of each ejection fraction after the guidelines of 2021 (doi:10.1093/eurheartj/ehab368)."""
    bands = np.array(["reduced, at most 40", "mildly reduced, 41-49", "preserved, at least 50"])
    found = bands[np.searchsorted((41, 50), np.nan_to_num(candidates.lvef_percent), side="right")]
    return np.where(np.isnan(candidates.lvef_percent), "", found)


def _shares(checks: dict[str, NDArray[np.bool_]]) -> dict[str, float]:
    """Return the share of frames that each check kept, in steps of five percent."""
    return {name: round(round(float(kept.mean()) / ROUNDED) * ROUNDED, 2) for name, kept in checks.items()}
