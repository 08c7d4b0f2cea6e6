"""The part of a campaign that concerns experts: nothing at all where no site has words of its own.

One network of all classes is trained on public phantoms. Site after site starts its expert from it, on the words that
it has, charged to its own patients alone; then all sites train the heads between the experts. So a patient pays for one
expert and for the heads, whatever the number of sites, and both stand in the joint budget of the campaign.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from conf.aggregation import Aggregation
from conf.schema import Experiment
from learning.learners.fused_experts import shared_words
from privacy.mechanism import DpPlan, calibrate
from server.campaign import Stage
from server.trainings import dp_plan, part, train_stage, utility_stage

TUTOR, ASSEMBLY, FUSION, UTILITY = "tutor", "assembly", "fusion", "experts"
TRAIN, FUSE = "train.expert", "train.fusion"  # purposes in the ledger
START = "start.safetensors"


def stage_of(site: str) -> str:
    """Return the name of the stage in which the expert of `site` comes to be."""
    return f"expert-{site}"


def plans(experiment: Experiment) -> tuple[DpPlan, ...]:
    """Return the plan of one expert, the same at every site that trains one, and that of the heads."""
    told, budget = experiment.experts, experiment.budget
    if not told.words:
        return ()
    found = [(TRAIN, experiment.train_expert, told.train_share)] * bool(_newcomers(experiment)) + [
        (FUSE, experiment.train_fusion, told.fuse_share)
    ]
    return tuple(
        calibrate(dp_plan(purpose, training), epsilon=budget.epsilon * share, delta=budget.delta)
        for purpose, training, share in found
    )


def charged(experiment: Experiment) -> dict[str, Any]:
    """Return which sites are charged for an expert: those that train one; the settings of `reserve`."""
    return {"of": {TRAIN: list(_newcomers(experiment))}} if experiment.experts.words else {}


def stages(experiment: Experiment, charged: Sequence[DpPlan]) -> list[Stage]:
    """Return the stages that train experts, one site after the other, and then the heads between them."""
    told, by_purpose = experiment.experts, {plan.purpose: plan for plan in charged}
    if not told.words:
        return []
    found = [_tutor(experiment)] if _newcomers(experiment) else []
    for site in _joined(experiment):
        before = [stage.name for stage in found if stage.name != TUTOR]
        shared = {
            "site": site,
            "words": _words(experiment, site),
            "config": _expert(experiment, site),
            "before": before,
        }
        if site in told.older:
            folder = str(Path(told.older[site]).resolve())  # a simulation runs in a folder of its own
            found.append(Stage(name=stage_of(site), do="takeover", settings={**shared, "folder": folder}))
            continue
        found.append(
            train_stage(
                stage_of(site),
                part("learner", "expert", shared.pop("config"), prior=""),
                by_purpose[TRAIN],
                experiment.train_expert,
                Aggregation(),  # of one site there is nothing to aggregate
                public=True,
                do="arrive",
                only=[site],
                start=[TUTOR, f"{site}.safetensors"],
                people=list(told.words[site]),
                reference=told.subjects,
                **shared,
            )
        )
    fused = part("learner", "fused_experts", _fused(experiment), prior="")
    settings = {
        **fused,
        "experts": [stage_of(site) for site in _joined(experiment)],
        "views": _named(experiment),
        "subjects": told.subjects,
        "steps": told.head_steps,
        "batch_size": told.batch_size,
        "learning_rate": told.head_rate,
    }
    return [
        *found,
        Stage(name=ASSEMBLY, do="assembly", settings=settings),
        train_stage(
            FUSION, fused, by_purpose[FUSE], experiment.train_fusion, experiment.aggregation,
            public=True, start=[ASSEMBLY, START], people=_named(experiment),
        ),
    ]  # fmt: skip


def trainings(experiment: Experiment, charged: Sequence[DpPlan]) -> dict[str, Any]:
    """Return the private trainings that the audit looks at: stage → plan as JSON."""
    told, by_purpose = experiment.experts, {plan.purpose: plan.to_json() for plan in charged}
    if not told.words:
        return {}
    return {**{stage_of(site): by_purpose[TRAIN] for site in _newcomers(experiment)}, FUSION: by_purpose[FUSE]}


def utility(experiment: Experiment) -> list[Stage]:
    """Return the stage that holds heads trained by federation against heads trained on what is public."""
    told = experiment.experts
    if not told.words:
        return []
    fused = _fused(experiment)
    config = {**fused, "steps": told.head_steps, "batch_size": told.batch_size, "learning_rate": told.head_rate}
    trained = part("learner", "fused_experts", fused, prior="")
    return [
        utility_stage(UTILITY, "expert_fusion", config, FUSION, trained, experiment.assess, start=[ASSEMBLY, START])
    ]


def _tutor(experiment: Experiment) -> Stage:
    told = experiment.experts
    settings = {
        "config": {**_shape(experiment), "classes": len(_named(experiment))},
        "views": _named(experiment),
        "words": {site: _words(experiment, site) for site in _newcomers(experiment)},
        "subjects": told.subjects,
        "steps": told.steps,
        "batch_size": told.batch_size,
        "learning_rate": told.learning_rate,
    }
    return Stage(name=TUTOR, do="tutor", settings=settings)


def _expert(experiment: Experiment, site: str) -> dict[str, Any]:
    names = experiment.experts.words[site]
    places = [experiment.classes.names.index(name) for name in names]
    return {**_shape(experiment), "classes": len(names), "places": places, "tune": experiment.experts.tune}


def _fused(experiment: Experiment) -> dict[str, Any]:
    told = experiment.experts
    maps = shared_words(experiment.classes.names, [(site, told.words[site]) for site in _joined(experiment)])
    return {**_shape(experiment), "maps": maps, "attention": told.attention, "hidden": list(told.hidden)}


def _shape(experiment: Experiment) -> dict[str, int]:
    told = asdict(experiment.experts)
    return {name: told[name] for name in ("width", "stages", "blocks")}


def _words(experiment: Experiment, site: str) -> str:
    """Return the label map of one site, as it travels with its expert."""
    return shared_words(experiment.classes.names, [(site, experiment.experts.words[site])])


def _named(experiment: Experiment) -> list[str]:
    """Return the classes that anybody has a word for, in their order."""
    told = {name for names in experiment.experts.words.values() for name in names}
    return [name for name in experiment.classes.names if name in told]


def _joined(experiment: Experiment) -> list[str]:
    """Return the sites with experts in the order in which they join."""
    return [site for site in experiment.sites.names if site in experiment.experts.words]


def _newcomers(experiment: Experiment) -> list[str]:
    return [site for site in _joined(experiment) if site not in experiment.experts.older]
