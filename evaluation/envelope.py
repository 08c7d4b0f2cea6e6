"""DSSE: a payload in base64, its type, and signatures over both (the Dead Simple Signing Envelope, version 1).

What is signed is the *pre-authentication encoding* of type and payload, byte for byte as transmitted, so nothing has to
be parsed before it is authentic.
"""

import base64
import binascii
from dataclasses import dataclass

from evaluation.trust import SigningKey, key_id
from synthesis.canonical import dumps, loads

PAYLOAD_TYPE = "application/vnd.in-toto+json"


class MalformedEnvelope(ValueError):
    """Not an envelope; `part` names the entry at fault."""

    def __init__(self, reason: str, part: str) -> None:
        super().__init__(reason)
        self.part = part


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """One signature (base64 of 64 bytes) and the id of the key that made it."""

    keyid: str
    sig: str

    @staticmethod
    def of(public: bytes, signature: bytes) -> "Signature":
        """Return the entry for the 64 bytes of `signature`, made by the key with the 32 bytes `public`."""
        return Signature(keyid=key_id(public), sig=base64.b64encode(signature).decode())

    @property
    def raw(self) -> bytes:
        """The 64 bytes."""
        return base64.b64decode(self.sig)


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """A payload, its type and the signatures over both; `Envelope.parse(e.canonical, e.payload_type) == e`."""

    payload: bytes
    signatures: tuple[Signature, ...]
    payload_type: str = PAYLOAD_TYPE

    @property
    def canonical(self) -> bytes:
        """The bytes of `certificate.json`."""
        return dumps(
            {
                "payload": base64.b64encode(self.payload).decode(),
                "payloadType": self.payload_type,
                "signatures": [{"keyid": s.keyid, "sig": s.sig} for s in self.signatures],
            }
        )

    @staticmethod
    def parse(raw: bytes, payload_type: str = PAYLOAD_TYPE) -> "Envelope":
        """Read the bytes of `certificate.json`, or of another file of this type; only the canonical text is one.

        Raises:
            MalformedEnvelope: says what is wrong, and where.
        """
        try:
            document = loads(raw)
        except ValueError as error:
            raise MalformedEnvelope(f"not JSON: {error}", "envelope") from error
        if not isinstance(document, dict) or set(document) != {"payload", "payloadType", "signatures"}:
            raise MalformedEnvelope("an envelope has exactly payload, payloadType and signatures", "envelope")
        if document["payloadType"] != payload_type:
            raise MalformedEnvelope(f"payloadType is not {payload_type}", "payloadType")
        if not isinstance(document["signatures"], list):
            raise MalformedEnvelope("signatures must be a list", "signatures")
        signatures = tuple(_signature(item) for item in document["signatures"])
        payload = _base64(document["payload"], "payload")
        envelope = Envelope(payload=payload, signatures=signatures, payload_type=payload_type)
        if envelope.canonical != raw:
            raise MalformedEnvelope("the text is not canonical", "envelope")
        return envelope

    def with_signature(self, signature: Signature) -> "Envelope":
        """Return the envelope with one more signature, sorted by key: the order of arrival leaves no trace.

        Raises:
            ValueError: that key has signed already.
        """
        if signature.keyid in {s.keyid for s in self.signatures}:
            raise ValueError(f"key {signature.keyid[:12]}… has signed already")
        signatures = sorted((*self.signatures, signature), key=lambda s: s.keyid)
        return Envelope(payload=self.payload, signatures=tuple(signatures), payload_type=self.payload_type)


def seal(payload: bytes, key: SigningKey, payload_type: str = PAYLOAD_TYPE) -> Signature:
    """Return `key`'s signature over `payload` and its type."""
    return Signature.of(key.public, key.sign(pae(payload, payload_type)))


def pae(payload: bytes, payload_type: str = PAYLOAD_TYPE) -> bytes:
    """Return the pre-authentication encoding (DSSE v1): lengths in bytes, so type and payload cannot trade places."""
    kind = payload_type.encode()
    return b"DSSEv1 %d %s %d %s" % (len(kind), kind, len(payload), payload)


def _signature(document: object) -> Signature:
    if not isinstance(document, dict) or set(document) != {"keyid", "sig"}:
        raise MalformedEnvelope("a signature has exactly keyid and sig", "signatures")
    keyid, sig = document["keyid"], document["sig"]
    if not isinstance(keyid, str) or not isinstance(sig, str):
        raise MalformedEnvelope("keyid and sig are text", "signatures")
    if len(_base64(sig, "signatures")) != 64:
        raise MalformedEnvelope("a signature has 64 bytes", "signatures")
    return Signature(keyid=keyid, sig=sig)


def _base64(text: object, part: str) -> bytes:
    try:
        raw = base64.b64decode(text, validate=True) if isinstance(text, str) else None
    except (binascii.Error, ValueError) as error:
        raise MalformedEnvelope(f"{part} is not base64: {error}", part) from error
    if raw is None or base64.b64encode(raw).decode() != text:
        raise MalformedEnvelope(f"{part} is not base64 in its one form", part)
    return raw
