"""What each stage of a campaign sends to a site: the bytes of one request, worked out before anything is run.

Requests are made as the coordinator makes them, with arrays of the shapes that it will send, and weighed. Arrays are
exact; of pictures there are as many as may be released at most, for how many a screening keeps nobody knows before.
"""

from collections.abc import Callable, Mapping
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from client.leaves import SMALL_BYTES, Asked, Leaves, Stage, distinct, named, peers, size_of
from learning.masked import OFFER_BYTES, SEALED_BYTES
from learning.messages import Attack, MaskedTrain, Reserve, Score, Screen, Share, Train

SIGN_BYTES = 1 << 16  # of a certificate, which lists what this campaign found
NO_DIGEST = "0" * 64

Told = Mapping[str, Any]


def arrives(site: Asked, campaign: Told, line: Leaves) -> int:
    """Return the bytes of one request of `campaign` to which `line` replies, at most."""
    make = REQUESTED.get(line.message)
    return SMALL_BYTES if make is None else make(site, campaign, named(line.stage, campaign["stages"]))


def _reserve(site: Asked, campaign: Told, stage: Stage) -> int:
    of = stage["settings"].get("of", {})
    plans = [plan for plan in stage["settings"]["plans"] if site.name in of.get(plan["purpose"], [site.name])]
    return size_of(
        Reserve(
            run=campaign["run"],
            code_digest=NO_DIGEST,
            experiment_digest=NO_DIGEST,
            plans=plans,
            delta=campaign["delta"],
        )
    )


def _train(site: Asked, campaign: Told, stage: Stage) -> int:
    return size_of(_training(campaign, stage))


def _training(campaign: Told, stage: Stage) -> Train:
    from learning import arrays
    from synthesis.parts import build

    told = stage["settings"]
    module = build(told["kind"], told["name"], told["config"], seed=0, prior="").module
    own = told.get("personal") or ""
    return Train(
        run=campaign["run"],
        stage=stage["name"],
        round=told["rounds"],
        kind=told["kind"],
        name=told["name"],
        config=told["config"],
        prior=told["prior"],
        plan=told["plan"],
        size=campaign["size"],
        steps=told["steps"],
        batch_size=told["batch_size"],
        learning_rate=told["learning_rate"],
        proximal=told.get("aggregation", {}).get("proximal", 0.0),
        personal=own,
        seed=campaign["seed"],
        arrays=distinct({n: a for n, a in arrays.trainable(module).items() if not (own and n.startswith(own))}),
        frozen=distinct(arrays.frozen(module)) if told.get("start") else {},
        minds=told.get("minds", {}),
        frames=told.get("frames", 0),
    )


def _masked(site: Asked, campaign: Told, stage: Stage) -> int:
    asked = _training(campaign, stage)
    told = {field.name: getattr(asked, field.name) for field in fields(Train)}
    sealed = bytes((peers(site) - 1) * SEALED_BYTES)
    return size_of(MaskedTrain(**told, attempt=1, sharers=sorted(site.policy.secure_aggregation.roster), sealed=sealed))


def _share(site: Asked, campaign: Told, stage: Stage) -> int:
    names = sorted(site.policy.secure_aggregation.roster)
    return size_of(
        Share(
            run=campaign["run"],
            stage=stage["name"],
            round=1,
            attempt=1,
            threshold=len(names),
            sites=names,
            offers=bytes(peers(site) * OFFER_BYTES),
        )
    )


def _score(site: Asked, campaign: Told, stage: Stage) -> int:
    from evaluation.tasks import CLIP_TASKS, TASKS
    from learning import arrays

    told = stage["settings"]
    frames = int(told.get("frames", 0))
    task: Any = (CLIP_TASKS if frames else TASKS)[told["task"]](**told["config"])
    module = task.learner().module
    arms = {arm: distinct(arrays.trainable(module), seed) for seed, arm in enumerate(("release", "phantom"))}
    if told.get("federated"):
        arms["federated"] = distinct(_federated(campaign, told), seed=2)
    released = _released(campaign, told["screened"], frames) if told.get("joined") else {}
    return size_of(
        Score(
            run=campaign["run"],
            stage=stage["name"],
            task=told["task"],
            config=told["config"],
            size=campaign["size"],
            seed=campaign["seed"],
            personal="",
            arms=arms,
            frozen=distinct(arrays.frozen(module), seed=3) if told.get("start") else {},
            groups=told.get("groups", {}),
            minds=told.get("minds", {}),
            frames=frames,
            released=released,
        )
    )


