"""The outgoing-bytes oracle: one person more or less changes nothing that leaves a site, except what a charge covers.

Two sites share their secrets, their clock and the randomness of their privacy; one lacks a person. Every message type
is served by both. Whatever differs must stand in `MAY_DIFFER` with the row of the coverage table that allows it; what
is allowed because it is charged must be noised, and by no more than that person's clipped contribution.
"""

import dataclasses
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from client import admission, training
from client.site import Site
from cohorts.deidentify import Pseudonyms
from cohorts.frames import Frames
from cohorts.readers import READERS
from cohorts.split import Split
from cohorts.study import Cohort
from evaluation.envelope import PAYLOAD_TYPE
from learning import learner, messages
from learning.messages import REPLIES, REQUESTS, Attack, Code, Greeting, Guess, Hello, Score, Screen, Sign
from learning.schema import canonical
from privacy.coverage import STEPS, Cost
from privacy.mechanism import DpPlan, LaplacePlan
from privacy.randomness import SecureRandom
from tests.client.test_countersign import payload
from tests.hospitals import (
    CANARY,
    SIZE,
    WEIGHTS,
    CanaryReader,
    TinyLearner,
    Wire,
    hospital,
    images,
    reserve_request,
    train_request,
)

TRAIN = DpPlan(purpose="train.views", sampling_rate=1.0, noise_multiplier=1.0, clip_norm=0.05, steps=1, draws=2)
COUNT = LaplacePlan(purpose="tiny_attack", epsilon=0.5)
RATE = 0.5

# Message type and field → the step of the coverage table that says why it may depend on one person.
MAY_DIFFER = {
    ("train", "arrays"): "train.views",
    ("train/reference", "arrays"): "reference.federated",
    ("evaluate", "scores"): "scores.test",
    ("evaluate", "differences"): "reference.local",
    ("query.attack", "counts"): "attack.disclosure",
    ("query.attack/exact", "counts"): "attack.exact",
    ("query.screen", "bits"): "screening.reidentification",
}


@READERS("adjacent")
@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Adjacent:
    """The cohort of `CanaryReader` without one person: `without` is a number, -1 for nobody."""

    without: int = -1

    def read(self, *, pseudonyms: Pseudonyms) -> Cohort:
        whole = CanaryReader().read(pseudonyms=pseudonyms)
        return whole.restrict(set(whole.subjects) - {pseudonyms.subject(f"{CANARY}-{self.without}")})


class Aligned(SecureRandom):
    """DP randomness that two sites share: who is drawn, which frames, and the noise come from streams of their own.

    Where everybody is drawn, leaving a person out then shifts no noise: all that is left of the person is the person.
    """

    def __init__(self) -> None:
        super().__init__()
        self._draws, self._rows, self._noise, self._counts = (np.random.default_rng(k) for k in range(4))

    def bernoulli(self, n: int, probability: float) -> NDArray[np.bool_]:
        return self._draws.random(n) < probability

    def bytes(self, n: int) -> bytes:
        return self._rows.bytes(n)

    def normal(self, shape: Any, *, dtype: Any = np.float32) -> Any:
        return self._noise.standard_normal(shape).astype(dtype)

    def discrete_laplace(self, epsilon: float) -> int:
        return int(self._counts.integers(-5, 6))


