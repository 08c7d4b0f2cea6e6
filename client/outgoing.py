"""The outgoing manifest: what a campaign said it would make leave, kept at approval and held to by the boundary.

`approvals/<run>.outgoing` is the forecast that this site's people were shown, signed by the site's key. A reply leaves
only if a line of it has its message and its stage, if no more than so many different replies left for that line (what
left once may leave again: it says nothing new), and if it is not larger than the line's bytes and the margin.
"""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from client.journal import SERVED, Entry
from client.leaves import GREETING, Leaves
from client.site import Site
from evaluation.envelope import Envelope, MalformedEnvelope, pae, seal
from evaluation.trust import own_key
from learning import durable
from learning.messages import Code, Refusal
from learning.schema import canonical

FOLDER = "approvals"
TYPE = "application/vnd.pericard.outgoing+json"
SCHEMA = "pericard.outgoing/1"
MARGIN, SLACK_BYTES = 0.02, 64  # numbers are written with as many digits as they need
ANEW = {"query.sign": 16}  # a campaign that is resumed draws its report anew; a signature says nothing of patients
TRIES = {"query.keys": 16, "query.shares": 16, "train.masked": 16}  # an exchange under masks that loses a site
FREE = "query.hello"  # who we are, to whoever asks


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """What may leave.

    Attributes:
        message, stage: of the request; "" for one that names no stage.
        exchanges: how many different replies.
        bytes: of each, before the margin.
    """

    message: str
    stage: str
    exchanges: int
    bytes: int

    @property
    def most_bytes(self) -> int:
        """Bytes of a reply, the margin included."""
        return round(self.bytes * (1 + MARGIN)) + SLACK_BYTES

    def admit(self, digest: str, size: int, before: Sequence[Entry]) -> None:
        """Raise `Refusal` unless a reply may leave after all that left `before` for the same run."""
        if size > self.most_bytes:
            words = f"a reply of {size} bytes to {self.message!r} exceeds the {self.most_bytes} that were approved"
            raise Refusal(Code.REFUSED_POLICY, words)
        left = {e.digest for e in before if (e.kind, e.stage, e.code) == (self.message, self.stage, SERVED)}
        if digest not in left and len(left) >= self.exchanges:
            words = f"{self.exchanges} replies to {self.message!r} of stage {self.stage!r} were approved, and left"
            raise Refusal(Code.REFUSED_POLICY, words)


def lines_of(leaves: Sequence[Leaves]) -> tuple[Line, ...]:
    """Return the manifest of a forecast."""
    stageless = {"query.reserve", "query.sign"}
    return tuple(
        Line(
            message=line.message,
            stage="" if line.message in stageless else line.stage,
            exchanges=ANEW.get(line.message, line.exchanges * TRIES.get(line.message, 1)),
            bytes=line.each,
        )
        for line in leaves
        if line.stage != GREETING
    )


def keep(site: Site, run: str, leaves: Sequence[Leaves]) -> None:
    """Keep the manifest of a run that is approved."""
    told = {"schema": SCHEMA, "site": site.name, "run": run, "lines": [asdict(line) for line in lines_of(leaves)]}
    payload = canonical(told).encode()
    sealed = Envelope(payload=payload, payload_type=TYPE, signatures=(seal(payload, site.signing_key, TYPE),))
    path = _path(site, run)
    path.parent.mkdir(exist_ok=True, mode=0o700)
    durable.write(path, sealed.canonical)


def discard(site: Site, run: str) -> None:
    """Take a manifest away: nothing of this run leaves any more."""
    _path(site, run).unlink(missing_ok=True)


def line_for(site: Site, *, kind: str, run: str, stage: str) -> Line | None:
    """Return the line of the manifest that a request falls under, `None` where this site asks for no approval.

    Raises:
        Refusal: the run has no manifest, or one without such a line.
    """
    if not site.policy.approval or kind == FREE:
        return None
    for line in _kept(site, run):
        if (line.message, line.stage) == (kind, stage):
            return line
    raise Refusal(Code.REFUSED_POLICY, f"no reply to {kind!r} of stage {stage!r} was approved for run {run!r}")


def _kept(site: Site, run: str) -> tuple[Line, ...]:
    path = _path(site, run)
    if not run or not path.exists():
        raise Refusal(Code.REFUSED_POLICY, f"run {run!r} was not approved here")
    try:
        told = json.loads(_signed(site, path.read_bytes()))
        if (told["schema"], told["site"], told["run"]) == (SCHEMA, site.name, run):
            return tuple(Line(**line) for line in told["lines"])
    except (MalformedEnvelope, ValueError, KeyError, TypeError) as error:
        raise Refusal(Code.REFUSED_POLICY, f"{path}: {error}") from error
    raise Refusal(Code.REFUSED_POLICY, f"{path} is about another site or run")


def _signed(site: Site, raw: bytes) -> bytes:
    """Return the payload of an envelope; raises `MalformedEnvelope` unless this site's key signed it."""
    sealed, key = Envelope.parse(raw, payload_type=TYPE), own_key(site.name, site.signing_key.public)
    if not any(key.verifies(s.raw, pae(sealed.payload, TYPE)) for s in sealed.signatures):
        raise MalformedEnvelope("it is not signed by this site's key", "signatures")
    return sealed.payload


def _path(site: Site, run: str) -> Path:
    return site.folder / FOLDER / f"{run}.outgoing"
