"""Flower's own strategies say what ours must give; five hospitals say what a hostile one can still do."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp
from flwr.serverapp import strategy as flower
from numpy.typing import NDArray

from client.app import app as client_app
from cohorts.deidentify import Pseudonyms
from cohorts.frames import gather
from conf.aggregation import ROBUST, STRATEGIES, Aggregation
from conf.compose import UsageError, compose
from learning import arrays
from learning.messages import Trained
from pericard.simulate import groups
from server import plan
from server.aggregate import apart, bearable, moved
from server.app import app as server_app
from server.grid import InProcessGrid, run_in_process
from server.rounds import QuorumLost, mean
from tests.hospitals import SIZE, CanaryReader, TinyLearner, TinyTask, campaign, hospital, reserve_stage, train_stage

MODEL = {"w": np.linspace(-1, 1, 12, dtype=np.float32).reshape(3, 4), "b": np.array([0.5], np.float32)}
FIVE = ("aurora", "borealis", "corvus", "draco", "eridanus")
Changes = list[dict[str, NDArray[np.float32]]]


def changes(n: int = 5, seed: int = 0) -> Changes:
    dice = np.random.default_rng(seed)
    return [{k: dice.normal(size=a.shape).astype(np.float32) for k, a in MODEL.items()} for _ in range(n)]


def theirs(kind: Any, told: dict[str, Any], exchanges: int) -> list[dict[str, NDArray[Any]]]:
    """Return the weights after each exchange as the strategy of Flower makes them."""
    InProcessGrid(ClientApp(), [])  # messages want to know of which run they are
    judge, weights, seen = kind(**told), MODEL, []
    for number in range(1, exchanges + 1):
        judge.current_arrays = weights
        sent = []
        for node, change in enumerate(changes(seed=number)):
            moves = ArrayRecord({k: Array(weights[k] + change[k]) for k in weights})
            asked = Message(RecordDict({"config": ConfigRecord()}), node, "train")
            content = RecordDict({"arrays": moves, "metrics": MetricRecord({"num-examples": 1})})
            sent.append(Message(content, reply_to=asked))
        found, _ = judge.aggregate_train(number, sent)
        weights = {k: a.numpy().astype(np.float32) for k, a in found.items()}
        seen.append(weights)
    return seen


@pytest.mark.parametrize(
    ("name", "kind", "told"),
    [
        ("fedavg", flower.FedAvg, {}),
        ("median", flower.FedMedian, {}),
        ("trimmed_mean", flower.FedTrimmedAvg, {"beta": 0.2}),
        ("krum", flower.Krum, {"num_malicious_nodes": 1}),
        ("multi_krum", flower.MultiKrum, {"num_malicious_nodes": 1, "num_nodes_to_select": 4}),
        ("fedadam", flower.FedAdam, {"eta": 0.01}),
        ("fedyogi", flower.FedYogi, {"eta": 0.01}),
    ],
)
def test_three_exchanges_end_where_flower_ends(name: str, kind: Any, told: dict[str, Any]) -> None:
    weights, step = MODEL, Aggregation(strategy=name)
    past: dict[str, NDArray[np.float32]] = {}
    for number, expected in enumerate(theirs(kind, told, 3), 1):
        weights, past = moved(weights, changes(seed=number), step, past=past, number=number)
        for key in MODEL:
            np.testing.assert_allclose(weights[key], expected[key], rtol=1e-4, atol=1e-5)


def test_every_strategy_that_can_be_chosen_makes_a_step_that_float32_holds() -> None:
    for name in STRATEGIES:
        after, _ = moved(MODEL, changes(), Aggregation(strategy=name), past={}, number=1)
        assert all(a.dtype == np.float32 and a.shape == MODEL[n].shape for n, a in after.items())


def test_averaging_still_gives_the_bits_of_the_model_and_the_mean_change() -> None:
    after, past = moved(MODEL, changes(), Aggregation(), past={}, number=1)
    assert past == {}
    assert all(np.array_equal(after[n], MODEL[n] + mean(changes())[n]) for n in MODEL)


@pytest.mark.parametrize("name", ROBUST)
def test_one_hostile_site_cannot_move_a_number_beyond_what_honest_sites_sent(name: str) -> None:
    honest = changes(4)
    for scale in (-1e30, 1e30):
        hostile = {n: np.full(a.shape, scale, np.float32) for n, a in MODEL.items()}
        after, _ = moved(MODEL, [hostile, *honest], Aggregation(strategy=name), past={}, number=1)
        for key in MODEL:
            all_of_it = np.stack([c[key] for c in honest])
            change = after[key] - MODEL[key]
            assert np.all(change >= all_of_it.min(axis=0) - 1e-6)
            assert np.all(change <= all_of_it.max(axis=0) + 1e-6)


@pytest.mark.parametrize(("name", "too_few"), [("median", 2), ("trimmed_mean", 2), ("krum", 4), ("multi_krum", 4)])
def test_a_robust_strategy_refuses_too_few_sites_and_does_not_weaken(name: str, too_few: int) -> None:
    with pytest.raises(ValueError, match=f"{name} bears 1 of at least {too_few + 1} sites, {too_few} answered"):
        moved(MODEL, changes(too_few), Aggregation(strategy=name), past={}, number=1)


def test_who_stands_apart_is_named_and_honest_noise_is_not() -> None:
    sent = dict(zip(FIVE, changes(), strict=True))
    assert apart(sent) == []
    sent["draco"] = {n: -10 * a for n, a in sent["draco"].items()}
    assert apart(sent) == ["draco"]
    assert apart({name: sent[name] for name in ("aurora", "draco")}) == []  # which of two is the stranger?
    assert apart(dict.fromkeys(FIVE, sent["aurora"])) == []


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (lambda c: c | {"b": np.array([np.nan], np.float32)}, "'b' holds a value that is not finite"),
        (lambda c: c | {"b": np.array([-np.inf], np.float32)}, "'b' holds a value that is not finite"),
        (lambda c: c | {"b": np.array([3.4028235e38], np.float32)}, None),
        (lambda c: c | {"b": np.zeros(2, np.float32)}, "other names or shapes"),
        (lambda c: {"w": c["w"]}, "other names or shapes"),
    ],
    ids=["no number", "infinite", "huge", "foreign shape", "missing"],
)
def test_a_reply_that_cannot_be_used_is_refused(spoil: Callable[[Any], Any], why: str | None) -> None:
    reply = Trained(arrays=spoil(changes(1)[0]))
    if why is None:
        bearable(MODEL)(reply)
        with pytest.raises(ValueError, match="'b' changes so far that the weights would not be finite"):
            bearable(MODEL | {"b": np.array([1e38], np.float32)})(reply)
    else:
        with pytest.raises(ValueError, match=why):
            bearable(MODEL)(reply)


def _told(*overrides: str) -> list[dict[str, Any]]:
    known = groups()
    experiment, _ = compose(["experiment=smoke", *overrides], groups=known)
    resolved: dict[str, Any] = {g: {"any": {}} for g in ("views", "segmentation", "recognition", "ejection")}
    resolved["generator"] = {"latent_flow": {}}
    made = plan.campaign(experiment, run="run-1", out="/out", resolved=resolved)
    return [dict(stage.settings) for stage in made.stages if stage.do == "train"]


def test_the_command_line_chooses_the_strategy_of_every_training() -> None:
    told = _told("aggregation.strategy=median", "aggregation.average=0.5")
    assert len(told) == 3
    assert all(settings["aggregation"]["strategy"] == "median" and settings["average"] == 0.5 for settings in told)


def test_without_a_word_on_aggregation_the_changes_are_averaged() -> None:
    assert {(t["aggregation"]["strategy"], t["server_learning_rate"], t["average"]) for t in _told()} == {
        ("fedavg", 1.0, 0.0)
    }


@pytest.mark.parametrize(
    ("wrong", "why"),
    [
        ("aggregation.strategy=mode", "aggregation.strategy='mode' must be one of fedavg, median"),
        ("aggregation.strategy=krum", r"aggregation.strategy=krum bears 1 hostile of at least 5 sites.*quorum=3"),
        ("aggregation.tolerated=0", "aggregation.tolerated=0 must be at least 1"),
        ("aggregation.adaptive_rate=0", "aggregation.adaptive_rate=0.0 must be above 0"),
        ("aggregation.average=1", "aggregation.average=1.0 must be at least 0 and below 1"),
    ],
)
def test_a_wrong_word_on_aggregation_is_refused_by_its_name(wrong: str, why: str) -> None:
    with pytest.raises(UsageError, match=why):
        compose(["experiment=smoke", wrong], groups=groups())


def _poisoned(site: str, spoil: Callable[[Any], Any], serve: Any) -> Any:
    """Return the site's app as it is, but for what `site` answers."""

    def train(message: Message, context: Context) -> Message:
        reply: Message = serve(message, context)
        if str(context.node_config["site"]).endswith(site) and reply.has_content():
            found = reply.content.array_records["arrays"]
            reply.content["arrays"] = ArrayRecord({n: Array(spoil(a.numpy())) for n, a in found.items()})
        return reply

    return train


