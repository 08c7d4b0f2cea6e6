"""What a campaign is said to move before anybody approves it is what it moves, to a tenth."""

import json
from pathlib import Path
from typing import Any

import pytest

from client.app import app as client_app
from client.arrives import arrives
from client.journal import FILE, IN, verify
from client.leaves import leaves_of
from client.site import Site
from learning import schema
from pericard import coordinate
from server.app import app as server_app
from server.grid import run_in_process
from tests.hospitals import campaign, reserve_stage, train_stage
from tests.masked import acquainted

COHORT = {"reader": "phantom", "subjects": 8, "site": "site-a"}


@pytest.mark.parametrize("secure", [False, True])
def test_a_training_moves_what_was_said_to_a_tenth(tmp_path: Path, *, secure: bool) -> None:
    part: dict[str, Any] = {"name": "view_classifier", "config": {"width": 8, "tune": "."}, "learning_rate": 1e-2}
    stage = train_stage("reference", plan=None, **part, rounds=2, aggregation={"secure": secure})
    sites = acquainted(tmp_path / "sites", cohort=COHORT)
    asked = campaign(tmp_path / "out", reserve_stage(), stage, size=64)
    told = json.loads(asked.to_json())
    up = down = 0
    for site in sites:
        for line in leaves_of(site, told["stages"]):
            up += line.bytes
            down += line.exchanges * arrives(site, told, line)
    grid = run_in_process(server_app, client_app, asked.to_json(), [site.folder for site in sites])
    assert grid.bytes_up == pytest.approx(up, rel=0.1)
    assert grid.bytes_down == pytest.approx(down, rel=0.1)
    for line in leaves_of(sites[0], told["stages"]):
        came = [e.n_bytes for e in _entries(sites[0]) if (e.way, e.kind) == (IN, line.message)]
        assert len(came) == line.exchanges
        assert max(came) <= arrives(sites[0], told, line)


def test_a_coordinator_says_it_of_sites_that_are_asked_the_same_at_once(tmp_path: Path) -> None:
    stages = (reserve_stage(), train_stage(), train_stage("own", only=["corvus"]))
    told = json.loads(campaign(tmp_path, *stages).to_json())
    said = coordinate.moves(("corvus", "aurora", "borealis"), told)
    assert list(said) == ["aurora, borealis", "corvus"]
    assert said["aurora, borealis"].startswith("in all 5 exchanges: ")
    assert said["corvus"].startswith("in all 8 exchanges: ")


def test_a_message_larger_than_any_may_be_is_refused_before_it_is_proposed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(schema, "ARRAY_BYTES", 100)
    with pytest.raises(ValueError, match="more than 4096 arrays or 100 bytes"):
        coordinate.moves(["aurora"], json.loads(campaign(tmp_path, reserve_stage(), train_stage()).to_json()))


def _entries(site: Site) -> Any:
    return verify((site.folder / FILE).read_bytes(), site.signing_key.public).entries
