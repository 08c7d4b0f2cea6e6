"""The requests and replies of a federation, and their one form on the wire: a Flower `RecordDict`.

A new request is one dataclass below. Both ends check every field: the sender before a byte leaves, the receiver before
a byte is used. A record holds the config "message" (schema and canonical JSON) and, where there are arrays, the one
array record "arrays". There is no encoder for a clip or a study, and replies have no field for images or free words.

Errors::

    schema.Malformed   a message that does not follow its schema
    Refusal            what a site does not do; only its `Code` crosses the wire
"""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, TypeVar

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, RecordDict
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

from learning import schema, wire
from learning.codes import Code as Code
from learning.schema import (
    Arms,
    Digest,
    Flag,
    Hidden,
    Images,
    Length,
    Malformed,
    Name,
    Numbers,
    Prefix,
    Settings,
    Weights,
)

M = TypeVar("M")
RECORD, ARRAYS = "message", "arrays"
HEADER_BYTES = 128  # of npy 1.0 before the numbers of an array, at least
REQUESTS: dict[str, type[Any]] = {}
REPLIES: dict[str, type[Any]] = {}


class Refusal(Exception):
    """A request the site will not serve; the words are for the site's own log."""

    def __init__(self, code: Code, words: str) -> None:
        super().__init__(words)
        self.code = code


def request(kind: str, reply: type[Any]) -> Callable[[type[M]], type[M]]:
    """Register the decorated dataclass as the request of Flower message type `kind`, answered by `reply`."""

    def register(part: type[M]) -> type[M]:
        if kind in REQUESTS:
            raise ValueError(f"message type {kind!r} is registered twice")
        REQUESTS[kind], REPLIES[kind] = part, reply
        return part

    return register


@dataclass(frozen=True, slots=True, kw_only=True)
class Greeting:
    """Who a site is: its name, its declared public size, the key it signs with, the code it runs."""

    site: Name
    public_subjects: Annotated[int, schema.Whole(low=1, high=10**9)]
    public_key: Annotated[bytes, schema.Octets(high=32)]
    code_digest: Digest


@request("query.hello", Greeting)
@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """Asks a site who it is."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reserved:
    """The receipt of a run that a site has charged to its subjects."""

    epsilon: Annotated[float, schema.Real(low=0, high=1e6)]
    delta: Annotated[float, schema.Real(low=0, high=1)]
    head: Digest
    seq: Annotated[int, schema.Whole(low=0, high=10**12)]


@request("query.reserve", Reserved)
@dataclass(frozen=True, slots=True, kw_only=True)
class Reserve:
    """Asks a site to admit a run: this code, this experiment, and all the plans it will ever charge."""

    run: Name
    code_digest: Digest
    experiment_digest: Digest
    plans: Annotated[Sequence[Mapping[str, Any]], schema.Tree(rows=True)]
    delta: Annotated[float, schema.Real(low=0, high=1)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """What local training changed: trained minus given arrays, noised under the plan that was charged."""

    arrays: Weights


@request("train", Trained)
@dataclass(frozen=True, slots=True, kw_only=True)
class Train:
    """Asks for local steps on members, from these arrays.

    `prior` names the public prior that the weights start from, frozen ones included; "" names none. `frozen` holds
    weights that are not trained and come from nowhere else, such as experts of other sites; empty where there are none.
    `proximal` pulls local weights towards those given. Weights whose name begins with `personal` are the site's
    own: they are not among `arrays`, and do not come back.
    With a plan they are DP-SGD steps of that reserved plan and `seed` is not used; without, they are plain steps of
    the reference arm, which a site's policy must allow by name.
    `minds` says which groups of subjects the training minds and how (`client.groups`); empty for none.
    A part of a kind of clips is trained on clips of up to `frames` frames of one beat; for others it is 0.
    """

    run: Name
    stage: Name
    round: Annotated[int, schema.Whole(low=1, high=10**6)]
    kind: Annotated[str, schema.Text(pattern="(clip_)?(learner|generator)")]
    name: Name
    config: Settings
    prior: Annotated[str, schema.Text(pattern=r"[a-z0-9_]{0,64}")]
    plan: Annotated[Mapping[str, Any] | None, schema.Tree(optional=True)]
    size: Annotated[int, schema.Whole(low=8, high=1024)]
    steps: Annotated[int, schema.Whole(low=1, high=10**6)]
    batch_size: Annotated[int, schema.Whole(low=1, high=10**5)]
    learning_rate: Annotated[float, schema.Real(low=0, high=1e3)]
    proximal: Annotated[float, schema.Real(low=0, high=1e3)]
    personal: Prefix
    seed: Annotated[int, schema.Whole(low=0, high=2**63 - 1)]
    arrays: Weights
    frozen: Weights
    minds: Settings = field(default_factory=dict)
    frames: Length = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a site says in secure aggregation: its offer, or a part for each site in the order of their names.

    These are shares sealed to each of the others; later one opened share of each site that shared, of its own mask
    where that site is in the sum, of its key where it is not (`learning.masked`).
    """

    parts: Annotated[bytes, schema.Octets(high=1 << 15)]


