"""From settings to stages: a training with its plan for the ledger, and the measurement of a task."""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from conf.aggregation import Aggregation
from conf.schema import Assessment, Training
from privacy.mechanism import DpPlan
from server.campaign import Stage


def dp_plan(purpose: str, training: Training) -> DpPlan:
    """Return the plan of a training before its noise is found."""
    return DpPlan(
        purpose=purpose,
        sampling_rate=training.sampling_rate,
        noise_multiplier=1.0,
        clip_norm=training.clip_norm,
        steps=training.exchanges * training.steps,
        draws=training.draws,
    )


def train_stage(
    name: str,
    part: Mapping[str, Any],
    plan: DpPlan,
    training: Training,
    aggregation: Aggregation,
    *,
    public: bool,
    do: str = "train",
    **more: Any,
) -> Stage:
    """Return the stage `name` that trains `part` by `plan`; `more` are settings of `do` beside those of every one."""
    settings = {
        **part,
        "plan": plan.to_json(),
        "rounds": training.exchanges,
        "steps": training.steps,
        "batch_size": 1,
        "learning_rate": training.learning_rate,
        "public": public,
        **step(aggregation),
        **({"minds": {"by": training.weigh_by, "weights": plain(training.weights)}} if training.weights else {}),
        **more,
    }
    return Stage(name=name, do=do, settings=settings)


def part(kind: str, name: str, config: Any, *, prior: str) -> dict[str, Any]:
    """Return how a message names a learner or generator."""
    return {"kind": kind, "name": name, "config": plain(config), "prior": prior}


def plain(config: Any) -> dict[str, Any]:
    """Return a config dataclass as the JSON that a message can carry."""
    found: dict[str, Any] = json.loads(json.dumps(config if isinstance(config, Mapping) else asdict(config)))
    return found


def step(aggregation: Aggregation) -> dict[str, Any]:
    """Return the settings of the step that the coordinator makes of what sites changed."""
    told = asdict(aggregation)
    rate, average = told.pop("learning_rate"), told.pop("average")
    return {"server_learning_rate": rate, "average": average, "aggregation": told}


def utility_stage(
    name: str, task: str, config: Any, federated: str, part: Mapping[str, Any], assess: Assessment, **more: Any
) -> Stage:
    """Return the stage `name` that measures `task`; `more` are settings beside those of every one."""
    settings = {
        "task": task,
        "config": plain(config),
        "screened": "screen",
        "federated": federated,
        "federated_part": dict(part),
        **({"groups": plain(assess.groups)} if assess.groups else {}),
        **({"joined": True} if name in assess.joined else {}),
        **minds(assess),
        **more,
    }
    return Stage(name=name, do="utility", settings=settings)


def minds(assess: Assessment) -> dict[str, Any]:
    """Return whom the arms on real studies mind, as a setting, where they mind anybody."""
    return {"minds": asdict(assess.minding)} if assess.minding.by else {}
