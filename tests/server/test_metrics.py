"""What trainings measure: exact on weights whose loss and steps are known, free of patients, whole after a kill."""

import json
from pathlib import Path

import numpy as np
import pytest

from cohorts.phantom.simulate import stills
from learning import arrays
from privacy.mechanism import epsilon
from server.campaign import run as run_campaign
from server.campaign import running
from server.metrics import FILE, agreement, append, numbers, public_loss, read, spending
from tests.hospitals import PLAN, SIZE, TinyLearner, Wire, campaign, hospital, reserve_stage, train_stage


def test_sites_that_pull_together_agree_and_opposite_ones_do_not() -> None:
    up = {"w": np.array([1, 1], np.float32), "b": np.zeros(1, np.float32)}
    across = {"w": np.array([1, -1], np.float32), "b": np.zeros(1, np.float32)}
    assert agreement([up, {n: 5 * a for n, a in up.items()}]) == pytest.approx(1)
    assert agreement([up, {n: -a for n, a in up.items()}]) == pytest.approx(-1)
    assert agreement([up, across]) == pytest.approx(0)
    assert agreement([up]) == 1
    assert np.isfinite(agreement([up, {n: 0 * a for n, a in up.items()}]))


def test_the_public_loss_is_that_of_a_network_which_knows_nothing() -> None:
    people = stills(4, seed=0, size=SIZE)
    nothing = {n: np.zeros_like(a) for n, a in arrays.trainable(TinyLearner("").module).items()}
    assert public_loss(TinyLearner(""), nothing, people) == pytest.approx(np.log(2), rel=1e-5)
    sure = {**nothing, "2.bias": np.array([50, 0], np.float32)}  # of ED, and half of the frames are ES
    assert public_loss(TinyLearner(""), sure, people) == pytest.approx(25, rel=1e-5)


def test_what_is_spent_after_the_last_exchange_is_what_the_plan_costs() -> None:
    spent = spending(PLAN.to_json(), 2, 1e-5)
    assert spent(3) == epsilon([PLAN], 1e-5)
    assert 0 < spent(1) < spent(2) < spent(3)
    assert spending(None, 2, 1e-5) is None


def test_a_campaign_writes_one_row_an_exchange(tmp_path: Path) -> None:
    wire = Wire(*(hospital(tmp_path, name) for name in ("aurora", "borealis", "corvus")))
    out = tmp_path / "out"
    stages = (reserve_stage(PLAN), train_stage(public=True), train_stage("reference", plan=None))
    run_campaign(wire.grid, campaign(out, *stages), lambda *_: None)
    rows = read(out / "campaign")
    assert [(r["stage"], r["exchange"], r["sites"]) for r in rows] == [
        *(("views", k, 3) for k in (1, 2, 3)),
        *(("reference", k, 3) for k in (1, 2, 3)),
    ]
    assert all(("epsilon" in r) == ("public_loss" in r) == (r["stage"] == "views") for r in rows)
    assert rows[2]["epsilon"] == epsilon([PLAN], 1e-5)
    assert not running(out / "campaign")


def test_of_an_exchange_that_was_computed_again_the_last_row_counts_and_a_torn_line_does_not(tmp_path: Path) -> None:
    for k, loss in ((1, 0.5), (2, 0.4), (2, 0.3)):
        append(tmp_path, {"stage": "views", "exchange": k, "public_loss": loss})
    with (tmp_path / FILE).open("a", encoding="utf-8") as file:
        file.write('{"stage": "views", "exch')
    assert [r["public_loss"] for r in read(tmp_path)] == [0.5, 0.3]
    assert read(tmp_path / "elsewhere") == []


def test_a_damaged_row_is_named(tmp_path: Path) -> None:
    (tmp_path / FILE).write_text("[]\n" + json.dumps({"stage": "a", "exchange": 1}) + "\n", encoding="utf-8")
    with pytest.raises(ValueError, match=r"metrics\.jsonl:1 is no row"):
        read(tmp_path)


def test_the_number_of_the_exchange_is_no_measurement() -> None:
    assert dict(numbers({"stage": "a", "exchange": 3, "sites": 2, "step": 0.5})) == {"sites": 2.0, "step": 0.5}
