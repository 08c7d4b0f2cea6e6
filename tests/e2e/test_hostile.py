"""Threats of a deployment that need no network, and where the others have their tests.

A stranger at the coordinator's address:
    server/test_link.py::test_no_path_outside_gets_through
A bundle that was not reviewed, or that has itself unpacked elsewhere:
    client/test_only_reviewed.py::test_another_bundle_or_the_reviewed_one_under_another_name_is_not_run
A site that approved nothing: here;
    client/test_approval.py::test_what_nobody_approved_is_refused_and_costs_nothing
Approval of another digest:
    client/test_approval.py::test_approval_of_one_digest_does_not_admit_another
Less noise, a larger C, more steps, larger lots:
    client/test_policy.py::test_a_server_that_asks_for_less_protection_than_the_policy_is_refused
    client/test_training.py::test_more_steps_than_were_charged_are_refused
Metrics on, fields of another kind, path climbing in names:
    learning/test_messages.py::test_a_field_out_of_bounds_or_unknown_is_refused
    learning/test_messages.py::test_an_array_under_a_foreign_name_is_refused
    server/test_campaign.py::test_a_stage_cannot_name_a_path
Oversized and non-finite arrays:
    learning/test_messages.py::test_more_than_the_allowed_bytes_are_refused
    learning/test_messages.py::test_an_array_that_is_not_finite_float32_is_refused
Foreign images to screen:
    client/test_screening.py::test_a_candidate_that_its_seed_does_not_draw_is_refused_before_anybody_is_looked_at
A patient's name in an exception, a reply that says more than it may:
    client/test_boundary.py::test_a_patients_name_in_an_exception_stays_in_the_sites_log
    client/test_boundary.py::test_a_reply_that_no_schema_knows_does_not_leave
    client/test_outgoing_mutants.py::test_the_oracle_sees
A site that sends huge numbers, or none, or lies about its n: here;
    server/test_aggregate.py::test_one_hostile_site_cannot_move_a_number_beyond_what_honest_sites_sent
    server/test_aggregate.py::test_a_site_that_sends_what_is_no_number_is_left_out_by_name_under_every_strategy
Files that somebody made on purpose:
    cohorts/test_hostile_files.py::test_a_damaged_file_is_read_or_refused_by_name

What this does not close: Flower's Control interface asks nobody who he is, so whoever has an account on the
coordinator's own machine can reach it on loopback. That machine belongs to the coordinator alone; what a site runs is
bound by its own approval even so.
"""

import re
from pathlib import Path

import numpy as np
import pytest
import yaml

from client import node
from client.app import app as client_app
from learning import arrays
from server.app import app as server_app
from server.grid import run_in_process
from tests.hospitals import NAMES, campaign, hospital, reserve_stage, train_stage

TESTS = Path(__file__).parents[1]


def test_every_test_that_is_named_above_is_there() -> None:
    named = re.findall(r"^    (\S+)::(\w+)$", str(__doc__), re.MULTILINE)
    assert len(named) == 18
    for file, name in named:
        assert f"def {name}(" in (TESTS / file).read_text(), f"{file}::{name}"


def test_a_site_that_approved_nothing_starts_no_node(tmp_path: Path) -> None:
    with pytest.raises(node.NotReady, match="approved nothing"):
        node.approved_bundle(hospital(tmp_path, approval=True))


def test_a_site_that_claims_a_billion_patients_weighs_as_much_as_any_other(tmp_path: Path) -> None:
    found = []
    for claimed in (40, 10**9):
        sites = [hospital(tmp_path / f"sites-{claimed}", name).folder for name in NAMES]
        told = yaml.safe_load((sites[2] / "site.yaml").read_text())
        (sites[2] / "site.yaml").write_text(yaml.safe_dump({**told, "public_subjects": claimed}, sort_keys=False))
        out = tmp_path / f"out-{claimed}"
        asked = campaign(out, reserve_stage(), train_stage("reference", plan=None))
        run_in_process(server_app, client_app, asked.to_json(), sites)
        found.append(arrays.read(out / "campaign/02-reference/weights.safetensors"))
    assert found[0].keys() == found[1].keys()
    assert all(np.array_equal(found[0][name], found[1][name]) for name in found[0])
