"""What sites and coordinator agree on in secure aggregation (Bonawitz et al. 2017, 10.1145/3133956.3133982).

One exchange of a training becomes four: every site offers keys; seals shares of its secrets to the others; sends its
change under masks that cancel in the sum; and opens what is left over: the own mask of whoever is in the sum, the key
of whoever fell away. `client.masking` and `server.secure_sum` are the two ends.

What it gives: a coordinator that keeps to the protocol, together with fewer than `threshold` of the sites, learns of
the other sites' changes their sum alone. One that lies about who fell away needs 2 · `threshold` − n of the n sites as
accomplices for more: of three sites with a threshold of two, one is enough.

What it does not give: privacy of the sum (that is the work of noise, which stays full at every site); protection of the
model once it is public, or of one site among accomplices; protection against poisoning, which it hides; a right result
where a site lies about its masks, though left-over masks are noticed. It is for trainings: scores, counts, verdicts and
shapes of a campaign do not pass through it.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey, X25519PublicKey

from privacy import masks, shamir

MIN_SITES, MIN_THRESHOLD = 3, 2
OFFER_BYTES, PAIR_BYTES = 160, 2 * shamir.SHARE_BYTES
SEALED_BYTES = 12 + PAIR_BYTES + 16  # nonce, two shares, tag


@dataclass(frozen=True, slots=True, kw_only=True)
class Session:
    """One try at one exchange of one training of one run: what keys, signatures and masks belong to, and nothing else.

    A try that failed is followed by another with a higher `attempt`, whose secrets are fresh.
    """

    run: str
    stage: str
    round: int
    attempt: int

    @property
    def raw(self) -> bytes:
        """The bytes that name it."""
        return joined("pericard.session/1", self.run, self.stage, str(self.round), str(self.attempt))


@dataclass(frozen=True, slots=True, kw_only=True)
class Offer:
    """What a site offers for a session: X25519 keys for masks and for sealing, a commitment to its own mask, signed.

    Attributes:
        mask, seal: public keys, 32 bytes each.
        commitment: SHA-256 over the seed of the own mask.
        signature: Ed25519 over session, name and the three above, by the key that countersigns certificates.
    """

    mask: bytes
    seal: bytes
    commitment: bytes
    signature: bytes

    @property
    def raw(self) -> bytes:
        """The `OFFER_BYTES` that travel."""
        return self.mask + self.seal + self.commitment + self.signature

    @staticmethod
    def read(raw: bytes) -> "Offer":
        """Return the offer of so many bytes; raises `ValueError`."""
        if len(raw) != OFFER_BYTES:
            raise ValueError(f"an offer has {OFFER_BYTES} bytes, not {len(raw)}")
        return Offer(mask=raw[:32], seal=raw[32:64], commitment=raw[64:96], signature=raw[96:])


def to_sign(session: Session, site: str, mask: bytes, seal: bytes, commitment: bytes) -> bytes:
    """Return what `site` signs for its offer."""
    return joined("pericard.offer/1", session.raw, site, mask, seal, commitment)


def commitment(session: Session, site: str, seed: bytes) -> bytes:
    """Return the commitment of `site` to the seed of its own mask."""
    return hashlib.sha256(joined("pericard.commitment/1", session.raw, site, seed)).digest()


def circle(session: Session, threshold: int, offers: Mapping[str, Offer]) -> bytes:
    """Return the digest of who is in it, with which keys: sites that were told different things share no secret."""
    told = [part for name in sorted(offers) for part in (name, offers[name].raw)]
    return hashlib.sha256(joined("pericard.circle/1", session.raw, str(threshold), *told)).digest()


def pair_seed(private: bytes, public: bytes, circled: bytes, asked: str, one: str, other: str) -> bytes:
    """Return the seed of the mask of two sites, from the private key of one and the public key of the other.

    It belongs to what they were `asked` as well, by digest: masks of sites that were given two models do not cancel.

    Raises:
        ValueError: for a public key of small order.
    """
    about = joined("pericard.pair/1", circled, asked, *sorted((one, other)))
    return masks.derive(agreed(private, public), about)


def seal_key(private: bytes, public: bytes, circled: bytes, sender: str, receiver: str) -> bytes:
    """Return the key under which `sender` seals shares to `receiver`; raises `ValueError` as `pair_seed` does."""
    return masks.derive(agreed(private, public), joined("pericard.seal/1", circled, sender, receiver))


def agreed(private: bytes, public: bytes) -> bytes:
    """Return the X25519 secret of two keys (RFC 7748); raises `ValueError` for a point of small order."""
    return X25519PrivateKey.from_private_bytes(private).exchange(X25519PublicKey.from_public_bytes(public))


def public_of(private: bytes) -> bytes:
    """Return the public half of an X25519 key."""
    return X25519PrivateKey.from_private_bytes(private).public_key().public_bytes_raw()


def least_threshold(sites: int) -> int:
    """Return the smallest threshold for so many sites: two thirds of them, and never fewer than two."""
    return max(MIN_THRESHOLD, -(-2 * sites // 3))


def blocks(raw: bytes, size: int, names: Sequence[str]) -> dict[str, bytes]:
    """Return the part of `raw` that belongs to each name; raises `ValueError` unless there are just as many."""
    if len(raw) != size * len(names):
        raise ValueError(f"{len(raw)} bytes are not {size} for each of {len(names)} sites")
    return {name: raw[size * at : size * (at + 1)] for at, name in enumerate(names)}


def joined(*parts: bytes | str) -> bytes:
    """Return parts one after the other, each after its length, so that no two lists give the same bytes."""
    raw = [part.encode() if isinstance(part, str) else part for part in parts]
    return b"".join(len(part).to_bytes(4, "big") + part for part in raw)
