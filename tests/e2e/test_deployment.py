"""Three hospitals and a coordinator, each with the real command line, over TLS with registered keys: a whole campaign.

Every hospital reads phantoms whose patients bear names. What crosses the line is kept and searched for the names and
for rows of grey values, written as bytes or as float32; so are the coordinator's folder, what Flower left in its
database, and all logs. TLS hides what a tap on the line hears, so a relay with the coordinator's key reads along, and
sees every message whole. `test_hostile.py` has a hospital without our boundary send a name and a row: the search of
what that relay heard finds them. What it cannot see is a picture that was transformed first; that is what ε is for.
"""

import contextlib
import shutil
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest

from client import approval, node
from client.app import app as client_app
from client.site import Site
from evaluation import certificate
from evaluation.trust import Trust
from learning import arrays
from pericard.errors import Exit
from server.app import app as server_app
from server.campaign import Campaign
from server.coordinator import Coordinator
from server.fleet import conduct
from server.grid import run_in_process
from server.superlink import free_ports
from tests.e2e.deployment import SITES, Deployment
from tests.e2e.line import ROWS, values
from tests.hospitals import NAMES, campaign, hospital, reserve_stage, train_stage

VERDICTS = {Exit.PASS, Exit.FAIL, Exit.INCONCLUSIVE}  # next to nothing is learned, and a certificate says so

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]  # minutes on a quiet machine


def test_a_campaign_ends_with_a_certificate_that_all_three_countersigned(story: Deployment) -> None:
    assert story.verdict in VERDICTS, story.programs.log("coordinate") + story.programs.log("aurora")
    trust = Trust.parse((story.out / "trust.json").read_bytes())
    verified = certificate.verify(story.out, trust=trust, now=datetime.now(UTC))
    assert set(SITES) <= set(verified.signers)


def test_what_came_of_it_verifies_and_a_copy_with_another_picture_does_not(story: Deployment) -> None:
    assert story.programs.pericard("verify", story.out).returncode == Exit.PASS
    picture = next(p for p in (story.out / "release").rglob("*") if p.is_file() and p.suffix != ".json")
    copy = story.root / "tampered"
    shutil.copytree(story.out, copy)
    changed = copy / picture.relative_to(story.out)
    changed.chmod(0o600)
    changed.write_bytes(picture.read_bytes() + b"\0")
    assert story.programs.pericard("verify", copy).returncode == Exit.INTEGRITY


def test_the_journal_and_the_account_of_every_hospital_hold(story: Deployment) -> None:
    for name in SITES:
        for book in ("log", "ledger"):
            story.programs.must("site", book, name, "--verify")


def test_every_hospital_was_charged_what_it_approved_and_no_more(story: Deployment) -> None:
    proposal = Coordinator.open(story.root / "coordinator").proposal
    for name in SITES:
        site = Site(story.root / name)
        given = approval.approved(site, proposal.run)
        assert given is not None
        assert given.proposal_digest == proposal.digest
        epsilon, delta = site.ledger.spent()
        assert 0 < epsilon <= site.policy.epsilon_cap
        assert delta <= proposal.delta


def test_a_hospital_that_approved_nothing_starts_no_node(story: Deployment) -> None:
    assert story.early.returncode == Exit.USAGE
    assert "approved nothing" in story.early.stderr


def test_from_its_own_network_a_hospital_reaches_the_line_and_nothing_else(story: Deployment) -> None:
    if not story.networks.inside:
        pytest.skip("no network namespaces here: they need root and iproute2")
    listening = story.line.port, story.opened.port
    look = "import socket, sys; socket.create_connection((sys.argv[1], int(sys.argv[2])), 5)"
    for name in SITES:
        for host, port, reached in ((story.networks.host, listening[0], True), ("127.0.0.1", listening[1], False)):
            words = [*story.networks.of(name), "python3", "-c", look, host, str(port)]
            assert (subprocess.run(words, capture_output=True, check=False).returncode == 0) == reached


def test_no_planted_name_or_row_crossed_the_line_or_reached_the_coordinator(story: Deployment) -> None:
    open_up = b"".join(story.opened.up)
    assert b"/v1/fleet/" in open_up
    held = [path for path in (story.root / "coordinator").rglob("*") if path.is_file()]
    said = [*story.root.glob("*.log"), *(path for name in SITES for path in (story.root / name).rglob("*.log"))]
    (database,) = (path for path in held if path.name == "state.db")
    for name, planted in story.planted.items():
        kept = [path for path in (story.root / name).rglob("*") if path.is_file()]
        frames = [path.read_bytes() for path in kept if path.parent.name == "frames"]
        assert len(planted.found_in(*frames)) >= ROWS  # what is searched for is how a hospital holds it
        for line in (story.line, story.opened):
            assert planted.found_in(*line.up, *line.down) == set()
        assert planted.found_in(*values(database)) == set()
        for path in [*held, *said, *(path for path in kept if path.parent.name != "frames")]:
            assert planted.found_in(path.read_bytes()) == set(), path


def test_nothing_was_said_in_the_open(story: Deployment) -> None:
    for raw in (*story.line.up, *story.line.down):
        assert b"pericard" not in raw.lower()
        assert b"HTTP/1" not in raw


def _phantoms(root: Path, coordinator: Coordinator) -> dict[str, Site]:
    """Make three hospitals over phantoms that ask for approval, and admit their nodes."""
    sites = {}
    for seed, name in enumerate(NAMES):
        cohort = {"reader": "phantom", "subjects": 8, "seed": seed, "site": "site-a"}
        sites[name] = hospital(root, name, cohort=cohort, approval=True)
        coordinator.admit(name, node.join(sites[name], coordinator.invitation))
    return sites


def _without_noise(out: Path) -> Campaign:
    part = {"name": "view_classifier", "config": {"width": 8}, "learning_rate": 1e-2, "rounds": 2}
    return campaign(out, reserve_stage(), train_stage("reference", plan=None, **part), size=64, seconds=600.0)


def test_in_process_and_deployed_campaigns_give_the_same_arrays_bit_for_bit_with_noise_off(tmp_path: Path) -> None:
    fleet, *ports = free_ports(4)
    dialled = f"127.0.0.1:{fleet}"
    coordinator = Coordinator.create(tmp_path / "c", name="test", address=dialled, listen=dialled)
    sites = _phantoms(tmp_path / "sites", coordinator)
    proposal = coordinator.propose(_without_noise(tmp_path / "b"))
    for site in sites.values():
        approval.approve(site, proposal)
    shutil.copytree(tmp_path / "sites", tmp_path / "twins")
    twins = sorted((tmp_path / "twins").iterdir())
    run_in_process(server_app, client_app, _without_noise(tmp_path / "a").to_json(), twins)
    with contextlib.ExitStack() as nodes:
        alive = []
        for site, port in zip(sites.values(), ports, strict=True):
            node.install(site, proposal.bundle_digest)
            alive.append(nodes.enter_context(node.running(site, port=port)))

        def watch(*_: object) -> None:  # a node that comes before it was registered is sent away
            for each in alive:
                each.restart_dead()

        conduct(coordinator, watch, patience_seconds=1200)
    there, here = (
        arrays.read(out / "campaign/02-reference/weights.safetensors")
        for out in (coordinator.folder / "out", tmp_path / "a")
    )
    assert here.keys() == there.keys()
    assert all(np.array_equal(here[name], there[name]) for name in here)
