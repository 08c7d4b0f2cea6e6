"""What the ε of a release covers, step by step; a step that is not listed here blocks the FORMAL lane.

Differential privacy is lost at the one step nobody thought of: a filter, a metric, a checkpoint. So every step that a
campaign may take has a row, `formal` says which of the steps taken forbid the claim, `uncovered` which numbers stand
beside the release without being covered, and `docs/epsilon-coverage.md` is `page()` word for word.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType


class Reads(StrEnum):
    """Whose records a step opens."""

    NOBODY = "nobody's"
    OWN = "each subject's own, alone"
    MEMBERS = "members'"
    OTHERS = "other subjects'"


class Cost(StrEnum):
    """How a step stands to the ε of the release."""

    FREE = "free"
    CHARGED = "in ε"
    NOT_DP = "not DP"
    BLOCKS = "blocks FORMAL"


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One step of a campaign.

    Attributes:
        what: the step, in words.
        reads: whose records it opens.
        cost: how it stands to the ε of the release.
        rule: the condition under which that is so.
    """

    what: str
    reads: Reads
    cost: Cost
    rule: str


_ROWS: dict[str, tuple[str, Reads, Cost, str]] = {
    "cohort": ("cohort definition, inclusion by own record", Reads.OWN, Cost.FREE, "fixed before the run"),
    "split": ("split into members, calibration and test", Reads.OWN, Cost.FREE, "keyed hash of the subject alone"),
    "deduplication.within": ("removing copies inside one subject", Reads.OWN, Cost.FREE, "never across subjects"),
    "deduplication.across": (
        "removing training subjects who resemble each other", Reads.MEMBERS, Cost.BLOCKS,
        "one subject's presence would decide another's",
    ),
    "normalisation.constant": ("pixel scaling, crop masks", Reads.OWN, Cost.FREE, "constants, or per image"),
    "normalisation.cohort": ("pixel statistics of a cohort", Reads.MEMBERS, Cost.BLOCKS, "use constants"),
    "prior.public": ("autoencoder and generator trained on the phantom", Reads.NOBODY, Cost.FREE, "public simulator"),
    "autoencoder.private": ("autoencoder trained on patients", Reads.MEMBERS, Cost.BLOCKS, "use the public prior"),
    "train.views": ("view classifier, noisy gradient steps", Reads.MEMBERS, Cost.CHARGED, "ledger, before the first"),
    "train.generator": ("generator, noisy gradient steps", Reads.MEMBERS, Cost.CHARGED, "ledger, before the first"),
    "tutor.public": (
        "first weights of experts, of the heads between them, and neural means", Reads.NOBODY, Cost.FREE,
        "public simulator",
    ),
    "train.expert": (
        "a site's own expert, noisy gradient steps", Reads.MEMBERS, Cost.CHARGED,
        "ledger of that site alone, before the first; frozen afterwards",
    ),
    "train.fusion": (
        "heads between frozen experts, noisy gradient steps", Reads.MEMBERS, Cost.CHARGED,
        "ledger, before the first; what experts see in a picture stays at its site",
    ),
    "expert.older": (
        "an expert of an earlier campaign", Reads.NOBODY, Cost.FREE, "charged then, by its site; bytes by digest",
    ),
    "train.exact": ("a generator or classifier of the release without noise", Reads.MEMBERS, Cost.BLOCKS, "add noise"),
    "aggregate.public": ("joining the changes of sites", Reads.NOBODY, Cost.FREE, "noised arrays alone, equal weight"),
    "aggregate.reported": (
        "example counts, losses, norms or clip rates sent by sites", Reads.MEMBERS, Cost.BLOCKS,
        "stripped at the site by allow-list",
    ),
    "checkpoint.last": ("the model that is sampled from", Reads.NOBODY, Cost.FREE, "last one; steps fixed beforehand"),
    "checkpoint.chosen": (
        "early stop, best checkpoint or best seed on real studies", Reads.MEMBERS, Cost.BLOCKS, "fix the steps",
    ),
    "hyperparameters.public": ("hyper-parameters", Reads.NOBODY, Cost.FREE, "found in public, as declared"),
    "hyperparameters.private": ("hyper-parameter search on patients", Reads.MEMBERS, Cost.BLOCKS, "search in public"),
    "labels.public": ("views, phases and ejection fractions asked for", Reads.NOBODY, Cost.FREE, "public prior"),
    "labels.private": ("label frequencies of a cohort", Reads.MEMBERS, Cost.BLOCKS, "use the public prior"),
    "conditions.public": ("masks to condition on", Reads.NOBODY, Cost.FREE, "drawn from the phantom's shape model"),
    "conditions.patients": ("masks or frames of patients to condition on", Reads.MEMBERS, Cost.BLOCKS, "draw shapes"),
    "clips": ("frames of one beat gathered from each clip", Reads.OWN, Cost.FREE, "each clip by itself"),
    "conditions.clips": (
        "ejection fraction, heart rate, motion and shapes of a beat asked for", Reads.NOBODY, Cost.FREE,
        "drawn from the phantom's shape model; evenly spread, never counted among patients",
    ),
    "sampling.clips": (
        "sampling and decoding of clips, and the stills taken from them", Reads.NOBODY, Cost.FREE,
        "post-processing; recorded seed; the first frame is never a patient's",
    ),
    "shapes.moments": (
        "where members' hearts lie in the picture: noised moments of their masks", Reads.MEMBERS, Cost.CHARGED,
        "ledger, before the one sum; whether a record is whole hangs on that record alone",
    ),
    "conditions.moments": (
        "masks to condition on, of public hearts drawn again", Reads.NOBODY, Cost.FREE, "post-processing",
    ),
    "sampling": ("sampling and decoding", Reads.NOBODY, Cost.FREE, "post-processing; recorded seed"),
    "screening.self_similarity": (
        "dropping candidates that resemble each other", Reads.NOBODY, Cost.FREE, "post-processing; public threshold",
    ),
    "screening.public_reference": (
        "dropping candidates by a public model or public images", Reads.NOBODY, Cost.FREE, "post-processing",
    ),
    "screening.view": (
        "dropping candidates whose view is not recognised", Reads.NOBODY, Cost.FREE,
        "post-processing: the classifier is public or was trained under the ledger",
    ),
    "screening.apart": (
        "thinning out candidates that resemble each other before members vote", Reads.NOBODY, Cost.FREE,
        "post-processing; public threshold",
    ),
    "screening.committed": (
        "digests of generator, recipe and rule", Reads.NOBODY, Cost.FREE, "before anything is drawn; sites keep them",
    ),
    "screening.again": (
        "candidates drawn again by sites, and refused where they are other pictures", Reads.NOBODY, Cost.FREE,
        "which ones hangs on a secret of the site, not on its patients",
    ),
    "screening.tau.public": ("similarity at which a member votes", Reads.NOBODY, Cost.FREE, "found in public"),
    "screening.votes": (
        "dropping candidates by the votes of members", Reads.MEMBERS, Cost.CHARGED,
        "ledger, before the one count; one vote a member, discrete Laplace noise, one bit a candidate, once",
    ),
    "screening.gate": (
        "count of subjects whom any candidate resembles", Reads.MEMBERS, Cost.CHARGED,
        "ledger, before the one count; discrete Laplace noise; a control's count is charged in parallel",
    ),
    "screening.refused": (
        "share of candidates refused, by view and band of ejection fraction", Reads.NOBODY, Cost.FREE,
        "post-processing of the verdicts",
    ),
    "screening.reidentification": (
        "dropping candidates close to a patient (exact filter, τ from calibration subjects)", Reads.MEMBERS,
        Cost.BLOCKS, "EMPIRICAL lane: one bit a candidate, once; acceptance in steps of 5 %, thinned by a lot",
    ),
    "embedding.public": ("embedding to compare images in", Reads.NOBODY, Cost.FREE, "public weights, each image alone"),
    "embedding.private": ("an embedding trained on patients", Reads.MEMBERS, Cost.BLOCKS, "stays at its site"),
    "attack.disclosure": (
        "disclosure counts of members and controls, and of planted copies", Reads.MEMBERS, Cost.CHARGED,
        "discrete Laplace noise; a control's count is charged in parallel",
    ),
    "attack.exact": ("exact counts of an attack on members", Reads.MEMBERS, Cost.BLOCKS, "EMPIRICAL lane"),
    "audit.layer": ("audit by canary coordinates", Reads.NOBODY, Cost.FREE, "depends on coins and noise only"),
    "scores.test": (
        "scores on test subjects of models trained on the release or the phantom", Reads.OTHERS, Cost.NOT_DP,
        "at least 10 subjects a cell, rounded; nobody trained on them",
    ),
    "reference.local": (
        "scores of a site's own models, trained on its members, alone or with the release, without noise",
        Reads.MEMBERS, Cost.NOT_DP,
        "the models never leave the site; scores on at least 10 test subjects, or on the release, rounded",
    ),
    "reference.federated": (
        "scores of a model trained by all sites without noise", Reads.MEMBERS, Cost.NOT_DP,
        "simulation or an explicit agreement of the sites: the server sees exact weights; only rounded scores go on",
    ),
    "fidelity.public": ("distances to a public reference set", Reads.NOBODY, Cost.FREE, "post-processing"),
    "fidelity.real": ("FID, KID, precision or recall against patients", Reads.MEMBERS, Cost.BLOCKS, "inside a site"),
    "statistics.declared": (
        "numbers of subjects", Reads.MEMBERS, Cost.NOT_DP, "rounded and declared public before the run",
    ),
    "statistics.exact": ("any other description of a cohort", Reads.MEMBERS, Cost.BLOCKS, "omit it"),
    "report.phantom": ("pictures beside the synthetic ones in the report", Reads.NOBODY, Cost.FREE, "phantoms"),
    "report.patients": ("pictures of patients in the report", Reads.MEMBERS, Cost.BLOCKS, "phantoms instead"),
    "failures": (
        "failures, run time, drop-out", Reads.MEMBERS, Cost.NOT_DP,
        "refusals are codes; non-finite gradients count as zero; rounds wait a fixed time",
    ),
}  # fmt: skip

