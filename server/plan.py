"""From an experiment to a campaign: which plans are charged, which stages run, with which settings.

Everything a patient will ever pay is fixed here, before anything runs: that is why the plans may be composed jointly
(privacy.md 6.1), and why the sites can be shown all of it at once.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from conf.schema import Aggregation, Experiment, Training
from privacy.mechanism import DpPlan, LaplacePlan, Plan, calibrate, epsilon
from server.campaign import Campaign, Stage

VIEWS, GENERATOR, REFERENCE = "views", "generator", "reference"
SECONDS = 3600.0  # to wait for the replies of one exchange
TUNE_PRIOR = "view_classifier"


def plans(experiment: Experiment, audits: list[LaplacePlan]) -> tuple[DpPlan, DpPlan]:
    """Return the plans of the view classifier and of the generator, noised so that everything together costs ε.

    The view classifier gets its share of ε; the generator the least noise for which the joint composition of all,
    the audit's counts included, stays within the budget.

    Raises:
        ValueError: if the budget does not even pay for what comes before the generator; names both.
    """
    budget = experiment.budget
    views = calibrate(
        _plan("train.views", experiment.train_views), epsilon=budget.epsilon * budget.views_share, delta=budget.delta
    )
    generator = calibrate(
        _plan("train.generator", experiment.train_generator),
        epsilon=budget.epsilon,
        delta=budget.delta,
        beside=[views, *audits],
    )
    return views, generator


def campaign(experiment: Experiment, *, run: str, out: str, resolved: Mapping[str, Any]) -> Campaign:
    """Return the campaign of `experiment`.

    Args:
        experiment: what was asked for.
        run: name under which the sites charge.
        out: folder of the outputs.
        resolved: the experiment as plain JSON, for its digest.
    """
    audits = list(experiment.disclosure.plans()) if experiment.release.lane == "FORMAL" else []
    views, generator = plans(experiment, audits)
    whole: list[Plan] = [views, generator, *audits]
    names = {group: next(iter(resolved[group])) for group in ("generator", "views", "segmentation", "recognition")}
    view_part = _part("learner", names["views"], experiment.views, prior=TUNE_PRIOR if _uses_prior(experiment) else "")
    segmenter = _part("learner", "segmenter", {"width": experiment.segmentation.width}, prior="")
    public = experiment.classes.of == "view"  # else simulated people have no such classes
    stages = [
        Stage(name="reserve", do="reserve", settings={"plans": [p.to_json() for p in whole]}),
        _train(VIEWS, view_part, views, experiment.train_views, experiment.aggregation, public=public),
        Stage(name="autoencoder", do="prior", settings={"uses": _uses_prior(experiment)}),
        _train(GENERATOR, _part("generator", names["generator"], experiment.generator, prior=""), generator,
               experiment.train_generator, experiment.aggregation, public=public),
        Stage(
            name="audit",
            do="audit",
            settings={"trainings": {VIEWS: views.to_json(), GENERATOR: generator.to_json()}},
        ),
        Stage(
            name="sample",
            do="sample",
            settings={
                "name": names["generator"],
                "config": _plain(experiment.generator),
                "trained": GENERATOR,
                "subjects": experiment.release.candidates,
                "classes": asdict(experiment.classes),
            },
        ),
        Stage(
            name="screen",
            do="screen",
            settings={
                "lane": experiment.release.lane.value,
                "sampled": "sample",
                "views": {**view_part, "trained": VIEWS},
                "least_view_probability": experiment.release.least_view_probability,
                "similarity": experiment.release.similarity,
                "subjects": experiment.release.subjects,
                "classes": asdict(experiment.classes),
            },
        ),
    ]  # fmt: skip
    referred = experiment.assess.federated and "segmentation" in experiment.assess.tasks
    if referred:
        stages.append(_reference(experiment, segmenter))
    tasks = {
        "segmentation": _utility(
            "segmentation", names["segmentation"], experiment.segmentation, REFERENCE if referred else "", segmenter
        ),
        "recognition": _utility("recognition", names["recognition"], experiment.recognition, VIEWS, view_part),
    }
    stages += [
        *(tasks[name] for name in experiment.assess.tasks),
        Stage(
            name="attack",
            do="attack",
            settings={
                "name": "disclosure",
                "config": _plain(experiment.disclosure),
                "lane": experiment.release.lane.value,
                "screened": "screen",
            },
        ),
        Stage(
            name="certify",
            do="certify",
            settings={
                "policy": experiment.policy,
                "lane": experiment.release.lane.value,
                "epsilon": epsilon(whole, experiment.budget.delta),
                "epsilon_at_2_sites": epsilon([*whole, *whole], experiment.budget.delta),
                "epsilon_at_3_sites": epsilon([*whole, *whole, *whole], experiment.budget.delta),
                "epsilon_under_2_names": epsilon(whole, experiment.budget.delta, identities=2),
                "pictures": experiment.pictures,
                "classes": list(experiment.classes.names),
                "about": experiment.about,
            },
        ),
    ]  # fmt: skip
    return Campaign(
        run=run,
        out=out,
        seed=experiment.seed,
        size=experiment.size,
        quorum=experiment.sites.quorum,
        seconds=SECONDS,
        threads=experiment.threads,
        delta=experiment.budget.delta,
        experiment=resolved,
        stages=tuple(stages),
    )


def _plan(purpose: str, training: Training) -> DpPlan:
    return DpPlan(
        purpose=purpose,
        sampling_rate=training.sampling_rate,
        noise_multiplier=1.0,
        clip_norm=training.clip_norm,
        steps=training.exchanges * training.steps,
        draws=training.draws,
    )


def _uses_prior(experiment: Experiment) -> bool:
    return bool(getattr(experiment.generator, "prior", False))


def _part(kind: str, name: str, config: Any, *, prior: str) -> dict[str, Any]:
    return {"kind": kind, "name": name, "config": _plain(config), "prior": prior}


def _plain(config: Any) -> dict[str, Any]:
    """Return a config dataclass as the JSON that a message can carry."""
    found: dict[str, Any] = json.loads(json.dumps(config if isinstance(config, Mapping) else asdict(config)))
    return found


def _train(
    name: str, part: Mapping[str, Any], plan: DpPlan, training: Training, aggregation: Aggregation, *, public: bool
) -> Stage:
    settings = {
        **part,
        "plan": plan.to_json(),
        "rounds": training.exchanges,
        "steps": training.steps,
        "batch_size": 1,
        "learning_rate": training.learning_rate,
        "public": public,
        **_step(aggregation),
    }
    return Stage(name=name, do="train", settings=settings)


def _reference(experiment: Experiment, part: Mapping[str, Any]) -> Stage:
    task, exchanges = experiment.segmentation, experiment.assess.exchanges
    settings = {
        **part,
        "plan": None,
        "rounds": exchanges,
        "steps": max(1, task.steps // exchanges),
        "batch_size": task.batch_size,
        "learning_rate": task.learning_rate,
        "personal": experiment.assess.personal,
        "public": experiment.classes.of == "view",
        **_step(experiment.aggregation),
    }
    return Stage(name=REFERENCE, do="train", settings=settings)


def _step(aggregation: Aggregation) -> dict[str, Any]:
    told = asdict(aggregation)
    rate, average = told.pop("learning_rate"), told.pop("average")
    return {"server_learning_rate": rate, "average": average, "aggregation": told}


def _utility(name: str, task: str, config: Any, federated: str, part: Mapping[str, Any]) -> Stage:
    settings = {
        "task": task,
        "config": _plain(config),
        "screened": "screen",
        "federated": federated,
        "federated_part": dict(part),
    }
    return Stage(name=name, do="utility", settings=settings)
