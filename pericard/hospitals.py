"""Simulated hospitals: one site folder each, made from an experiment, once."""

import base64
import dataclasses
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cohorts.deidentify import Pseudonyms

if TYPE_CHECKING:
    from client.policy import Policy
    from cohorts.partition import Partition
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
    roster = _roster(folders) if experiment.aggregation.secure else {}
    divide = _own if experiment.sites.cohorts else _phantoms if reader == "phantom" else _files
    for folder, (cohort, subjects) in zip(folders, divide(experiment, reader, folders), strict=True):
        if (folder / SITE_FILE).exists():
            continue
        if (older := experiment.experts.older.get(folder.name)) is not None:
            _same_lots(Path(older) / SITES / folder.name, folder)
        Site.create(
            folder,
            name=folder.name,
            cohort={"reader": reader, **cohort},  # a site that reads a folder of its own says by which reader
            public_subjects=max(ROUNDED, round(subjects / ROUNDED) * ROUNDED),
            policy=_policy(experiment, roster),
            threads=experiment.threads,
            classes=experiment.classes,
        )
    return folders


def _same_lots(before: Path, folder: Path) -> None:
    """Let a simulated hospital split its people as it did in an earlier campaign, whose members its expert has seen.

    Its account begins anew, as its people are simulated anew; a hospital that is none keeps its folder and its account.
    """
    from client.site import KEYS
    from learning import durable

    (folder / "secrets").mkdir(parents=True, exist_ok=True, mode=0o700)
    for key in KEYS:
        if (source := before / "secrets" / key).is_file():
            durable.write(folder / "secrets" / key, source.read_bytes())


def _own(experiment: "Experiment", reader: str, folders: list[Path]) -> list[tuple[dict[str, Any], int]]:
    """Let every site read a folder of its own, by its own reader."""
    del reader
    found = []
    for name, config in own_cohorts(experiment).items():
        subjects = len(config.read(pseudonyms=Pseudonyms(secrets.token_bytes(32))).subjects)
        settings = {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(config).items()}
        found.append(({"reader": experiment.sites.cohorts[name]["reader"], **settings}, subjects))
    return found


def own_cohorts(experiment: "Experiment") -> dict[str, Any]:
    """Return the reader of each site that has a folder of its own, in the order of `sites.names`.

    Raises:
        UsageError: a site names no reader, an unknown one, or a setting that its reader does not have.
    """
    from cohorts.readers import READERS
    from conf.compose import UsageError, part_of

    found = {}
    for name in experiment.sites.names if experiment.sites.cohorts else ():
        told = dict(experiment.sites.cohorts[name])
        if "reader" not in told:
            raise UsageError(f"sites.cohorts.{name} must say its reader: {', '.join(READERS)}")
        if not told.get("root"):
            raise UsageError(f"sites.cohorts.{name}.root is missing: add sites.cohorts.{name}.root=FOLDER")
        reader = str(told.pop("reader"))
        found[name] = part_of(READERS, reader, {**told, "root": str(Path(told["root"]).resolve())})
    return found


def _phantoms(experiment: "Experiment", reader: str, folders: list[Path]) -> list[tuple[dict[str, Any], int]]:
    del reader
    cohort = dataclasses.asdict(experiment.cohort)
    found = []
    for k, folder in enumerate(folders):
        own = {**cohort, "site": folder.name, "seed": cohort["seed"] + k, "size": experiment.size}
        if names := experiment.experts.words.get(folder.name):  # what a site has no word for, it does not film
            own["views"] = list(names)
        found.append((own, cohort["subjects"]))
    return found


def _files(experiment: "Experiment", reader: str, folders: list[Path]) -> list[tuple[dict[str, Any], int]]:
    if not hasattr(experiment.cohort, "index"):
        raise ValueError(f"cohort={reader} cannot be divided into simulated sites")
    same = [group.split("+") for group in experiment.sites.same_subject]
    divided, kept = _divided(experiment, same)
    cohort = dataclasses.replace(
        experiment.cohort,
        root=str(Path(experiment.cohort.root).resolve()),
        same_subject=tuple(same),
        **({"keep": kept} if hasattr(experiment.cohort, "keep") else {}),
    )
    if missing := sorted({f.name for f in folders} ^ set(divided.sites)):
        raise ValueError(f"sites.names and the sites that the cohort divides into differ in: {', '.join(missing)}")
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


