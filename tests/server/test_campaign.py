"""Stages are whole or not there: a campaign that was killed at any moment ends as if it had not been."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from client.app import app as client_app
from client.site import Site
from learning import arrays
from server.app import app as server_app
from server.campaign import Campaign, Stage, resumed
from server.failure import read_failure
from server.grid import run_in_process
from server.progress import Follower
from server.rounds import QuorumLost
from tests.hospitals import NAMES, PLAN, Wire, campaign, hospital, log_of, reserve_stage, train_stage

ROOT = Path(__file__).parents[2]


def hospitals(root: Path, **changes: Any) -> list[Path]:
    return [hospital(root, name, **changes).folder for name in NAMES]


def run(told: Campaign, sites: list[Path], **settings: Any) -> None:
    run_in_process(server_app, client_app, told.to_json(), sites, **settings)


def weights(out: Path, stage: str = "02-views") -> dict[str, Any]:
    return dict(arrays.read(out / "campaign" / stage / "weights.safetensors"))


def same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(np.array_equal(a[n], b[n]) for n in a)


def spent(sites: list[Path]) -> list[tuple[float, float]]:
    return [Site(folder).ledger.spent() for folder in sites]


def test_a_campaign_leaves_its_stages_and_tells_how_far_it_is(tmp_path: Path) -> None:
    sites, told = hospitals(tmp_path / "sites"), []
    run(campaign(tmp_path / "out"), sites, progress=lambda *step: told.append(step))
    root = tmp_path / "out" / "campaign"
    receipts = json.loads((root / "01-reserve" / "sites.json").read_text())
    assert list(receipts) == list(NAMES)
    assert {(r["epsilon"], r["delta"]) for r in receipts.values()} == set(spent(sites))
    assert [h["sites"] for h in json.loads((root / "02-views" / "round.json").read_text())["history"]] == [[*NAMES]] * 3
    assert [step[0] for step in told] == ["reserve"] * 2 + ["views"] * (2 + 3 * 4)
    assert told[-1] == ("views", 1.0, "done")
    fractions = [fraction for stage, fraction, _ in told if stage == "views"]
    assert fractions == sorted(fractions)


def test_finished_stages_are_not_run_again(tmp_path: Path) -> None:
    sites, told = hospitals(tmp_path / "sites"), []
    run(campaign(tmp_path / "out"), sites)
    before = weights(tmp_path / "out")
    run(campaign(tmp_path / "out"), sites, progress=lambda *step: told.append(step))
    assert told == [("reserve", 1.0, "done before"), ("views", 1.0, "done before")]
    assert same(before, weights(tmp_path / "out"))


@pytest.mark.parametrize("change", ["edit", "remove", "add"])
def test_a_finished_stage_that_was_changed_stops_the_campaign_and_names_the_file(tmp_path: Path, change: str) -> None:
    sites = hospitals(tmp_path / "sites")
    run(campaign(tmp_path / "out"), sites)
    path = tmp_path / "out" / "campaign" / "02-views" / ("more" if change == "add" else "weights.safetensors")
    path.unlink() if change == "remove" else path.write_bytes(b"x")
    with pytest.raises(ValueError, match=path.name):
        run(campaign(tmp_path / "out"), sites)


def test_another_campaign_does_not_go_on_in_the_same_folder(tmp_path: Path) -> None:
    sites = hospitals(tmp_path / "sites")
    run(campaign(tmp_path / "out", reserve_stage(PLAN)), sites)
    with pytest.raises(ValueError, match="another campaign"):
        run(campaign(tmp_path / "out", reserve_stage(PLAN), run="run-2"), sites)


def test_a_folder_may_be_moved_and_its_campaign_goes_on(tmp_path: Path) -> None:
    sites = hospitals(tmp_path / "sites")
    run(campaign(tmp_path / "out"), sites)
    shutil.move(tmp_path / "out", tmp_path / "moved")
    again = resumed(tmp_path / "moved")
    assert again == campaign(tmp_path / "moved")
    assert resumed(tmp_path / "nowhere") is None
    run(again, sites)


def test_two_processes_do_not_work_in_one_folder(tmp_path: Path) -> None:
    sites = hospitals(tmp_path / "sites")
    inner: list[str] = []

    def intrude(stage: str, fraction: float, words: str) -> None:
        with pytest.raises(ValueError, match="another process") as error:
            run(campaign(tmp_path / "out"), sites)
        inner.append(str(error.value))

    run(campaign(tmp_path / "out", reserve_stage(PLAN)), sites, progress=intrude)
    assert inner


def test_a_budget_that_is_spent_ends_the_campaign_before_a_gradient(tmp_path: Path) -> None:
    sites = hospitals(tmp_path / "sites", epsilon_cap=1.0)
    with pytest.raises(QuorumLost, match="REFUSED_BUDGET"):
        run(campaign(tmp_path / "out"), sites)
    failure = read_failure(tmp_path / "out")
    assert isinstance(failure, QuorumLost)
    assert {reason.split()[0] for reason in failure.failed.values()} == {"REFUSED_BUDGET"}
    assert not list(tmp_path.rglob("outbox/run-1"))
    assert {entry["code"] for folder in sites for entry in log_of(Site(folder))} == {"REFUSED_BUDGET"}


def test_a_site_that_refuses_takes_no_part_in_what_follows(tmp_path: Path) -> None:
    sites = hospitals(tmp_path / "sites")
    shutil.rmtree(sites[1])
    hospital(tmp_path / "sites", NAMES[1], epsilon_cap=1.0)
    asked: list[int] = []

    def count(message: Any) -> None:
        if message.metadata.message_type == "train":
            asked.append(message.metadata.dst_node_id)

    run(campaign(tmp_path / "out", quorum=2), sites, fault=count)
    assert set(asked) == {1000, 1002}
    refused = json.loads((tmp_path / "out" / "campaign" / "01-reserve" / "refused.json").read_text())
    assert list(refused) == [NAMES[1]]


def test_a_plan_that_does_not_pay_for_its_steps_is_named_before_anything_is_sent(tmp_path: Path) -> None:
    told = campaign(tmp_path / "out", reserve_stage(PLAN), train_stage(rounds=4))
    with pytest.raises(ValueError, match=r"pays for 6 steps.*are 8"):
        run(told, hospitals(tmp_path / "sites"))


def test_a_lost_round_goes_on_with_what_the_sites_already_answered(tmp_path: Path) -> None:
    """The reply of one site is lost after all have computed: resumed, they send the same bytes and charge nothing."""
    sites, seen = hospitals(tmp_path / "sites"), []

    def lose(message: Any) -> str | None:
        if message.metadata.message_type == "train":
            seen.append(message.metadata.dst_node_id)
        return "drop" if len(seen) == 6 else None

    with pytest.raises(QuorumLost):
        run(campaign(tmp_path / "out"), sites, fault=lose)
    before = {p: p.read_bytes() for folder in sites for p in folder.rglob("train.*.safetensors")}
    charged = spent(sites)
    run(campaign(tmp_path / "out"), sites)
    assert all(path.read_bytes() == content for path, content in before.items())
    assert spent(sites) == charged
    for folder in sites:
        assert sum(e["kind"] == "step_intent" for e in Site(folder).ledger.events()) == 3


KILLED = """
import sys, time
from pathlib import Path
import pericard
from evaluation import provenance
from client import training
from client.app import app as client_app
from server.app import app as server_app
from server.grid import run_in_process
from tests import hospitals

