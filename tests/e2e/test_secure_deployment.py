"""Secure aggregation over TLS: whoever is killed inside a sum is not in it, and the sum of the others is right."""

import contextlib
import os
import signal
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from flwr.app import Message

from client import approval, node
from client.app import app as client_app
from client.journal import FILE, IN, OUT, SERVED, Entry, verify
from client.site import Site
from learning import arrays
from privacy import masks
from server.app import app as server_app
from server.campaign import Campaign
from server.coordinator import Coordinator
from server.federate import Checkpoint
from server.fleet import conduct
from server.grid import FIRST_NODE, run_in_process
from server.superlink import free_ports
from tests.hospitals import campaign, reserve_stage, train_stage
from tests.masked import acquainted

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

COHORT = {"reader": "phantom", "subjects": 8, "site": "site-a"}
LOST = "corvus"  # the last of the three by name
OF_A_SUM = ("query.keys", "query.shares", "train.masked", "query.unmask")


def _asked(out: Path, *, secure: bool) -> Campaign:
    part: dict[str, Any] = {"name": "view_classifier", "config": {"width": 8}, "learning_rate": 1e-2, "rounds": 1}
    stage = train_stage("reference", plan=None, **part, aggregation={"secure": secure})
    return campaign(out, reserve_stage(), stage, size=64, quorum=2, seconds=600.0)


def _journal(site: Site) -> tuple[Entry, ...]:
    path = site.folder / FILE
    return verify(path.read_bytes(), site.signing_key.public).entries if path.exists() else ()


def _kill_when_asked(site: Site, kind: str, running: node.Node, done: threading.Event) -> None:
    """Kill the SuperNode, the SuperExec and the ClientApp of `site` as soon as a message of this kind is there."""
    while not done.is_set():
        if any((entry.way, entry.kind) == (IN, kind) for entry in _journal(site)):
            for process in running.processes:
                os.killpg(process.pid, signal.SIGKILL)
            return
        time.sleep(0.02)


def test_a_hospital_killed_inside_a_sum_is_not_in_it_and_the_sum_of_the_others_is_right(tmp_path: Path) -> None:
    """Noise off. It has shared its secrets by then, so the others must open its key and take its masks away."""
    fleet, *ports = free_ports(4)
    dialled = f"127.0.0.1:{fleet}"
    coordinator = Coordinator.create(tmp_path / "c", name="test", address=dialled, listen=dialled)
    sites = acquainted(tmp_path / "sites", cohort=COHORT, approval=True)
    for site in sites:
        coordinator.admit(site.name, node.join(site, coordinator.invitation))
    proposal = coordinator.propose(_asked(tmp_path / "none", secure=True))
    for site in sites:
        approval.approve(site, proposal)
        node.install(site, proposal.bundle_digest)
    over = threading.Event()
    with contextlib.ExitStack() as open_nodes:
        alive = {s.name: open_nodes.enter_context(node.running(s, port=p)) for s, p in zip(sites, ports, strict=True)}
        open_nodes.callback(over.set)
        lost = next(site for site in sites if site.name == LOST)
        killer = threading.Thread(target=_kill_when_asked, args=(lost, "train.masked", alive[LOST], over))
        killer.start()

        def watch(*_: object) -> None:  # a node that comes before it was registered is sent away
            for each in alive.values():
                if killer.is_alive() or each is not alive[LOST]:
                    each.restart_dead()

        conduct(coordinator, watch, patience_seconds=1200)
    killer.join()

    def loses(message: Message) -> str | None:
        asked = (message.metadata.message_type, message.metadata.dst_node_id)
        return "drop" if asked == ("train", FIRST_NODE + len(sites) - 1) else None

    twins = [s.folder for s in acquainted(tmp_path / "twins", cohort=COHORT)]
    run_in_process(server_app, client_app, _asked(tmp_path / "here", secure=False).to_json(), twins, fault=loses)
    there, here = (out / "campaign/02-reference" for out in (coordinator.folder / "out", tmp_path / "here"))
    masked, plain = Checkpoint.read(there), Checkpoint.read(here)
    assert masked is not None
    assert plain is not None
    assert masked.history[0]["sites"] == plain.history[0]["sites"] == ["aurora", "borealis"]
    before, after = arrays.read(here / "weights.safetensors"), arrays.read(there / "weights.safetensors")
    for name, exact in before.items():
        assert np.all(np.abs(after[name].astype(np.float64) - exact) <= masks.ERROR + 2.0**-23 * np.abs(exact))
    for site in sites:
        left = [entry.kind for entry in _journal(site) if (entry.way, entry.code) == (OUT, SERVED)]
        assert [kind for kind in left if kind in OF_A_SUM] == list(OF_A_SUM[: 2 if site.name == LOST else 4])
