"""`pericard site init|join|check|approve|run|withdraw|leave`: a hospital's folder, what it lets in, and its node."""

import base64
import contextlib
import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

from pericard.errors import Exit

if TYPE_CHECKING:
    from client.policy import Policy
    from client.site import Site
    from learning.proposal import Proposal

NODE_KEY = "node.pub"
RESTART_SECONDS, LEAVE_SECONDS = 5.0, 60.0


def init(
    folder: Path, *, name: str, root: Path | None, reader: str | None, settings: Sequence[str], subjects: int | None,
    invitation: Path,
) -> int:  # fmt: skip
    """Make a hospital's folder over the studies in `root`, and join the coordinator of `invitation`.

    Raises:
        UsageError: a name, a reader or an invitation that is none; a folder that is one already.
        UnreadableStudy: the studies cannot be read.
    """
    import dataclasses
    import secrets

    from client import node
    from client.site import Site
    from cohorts.deidentify import Pseudonyms
    from cohorts.readers import READERS
    from cohorts.recognise import opened
    from conf.compose import UsageError, compose_part
    from evaluation.trust import fingerprint

    if root is not None:
        reader, config = opened(root, reader, settings)
    elif reader is not None:  # of no folder: the phantom, for rehearsals
        config = compose_part(READERS, reader, settings)
    else:
        raise UsageError("--root PATH is missing: the folder of the studies")
    found = len(config.read(pseudonyms=Pseudonyms(secrets.token_bytes(32))).subjects)
    declared = subjects if subjects is not None else max(10, round(found / 10) * 10)
    told = {k: list(v) if isinstance(v, tuple) else v for k, v in dataclasses.asdict(config).items()}
    if root is not None:
        told["root"] = str(root.resolve())
    try:
        site = Site.create(
            folder, name=name, cohort={"reader": reader, **told},
            public_subjects=declared, policy=default_policy(),
        )  # fmt: skip
        public = node.join(site, yaml.safe_load(invitation.read_text(encoding="utf-8")))
    except (ValueError, yaml.YAMLError) as error:
        raise UsageError(str(error)) from error
    (folder / NODE_KEY).write_text(public + "\n", encoding="ascii")
    _say(
        f"made         {folder}  ({found} patients; {declared} are declared, and only that number leaves)",
        f"look at      {folder / 'site.yaml'}  (the policy: yours to tighten)",
        f"send         {folder / NODE_KEY}  to the coordinator; it is public",
        f"compare      {fingerprint(public)}  by telephone: the coordinator sees the same, admitting you",
        f"sign by      {base64.b64encode(site.signing_key.public).decode()}  (for the rosters of others)",
        f"next         pericard site check {folder}",
    )
    return Exit.PASS


def join(folder: Path, *, invitation: Path) -> int:
    """Join the coordinator of `invitation` with a site folder that stands, or take its renewed invitation.

    Raises:
        UsageError: an invitation that is none, a folder that is none, a site that has joined another coordinator.
    """
    from client import node
    from client.site import Site
    from conf.compose import UsageError
    from evaluation.trust import fingerprint

    try:
        public = node.join(Site(folder), yaml.safe_load(invitation.read_text(encoding="utf-8")))
    except (ValueError, yaml.YAMLError) as error:
        raise UsageError(str(error)) from error
    (folder / NODE_KEY).write_text(public + "\n", encoding="ascii")
    _say(
        f"send         {folder / NODE_KEY}  to the coordinator; it is public",
        f"compare      {fingerprint(public)}  by telephone: the coordinator sees the same, admitting you",
    )
    return Exit.PASS


def default_policy() -> "Policy":
    """Return what a hospital allows before its people have changed a word: private trainings of the shipped parts.

    Its bounds admit what the shipped experiments ask for: with every member in every step, what a patient pays is told
    by the noise, and capped by `epsilon_cap`.
    """
    from client.policy import INSTALLED, Policy
    from evaluation.tasks import CLIP_TASKS, TASKS
    from learning.learners import LEARNERS
    from synthesis.generators import CLIP_GENERATORS, GENERATORS

    return Policy(
        epsilon_cap=8.0, delta_cap=1e-5, min_noise_multiplier=0.5, max_sampling_rate=1.0, max_clip_norm=1.0,
        max_steps=5000, learners=tuple(LEARNERS), generators=tuple(GENERATORS | CLIP_GENERATORS),
        tasks=tuple(TASKS | CLIP_TASKS),
        attacks=("disclosure",), allow_scores=True, min_cell=10, allow_non_dp_reference=False, allow_empirical=False,
        seconds_per_message=3600, code=(INSTALLED,), approval=True,
    )  # fmt: skip


