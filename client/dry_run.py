"""What a proposed campaign would do at this hospital, worked out here before anybody approves it. Nothing is sent.

Every stage of the proposal is walked in order: which message will arrive and how often, which fields its reply has, how
many bytes leave, and what stands between them and a patient. Beside it the policy as it would hold: of two bounds, the
site's and the proposal's, the tighter one. A campaign that this site would refuse is refused here, with all reasons.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

from client.admission import own_code
from client.site import Site
from learning.messages import REPLIES, REQUESTS, Refusal
from learning.proposal import Proposal

SMALL_BYTES = 400  # of a reply that holds numbers only
COVERED, NOISED, ROUNDED, PUBLIC, BARE = (
    "differentially private",
    "noised counts, charged",
    "rounded means of groups of at least min_cell test patients",
    "says nothing about patients",
    "NOT private",
)
UNSEEN = "the coordinator sees sums of sites alone"
MINUTES = {
    "train": 2.0,
    "train.masked": 2.0,
    "evaluate": 3.0,
}  # of a message on a small machine, for an order of magnitude


@dataclass(frozen=True, slots=True, kw_only=True)
class Leaves:
    """What leaves in one stage.

    Attributes:
        stage, message: of the campaign, and of the request.
        exchanges: how often.
        fields: of each reply.
        bytes: of all replies.
        privacy: what stands between them and a patient.
    """

    stage: str
    message: str
    exchanges: int
    fields: tuple[str, ...]
    bytes: int
    privacy: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Bound:
    """One bound of the policy: what the site allows, what is asked for, and which of the two holds."""

    name: str
    site: str
    asked: str
    holds: str
    origin: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Foreseen:
    """The whole forecast.

    Attributes:
        run, digest: of the proposal.
        refused: why this site would not admit it; empty where it would.
        epsilon, delta: what a patient would pay for all of it.
        spent, cap: ε that this account has spent, and may ever spend.
        hours: an order of magnitude.
    """

    run: str
    digest: str
    refused: tuple[str, ...]
    epsilon: float
    delta: float
    spent: float
    cap: float
    hours: float
    bounds: tuple[Bound, ...]
    leaves: tuple[Leaves, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the forecast as a JSON object."""
        return asdict(self)


def foresee(site: Site, proposal: Proposal) -> Foreseen:
    """Return what `proposal` would do at `site`."""
    from privacy.mechanism import epsilon, plan_from_json

    plans = [plan_from_json(plan) for plan in proposal.plans(site.name)]
    stages: Sequence[Mapping[str, Any]] = proposal.campaign["stages"]
    leaves = tuple(line for stage in stages for line in _leaves(site, stage))
    cost = epsilon(plans, proposal.delta) if plans else 0.0
    spent = site.ledger.spent()[0]
    return Foreseen(
        run=proposal.run,
        digest=proposal.digest,
        refused=tuple(_refusals(site, proposal, plans, stages, cost + spent)),
        epsilon=cost,
        delta=proposal.delta,
        spent=spent,
        cap=site.policy.epsilon_cap,
        hours=sum(line.exchanges * MINUTES.get(line.message, 0.5) for line in leaves) / 60,
        bounds=tuple(_bounds(site, plans)),
        leaves=leaves,
    )


def lines(seen: Foreseen) -> Iterator[str]:
    """Return the forecast in lines for a terminal."""
    yield f"proposal     {seen.run}  {seen.digest}"
    yield f"cost         ε = {seen.epsilon:.3g}, δ = {seen.delta:.1e} per patient"
    yield f"account      ε = {seen.spent:.3g} spent before, of {seen.cap:g} for life"
    yield f"time         about {max(seen.hours, 0.1):.1f} h of this machine, spread over the campaign"
    yield "policy as it would hold"
    for bound in seen.bounds:
        yield f"  {bound.name:<22} {bound.holds:<12} ({bound.origin}; site {bound.site}, asked {bound.asked})"
    yield "what would leave"
    for line in seen.leaves:
        often = f"{line.exchanges} ×" if line.exchanges > 1 else "once"
        yield f"  {line.stage:<14} {often:<6} {line.bytes / 1024:>9.1f} KiB  {', '.join(line.fields)}: {line.privacy}"
    for reason in seen.refused:
        yield f"REFUSED      {reason}"


def _refusals(
    site: Site, proposal: Proposal, plans: Sequence[Any], stages: Sequence[Mapping[str, Any]], total: float
) -> Iterator[str]:
    if proposal.code_digest != own_code():
        yield f"it is of code {proposal.code_digest[:12]}…, installed and reviewed here is {own_code()[:12]}…"
    if total > site.policy.epsilon_cap:
        yield f"it would bring a patient's ε to {total:.4g}; the cap of this site is {site.policy.epsilon_cap:g}"
    if proposal.delta > site.policy.delta_cap:
        yield f"delta={proposal.delta:g} lies above this site's {site.policy.delta_cap:g}"
    for plan in plans:
        try:
            site.policy.admit([plan])
        except Refusal as refusal:
            yield str(refusal)
    for stage in stages:
        told = stage["settings"]
        if (only := told.get("only")) and site.name not in only:
            continue
        for kind, name in _parts(stage):
            try:
                site.policy.allow(kind, name)
            except Refusal as refusal:
                yield f"stage {stage['name']!r}: {refusal}"
        if stage["do"] == "train" and told.get("plan") is None and not site.policy.allow_non_dp_reference:
            yield f"stage {stage['name']!r} would send weights without noise, which this site does not allow"
        if stage["do"] in ("train", "arrive") and (why := _unmasked(site, stage)):
            yield f"stage {stage['name']!r} {why}"
        if stage["do"] == "utility" and not site.policy.allow_scores:
            yield f"stage {stage['name']!r} asks for scores, which this site does not allow"
        if stage["do"] in ("screen", "attack") and told.get("lane") != "FORMAL" and not site.policy.allow_empirical:
            yield f"stage {stage['name']!r} asks for exact counts, which this site does not allow"


