"""Secure aggregation end to end: whoever falls away, and whenever, the sum is that of who is in it, or an error."""

import dataclasses
import itertools
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message
from hypothesis import example, given, settings
from hypothesis import strategies as st

from client.app import app as client_app
from client.site import Site
from conf.aggregation import Aggregation
from learning import arrays, messages, wire
from learning.messages import Masked, MaskedTrain, Parts
from privacy import masks
from server.app import app as server_app
from server.federate import Checkpoint, federate
from server.grid import InProcessGrid, run_in_process
from server.rounds import QuorumLost, mean
from server.secure_sum import Mean, secure_mean
from tests.hospitals import WEIGHTS, campaign, reserve_stage, train_request, train_stage
from tests.masked import FIVE, acquainted, changing

KINDS = ("query.keys", "query.shares", "train.masked", "query.unmask")
DICE = np.random.default_rng(8)
SCALES = (1e-6, 1e-3, 1.0, 30.0, 1e3)
CHANGES = {
    name: {n: DICE.normal(scale=scale, size=a.shape).astype(np.float32) for n, a in WEIGHTS.items()}
    for name, scale in zip(FIVE, SCALES, strict=True)
}
QUORUM = 2
NOBODY: frozenset[str] = frozenset()
Fates = tuple[frozenset[str], ...]  # who falls away in each of the four exchanges
ROUNDS = itertools.count(1)


class Unlucky:
    """The real app, of which some replies are lost after they were made, or changed on the way."""

    def __init__(self, lost: Fates, spoil: Callable[[str, str, Any], Any] | None = None) -> None:
        self.lost, self.spoil, self.served = dict(zip(KINDS, lost, strict=True)), spoil, list[tuple[str, str]]()

    def __call__(self, message: Message, context: Context) -> Message:
        kind, name = message.metadata.message_type, Path(str(context.node_config["site"])).name
        self.served.append((kind, name))
        if self.spoil is not None:
            asked = self.spoil(kind, name, messages.decode(message.content, messages.REQUESTS[kind]))
            message.content = messages.encode(asked)
        reply = client_app(message, context)
        if name in self.lost[kind]:
            raise ConnectionError("lost")
        if self.spoil is not None and reply.has_content():
            said = self.spoil(kind, name, messages.decode(reply.content, messages.REPLIES[kind]))
            reply.content = messages.encode(said)
        return reply


@pytest.fixture(scope="module")
def five(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Site]]:
    with pytest.MonkeyPatch.context() as patch:
        changing(patch, CHANGES)
        yield acquainted(tmp_path_factory.mktemp("five"), FIVE)


def run(
    sites: list[Site],
    folder: Path,
    lost: Fates = (NOBODY,) * 4,
    *,
    number: int | None = None,
    spoil: Callable[[str, str, Any], Any] | None = None,
    **changes: Any,
) -> tuple[Mean, Unlucky]:
    app = Unlucky(lost, spoil)
    grid = InProcessGrid(app, [{"site": str(site.folder)} for site in sites])  # type: ignore[arg-type]
    nodes = dict(zip(sorted(site.name for site in sites), grid.get_node_ids(), strict=True))
    asked = train_request(round=number or next(ROUNDS), **changes)
    return secure_mean(grid, nodes, asked, quorum=QUORUM, seconds=1.0, folder=folder), app


def expected(lost: Fates) -> list[str] | None:
    """Return who must be in the sum; `None` where there must be none. Worked out from the rules, not from the code."""
    left = [name for name in FIVE if name not in lost[0]]
    threshold = max(QUORUM, math.ceil(2 * len(left) / 3))
    if len(left) < 3:
        return None
    for gone in lost[1:3]:
        left = [name for name in left if name not in gone]
        if len(left) < threshold:
            return None
    return left if len([name for name in left if name not in lost[3]]) >= threshold else None


def near(found: Mapping[str, Any], names: list[str]) -> None:
    plain = mean([CHANGES[name] for name in names])
    for n, exact in plain.items():
        rounding = np.abs(exact.astype(np.float64)) * 2.0**-23  # of the float32 that both means end in
        assert np.all(np.abs(found[n].astype(np.float64) - exact) <= masks.ERROR + rounding)


FATE = st.lists(st.sampled_from(FIVE), max_size=2).map(frozenset)


