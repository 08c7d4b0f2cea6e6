"""How models do on a site's test subjects, beside those that the site trains on its own: what of it may be said.

Arms of the site's own, which never leave it: `local`, trained on members; `joined`, on members and the release; and
`trivial`, which looks at no picture and says what is most usual among members.
"""

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from client import groups
from client.site import Site
from client.training import threads
from learning.messages import Score, Scores

if TYPE_CHECKING:
    from cohorts.clips import Clips
    from cohorts.frames import Frames
    from cohorts.split import Split
    from evaluation.task import Task
    from learning.learner import Learner

LOCAL, JOINED, TRIVIAL = "local", "joined", "trivial"
OWN = frozenset({LOCAL, JOINED, TRIVIAL})
RELEASE = "release"
KEPT = 0.25  # most that may be lost of what real studies give over the trivial arm (privacy.md 4.2)
DECIMALS = 3
COUNT_STEP = 5
SEED = 0  # of resampling, the same for every arm: their differences are paired

Floats = NDArray[np.float64]
Cells = dict[str, dict[str, float]]


def score(site: Site, request: Score, released: "Frames | None") -> Scores:
    """Score the arms of `request` and the site's own; with `released`, also join it with members, and test on it."""
    from cohorts.frames import Frames, concatenate
    from cohorts.split import Split
    from evaluation.tasks import CLIP_TASKS, TASKS

    task: Any = (CLIP_TASKS if request.frames else TASKS)[request.task](**request.config)
    test, members = (_seen(site, request, task, split) for split in (Split.TEST, Split.MEMBERS))
    arms: dict[str, Learner] = {}
    with threads(site.file.threads):
        for arm, weights in request.arms.items():
            arms[arm] = _given(site, request, task, weights)
        if len(members):
            arms[LOCAL] = _trained(site, request, task, members)
            if released is not None and isinstance(members, Frames):
                arms[JOINED] = _trained(site, request, task, concatenate([members, released]), minds=False)
        values = {arm: task.scores(learner, test) for arm, learner in arms.items()}
        draws = {arm: task.overall(learner, test).sampled(seed=SEED) for arm, learner in arms.items()}
        turned = task.scores(arms[LOCAL], released) if LOCAL in arms and released is not None else {}
    first: Mapping[str, Floats] = next(iter(values.values()), {})
    nobody: Mapping[str, Floats] = {metric: np.full_like(v, np.nan) for metric, v in first.items()}
    values[TRIVIAL] = task.trivial(members, test) if len(members) else nobody
    values.setdefault(LOCAL, nobody)
    return _said(site, request, task, test, values, draws, turned)


def _said(
    site: Site,
    request: Score,
    task: "Task",
    test: "Frames | Clips",
    values: Mapping[str, Mapping[str, Floats]],
    draws: Mapping[str, Mapping[str, Floats]],
    turned: Mapping[str, Floats],
) -> Scores:
    """Return what may be said of the scores of every arm, `(subjects,)`, and of what all subjects say together."""
    least = site.policy.min_cell
    wanted = groups.allowed(site, request.groups)
    members_of = groups.membership(site, test, wanted)
    n = len(test.subjects)
    later = {a: [b for b in sorted(values) if b > a] for a in values}
    apart = {a: {b: _minus(values[a], values[b]) for b in rest} for a, rest in later.items()}
    drawn = {
        a: {b: _minus(draws[a], draws[b]) if a in draws and b in draws else {} for b in rest}
        for a, rest in later.items()
    }
    new, metric = values.get(RELEASE, {}), task.primary
    kept = {
        arm: {metric: new[metric] - (1 - KEPT) * found[metric] - KEPT * values[TRIVIAL][metric]}
        for arm, found in values.items()
        if arm not in (RELEASE, TRIVIAL) and all(metric in v for v in (new, found, values[TRIVIAL]))
    }
    gained = {
        arm: {metric: new[metric] - found[metric]}
        for arm, found in values.items()
        if arm != RELEASE and metric in new and metric in found
    }
    return Scores(
        scores={arm: _cells(found, least) | _whole(draws.get(arm, {}), n, least) for arm, found in values.items()},
        differences={
            a: {b: _cells(found, least) | _whole(drawn[a][b], n, least) for b, found in rest.items()}
            for a, rest in apart.items()
        },
        groups={
            arm: {c: _apart(found, members_of[c], least, words) for c, words in wanted.items()}
            for arm, found in values.items()
        },
        kept={arm: _cells(found, least) for arm, found in kept.items()},
        gained={
            arm: {c: _apart(found, members_of[c], least, words) for c, words in wanted.items()}
            for arm, found in gained.items()
        },
        turned=_cells(turned, least),
    )


