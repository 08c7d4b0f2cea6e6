"""From an experiment to a campaign: which plans are charged, which stages run, with which settings.

Everything a patient will ever pay is fixed here, before anything runs: that is why the plans may be composed jointly
(privacy.md 6.1), and why the sites can be shown all of it at once.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from conf.schema import Experiment
from privacy.mechanism import DpPlan, LaplacePlan, Plan, calibrate, epsilon
from server import experts, screening, shapes
from server.campaign import Campaign, Stage
from server.trainings import dp_plan, minds, part, plain, step, train_stage, utility_stage

VIEWS, GENERATOR, REFERENCE, EJECTION = "views", "generator", "reference", "ejection"
SECONDS = 3600.0  # to wait for the replies of one exchange
TUNE_PRIOR = "view_classifier"


def plans(experiment: Experiment, audits: list[LaplacePlan]) -> tuple[DpPlan, ...]:
    """Return the plans of the view classifier, of the generator, of shapes and experts, if any: all together cost ε.

    The view classifier, the shapes and the experts get their shares of ε; the generator the least noise for which the
    joint composition of all, the audit's counts included, stays within the budget.

    Raises:
        ValueError: if the budget does not even pay for what comes before the generator; names both.
    """
    budget = experiment.budget
    views = calibrate(
        dp_plan("train.views", experiment.train_views), epsilon=budget.epsilon * budget.views_share, delta=budget.delta
    )
    fused = (*shapes.plans(budget), *experts.plans(experiment))
    generator = calibrate(
        dp_plan("train.generator", experiment.train_generator),
        epsilon=budget.epsilon,
        delta=budget.delta,
        beside=[views, *fused, *audits],
    )
    return views, generator, *fused


def campaign(experiment: Experiment, *, run: str, out: str, resolved: Mapping[str, Any]) -> Campaign:
    """Return the campaign of `experiment`.

    Args:
        experiment: what was asked for.
        run: name under which the sites charge.
        out: folder of the outputs.
        resolved: the experiment as plain JSON, for its digest.
    """
    audits = list(experiment.disclosure.plans()) if experiment.release.lane == "FORMAL" else []
    audits += screening.plans(experiment)
    views, generator, *fused = plans(experiment, audits)
    whole: list[Plan] = [views, generator, *fused, *audits]
    groups = ("generator", "views", "segmentation", "recognition", EJECTION)
    names = {group: next(iter(resolved[group])) for group in groups}
    moves = films(experiment, names["generator"])
    of_clips: dict[str, Any] = {"frames": experiment.release.frames} if moves else {}
    view_part = part("learner", names["views"], experiment.views, prior=TUNE_PRIOR if _uses_prior(experiment) else "")
    segmenter = part("learner", "segmenter", {"width": experiment.segmentation.width}, prior="")
    public = experiment.classes.of == "view"  # else simulated people have no such classes
    stages = [
        Stage(
            name="reserve",
            do="reserve",
            settings={"plans": [p.to_json() for p in whole], **experts.charged(experiment)},
        ),
        *shapes.stages(experiment, moves=moves, charged=fused),
        train_stage(VIEWS, view_part, views, experiment.train_views, experiment.aggregation, public=public),
        Stage(
            name="autoencoder",
            do="prior",
            settings={
                "uses": _uses_prior(experiment),
                **({"also": also} if (also := _also(experiment, names["generator"], moves=moves)) else {}),
            },
        ),
        train_stage(
            GENERATOR,
            part("clip_generator" if moves else "generator", names["generator"], experiment.generator, prior=""),
            generator,
            experiment.train_generator,
            experiment.aggregation,
            public=public,
            **of_clips,
        ),
        *experts.stages(experiment, fused),
        Stage(
            name="audit",
            do="audit",
            settings={
                "trainings": {
                    VIEWS: views.to_json(),
                    GENERATOR: generator.to_json(),
                    **experts.trainings(experiment, fused),
                }
            },
        ),
        Stage(
            name="sample",
            do="film" if moves else "sample",
            settings={
                "name": names["generator"],
                "config": plain(experiment.generator),
                "trained": GENERATOR,
                "subjects": experiment.release.candidates,
                "classes": asdict(experiment.classes),
                "rule": screening.rule(experiment),
                **({"shapes": shapes.SHAPES} if experiment.budget.shapes_share else {}),
                **of_clips,
                **({"lvef_percent": list(experiment.release.lvef_percent)} if moves else {}),
            },
        ),
        Stage(
            name="screen",
            do="screen",
            settings={
                "sampled": "sample",
                "drawn_by": GENERATOR,
                "decoys": experiment.screening.decoys,
                "views": {**view_part, "trained": VIEWS},
                "least_view_probability": experiment.release.least_view_probability,
                "similarity": experiment.release.similarity,
                "subjects": experiment.release.subjects,
                "classes": asdict(experiment.classes),
                **({"clips": True} if moves else {}),
            },
        ),
    ]  # fmt: skip
    referred = experiment.assess.federated and "segmentation" in experiment.assess.tasks
    if referred:
        stages.append(_reference(experiment, segmenter))
    assess, of_reference = experiment.assess, REFERENCE if referred else ""
    tasks = {
        "segmentation": utility_stage(
            "segmentation", names["segmentation"], experiment.segmentation, of_reference, segmenter, assess
        ),
        "recognition": utility_stage(
            "recognition", names["recognition"], _begun_alike(experiment, view_part), VIEWS, view_part, assess
        ),
        EJECTION: utility_stage(
            EJECTION, names[EJECTION], {**plain(experiment.ejection), **of_clips}, "", {}, assess, **of_clips
        ),
    }
    stages += [
        *(tasks[name] for name in experiment.assess.tasks),
        *experts.utility(experiment),
        Stage(
            name="attack",
            do="attack",
            settings={
                "name": "disclosure",
                "config": plain(experiment.disclosure),
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


def films(experiment: Experiment, generator: str) -> bool:
    """Say whether the generator draws clips; raises `ValueError` where the rest of the experiment does not fit that."""
    from synthesis.generators import CLIP_GENERATORS

    moves = generator in list(CLIP_GENERATORS)
    if EJECTION in experiment.assess.tasks and not moves:
        raise ValueError(f"assess.tasks has {EJECTION!r}, but generator={generator} draws nothing that moves")
    if moves and experiment.classes.of != "view":
        raise ValueError(f"generator={generator} films hearts in views, but classes.of={experiment.classes.of!r}")
    return moves


def _begun_alike(experiment: Experiment, views: Mapping[str, Any]) -> dict[str, Any]:
    """Return the task of recognition, whose every arm begins as the classifier does that sites train in common."""
    config = plain(experiment.recognition)
    return {**config, "prior": views["prior"]} if "prior" in config else config


def _uses_prior(experiment: Experiment) -> bool:
    return bool(getattr(experiment.generator, "prior", False))


def _also(experiment: Experiment, generator: str, *, moves: bool) -> list[str]:
    """Return the public priors that have a record of their own, beside the common one."""
    from synthesis import priors

    if not _uses_prior(experiment):
        return []
    return (
        [generator] if moves else [p for p in getattr(experiment.generator, "stands_on", ()) if p not in priors.NAMES]
    )


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
        **step(experiment.aggregation),
        **minds(experiment.assess),
    }
    return Stage(name=REFERENCE, do="train", settings=settings)
