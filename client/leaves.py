"""What each stage of a campaign makes leave a site: which answers, how often, how many bytes at most.

The sizes of arrays are exact, for they are counted on an answer of the same shapes; those of numbers are bounds. A
stage that asks sites anything must be told of here, or no site approves a campaign that has it.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from learning import messages
from learning.masked import MIN_SITES, OFFER_BYTES, SEALED_BYTES
from learning.messages import REPLIES, Masked, Measured, Parts, Trained
from privacy import shamir

COVERED, NOISED, ROUNDED, PUBLIC, BARE = (
    "differentially private",
    "noised, charged",
    "rounded means of groups of at least min_cell test patients",
    "says nothing about patients",
    "NOT private",
)
UNSEEN = "the coordinator sees sums of sites alone"
GREETING = "greeting"  # stands for every time that a coordinator asks who is there
SMALL_BYTES = 512  # of an answer of a few numbers, or of a signature
CELL_BYTES = 88  # of one mean with its error and its number, under its name
METRICS = 24  # most of a task; segmentation has 16
ARMS = 4  # release, phantom, local, trivial
ASKS_NOBODY = frozenset({"prior", "sample", "film", "tutor", "takeover", "assembly"})

Stage = Mapping[str, Any]


class Roster(Protocol):
    """With whom a site sums under masks."""

    @property
    def roster(self) -> Collection[str]:
        """Names of all that may be in one sum."""


class Bounds(Protocol):
    """What of a site's policy makes its answers longer."""

    @property
    def groups(self) -> Mapping[str, Collection[str]]:
        """Columns and words by which it tells subjects apart."""

    @property
    def secure_aggregation(self) -> Roster:
        """With whom it sums under masks."""


class Asked(Protocol):
    """All that must be known of a site: a `client.site.Site` is one."""

    @property
    def name(self) -> str:
        """By which a campaign knows it."""

    @property
    def policy(self) -> Bounds:
        """Its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaves:
    """What leaves in one stage.

    Attributes:
        stage: which the request names; of a request that names none, the campaign's.
        message: of the request.
        exchanges: how often something new leaves; what left once may be asked for again.
        fields: of each reply.
        bytes: of all replies, at most.
        privacy: what stands between them and a patient.
    """

    stage: str
    message: str
    exchanges: int
    fields: tuple[str, ...]
    bytes: int
    privacy: str

    @property
    def each(self) -> int:
        """Bytes of one reply."""
        return self.bytes // self.exchanges


def leaves_of(site: Asked, stages: Sequence[Stage]) -> tuple[Leaves, ...]:
    """Return what these stages make leave `site`, the greeting first; a stage of other sites makes nothing leave."""
    asked = [stage for stage in stages if site.name in stage["settings"].get("only", [site.name])]
    lines = [line for stage in asked for line in ASKS.get(stage["do"], _nothing)(site, stage, asked)]
    return (_line(GREETING, "query.hello", 1, SMALL_BYTES, PUBLIC), *lines)


def rule_of(stage: Stage, stages: Sequence[Stage]) -> Mapping[str, Any]:
    """Return by what rule a screening judges, to which its coordinator commits when it samples; {} for other stages."""
    if stage["do"] != "screen":
        return {}
    rule: Mapping[str, Any] = named(stage["settings"]["sampled"], stages)["settings"].get("rule", {})
    return rule


def is_secure(stage: Stage) -> bool:
    """Say whether changes of this training leave under masks."""
    return bool(stage["settings"].get("aggregation", {}).get("secure", False))


def named(name: str, stages: Sequence[Stage]) -> Stage:
    """Return the stage of this name, or one without settings where there is none."""
    return next((stage for stage in stages if stage["name"] == name), {"settings": {}})


def _nothing(site: Asked, stage: Stage, stages: Sequence[Stage]) -> Iterator[Leaves]:
    yield from ()


def _reserve(site: Asked, stage: Stage, stages: Sequence[Stage]) -> Iterator[Leaves]:
    yield _line(stage["name"], "query.reserve", 1, SMALL_BYTES, PUBLIC)


def _train(site: Asked, stage: Stage, stages: Sequence[Stage]) -> Iterator[Leaves]:
    told = stage["settings"]
    privacy = COVERED if told.get("plan") is not None else BARE
    if is_secure(stage):
        n = peers(site)
        parts = {"query.keys": OFFER_BYTES, "query.shares": n * SEALED_BYTES, "query.unmask": n * shamir.SHARE_BYTES}
        for message, size in parts.items():
            yield _line(stage["name"], message, told["rounds"], size_of(Parts(parts=bytes(size))), PUBLIC)
        masked = Masked(arrays={n: (a * 2**40).astype(np.uint64) for n, a in _weights(told).items()})
        yield _line(stage["name"], "train.masked", told["rounds"], size_of(masked), f"{privacy}; {UNSEEN}")
        return
    yield _line(stage["name"], "train", told["rounds"], size_of(Trained(arrays=_weights(told))), privacy)


def peers(site: Asked) -> int:
    """Return how many sites are in one sum at most."""
    return max(MIN_SITES, len(site.policy.secure_aggregation.roster))


def _weights(told: Mapping[str, Any]) -> dict[str, NDArray[np.float32]]:
    """Return arrays like those that one exchange sends back: the trainable weights but for the site's own."""
    from learning import arrays
    from synthesis.parts import build

    learner = build(told["kind"], told["name"], told["config"], seed=0, prior="")
    own = told.get("personal") or None
    return distinct({n: a for n, a in arrays.trainable(learner.module).items() if own is None or not n.startswith(own)})


