"""Three hospitals and a coordinator over TLS with registered keys give what the same campaign gives in one process."""

import contextlib
import shutil
from pathlib import Path

import numpy as np
import pytest

from client import approval, node
from client.app import app as client_app
from client.site import Site
from learning import arrays
from server.app import app as server_app
from server.campaign import Campaign
from server.coordinator import Coordinator
from server.fleet import conduct
from server.grid import run_in_process
from server.superlink import free_ports
from tests.hospitals import NAMES, campaign, hospital, reserve_stage, train_stage

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]


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