@pytest.fixture(autouse=True)
def shared_randomness_and_clock() -> Iterator[None]:
    class Noon(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> datetime:
            return datetime(2031, 5, 4, 12, tzinfo=UTC)

    with patch("privacy.randomness.SecureRandom", Aligned), patch("privacy.chain.datetime", Noon):
        yield


Outgoing = dict[str, dict[str, bytes]]


class Pair:
    """A site, and the same site without one person; and both once more, for when nobody has anything to say."""

    def __init__(self, root: Path, split: Split = Split.MEMBERS) -> None:
        told = {"max_sampling_rate": 1.0, "epsilon_cap": 1000.0, "min_cell": 3}
        self.whole = hospital(root / "whole", cohort={"reader": "adjacent", "without": -1}, **told)
        # The last one in the order of the cohort, so that the frames drawn from everybody else stay the same.
        person = self.whole.frames(split, size=SIZE).subjects[-1]
        key = Pseudonyms(self.whole._secret("pseudonym.key"))
        self.number = next(k for k in range(40) if key.subject(f"{CANARY}-{k}") == person)
        self.lacking = hospital(root / "lacking", cohort={"reader": "adjacent", "without": self.number}, **told)
        lacking = {"reader": "adjacent", "without": self.number}
        self.silent = (
            hospital(root / "silent", cohort={"reader": "adjacent", "without": -1}, **told),
            hospital(root / "silent-lacking", cohort=lacking, **told),
        )
        for site in (self.lacking, *self.silent):
            shutil.copytree(self.whole.folder / "secrets", site.folder / "secrets", dirs_exist_ok=True)

    def outgoing(self) -> tuple[Outgoing, Outgoing]:
        return leaves(self.whole), leaves(self.lacking)


def leaves(site: Site) -> Outgoing:
    """Serve one request of every type; return, per type and field, the bytes that left."""
    wire = Wire(site)
    found: Outgoing = {}

    def ask(name: str, request: object) -> None:
        kind = messages.kind_of(request)
        reply = wire.raw(messages.encode(request), kind)
        assert not reply.has_error(), f"{name}: {Code(reply.error.code).name}"
        assert messages.decode(reply.content, REPLIES[kind]) is not None
        record = dict(reply.content["message"])
        fields = {"schema": str(record["schema"]).encode()}
        decoded = messages.decode(reply.content, REPLIES[kind])
        for field in dataclasses.fields(decoded):
            value = getattr(decoded, field.name)
            if field.name == "arrays":
                value = {n: [a.dtype.str, list(a.shape), a.tobytes().hex()] for n, a in value.items()}
            fields[field.name] = canonical(value.hex() if isinstance(value, bytes) else value).encode()
        found[name] = fields

    ask("query.hello", Hello())
    ask("query.reserve", reserve_request(TRAIN, COUNT))  # type: ignore[arg-type]
    told = {"plan": TRAIN.to_json(), "steps": 1, "learning_rate": RATE}
    ask("train", train_request(**told))
    ask("query.guess", Guess(run="run-1", stage="views", rounds=1))
    ask("train/reference", train_request(plan=None, stage="reference"))
    ask("evaluate", Score(run="run-1", stage="a", task="tiny_task", config={}, size=SIZE, seed=1, arms={"x": WEIGHTS}))
    attack = {"run": "run-1", "name": "tiny_attack", "config": {}, "released": images()}
    ask("query.attack", Attack(stage="a", formal=True, **attack))  # type: ignore[arg-type]
    ask("query.attack/exact", Attack(stage="b", formal=False, **attack))  # type: ignore[arg-type]
    ask("query.screen", Screen(run="run-1", stage="screen", config={"alpha": 0.4}, candidates=images()))
    ask("query.sign", Sign(run="run-1", payload_type=PAYLOAD_TYPE, payload=payload(site)))
    return found


def differing(one: Outgoing, other: Outgoing) -> set[tuple[str, str]]:
    """Return where the bytes differ; raises `AssertionError` where types, fields or names do."""
    assert {n: set(f) for n, f in one.items()} == {n: set(f) for n, f in other.items()}
    return {(n, field) for n in one for field in one[n] if one[n][field] != other[n][field]}


def arrays_of(outgoing: Outgoing, name: str) -> dict[str, NDArray[np.float32]]:
    import json

    found = json.loads(outgoing[name]["arrays"])
    return {n: np.frombuffer(bytes.fromhex(raw), dtype).reshape(shape) for n, (dtype, shape, raw) in found.items()}


def oracle(pair: Pair) -> None:
    """Raise `AssertionError` where a person shows in what leaves."""
    whole, lacking = pair.outgoing()
    assert {name.split("/")[0] for name in whole} == set(REQUESTS), "a message type has no case here"
    assert differing(whole, lacking) <= set(MAY_DIFFER)
    for name in ("train", "train/reference"):
        one, other = arrays_of(whole, name), arrays_of(lacking, name)
        assert {n: a.shape for n, a in one.items()} == {n: a.shape for n, a in WEIGHTS.items()}
        assert {n: a.shape for n, a in other.items()} == {n: a.shape for n, a in WEIGHTS.items()}
    one, other = arrays_of(whole, "train"), arrays_of(lacking, "train")
    moved = np.sqrt(sum(float(np.square(one[n].astype(np.float64) - other[n]).sum()) for n in one))
    most = RATE * TRAIN.clip_norm / (TRAIN.sampling_rate * pair.whole.file.public_subjects // 2)
    assert moved <= most * (1 + 1e-4) + 1e-7, f"a person moves the update by {moved:.3g}, at most {most:.3g} is charged"
    # With every gradient zero nothing is left but noise over a public number: the same for both, and everywhere.
    with patch.object(TinyLearner, "losses", nothing_to_say):
        noise, same = (arrays_of(leaves(site), "train") for site in pair.silent)
    for name in noise:
        assert np.array_equal(noise[name], same[name]), f"the noise on {name!r} is scaled by who is there"
        assert (noise[name] != 0).all(), f"{name!r} carries numbers without noise"


def nothing_to_say(self: TinyLearner, frames: Frames, rows: NDArray[np.int64], *, generator: torch.Generator) -> Any:
    """Return losses that depend on no parameter, though a gradient flows."""
    x = torch.from_numpy(frames.pixels[rows]).float().unsqueeze(1)
    return 0 * self.module(x).sum(1)


@pytest.mark.parametrize("split", list(Split))
def test_a_person_more_or_less_changes_nothing_but_what_is_charged_or_declared(tmp_path: Path, split: Split) -> None:
    oracle(Pair(tmp_path, split))


def test_the_charge_of_a_person_who_trains_is_really_spent(tmp_path: Path) -> None:
    """A control: were the two cohorts the same, nothing would differ, and the oracle would see nothing."""
    whole, lacking = Pair(tmp_path).outgoing()
    assert ("train", "arrays") in differing(whole, lacking)


def test_coins_and_noise_alone_decide_what_canaries_say(tmp_path: Path) -> None:
    whole, lacking = Pair(tmp_path).outgoing()
    assert whole["query.guess"] == lacking["query.guess"]


def test_every_exception_in_the_table_is_one_the_coverage_page_explains() -> None:
    for step in MAY_DIFFER.values():
        assert STEPS[step].cost is not Cost.FREE


@pytest.mark.parametrize(
    ("changes", "request_"),
    [
        (
            {"allow_scores": False},
            Score(run="run-1", stage="a", task="tiny_task", config={}, size=SIZE, seed=1, arms={}),
        ),
        ({"allow_non_dp_reference": False}, train_request(plan=None, stage="reference")),
        (
            {"allow_empirical": False},
            Attack(run="run-1", stage="b", name="tiny_attack", config={}, formal=False, released=images()),
        ),
        ({"allow_empirical": False}, Screen(run="run-1", stage="screen", config={}, candidates=images())),
    ],
)
def test_what_no_charge_covers_leaves_only_with_the_hospitals_word(
    tmp_path: Path, changes: dict[str, Any], request_: object
) -> None:
    wire = Wire(hospital(tmp_path, **changes))
    wire.ask(reserve_request())
    assert wire.ask(request_) is Code.REFUSED_POLICY


# ---- ways to leak, each in the code that runs


def an_extra_array(value: Callable[[Any, Any], float]) -> AbstractContextManager[Any]:
    honest = training._change

    def broken(learner: Any, request: Any) -> Any:
        return {**honest(learner, request), "n": np.array([value(learner, request)], np.float32)}

    return patch.object(training, "_change", broken)


def number_of_examples() -> AbstractContextManager[Any]:
    return an_extra_array(lambda *_: 19.0)


def gradient_norm() -> AbstractContextManager[Any]:
    return an_extra_array(lambda learner, _: float(sum(p.detach().norm() for p in learner.module.parameters())))


def exact_size() -> AbstractContextManager[Any]:
    def broken(site: Site, request: Hello) -> Greeting:
        honest = greet(site, request)
        return dataclasses.replace(honest, public_subjects=len(site.cohort.subjects))

    greet = admission.greet
    return patch.object(admission, "greet", broken)


def realised_batch() -> AbstractContextManager[Any]:
    honest = learner.fit_private

    def broken(part: Any, frames: Frames, plan: DpPlan, **told: Any) -> None:
        honest(part, frames, plan, **{**told, "public_subjects": len(frames.subjects)})

    return patch.object(learner, "fit_private", broken)


def no_noise() -> AbstractContextManager[Any]:
    return patch.object(Aligned, "normal", lambda self, shape, *, dtype=np.float32: np.zeros(shape, dtype))


def no_clip() -> AbstractContextManager[Any]:
    from privacy.gradients import SubjectGradients

    return patch.object(
        SubjectGradients, "clipped_sum", lambda self, losses, n, clip_norm: self.flat(losses, n).double().sum(0)
    )


@pytest.mark.parametrize(
    "leak", [number_of_examples, gradient_norm, exact_size, realised_batch, no_noise, no_clip], ids=lambda f: f.__name__
)
def test_the_oracle_sees(tmp_path: Path, leak: Callable[[], AbstractContextManager[Any]]) -> None:
    pair = Pair(tmp_path)
    with leak(), pytest.raises(AssertionError):
        oracle(pair)


def test_words_of_an_error_stay_at_home(tmp_path: Path) -> None:
    wire = Wire(hospital(tmp_path))
    wire.ask(reserve_request())
    reply = wire.raw(messages.encode(train_request(plan=None, stage="reference", config={"words": CANARY})), "train")
    assert re.fullmatch(r"[A-Z_]+ ref=[0-9a-f]{12}", reply.error.reason)
    assert not any(CANARY.encode() in part for part in wire.sent)
