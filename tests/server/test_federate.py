from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from conf.aggregation import Aggregation
from learning import arrays, messages
from learning.messages import Train, Trained
from server.federate import Checkpoint, federate
from server.grid import InProcessGrid
from server.rounds import QuorumLost, Weights
from tests.hospitals import train_request

START = {"w": np.zeros(3, np.float32), "b": np.array([1.0], np.float32)}
CHANGE = {"w": np.array([1, 2, 3], np.float32), "b": np.array([-1.0], np.float32)}


def request(number: int, weights: Weights) -> Train:
    return train_request(round=number, arrays=weights)


def run(
    folder: Path, *, change: Callable[[int, int], Mapping[str, Any]] | None = None, fault: Any = None, **settings: Any
) -> Checkpoint:
    """Federate two sites; `change(site, round)` is what a site answers."""
    app = ClientApp()

    @app.train()
    def train(message: Message, context: Context) -> Message:
        asked = messages.decode(message.content, Train)
        found = change(int(context.node_config["k"]), asked.round) if change else CHANGE
        return Message(messages.encode(Trained(arrays=found)), reply_to=message)

    grid = InProcessGrid(app, [{"k": "0"}, {"k": "1"}], fault=fault)
    told: dict[str, Any] = {"rounds": 3, "quorum": 2, "seconds": 1.0, "step": Aggregation()} | settings
    folder.mkdir(exist_ok=True)
    return federate(
        grid, dict(zip("ab", grid.get_node_ids(), strict=True)), START, request,
        folder=folder, progress=lambda n, words: None, **told,
    )  # fmt: skip


def test_the_weights_move_by_the_mean_change_of_the_sites(tmp_path: Path) -> None:
    end = run(tmp_path, change=lambda k, _: {n: a * (k + 1) for n, a in CHANGE.items()})
    np.testing.assert_allclose(end.kept["w"], 3 * 1.5 * CHANGE["w"])
    np.testing.assert_allclose(end.kept["b"], 1 - 3 * 1.5)
    assert [h["sites"] for h in end.history] == [["a", "b"]] * 3


def test_the_coordinator_may_step_shorter_and_keep_an_exponential_mean(tmp_path: Path) -> None:
    end = run(tmp_path, step=Aggregation(learning_rate=0.5, average=0.5), rounds=2)
    np.testing.assert_allclose(end.model["w"], CHANGE["w"])
    np.testing.assert_allclose(end.kept["w"], CHANGE["w"] * (0.5 * 0.25 + 0.5))


@pytest.mark.parametrize("strategy", ["fedavg", "fedadam", "fedyogi"])
def test_a_lost_quorum_keeps_the_checkpoint_and_a_resumed_run_ends_with_the_same_bits(
    strategy: str, tmp_path: Path
) -> None:
    step = Aggregation(strategy=strategy)

    def change(k: int, number: int) -> dict[str, Any]:
        dice = np.random.default_rng([k, number])
        return {n: dice.normal(size=a.shape).astype(np.float32) for n, a in START.items()}

    whole = run(tmp_path / "whole", change=change, step=step)
    messages_seen: list[int] = []

    def fault(message: Message) -> str | None:
        messages_seen.append(1)
        return "drop" if len(messages_seen) == 4 else None

    with pytest.raises(QuorumLost, match="train views-2"):
        run(tmp_path / "torn", change=change, fault=fault, step=step)
    kept = Checkpoint.read(tmp_path / "torn")
    assert kept is not None
    assert kept.round == 1
    resumed = run(tmp_path / "torn", change=change, step=step)
    assert arrays.digest(resumed.kept) == arrays.digest(whole.kept)
    assert len(list((tmp_path / "torn").glob("*.safetensors"))) == 1


def test_a_partial_round_is_recorded(tmp_path: Path) -> None:
    end = run(tmp_path, rounds=1, quorum=1, fault=lambda m: "crash" if m.metadata.dst_node_id == 1001 else None)
    assert end.history == ({"round": 1, "sites": ["a"], "failed": {"b": "Flower error 2"}},)


def test_a_checkpoint_that_was_changed_is_not_used(tmp_path: Path) -> None:
    run(tmp_path, rounds=1)
    (path,) = tmp_path.glob("round-*.safetensors")
    arrays.write(path, {"model/w": np.ones(3, np.float32)})
    with pytest.raises(ValueError, match="was changed after it was written"):
        run(tmp_path)


def test_finished_rounds_are_not_asked_again(tmp_path: Path) -> None:
    first = run(tmp_path)
    again = run(tmp_path, fault=lambda m: pytest.fail("asked again"))
    assert arrays.digest(first.kept) == arrays.digest(again.kept)


def test_a_change_too_large_for_the_weights_is_refused_by_name_and_leaves_no_checkpoint(tmp_path: Path) -> None:
    huge = {n: np.full(a.shape, 3e38, np.float32) for n, a in START.items()}
    with pytest.raises(QuorumLost, match=r"no site answered.*a: foreign reply.*would not be finite"):
        run(tmp_path, change=lambda *_: huge)
    kept = Checkpoint.read(tmp_path)
    assert kept is not None
    assert kept.round == 1


def test_an_overflow_of_the_coordinators_own_step_is_an_error_and_not_a_checkpoint(tmp_path: Path) -> None:
    large = {n: np.full(a.shape, 1e38, np.float32) for n, a in START.items()}
    with pytest.raises(ValueError, match="overflowed"):
        run(tmp_path, change=lambda *_: large, step=Aggregation(learning_rate=10))
    assert Checkpoint.read(tmp_path) is None


@pytest.mark.parametrize("strategy", ["fedadam", "fedyogi"])
def test_an_overflow_of_the_past_is_an_error_too_and_not_a_training_that_stands_still(
    strategy: str, tmp_path: Path
) -> None:
    large = {n: np.full(a.shape, 1e38, np.float32) for n, a in START.items()}
    with pytest.raises(ValueError, match="'scale/w' overflowed"):
        run(tmp_path, change=lambda *_: large, step=Aggregation(strategy=strategy))
    assert Checkpoint.read(tmp_path) is None


@pytest.mark.parametrize("wrong", [{"learning_rate": 0.0}, {"learning_rate": float("nan")}, {"average": 1.0}], ids=str)
def test_a_step_out_of_bounds_is_named(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Aggregation(**wrong)
