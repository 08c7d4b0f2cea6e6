"""Whoever runs a campaign, and every hospital in it, can see how it stands; and nobody learns of a patient from it."""

import json
import os
import shutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from client import node
from client.app import app as client_app
from client.journal import FILE
from client.site import Site
from evaluation.proposal import sealed
from learning.proposal import Proposal
from pericard.cli import run
from pericard.errors import Exit
from server.app import app as server_app
from server.coordinator import LINK, OUT, PROPOSAL, Coordinator
from server.fleet import Link
from server.grid import run_in_process
from server.progress import Journal
from server.rounds import QuorumLost
from server.status import MISSED, look
from tests.hospitals import CANARY, NAMES, PLAN, campaign, hospital, reserve_stage, train_stage


def federation(root: Path, *, broken: str = "", quorum: int = 2, stages: Any = None) -> Coordinator:
    """A coordinator of three hospitals whose proposed campaign was run, one of them unable to read its studies."""
    made = Coordinator.create(root / "c", name="test", address="127.0.0.1:9092")
    for name in NAMES:
        cohort = {"reader": "canary", "seed": NAMES.index(name), "broken": name == broken}
        made.admit(name, node.join(hospital(root / "sites", name, cohort=cohort), made.invitation))
    whole = stages or (reserve_stage(PLAN), train_stage())
    told = json.loads(campaign(made.folder / OUT, *whole, quorum=quorum).to_json())
    proposal = Proposal(code_digest="0" * 64, bundle_digest="0" * 64, campaign={**told, "out": ""})
    (made.folder / PROPOSAL).write_bytes(sealed(proposal, made.key))
    return made


def conduct(made: Coordinator, sites: Sequence[str] = NAMES) -> None:
    told = json.dumps({**made.proposal.campaign, "out": str(made.folder / OUT)})
    (made.folder / OUT).mkdir()
    run_in_process(server_app, client_app, told, [made.folder.parent / "sites" / name for name in sites])


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory) -> Coordinator:
    made = federation(tmp_path_factory.mktemp("status"), broken="borealis")
    conduct(made)
    return made


def test_a_campaign_is_seen_from_its_proposal_to_its_end(tmp_path: Path, done: Coordinator) -> None:
    made = federation(tmp_path)
    before = look(made)
    assert (before.state, before.link, [s.state for s in before.stages]) == ("proposed", False, ["waits", "waits"])
    after = look(done)
    assert (after.state, [s.state for s in after.stages]) == ("done", ["done", "done"])
    assert after.stages[1].exchanges == after.stages[1].of == 3
    assert after.stages[1].epsilon > 0
    assert [site.name for site in after.sites] == list(NAMES)
    assert {site.online for site in after.sites} == {"unknown"}


def test_each_site_is_seen_with_what_it_sent_and_was_charged_and_where_it_failed(done: Coordinator) -> None:
    sites = {site.name: site for site in look(done).sites}
    assert sites["aurora"].answers == sites["borealis"].answers == 4
    assert sites["aurora"].bytes > sites["borealis"].bytes > 0
    assert sites["aurora"].epsilon == sites["borealis"].epsilon > 0
    assert sites["aurora"].heard.endswith("+00:00")
    assert sites["aurora"].failure == ""
    assert sites["borealis"].failure.startswith("FAILED ref=")
    assert sites["borealis"].failure.endswith("(views, exchange 3)")


def test_a_site_that_was_not_there_when_sites_joined_is_told_from_one_that_failed(tmp_path: Path) -> None:
    """Its node may be online again since, and is asked nothing: without a word nobody would know why."""
    made = federation(tmp_path)
    assert {site.failure for site in look(made).sites} == {""}
    conduct(made, sites=("aurora", "borealis"))
    assert {site.name: site.failure for site in look(made).sites} == {"aurora": "", "borealis": "", "corvus": MISSED}


