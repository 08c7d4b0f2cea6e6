"""A hospital and its twins, each with one person less: the same keys, the same requests, the same clock, the same dice.

Dice: a sampler throws one coin for each subject and canary, so in one common stream a subject less would shift all that
comes later, and everything would differ for no reason. Here each call of `SecureRandom.bytes` has a stream of its own,
keyed by the (seeded) operating system and read from behind: with one subject less, canaries and noise meet the same
bits. That is a coupling of two runs each of which is as likely as before, for the streams are independent.
"""

import dataclasses
import hashlib
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Message
from flwr.supercore.inflatable.inflatable_object import get_all_nested_objects

from client import admission, masking
from client.site import KEYS, Site
from cohorts.deidentify import Pseudonyms
from cohorts.frames import Frames, as_images
from cohorts.phantom.simulate import APICAL
from cohorts.readers import READERS
from cohorts.split import Split, split_of
from cohorts.study import ATRIUM, CAVITY, MYOCARDIUM, Clip, Cohort, Origin, Study, SubjectKey
from evaluation.envelope import PAYLOAD_TYPE
from evaluation.predicate import Repro
from evaluation.predicate import Site as Entry
from learning import messages, wire
from learning.masked import SEALED_BYTES
from learning.messages import (
    REPLIES,
    Attack,
    Code,
    Guess,
    Hello,
    Keys,
    MaskedTrain,
    Measure,
    Parts,
    Score,
    Share,
    Sign,
    Unmask,
)
from privacy.attacks.disclosure import Disclosure
from privacy.mechanism import DpPlan
from privacy.randomness import SecureRandom
from privacy.votes import Gate, VoteFilter
from synthesis import likeness
from synthesis.canonical import dumps
from tests import certified
from tests.copies import EXACT, VOTES, screen_request, strangers
from tests.hospitals import CANARY, NAMES, SIZE, WEIGHTS, Wire, hospital, reserve_request, train_request
from tests.masked import acquainted, plain

PUBLIC = 40  # declared by the hospital; half of it are members, as everybody may compute
PLAN = DpPlan(purpose="views", sampling_rate=1.0, noise_multiplier=4.0, clip_norm=0.25, steps=2, draws=1)
HALVES = dataclasses.replace(PLAN, purpose="halves", sampling_rate=0.5, steps=6)
SHAPES = likeness.plan(4.0)
ATTACK = Disclosure(threshold=0.8)
VOTERS = (VoteFilter(**VOTES["votes"]).plan(), Gate(epsilon=VOTES["gate_epsilon"]).plan())
CANDIDATES = 24  # synthetic subjects; the first three have the pictures of the person who is away, one of each split
RATE = 0.5
WARDS = ("east", "west")
POLICY: dict[str, Any] = {
    "epsilon_cap": 1e4, "max_sampling_rate": 1.0, "attacks": ("disclosure",), "seconds_per_message": 600,
    "groups": {"ward": WARDS}, "max_clip_norm": 5.0,
}  # fmt: skip
STRICT: dict[str, Any] = POLICY | {"allow_scores": False, "allow_empirical": False, "allow_non_dp_reference": False}

# Of each split so many that a rounded number of them would differ between the twins.
SIZES = {Split.MEMBERS: 20, Split.CALIBRATION: 10, Split.TEST: 10}


