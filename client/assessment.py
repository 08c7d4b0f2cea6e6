"""What a site measures on its own people: scores of models, attacks on a release.

Each is answered once per run and stage (see `client.outbox`), so that nobody learns about a patient by asking again in
other words. What leaves is rounded or noised; per-subject values, matches and distances stay.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from client import groups
from client.admission import admitted
from client.site import Site
from client.training import threads
from learning import wire
from learning.messages import Attack, Code, Counts, Refusal, Score, Scores

if TYPE_CHECKING:
    from cohorts.clips import Clips
    from cohorts.frames import Frames
    from cohorts.split import Split

LOCAL = "local"
DECIMALS = 3
COUNT_STEP = 5


def score(site: Site, request: Score) -> Scores:
    """Score the given models, and one trained here on members, on test subjects."""
    site.policy.allow("task", request.task)
    admitted(site, request.run)
    if not site.policy.allow_scores:
        raise Refusal(Code.REFUSED_POLICY, "scores are not allowed here")
    if LOCAL in request.arms:
        raise Refusal(Code.UNREADABLE, f"the arm {LOCAL!r} is this site's own")
    groups.understood(request.minds, private=False)
    key = f"score.{request.stage}.{request.task}"
    return site.outbox.answer(request, request.run, key, Scores, lambda: _score(site, request))


def attack(site: Site, request: Attack) -> Counts:
    """Attack released frames with members and controls; the counts are noised unless the lane is EMPIRICAL."""
    from privacy.attacks import ATTACKS
    from privacy.randomness import SecureRandom

    site.policy.allow("attack", request.name)
    admission = admitted(site, request.run)
    if not (request.formal or site.policy.allow_empirical):
        raise Refusal(Code.REFUSED_POLICY, "exact counts are not allowed here")
    part = ATTACKS[request.name](**request.config)
    key = f"attack.{request.stage}.{request.name}"

    def compute() -> Counts:
        from cohorts.split import Split

        if request.formal:
            for plan in part.plans():
                admission.reserved(plan.to_json())
                intent = f"{key}.{plan.purpose}.{wire.digest(request)[:16]}"
                site.ledger.intend(request.run, plan.purpose, intent, 1)
        released = as_frames(request.released)
        size = released.pixels.shape[1]
        members = site.frames(Split.MEMBERS, size=size)
        controls = site.frames(Split.CALIBRATION, Split.TEST, size=size)
        with threads(site.file.threads):
            found = part.count(
                released,
                members,
                controls,
                random=SecureRandom(),
                formal=request.formal,
                public_subjects=site.file.public_subjects,
            )
        return Counts(counts=_plain(asdict(found)))

    return site.outbox.answer(request, request.run, key, Counts, compute)


def as_frames(images: Mapping[str, NDArray[np.uint8]]) -> "Frames":
    """Return released or candidate images as frames of as many nameless subjects; 255 is an unknown view or phase."""
    from cohorts.frames import Frames

    if set(images) != {"pixels", "masks", "view", "phase"}:
        raise Refusal(Code.UNREADABLE, "images are pixels, masks, view and phase")
    pixels, n = images["pixels"], len(images["pixels"])
    square = pixels.ndim == 3 and n > 0 and 8 <= pixels.shape[1] == pixels.shape[2] <= 1024
    if not square or images["masks"].shape != pixels.shape or {images[k].shape for k in ("view", "phase")} != {(n,)}:
        raise Refusal(Code.UNREADABLE, "images must be (n, size, size), with a view and a phase each")
    return Frames(
        pixels=pixels,
        masks=images["masks"],
        view=np.where(images["view"] == 255, -1, images["view"].astype(np.int64)),
        phase=np.where(images["phase"] == 255, -1, images["phase"].astype(np.int64)),
        lvef_percent=np.full(n, np.nan, np.float32),
        subject=np.arange(n),
        subjects=tuple(f"released-{i}" for i in range(n)),  # type: ignore[misc]
    )


def _score(site: Site, request: Score) -> Scores:
    from client import personal
    from cohorts.split import Split
    from evaluation.tasks import CLIP_TASKS, TASKS
    from learning import arrays
    from learning.learner import fit

    task = (CLIP_TASKS if request.frames else TASKS)[request.task](**request.config)
    test, members = (_seen(site, request, task, split) for split in (Split.TEST, Split.MEMBERS))
    wanted = groups.allowed(site, request.groups)
    members_of = groups.membership(site, test, wanted)
    own = personal.read(site, request.run, request.personal) if request.personal else {}
    values: dict[str, Mapping[str, NDArray[np.float64]]] = {}
    with threads(site.file.threads):
        for arm, weights in request.arms.items():
            learner = task.learner()
            arrays.load_frozen(learner.module, request.frozen)
            lacking = arrays.trainable(learner.module).keys() - weights.keys()
            arrays.load(learner.module, {**weights, **{n: a for n, a in own.items() if n in lacking}})
            values[arm] = task.scores(learner, test)
        learner = task.learner()
        arrays.load_frozen(learner.module, request.frozen)
        if len(members):
            fit(
                learner,
                members,
                steps=task.steps,
                batch_size=task.batch_size,
                learning_rate=task.learning_rate,
                seed=request.seed,
                groups=groups.minded(site, members, request.minds),
            )
        found = task.scores(learner, test)
        values[LOCAL] = found if len(members) else {metric: np.full_like(v, np.nan) for metric, v in found.items()}
    least = site.policy.min_cell
    differences = {
        a: {b: {m: values[a][m] - values[b][m] for m in values[a]} for b in sorted(values) if b > a} for a in values
    }
    return Scores(
        scores={arm: _cells(found, least) for arm, found in values.items()},
        differences={a: {b: _cells(found, least) for b, found in rest.items()} for a, rest in differences.items()},
        groups={
            arm: {c: _apart(found, members_of[c], least, words) for c, words in wanted.items()}
            for arm, found in values.items()
        },
    )


def _seen(site: Site, request: Score, task: Any, split: "Split") -> "Frames | Clips":
    """Return the frames of the subjects in `split`, or their clips as a task of clips trains on them."""
    if request.frames:
        clips: Clips = task.shown(site.clips(split, size=request.size, frames=request.frames))
        return clips
    return site.frames(split, size=request.size)


def _apart(
    values: Mapping[str, NDArray[np.float64]],
    members: Mapping[str, NDArray[np.bool_]],
    least: int,
    words: Iterable[str],
) -> dict[str, dict[str, Any]]:
    """Return word → metric → cell of those groups in one column that are wanted, and may be said."""
    by_metric = {metric: groups.told_apart(v, members, least, _cell) for metric, v in values.items()}
    return {w: {m: found[w] for m, found in by_metric.items() if w in found} for w in words}


def _cells(values: Mapping[str, NDArray[np.float64]], least: int) -> dict[str, dict[str, float]]:
    return {metric: cell for metric, v in values.items() if (cell := _cell(v, least)) is not None}


def _cell(values: NDArray[np.float64], least: int) -> dict[str, float] | None:
    """Return mean, standard error and size, rounded; nothing where fewer than `least` subjects have the value."""
    from privacy.estimate import standard_error

    known = values[~np.isnan(values)]
    if len(known) < max(least, 2):
        return None
    return {
        "mean": round(float(known.mean()), DECIMALS),
        "standard_error": round(standard_error(known, rng=np.random.default_rng(0)), DECIMALS + 1),
        "n": COUNT_STEP * (len(known) // COUNT_STEP),
    }


def _plain(value: Any) -> Any:
    """Return numbers as JSON has them."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, tuple | list | np.ndarray):
        return [_plain(v) for v in value]
    return value.item() if isinstance(value, np.generic) else value
