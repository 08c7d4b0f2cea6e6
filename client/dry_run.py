"""What a proposed campaign would do at this hospital, worked out here before anybody approves it. Nothing is sent.

Every stage of the proposal is walked in order (`client.leaves`): which message will arrive and how often, which fields
its reply has, how many bytes leave at most, and what stands between them and a patient. Beside it the policy as it
would hold: of two bounds, the site's and the proposal's, the tighter one. A campaign that this site would refuse is
refused here, with all reasons, each with the line of `site.yaml` that is behind it.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from client.admission import own_code
from client.arrives import arrives
from client.leaves import ASKS, ASKS_NOBODY, Leaves, is_secure, leaves_of, rule_of
from client.site import Site
from learning.messages import Refusal
from learning.proposal import Proposal

MINUTES = {
    "train": 2.0,
    "train.masked": 2.0,
    "evaluate": 3.0,
}  # of a message on a small machine, for an order of magnitude


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
        down: of each of `leaves`, the bytes of all requests that it answers, at most.
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
    down: tuple[int, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the forecast as a JSON object."""
        return asdict(self)


def foresee(site: Site, proposal: Proposal) -> Foreseen:
    """Return what `proposal` would do at `site`."""
    from privacy.mechanism import epsilon, plan_from_json

    plans = [plan_from_json(plan) for plan in proposal.plans(site.name)]
    stages: Sequence[Mapping[str, Any]] = proposal.campaign["stages"]
    leaves = leaves_of(site, stages)
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
        down=tuple(line.exchanges * arrives(site, proposal.campaign, line) for line in leaves),
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
    yield "what would leave, and what would come for it"
    for line, down in zip(seen.leaves, seen.down, strict=True):
        often = f"{line.exchanges} ×" if line.exchanges > 1 else "once"
        each = f"{size(line.each):>9} up {size(down // line.exchanges):>9} down"
        yield f"  {line.stage:<14} {often:<6} {each}  {', '.join(line.fields)}: {line.privacy}"
    yield f"  {moved(seen.leaves, seen.down)}"
    for reason in seen.refused:
        yield f"REFUSED      {reason}"


def moved(leaves: Sequence[Leaves], down: Sequence[int]) -> str:
    """Return what a whole campaign moves between the coordinator and one site, at most."""
    up = sum(line.bytes for line in leaves)
    return f"in all {sum(line.exchanges for line in leaves)} exchanges: {size(up)} up, {size(sum(down))} down"


def size(n: int) -> str:
    """Return a number of bytes as people read it."""
    return f"{n / 1024:.1f} KiB" if n < 1 << 20 else f"{n / (1 << 20):.1f} MiB"


def _refusals(
    site: Site, proposal: Proposal, plans: Sequence[Any], stages: Sequence[Mapping[str, Any]], total: float
) -> Iterator[str]:
    if proposal.code_digest != own_code():
        yield f"it is of code {proposal.code_digest[:12]}…, installed and reviewed here is {own_code()[:12]}…"
    if total > site.policy.epsilon_cap:
        cap = f"the cap of this site is {site.policy.epsilon_cap:g} (epsilon_cap in site.yaml)"
        yield f"it would bring a patient's ε to {total:.4g}; {cap}"
    if proposal.delta > site.policy.delta_cap:
        yield f"delta={proposal.delta:g} lies above this site's {site.policy.delta_cap:g} (delta_cap in site.yaml)"
    for plan in plans:
        try:
            site.policy.admit([plan])
        except Refusal as refusal:
            yield str(refusal)
    for stage in stages:
        told = stage["settings"]
        if (only := told.get("only")) and site.name not in only:
            continue
        if stage["do"] not in ASKS and stage["do"] not in ASKS_NOBODY:
            yield f"stage {stage['name']!r} does {stage['do']!r}, of which this code does not know what would leave"
        for kind, name in _parts(stage):
            try:
                site.policy.allow(kind, name)
            except Refusal as refusal:
                yield f"stage {stage['name']!r}: {refusal}"
        if stage["do"] == "train" and told.get("plan") is None and not site.policy.allow_non_dp_reference:
            yield _not_allowed(stage, "would send weights without noise", "allow_non_dp_reference")
        if stage["do"] in ("train", "arrive") and (why := _unmasked(site, stage)):
            yield f"stage {stage['name']!r} {why}"
        if stage["do"] == "utility" and not site.policy.allow_scores:
            yield _not_allowed(stage, "asks for scores", "allow_scores")
        if stage["do"] == "shapes" and not site.policy.allow_shapes:
            yield _not_allowed(stage, "asks where hearts lie", "allow_shapes")
        exact = (stage["do"] == "attack" and told.get("lane") != "FORMAL") or "exact" in rule_of(stage, stages)
        if exact and not site.policy.allow_empirical:
            yield _not_allowed(stage, "asks for exact counts", "allow_empirical")
        if "classes" in told and (why := _other_classes(site, told["classes"])):
            yield f"stage {stage['name']!r} {why}"


def _not_allowed(stage: Mapping[str, Any], does: str, line: str) -> str:
    return f"stage {stage['name']!r} {does}, which this site does not allow ({line}: false in site.yaml)"


def _other_classes(site: Site, told: Mapping[str, Any]) -> str:
    """Return why what a campaign tells apart is not what frames are told apart by here; "" where it is."""
    own = site.file.classes
    if not isinstance(told, Mapping) or (told["of"], tuple(told["names"])) == (own.of, own.names):
        return ""
    return (
        f"tells {told['of']} apart, {', '.join(told['names'])}; this site {own.of}, {', '.join(own.names)} "
        f"(classes in site.yaml)"
    )


def _unmasked(site: Site, stage: Mapping[str, Any]) -> str:
    """Return why a training does not fit what this site says of secure aggregation; "" where it does."""
    told = site.policy.secure_aggregation
    if is_secure(stage):
        return "" if site.name in told.roster else "is under secure aggregation, for which site.yaml names no roster"
    return (
        "would send changes in clear; this site asks for secure aggregation (required: true)" if told.required else ""
    )


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