@request("query.keys", Parts)
@dataclass(frozen=True, slots=True, kw_only=True)
class Keys:
    """Asks a site for fresh keys, for one try at one exchange of a training under secure aggregation."""

    run: Name
    stage: Name
    round: Annotated[int, schema.Whole(low=1, high=10**6)]
    attempt: Annotated[int, schema.Whole(low=1, high=10**6)]


@request("query.shares", Parts)
@dataclass(frozen=True, slots=True, kw_only=True)
class Share(Keys):
    """Asks a site to share its secrets among `sites`, whose `offers` stand in the same order."""

    threshold: Length
    sites: Annotated[Sequence[str], schema.Tree(rows=True)]
    offers: Annotated[bytes, schema.Octets(high=1 << 15)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Masked:
    """What local training changed, in fixed point and under masks: uniform numbers to whoever sees one of them."""

    arrays: Hidden


@request("train.masked", Masked)
@dataclass(frozen=True, slots=True, kw_only=True)
class MaskedTrain(Train):
    """Asks for the local steps of `Train`, answered under masks: `sealed` holds what the other `sharers` sealed."""

    attempt: Annotated[int, schema.Whole(low=1, high=10**6)]
    sharers: Annotated[Sequence[str], schema.Tree(rows=True)]
    sealed: Annotated[bytes, schema.Octets(high=1 << 15)]


@request("query.unmask", Parts)
@dataclass(frozen=True, slots=True, kw_only=True)
class Unmask(Keys):
    """Asks a site, once for an exchange, to open the sum of `survivors`."""

    survivors: Annotated[Sequence[str], schema.Tree(rows=True)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Guessed:
    """How well a site guessed the coins of its own canaries: counts that depend on coins and noise alone."""

    guesses: Annotated[Mapping[str, Any], schema.Tree(words=False, counts=True)]


@request("query.guess", Guessed)
@dataclass(frozen=True, slots=True, kw_only=True)
class Guess:
    """Asks a site what the canaries of one private training prove, once that training is over."""

    run: Name
    stage: Name
    rounds: Annotated[int, schema.Whole(low=1, high=10**6)]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Moments of where members' hearts lie in the picture, noised under the plan that was charged."""

    arrays: Weights


@request("query.measure", Measured)
@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """Asks for the moments of members' masks (`synthesis.likeness`) under this reserved plan, once in a run."""

    run: Name
    stage: Name
    size: Annotated[int, schema.Whole(low=8, high=1024)]
    plan: Annotated[Mapping[str, Any], schema.Tree()]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scores:
    """Arm → metric → mean, standard_error, n over test subjects, rounded; and the same of arm minus arm.

    `groups` says so of the subjects of a group: arm → column → word → metric, words being the policy's own; `gained`
    the same of the release minus an arm. `kept` is, by arm, the release minus three quarters of the arm and one of the
    trivial predictor; `turned` how well what the site trained on members does on the release.
    """

    scores: Numbers
    differences: Numbers
    groups: Numbers = field(default_factory=dict)
    kept: Numbers = field(default_factory=dict)
    gained: Numbers = field(default_factory=dict)
    turned: Numbers = field(default_factory=dict)


@request("evaluate", Scores)
@dataclass(frozen=True, slots=True, kw_only=True)
class Score:
    """Asks how well models do on a site's test subjects, beside one that the site trains on its own members.

    `frozen` holds the weights of all of them that are not trained, such as experts; empty where there are none.

    Where an arm lacks weights, they are the site's own of the training stage `personal`. `groups` are columns and the
    words in them by which subjects are told apart, as far as the site allows it; `minds` is that of `Train`, for the
    model that the site trains. A task of clips is scored on clips of up to `frames` frames; for others it is 0.
    With `released` images the site also trains on them and its members together, and tests its own model on them.
    """

    run: Name
    stage: Name
    task: Name
    config: Settings
    size: Annotated[int, schema.Whole(low=8, high=1024)]
    seed: Annotated[int, schema.Whole(low=0, high=2**63 - 1)]
    personal: Annotated[str, schema.Text(pattern=r"[a-z0-9_\-]{0,64}")]
    arms: Arms
    groups: Settings = field(default_factory=dict)
    minds: Settings = field(default_factory=dict)
    frozen: Weights = field(default_factory=dict)
    frames: Length = 0
    released: Images = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """What an attack counted: noised in the FORMAL lane, exact in the EMPIRICAL one."""

    counts: Numbers


@request("query.attack", Counts)
@dataclass(frozen=True, slots=True, kw_only=True)
class Attack:
    """Asks a site to attack released frames with its members and controls."""

    run: Name
    stage: Name
    name: Name
    config: Settings
    formal: Flag
    released: Images


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """One packed bit per synthetic subject: may it be released? Its size depends on their number alone.

    `counts` are those of the gate, noised under their own charge; else empty. `drawn_again` is the share of candidates
    that the site draws again before it judges any, by its policy.
    """

    bits: Annotated[bytes, schema.Octets(high=1 << 17)]
    drawn_again: Annotated[float, schema.Real(low=0, high=1)]
    counts: Numbers = field(default_factory=dict)


@request("query.screen", Kept)
@dataclass(frozen=True, slots=True, kw_only=True)
class Screen:
    """Asks a site which synthetic subjects come too near to a member: once in the life of a generator.

    `recipe` and `weights` are all that candidates depend on, `rule` all that the verdicts do, `committed` the digest of
    the three (`synthesis.candidates`), fixed before anything was drawn. `numbers` of the recipe's subjects are asked
    about; `candidates` holds their `pixels`, `(numbers, pictures of each, size, size)`, and the site draws them again.
    `decoys` are `pixels` of made-up patients, `(decoys, size, size)`, whom the site adds to its own; empty for none.
    A rule that is `exact` is the conformal filter's, covered by no ε; by any other, patients vote under reserved plans.
    """

    run: Name
    stage: Name
    rule: Settings
    recipe: Settings
    committed: Digest
    numbers: Numbers
    weights: Weights
    candidates: Images
    decoys: Images = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Signature:
    """A site's Ed25519 signature over the DSSE encoding of what it was shown."""

    public_key: Annotated[bytes, schema.Octets(high=32)]
    signature: Annotated[bytes, schema.Octets(high=64)]


@request("query.sign", Signature)
@dataclass(frozen=True, slots=True, kw_only=True)
class Sign:
    """Asks a site to countersign the statement of a run it took part in; other types of payload are not signed."""

    run: Name
    payload_type: Annotated[str, schema.Text(pattern=r"application/vnd\.in-toto\+json")]
    payload: Annotated[bytes, schema.Octets(high=1 << 19)]


def kind_of(message: object) -> str:
    """Return the Flower message type of a request."""
    return next(kind for kind, part in REQUESTS.items() if part is type(message))


def encode(message: object) -> RecordDict:
    """Return the record of a request or reply; raises `Malformed` for whatever the schema does not allow."""
    plain, arrays = wire.parts(message)
    record = RecordDict(
        {RECORD: ConfigRecord({"schema": wire.schema_of(type(message)), "json": schema.canonical(plain)})}
    )
    if arrays:
        record[ARRAYS] = ArrayRecord({n: Array(np.asarray(arrays[n], order="C")) for n in sorted(arrays)})
    return record


def weigh(record: RecordDict) -> tuple[str, int]:
    """Return the SHA-256 and the number of the bytes that a record is on the wire, without any message around it."""
    parts = get_all_nested_objects(record)
    h, size = hashlib.sha256(), 0
    for name in sorted(parts):
        content = parts[name].deflate()
        h.update(len(content).to_bytes(8))
        h.update(content)
        size += len(content)
    return h.hexdigest(), size


def decode(record: RecordDict, kind: type[M]) -> M:
    """Return the message of `record`; raises `Malformed` unless it is exactly one `kind`.

    Law: `decode(encode(m), type(m))` equals `m`.
    """
    config = record.config_records.get(RECORD)
    if config is None or set(record) - {RECORD, ARRAYS} or set(config) != {"schema", "json"}:
        raise Malformed("a record must hold 'message' (schema, json) and at most 'arrays'")
    found = record.array_records.get(ARRAYS, ArrayRecord())
    most = schema.ARRAY_BYTES * sum(isinstance(part, schema.Tensors) for part in wire.kinds(kind).values())
    if sum(len(array.data) - HEADER_BYTES for array in found.values()) > most:  # before any of it is copied
        raise Malformed(f"the arrays hold more than {most} bytes")
    arrays = {name: schema.from_npy(array.stype, array.data) for name, array in found.items()}
    return wire.message(kind, config["schema"], config["json"], arrays)