def _divided(experiment: "Experiment", same: list[list[str]]) -> tuple["Partition", tuple[str, ...]]:
    """Return who goes where, by a partition file, a column or a rule, and the columns that the cohort must keep."""
    from cohorts import partition

    told = experiment.sites
    if told.partition:
        return partition.read(Path(told.partition)), tuple(getattr(experiment.cohort, "keep", ()))
    if not told.column and told.rule not in partition.RULES:
        raise ValueError(f"sites.rule={told.rule!r} is unknown; known: {', '.join(partition.RULES)}")
    wanted = (told.column,) if told.column else partition.columns_of(partition.RULES[told.rule])
    kept = tuple(dict.fromkeys((*getattr(experiment.cohort, "keep", ()), *wanted)))
    cohort = (
        dataclasses.replace(experiment.cohort, keep=kept) if hasattr(experiment.cohort, "keep") else experiment.cohort
    )
    columns = cohort.index().raw_columns()
    if told.column:
        return partition.by_column(columns, told.column, same_subject=same), kept
    return partition.by_columns(columns, partition.RULES[told.rule], same_subject=same), kept


def _roster(folders: list[Path]) -> dict[str, str]:
    """Make the signing keys of all sites, and return name → public key: what hospitals compare by telephone."""
    from client.site import SIGNING
    from evaluation.trust import SigningKey

    found = {}
    for folder in folders:
        path = folder / "secrets" / SIGNING
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not path.exists():
            SigningKey.create().write(path)
        found[folder.name] = base64.b64encode(SigningKey.read(path).public).decode()
    return found


def _policy(experiment: "Experiment", roster: Mapping[str, str]) -> "Policy":
    """Return what a simulated hospital allows: exactly this experiment, and the reference arm if it asks for one."""
    from client.policy import INSTALLED, Policy, SecureAggregation
    from evaluation.tasks import CLIP_TASKS, TASKS
    from learning.learners import LEARNERS
    from privacy.attacks import ATTACKS
    from synthesis import likeness
    from synthesis.generators import CLIP_GENERATORS, GENERATORS

    fused = (experiment.train_expert, experiment.train_fusion) if experiment.experts.words else ()
    plans = (experiment.train_views, experiment.train_generator, *fused)
    told = {p.weigh_by: tuple(p.weights) for p in plans if p.weigh_by} | dict(experiment.assess.groups)
    shapes = experiment.budget.shapes_share > 0
    steps = max(*(p.exchanges * p.steps for p in plans), experiment.segmentation.steps)
    return Policy(
        epsilon_cap=experiment.budget.epsilon,
        delta_cap=experiment.budget.delta,
        min_noise_multiplier=0.3,
        max_sampling_rate=1.0 if shapes else max(p.sampling_rate for p in plans),
        max_clip_norm=max([p.clip_norm for p in plans] + [likeness.plan(1.0).clip_norm] * shapes),
        max_steps=steps,
        learners=(LEARNERS.name_of(experiment.views), "segmenter", *(("expert", "fused_experts") if fused else ())),
        generators=((GENERATORS | CLIP_GENERATORS).name_of(experiment.generator),),
        tasks=(
            *(TASKS.name_of(task) for task in (experiment.segmentation, experiment.recognition)),
            *((CLIP_TASKS.name_of(experiment.ejection),) if "ejection" in experiment.assess.tasks else ()),
            *(("expert_fusion",) if fused else ()),
        ),
        attacks=(ATTACKS.name_of(experiment.disclosure),),
        allow_scores=True,
        min_cell=10,
        allow_non_dp_reference=experiment.assess.federated,
        allow_empirical=experiment.release.lane == "EMPIRICAL",
        seconds_per_message=3600,
        code=(INSTALLED,),
        groups=told,
        allow_shapes=shapes,
        secure_aggregation=SecureAggregation(roster=roster, required=bool(roster)),
    )
