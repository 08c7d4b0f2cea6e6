"""What a site says of where its members' hearts lie: one noised sum, charged before it is made, answered once."""

from client.admission import admitted
from client.site import Site
from learning import wire
from learning.messages import Code, Measure, Measured, Refusal


def measure(site: Site, request: Measure) -> Measured:
    """Return the noised moments of members' masks under the reserved plan."""
    from cohorts.split import Split
    from privacy.randomness import SecureRandom
    from synthesis import likeness

    if not site.policy.allow_shapes:
        raise Refusal(Code.REFUSED_POLICY, "moments of masks are not said here")
    plan = admitted(site, request.run).dp_plan(request.plan)
    if plan != likeness.plan(plan.noise_multiplier):
        raise Refusal(Code.REFUSED_POLICY, f"plan {plan.purpose!r} is none of moments of masks")
    key = f"measure.{request.stage}"

    def compute() -> Measured:
        members = site.frames(Split.MEMBERS, size=request.size)
        # Another request under this key is another charge: only what is in the outbox can be had again for nothing.
        site.ledger.intend(request.run, plan.purpose, f"{key}.{wire.digest(request)[:16]}", plan.steps)
        said = likeness.told(members, plan, random=SecureRandom())
        return Measured(arrays={"moments": said.astype("float32")})

    return site.outbox.answer(request, request.run, key, Measured, compute)
