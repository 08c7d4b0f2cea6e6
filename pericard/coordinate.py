"""`pericard coordinate …`: begin a federation, admit nodes, propose a campaign, run it, see how far it is."""

import json
import secrets
import sys
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from pericard.errors import Exit

INVITATION = "invitation.yaml"


def init(
    folder: Path, *, name: str, address: str, listen: str, own: tuple[Path | None, Path | None, Path | None]
) -> int:
    """Make a coordinator's folder; `own` is authority, certificate and key, or three times nothing.

    Raises:
        UsageError: an address that is none, a folder that is one already, certificates that sites would refuse.
    """
    from conf.compose import UsageError
    from server.coordinator import Certified, Coordinator

    authority, certificate, key = own
    certified = None
    if authority is not None and certificate is not None and key is not None:
        certified = Certified(authority=authority, certificate=certificate, key=key)
    elif any(own):
        raise UsageError("--ca-certificate, --server-certificate and --server-key are given together, or none of them")
    try:
        made = Coordinator.create(folder, name=name, address=address, listen=listen, own=certified)
    except ValueError as error:
        raise UsageError(str(error)) from error
    path = folder / INVITATION
    path.write_text(yaml.safe_dump(made.invitation, sort_keys=True), encoding="utf-8")
    _say(
        f"made         {folder}",
        f"give sites   {path}  (nothing in it is secret; let them compare the key by telephone)",
        f"its key      {made.key.public.hex()}",
        f"next         pericard coordinate admit {folder} NAME node.pub   for every hospital",
    )
    return Exit.PASS


def renew(folder: Path, *, certificate: Path | None, key: Path | None) -> int:
    """Make the certificate that hospitals see anew; they trust the authority and need nothing; raises `UsageError`."""
    from conf.compose import UsageError
    from server.coordinator import Coordinator

    try:
        Coordinator.open(folder).renew(certificate=certificate, key=key)
    except ValueError as error:
        raise UsageError(str(error)) from error
    _say("renewed      it is shown from the next start on; hospitals trust the authority and need do nothing")
    return Exit.PASS


def admit(folder: Path, name: str, key: Path) -> int:
    """Let the node with the public key in the file `key` connect as `name`; raises `UsageError`."""
    from conf.compose import UsageError
    from evaluation.trust import fingerprint
    from server.coordinator import Coordinator

    try:
        kept = Coordinator.open(folder).admit(name, key.read_text(encoding="ascii"))
    except ValueError as error:
        raise UsageError(str(error)) from error
    _say(f"admitted     {name}  {fingerprint(kept.read_text(encoding='ascii'))}  (compare it by telephone)")
    return Exit.PASS


def propose(folder: Path, overrides: Sequence[str]) -> int:
    """Write the proposal of the experiment that `overrides` ask for; raises `UsageError`, `BudgetExceeded`."""
    from conf.compose import UsageError, compose, to_json
    from evaluation.policy import Policy
    from pericard.simulate import groups
    from server import plan
    from server.coordinator import PROPOSAL, Coordinator

    known = groups()
    if not list((folder / "sites").glob("*.pub")):
        raise UsageError(f"{folder / 'sites'} admits nobody: pericard coordinate admit {folder} NAME node.pub")
    try:
        coordinator = Coordinator.open(folder)
        named = f"sites.names=[{','.join(coordinator.sites)}]"
        experiment, _ = compose([*overrides, named], groups=known)
        Policy.load(experiment.policy)
        resolved = json.loads(to_json(experiment, groups=known))
        run = f"{experiment.name}-{secrets.token_hex(4)}"
        campaign = plan.campaign(experiment, run=run, out="", resolved=resolved)
        moved = moves(coordinator.sites, json.loads(campaign.to_json()))
        proposal = coordinator.propose(campaign)
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(str(error)) from error
    _say(
        f"proposed     {proposal.run}",
        f"digest       {proposal.digest}",
        *(f"each moves   {words}   ({sites})" for sites, words in moved.items()),
        f"give sites   {folder / PROPOSAL}",
        f"next         every hospital: pericard site approve SITE {PROPOSAL}; then pericard coordinate run {folder}",
    )
    return Exit.PASS


def moves(names: Iterable[str], campaign: Mapping[str, Any]) -> dict[str, str]:
    """Return what the campaign moves to and from one site, by the names of those of which that is the same.

    Each site tells its own people the same, by its own policy.

    Raises:
        ValueError: if a message would be larger than any may be.
    """
    from client.arrives import arrives
    from client.dry_run import moved
    from client.leaves import leaves_of

    alike: dict[tuple[str, ...], list[str]] = {}
    for name in sorted(names):
        own = (stage["name"] for stage in campaign["stages"] if name in stage["settings"].get("only", [name]))
        alike.setdefault(tuple(own), []).append(name)
    found = {}
    for group in alike.values():
        site = _Admitted(group[0], _Bounds(_Roster(sorted(names))))
        leaves = leaves_of(site, campaign["stages"])
        down = [line.exchanges * arrives(site, campaign, line) for line in leaves]
        found[", ".join(group)] = moved(leaves, down)
    return found


@dataclass(frozen=True)
class _Roster:
    roster: Sequence[str]


@dataclass(frozen=True)
class _Bounds:
    secure_aggregation: _Roster
    groups: Mapping[str, Collection[str]] = field(default_factory=dict)


@dataclass(frozen=True)
class _Admitted:
    """A hospital of which a coordinator knows no more than its name and those of the others."""

    name: str
    policy: _Bounds


def run(folder: Path, *, resume: bool, patience_hours: float, as_json: bool) -> int:
    """Run the proposed campaign, or go on with it; the exit code is the verdict.

    Raises:
        UsageError: nothing was proposed, or of other code; a campaign was begun already, or none to go on with.
        QuorumLost, CampaignFailed, LinkLost: see `server.fleet.conduct`.
    """
    from conf.compose import UsageError
    from pericard.simulate import progress_bars, show
    from server.coordinator import OUT, Coordinator
    from server.fleet import conduct, proposed

    begun = (folder / OUT / "campaign").exists()
    if begun != resume:
        raise UsageError(
            f"{folder / OUT} holds a campaign that was begun: pericard coordinate resume {folder}" if begun
            else f"{folder / OUT} holds no campaign yet: pericard coordinate run {folder}"
        )  # fmt: skip
    try:
        coordinator = Coordinator.open(folder)
        proposed(coordinator)
    except ValueError as error:
        raise UsageError(str(error)) from error
    with progress_bars(quiet=as_json) as progress:
        conduct(coordinator, progress, patience_seconds=3600 * patience_hours)
    return show(folder / OUT, as_json=as_json)


def _say(*lines: str) -> None:
    sys.stdout.write("\n".join(lines) + "\n")
