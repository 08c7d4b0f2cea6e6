"""The two loops deployed over TLS on loopback: a SuperLink, a SuperNode for each site, every byte between them counted.

Ours as `coordinate run` and `site run` start it: registered keys, a fleet-only listener, a SuperExec with a secret
beside every SuperNode, a reviewed bundle. The stock loop as Flower's guide starts it: SuperLink and SuperNodes with
their defaults, over TLS and nothing more.
"""

import contextlib
import selectors
import socket
import subprocess
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.federation_modes import (
    began_and_ended,
    campaign,
    flower_environment,
    make_sites,
    of_tree,
    start_quickstart,
)
from benchmarks.federation_tree import watched

LOOPBACK = "127.0.0.1"
PATIENCE_SECONDS = 1800.0


def ours(root: Path, n: int) -> dict[str, Any]:
    """Run our loop over `n` sites that approved it."""
    from client import approval, node
    from client.site import Site
    from server.coordinator import Coordinator
    from server.fleet import conduct
    from server.superlink import free_ports

    fleet, *ports = free_ports(1 + n)
    with _counted(fleet) as wire, contextlib.ExitStack() as nodes:
        coordinator = Coordinator.create(
            root / "c", name="bench", address=f"{LOOPBACK}:{wire.port}", listen=f"{LOOPBACK}:{fleet}"
        )
        sites = [Site(folder) for folder in make_sites(root / "sites", n, approval=True)]
        for site in sites:
            coordinator.admit(site.name, node.join(site, coordinator.invitation))
        proposal = coordinator.propose(campaign(root / "unused", n))
        for site in sites:
            approval.approve(site, proposal)
            node.install(site, proposal.bundle_digest)
        with watched() as tree:
            first = time.time()
            alive = [nodes.enter_context(node.running(s, port=p)) for s, p in zip(sites, ports, strict=True)]

            def watch(*_: object) -> None:  # a node that comes before it was registered is sent away
                for each in alive:
                    each.restart_dead()

            conduct(coordinator, watch, patience_seconds=PATIENCE_SECONDS)
            begun, ended = began_and_ended(coordinator.folder / "out")
        return of_tree(tree, first, begun, ended) | {"bytes": wire.between(begun, ended)}


def stock(root: Path, n: int) -> dict[str, Any]:
    """Run the stock loop over `n` SuperNodes."""
    import ssl

    from server import pki
    from server.fleet import end
    from server.superlink import CONNECTION, flwr, free_ports, wait

    key, authority = pki.authority("bench")
    server_key, certificate = pki.server(key, authority, [LOOPBACK])
    for name, content in (("ca.crt", authority), ("server.pem", certificate), ("server.key", server_key)):
        (root / name).write_bytes(content)
    port, *ports = free_ports(1 + n)
    trusted = ["--root-certificates", str(root / "ca.crt")]
    link = ["flower-superlink", "--host", LOOPBACK, "--port", str(port), "--disable-runtime-dependency-installation"]
    link += ["--ssl-ca-certfile", str(root / "ca.crt"), "--ssl-certfile", str(root / "server.pem")]
    link += ["--ssl-keyfile", str(root / "server.key")]
    with contextlib.ExitStack() as stack, _counted(port) as wire, watched() as tree:
        first = time.time()

        def start(name: str, command: list[str]) -> "subprocess.Popen[bytes]":
            folder = root / name
            (folder / "empty").mkdir(parents=True)
            (folder / "home").mkdir()
            with (folder / "log").open("wb") as log:
                process = subprocess.Popen(
                    command, cwd=folder / "empty", env=flower_environment(folder / "home"), stdout=log, stderr=log,
                    stdin=subprocess.DEVNULL, start_new_session=True,
                )  # fmt: skip
            stack.callback(end, process)
            return process

        began = start("link", link)
        wait(began, port, root / "link" / "log", seconds=300, tls=ssl.create_default_context(cafile=root / "ca.crt"))
        for k, own in enumerate(ports):
            told = ["--host", LOOPBACK, "--port", str(own), "--node-config", f"partition-id={k} num-partitions={n}"]
            start(f"node-{k}", ["flower-supernode", "--superlink", f"{LOOPBACK}:{wire.port}", *trusted, *told])
        home = root / "cli"
        home.mkdir()
        (home / "config.toml").write_text(
            f'[superlink]\ndefault = "{CONNECTION}"\n\n[superlink.{CONNECTION}]\n'
            f'address = "{LOOPBACK}:{port}"\nroot-certificates = "{root / "ca.crt"}"\n'
        )
        env = flower_environment(home)
        begun, ended = start_quickstart(lambda *words: flwr(root, env, *words), root, n)
        return of_tree(tree, first, begun, ended) | {"bytes": wire.between(begun, ended)}


class _Wire:
    """A line to a port of loopback that notes when how many bytes went through it, both ways."""

    def __init__(self, to: int) -> None:
        self._to = to
        self._listener = socket.create_server((LOOPBACK, 0))
        self.port = int(self._listener.getsockname()[1])
        self._other: dict[socket.socket, socket.socket] = {}
        self._seen: list[tuple[float, int]] = []
        self._over = False

    def between(self, begun: float, ended: float) -> int:
        """Return the bytes between two times."""
        return sum(size for at, size in self._seen if begun <= at <= ended)

    def carry(self) -> None:
        """Carry until `close`."""
        with selectors.DefaultSelector() as waiting:
            waiting.register(self._listener, selectors.EVENT_READ)
            while not self._over:
                for key, _ in waiting.select(timeout=0.5):
                    if key.fileobj is self._listener:
                        self._join(waiting)
                    else:
                        self._pass(waiting, key.fileobj)  # type: ignore[arg-type]
        for one in [self._listener, *self._other]:
            one.close()

    def close(self) -> None:
        """End it."""
        self._over = True

    def _join(self, waiting: selectors.BaseSelector) -> None:
        near, _ = self._listener.accept()
        try:
            far = socket.create_connection((LOOPBACK, self._to))
        except OSError:  # nobody listens there yet
            near.close()
            return
        for one, other in ((near, far), (far, near)):
            self._other[one] = other
            waiting.register(one, selectors.EVENT_READ)

    def _pass(self, waiting: selectors.BaseSelector, one: socket.socket) -> None:
        if one not in self._other:
            return
        other = self._other[one]
        try:
            content = one.recv(1 << 16)
            other.sendall(content)
        except OSError:
            content = b""
        if content:
            self._seen.append((time.time(), len(content)))
            return
        for each in (one, other):
            waiting.unregister(each)
            del self._other[each]
            each.close()


@contextlib.contextmanager
def _counted(to: int) -> Iterator[_Wire]:
    wire = _Wire(to)
    thread = threading.Thread(target=wire.carry, daemon=True)
    thread.start()
    try:
        yield wire
    finally:
        wire.close()
        thread.join()