STEPS: Mapping[str, Step] = MappingProxyType(
    {name: Step(what=what, reads=reads, cost=cost, rule=rule) for name, (what, reads, cost, rule) in _ROWS.items()}
)


def formal(steps: Iterable[str]) -> list[str]:
    """Return why these steps forbid a claim of ε for the release, one sentence each; empty where nothing does."""
    taken = sorted(set(steps))
    if not taken:
        return ["no steps were named: a release comes from somewhere"]
    problems = [f"step {name!r} is not in the coverage table" for name in taken if name not in STEPS]
    blocking = [name for name in taken if name in STEPS and STEPS[name].cost is Cost.BLOCKS]
    return problems + [f"{name}: {STEPS[name].what} is outside any ε ({STEPS[name].rule})" for name in blocking]


def uncovered(steps: Iterable[str]) -> list[str]:
    """Return what these steps put beside the release that its ε does not cover, in words.

    Raises:
        ValueError: if a step is not in the table.
    """
    taken = sorted(set(steps))
    if unknown := [name for name in taken if name not in STEPS]:
        raise ValueError(f"steps {unknown} are not in the coverage table")
    return [STEPS[name].what for name in taken if STEPS[name].cost in (Cost.NOT_DP, Cost.BLOCKS)]


def page() -> str:
    """Return the table as the Markdown page `docs/epsilon-coverage.md`."""
    rows = [f"| `{name}` | {s.what} | {s.reads} | {s.cost} | {s.rule} |" for name, s in STEPS.items()]
    return "\n".join((_HEAD, *rows, _TAIL))


_HEAD = """# What ε covers

Made from `privacy/coverage.py` by `privacy.coverage.page()`; a test holds the two equal.

The ε of a release in the FORMAL lane is the joint composition of every step marked *in ε*, for adding or removing one
subject with all studies at one site. *Free* steps read nothing private, or only what ε already covers. *Not DP* marks
numbers that stand beside the release and that ε does not cover: the certificate lists them. A step that *blocks
FORMAL*, or that is not listed here, forbids the claim: the release can then be EMPIRICAL at best, without any ε of its
own.

| step | what | opens records | cost | rule |
| --- | --- | --- | --- | --- |"""

_TAIL = """
A subject who withdraws consent after a release stays covered by its bound and by nothing more: what was released cannot
be recalled, only the next training can leave the subject out. Charges are never refunded.
"""
