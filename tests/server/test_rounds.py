"""Exchanges: sorted, complete or listed, and closed to what was not asked for."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, Context, Error, Message, MetricRecord
from flwr.clientapp import ClientApp
from hypothesis import given
from hypothesis import strategies as st

from learning import messages
from learning.messages import Code, Greeting, Hello, Trained
from server.grid import InProcessGrid
from server.rounds import NO_REPLY, Answers, QuorumLost, ask, discover, fits, mean

GIVEN = {"w": np.zeros((2, 3), np.float32)}
Answer = Callable[[Message, str], Message]


def greet(message: Message, name: str) -> Message:
    greeting = Greeting(site=name, public_subjects=10, public_key=bytes(32), code_digest="0" * 64)
    return Message(messages.encode(greeting), reply_to=message)


def grid_of(answers: dict[str, Answer], **changes: Any) -> tuple[InProcessGrid, dict[str, int]]:
    """Return a grid whose nodes answer as told, and the node of each name; later names come first."""
    app = ClientApp()

    def serve(message: Message, context: Context) -> Message:
        name = str(context.node_config["name"])
        return answers[name](message, name)

    app.query("hello")(serve)
    app.train()(serve)
    names = sorted(answers, reverse=True)
    grid = InProcessGrid(app, [{"name": name} for name in names], **changes)
    return grid, dict(zip(names, grid.get_node_ids(), strict=True))


def refuse(message: Message, name: str) -> Message:
    return Message(Error(Code.REFUSED_BUDGET, "REFUSED_BUDGET ref=0123456789ab"), reply_to=message)


def leak(message: Message, name: str) -> Message:
    raise ValueError("/records/DOE-JANE.dcm")


def record(change: Callable[[Any], None]) -> Answer:
    def answer(message: Message, name: str) -> Message:
        found = messages.encode(Trained(arrays={"w": np.ones((2, 3), np.float32)}))
        change(found)
        return Message(found, reply_to=message)

    return answer


def arrays(**named: Any) -> Answer:
    return record(lambda r: r.__setitem__("arrays", ArrayRecord({f"arrays/{n}": Array(a) for n, a in named.items()})))


good = record(lambda r: None)


def test_sites_are_found_by_name_and_sorted() -> None:
    grid, nodes = grid_of(dict.fromkeys(("corvus", "aurora", "borealis"), greet))
    found = discover(grid, quorum=3, seconds=1)
    assert list(found) == ["aurora", "borealis", "corvus"]
    assert {name: node for name, (node, _) in found.items()} == nodes


def test_two_nodes_of_one_name_stop_the_campaign() -> None:
    grid, _ = grid_of({"a": lambda m, _: greet(m, "same"), "b": lambda m, _: greet(m, "same")})
    with pytest.raises(ValueError, match="two nodes are named 'same'"):
        discover(grid, quorum=1, seconds=1)


def test_too_few_sites_are_an_error_that_says_who_failed_and_why() -> None:
    grid, nodes = grid_of({"aurora": greet, "borealis": refuse, "corvus": leak})
    with pytest.raises(QuorumLost, match=r"aurora answered, the quorum is 2 .*borealis: REFUSED_BUDGET ref=01") as lost:
        ask(grid, nodes, lambda _: Hello(), quorum=2, seconds=1)
    assert lost.value.failed["corvus"] == "Flower error 2"
    assert "JANE" not in str(lost.value)


def test_a_site_that_does_not_answer_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    grid, nodes = grid_of(
        {"aurora": greet, "borealis": greet}, fault=lambda m: "drop" if m.metadata.dst_node_id == 1000 else None
    )
    answers: Answers[Greeting] = ask(grid, nodes, lambda _: Hello(), quorum=1, seconds=1)
    assert list(answers.replies) == ["aurora"]
    assert answers.failed == {"borealis": NO_REPLY}


@pytest.mark.parametrize(
    "foreign",
    [
        arrays(w=np.full((2, 3), np.nan, np.float32)), arrays(w=np.full((2, 3), np.inf, np.float32)),
        arrays(w=np.ones((3, 2), np.float32)), arrays(w=np.ones((1,), np.float32)), arrays(w=np.ones((2, 3))),
        arrays(v=np.ones((2, 3), np.float32)), arrays(),
        arrays(w=np.ones((2, 3), np.float32), v=np.ones(1, np.float32)),
        record(lambda r: r.__setitem__("metrics", MetricRecord({"num-examples": -1}))),
        record(lambda r: r.__delitem__("message")), greet,
    ],
    ids=["nan", "inf", "turned", "broadcast", "float64", "renamed", "empty", "added", "metrics", "torn", "other"],
)  # fmt: skip
def test_a_foreign_reply_fails_its_site_and_the_round_goes_on(foreign: Answer) -> None:
    grid, nodes = grid_of({"aurora": good, "borealis": foreign})
    from tests.hospitals import train_request

    answers: Answers[Trained] = ask(
        grid, nodes, lambda _: train_request(arrays=GIVEN), quorum=1, seconds=1, check=fits(GIVEN)
    )
    assert list(answers.replies) == ["aurora"]
    assert "foreign reply" in answers.failed["borealis"]


@given(st.permutations(range(5)), st.integers(0, 2**32 - 1))
def test_the_mean_is_that_of_numpy_and_weighs_every_site_equally(order: list[int], seed: int) -> None:
    parts = np.random.default_rng(seed).normal(size=(5, 4)).astype(np.float32)
    found = mean({"w": parts[k]} for k in order)["w"]
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, parts.mean(0, dtype=np.float64), rtol=1e-5, atol=1e-6)


def test_the_mean_keeps_scalars_as_arrays() -> None:
    assert mean([{"w": np.array(1.0, np.float32)}, {"w": np.array(2.0, np.float32)}])["w"].shape == ()
