"""Utility: is the release good for this task? Models trained here on what is public are tested at the sites.

Settings:
    task, config: which task, and how every arm is trained.
    screened: the stage that released.
    frames: of a task of clips, how many a clip has at most; absent for tasks of frames.
    federated: the stage that trained the same network in common on real members, or "" for none; and
    federated_part: {kind, name, config, prior} of what that stage trained.
    start: stage and file of the weights that no arm trains, such as experts; absent where all are trained.
    groups: column → words by which scores are told apart; minds: whom the sites' own arms mind; absent for none.
    joined: each site also trains on its members and the release together; absent where none does.

Arms: "release" and "phantom" are trained here; "federated" comes from its stage; each site trains "local" on its own
members, may train "joined", and has "trivial", which looks at no picture. All are tested on test subjects, who were in
no training. Writes `scores.json`: per metric and arm the pooled estimate, and the paired differences release minus arm;
`kept`, the release minus three quarters of an arm and one of the trivial one; with "joined" what it gains over "local",
and how "local" does on the release (`turned`); of experts also who was heard at which site; and by arm, column and
group of subjects the estimates of groups, of which sites that tell any apart are some, and what the release gains.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cohorts import clips as moving
from cohorts import frames as table
from learning import arrays
from privacy.estimate import Estimate
from server.campaign import State
from server.stages.film import PHANTOM_CLIPS
from server.stages.sample import PHANTOMS
from server.stages.screen import RELEASED, RELEASED_CLIPS
from server.stages.train import WEIGHTS

if TYPE_CHECKING:
    from torch.nn import Module

    from learning.messages import Scores

SCORES = "scores.json"
RELEASE, PHANTOM, FEDERATED, LOCAL = "release", "phantom", "federated", "local"
JOINED, TRIVIAL = "joined", "trivial"
SITE = "site"  # the group of those who were seen at one site


def run(state: State) -> None:
    """Train the public arms, have all arms scored at the sites, pool."""
    from evaluation.tasks import CLIP_TASKS, TASKS
    from learning.learner import fit
    from learning.messages import Score, Scores
    from server.rounds import Answers, ask

    told: dict[str, Any] = dict(state.stage.settings)
    frames = int(told.get("frames", 0))
    task: Any = (CLIP_TASKS if frames else TASKS)[told["task"]](**told["config"])
    release, phantoms = (RELEASED_CLIPS, PHANTOM_CLIPS) if frames else (RELEASED, PHANTOMS)
    arms, frozen = {}, _frozen(state, task.learner().module)
    for k, (arm, file) in enumerate(((RELEASE, release), (PHANTOM, phantoms))):
        learner, path = task.learner(), state.output(told["screened"], file)
        arrays.load_frozen(learner.module, frozen)
        fit(
            learner,
            task.shown(moving.read(path)) if frames else table.read(path),
            steps=task.steps,
            batch_size=task.batch_size,
            learning_rate=task.learning_rate,
            seed=state.campaign.seed,
            progress=lambda i, n, k=k, arm=arm: state.tell((k + i / n) / 4, f"training on the {arm}"),  # type: ignore[misc]
        )
        arms[arm] = arrays.trainable(learner.module)
    if told["federated"]:
        arms[FEDERATED] = _federated(state)
    request = Score(
        run=state.campaign.run,
        stage=state.stage.name,
        task=told["task"],
        config=told["config"],
        size=state.campaign.size,
        seed=state.campaign.seed,
        personal=_personal(state) and told["federated"],
        arms=arms,
        frozen=frozen,
        groups=told.get("groups", {}),
        minds=told.get("minds", {}),
        frames=frames,
        released=table.as_images(table.read(state.output(told["screened"], release))) if told.get("joined") else {},
    )
    state.tell(0.5, "each site trains on its own and tests all arms")
    answers: Answers[Scores] = ask(
        state.grid,
        state.sites,
        lambda _: request,
        quorum=state.campaign.quorum,
        seconds=state.campaign.seconds,
    )
    replies = list(answers.replies.values())
    names = sorted({*arms, LOCAL, TRIVIAL, *((JOINED,) if told.get("joined") else ())})
    state.write_json(
        SCORES,
        {
            "task": told["task"],
            "primary": task.primary,
            "sites": list(answers.replies),
            "arms": {arm: _pooled([r.scores.get(arm, {}) for r in replies]) for arm in names},
            "kept": {arm: _pooled([r.kept.get(arm, {}) for r in replies]) for arm in names if arm != RELEASE},
            **_joined(replies),
            "gains": {arm: _pooled([_gain(r.differences, arm) for r in replies]) for arm in names if arm != RELEASE},
            **(_of_groups(answers.replies, names) if told.get("groups") else {}),
            **_heard({site: reply.scores.get(FEDERATED, {}) for site, reply in answers.replies.items()}),
        },
    )


def _frozen(state: State, module: "Module") -> arrays.Arrays:
    """Return the weights of `module` that are not trained, where another stage has them."""
    if (start := state.stage.settings.get("start")) is None:
        return {}
    whole = arrays.read(state.output(*start))
    return {name: whole[name].astype("float32") for name in arrays.frozen(module)}


def _heard(scores: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Return, by site, how much each expert is heard about its patients; nothing where there are no experts."""
    from evaluation.tasks.expert_fusion import WEIGHT

    found = {
        site: {name.removeprefix(WEIGHT): cell for name, cell in _pooled([own]).items() if name.startswith(WEIGHT)}
        for site, own in scores.items()
    }
    return {"heard": found} if any(found.values()) else {}