def approve(folder: Path, proposal: Path, *, yes: bool, as_json: bool) -> int:
    """Show what a proposal would do here, and approve it if `yes` or the answer on the terminal is yes.

    Raises:
        UsageError: no proposal of the coordinator of this site.
        Refusal: this site's policy, account or code does not admit it.
    """
    from client import approval
    from client.dry_run import foresee, lines
    from client.site import Site
    from conf.compose import UsageError
    from learning.messages import Code, Refusal
    from learning.schema import Malformed

    site = Site(folder)
    try:
        asked = read(site, proposal)
    except ValueError as error:
        raise UsageError(f"{proposal}: {error}") from error
    try:
        seen = foresee(site, asked)
    except Malformed as error:  # a message that no site could take: too large a model
        raise Refusal(Code.REFUSED_POLICY, f"{proposal}: {error}") from error
    if as_json:
        sys.stdout.write(json.dumps(seen.to_json(), indent=1, ensure_ascii=False) + "\n")
    else:
        _say(*lines(seen))
    if seen.refused:
        _say("not approved: this site would refuse it", err=True)
        return Exit.REFUSED
    if not yes and not _agreed(asked.digest):
        _say("not approved", err=True)
        return Exit.REFUSED
    signed = approval.approve(site, asked)
    _say(f"approved     {signed.run}, signed by key {site.signing_key.key_id[:12]}…", err=as_json)
    return Exit.PASS


def read(site: "Site", path: Path) -> "Proposal":
    """Return the proposal in `path`; raises `ValueError` unless the coordinator that `site` joined signed it."""
    from client.node import Coordinator
    from evaluation.proposal import opened

    return opened(path.read_bytes(), bytes.fromhex(Coordinator.read(site).public_key))


def _agreed(digest: str) -> bool:
    if not sys.stdin.isatty():
        return False
    sys.stdout.write(f"approve proposal {digest[:16]}…? Type yes: ")
    sys.stdout.flush()
    return sys.stdin.readline().strip() == "yes"


def run(folder: Path, *, port: int) -> int:
    """Keep this site's node running until Ctrl-C, or until no approval is left; raises `UsageError` where none is."""
    from client import approval, node
    from client.site import Site
    from conf.compose import UsageError

    site = Site(folder)
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(node.alone(site))
            approved = node.approved_bundle(site)
            node.install(site, approved)
            address = node.Coordinator.read(site).address
        except ValueError as error:
            raise UsageError(str(error)) from error
        _say(f"node         {site.name} → {address}; Ctrl-C stops it")
        alive = held.enter_context(node.running(site, port=port))
        while approval.given(site):
            time.sleep(RESTART_SECONDS)
            if ended := alive.restart_dead():
                _say(f"node         a process ended ({ended}) and was started again; see {folder / 'node'}", err=True)
    _say("node         stopped: no approval is left", err=True)
    return Exit.REFUSED


def withdraw(folder: Path, runs: Sequence[str]) -> int:
    """Take the approvals of `runs` back; raises `UsageError` where there is none of that name."""
    from client import approval
    from client.site import Site
    from conf.compose import UsageError

    site = Site(folder)
    known = approval.given(site)
    if unknown := [run for run in runs if run not in known]:
        raise UsageError(f"no approval of {unknown[0]!r}; there are {', '.join(known) or 'none'}")
    for run in runs:
        approval.withdraw(site, run)
        _say(f"withdrawn    {run}; nothing of it is answered any more, what was charged stays charged")
    return Exit.PASS


def leave(folder: Path) -> int:
    """Take every approval back, wait for the node to stop, forget the coordinator; the account stays.

    Raises:
        UsageError: the node runs on; it is to be stopped first.
    """
    from client import approval, node
    from client.site import Site
    from conf.compose import UsageError

    site = Site(folder)
    withdraw(folder, approval.given(site))
    deadline = time.monotonic() + LEAVE_SECONDS
    while True:
        try:
            node.leave(site)
            break
        except node.NotReady as error:
            if time.monotonic() > deadline:
                raise UsageError(str(error)) from error
            time.sleep(1)
    (folder / NODE_KEY).unlink(missing_ok=True)
    _say(
        f"left         {folder} has no coordinator and no node key; account, log and the site's keys stay",
        "tell         the coordinator, who takes the name out of its folder sites/",
    )
    return Exit.PASS


def check(folder: Path, *, as_json: bool) -> int:
    """Print every problem that would keep this site from taking part."""
    from client.preflight import look

    found = list(look(folder))
    bad = [f for f in found if not f.ok]
    if as_json:
        document: Mapping[str, Any] = {"ok": not bad, "checks": [f.to_json() for f in found]}
        sys.stdout.write(json.dumps(document, indent=1, ensure_ascii=False) + "\n")
    else:
        _say(*_table(found))
    return Exit.REFUSED if bad else Exit.PASS


def _table(found: Sequence[Any]) -> Iterator[str]:
    for line in found:
        yield f"{'ok  ' if line.ok else 'NOT '} {line.what:<14} {line.words}"
        if not line.ok and line.remedy:
            yield f"     {'':<14} → {line.remedy}"


def _say(*lines: str, err: bool = False) -> None:
    stream = sys.stderr if err else sys.stdout
    stream.write("\n".join(lines) + "\n")
    stream.flush()  # a service manager reads along
