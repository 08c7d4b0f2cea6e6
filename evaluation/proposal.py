"""A proposal in its envelope: signed by the coordinator, read by hospitals only if it is."""

import base64

from evaluation.envelope import Envelope, MalformedEnvelope, pae, seal
from evaluation.trust import COORDINATOR, SigningKey, TrustedKey
from learning.proposal import Proposal

TYPE = "application/vnd.pericard.proposal+json"


def sealed(proposal: Proposal, key: SigningKey) -> bytes:
    """Return the bytes of `proposal.json`."""
    payload = proposal.to_json().encode()
    return Envelope(payload=payload, payload_type=TYPE, signatures=(seal(payload, key, TYPE),)).canonical


def opened(raw: bytes, public: bytes) -> Proposal:
    """Return the proposal in `raw`; raises `ValueError` unless the key with these 32 public bytes signed it."""
    try:
        envelope = Envelope.parse(raw, payload_type=TYPE)
    except MalformedEnvelope as error:
        raise ValueError(f"not a signed proposal: {error}") from error
    key = TrustedKey(name=COORDINATOR, role=COORDINATOR, public_key=base64.b64encode(public).decode())
    if not any(key.verifies(s.raw, pae(envelope.payload, TYPE)) for s in envelope.signatures):
        raise ValueError("the proposal is not signed by the coordinator of the invitation")
    return Proposal.parse(envelope.payload.decode())
