"""Fixtures for every test. `pericard` comes first: it switches telemetry, update checks and downloads off."""

import ipaddress
import os
import socket
from collections.abc import Iterator

import pytest
from xdist.scheduler import LoadFileScheduling

import pericard as _offline  # noqa: F401  (imported for its switches, before any library reads them)

os.environ.setdefault("OMP_NUM_THREADS", "1")  # equal threads, equal bits; of two processes (pytest-xdist)


class OneDeployment(LoadFileScheduling):  # type: ignore[misc]
    """A file to a process, but all deployments to one: each is many processes, and `story` serves several files."""

    def _split_scope(self, nodeid: str) -> str:
        file = str(super()._split_scope(nodeid))
        return "tests/e2e" if file.startswith("tests/e2e/") else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> OneDeployment:
    return OneDeployment(config, log)


def _is_loopback(address: object) -> bool:
    if isinstance(address, (str, bytes)):  # a Unix socket
        return True
    host = address[0] if isinstance(address, tuple) and address else ""
    if host in {"", "localhost"}:
        return True
    try:
        return ipaddress.ip_address(str(host).split("%", 1)[0]).is_loopback
    except ValueError:
        return False


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[object]]:
    """Refuse every connection, datagram and name look-up that leaves this machine; yield the list of what was tried."""
    tried: list[object] = []
    connect, connect_ex, sendto = socket.socket.connect, socket.socket.connect_ex, socket.socket.sendto
    getaddrinfo = socket.getaddrinfo

    def refuse(address: object) -> None:
        if not _is_loopback(address):
            tried.append(address)
            raise PermissionError(f"a test without network tried to reach {address!r}")

    def guarded_connect(self: socket.socket, address: object) -> None:
        refuse(address)
        connect(self, address)  # type: ignore[arg-type]

    def guarded_connect_ex(self: socket.socket, address: object) -> int:
        refuse(address)
        return connect_ex(self, address)  # type: ignore[arg-type]

    def guarded_sendto(self: socket.socket, data: bytes, *rest: object) -> int:
        refuse(rest[-1])
        return sendto(self, data, *rest)  # type: ignore[arg-type, return-value, call-overload, no-any-return]

    def guarded_getaddrinfo(host: object, *args: object, **kwargs: object) -> object:
        refuse((host.decode() if isinstance(host, bytes) else host or "", 0))
        return getaddrinfo(host, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(socket.socket, "connect", guarded_connect)
    monkeypatch.setattr(socket.socket, "connect_ex", guarded_connect_ex)
    monkeypatch.setattr(socket.socket, "sendto", guarded_sendto)
    monkeypatch.setattr(socket, "getaddrinfo", guarded_getaddrinfo)
    yield tried
    assert not tried, f"the code under test tried to leave this machine: {tried}"
