"""Keyed pseudonyms: a reader puts them in place of a hospital's identifiers before anything else sees a study.

A plain digest of a patient number is no pseudonym: numbers are few, so whoever has the digest tries them all. With a
key that stays at the site the same search needs the key (ENISA 2019, "Pseudonymisation techniques and best practices",
section 5). Pseudonymised is still personal: nothing made here may leave the site.
"""

import hashlib
import hmac

from cohorts.study import StudyKey, SubjectKey

KEY_BYTES_MIN = 16
PSEUDONYM_HEX = 16  # 64 bits: two of a million subjects meet with probability 3e-8


class Pseudonyms:
    """Replaces identifiers by HMAC-SHA256 under one site's key, truncated to 64 bits (RFC 2104, section 5).

    The same key gives the same pseudonym in every run; under two keys the pseudonyms of one person do not match, so
    sites cannot be joined by them. Subjects and studies are named in separate domains.
    """

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        _require_key(key)
        self._key = key

    def __repr__(self) -> str:
        return "Pseudonyms(key=…)"

    def subject(self, raw: str) -> SubjectKey:
        """Return the pseudonym of the person whom the site calls `raw`."""
        return SubjectKey(self._of("subject", raw))

    def study(self, raw: str) -> StudyKey:
        """Return the pseudonym of the examination that the site calls `raw`."""
        return StudyKey(self._of("study", raw))

    def _of(self, domain: str, raw: str) -> str:
        if not raw.strip():
            raise ValueError(f"the {domain} identifier {raw!r} is empty; a pseudonym needs at least one character")
        return keyed_digest(self._key, f"pericard/{domain}", raw).hex()[:PSEUDONYM_HEX]


def keyed_digest(key: bytes, domain: str, message: str) -> bytes:
    """Return HMAC-SHA256 of `message` under `key`: 32 bytes that mean nothing in another `domain`."""
    _require_key(key)
    return hmac.new(key, f"{domain}\0{message}".encode(), hashlib.sha256).digest()


def _require_key(key: bytes) -> None:
    if len(key) < KEY_BYTES_MIN:
        raise ValueError(f"key has {len(key)} bytes, a keyed pseudonym needs at least {KEY_BYTES_MIN}")