def _given(site: Site, request: Score, task: Any, weights: Mapping[str, NDArray[np.float32]]) -> "Learner":
    """Return a learner with these weights, and the site's own where they are lacking."""
    from client import personal
    from learning import arrays

    own = personal.read(site, request.run, request.personal) if request.personal else {}
    learner: Learner = task.learner()
    arrays.load_frozen(learner.module, request.frozen)
    lacking = arrays.trainable(learner.module).keys() - weights.keys()
    arrays.load(learner.module, {**weights, **{n: a for n, a in own.items() if n in lacking}})
    return learner


def _trained(site: Site, request: Score, task: Any, frames: "Frames | Clips", *, minds: bool = True) -> "Learner":
    """Return a learner trained on `frames`; it `minds` the groups of members, which those of a release do not have."""
    from learning import arrays
    from learning.learner import fit

    learner: Learner = task.learner()
    arrays.load_frozen(learner.module, request.frozen)
    fit(
        learner,
        frames,
        steps=task.steps,
        batch_size=task.batch_size,
        learning_rate=task.learning_rate,
        seed=request.seed,
        groups=groups.minded(site, frames, request.minds) if minds else None,
    )
    return learner


def _seen(site: Site, request: Score, task: Any, split: "Split") -> "Frames | Clips":
    """Return the frames of the subjects in `split`, or their clips as a task of clips trains on them."""
    if request.frames:
        clips: Clips = task.shown(site.clips(split, size=request.size, frames=request.frames))
        return clips
    return site.frames(split, size=request.size)


def _minus(one: Mapping[str, Floats], other: Mapping[str, Floats]) -> dict[str, Floats]:
    return {metric: values - other[metric] for metric, values in one.items() if metric in other}


def _apart(
    values: Mapping[str, Floats], members: Mapping[str, NDArray[np.bool_]], least: int, words: Iterable[str]
) -> dict[str, dict[str, Any]]:
    """Return word → metric → cell of those groups in one column that are wanted, and may be said."""
    by_metric = {metric: groups.told_apart(v, members, least, _cell) for metric, v in values.items()}
    return {w: {m: found[w] for m, found in by_metric.items() if w in found} for w in words}


def _cells(values: Mapping[str, Floats], least: int) -> Cells:
    return {metric: cell for metric, v in values.items() if (cell := _cell(v, least)) is not None}


def _cell(values: Floats, least: int) -> dict[str, float] | None:
    """Return mean, standard error and size, rounded; nothing where fewer than `least` subjects have the value."""
    from privacy.estimate import standard_error

    known = values[~np.isnan(values)]
    if len(known) < max(least, 2):
        return None
    error = standard_error(known, rng=np.random.default_rng(SEED))
    return _rounded(float(known.mean()), error, len(known))


def _whole(draws: Mapping[str, Floats], n: int, least: int) -> Cells:
    """Return the cell of each number of all `n` subjects together, from its draws over them, the first itself."""
    told = {name: drawn for name, drawn in draws.items() if n >= max(least, 2) and np.isfinite(drawn[0])}
    wide = float(np.sqrt(n / max(n - 1, 1)))
    return {name: _rounded(float(d[0]), wide * float(np.nanstd(d[1:])), n) for name, d in told.items()}


def _rounded(mean: float, error: float, n: int) -> dict[str, float]:
    return {
        "mean": round(mean, DECIMALS),
        "standard_error": round(error, DECIMALS + 1),
        "n": COUNT_STEP * (n // COUNT_STEP),
    }