provenance.code_digest = lambda: "0" * 64
fit, done = training._fit, []

def slow(site, request, *rest):
    answer = fit(site, request, *rest)
    done.append(1)
    if len(done) == int(sys.argv[3]):
        print("now", flush=True)
        time.sleep(60)
    return answer

training._fit = slow
root = Path(sys.argv[1])
stage = hospitals.train_stage(sys.argv[2], plan=hospitals.PLAN if sys.argv[2] == "views" else None)
plans = [hospitals.PLAN] if sys.argv[2] == "views" else []
told = hospitals.campaign(root / "out", hospitals.reserve_stage(*plans), stage)
run_in_process(server_app, client_app, told.to_json(), sorted((root / "sites").iterdir()))
"""


@pytest.fixture
def one_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the killed process and this one run the same code, even if somebody saves a file meanwhile."""
    monkeypatch.setattr("evaluation.provenance.code_digest", lambda: "0" * 64)


def run_and_kill(root: Path, stage: str, after: int) -> None:
    """Run the campaign in another process and kill it while the `after`-th local training has its answer in hand."""
    process = subprocess.Popen(
        [sys.executable, "-c", KILLED, str(root), stage, str(after)], cwd=ROOT, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "now\n"
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()
        process.stdout.close()


@pytest.mark.slow
@pytest.mark.usefixtures("one_code")
@pytest.mark.parametrize("after", [1, 5, 9])
def test_a_campaign_killed_in_the_middle_of_a_stage_ends_with_the_same_arrays(tmp_path: Path, after: int) -> None:
    hospitals(tmp_path / "a" / "sites")
    shutil.copytree(tmp_path / "a", tmp_path / "b")
    told = {
        root: campaign(tmp_path / root / "out", reserve_stage(), train_stage("reference", plan=None)) for root in "ab"
    }
    run(told["a"], sorted((tmp_path / "a" / "sites").iterdir()))
    run_and_kill(tmp_path / "b", "reference", after)
    assert not (tmp_path / "b/out/campaign/02-reference/done.json").exists()
    run(told["b"], sorted((tmp_path / "b" / "sites").iterdir()))
    assert same(*(weights(tmp_path / root / "out", "02-reference") for root in "ab"))


@pytest.mark.slow
@pytest.mark.usefixtures("one_code")
def test_a_campaign_killed_under_noise_charges_no_more_and_sends_what_was_sent_again(tmp_path: Path) -> None:
    sites = hospitals(tmp_path / "sites")
    run_and_kill(tmp_path, "views", 5)
    charged = spent(sites)
    answered = {p: p.read_bytes() for folder in sites for p in folder.rglob("train.*.safetensors")}
    assert len(answered) == 4
    run(campaign(tmp_path / "out"), sites)
    assert spent(sites) == charged
    assert all(path.read_bytes() == content for path, content in answered.items())
    for folder in sites:
        steps = [e["payload"]["steps"] for e in Site(folder).ledger.events() if e["kind"] == "step_intent"]
        assert sum(steps) == PLAN.steps


def test_a_campaign_survives_its_json(tmp_path: Path) -> None:
    told = Campaign.parse(campaign(tmp_path).to_json())
    assert Campaign.parse(told.to_json()) == told
    assert told.experiment_digest == dataclasses.replace(told, seed=9, out="elsewhere").experiment_digest
    assert told.experiment_digest != dataclasses.replace(told, experiment={"name": "other"}).experiment_digest


@pytest.mark.parametrize(
    "change",
    [{"run": "../x"}, {"quorum": 0}, {"seconds": 0.0}, {"threads": 0}, {"schema": "x"}, {"more": 1}, {"stages": [{}]}],
    ids=str,
)
def test_what_is_no_campaign_is_refused(tmp_path: Path, change: dict[str, Any]) -> None:
    document = json.loads(campaign(tmp_path).to_json()) | change
    with pytest.raises(ValueError, match="not a campaign"):
        Campaign.parse(json.dumps(document))


@pytest.mark.parametrize("name", ["../x", "", "A", "a/b"])
def test_a_stage_cannot_name_a_path(name: str) -> None:
    for field in ("name", "do"):
        with pytest.raises(ValueError, match=field):
            Stage(**({"name": "a", "do": "a", "settings": {}} | {field: name}))


def test_two_stages_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="two stages"):
        campaign(tmp_path, train_stage(), train_stage())


def test_a_follower_hears_what_another_process_tells(tmp_path: Path) -> None:
    sites = hospitals(tmp_path / "sites")
    run(campaign(tmp_path / "out", reserve_stage()), sites)
    follower = Follower(tmp_path / "out" / "campaign")
    assert list(follower) == []
    run(campaign(tmp_path / "out", reserve_stage()), sites)
    assert list(follower) == [("reserve", 1.0, "done before")]
    with (tmp_path / "out" / "campaign" / "progress.jsonl").open("a") as file:
        file.write('{"stage": "torn')
    assert list(follower) == []


def test_the_greeting_names_the_sites_of_a_campaign(tmp_path: Path) -> None:
    sites = hospitals(tmp_path / "sites")
    run(campaign(tmp_path / "out", reserve_stage()), sites)
    receipts = json.loads((tmp_path / "out" / "campaign" / "01-reserve" / "sites.json").read_text())
    assert receipts["aurora"]["public_key"] == Site(sites[0]).signing_key.public.hex()
    assert Wire(Site(sites[0])).nodes == [1000]