def _accuracy(weights: Path) -> float:
    learner = TinyLearner("")
    arrays.load(learner.module, arrays.read(weights))
    cohort = CanaryReader(subjects=60, seed=99).read(pseudonyms=Pseudonyms(bytes(16)))
    return float(TinyTask().scores(learner, gather(cohort, size=SIZE))["accuracy"].mean())


@pytest.fixture(scope="module")
def hospitals(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[float, list[dict[str, Any]]]]:
    """Five hospitals that train in common without noise; returns accuracy on new subjects and the history."""
    roots = iter(range(100))

    def train(strategy: str, quorum: int = 5) -> tuple[float, list[dict[str, Any]]]:
        root = tmp_path_factory.mktemp(f"run-{next(roots)}")
        sites = [hospital(root, name, cohort={"reader": "canary", "seed": k}).folder for k, name in enumerate(FIVE)]
        stage = train_stage("reference", plan=None, steps=20, aggregation={"strategy": strategy})
        told = campaign(root / "out", reserve_stage(), stage, quorum=quorum)
        run_in_process(server_app, client_app, told.to_json(), sites)
        folder = root / "out/campaign/02-reference"
        history = json.loads((folder / "round.json").read_text())["history"]
        return _accuracy(folder / "weights.safetensors"), history

    return train


