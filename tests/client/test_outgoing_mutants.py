"""Ways to say more than is covered, each put into the code that runs: the oracle of outgoing bytes sees them all."""

import dataclasses
import sys
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import numpy as np
import pytest
import torch
from flwr.app import Error
from numpy.typing import NDArray

import client.assessment
import client.groups
import client.screening
import client.training
import learning.learner
import privacy.moments
from client import admission, boundary
from client.site import Site
from cohorts.frames import Frames
from cohorts.split import Split
from learning import messages
from learning.messages import Greeting, Hello, Train, Trained
from privacy.attacks.disclosure import Disclosure
from privacy.audit.layer import AuditLayer
from privacy.gradients import SubjectGradients, noisy_mean
from privacy.mechanism import DpPlan
from privacy.randomness import SecureRandom
from privacy.votes import Gate, VoteFilter
from synthesis import likeness
from tests.hospitals import CANARY, SIZE, WEIGHTS, TinyLearner, log_of
from tests.oracle import LESS, differing, foreign, silent, unlike_a_heart, unlike_a_person, wordy
from tests.twins import Replies, Twins, requests, serve

Patch = pytest.MonkeyPatch
NOISED = ("train", "query.measure", "query.attack", "query.screen")


@pytest.fixture(scope="module")
def twins(tmp_path_factory: pytest.TempPathFactory) -> Twins:
    born = Twins.born(tmp_path_factory.mktemp("mutants"))
    born.site("whole")
    return born


def complaints(twins: Twins, name: str, case: str, leak: Callable[[Patch], None]) -> list[str]:
    """Serve `case` to a site, to its twins and under other dice, all with the `leak`; return what the oracle says."""

    def say(site: Site, seed: int = 0) -> Replies:
        before = {"query.guess": ("train", "train again")}.get(case, ())
        wanted = ("query.reserve", *before, case)
        with Patch.context() as patch:
            leak(patch)
            return serve(site, {c: make for c, make in requests(twins, site).items() if c in wanted}, seed=seed)

    reply = say(twins.site(f"{name}-whole"))[case]
    found = foreign(case, reply)
    for less in Split:
        other = say(twins.site(f"{name}-{less}", less=less))[case]
        if not found:
            found += foreign(case, other) + differing(case, reply, other, LESS[less])
        if not found and case == "train" and less is Split.MEMBERS:
            found += unlike_a_person(case, reply, other, twins.last(less), WEIGHTS)
        if not found and case == "query.measure" and less is Split.MEMBERS:
            found += unlike_a_heart(case, reply, other, twins.last(less))
    if not found and case in NOISED:
        others = [say(twins.site(f"{name}-{seed}"), seed)[case] for seed in range(1, 6)]
        found += silent(case, [reply, *others])
    return found


def members(site: Site) -> Frames:
    return site.frames(Split.MEMBERS, size=SIZE)


def in_training(add: Callable[[Site, dict[str, NDArray[Any]]], object]) -> Callable[[Patch], None]:
    """Return a leak that changes the arrays of a training reply, knowing the site."""

    def leak(patch: Patch) -> None:
        def broken(site: Site, request: Train, plan: DpPlan | None) -> Trained:
            arrays = dict(honest(site, request, plan).arrays)
            add(site, arrays)
            return Trained(arrays=arrays)

        honest = client.training._fit
        patch.setattr(client.training, "_fit", broken)

    return leak


def loss_of(site: Site) -> np.float32:
    learner, frames = TinyLearner(""), members(site)
    for name, parameter in learner.module.named_parameters():
        parameter.data = torch.from_numpy(WEIGHTS[name].copy())
    losses = learner.losses(frames, np.arange(len(frames)), generator=torch.Generator())
    return np.float32(losses.detach().sum())


def number_of_examples(site: Site, arrays: dict[str, NDArray[Any]]) -> None:
    arrays["num_examples"] = np.array([len(members(site))], np.float32)


def loss_beside_the_arrays(site: Site, arrays: dict[str, NDArray[Any]]) -> None:
    arrays["loss"] = np.array([loss_of(site)], np.float32)


