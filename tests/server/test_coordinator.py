"""A coordinator's folder: made once, admits each key once, proposes one campaign, and signs it."""

import stat
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from client import node
from client.site import Site
from server import pki
from server.campaign import Campaign
from server.coordinator import Certified, Coordinator
from tests.hospitals import campaign, hospital


@pytest.fixture
def made(tmp_path: Path) -> Coordinator:
    return Coordinator.create(tmp_path / "c", name="test", address="127.0.0.1:9092")


def _key(site: Site, made: Coordinator) -> str:
    return node.join(site, made.invitation)


def test_its_secrets_are_readable_by_their_owner_only(made: Coordinator) -> None:
    for path in (made.folder / "secrets").iterdir():
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0
    assert "PRIVATE" not in str(made.invitation)


def test_it_is_made_once(made: Coordinator) -> None:
    with pytest.raises(ValueError, match="not made anew"):
        Coordinator.create(made.folder, name="test", address="127.0.0.1:9092")
    assert Coordinator.open(made.folder) == made


@pytest.mark.parametrize("address", ["", "host", "host:0", "host:65536", ":1", "host:x"])
def test_an_address_is_host_and_port(tmp_path: Path, address: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        Coordinator.create(tmp_path, name="test", address=address)


def test_a_key_is_admitted_under_one_name(made: Coordinator, tmp_path: Path) -> None:
    first, second = (_key(hospital(tmp_path / n, n), made) for n in ("aurora", "borealis"))
    made.admit("aurora", first)
    made.admit("aurora", first)
    with pytest.raises(ValueError, match="with this key already"):
        made.admit("borealis", first)
    with pytest.raises(ValueError, match="with another key already"):
        made.admit("aurora", second)
    with pytest.raises(ValueError, match="must match"):
        made.admit("../aurora", second)
    with pytest.raises(ValueError, match="no public key"):
        made.admit("borealis", "hello")
    assert list(made.sites) == ["aurora"]


def own(tmp_path: Path, name: str, addresses: list[str]) -> Certified:
    """Write the files of an authority that a hospital had before."""
    folder = tmp_path / name
    folder.mkdir()
    key, authority = pki.authority(name)
    server_key, server = pki.server(key, authority, addresses)
    files = Certified(authority=folder / "ca.pem", certificate=folder / "server.pem", key=folder / "server.key")
    for path, raw in ((files.authority, authority), (files.certificate, server), (files.key, server_key)):
        path.write_bytes(raw)
    return files


def test_sites_are_shown_the_certificate_of_an_authority_that_was_there_before(tmp_path: Path) -> None:
    files = own(tmp_path, "ministry", ["link.example"])
    made = Coordinator.create(tmp_path / "c", name="test", address="link.example:443", own=files)
    assert made.invitation["authority"] == files.authority.read_text()
    assert made.shown.certificate.read_bytes() == files.certificate.read_bytes()
    assert stat.S_IMODE(made.shown.key.stat().st_mode) & 0o077 == 0
    assert (made.folder / "certs" / "server.pem").read_bytes() != files.certificate.read_bytes()  # of loopback


def test_certificates_that_sites_would_refuse_are_refused_before_anything_is_made(tmp_path: Path) -> None:
    ours, theirs = (own(tmp_path, name, ["link.example"]) for name in ("ours", "theirs"))
    empty = tmp_path / "empty.pem"
    empty.write_text("hello")
    for wrong, words in (
        (replace(ours, authority=theirs.authority), "would refuse"),
        (replace(ours, key=theirs.key), "no certificate and its key"),
        (replace(ours, authority=empty), "holds no certificate"),
        (replace(ours, certificate=empty), "no certificate and its key"),
        (own(tmp_path, "other", ["other.example"]), "would refuse"),
    ):
        with pytest.raises(ValueError, match=words):
            Coordinator.create(tmp_path / "c", name="test", address="link.example:443", own=wrong)
    assert not (tmp_path / "c").exists()


def test_a_certificate_is_renewed_for_those_who_trust_its_authority(made: Coordinator, tmp_path: Path) -> None:
    before, invitation = made.shown.certificate.read_bytes(), made.invitation
    made.renew()
    assert made.shown.certificate.read_bytes() != before
    assert made.invitation == invitation
    pki.check(made.shown.authority, made.shown.certificate, made.shown.key, "127.0.0.1")
    files = own(tmp_path, "ministry", ["127.0.0.1"])
    with pytest.raises(ValueError, match="only there"):
        made.renew(certificate=files.certificate, key=files.key)


def test_a_certificate_of_an_authority_that_was_there_before_is_renewed_by_its_files(tmp_path: Path) -> None:
    files, strange = own(tmp_path, "ministry", ["link.example"]), own(tmp_path, "strange", ["link.example"])
    made = Coordinator.create(tmp_path / "c", name="test", address="link.example:443", own=files)
    with pytest.raises(ValueError, match="only there"):
        made.renew()
    with pytest.raises(ValueError, match="would refuse"):
        made.renew(certificate=strange.certificate, key=strange.key)
    made.renew(certificate=files.certificate, key=files.key)
    assert made.shown.certificate.read_bytes() == files.certificate.read_bytes()


@pytest.mark.slow
def test_a_proposal_is_signed_and_names_the_bundle_that_a_site_makes_itself(made: Coordinator, tmp_path: Path) -> None:
    from evaluation.reviewed import build_bundle, unlock

    told: Campaign = campaign(tmp_path / "somewhere")
    proposal = made.propose(told)
    assert made.proposal == proposal
    assert str(tmp_path) not in proposal.to_json()
    site = hospital(tmp_path / "sites")
    node.join(site, made.invitation)
    assert build_bundle() == (made.folder / "bundle.fab").read_bytes()
    node.install(site, proposal.bundle_digest)
    apps = site.folder / "node" / "home" / "apps"
    assert list(apps.rglob("boundary.py"))
    assert not any(path.stat().st_mode & 0o222 for path in apps.rglob("*"))
    program = site.folder / "node" / "home" / "bin" / "flwr-clientapp"
    assert proposal.bundle_digest in program.read_text()
    env = node.environment(site, threads=1)
    assert env["PATH"].startswith(str(program.parent.resolve()))
    told = subprocess.run([program, "--help"], env=env, capture_output=True, text=True, check=True).stdout
    assert "--runtime-api-address" in told
    with pytest.raises(node.NotReady, match="approved is"):
        node.install(site, "0" * 64)
    unlock(site.folder / "node" / "home")
