"""A running deployment: the SuperLink of a coordinator and its SuperExec, watched, and a campaign through them.

A SuperLink that is started again knows its nodes from the database, but a run that it was in the middle of is over. The
campaign is not: it goes on from its own checkpoints, under the same name, in a new run of Flower's; sites answer what
they answered before, so nothing is charged twice.
"""

import contextlib
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from evaluation.orphans import alone, newest_alone
from evaluation.provenance import code_digest
from evaluation.reviewed import OFFLINE, programs, write_bundle
from learning import durable
from server.campaign import Campaign, ended_in
from server.coordinator import LINK, OUT, PROPOSAL, Coordinator
from server.failure import FILE, read_failure
from server.progress import Follower, Journal, Progress
from server.rounds import QuorumLost
from server.superlink import CONNECTION, SimulationFailed, flwr, free_ports, wait
from synthesis import priors

START_SECONDS, ASK_TRIES = 600.0, 5
POLL_SECONDS, ASK_SECONDS, AGAIN_SECONDS, LATE_SECONDS, GRACE_SECONDS = 2.0, 20.0, 10.0, 120.0, 8.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Link:
    """A running SuperLink of a coordinator."""

    coordinator: Coordinator
    env: dict[str, str]
    processes: "list[subprocess.Popen[bytes]]"

    def flwr(self, *arguments: str) -> dict[str, Any]:
        """Run Flower's command line and return the JSON it prints; raises `SimulationFailed` with its words."""
        return flwr(self.coordinator.folder / LINK, self.env, *arguments)

    def ask(self, *arguments: str) -> dict[str, Any]:
        """Ask Flower what may be asked again, for it answers late or not at all where a machine is busy.

        Raises:
            SimulationFailed: it did not answer `ASK_TRIES` times.
            LinkLost: it cannot answer.
        """
        for _ in range(ASK_TRIES - 1):
            self.check()
            with contextlib.suppress(SimulationFailed):
                return self.flwr(*arguments)
            time.sleep(POLL_SECONDS)
        return self.flwr(*arguments)

    def register(self) -> dict[str, str]:
        """Register the nodes of `sites/` that are not yet known; returns name → status of all."""
        known = self._known()
        for name, path in self.coordinator.sites.items():
            if name not in known:
                answer = self.flwr("supernode", "register", str(path.resolve()), CONNECTION, "--name", name)
                known[name] = str(answer["node-id"])
                durable.write(self._registry, json.dumps(known).encode())
        return self.nodes()

    def nodes(self) -> dict[str, str]:
        """Return name → status of every registered node: registered, online, offline."""
        status = {
            str(node["node-id"]): str(node["status"]) for node in self.ask("supernode", "list", CONNECTION)["nodes"]
        }
        return {name: status.get(node, "unknown") for name, node in sorted(self._known().items())}

    @property
    def _registry(self) -> Path:
        return self.coordinator.folder / LINK / "nodes.json"

    def _known(self) -> dict[str, str]:
        known: dict[str, str] = (
            json.loads(self._registry.read_text(encoding="utf-8")) if self._registry.exists() else {}
        )
        return known

    def check(self) -> None:
        """Raise `LinkLost` if a process has ended."""
        for process in self.processes:
            if process.poll() is not None:
                raise LinkLost(f"a process of the SuperLink ended with {process.returncode}")

    def submit(self) -> str:
        """Start the campaign of the proposal; returns the id of Flower's run."""
        coordinator = self.coordinator
        durable.write(coordinator.folder / LINK / "campaign.json", proposed(coordinator).to_json().encode())
        app = (coordinator.folder / LINK / "app").resolve()
        shutil.rmtree(app, ignore_errors=True)  # of an earlier proposal, or half written
        (app / "pericard").mkdir(parents=True)
        write_bundle(app / "pericard")
        return str(self.flwr("run", str(app / "pericard"), CONNECTION)["run-id"])