@settings(max_examples=60, deadline=None)
@given(lost=st.tuples(FATE, FATE, FATE, FATE))
@example(lost=(NOBODY,) * 4)
@example(lost=(frozenset({"draco"}), frozenset({"corvus"}), NOBODY, NOBODY))
@example(lost=(frozenset(FIVE[:2]), NOBODY, frozenset(FIVE[2:3]), NOBODY))
@example(lost=(NOBODY, frozenset({"aurora"}), NOBODY, NOBODY))
@example(lost=(NOBODY, NOBODY, frozenset({"borealis"}), NOBODY))
@example(lost=(NOBODY, NOBODY, NOBODY, frozenset({"eridanus"})))
@example(lost=(frozenset(FIVE[:3]), NOBODY, NOBODY, NOBODY))
@example(lost=(NOBODY, NOBODY, NOBODY, frozenset(FIVE[3:])))
def test_whoever_falls_away_the_mean_is_that_of_who_is_in_it_or_the_exchange_fails_in_words(
    five: list[Site], tmp_path_factory: pytest.TempPathFactory, lost: Fates
) -> None:
    folder, names = tmp_path_factory.mktemp("out"), expected(lost)
    if names is None:
        with pytest.raises(QuorumLost, match="the quorum is"):
            run(five, folder, lost)
        return
    found, _ = run(five, folder, lost)
    assert list(found.sites) == names
    assert set(found.failed) == set(FIVE) - set(names)
    near(found.change, names)


@pytest.mark.parametrize("k", range(4))
def test_a_site_that_never_heard_is_as_one_whose_answer_was_lost(five: list[Site], tmp_path: Path, k: int) -> None:
    def fault(message: Message) -> str | None:
        return "drop" if (message.metadata.message_type, message.metadata.dst_node_id) == (KINDS[k], 1002) else None

    grid = InProcessGrid(client_app, [{"site": str(site.folder)} for site in five], fault=fault)
    nodes = dict(zip(FIVE, grid.get_node_ids(), strict=True))
    asked = train_request(round=next(ROUNDS))
    found = secure_mean(grid, nodes, asked, quorum=QUORUM, seconds=1.0, folder=tmp_path)
    names = [name for name in FIVE if name != "corvus" or k == 3]
    assert list(found.sites) == names
    near(found.change, names)


def test_a_try_that_failed_is_followed_by_another_with_other_secrets(five: list[Site], tmp_path: Path) -> None:
    number = next(ROUNDS)
    for lost in ((NOBODY, frozenset(FIVE[:2]), NOBODY, NOBODY), (NOBODY, NOBODY, frozenset(FIVE[2:]), NOBODY)):
        with pytest.raises(QuorumLost):
            run(five, tmp_path, lost, number=number)
    found, _ = run(five, tmp_path, number=number)
    near(found.change, list(FIVE))
    attempts = five[0].folder / "outbox" / "run-1"
    raw = {wire.from_bytes(p.read_bytes(), Parts)[0].parts for p in attempts.glob(f"keys.views.{number}.*")}
    assert len(raw) == 3


def test_a_sum_that_sites_began_to_open_is_opened_later_and_asked_for_no_more(five: list[Site], tmp_path: Path) -> None:
    number = next(ROUNDS)
    with pytest.raises(QuorumLost, match=r"query\.unmask"):
        run(five, tmp_path, (NOBODY, NOBODY, frozenset({"draco"}), frozenset(FIVE[:2])), number=number)
    found, app = run(five, tmp_path, number=number)
    assert {kind for kind, _ in app.served} == {"query.unmask"}
    assert list(found.sites) == [name for name in FIVE if name != "draco"]
    near(found.change, list(found.sites))


def test_another_coordinator_does_not_get_a_second_sum_of_one_exchange(five: list[Site], tmp_path: Path) -> None:
    number = next(ROUNDS)
    run(five, tmp_path, number=number)
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / "attempt.json").write_text(f'{{"attempt":7,"round":{number},"stage":"views"}}')
    with pytest.raises(QuorumLost, match=r"no site answered.*REFUSED_POLICY"):
        run(five, tmp_path / "new", number=number)


def test_two_sites_are_no_sum(five: list[Site], tmp_path: Path) -> None:
    with pytest.raises(QuorumLost, match="needs 3 sites, 2 take part"):
        run(five[:2], tmp_path)


