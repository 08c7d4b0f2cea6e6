"""The typed root of every experiment: what may be chosen, in which units and bounds.

Fields are public record (after jax_privacy): they travel, are digested and are signed. What concerns patients is never
a field. Parts (`cohort`, `generator`, …) are dataclasses of their own registries.
"""

import math
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from conf.aggregation import Aggregation, fewest_sites
from conf.bounds import at_least, inside
from conf.experts import Experts
from conf.screening import Screening

MISSING: Any = "???"  # a value that somebody must give: Hydra's own mark
BACKENDS = ("in-process", "simulation")
TASKS = ("segmentation", "recognition", "ejection")
OF_FRAMES = TASKS[:2]  # tasks that every release can be measured by
MINDED = ("balanced", "reweighed", "dro")
PLACES = 4  # classes that the networks of the public prior can tell apart


class Lane(StrEnum):
    """What the certificate may say (architecture §5): an ε of the release, or measurements only."""

    FORMAL = "FORMAL"
    EMPIRICAL = "EMPIRICAL"


class Origin(StrEnum):
    """Where somebody looked to choose the settings of an experiment."""

    PUBLIC = "PUBLIC"
    PATIENTS = "PATIENTS"


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What one patient may cost a site over the whole campaign.

    Attributes:
        epsilon: bound on ε, patient-level, add or remove one, > 0.
        delta: the exceptional probability, in (0, 1).
        views_share: part of ε for the view classifier, in [0, 1); the generator gets what is left.
        shapes_share: part of ε, in [0, 1), for noised moments of where members' hearts lie in the picture, by which
            public hearts are then drawn; 0 asks no site.
    """

    epsilon: float = 8.0
    delta: float = 1e-5
    views_share: float = 0.1
    shapes_share: float = 0.0

    def __post_init__(self) -> None:
        inside("epsilon", self.epsilon, 0, math.inf)
        inside("delta", self.delta, 0, 1)
        for name in ("views_share", "shapes_share"):
            if not 0 <= getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 0 and below 1")
        if self.views_share + self.shapes_share >= 1:
            raise ValueError(f"views_share and shapes_share are {self.views_share + self.shapes_share:g}, not below 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Classes:
    """What frames are told apart by: what a classifier names, a generator is asked for and a release is labelled with.

    Attributes:
        of: `view`, or a label of studies that is a word, such as `diagnosis`.
        names: the classes in the order of the networks' places, at most `PLACES`; what is none of them is unknown.
        released: those of `names` that a release has; for views, each at end diastole and end systole.
        frames: of a clip that says neither end diastole nor end systole, so many frames, evenly spaced, are used.
    """

    of: str = "view"
    names: tuple[str, ...] = ("A2C", "A4C", "PLAX", "PSAX")
    released: tuple[str, ...] = ("A2C", "A4C")
    frames: int = 0

    def __post_init__(self) -> None:
        if not 1 <= len(self.names) <= PLACES or len(set(self.names)) != len(self.names) or not all(self.names):
            raise ValueError(f"names={list(self.names)} must be 1 to {PLACES} different words")
        strange = sorted(set(self.released) - set(self.names))
        if strange or not self.released:
            raise ValueError(f"released={list(self.released)} must be some of names={list(self.names)}")
        if self.of == "view" and len(self.names) != PLACES:
            raise ValueError(f"names={list(self.names)} of views must be {PLACES}: the places of the public prior")
        at_least("frames", self.frames, 0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Sites:
    """The hospitals that are simulated on one machine.

    Attributes:
        names: one name per site.
        rule: name of the rule of `cohorts.partition` that sends a subject of a file cohort to a site; empty for
            phantoms, where a site is a style of scanner.
        column: or a column of the cohort, each of whose values is a site.
        partition: or a file that `pericard cohort divide` wrote.
        cohorts: what each site reads, where they differ: by name of the site, its `reader` and the reader's settings.
        same_subject: raw subject ids that are one person and meet one ledger, joined by "+": "patient1+patient7".
        quorum: fewest sites that make a round.
    """

    names: tuple[str, ...] = ("site-a", "site-b", "site-c")
    rule: str = ""
    column: str = ""
    partition: str = ""
    cohorts: dict[str, Any] = field(default_factory=dict)
    same_subject: tuple[str, ...] = ()
    quorum: int = 3

    def __post_init__(self) -> None:
        if len(set(self.names)) != len(self.names) or not all(self.names):
            raise ValueError(f"names={list(self.names)} must be different and not empty")
        ways = [name for name in ("rule", "column", "partition", "cohorts") if getattr(self, name)]
        if len(ways) > 1:
            raise ValueError(f"{ways[0]} and {ways[1]} both say who goes where; leave one out")
        if self.cohorts and set(self.cohorts) != set(self.names):
            raise ValueError(f"cohorts are of {sorted(self.cohorts)}, but names={list(self.names)}")
        if not 1 <= self.quorum <= len(self.names):
            raise ValueError(f"quorum={self.quorum} must be between 1 and the {len(self.names)} sites")


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """How one model is trained privately: few exchanges, many local steps in each.

    Attributes:
        exchanges: times that arrays travel to the sites and back.
        steps: noised steps at each site in one exchange.
        sampling_rate: probability with which a subject is drawn in a step, in (0, 1].
        clip_norm: bound on the norm of one subject's gradient.
        draws: frames of a drawn subject, whose mean gradient is its contribution.
        learning_rate: step size of the noised steps.
        weigh_by: column of the cohort whose groups weigh differently, "" for none, and
        weights: group → weight of its subjects in 0.2..5, declared here and never counted among patients; others 1.
    """

    exchanges: int = 4
    steps: int = 25
    sampling_rate: float = 0.25
    clip_norm: float = 1.0
    draws: int = 4
    learning_rate: float = 1e-3
    weigh_by: str = ""
    weights: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if bool(self.weigh_by) != bool(self.weights):
            raise ValueError(f"weigh_by={self.weigh_by!r} and weights={self.weights} need each other")
        for word, weight in self.weights.items():
            if not isinstance(weight, int | float) or not 0.2 <= weight <= 5:
                raise ValueError(f"weights: {weight} of {word!r} must be in 0.2..5")
        for name in ("exchanges", "steps", "draws"):
            at_least(name, getattr(self, name), 1)
        inside("sampling_rate", self.sampling_rate, 0, 1, closed=True)
        for name in ("clip_norm", "learning_rate"):
            inside(name, getattr(self, name), 0, math.inf)


@dataclass(frozen=True, slots=True, kw_only=True)
class Release:
    """What leaves the federation.

    Attributes:
        subjects: synthetic subjects to release, each with every view at ED and ES.
        candidates: synthetic subjects to sample before screening.
        lane: FORMAL screens without patient data and states ε; EMPIRICAL screens against patients and states none.
        similarity: of two candidates at least this alike (Pearson correlation) one goes, in (0, 1].
        least_view_probability: a candidate whose view the private classifier finds less likely goes, in [0, 1).
        frames: of hearts that move, frames of one beat: of a released clip, and at most of one that sites train on.
        lvef_percent: of hearts that move, lowest and highest ejection fraction that is asked for, evenly filled.
    """

    subjects: int = 400
    candidates: int = 480
    lane: Lane = Lane.FORMAL
    similarity: float = 0.98
    least_view_probability: float = 0.1
    frames: int = 12
    lvef_percent: tuple[float, float] = (15.0, 75.0)

    def __post_init__(self) -> None:
        at_least("frames", self.frames, 4)
        low, high = self.lvef_percent
        if not 0 < low < high < 100:
            raise ValueError(f"lvef_percent={list(self.lvef_percent)} must be two ascending percentages")
        at_least("subjects", self.subjects, 1)
        at_least("candidates", self.candidates, self.subjects)
        inside("similarity", self.similarity, 0, 1, closed=True)
        if not 0 <= self.least_view_probability < 1:
            raise ValueError(f"least_view_probability={self.least_view_probability} must be at least 0 and below 1")


@dataclass(frozen=True, slots=True, kw_only=True)
class Minding:
    """Which groups the arms that are trained on real studies without privacy mind.

    Attributes:
        by: column of the cohort; "" for none.
        method: balanced draws, losses reweighed by what is rare, or Group DRO (`learning.fairness`).
        rate: of Group DRO, how fast a group with a higher loss gains weight, at least 0.
    """

    by: str = ""
    method: str = "balanced"
    rate: float = 0.01

    def __post_init__(self) -> None:
        if self.method not in MINDED:
            raise ValueError(f"method={self.method!r} must be one of {', '.join(MINDED)}")
        if not 0 <= self.rate < math.inf:
            raise ValueError(f"rate={self.rate} must be at least 0 and finite")


@dataclass(frozen=True, slots=True, kw_only=True)
class Assessment:
    """What is measured at the sites on held-out subjects.

    Attributes:
        federated: also train each task's network in common on real members, without noise: a reference for research
            on one machine, which hospitals refuse. Its weights never enter the release.
        exchanges: of that reference; each takes its share of the task's steps at every site.
        personal: of that reference, weights whose names begin so stay at their site, as a head may; "" for none.
        tasks: which of segmentation, recognition and ejection are measured; without outlines there is nothing to
            segment, and ejection is measured in hearts that move.
        groups: column of the cohort → its words or bands of numbers (`40-64`) by which scores are told apart as well,
            wherever a site's policy lists them too; where it lists any, the site is a group itself.
        minding: whom the arms that are trained on real studies mind.
        joined: tasks of frames for which each site also trains on its members and the release together, and tries the
            network of its members on the release; it takes as long as the site's own arm takes again.
    """

    federated: bool = True
    exchanges: int = 3
    personal: str = ""
    tasks: tuple[str, ...] = OF_FRAMES
    groups: dict[str, Any] = field(default_factory=dict)
    minding: Minding = field(default_factory=Minding)
    joined: tuple[str, ...] = ("recognition",)

    def __post_init__(self) -> None:
        at_least("exchanges", self.exchanges, 1)
        for column, words in self.groups.items():
            if column == "site" or isinstance(words, str) or not words:
                hint = ": sites are groups anyway" if column == "site" else ""
                raise ValueError(f"groups.{column}={words} must be a list of words of a column of the cohort{hint}")
        if self.minding.by and self.minding.by not in self.groups:
            raise ValueError(
                f"minding.by={self.minding.by} must be one of groups={sorted(self.groups)}, which say its words"
            )
        if not set(self.tasks) <= set(TASKS):
            raise ValueError(f"tasks={list(self.tasks)} must be some of {', '.join(TASKS)}")
        if not set(self.joined) <= set(OF_FRAMES):
            raise ValueError(f"joined={list(self.joined)} must be some of {', '.join(OF_FRAMES)}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Experiment:
    """Everything one campaign is told. `conf.compose` makes it; nothing deeper sees Hydra.

    Attributes:
        name: of the experiment file.
        seed: of public randomness: phantoms, sampling, evaluation. Never of noise or of who is drawn.
        size: height and width of every frame, in pixels.
        cohort, generator, views: parts, each a dataclass of its registry.
        segmentation, recognition: the two downstream tasks, and how every arm of them is trained.
        ejection: the downstream task of clips, where the generator draws hearts that move.
        disclosure: the attack.
        classes: what frames are told apart by.
        sites: who takes part.
        budget: what a patient may cost.
        train_views, train_generator: how sites train.
        train_expert, train_fusion: how a site trains its own expert, and all sites the heads between experts.
        experts: who trains an expert on words of its own; by default nobody.
        aggregation: how the coordinator joins what they changed.
        release: what leaves.
        screening: how sites judge candidates.
        assess: what is measured.
        policy: name of the rules that decide the verdict.
        backend: `in-process` or `simulation`.
        threads: of torch in each process; equal threads give equal bits.
        pictures: show real frames in the report, which then stays at the site.
        settings_from: where all these settings were found, as whoever runs it declares: with PUBLIC nobody looked at
            what patients make of them. A choice made on patients is outside any ε, so it forbids the FORMAL lane.
        about: the field that the release is meant for, in words.
        limits: what else the certificate must say against itself.
    """

    name: str = MISSING
    seed: int = 2026
    size: int = 64
    cohort: Any = MISSING
    generator: Any = MISSING
    views: Any = MISSING
    segmentation: Any = MISSING
    recognition: Any = MISSING
    ejection: Any = MISSING
    disclosure: Any = MISSING
    classes: Classes = field(default_factory=Classes)
    sites: Sites = field(default_factory=Sites)
    budget: Budget = field(default_factory=Budget)
    train_views: Training = field(default_factory=Training)
    train_generator: Training = field(default_factory=Training)
    train_expert: Training = field(default_factory=Training)
    train_fusion: Training = field(default_factory=Training)
    experts: Experts = field(default_factory=Experts)
    aggregation: Aggregation = field(default_factory=Aggregation)
    release: Release = field(default_factory=Release)
    screening: Screening = field(default_factory=Screening)
    assess: Assessment = field(default_factory=Assessment)
    policy: str = "default"
    backend: str = "in-process"
    threads: int = 2
    pictures: bool = False
    settings_from: Origin = Origin.PATIENTS
    about: str = "echocardiography"
    limits: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        at_least("seed", self.seed, 0)
        at_least("threads", self.threads, 1)
        if self.size < 16 or self.size % 8:
            raise ValueError(f"size={self.size} must be a multiple of 8 and at least 16")
        if self.backend not in BACKENDS:
            raise ValueError(f"backend={self.backend!r} must be one of {', '.join(BACKENDS)}")
        least = fewest_sites(self.aggregation.strategy, self.aggregation.tolerated)
        if self.sites.quorum < least:
            raise ValueError(
                f"aggregation.strategy={self.aggregation.strategy} bears {self.aggregation.tolerated} hostile of at "
                f"least {least} sites, but sites.quorum={self.sites.quorum}"
            )
        if self.aggregation.secure and (len(self.sites.names) < 3 or self.sites.quorum < 2):
            raise ValueError(
                f"aggregation.secure=true takes 3 sites and a quorum of 2, not {len(self.sites.names)} and "
                f"{self.sites.quorum}: of fewer, a sum says what each changed"
            )
        if self.aggregation.secure and self.experts.words:
            raise ValueError(
                "aggregation.secure=true: an expert is one site's own, so no sum hides it; leave out experts"
            )
        self.experts.require(self.sites, self.classes, self.budget)
        if self.budget.shapes_share and self.classes.of != "view":
            raise ValueError(
                f"budget.shapes_share={self.budget.shapes_share}: of {self.classes.of} no shapes are drawn"
            )
        if self.release.lane is not Lane.FORMAL and self.screening.votes_epsilon:
            raise ValueError(
                f"screening.votes_epsilon={self.screening.votes_epsilon} is for release.lane=FORMAL: in "
                f"{self.release.lane} the exact filter judges"
            )
        if self.release.lane is Lane.FORMAL and self.settings_from is not Origin.PUBLIC:
            raise ValueError(
                f"settings_from={self.settings_from}: no ε covers a choice of settings that was made on patients; "
                "take settings found in public, or release.lane=EMPIRICAL"
            )