def loss_within_an_array(site: Site, arrays: dict[str, NDArray[Any]]) -> None:
    arrays["2.bias"] = np.array([loss_of(site), arrays["2.bias"][1]], np.float32)


def pseudonym_as_a_name(site: Site, arrays: dict[str, NDArray[Any]]) -> None:
    arrays[members(site).subjects[0]] = np.zeros(1, np.float32)


def shape_that_counts(site: Site, arrays: dict[str, NDArray[Any]]) -> None:
    arrays["2.bias"] = np.resize(arrays["2.bias"], len(members(site).subjects)).astype(np.float32)


def realised_batch_as_denominator(patch: Patch) -> None:
    def broken(learner: Any, frames: Frames, plan: DpPlan, **told: Any) -> None:
        honest(learner, frames, plan, **{**told, "public_subjects": len(frames.subjects)})

    honest = learning.learner.fit_private
    patch.setattr(learning.learner, "fit_private", broken)


def array_without_noise(patch: Patch) -> None:
    def broken(total: torch.Tensor, plan: DpPlan, *, public_subjects: int, random: SecureRandom) -> torch.Tensor:
        update = noisy_mean(total, plan, public_subjects=public_subjects, random=random)
        update[32:34] = total[32:34] / (plan.sampling_rate * public_subjects)
        return update

    patch.setattr(learning.learner, "noisy_mean", broken)


def half_of_the_noise(patch: Patch) -> None:
    def broken(total: torch.Tensor, plan: DpPlan, **told: Any) -> torch.Tensor:
        return noisy_mean(total, dataclasses.replace(plan, noise_multiplier=plan.noise_multiplier / 2), **told)

    patch.setattr(learning.learner, "noisy_mean", broken)


def no_clip(patch: Patch) -> None:
    def broken(self: SubjectGradients, losses: torch.Tensor, n_subjects: int, clip_norm: float) -> torch.Tensor:
        return self.flat(losses, n_subjects).double().sum(0)

    patch.setattr(SubjectGradients, "clipped_sum", broken)


def half_of_the_noise_of_moments(patch: Patch) -> None:
    def broken(total: torch.Tensor, plan: DpPlan, **told: Any) -> torch.Tensor:
        return noisy_mean(total, dataclasses.replace(plan, noise_multiplier=plan.noise_multiplier / 2), **told)

    patch.setattr(privacy.moments, "noisy_mean", broken)


def moments_without_a_clip(patch: Patch) -> None:
    patch.setattr(privacy.moments, "clip", lambda rows, clip_norm: rows)


def number_of_hearts_beside_the_moments(patch: Patch) -> None:
    def broken(members: Frames, plan: DpPlan, **told: Any) -> NDArray[np.float64]:
        return np.append(honest(members, plan, **told)[:-1], len(members.subjects))

    honest = likeness.told
    patch.setattr(likeness, "told", broken)


def exact_size_in_the_greeting(patch: Patch) -> None:
    def broken(site: Site, request: Hello) -> Greeting:
        return dataclasses.replace(honest(site, request), public_subjects=len(site.cohort.subjects))

    honest = admission.greet
    patch.setattr(admission, "greet", broken)


