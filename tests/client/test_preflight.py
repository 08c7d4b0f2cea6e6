"""Everything that would keep a site from taking part is found at once, and each says what to do."""

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from client import node
from client.preflight import Check, look
from client.site import Site
from server import pki
from tests.hospitals import hospital


def found(site: Site) -> dict[str, Check]:
    return {check.what: check for check in look(site.folder)}


@contextmanager
def coordinator(tmp_path: Path, answer: bytes) -> Iterator[dict[str, str]]:
    """Answer one TLS caller on loopback, as a coordinator would or would not."""
    key, authority = pki.authority("test")
    server_key, server = pki.server(key, authority, ["127.0.0.1"])
    (tmp_path / "s.pem").write_bytes(server)
    (tmp_path / "s.key").write_bytes(server_key)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(tmp_path / "s.pem", tmp_path / "s.key")
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            try:
                plain, _ = listening.accept()
                with context.wrap_socket(plain, server_side=True) as secured:
                    secured.recv(4096)
                    secured.sendall(answer)
            except OSError:
                return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        yield {"address": address, "public_key": "ab" * 32, "authority": authority.decode()}
    thread.join(5)


def test_a_site_that_has_joined_nobody_hears_so_and_everything_else_too(tmp_path: Path) -> None:
    site = hospital(tmp_path, approval=True)
    (site.folder / "secrets" / "split.key").chmod(0o644)
    checks = found(site)
    bad = {what for what, check in checks.items() if not check.ok}
    assert {"secrets", "coordinator", "way", "approval"} <= bad
    assert checks["studies"].ok
    assert all(check.remedy for what, check in checks.items() if what in bad)


def test_a_coordinator_that_shows_only_its_fleet_is_reached(tmp_path: Path) -> None:
    site = hospital(tmp_path)
    with coordinator(tmp_path, b"HTTP/1.1 404 Not Found\r\n\r\n") as invitation:
        node.join(site, invitation)
        check = found(site)["way"]
    assert check.ok
    assert "reached over TLSv1." in check.words


def test_a_coordinator_that_shows_sites_its_control_interface_is_not_joined(tmp_path: Path) -> None:
    site = hospital(tmp_path)
    with coordinator(tmp_path, b"HTTP/1.1 200 OK\r\n\r\n") as invitation:
        node.join(site, invitation)
        assert "more than its fleet interface" in found(site)["way"].words


@pytest.mark.parametrize(("address", "words"), [("127.0.0.1:1", "may not be running"), ("no.invalid:1", "no address")])
def test_a_coordinator_that_is_not_there_is_told_from_one_that_is_not_known(
    tmp_path: Path, address: str, words: str
) -> None:
    site = hospital(tmp_path)
    node.join(site, {"address": address, "public_key": "ab" * 32, "authority": pki.authority("test")[1].decode()})
    assert words in found(site)["way"].words


def test_clocks_that_differ_are_noticed(tmp_path: Path) -> None:
    site = hospital(tmp_path)
    with coordinator(tmp_path, b"HTTP/1.1 404 X\r\nDate: Tue, 01 Jan 2030 00:00:00 GMT\r\n\r\n") as invitation:
        node.join(site, invitation)
        assert "clocks differ" in found(site)["way"].words


def test_another_authority_than_that_of_the_invitation_is_not_trusted(tmp_path: Path) -> None:
    site = hospital(tmp_path)
    with coordinator(tmp_path, b"HTTP/1.1 404 Not Found\r\n\r\n") as invitation:
        node.join(site, {**invitation, "authority": pki.authority("stranger")[1].decode()})
        check = found(site)["way"]
    assert not check.ok
    assert "certificate" in check.words.lower()


def test_a_folder_that_is_no_site_is_said_to_be_none(tmp_path: Path) -> None:
    (check,) = look(tmp_path)
    assert not check.ok
    assert "site.yaml" in check.words


def test_a_site_joins_one_coordinator_and_keeps_its_node_key(tmp_path: Path) -> None:
    site = hospital(tmp_path)
    invitation = {"address": "a:1", "public_key": "ab" * 32, "authority": pki.authority("test")[1].decode()}
    first = node.join(site, invitation)
    assert node.join(site, invitation) == first
    assert first.startswith("ecdsa-sha2-nistp384 ")
    assert (site.folder / "node" / node.KEY).stat().st_mode & 0o077 == 0
    with pytest.raises(ValueError, match="joined another"):
        node.join(site, {**invitation, "public_key": "cd" * 32})
    assert node.join(site, {**invitation, "address": "b:1"}) == first  # the same coordinator has moved
    assert node.Coordinator.read(site).address == "b:1"
    with pytest.raises(ValueError, match="not an invitation"):
        node.join(site, {"address": "a:1"})
    with pytest.raises(ValueError, match="its authority is no certificate"):
        node.join(site, {**invitation, "authority": "x"})


def test_an_invitation_that_is_too_old_is_not_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    site = hospital(tmp_path)
    monkeypatch.setattr(pki, "AUTHORITY_DAYS", 0)
    invitation = {"address": "a:1", "public_key": "ab" * 32, "authority": pki.authority("test")[1].decode()}
    with pytest.raises(ValueError, match="the invitation is too old"):
        node.join(site, invitation)
    assert not (site.folder / node.FOLDER).exists()


def test_a_node_is_not_started_where_nothing_was_approved(tmp_path: Path) -> None:
    with pytest.raises(node.NotReady, match="approved nothing"):
        node.approved_bundle(hospital(tmp_path, approval=True))


def test_a_site_that_left_keeps_its_account_and_joins_with_another_key(tmp_path: Path) -> None:
    site = hospital(tmp_path)
    invitation = {"address": "a:1", "public_key": "ab" * 32, "authority": pki.authority("test")[1].decode()}
    first = node.join(site, invitation)
    with node.alone(site), pytest.raises(node.NotReady, match="running already"):
        node.leave(site)
    node.leave(site)
    assert not (site.folder / "node" / node.KEY).exists()
    assert (site.folder / "secrets" / "signing.pem").exists()
    assert node.join(site, {**invitation, "public_key": "cd" * 32}) != first


def test_a_node_reads_the_priors_that_are_installed_since_its_bundle_has_none(tmp_path: Path) -> None:
    told = node.environment(hospital(tmp_path), threads=1)
    assert (Path(told["PERICARD_PRIORS"]) / "view_classifier.safetensors").is_file()