@contextlib.contextmanager
def link(coordinator: Coordinator) -> Iterator[Link]:
    """Start the SuperLink and its SuperExec, and end them on the way out; also those of a coordinator that was killed.

    Raises:
        SimulationFailed: if the SuperLink does not start.
        InUse: if another process runs this coordinator.
        OSError: if nobody can listen where it shall.
    """
    root = coordinator.folder / LINK
    home, empty = root / "home", root / "empty"
    for folder in (home, empty):
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    (inner,) = free_ports(1)
    certs, keys = coordinator.folder.resolve() / "certs", coordinator.folder.resolve() / "secrets"
    told = (
        f'[superlink]\ndefault = "{CONNECTION}"\n\n[superlink.{CONNECTION}]\n'
        f'address = "127.0.0.1:{inner}"\nroot-certificates = "{certs / "ca.crt"}"\n'
    ).encode()
    env = environment(coordinator)
    secret, shown = str(keys / "superexec.secret"), coordinator.shown
    tls = ["--ssl-ca-certfile", certs / "ca.crt", "--ssl-certfile", certs / "server.pem"]
    served = [
        sys.executable, "-m", "server.link", coordinator.listen, str(shown.certificate), str(shown.key),
        "--host", "127.0.0.1", "--port", str(inner),
        "--database", str((root / "state.db").resolve()), "--enable-supernode-auth", *map(str, tls),
        "--ssl-keyfile", str(keys / "server.key"), "--isolation", "process", "--superexec-auth-secret-file", secret,
        "--disable-runtime-dependency-installation",
    ]  # fmt: skip
    runner = [
        "flower-superexec", "--runtime-api-address", f"127.0.0.1:{inner}", "--root-certificates", str(certs / "ca.crt"),
        "--superexec-auth-secret-file", secret,
    ]  # fmt: skip
    processes: list[subprocess.Popen[bytes]] = []
    found = Link(coordinator=coordinator, env=env, processes=processes)
    with alone(root, home):
        durable.write(home / "config.toml", told)
        _require_free(coordinator.listen)
        try:
            processes.append(_started(served, root / "superlink.log", empty, env))
            trusted = ssl.create_default_context(cafile=certs / "ca.crt")
            wait(processes[0], inner, root / "superlink.log", seconds=START_SECONDS, tls=trusted)
            processes.append(_started(runner, root / "superexec.log", empty, env))
            yield found
        finally:
            for process in reversed(processes):
                end(process)


def environment(coordinator: Coordinator) -> dict[str, str]:
    """Return the environment of everything that belongs to the SuperLink: nothing of Flower's from outside."""
    root = coordinator.folder.resolve() / LINK
    kept = {k: v for k, v in os.environ.items() if not k.startswith("FLWR_")}
    own = {"FLWR_HOME": str(root / "home"), "PATH": programs(), "NO_COLOR": "1"}
    ours = {
        "PERICARD_CAMPAIGN": str(root / "campaign.json"),
        "PERICARD_PRIORS": str(priors.folder().resolve()),  # bundles have no weights
    }
    return kept | OFFLINE | own | ours


def _started(command: Sequence[str], log: Path, folder: Path, env: dict[str, str]) -> "subprocess.Popen[bytes]":
    with log.open("ab") as file:
        return subprocess.Popen(
            command, cwd=folder, env=env, stdout=file, stderr=file, stdin=subprocess.DEVNULL, start_new_session=True
        )


def end(process: "subprocess.Popen[bytes]") -> None:
    """End a process and its group, gently at first."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(GRACE_SECONDS)
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)


def _require_free(address: str) -> None:
    """Raise `OSError` naming `address` if nobody can listen there, not even after a while."""
    host, _, port = address.rpartition(":")
    deadline = time.monotonic() + AGAIN_SECONDS
    while True:
        try:
            socket.create_server((host.strip("[]"), int(port)), family=_family(host)).close()
        except OSError as error:
            if time.monotonic() > deadline:
                raise OSError(error.errno, f"nobody can listen there: {error.strerror}", address) from error
            time.sleep(0.5)
        else:
            return


def _family(host: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in host else socket.AF_INET


class LinkLost(RuntimeError):
    """A process of the coordinator ended by itself; the campaign can go on in a new one."""


def conduct(coordinator: Coordinator, progress: Progress, *, patience_seconds: float) -> None:
    """Run the proposed campaign, or go on with it, until it is certified; leaves no process behind.

    A SuperLink that dies is started again, and a campaign that lost its quorum waits for its sites to come back.

    Args:
        coordinator: whose proposal is run.
        progress: told how far it is, under "sites" while it waits for them.
        patience_seconds: how long in all to wait for sites, and how long the coordinator's own processes may fail.

    Raises:
        QuorumLost: too few sites came (back) in that time; the same command goes on later.
        CampaignFailed: what the campaign raised.
        ValueError: there is nothing that could be run (see `proposed`).
        OSError: nobody can listen where the coordinator shall.
        LinkLost: the SuperLink could not be started, or its run was lost, over and over.
    """
    campaign = proposed(coordinator)
    tell = _noted(Path(campaign.out) / "campaign", progress)
    waited = 0.0
    while True:
        began = time.monotonic()
        try:
            tell("sites", 0.0, "the SuperLink starts")
            with link(coordinator) as running:
                running.register()
                _gather(running, campaign, tell, patience_seconds - waited)
                _follow(running, campaign, progress)
                return
        except (QuorumLost, LinkLost, SimulationFailed) as error:
            waited += min(time.monotonic() - began, AGAIN_SECONDS) + AGAIN_SECONDS
            words = str(error).partition("\n")[0][:120]
            if waited >= patience_seconds:
                if isinstance(error, SimulationFailed):
                    raise LinkLost(f"{words}: see {coordinator.folder / LINK / 'superlink.log'}") from error
                raise
            tell("sites", 0.0, f"{words}; goes on in {AGAIN_SECONDS:g} s")
            time.sleep(AGAIN_SECONDS)


def _noted(root: Path, progress: Progress) -> Progress:
    """Return a `Progress` that writes what is new into the campaign's event log, too, once it was begun."""
    last = ""

    def tell(stage: str, fraction: float, words: str) -> None:
        nonlocal last
        if words != last and root.is_dir():
            Journal(root)(stage, fraction, words)
        last = words
        progress(stage, fraction, words)

    return tell


