"""Before anybody approves it, a campaign says what it would do here: what would leave, what it costs, why not."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from client.admission import own_code
from client.dry_run import foresee, lines, size
from client.leaves import BARE, COVERED, NOISED
from conf.schema import Classes
from learning.proposal import Proposal
from server.campaign import Stage
from tests.contracts.test_generators import TINY
from tests.hospitals import PLAN, campaign, hospital, reserve_stage, train_stage

SCREEN = Stage(name="screen", do="screen", settings={"sampled": "sample", "decoys": 0})
DRAWN = {"name": "latent_flow", "config": TINY["latent_flow"], "subjects": 96, "classes": dataclasses.asdict(Classes())}


def proposed(tmp_path: Path, *stages: Any, **changes: Any) -> Proposal:
    told = json.loads(campaign(tmp_path, *stages).to_json())
    fields = {"code_digest": own_code(), "bundle_digest": "ab" * 32, "campaign": {**told, "out": ""}}
    return Proposal(**(fields | changes))


def test_it_names_every_exchange_with_its_fields_and_what_protects_them(tmp_path: Path) -> None:
    site = hospital(tmp_path / "sites")
    stages = (reserve_stage(PLAN), train_stage(), train_stage("reference", plan=None))
    seen = foresee(site, proposed(tmp_path, *stages))
    found = {line.stage: line for line in seen.leaves}
    assert found["views"].exchanges == 3
    assert found["views"].fields == ("arrays",)
    assert found["views"].privacy == COVERED
    assert found["reference"].privacy == BARE
    assert found["views"].bytes > 3 * 4 * (2 * 16 + 2)  # the weights of the tiny learner in float32, three times
    assert seen.epsilon > 0
    assert seen.refused == ()
    said = list(lines(seen))
    assert any("NOT private" in line for line in said)
    up, down = sum(line.bytes for line in seen.leaves), sum(seen.down)
    assert f"  in all 8 exchanges: {size(up)} up, {size(down)} down" in said


def test_it_costs_nothing_to_look(tmp_path: Path) -> None:
    site = hospital(tmp_path / "sites")
    foresee(site, proposed(tmp_path))
    assert site.ledger.spent() == (0.0, 0.0)


def test_all_reasons_to_refuse_are_named_at_once(tmp_path: Path) -> None:
    site = hospital(
        tmp_path / "sites", epsilon_cap=0.5, min_noise_multiplier=3.0, allow_non_dp_reference=False, learners=("other",)
    )
    stages = (reserve_stage(PLAN), train_stage(), train_stage("reference", plan=None))
    reasons = " ".join(foresee(site, proposed(tmp_path, *stages, code_digest="0" * 64)).refused)
    for word in ("of code 000000000000", "cap of this site is 0.5", "noise_multiplier=2.0", "'tiny'", "without noise"):
        assert word in reasons


def test_of_two_bounds_the_tighter_one_holds(tmp_path: Path) -> None:
    site = hospital(tmp_path / "sites", max_steps=100, max_clip_norm=1.0)
    bounds = {bound.name: bound for bound in foresee(site, proposed(tmp_path)).bounds}
    assert bounds["steps at most"].holds == "6"
    assert "tighter" in bounds["steps at most"].origin
    assert bounds["clip norm at most"].origin == "site.yaml"


def test_an_expert_of_another_site_is_not_this_ones_business(tmp_path: Path) -> None:
    site = hospital(tmp_path / "sites")
    seen = foresee(site, proposed(tmp_path, reserve_stage(PLAN), train_stage(only=["corvus"])))
    assert {line.stage for line in seen.leaves} == {"greeting", "reserve"}


def test_what_it_does_not_know_of_is_refused(tmp_path: Path) -> None:
    site = hospital(tmp_path / "sites")
    seen = foresee(site, proposed(tmp_path, reserve_stage(PLAN), Stage(name="more", do="harvest", settings={})))
    assert "does not know what would leave" in " ".join(seen.refused)


def test_a_screening_is_judged_by_the_rule_to_which_its_coordinator_is_bound(tmp_path: Path) -> None:
    site = hospital(tmp_path / "sites", allow_empirical=False)

    def screened(**rule: Any) -> Any:
        sample = Stage(name="sample", do="sample", settings={"rule": rule, **DRAWN})
        return foresee(site, proposed(tmp_path, reserve_stage(PLAN), sample, SCREEN))

    assert "query.screen" not in {line.message for line in screened().leaves}
    (votes,) = (line for line in screened(votes={"epsilon": 1.0}).leaves if line.message == "query.screen")
    assert votes.privacy == NOISED
    assert screened(votes={"epsilon": 1.0}).refused == ()
    assert "exact counts" in " ".join(screened(exact={"alpha": 0.1}).refused)