def _federated(state: State) -> arrays.Arrays:
    """Return the weights of the network that the sites trained in common, but for what each has as its own."""
    from synthesis.parts import build

    part = state.stage.settings["federated_part"]
    learner = build(part["kind"], part["name"], part["config"], seed=state.campaign.seed, prior=part["prior"])
    trained = arrays.read(state.output(state.stage.settings["federated"], WEIGHTS))
    if "start" in state.stage.settings:
        return {name: array.astype("float32") for name, array in trained.items()}
    own = _personal(state)
    arrays.load(learner.module, {**arrays.trainable(learner.module), **trained})
    return {n: a for n, a in arrays.state(learner.module).items() if not (own and n.startswith(own))}


def _personal(state: State) -> str:
    """Return how the names of weights begin that the common training left at the sites; "" where it left none."""
    named = state.stage.settings["federated"]
    trained = next((s for s in state.campaign.stages if s.name == named), None)
    return "" if trained is None else str(trained.settings.get("personal", ""))


def _gain(differences: Mapping[str, Any], arm: str) -> Mapping[str, Any]:
    """Return release minus `arm` from the site's differences, which are in alphabetical order."""
    if arm > RELEASE:
        found: Mapping[str, Any] = differences[RELEASE].get(arm, {})
        return found
    turned = differences.get(arm, {}).get(RELEASE, {})
    return {metric: {**cell, "mean": -cell["mean"]} for metric, cell in turned.items()}


def _joined(replies: Sequence["Scores"]) -> dict[str, Any]:
    """Return what the release adds to a site's own members, and how their model does on the release, where said."""
    added = _pooled([r.differences.get(JOINED, {}).get(LOCAL, {}) for r in replies])
    return {"added": added, "turned": _pooled([r.turned for r in replies])} if added else {}


def _of_groups(replies: Mapping[str, "Scores"], arms: Sequence[str]) -> dict[str, Any]:
    """Return the groups under each arm, and what the release gains over it in each."""
    gained = {}
    for arm in arms:
        if arm != RELEASE:
            whole = {s: {m: c for m, c in _gain(r.differences, arm).items() if r.gained} for s, r in replies.items()}
            gained[arm] = _grouped({s: r.gained.get(arm, {}) for s, r in replies.items()}, whole)
    return {"groups": {arm: _by_group(replies, arm) for arm in arms}, "gained": gained}


def _by_group(replies: Mapping[str, "Scores"], arm: str) -> dict[str, dict[str, Any]]:
    """Return column → group → metric → estimate of one arm, pooled over the sites that say it."""
    return _grouped(
        {s: r.groups.get(arm, {}) for s, r in replies.items()},
        {s: r.scores[arm] for s, r in replies.items() if arm in r.scores},
    )


def _grouped(groups: Mapping[str, Any], whole: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Pool what the sites say of groups; those that say any are groups themselves, by what is `whole` of theirs."""
    said = {site: own for site, own in groups.items() if own}
    words = sorted({(column, word) for own in said.values() for column, cells in own.items() for word in cells})
    found: dict[str, dict[str, Any]] = {column: {} for column, _ in words}
    for column, word in words:
        parts = [own[column][word] for own in said.values() if word in own.get(column, {})]
        found[column][word] = _pooled(parts)
    return {**found, **({SITE: {site: _pooled([whole[site]]) for site in said if site in whole}} if said else {})}


def _pooled(parts: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Pool each metric over the sites that could say it: means weighted by their number of subjects."""
    from privacy.estimate import pool

    found = {}
    for metric in sorted({m for part in parts for m in part}):
        cells = [part[metric] for part in parts if metric in part]
        estimate: Estimate = pool([(c["mean"], c["standard_error"], int(c["n"])) for c in cells])
        found[metric] = {"value": estimate.value, "low": estimate.low, "high": estimate.high, "n": estimate.n}
    return found
