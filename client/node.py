"""A hospital's SuperNode: Flower's own, told one coordinator, one certificate, one key and one reviewed bundle.

It keeps everything of Flower's under `site/node/`: an own home whose read-only `apps` folder holds the reviewed bundle,
and an own `flwr-clientapp` that runs what was reviewed and nothing else a coordinator sends (`client.only_reviewed`); a
runtime interface on loopback that only an own SuperExec, who knows a fresh secret, may take work from; no telemetry, no
update checks, no packages from the network.

Errors: `NotReady`, a `ValueError` that says what is missing.
"""

import contextlib
import hashlib
import json
import os
import secrets
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from client import approval, ending, only_reviewed
from client.site import Site
from evaluation import orphans
from evaluation.reviewed import OFFLINE, build_bundle, install_bundle, programs, unlock
from learning import durable

FOLDER, KEY, AUTHORITY, JOINED = "node", "node.key", "ca.crt", "coordinator.yaml"
PROCESSES = "processes.json"
NODE = "flower-supernode"
GRACE_SECONDS = 8.0


class NotReady(ValueError):
    """The node cannot be started yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Coordinator:
    """Whom this site joined.

    Attributes:
        address: host:port of the fleet interface.
        public_key: of the coordinator's signatures, hexadecimal.
        authority: certificate of the authority, PEM.
    """

    address: str
    public_key: str
    authority: str

    @staticmethod
    def read(site: Site) -> "Coordinator":
        """Return whom `site` joined; raises `NotReady`."""
        path = site.folder / FOLDER / JOINED
        if not path.is_file():
            raise NotReady(f"{path} is missing: this site has joined no coordinator")
        try:
            return Coordinator(**yaml.safe_load(path.read_text(encoding="utf-8")))
        except (TypeError, yaml.YAMLError) as error:
            raise NotReady(f"{path} is no invitation: {error}") from error


def join(site: Site, invitation: Mapping[str, Any]) -> str:
    """Join a coordinator, or take its renewed invitation; returns the public key of the node, which it registers.

    Raises:
        ValueError: if the invitation is malformed or too old, or this site has joined another coordinator.
    """
    try:
        asked = Coordinator(**invitation)
    except TypeError as error:
        raise ValueError(f"not an invitation: {error}") from error
    try:
        until = x509.load_pem_x509_certificate(asked.authority.encode()).not_valid_after_utc
    except ValueError as error:
        raise ValueError("not an invitation: its authority is no certificate") from error
    if until < datetime.now(UTC):
        raise ValueError(f"the invitation is too old: the certificate of its authority expired on {until:%Y-%m-%d}")
    folder = site.folder / FOLDER
    folder.mkdir(exist_ok=True, mode=0o700)
    if (folder / JOINED).exists() and Coordinator.read(site).public_key != asked.public_key:
        raise ValueError(f"{folder} has joined another coordinator; a site joins one")
    if not (folder / KEY).exists():
        key = ec.generate_private_key(ec.SECP384R1())
        raw = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
        )
        durable.write(folder / KEY, raw)
    durable.write(folder / AUTHORITY, asked.authority.encode())
    durable.write(folder / JOINED, yaml.safe_dump(dict(invitation), sort_keys=True).encode())
    return public_key(site)


def leave(site: Site) -> None:
    """Forget the coordinator and destroy the key of the node; account, keys of the site, answers and log stay.

    Raises:
        NotReady: while the node of this site runs.
    """
    with alone(site):
        unlock(site.folder / FOLDER / "home")
        shutil.rmtree(site.folder / FOLDER / "home", ignore_errors=True)
        for name in (KEY, JOINED, AUTHORITY):
            (site.folder / FOLDER / name).unlink(missing_ok=True)


@contextlib.contextmanager
def alone(site: Site) -> Iterator[None]:
    """Hold the node of this site, and end what a killed one left; raises `NotReady` where another process holds it."""
    folder = site.folder / FOLDER
    folder.mkdir(exist_ok=True, mode=0o700)
    with contextlib.ExitStack() as held:
        try:
            held.enter_context(orphans.alone(folder, folder / "home"))
        except orphans.InUse as error:
            raise NotReady(f"the node of {site.folder} is running already") from error
        yield


def public_key(site: Site) -> str:
    """Return the public key of the node in OpenSSH's form."""
    key = serialization.load_ssh_private_key((site.folder / FOLDER / KEY).read_bytes(), password=None)
    public = key.public_key().public_bytes(serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return f"{public.decode()} {site.name}"


def install(site: Site, digest: str) -> None:
    """Put the bundle of the code that is installed here where Flower looks for it, read-only.

    Raises:
        NotReady: if that is not the bundle that was approved.
    """
    bundle = build_bundle()
    if (found := hashlib.sha256(bundle).hexdigest()) != digest:
        raise NotReady(f"the installed code makes bundle {found[:12]}…, approved is {digest[:12]}…")
    install_bundle(bundle, site.folder / FOLDER / "home")
    _write_programs(site, digest)


def _write_programs(site: Site, digest: str) -> None:
    """Write what is found in the place of Flower's programs: a ClientApp of one bundle, a SuperNode that can end."""
    folder = site.folder / FOLDER / "home" / "bin"
    folder.mkdir(mode=0o700)
    told = {only_reviewed.BUNDLE: digest, only_reviewed.VERSION: version("pericard")}
    _write_program(folder / "flwr-clientapp", [str(Path(only_reviewed.__file__).resolve())], told)
    write_supernode(folder)
    folder.chmod(0o500)


def write_supernode(folder: Path) -> None:
    """Write the SuperNode that can end and drops no answer into `folder`, which comes first in `environment`'s PATH."""
    _write_program(folder / NODE, [str(Path(ending.__file__).resolve()), NODE], {})


def _write_program(path: Path, words: Sequence[str], environs: Mapping[str, str]) -> None:
    lines = ["#!/bin/sh", *(f"export {name}={shlex.quote(value)}" for name, value in environs.items())]
    command = shlex.join([sys.executable, "-P", *words])
    durable.write(path, "\n".join([*lines, f'exec {command} "$@"', ""]).encode())
    path.chmod(0o500)


def environment(site: Site, *, threads: int) -> dict[str, str]:
    """Return the environment of everything that belongs to the node: nothing of Flower's from outside."""
    from synthesis import priors

    home = (site.folder / FOLDER / "home").resolve()
    kept = {k: v for k, v in os.environ.items() if not k.startswith("FLWR_")}
    own = {
        "FLWR_HOME": str(home),
        "PERICARD_PRIORS": str(priors.folder().resolve()),  # bundles have no weights
        "PATH": f"{home / 'bin'}{os.pathsep}{programs()}",
        "OMP_NUM_THREADS": str(threads),
        "NO_COLOR": "1",
    }
    return kept | OFFLINE | own


def approved_bundle(site: Site) -> str:
    """Return the digest of the bundle that this site approved; raises `NotReady` if it approved none, or two."""
    runs = approval.given(site)
    found = {a.bundle_digest for a in (approval.approved(site, run) for run in runs) if a is not None}
    if not found:
        raise NotReady(f"{site.name} has approved nothing, so its node would only be sent code nobody here has seen")
    if len(found) > 1:
        raise NotReady(f"approvals name {len(found)} bundles; withdraw those of finished runs: {', '.join(runs)}")
    return found.pop()


def alive(site: Site) -> dict[str, bool]:
    """Return which processes of this site's node were started last, and whether they still run."""
    path = site.folder / FOLDER / PROCESSES
    started: dict[str, int] = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    return {name: _is(pid, name) for name, pid in started.items()}


def _is(pid: int, name: str) -> bool:
    """Say whether process `pid` runs, and is no other that has its number by now."""
    try:
        return name.encode() in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # it ended, or this system does not say
        return False


@dataclass(slots=True)
class Node:
    """The processes of a site's node."""

    commands: list[list[str]]
    folder: Path
    env: Mapping[str, str]
    processes: "list[subprocess.Popen[bytes]]" = field(default_factory=list)

    def start(self) -> None:
        """Start what does not run; the words of each go to `node/*.log`."""
        for at, command in enumerate(self.commands):
            if at < len(self.processes) and self.processes[at].poll() is None:
                continue
            with (self.folder / f"{command[0]}.log").open("ab") as log:
                begun = subprocess.Popen(
                    command, cwd=self.folder / "empty", env=dict(self.env), stdout=log, stderr=log,
                    stdin=subprocess.DEVNULL, start_new_session=True,
                )  # fmt: skip
            self.processes[at : at + 1] = [begun]
        told = {command[0]: process.pid for command, process in zip(self.commands, self.processes, strict=True)}
        durable.write(self.folder / PROCESSES, json.dumps(told).encode())

    def restart_dead(self) -> str:
        """Start again what has ended; returns its name, or nothing.

        Without its SuperExec a SuperNode begins anew, too: the ClientApp died with that, and a SuperNode takes no other
        message until the answer is there, for ever.
        """
        dead = [
            command[0] for command, process in zip(self.commands, self.processes, strict=True)
            if process.poll() is not None
        ]  # fmt: skip
        if dead and NODE not in dead:
            self.stop()
        if dead:
            self.start()
        return ", ".join(dead)

    def stop(self) -> None:
        """End all, gently at first; what a process started in its own group ends with it."""
        for number in (signal.SIGTERM, signal.SIGKILL):
            for process in reversed(self.processes):
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, number)
            for process in self.processes:
                with contextlib.suppress(subprocess.TimeoutExpired):
                    process.wait(GRACE_SECONDS)


@contextlib.contextmanager
def running(site: Site, *, port: int) -> Iterator[Node]:
    """Start this site's SuperNode, its runtime on `port` of loopback, and its SuperExec; end them on the way out."""
    coordinator, folder = Coordinator.read(site), (site.folder / FOLDER).resolve()
    secret = folder / "superexec.secret"
    durable.write(secret, secrets.token_hex(32).encode())
    (folder / "empty").mkdir(exist_ok=True)
    node = [
        NODE, "--superlink", coordinator.address, "--root-certificates", str(folder / AUTHORITY),
        "--auth-supernode-private-key", str(folder / KEY), "--host", "127.0.0.1", "--port", str(port),
        "--isolation", "process", "--superexec-auth-secret-file", str(secret),
        "--node-config", f"site={str(site.folder.resolve())!r}",
    ]  # fmt: skip
    runner = [
        "flower-superexec", "--insecure", "--runtime-api-address", f"127.0.0.1:{port}",
        "--superexec-auth-secret-file", str(secret),
    ]  # fmt: skip
    found = Node([node, runner], folder, environment(site, threads=site.file.threads))
    try:
        found.start()
        yield found
    finally:
        found.stop()
