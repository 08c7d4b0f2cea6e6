"""A coordinator's folder: its authority and keys, the nodes it admits, the campaign it proposes.

`folder/` holds `coordinator.yaml` (address, ports), `secrets/` (readable by their owner only), `certs/`, `sites/*.pub`
(the nodes that may connect, one file a hospital, named after it), `proposal.json` (what runs, as sites approve it),
`bundle.fab` (the code they get), `link/` (Flower's home, database and logs) and `out/` (what comes of it).
"""

import hashlib
import json
import secrets
from dataclasses import dataclass, replace
from pathlib import Path

import yaml
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

from evaluation.proposal import opened, sealed
from evaluation.provenance import code_digest
from evaluation.reviewed import build_bundle
from evaluation.trust import SigningKey
from learning import durable
from learning.proposal import Proposal
from server import pki
from server.campaign import NAME, Campaign

FLEET_AUTHORITY, FLEET_CERTIFICATE, FLEET_KEY = "certs/fleet-ca.crt", "certs/fleet.pem", "secrets/fleet.key"
SETTINGS, PROPOSAL, BUNDLE, OUT, LINK = "coordinator.yaml", "proposal.json", "bundle.fab", "out", "link"


@dataclass(frozen=True, slots=True, kw_only=True)
class Certified:
    """Certificate files in PEM.

    Attributes:
        authority: of whoever signed `certificate`; what sites trust.
        certificate: of the server, followed by those between it and the authority.
        key: of the server.
    """

    authority: Path
    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True, kw_only=True)
