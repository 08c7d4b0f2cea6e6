"""Who must not get in does not, at the real SuperLink of a deployment; and where the other threats have their tests.

A node nobody registered, one that registers itself or claims another's key; a wrong authority: here.
A stranger's `flwr run`, `flwr ls` and SuperExec: here;
    server/test_link.py::test_no_path_outside_gets_through
A bundle that was not reviewed, was tampered with, or has itself unpacked elsewhere: here, at a live node;
    client/test_only_reviewed.py::test_another_bundle_or_the_reviewed_one_under_another_name_is_not_run
A site that approved nothing: here, at a live SuperLink;
    client/test_approval.py::test_what_nobody_approved_is_refused_and_costs_nothing
    e2e/test_deployment.py::test_a_hospital_that_approved_nothing_starts_no_node
Approval of another digest: here, at a live node;
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
A patient's name or picture on the line: here, that it would be seen;
    e2e/test_deployment.py::test_no_planted_name_or_row_crossed_the_line_or_reached_the_coordinator
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

import contextlib
import json
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from client import node
from client.app import app as client_app
from learning import arrays
from pericard.errors import Exit
from server import pki
from server.app import app as server_app
from server.coordinator import LINK, Coordinator
from server.fleet import link
from server.grid import run_in_process
from server.superlink import CONNECTION, free_ports
from tests.e2e.deployment import Deployment
from tests.e2e.strangers import (
    Attempts,
    Running,
    activation,
    altered,
    answer_of,
    app,
    fleet_client,
    leak,
    new_key,
    number,
    own_key,
    status_of,
    wait,
)  # fmt: skip
from tests.hospitals import NAMES, campaign, hospital, log_of, reserve_stage, train_stage

slow = [pytest.mark.slow, pytest.mark.timeout(1800)]
TESTS = Path(__file__).parents[1]
NODES, RUNS = "SELECT node_id FROM node ORDER BY 1", "SELECT run_id FROM run ORDER BY 1"
ONLINE = "SELECT name FROM node WHERE status = 'online'"
UNREVIEWED = {"plain": "0.1.0", "climbing": "{held}/../../elsewhere", "tampered": ""}


@pytest.fixture(scope="module")
def running(story: Deployment, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    root = tmp_path_factory.mktemp("hostile")
    coordinator = Coordinator.open(story.root / "coordinator")
    cohort = {"reader": "phantom", "subjects": 8}
    leaky, draco = (hospital(root, name, cohort=cohort, approval=True) for name in ("leaky", "draco"))
    for site in (leaky, draco):
        coordinator.admit(site.name, node.join(site, coordinator.invitation))
    with link(coordinator) as found:
        found.register()
        yield Running(found, story, root, leaky, draco)


@pytest.fixture(scope="module")
def attempts(running: Running) -> Attempts:
    """Send three bundles that nobody reviewed, and the reviewed one with a campaign that nobody approved."""
    planted = leak(running.leaky)
    spent = running.site.ledger.spent()
    (running.leaky.folder / "node" / "home").mkdir()
    (port,) = free_ports(1)
    running.story.start("aurora")
    with node.running(running.leaky, port=port):
        wait(lambda: {"aurora", "leaky"} <= set(running.flower(ONLINE)))
        (held,) = (running.site.folder / "node" / "home" / "apps").iterdir()
        version = held.name.removeprefix("pericard.pericard.")
        asked = {"plain": ["aurora", "leaky"], "climbing": ["aurora"], "tampered": ["aurora"]}
        for name, sites in asked.items():
            theirs, ran = running.root / name / "pericard", running.root / name / "ran"
            app(
                theirs,
                ran,
                nodes=[number(running, site) for site in sites],
                version=UNREVIEWED[name].format(held=version),
            )
            running.link.flwr("run", str(theirs), CONNECTION)
        altered(running)
        running.link.flwr("run", str(running.root / "altered" / "pericard"), CONNECTION)
        draco = running.story.programs.pericard("site", "run", running.draco.folder)
        replies = [running.root / name / "ran" / "reply.json" for name in asked]
        wait(lambda: all(path.exists() for path in replies))
        wait(lambda: (running.root / "altered" / "out" / "campaign" / "failure.json").exists())
    running.story.programs.stop()
    names = {str(number(running, name)): name for name in ("aurora", "leaky")}
    told = {
        path.parents[1].name: {names[n]: words for n, words in json.loads(path.read_text()).items()} for path in replies
    }
    traces = {name: {path.name for path in (running.root / name / "ran").glob("site-*")} for name in asked}
    return Attempts(told, traces, planted, draco, (spent, running.site.ledger.spent()))


class TestAStranger:
    pytestmark = slow

    def test_that_is_no_stranger_is_let_in(self, running: Running) -> None:
        from flwr.proto.fleet_pb2 import DeactivateNodeRequest

        key = own_key(running.site)
        with fleet_client(running, running.authority, key) as honest:
            number = honest.ActivateNode(activation(key)).node_id
            assert number
            honest.DeactivateNode(DeactivateNodeRequest(node_id=number))

    def test_that_nobody_registered_is_sent_away(self, running: Running) -> None:
        key = new_key()
        with fleet_client(running, running.authority, key) as stranger:
            assert 400 <= status_of(lambda: stranger.ActivateNode(activation(key))) < 500

    def test_cannot_pass_for_another_with_a_key_of_its_own(self, running: Running) -> None:
        with fleet_client(running, running.authority, new_key()) as stranger:
            assert 400 <= status_of(lambda: stranger.ActivateNode(activation(own_key(running.site)))) < 500

    def test_cannot_register_itself(self, running: Running) -> None:
        from flwr.proto.fleet_pb2 import RegisterNodeFleetRequest
        from flwr.supercore.primitives.asymmetric import public_key_to_bytes

        key, before = new_key(), running.flower(NODES)
        asked = RegisterNodeFleetRequest(public_key=public_key_to_bytes(key.public_key()))
        with fleet_client(running, running.authority, key) as stranger:
            assert 400 <= status_of(lambda: stranger.RegisterNode(asked)) < 500
        assert running.flower(NODES) == before

    def test_that_shows_a_certificate_of_another_authority_is_not_spoken_to(self, running: Running) -> None:
        import httpx

        _, other = pki.authority("another")
        (running.root / "other.crt").write_bytes(other)
        key = own_key(running.site)
        with (
            fleet_client(running, running.root / "other.crt", key) as careful,
            pytest.raises(httpx.ConnectError, match=r"(?i)certificate"),
        ):
            careful.ActivateNode(activation(key))

    @pytest.mark.parametrize("path", ["/health", "/docs", "/v1/control/list-runs", "/v1/runtime/acquire-task"])
    def test_finds_nothing_but_the_fleet_interface_where_sites_dial(self, running: Running, path: str) -> None:
        assert answer_of(running, path) == 404

    @pytest.mark.parametrize("words", [["ls"], ["run"]], ids=" ".join)
    def test_starts_and_lists_no_run(self, running: Running, tmp_path: Path, words: list[str]) -> None:
        told = (running.coordinator.folder / LINK / "home/config.toml").read_text()
        (tmp_path / "config.toml").write_text(told.replace(running.inner, running.coordinator.address))
        app(tmp_path / "theirs" / "pericard", tmp_path / "ran", nodes=[], version="0.1.0")
        env, what = {**running.link.env, "FLWR_HOME": str(tmp_path)}, {"ls": [], "run": ["theirs/pericard"]}[words[0]]
        before = running.flower(RUNS)
        done = subprocess.run(
            ["flwr", *words, *what, CONNECTION, "--format", "json"],
            env=env, cwd=tmp_path, capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert '"success": true' not in done.stdout, done.stdout
        assert running.flower(RUNS) == before

    @pytest.mark.parametrize("secret", [b"", b"guessed-guessed-guessed-guessed-00"], ids=["none", "guessed"])
    @pytest.mark.parametrize("where", ["fleet", "inner"])
    def test_whose_superexec_does_not_know_the_secret_gets_no_work(
        self, running: Running, where: str, secret: bytes
    ) -> None:
        from flwr.proto.runtime_pb2 import AcquireTaskRequest
        from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor, SuperExecAuthHttpInterceptor
        from flwr.supercore.runtime import RuntimeHttpClient

        says: list[Any] = [RuntimeVersionHttpInterceptor(component_name="SuperExec")]
        if secret:
            method = {"/flwr.proto.Runtime/AcquireTask"}
            says.append(SuperExecAuthHttpInterceptor(master_secret=secret, protected_methods=method))
        address = running.inner if where == "inner" else running.coordinator.address
        client = RuntimeHttpClient.from_server_address(address, False, running.authority.read_bytes(), says)
        asked = AcquireTaskRequest(supported_task_types=["flwr-serverapp"])
        with contextlib.closing(client):
            assert status_of(lambda: client.AcquireTask(asked)) in ({404} if where == "fleet" else {401, 403})


class TestACoordinator:
    pytestmark = slow

    @pytest.mark.parametrize("name", UNREVIEWED)
    def test_cannot_have_a_hospital_run_a_bundle_that_was_not_reviewed(
        self, running: Running, attempts: Attempts, name: str
    ) -> None:
        assert "NotReviewed" in attempts.told[name]["aurora"]
        assert str(running.story.root) not in attempts.told[name]["aurora"]
        assert "site-aurora" not in attempts.ran[name]
        assert not list(running.site.folder.rglob("*elsewhere*"))
        assert len(list((running.site.folder / "node" / "home" / "apps").iterdir())) == 1

    def test_cannot_have_a_hospital_answer_another_campaign_than_it_approved(
        self, running: Running, attempts: Attempts
    ) -> None:
        run = running.coordinator.proposal.run
        assert f"run {run!r} is not what was approved under that name" in log_of(running.site)[-1]["words"]
        assert attempts.spent[0] == attempts.spent[1]
        running.story.programs.must("site", "log", "aurora", "--verify")

    def test_gets_nothing_into_a_hospital_that_approved_nothing(self, running: Running, attempts: Attempts) -> None:
        assert attempts.draco.returncode == Exit.USAGE
        assert "approved nothing" in attempts.draco.stderr
        assert "draco" in running.flower("SELECT name FROM node WHERE last_activated_at IS NULL")  # it never connected
        assert not (running.draco.folder / "node" / "home").exists()


class TestTheSearch:
    pytestmark = slow

    def test_finds_a_name_and_a_row_that_a_hospital_without_our_boundary_sent(
        self, running: Running, attempts: Attempts
    ) -> None:
        assert "site-leaky" in attempts.ran["plain"]
        everything = {*attempts.planted.names, *attempts.planted.rows}
        assert attempts.planted.found_in(*running.story.opened.up) == everything

    def test_finds_nothing_of_it_behind_tls(self, running: Running, attempts: Attempts) -> None:
        assert attempts.planted.found_in(*running.story.line.up, *running.story.line.down) == set()


def test_every_test_that_is_named_above_is_there() -> None:
    named = re.findall(r"^    (\S+)::(\w+)$", str(__doc__), re.MULTILINE)
    assert len(named) == 20
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
