"""Countersigning: a site signs what it could read as a statement, and only if the statement says of it what is true."""

import base64
from typing import Any

from client.admission import Admission, admitted
from client.site import Site
from learning.messages import Code, Refusal, Sign, Signature

ROUNDING = 1e-6  # the ledger rounds every charge up to a millionth


def countersign(site: Site, request: Sign) -> Signature:
    """Sign a certificate's statement, after comparing what it says of this site with what this site knows."""
    from evaluation.certificate import InvalidCertificate, sign
    from synthesis.canonical import loads

    admission = admitted(site, request.run)
    try:
        signature = sign(request.payload, site.signing_key)
        statement: Any = loads(request.payload)
    except (InvalidCertificate, ValueError) as error:
        raise Refusal(Code.UNREADABLE, f"no statement to sign: {error}") from error
    _compare(site, admission, statement["predicate"])
    if admission.plans:
        site.ledger.commit(request.run)  # what a certificate speaks of is over: no step of it is taken any more
    return Signature(public_key=site.signing_key.public, signature=base64.b64decode(signature.sig))


def _compare(site: Site, admission: Admission, predicate: Any) -> None:
    """Raise `Refusal` where the predicate misreports this site, its receipt, its code or its experiment."""
    own = [entry for entry in predicate["sites"] if entry["key_id"] == site.signing_key.key_id]
    if len(own) != 1:
        raise Refusal(Code.REFUSED_POLICY, f"the statement names this site {len(own)} times, not once")
    receipt = admission.receipt
    for name, said, known in (
        ("n_rounded", own[0]["n_rounded"], site.file.public_subjects),
        ("ledger_head", own[0]["ledger_head"], receipt.head),
        ("code_digest", predicate["repro"]["code_digest"], admission.code_digest),
        ("config_digest", predicate["repro"]["config_digest"], admission.experiment_digest),
    ):
        if said != known:
            raise Refusal(Code.REFUSED_POLICY, f"the statement says {name}={said!r}, this site knows {known!r}")
    said = (own[0]["eps_spent_lifetime"], predicate["dp"]["eps"], predicate["dp"]["per_view"]["server"])
    for stated in (eps for eps in said if eps is not None):
        if stated < receipt.epsilon - ROUNDING:
            words = f"the statement says ε={stated}, this site was charged {receipt.epsilon}"
            raise Refusal(Code.REFUSED_POLICY, words)