@pytest.fixture(scope="module")
def undisturbed(hospitals: Any) -> float:
    accuracy, history = hospitals("fedavg")
    assert accuracy > 0.9
    assert not any("apart" in told for told in history)
    return float(accuracy)


@pytest.mark.parametrize("strategy", ROBUST)
def test_a_site_that_sends_the_opposite_ten_times_is_named_and_changes_nothing(
    strategy: str, hospitals: Any, undisturbed: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve = client_app._registered_funcs["train.default"]
    poisoned = _poisoned("corvus", lambda change: np.float32(-10) * change, serve)
    monkeypatch.setitem(client_app._registered_funcs, "train.default", poisoned)
    accuracy, history = hospitals(strategy)
    assert abs(accuracy - undisturbed) < 0.02
    assert all(told["apart"] == ["corvus"] for told in history)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_site_that_sends_what_is_no_number_is_left_out_by_name_under_every_strategy(
    strategy: str, hospitals: Any, undisturbed: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    serve = client_app._registered_funcs["train.default"]
    poisoned = _poisoned("corvus", lambda change: change * np.float32("nan"), serve)
    monkeypatch.setitem(client_app._registered_funcs, "train.default", poisoned)
    # Its own guard would not let it out.
    monkeypatch.setattr("client.app.guard", lambda message, context, call_next: call_next(message, context))
    if strategy.endswith("krum"):  # which wants five sites that can be used
        with pytest.raises(QuorumLost, match=r"corvus: foreign reply.*not finite"):
            hospitals(strategy)
        return
    accuracy, history = hospitals(strategy, quorum=4)
    assert all("not finite" in told["failed"]["corvus"] and "corvus" not in told["sites"] for told in history)
    if strategy not in ("fedadam", "fedyogi"):  # whose steps are short on purpose
        assert abs(accuracy - undisturbed) < 0.02