def _unmasked(site: Site, stage: Mapping[str, Any]) -> str:
    """Return why a training does not fit what this site says of secure aggregation; "" where it does."""
    told = site.policy.secure_aggregation
    if _is_secure(stage):
        return "" if site.name in told.roster else "is under secure aggregation, for which site.yaml names no roster"
    return "would send changes in clear; this site asks for secure aggregation" if told.required else ""


def _is_secure(stage: Mapping[str, Any]) -> bool:
    """Say whether changes of this training leave under masks."""
    return bool(stage["settings"].get("aggregation", {}).get("secure", False))


def _parts(stage: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    told = stage["settings"]
    if stage["do"] in ("train", "arrive"):
        yield told["kind"], told["name"]
    elif stage["do"] == "utility":
        yield "task", told["task"]
    elif stage["do"] == "attack":
        yield "attack", told["name"]


def _bounds(site: Site, plans: Sequence[Any]) -> Iterator[Bound]:
    from privacy.mechanism import DpPlan

    policy, trainings = site.policy, [plan for plan in plans if isinstance(plan, DpPlan)]
    for name, own, asked, tighter in (
        ("noise at least", policy.min_noise_multiplier, [p.noise_multiplier for p in trainings], max),
        ("sampling rate at most", policy.max_sampling_rate, [p.sampling_rate for p in trainings], min),
        ("clip norm at most", policy.max_clip_norm, [p.clip_norm for p in trainings], min),
        ("steps at most", policy.max_steps, [p.steps for p in trainings], min),
    ):
        laxest = (min if tighter is max else max)(asked, default=own)
        held = tighter(own, laxest)
        origin = "the proposal is tighter" if held != own else "site.yaml"
        yield Bound(name=name, site=f"{own:g}", asked=f"{laxest:g}", holds=f"{held:g}", origin=origin)
    yield Bound(
        name="scores", site=_yes(policy.allow_scores), asked="yes", holds=_yes(policy.allow_scores),
        origin=f"site.yaml, cells of at least {policy.min_cell}",
    )  # fmt: skip


def _yes(word: bool) -> str:
    return "yes" if word else "no"


def _leaves(site: Site, stage: Mapping[str, Any]) -> Iterator[Leaves]:
    """Return what a stage makes leave; a stage that asks sites nothing yields nothing."""
    told, do = stage["settings"], stage["do"]
    if (only := told.get("only")) and site.name not in only:
        return
    if do in ("train", "arrive"):
        privacy = COVERED if told.get("plan") is not None else BARE
        if not _is_secure(stage):
            yield _line(stage, "train", told["rounds"], _weights_bytes(told), privacy)
            return
        for message in ("query.keys", "query.shares", "query.unmask"):
            yield _line(stage, message, told["rounds"], SMALL_BYTES, PUBLIC)
        yield _line(stage, "train.masked", told["rounds"], 2 * _weights_bytes(told), f"{privacy}; {UNSEEN}")
    elif do == "reserve":
        yield _line(stage, "query.reserve", 1, SMALL_BYTES, PUBLIC)
    elif do == "shapes":
        yield _line(stage, "query.measure", 1, SMALL_BYTES, COVERED)
    elif do == "audit":
        yield _line(stage, "query.guess", len(told["trainings"]), SMALL_BYTES, PUBLIC)
    elif do == "utility":
        yield _line(stage, "evaluate", 1, 4 * SMALL_BYTES, ROUNDED)
    elif do == "attack":
        yield _line(stage, "query.attack", 1, SMALL_BYTES, NOISED if told.get("lane") == "FORMAL" else BARE)
    elif do == "screen" and (told.get("lane") == "EMPIRICAL" or told.get("votes")):
        yield _line(stage, "query.screen", 1, SMALL_BYTES, BARE if told.get("lane") == "EMPIRICAL" else NOISED)
    elif do == "certify":
        yield _line(stage, "query.sign", 1, SMALL_BYTES, PUBLIC)


def _line(stage: Mapping[str, Any], message: str, exchanges: int, size: int, privacy: str) -> Leaves:
    assert message in REQUESTS  # noqa: S101 - a message that nobody registered would be a mistake of this file
    names = tuple(field.name for field in fields(REPLIES[message]))
    return Leaves(
        stage=stage["name"], message=message, exchanges=exchanges, fields=names, bytes=exchanges * size,
        privacy=privacy,
    )  # fmt: skip


def _weights_bytes(told: Mapping[str, Any]) -> int:
    """Return the size of what one exchange of a training sends back: the trainable weights, in float32."""
    from learning import arrays
    from synthesis.parts import build

    learner = build(told["kind"], told["name"], told["config"], seed=0, prior="")
    own = told.get("personal") or None
    sizes = [a.size for n, a in arrays.trainable(learner.module).items() if own is None or not n.startswith(own)]
    return SMALL_BYTES + 4 * sum(sizes)
