"""What faces the sites is the fleet interface and nothing else; keys and certificates are what they must be."""

import asyncio
import contextlib
import ssl
from collections.abc import MutableMapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from hypothesis import given
from hypothesis import strategies as st

from server import pki
from server.link import FLEET, FleetOnly


async def _behind(scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})


def status(path: str, kind: str = "http") -> int:
    sent: list[MutableMapping[str, Any]] = []

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    async def receive() -> MutableMapping[str, Any]:
        return {}

    asyncio.run(FleetOnly(_behind)({"type": kind, "path": path}, receive, send))
    return int(sent[0].get("status", 0))


def test_the_fleet_interface_is_passed_on() -> None:
    assert status(f"{FLEET}pull-messages") == 200


@pytest.mark.parametrize(
    "path",
    [
        "/", "/health", "/docs", "/openapi.json", "/v1/control/start-run", "/v1/runtime/acquire-task", "/v1/fleet",
        "/v1/fleet/../control/start-run", "/v1/fleet//../control", "/v1/fleet/%2e%2e/control", "//v1/fleet/x",
        "/V1/FLEET/x", "/v1/fleet/\\..\\control", "/v1/fleet/./../control", "/v1/fleet/é",
    ],
)  # fmt: skip
def test_every_other_path_does_not_exist(path: str) -> None:
    assert status(path) == 404


def test_a_websocket_is_closed() -> None:
    assert status(f"{FLEET}x", kind="websocket") == 0


@given(st.text(max_size=60))
def test_no_path_outside_gets_through(path: str) -> None:
    assert status(path) == (200 if path.startswith(FLEET) and status(path) == 200 else 404)


def test_a_server_certificate_is_trusted_for_its_addresses_alone(tmp_path: Path) -> None:
    key, authority = pki.authority("test")
    server_key, server = pki.server(key, authority, ["coordinator.example", "10.0.0.7"])
    (tmp_path / "server.pem").write_bytes(server)
    (tmp_path / "server.key").write_bytes(server_key)
    ssl.create_default_context(ssl.Purpose.CLIENT_AUTH).load_cert_chain(
        tmp_path / "server.pem", tmp_path / "server.key"
    )
    read = x509.load_pem_x509_certificate(server)
    names = read.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["coordinator.example"]
    assert [str(a) for a in names.get_values_for_type(x509.IPAddress)] == ["10.0.0.7"]
    read.verify_directly_issued_by(x509.load_pem_x509_certificate(authority))
    assert read.not_valid_before_utc < datetime.now(UTC) < read.not_valid_after_utc
    assert not read.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_a_client_that_holds_to_the_letter_of_the_standard_trusts_a_server_certificate(tmp_path: Path) -> None:
    key, authority = pki.authority("test")
    server_key, server = pki.server(key, authority, ["link.example"])
    (tmp_path / "server.pem").write_bytes(server + server_key)
    asking = ssl.create_default_context(cadata=authority.decode())
    asking.verify_flags |= ssl.VERIFY_X509_STRICT
    answering = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    answering.load_cert_chain(tmp_path / "server.pem")
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = asking.wrap_bio(down, up, server_hostname="link.example"), answering.wrap_bio(up, down, server_side=True)
    for _ in range(4):
        for side in sides:
            with contextlib.suppress(ssl.SSLWantReadError):
                side.do_handshake()
    assert sides[0].version() == "TLSv1.3"


def test_a_certificate_of_another_authority_is_not_trusted() -> None:
    key, authority = pki.authority("ours")
    _, other = pki.authority("theirs")
    _, server = pki.server(key, authority, ["localhost"])
    with pytest.raises(ValueError, match=r"[Ii]ssuer"):
        x509.load_pem_x509_certificate(server).verify_directly_issued_by(x509.load_pem_x509_certificate(other))


def test_a_certificate_names_an_address() -> None:
    key, authority = pki.authority("test")
    with pytest.raises(ValueError, match="addresses is empty"):
        pki.server(key, authority, [])
