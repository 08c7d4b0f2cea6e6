"""A deployment on this machine whose processes can be found: three hospitals, each behind a line of its own.

Hospitals are `pericard site run`, as their people start it; the coordinator is a process that runs `conduct`, with
shorter pauses. One deployment serves one campaign after the other, each with a name and accounts of its own.
"""

import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

from client import approval, node
from client.site import SITE_FILE, Site
from evaluation.orphans import marked
from learning import durable
from server.campaign import DONE
from server.coordinator import LINK, OUT, Coordinator
from server.superlink import free_ports
from tests.conductor import FINISHED, REFUSED
from tests.hospitals import NAMES
from tests.relay import Relay
from tests.verdicts import Scene

MARK, COORDINATOR = "PERICARD_CHAOS", "coordinator"
PROGRAM = "import sys; from pericard.cli import run; sys.exit(run(sys.argv[1:]))"
KEPT = {SITE_FILE, "secrets", "approvals", "frames", node.FOLDER}  # of a hospital, from one campaign to the next
ROLES = {
    "only_reviewed.py": "ClientApp", "flwr-clientapp": "ClientApp", "flwr-serverapp": "ServerApp",
    "server.link": "SuperLink", "flower-supernode": "SuperNode", "flower-superexec": "SuperExec",
}  # fmt: skip
STOP_SECONDS, QUIET_SECONDS, SETTLE_SECONDS = 60.0, 4.0, 180.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Process:
    """A living process of Flower's: whose it is (a hospital's name, or "coordinator"), and what."""

    pid: int
    owner: str
    role: str


class Deployment:
    """Everything that runs, for campaigns like `scene`; made in the folder `root`, ended with `stop`."""

    def __init__(self, root: Path, scene: Scene) -> None:
        fleet_port, *ports = free_ports(1 + len(NAMES))
        self.root, self.scene, self.mark = root, scene, secrets.token_hex(16)
        self.ports = dict(zip(NAMES, ports, strict=True))
        self.relays = {name: Relay(fleet_port) for name in NAMES}
        at = f"127.0.0.1:{fleet_port}"
        self.coordinator = Coordinator.create(root / COORDINATOR, name="chaos", address=at, listen=at)
        for folder in scene.sites(root / "sites", "basic", approval=True):
            dialled = {**self.coordinator.invitation, "address": f"127.0.0.1:{self.relays[folder.name].port}"}
            self.coordinator.admit(folder.name, node.join(Site(folder), dialled))
        self.homes = {str((self.coordinator.folder / LINK / "home").resolve()): COORDINATOR}
        self.homes |= {str((root / "sites" / name / node.FOLDER / "home").resolve()): name for name in NAMES}
        self.running: dict[str, subprocess.Popen[bytes]] = {}

    def begin(self, scene: Scene, composition: str) -> None:
        """Propose a campaign, approve it at every hospital under such an account, and start the hospitals that rest."""
        proposal = self.coordinator.propose(scene.campaign(self.root / "unused"))
        for name in NAMES:
            path = self.root / "sites" / name / SITE_FILE
            told = yaml.safe_load(path.read_text(encoding="utf-8"))
            told["policy"]["account"]["composition"] = composition
            durable.write(path, yaml.safe_dump(told, sort_keys=False, allow_unicode=True).encode())
            site = Site(path.parent)
            approval.approve(site, proposal)
            for run in approval.given(site):
                if run != scene.run:
                    approval.withdraw(site, run)
            if name not in self.running:
                self.start(name)

    def start(self, name: str) -> None:
        """Start a hospital, or the coordinator."""
        words = ["-c", PROGRAM, "site", "run", str(self.root / "sites" / name), "--port", str(self.ports.get(name, 0))]
        if name == COORDINATOR:
            words = ["-m", "tests.conductor", str(self.coordinator.folder)]
        with (self.root / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [sys.executable, *words], env={**os.environ, MARK: self.mark, "OMP_NUM_THREADS": "1"},
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip

    def ended(self) -> str:
        """Return how the coordinator's process ended, "" while it runs."""
        code = self.running[COORDINATOR].poll()
        said = self.coordinator.folder / "said"
        if code is None:
            return ""
        if code < 0:
            return "killed" if code == -signal.SIGKILL else f"broken: signal {-code}"
        if code == FINISHED:
            return "finished"
        return f"{'refused' if code == REFUSED else 'broken'}: {said.read_text() if said.exists() else code}"

    def joined(self) -> bool:
        """Say whether sites have joined the campaign that runs, so that no other has a part in it."""
        return (self.coordinator.folder / OUT / "campaign" / "01-reserve" / DONE).exists()

    def alive(self) -> list[Process]:
        """Return the processes of Flower's that live, the older first."""
        found = []
        for pid in sorted(marked(MARK, self.mark)):
            with contextlib.suppress(OSError):
                told = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
                home = next((part.partition(b"=")[2].decode() for part in told if part.startswith(b"FLWR_HOME=")), "")
                words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace")
                role = next((role for word, role in ROLES.items() if word in words), "")
                if home in self.homes:
                    found.append(Process(pid=pid, owner=self.homes[home], role=role))
        return found

    def kill(self, name: str) -> bool:
        """Let the power of a hospital or of the coordinator fail; returns whether anything of it lived."""
        hit = _killed(self.running[name].pid) if self.running[name].poll() is None else False
        self.running[name].wait()
        for _ in range(3):  # one may just have begun another
            hit |= sum(_killed(p.pid) for p in self.alive() if p.owner == name) > 0
        return hit

    def settle(self) -> list[str]:
        """Wait until no hospital works any more; returns what is still there of the coordinator, or works on."""
        deadline = time.monotonic() + SETTLE_SECONDS
        quiet = time.monotonic()
        while time.monotonic() - quiet < QUIET_SECONDS:
            busy = [p for p in self.alive() if p.owner == COORDINATOR or p.role == "ClientApp"]
            if busy and time.monotonic() > deadline:
                return [f"{p.role or 'a process'} of {p.owner} was left behind" for p in busy]
            quiet = time.monotonic() if busy else quiet
            time.sleep(0.5)
        return []

    def collect(self, folder: Path) -> None:
        """Move what the campaign left into `folder`, so that the next one finds hospitals that were never asked."""
        if (self.coordinator.folder / OUT).exists():
            shutil.move(self.coordinator.folder / OUT, folder / "out")
        for name in NAMES:
            site = self.root / "sites" / name
            shutil.copytree(site, folder / "sites" / name, ignore=shutil.ignore_patterns(node.FOLDER))
            for path in site.iterdir():
                if path.name not in KEPT:
                    shutil.rmtree(path) if path.is_dir() else path.unlink()

    def stop(self) -> list[str]:
        """Press Ctrl-C everywhere; returns what was left behind, and ends that, too."""
        for process in self.running.values():
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
        deadline = time.monotonic() + STOP_SECONDS
        for process in self.running.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
        left = [f"{p.role or 'a process'} of {p.owner} was left behind" for p in self.alive()]
        for pid in marked(MARK, self.mark):
            _killed(pid)
        for process in self.running.values():
            process.wait()
        for relay in self.relays.values():
            relay.close()
        return left


def _killed(pid: int) -> bool:
    try:
        os.kill(pid, signal.SIGKILL)
    except ProcessLookupError:
        return False
    return True
