"""Whose signature counts: Ed25519 keys, and the trust file that is kept outside every certificate.

A key's id is the SHA-256 of its 32 public bytes, so a trust file cannot give one key another's name. A key of small
order, under which one signature fits many messages, is refused (Brendel et al. 2021, 10.1109/SP40001.2021.00042).
"""

import base64
import hashlib
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from evaluation.schema import decode, encode
from synthesis.canonical import dumps, loads

COORDINATOR, SITE = "coordinator", "site"
FIELD_PRIME = 2**255 - 19
ORDER_EIGHT = 0x05FC536D880238B13933C6D305ACDFD5F098EFF289F4C345B027B2C28F95E826
SMALL_ORDER = (0, 1, FIELD_PRIME - 1, ORDER_EIGHT, FIELD_PRIME - ORDER_EIGHT)  # y of the points whose order divides 8


@dataclass(frozen=True, slots=True)
class SigningKey:
    """A private Ed25519 key. It never shows itself: `repr` is the id."""

    _private: Ed25519PrivateKey

    @staticmethod
    def create() -> "SigningKey":
        """Return a fresh key from the operating system's randomness."""
        return SigningKey(Ed25519PrivateKey.generate())

    @staticmethod
    def read(path: Path) -> "SigningKey":
        """Read a key that `write` wrote.

        Raises:
            ValueError: the file is no unencrypted Ed25519 key in PEM.
        """
        from cryptography.hazmat.primitives import serialization

        private = serialization.load_pem_private_key(path.read_bytes(), password=None)
        if not isinstance(private, Ed25519PrivateKey):
            raise ValueError(f"{path.name} holds a key of another kind than Ed25519")  # noqa: TRY004 - a file
        return SigningKey(private)

    def write(self, path: Path) -> None:
        """Write the key as PKCS 8 in PEM, readable by its owner only; refuses to overwrite."""
        from cryptography.hazmat.primitives import serialization  # what a verifier never needs

        pem = self._private.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:  # noqa: PTH123
            file.write(pem)

    @property
    def public(self) -> bytes:
        """The 32 public bytes."""
        return self._private.public_key().public_bytes_raw()

    @property
    def key_id(self) -> str:
        """SHA-256 of the public bytes, hexadecimal."""
        return key_id(self.public)

    def sign(self, message: bytes) -> bytes:
        """Return the 64 bytes of the Ed25519 signature over `message` (RFC 8032)."""
        return self._private.sign(message)

    def __repr__(self) -> str:
        return f"SigningKey({self.key_id[:12]}…)"


def key_id(public: bytes) -> str:
    """Return the id of a public key."""
    return hashlib.sha256(public).hexdigest()


def fingerprint(public: str) -> str:
    """Return the fingerprint of a public key in OpenSSH's form, as `ssh-keygen -lf` prints it; raises `ValueError`."""
    digest = hashlib.sha256(base64.b64decode(public.split()[1])).digest()
    return f"SHA256:{base64.b64encode(digest).decode().rstrip('=')}"


@dataclass(frozen=True, slots=True, kw_only=True)
class TrustedKey:
    """A public key (base64 of 32 bytes) with the name and the role somebody checked out of band."""

    name: str
    role: str
    public_key: str

    def __post_init__(self) -> None:
        public = base64.b64decode(self.public_key, validate=True)
        if len(public) != 32 or base64.b64encode(public).decode() != self.public_key:
            raise ValueError(f"the key of {self.name!r} is not 32 bytes in base64")
        y = int.from_bytes(public, "little") % 2**255
        if y >= FIELD_PRIME or y in SMALL_ORDER:
            raise ValueError(f"the key of {self.name!r} is a weak point of the curve")

    @property
    def key_id(self) -> str:
        """SHA-256 of the public bytes, hexadecimal."""
        return key_id(base64.b64decode(self.public_key))

    def verifies(self, signature: bytes, message: bytes) -> bool:
        """Say whether `signature` is this key's over `message`."""
        try:
            Ed25519PublicKey.from_public_bytes(base64.b64decode(self.public_key)).verify(signature, message)
        except InvalidSignature:
            return False
        return True


def own_key(name: str, public: bytes) -> TrustedKey:
    """Return a site's key from its 32 public bytes, for what the site signed for itself; raises `ValueError`."""
    return TrustedKey(name=name, role=SITE, public_key=base64.b64encode(public).decode())


@dataclass(frozen=True, slots=True, kw_only=True)
class Trust:
    """Keys by id, and how many different names of each role must have signed.

    Attributes:
        version: 1.
        keys: the keys that may sign.
        thresholds: per role, the fewest different names; a role without a threshold may sign but need not.
    """

    version: int = 1
    keys: Mapping[str, TrustedKey]
    thresholds: Mapping[str, int]

    def __post_init__(self) -> None:
        if self.version != 1:
            raise ValueError(f"version={self.version} of a trust file is unknown; known: 1")
        for identity, key in self.keys.items():
            if identity != key.key_id:
                raise ValueError(f"the key of {key.name!r} is not the one its id {identity[:12]}… names")
        for role, least in self.thresholds.items():
            names = {key.name for key in self.keys.values() if key.role == role}
            if not 0 <= least <= len(names):
                raise ValueError(f"threshold {role}={least} lies outside 0..{len(names)}, the names of that role")
        if sum(self.thresholds.values()) < 1:
            raise ValueError("thresholds must ask for at least one signature")
        roles: dict[str, str] = {}
        for key in self.keys.values():
            if roles.setdefault(key.name, key.role) != key.role:
                raise ValueError(f"{key.name!r} has two roles")

    @staticmethod
    def of(coordinator: Mapping[str, bytes], sites: Mapping[str, bytes], *, least_sites: int) -> "Trust":
        """Return the trust in one coordinator and `least_sites` of the sites, each name → public bytes."""
        roles = ((COORDINATOR, coordinator), (SITE, sites))
        keys = [
            TrustedKey(name=name, role=role, public_key=base64.b64encode(public).decode())
            for role, named in roles
            for name, public in named.items()
        ]
        return Trust(keys={k.key_id: k for k in keys}, thresholds={COORDINATOR: len(coordinator), SITE: least_sites})

    @staticmethod
    def parse(raw: bytes) -> "Trust":
        """Read a trust file; raises `ValueError`."""
        return decode(Trust, loads(raw), "trust")

    @property
    def canonical(self) -> bytes:
        """The bytes of a trust file; `Trust.parse(t.canonical) == t`."""
        return dumps(encode(self))
