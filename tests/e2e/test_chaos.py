"""Campaigns that are killed, cut off and filled up: they end, and nobody is charged too much or too little."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from client.app import app as client_app
from server.grid import InProcessGrid
from tests import chaos_deployed
from tests.deployment import COORDINATOR, Deployment, Process
from tests.faults import schedule
from tests.hospitals import NAMES
from tests.relay import CUT, SILENT, Relay
from tests.verdicts import told_again, verdicts
from tests.whole import Whole

SCHEDULES = 4
DEPLOYED = 4  # a hospital's ClientApp hangs, the SuperLink is killed
pytestmark = pytest.mark.timeout(2400)


def _tried(first: int, last: int, *words: object) -> list[dict[str, Any]]:
    """Return what came of some schedules, each in a process of its own."""
    command = [sys.executable, "-m", "tests.chaos", str(first), str(last), *map(str, words)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_schedule_is_the_same_for_the_same_seed() -> None:
    assert schedule(7) == schedule(7) != schedule(8)
    assert chaos_deployed.schedule(7) == chaos_deployed.schedule(7) != chaos_deployed.schedule(8)


def test_a_line_passes_on_what_is_said_until_it_goes_silent_or_is_cut_and_knows_who_noticed() -> None:
    with contextlib.ExitStack() as open_sockets:
        far = open_sockets.enter_context(socket.create_server(("127.0.0.1", 0)))
        relay = Relay(far.getsockname()[1])
        near = open_sockets.enter_context(socket.create_connection(("127.0.0.1", relay.port), timeout=20))
        other = open_sockets.enter_context(far.accept()[0])
        near.sendall(b"a")
        assert other.recv(1) == b"a"
        relay.ail(SILENT)
        near.sendall(b"b")
        other.settimeout(0.5)
        with pytest.raises(TimeoutError):
            other.recv(1)
        assert relay.met
        relay.ail("")
        other.settimeout(20)
        assert other.recv(1) == b"b"
        relay.ail(CUT)
        assert (near.recv(1), other.recv(1)) == (b"", b"")
        late = open_sockets.enter_context(socket.create_connection(("127.0.0.1", relay.port), timeout=20))
        assert late.recv(1) == b""
        assert relay.met > 1
        relay.close()


def test_a_hospital_without_a_part_in_a_campaign_is_named() -> None:
    """That it is online says nothing: one whose SuperExec had died was, and answered nobody."""
    *there, missing = NAMES
    alive = [Process(pid=n, owner=name, role="ClientApp") for n, name in enumerate(there)]
    alive.append(Process(pid=len(NAMES), owner=missing, role="SuperNode"))
    running = dict.fromkeys(NAMES, SimpleNamespace(poll=lambda: None))
    deployment = cast("Deployment", SimpleNamespace(alive=lambda: alive, running=running))
    blows = chaos_deployed.Blows(deployment, chaos_deployed.Schedule(seed=0, composition="basic", blows=()))
    blows.tick()
    assert blows.lost() == [f"{missing} was asked nothing, or answered nothing"]


@pytest.mark.parametrize("joined", [False, True])
def test_a_hospital_struck_before_sites_join_may_miss_the_campaign_and_no_other_may(joined: bool) -> None:
    """Its node takes up to a minute to come back; the next campaign asks whether it has."""
    struck, *others = NAMES
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    node = Process(pid=child.pid, owner=struck, role="SuperNode")
    asked = Process(pid=os.getpid(), owner=COORDINATOR, role="ServerApp")
    running = dict.fromkeys(NAMES, SimpleNamespace(poll=lambda: None))
    deployment = cast(
        "Deployment", SimpleNamespace(alive=lambda: [node, asked], running=running, joined=lambda: joined)
    )
    killed = chaos_deployed.Blow(owner=struck, kind="SuperNode is killed", after=0, age=0.0, seconds=0.0, most=0)
    told = chaos_deployed.Schedule(seed=0, composition="basic", blows=(killed,))
    blows, spared = chaos_deployed.Blows(deployment, told), chaos_deployed.Blows(deployment, replace(told, blows=()))
    for seen in (spared, blows):
        seen.tick()
    assert child.wait(20) == -signal.SIGKILL
    assert blows.faults == ["site's SuperNode is killed"]
    assert [line.split()[0] for line in blows.lost()] == sorted(NAMES if joined else others)
    assert [line.split()[0] for line in spared.lost()] == sorted(NAMES)


@pytest.mark.slow
def test_disturbed_campaigns_end_and_their_accounts_are_right(tmp_path: Path) -> None:
    found = _tried(0, SCHEDULES - 1, tmp_path)
    assert [trial["wrong"] for trial in found] == [[]] * SCHEDULES
    assert {trial["attempts"][-1] for trial in found} == {"finished"}
    assert any(trial["faults"] for trial in found)


@pytest.mark.slow
def test_of_a_whole_campaign_the_certificate_is_asked_for_and_every_account(tmp_path: Path) -> None:
    """What `benchmarks.chaos --whole` asks of those that are disturbed; one of them takes minutes."""
    scene, out = Whole(run="run-7"), tmp_path / "out"
    sites = scene.sites(tmp_path / "sites", "basic")
    scene.tell(InProcessGrid(client_app, [{"site": str(site)} for site in sites]), scene.campaign(out))
    assert told_again(scene, tmp_path, "basic") + verdicts(scene, tmp_path, "basic") == []
    next((tmp_path / "sites" / "aurora" / "outbox").rglob("attack.*")).unlink()
    (found,) = verdicts(scene, tmp_path, "basic")
    assert found.startswith("aurora: of attack.attack left")
    (out / "report.html").write_text("another")
    (found,) = scene.ended(out)
    assert found.startswith("its certificate does not hold")


@pytest.mark.slow
def test_a_disturbed_deployment_ends_and_its_accounts_are_right(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos_deployed", str(tmp_path)],
        input=f"{DEPLOYED}\n", capture_output=True, text=True, check=True,
    )  # fmt: skip
    trial = json.loads(done.stdout)
    assert (trial["wrong"], trial["attempts"][-1]) == ([], "finished")
    assert "coordinator's SuperLink is killed" in trial["faults"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("broken", "seen"),
    [
        ("outbox", "left"),  # an answer that is drawn anew is not the one that left
        ("account", "answered what it never announced"),
        ("checkpoint", "never finished"),  # sites refuse to answer another question about the same exchange
    ],
)
def test_what_is_asked_of_a_disturbed_campaign_turns_red_when_a_part_is_broken(
    broken: str, seen: str, tmp_path: Path
) -> None:
    (trial,) = _tried(0, 0, tmp_path, broken)
    assert any(seen in wrong for wrong in trial["wrong"])
