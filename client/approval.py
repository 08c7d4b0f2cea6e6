"""What this hospital approved: signed by its own key, bound to code, experiment and plans, asked for at admission.

`approvals/<run>.json` is a signed approval, `<run>.outgoing` beside it what may leave (`client.outgoing`). A site whose
policy says `approval: true` admits no run without one, and a coordinator can only ask for what was approved: another
digest is another campaign, for which nobody signed.
"""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from client import outgoing
from client.leaves import leaves_of
from client.site import SITE_FILE, Site
from evaluation.envelope import Envelope, MalformedEnvelope, pae, seal
from evaluation.trust import own_key
from learning import durable
from learning.messages import Code, Refusal, Reserve
from learning.proposal import Approval, Proposal, digest

FOLDER = "approvals"
TYPE = "application/vnd.pericard.approval+json"


def approve(site: Site, proposal: Proposal) -> Approval:
    """Sign that this site's people have seen `proposal`, and keep it with the manifest of what may leave."""
    approval = Approval(
        site=site.name,
        run=proposal.run,
        code_digest=proposal.code_digest,
        bundle_digest=proposal.bundle_digest,
        experiment_digest=proposal.experiment_digest,
        plans_digest=digest(list(proposal.plans(site.name))),
        delta=proposal.delta,
        proposal_digest=proposal.digest,
        policy_digest=policy_digest(site),
        utc=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    payload = approval.to_json().encode()
    sealed = Envelope(payload=payload, payload_type=TYPE, signatures=(seal(payload, site.signing_key, TYPE),))
    stages: Sequence[Mapping[str, Any]] = proposal.campaign["stages"]
    outgoing.keep(site, proposal.run, leaves_of(site, stages))
    path = _path(site, proposal.run)
    path.parent.mkdir(exist_ok=True, mode=0o700)
    durable.write(path, sealed.canonical)
    return approval


def withdraw(site: Site, run: str) -> bool:
    """Take an approval back; what was charged stays charged. Returns whether there was one."""
    outgoing.discard(site, run)
    path = _path(site, run)
    there = path.exists()
    path.unlink(missing_ok=True)
    return there


def approved(site: Site, run: str) -> Approval | None:
    """Return the approval of `run`, `None` where there is none.

    Raises:
        ValueError: if what lies there was not signed by this site's key, or is about another site or run.
    """
    path = _path(site, run)
    if not path.exists():
        return None
    try:
        sealed = Envelope.parse(path.read_bytes(), payload_type=TYPE)
    except MalformedEnvelope as error:
        raise ValueError(f"{path}: {error}") from error
    own = own_key(site.name, site.signing_key.public)
    if not any(own.verifies(s.raw, pae(sealed.payload, TYPE)) for s in sealed.signatures):
        raise ValueError(f"{path} is not signed by this site's key")
    approval = Approval.parse(sealed.payload.decode())
    if (approval.site, approval.run) != (site.name, run):
        raise ValueError(f"{path} is about {approval.site!r} and run {approval.run!r}")
    return approval


def demand(site: Site, request: Reserve) -> None:
    """Raise `Refusal` unless this site needs no approval, or has approved exactly what `request` asks for."""
    if not site.policy.approval:
        return
    try:
        approval = approved(site, request.run)
    except ValueError as error:
        raise Refusal(Code.REFUSED_POLICY, str(error)) from error
    if approval is None:
        raise Refusal(Code.REFUSED_POLICY, f"run {request.run!r} was not approved here")
    if not approval.covers(
        run=request.run,
        code_digest=request.code_digest,
        experiment_digest=request.experiment_digest,
        plans=request.plans,
        delta=request.delta,
    ):
        raise Refusal(Code.REFUSED_POLICY, f"run {request.run!r} is not what was approved under that name")
    if approval.policy_digest != policy_digest(site):
        raise Refusal(Code.REFUSED_POLICY, f"{SITE_FILE} was changed after run {request.run!r} was approved")


def given(site: Site) -> tuple[str, ...]:
    """Return the runs that this site approved and did not take back."""
    return tuple(path.stem for path in sorted((site.folder / FOLDER).glob("*.json")))


def still(site: Site, run: str) -> None:
    """Raise `Refusal` where this site wants approvals and that of `run`, which it admitted, was taken back since."""
    if site.policy.approval and not _path(site, run).exists():
        raise Refusal(Code.REFUSED_POLICY, f"the approval of run {run!r} was taken back")


def policy_digest(site: Site) -> str:
    """Return the SHA-256 of `site.yaml`."""
    return hashlib.sha256((site.folder / SITE_FILE).read_bytes()).hexdigest()


def _path(site: Site, run: str) -> Path:
    return site.folder / FOLDER / f"{run}.json"