def _federated(campaign: Told, told: Told) -> dict[str, NDArray[np.float32]]:
    from learning import arrays
    from synthesis.parts import build

    part = told["federated_part"]
    module = build(part["kind"], part["name"], part["config"], seed=0, prior="").module
    own = named(told["federated"], campaign["stages"])["settings"].get("personal") or ""
    found = arrays.trainable(module) if "start" in told else arrays.state(module)
    return {n: np.asarray(a, np.float32) for n, a in found.items() if not (own and n.startswith(own))}


def _attack(site: Asked, campaign: Told, stage: Stage) -> int:
    told = stage["settings"]
    return size_of(
        Attack(
            run=campaign["run"],
            stage=stage["name"],
            name=told["name"],
            config=told["config"],
            formal=told["lane"] == "FORMAL",
            released=_released(campaign, told["screened"], 0),
        )
    )


def _screen(site: Asked, campaign: Told, stage: Stage) -> int:
    from learning import arrays
    from synthesis.parts import build

    told = stage["settings"]
    sample = named(told["sampled"], campaign["stages"])
    recipe, each = _drawn(campaign, sample)
    module = build(recipe["kind"], recipe["name"], recipe["config"], seed=0, prior="").module
    subjects, size = recipe["subjects"], campaign["size"]
    dice = np.random.default_rng(0)
    decoys = {"pixels": _grey(dice, int(told["decoys"]), size, size)} if told.get("decoys") else {}
    return size_of(
        Screen(
            run=campaign["run"],
            stage=stage["name"],
            rule=sample["settings"].get("rule", {}),
            recipe=recipe,
            committed=NO_DIGEST,
            numbers={"of": list(range(subjects))},
            weights=distinct(arrays.trainable(module)),
            candidates={"pixels": _grey(dice, subjects, each, size, size)},
            decoys=decoys,
        )
    )


def _sign(site: Asked, campaign: Told, stage: Stage) -> int:
    return SIGN_BYTES


def _released(campaign: Told, screened: str, frames: int) -> dict[str, NDArray[np.uint8]]:
    """Return as many pictures as the screening releases at most."""
    told = named(screened, campaign["stages"])["settings"]
    _, each = _drawn(campaign, named(told["sampled"], campaign["stages"]), looked_at=False)
    n, size, dice = told["subjects"] * each, campaign["size"], np.random.default_rng(0)
    return {
        "pixels": _grey(dice, n, size, size),
        "masks": _grey(dice, n, size, size),
        "view": _grey(dice, n),
        "phase": _grey(dice, n),
    }


def _drawn(campaign: Told, sample: Stage, *, looked_at: bool = True) -> tuple[dict[str, Any], int]:
    """Return the recipe of a stage that samples, and how many pictures each of its subjects has."""
    from synthesis.candidates import Recipe

    told = sample["settings"]
    recipe = Recipe(
        kind="clip_generator" if sample["do"] == "film" else "generator",
        name=told["name"],
        config=told["config"],
        subjects=told["subjects"],
        seed=campaign["seed"],
        size=campaign["size"],
        classes=told["classes"],
        frames=told.get("frames", 0),
        lvef_percent=tuple(told.get("lvef_percent", ())),
    )
    one = recipe.conditions(n=1)
    return recipe.to_json(), len(one.looked_at() if looked_at else one.stills)


def _grey(dice: np.random.Generator, *shape: int) -> NDArray[np.uint8]:
    return dice.integers(0, 256, shape, dtype=np.uint8)


REQUESTED: Mapping[str, Callable[[Asked, Told, Stage], int]] = {
    "query.reserve": _reserve,
    "train": _train,
    "train.masked": _masked,
    "query.shares": _share,
    "evaluate": _score,
    "query.attack": _attack,
    "query.screen": _screen,
    "query.sign": _sign,
}