def rounded_size_in_a_formal_attack(patch: Patch) -> None:
    def broken(self: Disclosure, released: Frames, members: Frames, controls: Frames, **told: Any) -> Any:
        found = honest(self, released, members, controls, **told)
        return dataclasses.replace(found, members=len(members.subjects) // 10 * 10)

    honest = Disclosure.count
    patch.setattr(Disclosure, "count", broken)


def counts_without_noise(patch: Patch) -> None:
    patch.setattr(SecureRandom, "discrete_laplace", lambda *_, **__: 0)


def votes_without_noise(patch: Patch) -> None:
    patch.setattr(VoteFilter, "accept", lambda self, counts, random: counts < self.threshold)


def gate_without_noise(patch: Patch) -> None:
    patch.setattr(Gate, "release", lambda self, touched, random: touched)


def bit_for_every_picture(patch: Patch) -> None:
    def broken(*told: Any, **more: Any) -> Any:
        found = honest(*told, **more)
        return dataclasses.replace(found, bits=found.bits * 4)

    honest = client.screening._by_votes
    patch.setattr(client.screening, "_by_votes", broken)


def nearest_among_the_counts(patch: Patch) -> None:
    def broken(*told: Any, **more: Any) -> Any:
        found = honest(*told, **more)
        return dataclasses.replace(found, counts={**found.counts, "nearest": 7})

    honest = client.screening._by_votes
    patch.setattr(client.screening, "_by_votes", broken)


def loss_among_the_counts(patch: Patch) -> None:
    patch.setattr(client.assessment, "asdict", lambda found: asdict(found) | {"loss": 0.25})


def gradient_norm_among_the_guesses(patch: Patch) -> None:
    patch.setattr(client.training, "asdict", lambda found: asdict(found) | {"gradient_norm": 3})


def scores_of_the_canaries(patch: Patch) -> None:
    @dataclasses.dataclass
    class Told:
        scores: list[float]

    patch.setattr(AuditLayer, "guesses", lambda self: {"sum": Told(self.scores("sum").tolist())})


def coins_of_the_canaries(patch: Patch) -> None:
    @dataclasses.dataclass
    class Told:
        coins: dict[str, int]

    patch.setattr(AuditLayer, "guesses", lambda self: {"sum": Told({f"c{i}": int(self.included[i]) for i in range(9)})})


def words_of_the_table(patch: Patch) -> None:
    def broken(site: Site, frames: Frames, columns: Any) -> Any:
        told = {c: np.array([site._labels[s].get(c, "") for s in frames.subjects]) for c in columns}
        return {c: {word: words == word for word in set(words.tolist())} for c, words in told.items()}

    patch.setattr(client.groups, "allowed", lambda site, asked: asked)
    patch.setattr(client.groups, "membership", broken)


def size_of_a_group(patch: Patch) -> None:
    def broken(*told: Any) -> Any:
        return {word: cell | {"exact_n": 7} for word, cell in honest(*told).items()}

    honest = client.groups.told_apart
    patch.setattr(client.groups, "told_apart", broken)


def length_that_counts(patch: Patch) -> None:
    def broken(message: object) -> Any:
        record = honest(message)
        if isinstance(message, Trained):
            record["message"]["json"] += " " * 7  # type: ignore[operator,call-overload,index]
        return record

    honest = messages.encode
    patch.setattr(messages, "encode", broken)


MUTANTS: list[tuple[str, Callable[[Patch], None], str]] = [
    ("train", in_training(number_of_examples), "says"),
    ("train", in_training(loss_beside_the_arrays), "says"),
    ("train", in_training(loss_within_an_array), "differs by"),
    ("train", in_training(pseudonym_as_a_name), "says"),
    ("train", in_training(shape_that_counts), "says"),
    ("train", realised_batch_as_denominator, "differs by"),
    ("train", array_without_noise, "2.bias has"),
    ("train", half_of_the_noise, "2.weight has"),
    ("train", no_clip, "differs by"),
    ("train", length_that_counts, "bytes that its schema does not read"),
    ("query.measure", half_of_the_noise_of_moments, "moments has"),
    ("query.measure", moments_without_a_clip, "differs by"),
    ("query.measure", number_of_hearts_beside_the_moments, "differs by"),
    ("query.hello", exact_size_in_the_greeting, "public_subjects differs"),
    ("evaluate", words_of_the_table, "referrer"),
    ("evaluate", size_of_a_group, "says"),
    ("query.attack", rounded_size_in_a_formal_attack, "counts.members differs"),
    ("query.attack", counts_without_noise, "has no noise"),
    ("query.attack", loss_among_the_counts, "says"),
    ("query.screen", votes_without_noise, "bits has no noise"),
    ("query.screen", gate_without_noise, "counts.members has no noise"),
    ("query.screen", bit_for_every_picture, "says"),
    ("query.screen", nearest_among_the_counts, "says"),
    ("query.guess", gradient_norm_among_the_guesses, "says"),
    ("query.guess", scores_of_the_canaries, "refused with FAILED"),  # by the schema, before the oracle
    ("query.guess", coins_of_the_canaries, "says"),
]
NAMES = [
    "number of examples", "loss beside the arrays", "loss within an array", "pseudonym as a name", "shape that counts",
    *[leak.__name__.replace("_", " ") for _, leak, _ in MUTANTS[5:]],
]  # fmt: skip


@pytest.mark.parametrize(("case", "leak", "words"), MUTANTS, ids=NAMES)
def test_the_oracle_sees(
    twins: Twins, request: pytest.FixtureRequest, case: str, leak: Callable[[Patch], None], words: str
) -> None:
    found = complaints(twins, request.node.callspec.id.replace(" ", "-"), case, leak)
    assert any(words in one for one in found), found


def test_the_oracle_sees_nothing_where_nothing_leaks(twins: Twins) -> None:
    for case in NOISED:
        assert complaints(twins, f"honest-{case}", case, lambda patch: None) == []


# --- Failures: what breaks inside breaks without words ---


def breaking(where: str, site: Site, patch: Patch) -> str:
    """Have `where` raise an error that names a file of a patient, and a pseudonym; return its words."""
    words = f"/records/{CANARY}-3.dcm of {members(site).subjects[0]} in {site.folder}"

    def fail(*_: object, **__: object) -> None:
        raise FileNotFoundError(words)

    patch.setattr(where, fail)
    return words


BREAKS = {
    "query.hello": "client.admission.own_code",
    "query.reserve": "privacy.ledger.PrivacyLedger.authorise",
    "train": "learning.learner.noisy_mean",
    "train again": "tests.hospitals.TinyLearner.losses",
    "query.guess": "privacy.audit.layer.AuditLayer.guesses",
    "query.measure": "privacy.moments.noisy_mean",
    "reference": "tests.hospitals.TinyLearner.losses",
    "evaluate": "tests.hospitals.TinyTask.scores",
    "query.attack": "privacy.attacks.disclosure._likeness",
    "exact attack": "privacy.attacks.disclosure.embed_poses",
    "query.screen": "privacy.votes.ballots",
    "exact screen": "privacy.reidentification.ReidentificationFilter.calibrate",
    "query.sign": "client.countersign._compare",
}


def broken(twins: Twins, case: str, name: str, less: Split | None = None) -> tuple[Any, str, Site]:
    """Return the reply to `case` when what it stands on breaks, the words of the break, and the site."""
    site = twins.site(f"{name}-{case.replace(' ', '-')}", less=less)
    asked = requests(twins, site)
    earlier = list(asked)[: list(asked).index(case)]
    needed = [
        c
        for c in earlier
        if c in ("query.reserve", "reserve exact") or (case == "query.guess" and c.startswith("train"))
    ]
    serve(site, {c: asked[c] for c in needed})
    request = asked[case]()  # a statement is made before anything breaks
    with Patch.context() as patch:
        words = breaking(BREAKS[case], site, patch)
        return serve(site, {case: lambda: request})[case], words, site


@pytest.mark.parametrize("case", BREAKS)
def test_what_breaks_inside_says_a_code_and_the_same_with_one_person_less(twins: Twins, case: str) -> None:
    reply, words, site = broken(twins, case, "broken")
    assert wordy(case, reply) == []
    assert any(entry["words"] == words for entry in log_of(site))  # it did break there, and the site knows
    for word in (CANARY, str(site.folder), *site.cohort.subjects):
        assert not any(word.encode() in part for part in reply.sent)
    other, _, _ = broken(twins, case, "broken-less", less=Split.MEMBERS)
    assert differing(case, reply, other, set()) == []


def test_the_oracle_sees_words_in_an_error(twins: Twins, monkeypatch: Patch) -> None:
    monkeypatch.setattr(boundary, "Error", lambda code, reason: Error(code, f"{reason} {sys.exc_info()[1]}"))
    reply, _, _ = broken(twins, "train", "wordy")
    assert wordy("train", reply) == ["train: words in an error"]
    assert any(CANARY.encode() in part for part in reply.sent)
