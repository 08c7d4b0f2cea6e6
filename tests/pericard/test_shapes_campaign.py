"""A campaign whose sites say where their hearts lie: charged, certified, and drawn by what they said."""

import json

import numpy as np
import pytest

from client.site import Site
from cohorts import frames as table
from pericard.cli import run
from pericard.errors import Exit
from privacy.mechanism import epsilon, plan_from_json
from synthesis import likeness, shape

pytestmark = pytest.mark.slow
EPSILON = 6.0


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("shapes") / "out"
    asked = ["experiment=smoke", f"budget.epsilon={EPSILON}", "budget.shapes_share=0.1", "assess.federated=false"]
    assert run(["simulate", *asked, "--json", "--out", str(folder)]) in (Exit.FAIL, Exit.INCONCLUSIVE)
    return folder


def stage(out, name):
    return next((out / "campaign").glob(f"*-{name}"))


def test_the_mechanism_stands_in_plan_ledger_and_certificate_and_it_verifies(out):
    told = json.loads((out / "campaign" / "campaign.json").read_text())
    plans = [plan_from_json(p) for p in told["stages"][0]["settings"]["plans"]]
    assert epsilon(plans, told["delta"]) <= EPSILON
    mechanisms = {m["step"]: m for m in _predicate(out)["dp"]["mechanisms"]}
    assert 0.9 * 0.1 * EPSILON < mechanisms["shapes"]["eps"] <= 0.1 * EPSILON
    assert mechanisms["shapes"]["T"] == 1
    for folder in sorted((out / "sites").iterdir()):
        announced = [e["payload"] for e in Site(folder).ledger.events() if e["kind"] == "step_intent"]
        assert [p["steps"] for p in announced if p["purpose"] == "shapes"] == [1]
    assert run(["verify", str(out)]) == Exit.PASS


def test_candidates_are_of_the_hearts_that_were_chosen_and_phantoms_stay_public(out):
    said = json.loads((stage(out, "shapes") / "likeness.json").read_text())
    assert said["sites"] == ["site-a", "site-b", "site-c"]
    like = likeness.Likeness(centre=np.array(said["centre"]), covariance=np.array(said["covariance"]))
    drawn, public = (table.read(stage(out, "sample") / f"{n}.safetensors") for n in ("candidates", "phantoms"))
    n, seed = len(drawn.subjects), json.loads((out / "campaign" / "campaign.json").read_text())["seed"]
    asked = shape.spread(n, seed=seed)
    assert (drawn.lvef_percent[::4] == asked).all()
    assert (public.lvef_percent == drawn.lvef_percent).all()
    chosen = shape.draw(asked, seed=seed, size=64, people=likeness.chosen(like, asked, seed=seed))
    assert (drawn.masks == chosen.masks.reshape(drawn.masks.shape)).all()
    assert (public.masks == shape.draw(asked, seed=seed, size=64).masks.reshape(public.masks.shape)).all()


def test_certificate_and_report_say_how_the_released_masks_obey(out):
    (obeyed,) = _predicate(out)["release"]["obeyed"]
    assert obeyed["correlation"] > 0.98
    assert obeyed["error"] < 2.5
    assert "Asked for and found: lvef_percent" in (out / "report.html").read_text()


def _predicate(out):
    return json.loads((stage(out, "certify") / "statement.json").read_text())["predicate"]
