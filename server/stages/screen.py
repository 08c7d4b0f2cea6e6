"""Screen: drop candidates, and write the release.

Settings:
    lane: FORMAL screens by public and differentially private means only; EMPIRICAL asks the sites as well.
    sampled: the stage that drew the candidates.
    views: {name, config, prior, trained} of the view classifier that recognises candidates.
    least_view_probability: a frame whose requested view the classifier finds less likely is dropped.
    similarity: two candidates at least this similar are one too many (self-similarity, privacy.md 1.6).
    subjects: synthetic subjects to release.
    classes: what they are labelled with.
    clips: whether the candidates move. Then moments all over each beat are looked at beside end diastole and end
        systole, and the clips are released with them.

A synthetic subject is released only whole. Writes `release/` beside the campaign, `released.safetensors`,
`phantoms.safetensors` (the same subjects) and `screened.json`; of what moves also both as clips.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cohorts import clips as moving
from cohorts import frames as table
from cohorts.clips import Clips
from cohorts.frames import PHASES, Frames
from cohorts.study import Origin
from learning import arrays
from server.campaign import State
from server.stages.film import CANDIDATE_CLIPS, PHANTOM_CLIPS
from server.stages.sample import CANDIDATES, PHANTOMS
from server.stages.train import WEIGHTS

RELEASED, SCREENED, RELEASE = "released.safetensors", "screened.json", "release"
RELEASED_CLIPS = "released_clips.safetensors"
MOMENTS = 6  # of each clip, beside end diastole and end systole
ROUNDED = 0.05  # the share kept is said in steps of five percent


def run(state: State) -> None:
    """Decide frame by frame, keep whole subjects, write the release."""
    from synthesis import release

    told: dict[str, Any] = dict(state.stage.settings)
    candidates = table.read(state.output(told["sampled"], CANDIDATES))
    clips = moving.read(state.output(told["sampled"], CANDIDATE_CLIPS)) if told.get("clips") else None
    looked = candidates if clips is None else _with_moments(candidates, clips)
    checks = {"view": _recognised(state, looked), "self_similarity": _unlike_each_other(looked, told)}
    if told["lane"] == "EMPIRICAL":
        checks["reidentification"] = _unlike_patients(state, looked)
    keep = np.logical_and.reduce(list(checks.values()))
    whole = [s for i, s in enumerate(candidates.subjects) if keep[looked.subject == i].all()]
    if not whole:
        raise ValueError(f"screening kept none of {len(candidates.subjects)} candidates: {_shares(checks)}")
    chosen = whole[: told["subjects"]]
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
    state.write_json(
        SCREENED,
        {
            "candidates": len(candidates.subjects),
            "kept": len(whole),
            "released": len(chosen),
            "acceptance_rounded": round(round(len(whole) / len(candidates.subjects) / ROUNDED) * ROUNDED, 2),
            "checks": _shares(checks),
        },
    )


def _with_moments(candidates: Frames, clips: Clips) -> Frames:
    """Return the candidates and, of each clip, `MOMENTS` frames all over its beat, each a phase of its own."""
    at = np.linspace(0, clips.length - 1, MOMENTS, axis=1).round().astype(np.int64)
    more = moving.stills(clips, at, len(PHASES) + np.arange(MOMENTS))
    columns = {name: np.concatenate([getattr(f, name) for f in (candidates, more)]) for name in table.COLUMNS}
    return Frames(**columns, subjects=candidates.subjects)


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


def _unlike_patients(state: State, candidates: Frames) -> NDArray[np.bool_]:
    """Ask every site (EMPIRICAL lane): a frame stays only where all say that it keeps its distance."""
    from learning.messages import Kept, Screen
    from server.rounds import Answers, ask

    request = Screen(run=state.campaign.run, stage=state.stage.name, config={}, candidates=table.as_images(candidates))
    answers: Answers[Kept] = ask(
        state.grid, state.sites, lambda _: request, quorum=len(state.sites), seconds=state.campaign.seconds
    )
    bits = [np.unpackbits(np.frombuffer(r.bits, np.uint8), count=len(candidates)) for r in answers.replies.values()]
    everywhere: NDArray[np.bool_] = np.logical_and.reduce([b.astype(bool) for b in bits])
    return everywhere


def _shares(checks: dict[str, NDArray[np.bool_]]) -> dict[str, float]:
    """Return the share of frames that each check kept, in steps of five percent."""
    return {name: round(round(float(kept.mean()) / ROUNDED) * ROUNDED, 2) for name, kept in checks.items()}