def distinct(like: Mapping[str, NDArray[np.float32]], seed: int = 0) -> dict[str, NDArray[np.float32]]:
    """Return arrays of these shapes of which no two are equal, for equal ones would travel as one."""
    dice = np.random.default_rng(seed)
    return {n: dice.random(a.shape, np.float32) for n, a in like.items()}


def _shapes(site: Asked, stage: Stage, stages: Sequence[Stage]) -> Iterator[Leaves]:
    from privacy import moments
    from synthesis import likeness

    said = Measured(arrays={"moments": np.zeros(moments.numbers(likeness.MODES), np.float32)})
    yield _line(stage["name"], "query.measure", 1, size_of(said), COVERED)


def _audit(site: Asked, stage: Stage, stages: Sequence[Stage]) -> Iterator[Leaves]:
    here = {other["name"] for other in stages}
    for training in sorted(stage["settings"]["trainings"]):
        if training in here:
            yield _line(training, "query.guess", 1, SMALL_BYTES, PUBLIC)


def _utility(site: Asked, stage: Stage, stages: Sequence[Stage]) -> Iterator[Leaves]:
    told = stage["settings"]
    arms = ARMS + bool(told.get("federated")) + bool(told.get("joined"))
    words = sum(len(set(asked) & set(site.policy.groups.get(c, ()))) for c, asked in told.get("groups", {}).items())
    whole = METRICS * (arms + arms * (arms - 1) // 2 + 1) + arms  # scores, differences, turned; kept of one metric
    cells = whole + words * arms * (METRICS + 1)
    yield _line(stage["name"], "evaluate", 1, SMALL_BYTES + CELL_BYTES * cells, ROUNDED)


def _attack(site: Asked, stage: Stage, stages: Sequence[Stage]) -> Iterator[Leaves]:
    formal = stage["settings"].get("lane") == "FORMAL"
    yield _line(stage["name"], "query.attack", 1, SMALL_BYTES, NOISED if formal else BARE)


def _screen(site: Asked, stage: Stage, stages: Sequence[Stage]) -> Iterator[Leaves]:
    rule, sampled = rule_of(stage, stages), named(stage["settings"]["sampled"], stages)
    if "exact" in rule or "votes" in rule:
        bits = sampled["settings"]["subjects"] // 6 + 1  # one for each, in base64
        yield _line(stage["name"], "query.screen", 1, SMALL_BYTES + bits, BARE if "exact" in rule else NOISED)


def _certify(site: Asked, stage: Stage, stages: Sequence[Stage]) -> Iterator[Leaves]:
    yield _line(stage["name"], "query.sign", 1, SMALL_BYTES, PUBLIC)


ASKS: Mapping[str, Callable[[Asked, Stage, Sequence[Stage]], Iterator[Leaves]]] = {
    "reserve": _reserve,
    "train": _train,
    "arrive": _train,
    "shapes": _shapes,
    "audit": _audit,
    "utility": _utility,
    "attack": _attack,
    "screen": _screen,
    "certify": _certify,
}


def _line(stage: str, message: str, exchanges: int, size: int, privacy: str) -> Leaves:
    names = tuple(field.name for field in fields(REPLIES[message]))
    return Leaves(
        stage=stage, message=message, exchanges=exchanges, fields=names, bytes=exchanges * size, privacy=privacy
    )


def size_of(message: object) -> int:
    """Return the bytes of a request or reply on the wire."""
    return messages.weigh(messages.encode(message))[1]