def test_where_the_superlink_runs_it_says_who_is_connected(done: Coordinator, monkeypatch: pytest.MonkeyPatch) -> None:
    (done.folder / LINK / "nodes.json").write_text(json.dumps({"aurora": "7", "corvus": "8"}))
    nodes = [
        {"node-id": "7", "status": "online", "online-at": "2030-01-01T00:00:00+00:00", "offline-at": ""},
        {"node-id": "8", "status": "offline", "online-at": "", "offline-at": "2030-01-02T00:00:00+00:00"},
        {"node-id": "9", "status": "online", "online-at": "", "offline-at": ""},
    ]
    monkeypatch.setattr("server.status._answers", lambda folder: True)
    monkeypatch.setattr(Link, "flwr", lambda self, *words: {"success": True, "nodes": nodes})
    sites = {site.name: (site.online, site.since[:10]) for site in look(done).sites}
    assert sites == {
        "aurora": ("online", "2030-01-01"),
        "borealis": ("unknown", ""),
        "corvus": ("offline", "2030-01-02"),
    }


def test_a_campaign_that_lost_its_quorum_says_so(tmp_path: Path) -> None:
    made = federation(tmp_path, broken="borealis", quorum=3)
    with pytest.raises(QuorumLost):
        conduct(made)
    seen = look(made)
    assert seen.state == "failed"
    assert seen.over
    assert seen.failure.startswith("QuorumLost: train views-1")
    assert [s.state for s in seen.stages] == ["done", "begun"]


