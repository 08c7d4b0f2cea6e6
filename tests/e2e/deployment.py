"""A deployment on one machine: the real programs, a line that is listened to, and hospitals on networks of their own.

Where the machine lets us (root, iproute2), every hospital lives in a network namespace whose only neighbour is the
relay, so its node can reach the fleet interface and nothing else of the coordinator; elsewhere all share loopback.
"""

import contextlib
import os
import secrets
import signal
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path

from evaluation.orphans import marked
from server.superlink import MARK, free_ports
from tests.e2e.line import Planted, Relay

PROGRAM = "import sys; from pericard.cli import run; sys.exit(run(sys.argv[1:]))"
SITES = ("aurora", "borealis", "corvus")
ASKED = ("experiment=smoke", "assess.federated=false", "train_generator.exchanges=1")  # the least that is a campaign
STOP_SECONDS = 60.0
Ended = subprocess.CompletedProcess[str]


@dataclass(frozen=True, slots=True)
class Networks:
    """Where the relay listens, and what stands before a command so that it runs in the network of a hospital."""

    host: str = "127.0.0.1"
    inside: dict[str, list[str]] = field(default_factory=dict)

    def of(self, name: str) -> list[str]:
        """Return the words before a command of the hospital `name`."""
        return self.inside.get(name, [])


@contextlib.contextmanager
def networks(names: Sequence[str]) -> Iterator[Networks]:
    """Give every hospital a namespace behind one bridge, or loopback where that cannot be had."""
    mark = secrets.token_hex(3)
    bridge, net = f"pb{mark}", f"198.18.{secrets.randbelow(254) + 1}"  # of RFC 2544, for tests of networks
    made: list[list[str]] = []
    try:
        _ip("link", "add", bridge, "type", "bridge")
        made.append(["link", "del", bridge])
        _ip("addr", "add", f"{net}.1/24", "dev", bridge)
        _ip("link", "set", bridge, "up")
        inside = {}
        for k, name in enumerate(names, 2):
            space, near, far = f"pericard-{mark}-{k}", f"pn{mark}{k}", f"pf{mark}{k}"
            _ip("netns", "add", space)
            made.append(["netns", "del", space])
            _ip("link", "add", near, "type", "veth", "peer", "name", far)
            made.append(["link", "del", near])
            _ip("link", "set", far, "netns", space)
            _ip("link", "set", near, "master", bridge, "up")
            _ip("-n", space, "link", "set", "lo", "up")
            _ip("-n", space, "addr", "add", f"{net}.{k}/24", "dev", far)
            _ip("-n", space, "link", "set", far, "up")
            inside[name] = ["ip", "netns", "exec", space]
        found = Networks(f"{net}.1", inside)
    except (OSError, subprocess.CalledProcessError):  # no root, no iproute2, no bridges
        found = Networks()
    try:
        yield found
    finally:
        for words in reversed(made):
            subprocess.run(["ip", *words], capture_output=True, check=False)


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], capture_output=True, check=True)