def proposed(coordinator: Coordinator) -> Campaign:
    """Return the campaign to run; raises `ValueError` where none was proposed, or of other code than is installed."""
    proposal = coordinator.proposal
    if proposal.code_digest != code_digest():
        raise ValueError(f"{coordinator.folder / PROPOSAL} is of other code than is installed: propose again")
    return Campaign.parse(json.dumps({**proposal.campaign, "out": str(_out(coordinator))}))


def _out(coordinator: Coordinator) -> Path:
    out = (coordinator.folder / OUT).resolve()
    out.mkdir(exist_ok=True, mode=0o700)
    return out


def _gather(running: Link, campaign: Campaign, progress: Progress, seconds: float) -> None:
    """Wait until every admitted node is online or, after a while, a quorum of them."""
    began = time.monotonic()
    while True:
        status = running.nodes()
        online = [name for name, word in status.items() if word == "online"]
        progress("sites", len(online) / max(1, len(status)), f"online: {', '.join(online) or 'nobody'}")
        waited = time.monotonic() - began
        if len(online) == len(status) or (len(online) >= campaign.quorum and waited > LATE_SECONDS):
            return
        if waited > seconds:
            absent = {name: "not online" for name in status if name not in online}
            raise QuorumLost(f"{len(online)} of {campaign.quorum} sites are online", absent)
        running.check()
        time.sleep(max(POLL_SECONDS, min(ASK_SECONDS, waited / 10)))  # asking costs seconds of a core


def _follow(running: Link, campaign: Campaign, progress: Progress) -> None:
    """Submit the campaign and pass its progress on until it has ended.

    Asking Flower costs seconds of a core, so it is asked only when the campaign has said nothing for a while.
    """
    root = Path(campaign.out) / "campaign"
    (root / FILE).unlink(missing_ok=True)
    follower, run, status = Follower(root), running.submit(), ""
    asked = looked = time.monotonic()
    while not status.startswith("finished"):
        for stage, fraction, words in follower:
            progress(stage, fraction, words)
            asked = time.monotonic()
        running.check()
        if time.monotonic() - looked > POLL_SECONDS:
            newest_alone(running.coordinator.folder / LINK / "home", "flwr-serverapp")
            looked = time.monotonic()
        ended = (root / FILE).exists() or ended_in(campaign)
        if time.monotonic() - asked > (POLL_SECONDS if ended else ASK_SECONDS):
            status = str(running.ask("ls", CONNECTION, "--run-id", run)["runs"][0]["status"])
            asked = time.monotonic()
        time.sleep(0.5)
    for stage, fraction, words in follower:
        progress(stage, fraction, words)
    if (failure := read_failure(Path(campaign.out))) is not None:
        failure.add_note(f"where it was raised: {running.coordinator.folder / LINK / 'superexec.log'}")
        raise failure
    if not ended_in(campaign):
        raise LinkLost(f"Flower's run ended as {status!r}")