def test_whoever_waits_for_sites_is_seen_to_wait(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = federation(tmp_path)
    monkeypatch.setattr("server.status._answers", lambda folder: True)
    seen = look(made, ask=False)
    assert (seen.state, seen.over) == ("waiting", False)


def test_what_an_exchange_said_is_still_seen_when_the_campaign_was_resumed(done: Coordinator, tmp_path: Path) -> None:
    before = look(done).stages
    copy = Coordinator.open(shutil.copytree(done.folder, tmp_path / "c"))
    Journal(copy.folder / OUT / "campaign")("views", 1.0, "done before")
    assert look(copy).stages == before
    assert before[1].words.startswith("exchange 3")


def test_a_campaign_is_followed_while_its_superlink_is_started_again(
    done: Coordinator, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = look(done)
    states = iter(["running", "failed", "stopped", "waiting", "running", "done", "never asked for"])
    monkeypatch.setattr("server.status.look", lambda _: replace(seen, state=next(states)))
    monkeypatch.setattr("pericard.status.EVERY_SECONDS", 0.0)
    assert run(["coordinate", "status", str(done.folder), "--json", "--follow"]) == Exit.PASS
    told = [json.loads(line)["state"] for line in capsys.readouterr().out.splitlines()]
    assert told == ["running", "failed", "stopped", "waiting", "running", "done"]


def test_the_command_shows_a_table_and_json(done: Coordinator, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["coordinate", "status", str(done.folder)]) == Exit.PASS
    shown = capsys.readouterr().out
    assert all(word in shown for word in ("aurora", "views", "done", "3 of 3"))
    assert run(["coordinate", "status", str(done.folder), "--json", "--follow"]) == Exit.PASS
    told = json.loads(capsys.readouterr().out)
    assert told["run"] == "run-1"
    assert {stage for _, stage, _ in told["events"]} == {"reserve", "views"}


def test_the_page_runs_nothing_loads_nothing_and_can_be_printed(done: Coordinator, tmp_path: Path) -> None:
    page = tmp_path / "status.html"
    assert run(["coordinate", "status", str(done.folder), "--html", str(page), "--json"]) == Exit.PASS
    text = page.read_text()
    assert "@media print" in text
    assert "<td>aurora</td>" in text
    for word in ("<script", "http://", "https://", "src=", "href=", "onload", "@import", "url("):
        assert word not in text


def test_words_from_outside_are_shown_as_words(tmp_path: Path) -> None:
    from pericard.status_page import page
    from server.status import SiteRow, Status

    site = SiteRow(name="a", failure="<script>[/bold] & 'x'</script>")
    seen = Status(federation="<b>", run="r", state="failed", utc="now", link=False, failure="[red]&", sites=(site,))
    assert "<script" not in page(seen)
    assert "<b>" not in page(seen)
    from rich.console import Console

    from pericard.status import table

    console = Console(width=300, record=True, file=sys.stderr)
    console.print(table(seen))
    assert site.failure in console.export_text()


def test_a_folder_without_a_campaign_and_one_that_is_none(tmp_path: Path) -> None:
    made = Coordinator.create(tmp_path / "c", name="test", address="127.0.0.1:9092")
    assert look(made).state == "nothing proposed"
    assert run(["coordinate", "status", str(tmp_path)]) == Exit.USAGE


def test_a_hospital_sees_what_it_answered_spent_and_refused(
    done: Coordinator, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = done.folder.parent / "sites" / "borealis"
    assert run(["site", "status", str(folder), "--json"]) == Exit.PASS
    text = capsys.readouterr().out
    told = json.loads(text)
    assert [(row["message"], row["times"]) for row in told["answered"]] == [("query.hello", 1), ("query.reserve", 1)]
    assert [(row["code"], row["times"], row["message"]) for row in told["refused"]] == [("FAILED", 3, "train")]
    assert 0 < told["spent"]["epsilon"] <= told["spent"]["epsilon_cap"]
    assert told["joined"]["address"] == "127.0.0.1:9092"
    assert told["processes"] == {}
    assert CANARY not in text
    assert not any(key in text for key in Site(folder).cohort.subjects)
    assert run(["site", "status", str(folder)]) == Exit.PASS
    assert "FAILED" in capsys.readouterr().out


def test_every_log_is_lines_of_json_and_only_a_sites_own_may_name_a_patient(done: Coordinator) -> None:
    sites = done.folder.parent / "sites"
    words = sites / "borealis" / "log"
    assert CANARY in words.read_text()  # why its studies cannot be read
    logs = [*done.folder.rglob("*.jsonl"), *sites.rglob("*.jsonl"), *sites.glob("*/log")]
    assert {path.name for path in logs} >= {"progress.jsonl", "left.jsonl", "audit.jsonl", "ledger.jsonl", "log"}
    for path in logs:
        assert all(isinstance(json.loads(line), dict) for line in path.read_text().splitlines()), path
    told = [path for path in (*done.folder.rglob("*"), *logs) if path.is_file() and path != words]
    assert [path for path in told if CANARY.encode() in path.read_bytes()] == []


def test_a_hospital_sees_which_of_its_processes_run(tmp_path: Path) -> None:
    site = hospital(tmp_path)
    (site.folder / node.FOLDER).mkdir()
    own = Path("/proc/self/cmdline").read_bytes().split(b"\0")[0].decode()
    told = {own: os.getpid(), "flower-supernode": os.getpid(), "flower-superexec": 2**22 + 1}
    (site.folder / node.FOLDER / node.PROCESSES).write_text(json.dumps(told))
    assert node.alive(site) == {own: True, "flower-supernode": False, "flower-superexec": False}


def test_a_stranger_verifies_a_copy_of_a_journal(done: Coordinator, tmp_path: Path, capsys: Any) -> None:
    folder = done.folder.parent / "sites" / "aurora"
    copy, key = tmp_path / "copy.jsonl", Site(folder).signing_key.public.hex()
    copy.write_bytes((folder / FILE).read_bytes())
    assert run(["site", "log", str(folder), "--verify"]) == Exit.PASS
    assert "Verified: 10 entries" in capsys.readouterr().out
    assert run(["site", "log", str(copy), "--public-key", key, "--json", "--last", "1"]) == Exit.PASS
    told = json.loads(capsys.readouterr().out)
    assert (told["entries"], told["last"][0]["kind"]) == (10, "train")
    copy.write_bytes(b"".join(copy.read_bytes().splitlines(keepends=True)[:-1]))
    assert run(["site", "log", str(copy), "--public-key", key]) == Exit.PASS
    assert run(["site", "log", str(copy), "--public-key", key, "--head", told["head"]]) == Exit.INTEGRITY
    copy.write_bytes(copy.read_bytes().replace(b"query.hello", b"query.hallo", 1))
    assert run(["site", "log", str(copy), "--public-key", key, "--verify"]) == Exit.INTEGRITY
    assert "line 1 was edited" in capsys.readouterr().err


@pytest.mark.parametrize("key", ["", "zz", "abcd", "00" * 32])
def test_a_copy_needs_the_key_of_its_site(done: Coordinator, tmp_path: Path, key: str) -> None:
    copy = tmp_path / "copy.jsonl"
    copy.write_bytes((done.folder.parent / "sites" / "aurora" / FILE).read_bytes())
    assert run(["site", "log", str(copy), "--public-key", key]) == Exit.USAGE