@READERS("people")
@dataclass(frozen=True, slots=True, kw_only=True)
class People:
    """The people with these numbers, whose names and files hold a patient's name; two pictures of each of two views."""

    numbers: tuple[int, ...]

    def read(self, *, pseudonyms: Pseudonyms) -> Cohort:
        raw = {pseudonyms.subject(f"{CANARY}-{i}"): i for i in self.numbers}

        def load(subject: SubjectKey) -> tuple[Study, ...]:
            dice = np.random.default_rng(raw[subject])
            blocks = dice.integers(0, 200, (2, SIZE // 4, SIZE // 4)).repeat(4, 1).repeat(4, 2)
            pixels, masks = (blocks + np.array([[[30]], [[0]]])).astype(np.uint8), np.zeros((2, SIZE, SIZE), np.uint8)
            for structure, top in ((MYOCARDIUM, 0), (CAVITY, 2), (ATRIUM, SIZE - 4)):
                masks[:, top : top + 4, 2 : 6 + int(dice.integers(0, SIZE - 6))] = structure
            clips = tuple(Clip(pixels=pixels, masks=masks, view=v, ed_frame=0, es_frame=1) for v in APICAL)
            key, labels = pseudonyms.study(f"{CANARY}.dcm"), {"ward": WARDS[raw[subject] % 2], "referrer": CANARY}
            return (Study(key=key, subject=subject, clips=clips, origin=Origin.REAL, labels=labels),)

        return Cohort(subjects=tuple(sorted(raw)), load=load, origin=Origin.REAL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """What left a site in answer to one request: the bytes, and what they mean."""

    kind: str
    sent: tuple[bytes, ...]
    arrived: Message

    @property
    def code(self) -> Code | None:
        return Code(self.arrived.error.code) if self.arrived.has_error() else None

    def read(self) -> Any:
        return messages.decode(self.arrived.content, REPLIES[self.kind])

    def plain(self) -> dict[str, Any]:
        said = self.read()
        return {field.name: getattr(said, field.name) for field in dataclasses.fields(said)}

    def written(self, fields: Mapping[str, Any]) -> tuple[bytes, ...]:
        """Return the bytes that this reply would have, had it said `fields`."""
        self.arrived.content, before = messages.encode(REPLIES[self.kind](**fields)), self.arrived.content
        try:
            return tuple(part.deflate() for part in get_all_nested_objects(self.arrived).values())
        finally:
            self.arrived.content = before


Replies = dict[str, Reply]


class _Frozen(datetime):
    @classmethod
    def now(cls, tz: tzinfo | None = None) -> "_Frozen":
        return cls(2025, 3, 1, 12, tzinfo=tz)


@contextmanager
def same_clock_and_dice(seed: int) -> Iterator[Callable[[str], None]]:
    """Freeze the clock and load the dice; what is yielded loads them anew, so that requests do not hang together."""
    state = {"key": b"", "drawn": 0}

    def load(case: str) -> None:
        state["key"], state["drawn"] = f"{seed} {case}".encode(), 0
        torch.default_generator.manual_seed(seed)

    def urandom(n: int) -> bytes:
        state["drawn"] += 1
        return hashlib.shake_256(b"%s %d" % (state["key"], state["drawn"])).digest(n)

    def stream(self: SecureRandom, n: int) -> bytes:
        return hashlib.shake_256(self._stream.update(bytes(32))).digest(n)[::-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("privacy.randomness.os.urandom", urandom)
        patch.setattr(SecureRandom, "bytes", stream)
        patch.setattr("privacy.chain.datetime", _Frozen)
        patch.setattr("flwr.app.message.message.now", lambda: _Frozen.now(UTC))
        load("")
        yield load


@dataclass(frozen=True, slots=True, kw_only=True)
class Twins:
    """One hospital, and makers of the same with one person less.

    Attributes:
        root: where their folders go.
        numbers: whose pictures the first holds, per split in the order of the cohort.
    """

    root: Path
    numbers: Mapping[Split, tuple[int, ...]]

    @classmethod
    def born(cls, root: Path) -> "Twins":
        site = hospital(root / "parent")
        for peer in acquainted(root / "peers"):
            assert not isinstance(Wire(peer).ask(reserve_request()), Code)
        split_key, pseudonym_key = ((site.folder / "secrets" / key).read_bytes() for key in KEYS)
        keys = {i: Pseudonyms(pseudonym_key).subject(f"{CANARY}-{i}") for i in range(400)}
        lots = {i: split_of(key, key=split_key) for i, key in keys.items()}
        chosen = {split: [i for i in keys if lots[i] is split][:n] for split, n in SIZES.items()}
        return cls(root=root, numbers={s: tuple(sorted(found, key=keys.__getitem__)) for s, found in chosen.items()})

    def site(self, name: str, *, less: Split | None = None, first: bool = False, **changes: Any) -> Site:
        """Open a hospital without the last (or first) person of a split; the keys are those of all the others."""
        gone = self.numbers[less][0 if first else -1] if less else None
        numbers = [i for found in self.numbers.values() for i in found if i != gone]
        cohort = {"reader": "people", "numbers": numbers}
        twin = Site(self.root / "peers/aurora")  # by whose key the peers know this hospital
        met = {"secure_aggregation": twin.policy.secure_aggregation}
        site = hospital(self.root / name, cohort=cohort, **(POLICY | met | changes))
        shutil.copy(twin.folder / "secrets/signing.pem", site.folder / "secrets/signing.pem")
        return Site(site.folder)

    def last(self, split: Split) -> Frames:
        """Return the pictures of the last person of `split`."""
        site = Site(self.root / "whole/aurora")
        return (frames := site.frames(split, size=SIZE)).select([frames.subjects[-1]])


def requests(twins: Twins, site: Site) -> dict[str, Callable[[], Any]]:
    """Return one request of each kind, and more where a kind has more than one way; some need answers before them."""
    gone = [as_images(twins.last(split)) for split in Split]
    pictures = {name: np.concatenate([images[name] for images in gone]) for name in gone[0]}
    plans = [plan.to_json() for plan in (PLAN, HALVES, SHAPES, *ATTACK.plans(), *VOTERS)]
    shown = strangers(CANDIDATES)
    shown[: len(gone)] = [images["pixels"] for images in gone]
    attack = {
        "run": "run-1", "name": "disclosure", "config": {"threshold": ATTACK.threshold}, "released": pictures,
    }  # fmt: skip
    private = {"plan": PLAN.to_json(), "steps": 1, "learning_rate": RATE}
    return {
        "query.hello": Hello,
        "query.reserve": lambda: reserve_request(plans=plans),
        "train": lambda: train_request(**private),
        "train again": lambda: train_request(**private, round=2, arrays=AGAIN),
        "query.guess": lambda: Guess(run="run-1", stage="views", rounds=2),
        "query.measure": lambda: Measure(run="run-1", stage="shapes", size=SIZE, plan=SHAPES.to_json()),
        "reference": lambda: train_request(stage="reference", plan=None, steps=3),
        "query.keys": lambda: Keys(**SUM),
        "query.shares": lambda: share(twins, site),
        "train.masked": lambda: masked_train(twins, site),
        "query.unmask": lambda: Unmask(**SUM, survivors=NAMES),
        "evaluate": lambda: Score(
            run="run-1",
            stage="assess",
            task="tiny_task",
            config={},
            size=SIZE,
            seed=1,
            personal="",
            arms={"release": ARM},
            groups={"ward": list(WARDS), "referrer": [CANARY], "sex": ["female"]},
        ),
        "query.attack": lambda: Attack(stage="formal", formal=True, **attack),
        "exact attack": lambda: Attack(stage="exact", formal=False, **attack),
        "query.screen": lambda: screen_request(shown, VOTES),
        "reserve exact": lambda: reserve_request(run="run-2"),
        "exact screen": lambda: screen_request(shown[: len(gone)], EXACT, run="run-2"),
        "query.sign": lambda: Sign(run="run-1", payload_type=PAYLOAD_TYPE, payload=statement(site)),
    }


AGAIN = {n: -a for n, a in WEIGHTS.items()}
ARM = {n: np.random.default_rng(0).normal(size=a.shape).astype(np.float32) for n, a in WEIGHTS.items()}


SUM: dict[str, Any] = {"run": "run-1", "stage": "reference-masked", "round": 1, "attempt": 1}


def share(twins: Twins, site: Site) -> Share:
    """Return the request that follows the keys of `site`; its peers are real, and say the same every time."""
    own, _ = wire.from_bytes((site.outbox.folder / "run-1/keys.reference-masked.1.1.safetensors").read_bytes(), Parts)
    peers = [masking.offer(Site(twins.root / "peers" / name), Keys(**SUM)).parts for name in NAMES[1:]]
    return Share(**SUM, threshold=2, sites=NAMES, offers=b"".join([own.parts, *peers]))


def masked_train(twins: Twins, site: Site) -> MaskedTrain:
    """Return the request that follows those shares; what peers seal to `site` is the first of their parts."""
    asked = share(twins, site)
    sealed = [masking.share(Site(twins.root / "peers" / name), asked).parts[:SEALED_BYTES] for name in NAMES[1:]]
    told = plain(train_request(stage="reference-masked", plan=None, steps=3))
    return MaskedTrain(**told, attempt=1, sharers=NAMES, sealed=b"".join(sealed))


def statement(site: Site) -> bytes:
    """Return a statement about `site` that it may sign; built of its receipt, so only after it has one."""
    admitted = admission.admitted(site, "run-1")
    entry = Entry(
        pseudonym=site.name, key_id=site.signing_key.key_id, n_rounded=PUBLIC, ledger_head=admitted.receipt.head,
        eps_spent_lifetime=admitted.receipt.epsilon,
    )  # fmt: skip
    repro = Repro(
        code_digest=admitted.code_digest, config_digest=admitted.experiment_digest, model_digest="c2",
        seeds={}, versions={}, hardware={}, determinism_level="bytes", replay_command="pericard simulate",
    )  # fmt: skip
    eps = {"eps": 1e3, "per_view": {"server": 1e3, "public": 1e3, "release": 1e3}}
    sites = (entry, dataclasses.replace(entry, key_id="00", pseudonym="corvus"))
    return dumps(certified.statement(sites=sites, repro=repro, dp=certified.formal(**eps)).to_json())


def serve(site: Site, asked: Mapping[str, Callable[[], Any]], *, seed: int = 0) -> Replies:
    """Ask one site everything in order, with the dice of `seed`, and keep what leaves."""
    line, replies = Wire(site), {}
    with same_clock_and_dice(seed) as load:
        for case, make in asked.items():
            request = make()
            load(case)
            before = len(line.sent)
            kind = messages.kind_of(request)
            arrived = line.raw(messages.encode(request), kind)
            replies[case] = Reply(kind=kind, sent=tuple(line.sent[before:]), arrived=arrived)
    return replies
