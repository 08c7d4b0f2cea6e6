"""Simulated hospitals: one site folder each, made from an experiment, once."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from client.policy import Policy
    from conf.schema import Experiment

SITES = "sites"
ROUNDED = 10  # the declared size of a site is a multiple of this
PARTITION = "partition.json"


def make(experiment: "Experiment", reader: str, out: Path) -> list[Path]:
    """Make the site folders of `experiment` under `out`, or return those that stand there from a killed run.

    A phantom cohort gives every site the scanner of its own name and people of its own seed; a file cohort is divided
    by the rule of the experiment, and each site gets the part of the partition that is its own.

    Raises:
        ValueError: the cohort cannot be read or divided; names the file, the value and the bound.
    """
    from client.site import SITE_FILE, Site

    folders = [out / SITES / name for name in experiment.sites.names]
    if all((folder / SITE_FILE).exists() for folder in folders):
        return folders
    divide = _phantoms if reader == "phantom" else _files
    for folder, (cohort, subjects) in zip(folders, divide(experiment, reader, folders), strict=True):
        if (folder / SITE_FILE).exists():
            continue
        Site.create(
            folder,
            name=folder.name,
            cohort={"reader": reader, **cohort},
            public_subjects=max(ROUNDED, round(subjects / ROUNDED) * ROUNDED),
            policy=_policy(experiment),
            threads=experiment.threads,
        )
    return folders


def _phantoms(experiment: "Experiment", reader: str, folders: list[Path]) -> list[tuple[dict[str, Any], int]]:
    del reader
    cohort = dataclasses.asdict(experiment.cohort)
    return [
        ({**cohort, "site": folder.name, "seed": cohort["seed"] + k, "size": experiment.size}, cohort["subjects"])
        for k, folder in enumerate(folders)
    ]


def _files(experiment: "Experiment", reader: str, folders: list[Path]) -> list[tuple[dict[str, Any], int]]:
    from cohorts import partition

    if not hasattr(experiment.cohort, "index"):
        raise ValueError(f"cohort={reader} cannot be divided into simulated sites")
    if experiment.sites.rule not in partition.RULES:
        raise ValueError(f"sites.rule={experiment.sites.rule!r} is unknown; known: {', '.join(partition.RULES)}")
    rules = partition.RULES[experiment.sites.rule]
    same = [group.split("+") for group in experiment.sites.same_subject]
    kept = tuple(dict.fromkeys((*experiment.cohort.keep, *partition.columns_of(rules))))
    cohort = dataclasses.replace(
        experiment.cohort, root=str(Path(experiment.cohort.root).resolve()), keep=kept, same_subject=tuple(same)
    )
    divided = partition.by_columns(cohort.index().raw_columns(), rules, same_subject=same)
    if missing := sorted({f.name for f in folders} ^ set(divided.sites)):
        raise ValueError(f"sites.names and the sites of rule {experiment.sites.rule!r} differ in: {', '.join(missing)}")
    found = []
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = (folder / PARTITION).resolve()
        divided.only(folder.name).write(path)
        own: Mapping[str, Any] = dataclasses.asdict(
            dataclasses.replace(cohort, subjects_file=str(path), site=folder.name)
        )
        found.append(
            ({k: list(v) if isinstance(v, tuple) else v for k, v in own.items()}, len(divided.subjects(folder.name)))
        )
    return found


def _policy(experiment: "Experiment") -> "Policy":
    """Return what a simulated hospital allows: exactly this experiment, and the reference arm if it asks for one."""
    from client.policy import INSTALLED, Policy

    plans = (experiment.train_views, experiment.train_generator)
    steps = max(*(p.exchanges * p.steps for p in plans), experiment.segmentation.steps)
    return Policy(
        epsilon_cap=experiment.budget.epsilon,
        delta_cap=experiment.budget.delta,
        min_noise_multiplier=0.3,
        max_sampling_rate=max(p.sampling_rate for p in plans),
        max_clip_norm=max(p.clip_norm for p in plans),
        max_steps=steps,
        learners=("view_classifier", "segmenter"),
        generators=("latent_flow",),
        tasks=("ventricle_segmentation", "view_recognition"),
        attacks=("disclosure",),
        allow_scores=True,
        min_cell=10,
        allow_non_dp_reference=experiment.assess.federated,
        allow_empirical=experiment.release.lane == "EMPIRICAL",
        seconds_per_message=3600,
        code=(INSTALLED,),
    )