def test_sites_that_were_given_different_models_leave_masks_behind(five: list[Site], tmp_path: Path) -> None:
    def spoil(kind: str, name: str, told: Any) -> Any:
        if isinstance(told, MaskedTrain) and name == "aurora":
            return dataclasses.replace(told, arrays={n: a + 1 for n, a in told.arrays.items()})
        return told

    with pytest.raises(ValueError, match="is no sum of 5 changes: masks are left over"):
        run(five, tmp_path, spoil=spoil)


def test_a_site_that_opens_with_something_else_is_noticed(five: list[Site], tmp_path: Path) -> None:
    def spoil(kind: str, name: str, told: Any) -> Any:
        return (
            Parts(parts=bytes(len(told.parts)))
            if isinstance(told, Parts) and kind == KINDS[3] and name == "aurora"
            else told
        )

    with pytest.raises(ValueError, match="the sum cannot be opened: of 'aurora'"):
        run(five, tmp_path, spoil=spoil)


def test_a_site_whose_masks_are_off_is_noticed(five: list[Site], tmp_path: Path) -> None:
    """A mutant: whoever leaves its masks out sends its change in clear, and the sum of the others stays masked."""

    def spoil(kind: str, name: str, told: Any) -> Any:
        return Masked(arrays=masks.encode(CHANGES[name])) if isinstance(told, Masked) and name == "corvus" else told

    with pytest.raises(ValueError, match="masks are left over"):
        run(five, tmp_path, spoil=spoil)


def test_arrays_of_another_shape_are_left_out_and_their_masks_with_them(five: list[Site], tmp_path: Path) -> None:
    def spoil(kind: str, name: str, told: Any) -> Any:
        return (
            Masked(arrays={"2.bias": np.zeros(2, np.uint64)}) if isinstance(told, Masked) and name == "corvus" else told
        )

    found, _ = run(five, tmp_path, spoil=spoil)
    assert "other names or shapes" in found.failed["corvus"]
    near(found.change, list(found.sites))


def test_a_training_moves_by_that_mean_and_leaves_nothing_to_open(five: list[Site], tmp_path: Path) -> None:
    grid = InProcessGrid(client_app, [{"site": str(site.folder)} for site in five])
    nodes, first = dict(zip(FIVE, grid.get_node_ids(), strict=True)), min(next(ROUNDS), next(ROUNDS))
    told: list[str] = []
    end = federate(
        grid, nodes, WEIGHTS, lambda number, weights: train_request(round=first + number - 1, arrays=weights),
        rounds=2, quorum=4, seconds=1.0, step=Aggregation(secure=True), folder=tmp_path,
        progress=lambda done, words: told.append(words),
    )  # fmt: skip
    step = mean(list(CHANGES.values()))
    for n, start in WEIGHTS.items():
        np.testing.assert_allclose(end.kept[n], start + 2 * step[n], rtol=1e-5, atol=1e-6)
    assert [h["sites"] for h in end.history] == [list(FIVE)] * 2
    assert {path.suffix for path in tmp_path.iterdir()} == {".safetensors", ".json"}
    assert len(list(tmp_path.iterdir())) == 2
    assert sum("the sum alone is seen" in words for words in told) == 2
    assert Checkpoint.read(tmp_path) is not None


@pytest.mark.parametrize("strategy", ["median", "trimmed_mean", "krum", "multi_krum"])
def test_a_strategy_that_compares_sites_is_refused_by_name(strategy: str) -> None:
    with pytest.raises(ValueError, match=f"secure=true hides what strategy={strategy} compares"):
        Aggregation(strategy=strategy, secure=True)


def test_a_campaign_under_masks_ends_with_the_same_model_to_the_stated_error(tmp_path: Path) -> None:
    """Noise off: the reference arm, whose steps are the same every time."""
    ended = {}
    for secure in (False, True):
        sites = [site.folder for site in acquainted(tmp_path / f"sites-{secure}")]
        stage = train_stage("reference", plan=None, rounds=1, aggregation={"secure": secure})
        told = campaign(tmp_path / f"out-{secure}", reserve_stage(), stage)
        run_in_process(server_app, client_app, told.to_json(), sites)
        ended[secure] = arrays.read(tmp_path / f"out-{secure}/campaign/02-reference/weights.safetensors")
    for n, plain in ended[False].items():
        assert np.max(np.abs(plain)) < 1  # so that the last bit of a float32 is one of 2^-24
        assert np.all(np.abs(ended[True][n].astype(np.float64) - plain) <= masks.ERROR + 2.0**-23)
        assert np.any(plain != 0)
