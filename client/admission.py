"""What a site lets in: a run is reserved once, with its code, its experiment and every plan it will ever charge."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from client import approval
from client.site import Site
from learning import durable
from learning.messages import Code, Greeting, Hello, Refusal, Reserve, Reserved
from learning.schema import canonical

if TYPE_CHECKING:
    from privacy.mechanism import DpPlan, Plan

NOTHING_CHARGED = Reserved(epsilon=0.0, delta=0.0, head="0" * 64, seq=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Admission:
    """A run that this site admitted: what it was shown, and the receipt of what it charged."""

    code_digest: str
    experiment_digest: str
    plans: tuple[Mapping[str, Any], ...]
    delta: float
    receipt: Reserved

    def dp_plan(self, proposed: Mapping[str, Any]) -> "DpPlan":
        """Return the training plan that was reserved; raises `Refusal` where `proposed` is another."""
        from privacy.mechanism import DpPlan

        plan = self.reserved(proposed)
        if not isinstance(plan, DpPlan):
            raise Refusal(Code.REFUSED_POLICY, f"plan {plan.purpose!r} is no plan to train by")
        return plan

    def reserved(self, proposed: Mapping[str, Any]) -> "Plan":
        """Return the plan equal to `proposed`; raises `Refusal` where the run reserved none like it."""
        from privacy.mechanism import plan_from_json

        if dict(proposed) not in [dict(plan) for plan in self.plans]:
            raise Refusal(Code.REFUSED_BUDGET, f"plan {proposed.get('purpose')!r} was not reserved as proposed")
        return plan_from_json(proposed)


def greet(site: Site, request: Hello) -> Greeting:
    """Say who this site is."""
    del request
    return Greeting(
        site=site.name,
        public_subjects=site.file.public_subjects,
        public_key=site.signing_key.public,
        code_digest=own_code(),
    )


def reserve(site: Site, request: Reserve) -> Reserved:
    """Admit a run, charging its plans to the ledger before anything is computed; the same run twice is charged once."""
    from privacy.mechanism import plan_from_json

    _check_code(site, request.code_digest)
    approval.demand(site, request)
    try:
        plans = [plan_from_json(plan) for plan in request.plans]
    except ValueError as error:
        raise Refusal(Code.UNREADABLE, f"a plan cannot be read: {error}") from error
    if len({plan.purpose for plan in plans}) != len(plans):  # steps are counted by purpose: two plans could be mixed up
        raise Refusal(Code.REFUSED_POLICY, "two plans have one purpose")
    site.policy.admit(plans)
    receipt = NOTHING_CHARGED
    if plans:
        site.ledger.verify()  # every event there ever was: once per run, before it is charged
        paid = site.ledger.authorise(request.run, plans, delta=request.delta)
        receipt = Reserved(epsilon=paid.epsilon, delta=paid.delta, head=paid.head, seq=paid.seq)
    admission = Admission(
        code_digest=request.code_digest,
        experiment_digest=request.experiment_digest,
        plans=tuple(plan.to_json() for plan in plans),
        delta=request.delta,
        receipt=receipt,
    )
    path = site.folder / "runs" / f"{request.run}.json"
    if path.exists():
        if admitted(site, request.run) != admission:
            raise Refusal(Code.REFUSED_CODE, f"run {request.run!r} was admitted with another code or experiment")
        return receipt
    path.parent.mkdir(exist_ok=True, mode=0o700)
    durable.write(path, canonical(asdict(admission)).encode())
    return receipt


def admitted(site: Site, run: str) -> Admission:
    """Return what was admitted as `run`; raises `Refusal` where it was not, or not any more, or its code left."""
    path = site.folder / "runs" / f"{run}.json"
    if not path.exists():
        raise Refusal(Code.REFUSED_POLICY, f"run {run!r} was not reserved here")
    approval.still(site, run)
    fields = json.loads(path.read_text(encoding="utf-8"))
    admission = Admission(**{**fields, "plans": tuple(fields["plans"]), "receipt": Reserved(**fields["receipt"])})
    _check_code(site, admission.code_digest)
    return admission


def own_code() -> str:
    """Return the digest of the code that runs here."""
    from evaluation.provenance import code_digest

    return code_digest()


def _check_code(site: Site, proposed: str) -> None:
    if proposed != own_code():
        raise Refusal(Code.REFUSED_CODE, f"the run is of code {proposed[:12]}…, installed is {own_code()[:12]}…")
    if not {"installed", proposed} & set(site.policy.code):
        raise Refusal(Code.REFUSED_CODE, f"code {proposed[:12]}… is installed, but not among the reviewed")