@dataclass(slots=True)
class Programs:
    """The command line, as people would call it, each call a process of its own; none outlives the test."""

    root: Path
    mark: str = field(default_factory=lambda: secrets.token_hex(16))
    running: "dict[str, subprocess.Popen[bytes]]" = field(default_factory=dict)

    def pericard(self, *words: object) -> Ended:
        """Run `pericard WORDS` to its end."""
        return subprocess.run(
            [sys.executable, "-c", PROGRAM, *map(str, words)],
            cwd=self.root, env=self._env(), capture_output=True, text=True, check=False, start_new_session=True,
        )  # fmt: skip

    def must(self, *words: object) -> str:
        """Run `pericard WORDS`, which must end well; returns what it says."""
        done = self.pericard(*words)
        assert done.returncode == 0, f"pericard {' '.join(map(str, words))}: {done.stdout}{done.stderr}"
        return done.stdout

    def start(self, name: str, *words: object, inside: Sequence[str] = ()) -> None:
        """Start `pericard WORDS` and let it run; its words go to `NAME.log`."""
        with (self.root / f"{name}.log").open("ab") as log:
            self.running[name] = subprocess.Popen(
                [*inside, sys.executable, "-c", PROGRAM, *map(str, words)], cwd=self.root, env=self._env(),
                stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True,
            )  # fmt: skip

    def log(self, name: str) -> str:
        """Return what `name` said."""
        return (self.root / f"{name}.log").read_text(encoding="utf-8", errors="replace")

    def stop(self) -> None:
        """End all, gently; whatever is still there after a minute is killed."""
        for process in self.running.values():
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGTERM)
        deadline = time.monotonic() + STOP_SECONDS
        for process in self.running.values():
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
        for pid in marked(MARK, self.mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        for process in self.running.values():
            process.wait()
        self.running.clear()

    def _env(self) -> dict[str, str]:
        return {**os.environ, MARK: self.mark, "OMP_NUM_THREADS": "1"}


@dataclass(frozen=True, kw_only=True)
class Deployment:
    """Three hospitals and a coordinator whose campaign was run.

    Attributes:
        root: holds `coordinator/`, a folder a hospital, `records/` and what every program said, `*.log`.
        line: what whoever taps the line hears.
        opened: the same, heard by one who has the coordinator's key.
        planted: what must not leave, hospital by hospital.
        verdict: exit code of `coordinate run`.
        early: how `site run` ended at a hospital that had approved nothing yet.
    """

    root: Path
    programs: Programs
    networks: Networks
    line: Relay
    opened: Relay
    planted: dict[str, Planted]
    verdict: int
    early: Ended

    @property
    def out(self) -> Path:
        """What came of the campaign."""
        return self.root / "coordinator" / "out"

    def start(self, name: str) -> None:
        """Start the node of a hospital, in its network."""
        _start(self.programs, self.networks, name)


@contextlib.contextmanager
def deployed(root: Path, records: Callable[[Path, int], Planted], *asked: str) -> Iterator[Deployment]:
    """Run a whole campaign with the command line; the line stays open until the way out.

    Args:
        root: an empty folder.
        records: writes the studies of hospital 0, 1 or 2 into a folder, and returns what it planted there.
        asked: overrides of the experiment that is proposed.
    """
    programs = Programs(root)
    with contextlib.ExitStack() as held:
        nets = held.enter_context(networks(SITES))
        (fleet,) = free_ports(1)
        line = Relay(nets.host)
        held.callback(line.close)
        held.callback(programs.stop)
        dialled = f"{nets.host}:{line.port}"
        programs.must("coordinate", "init", "coordinator", "--address", dialled, "--listen", f"127.0.0.1:{fleet}")
        opened = _opened(root / "coordinator")
        held.callback(opened.close)
        line.target, opened.target = opened.port, fleet
        planted = {name: records(root / "records" / name, k) for k, name in enumerate(SITES)}
        everywhere(lambda name: _join(programs, name))
        programs.must("coordinate", "propose", "coordinator", *asked)
        early = programs.pericard("site", "run", SITES[-1])
        everywhere(lambda name: programs.must("site", "approve", name, "coordinator/proposal.json", "--yes"))
        for name in SITES:
            _start(programs, nets, name)
        programs.start("coordinate", "coordinate", "run", "coordinator", "--patience", "0.5")
        verdict = programs.running["coordinate"].wait()
        programs.stop()
        yield Deployment(
            root=root, programs=programs, networks=nets, line=line, opened=opened, planted=planted, verdict=verdict,
            early=early,
        )  # fmt: skip


def everywhere(do: Callable[[str], object]) -> None:
    """Let every hospital do something, all at once."""
    with ThreadPoolExecutor() as pool:
        list(pool.map(do, SITES))


def _join(programs: Programs, name: str) -> None:
    told = ["--name", name, "--root", f"records/{name}", "--invitation", "coordinator/invitation.yaml"]
    programs.must("site", "init", name, *told)
    programs.must("coordinate", "admit", "coordinator", name, f"{name}/node.pub")


def _start(programs: Programs, nets: Networks, name: str) -> None:
    (port,) = free_ports(1)
    programs.start(name, "site", "run", name, "--port", port, inside=nets.of(name))


def _opened(coordinator: Path) -> Relay:
    """Return a relay that has the coordinator's own certificate and key, as whoever took them from it would."""
    near = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    near.load_cert_chain(coordinator / "certs" / "server.pem", coordinator / "secrets" / "server.key")
    return Relay("127.0.0.1", near=near, far=ssl.create_default_context(cafile=coordinator / "certs" / "ca.crt"))