class Coordinator:
    """A coordinator's folder, opened.

    Attributes:
        folder: where everything lies.
        name: of the federation.
        address: what sites dial, host:port.
        listen: where the fleet interface listens, host:port.
    """

    folder: Path
    name: str
    address: str
    listen: str

    @staticmethod
    def create(
        folder: Path, *, name: str, address: str, listen: str = "", own: Certified | None = None
    ) -> "Coordinator":
        """Make a new folder with an authority, a server certificate and fresh secrets.

        Sites are shown the certificate in `own` where there is one; the authority made here then serves loopback alone.

        Raises:
            ValueError: if there is one already, the address is not host:port, or sites would refuse `own`.
        """
        if (folder / SETTINGS).exists():
            raise ValueError(f"{folder / SETTINGS} exists: keys are not made anew")
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit() or not 0 < int(port) < 65536:
            raise ValueError(f"address={address!r} must be HOST:PORT")
        if own is not None:
            pki.check(own.authority, own.certificate, own.key, host)
        for new in (folder, folder / "secrets", folder / "certs", folder / "sites", folder / LINK):
            new.mkdir(parents=True, exist_ok=True, mode=0o700)
        authority_key, authority = pki.authority(name)
        server_key, server = pki.server(authority_key, authority, [host.strip("[]"), "127.0.0.1", "localhost"])
        durable.write(folder / "secrets" / "ca.key", authority_key)
        durable.write(folder / "secrets" / "server.key", server_key)
        durable.write(folder / "secrets" / "superexec.secret", secrets.token_hex(32).encode())
        durable.write(folder / "certs" / "ca.crt", authority)
        durable.write(folder / "certs" / "server.pem", server)
        if own is not None:
            durable.write(folder / FLEET_KEY, own.key.read_bytes())
            durable.write(folder / FLEET_CERTIFICATE, own.certificate.read_bytes())
            durable.write(folder / FLEET_AUTHORITY, own.authority.read_bytes())
        if not (folder / "secrets" / "signing.pem").exists():
            SigningKey.create().write(folder / "secrets" / "signing.pem")
        settings = {"name": name, "address": address, "listen": listen or f"0.0.0.0:{port}"}
        durable.write(folder / SETTINGS, yaml.safe_dump(settings, sort_keys=False).encode())
        return Coordinator.open(folder)

    @staticmethod
    def open(folder: Path) -> "Coordinator":
        """Open a folder; raises `ValueError` naming the file and what is wrong with it."""
        path = folder / SETTINGS
        try:
            return Coordinator(folder=folder, **yaml.safe_load(path.read_text(encoding="utf-8")))
        except (TypeError, yaml.YAMLError) as error:
            raise ValueError(f"{path}: {error}") from error

    @property
    def key(self) -> SigningKey:
        """The key that signs proposals and certificates."""
        return SigningKey.read(self.folder / "secrets" / "signing.pem")

    def renew(self, *, certificate: Path | None = None, key: Path | None = None) -> None:
        """Make the server certificate anew, of the same authority; `certificate` and `key` are of one not made here.

        Raises:
            ValueError: if one is needed and not given, or the other way round, or sites would refuse it.
        """
        host = self.address.rpartition(":")[0].strip("[]")
        foreign = (self.folder / FLEET_AUTHORITY).exists()
        if {certificate is not None, key is not None} != {foreign}:
            raise ValueError(
                "--server-certificate and --server-key are given where `init` was given them, and only there"
            )
        if certificate is not None and key is not None:
            pki.check(self.shown.authority, certificate, key, host)
            durable.write(self.folder / FLEET_KEY, key.read_bytes())
            durable.write(self.folder / FLEET_CERTIFICATE, certificate.read_bytes())
        authority_key, authority = self.folder / "secrets" / "ca.key", self.folder / "certs" / "ca.crt"
        server_key, server = pki.server(
            authority_key.read_bytes(), authority.read_bytes(), [host, "127.0.0.1", "localhost"]
        )
        durable.write(self.folder / "secrets" / "server.key", server_key)
        durable.write(self.folder / "certs" / "server.pem", server)

    @property
    def shown(self) -> Certified:
        """The files behind what sites see: those of an authority that was there before, or those made here."""
        own = (FLEET_AUTHORITY, FLEET_CERTIFICATE, FLEET_KEY)
        made = ("certs/ca.crt", "certs/server.pem", "secrets/server.key")
        authority, certificate, key = own if (self.folder / FLEET_AUTHORITY).exists() else made
        folder = self.folder.resolve()
        return Certified(authority=folder / authority, certificate=folder / certificate, key=folder / key)

    @property
    def invitation(self) -> dict[str, str]:
        """What a hospital needs in order to join, nothing of it secret."""
        authority = self.shown.authority.read_text(encoding="ascii")
        return {"address": self.address, "public_key": self.key.public.hex(), "authority": authority}

    @property
    def sites(self) -> dict[str, Path]:
        """Name → public key of every node that may connect."""
        return {path.stem: path for path in sorted((self.folder / "sites").glob("*.pub"))}

    def admit(self, name: str, public: str) -> Path:
        """Let a node with this public key (OpenSSH) connect as `name`; returns the file that says so.

        Raises:
            ValueError: if the name is none, the key cannot be read, or either is taken by another.
        """
        if not NAME.fullmatch(name):
            raise ValueError(f"name={name!r} must match {NAME.pattern}")
        words = public.split()[:2]
        try:
            load_ssh_public_key(" ".join(words).encode())
        except (ValueError, UnsupportedAlgorithm) as error:
            raise ValueError(f"the key of {name!r} is no public key in OpenSSH's form") from error
        for other, path in self.sites.items():
            same = path.read_text(encoding="ascii").split()[:2] == words
            if same != (other == name):
                raise ValueError(f"{other!r} is admitted with {'this' if same else 'another'} key already")
        path = self.folder / "sites" / f"{name}.pub"
        durable.write(path, f"{' '.join(words)} {name}\n".encode())
        return path

    def propose(self, campaign: Campaign) -> Proposal:
        """Write the proposal and the bundle of it; raises `ValueError` if another was proposed and begun."""
        if (self.folder / OUT / "campaign").exists():
            raise ValueError(f"{self.folder / OUT} holds a campaign that was begun; a folder runs one")
        bundle = build_bundle()
        told = json.loads(replace(campaign, out="").to_json())
        proposal = Proposal(code_digest=code_digest(), bundle_digest=hashlib.sha256(bundle).hexdigest(), campaign=told)
        durable.write(self.folder / BUNDLE, bundle)
        durable.write(self.folder / PROPOSAL, sealed(proposal, self.key))
        return proposal

    @property
    def proposal(self) -> Proposal:
        """The proposal; raises `ValueError` if there is none."""
        path = self.folder / PROPOSAL
        if not path.is_file():
            raise ValueError(f"{path} is missing: propose a campaign first")
        return opened(path.read_bytes(), self.key.public)
