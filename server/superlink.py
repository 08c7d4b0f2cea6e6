"""A SuperLink of our own on loopback: started for one run, asked by Flower's command line, ended with its children."""

import contextlib
import http.client
import itertools
import json
import os
import secrets
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from evaluation.orphans import marked

CONNECTION = "pericard"
MARK = "PERICARD_SIMULATION"
START_SECONDS, GRACE_SECONDS, ANSWER_SECONDS = 60.0, 5.0, 10.0
LOG_LINES = 40
PORTS, PORT_BLOCK = range(16384, 32768), 256  # Linux gives away ports from 32768, most others from 49152


class SimulationFailed(RuntimeError):
    """The run did not end as completed; holds the end of the log."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SuperLink:
    """A running SuperLink.

    Attributes:
        root: a folder of its own: `home/`, `empty/`, `superlink.log`.
        env: the environment of everything that belongs to it.
    """

    root: Path
    env: Mapping[str, str]

    def flwr(self, *arguments: str) -> dict[str, Any]:
        """Run Flower's command line and return the JSON it prints; raises `SimulationFailed` with its words."""
        return flwr(self.root, self.env, *arguments)

    def log(self) -> str:
        """Return the end of the log."""
        return end_of(self.root / "superlink.log")


def flwr(folder: Path, env: Mapping[str, str], *arguments: str) -> dict[str, Any]:
    """Run Flower's command line in `folder` and return the JSON it prints; raises `SimulationFailed` with its words."""
    done = subprocess.run(
        ["flwr", *arguments, "--format", "json"],
        env=dict(env), cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    try:
        answer: dict[str, Any] = json.loads(done.stdout[done.stdout.index("{") :])
    except ValueError as error:
        raise SimulationFailed(f"flwr {arguments[0]} failed\n{(done.stdout + done.stderr).strip()[-2000:]}") from error
    if not answer.get("success"):
        raise SimulationFailed(f"flwr {arguments[0]} failed\n{answer.get('error-message', answer)}")
    return answer


@contextlib.contextmanager
def superlink(root: Path, env: Mapping[str, str]) -> Iterator[SuperLink]:
    """Start a SuperLink for simulations in the folder `root`, and end it and its children on the way out.

    `env` must set FLWR_HOME to `root / "home"` and hold the programs of this Python in PATH.

    Raises:
        SimulationFailed: if it does not answer in a minute.
    """
    mark = secrets.token_hex(16)
    link = SuperLink(root=root, env={**env, MARK: mark})
    for folder in ("home", "empty"):
        (root / folder).mkdir()
    port, control = free_ports(2)
    (root / "home" / "config.toml").write_text(
        f'[superlink]\ndefault = "{CONNECTION}"\n\n[superlink.{CONNECTION}]\n'
        f'address = "127.0.0.1:{port}"\ninsecure = true\n'
    )
    command = ["flower-superlink", "--insecure", "--simulation", "--isolation", "subprocess", "--host", "127.0.0.1"]
    command += ["--port", str(port), "--control-api-address", f"127.0.0.1:{control}"]
    command += ["--disable-runtime-dependency-installation"]
    with (root / "superlink.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=root / "empty", env=dict(link.env), stdout=log, stderr=log, start_new_session=True
        )
    try:
        wait(process, port, root / "superlink.log", seconds=START_SECONDS)
        yield link
    finally:
        _end(process, mark)


def wait(
    process: "subprocess.Popen[bytes]", port: int, log: Path, *, seconds: float, tls: ssl.SSLContext | None = None
) -> None:
    """Wait until the SuperLink on `port` of loopback is well; raises `SimulationFailed` with the end of its log."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError, http.client.HTTPException):
            way = (
                http.client.HTTPConnection("127.0.0.1", port, timeout=ANSWER_SECONDS)
                if tls is None
                else http.client.HTTPSConnection("127.0.0.1", port, timeout=ANSWER_SECONDS, context=tls)
            )
            with contextlib.closing(way):
                way.request("GET", "/health")
                if way.getresponse().status == 200:
                    return
        time.sleep(0.2)
    raise SimulationFailed(f"the SuperLink did not start\nIts log ends:\n{end_of(log)}")


def end_of(log: Path) -> str:
    """Return the last lines of a log, if there is one."""
    lines = log.read_text(encoding="utf-8", errors="replace").splitlines() if log.exists() else []
    return "\n".join(lines[-LOG_LINES:])


def _end(process: "subprocess.Popen[bytes]", mark: str) -> None:
    """End the SuperLink's process group, and by its mark whatever left that group: Ray's daemons do."""
    for number in (signal.SIGTERM, signal.SIGKILL):
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, number)
        for pid in marked(MARK, mark):
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, number)
        deadline = time.monotonic() + GRACE_SECONDS
        while time.monotonic() < deadline and (process.poll() is None or marked(MARK, mark)):
            time.sleep(0.1)
    process.wait()


def free_ports(n: int) -> list[int]:
    """Return `n` free ports of loopback, none of which this process was told of shortly before.

    They lie below those that a kernel gives to whoever asks for any, so that nobody is given one before it is bound,
    and every process begins to look in a block of its own.

    Raises:
        OSError: there are no `n`.
    """
    found: list[int] = []
    for port in itertools.islice(_ports(os.getpid()), len(PORTS)):
        with socket.socket() as each, contextlib.suppress(OSError):
            each.bind(("127.0.0.1", port))
            found.append(port)
        if len(found) == n:
            return found
    raise OSError(f"{len(found)} of {n} ports are free from {PORTS[0]} to {PORTS[-1]}")


@lru_cache
def _ports(process: int) -> Iterator[int]:
    first = process * PORT_BLOCK % len(PORTS)
    return itertools.cycle([*PORTS[first:], *PORTS[:first]])
