"""What whoever runs a federation is told when a campaign cannot be run: one line, and the code of `pericard.errors`."""

import json
import socket
from collections.abc import Callable
from pathlib import Path

import pytest

from client.app import app as client_app
from evaluation.orphans import InUse
from evaluation.proposal import sealed
from evaluation.provenance import code_digest
from learning.proposal import Proposal
from pericard.cli import run
from pericard.errors import Exit, exit_code
from server import fleet
from server.app import app as server_app
from server.coordinator import OUT, PROPOSAL, Coordinator
from server.failure import CampaignChanged, CampaignFailed, read_failure, write_failure
from server.fleet import Link, LinkLost
from server.grid import run_in_process
from server.progress import FILE
from server.rounds import QuorumLost
from server.superlink import SimulationFailed, free_ports
from tests.hospitals import NAMES, PLAN, campaign, hospital, reserve_stage, train_stage

KRUM = {"strategy": "krum", "tolerated": 1}  # bears one hostile site of five, not of three


def federation(root: Path, *, code: str = "") -> Coordinator:
    """A coordinator that proposed a campaign to three hospitals, which are too few for its strategy."""
    (port,) = free_ports(1)
    made = Coordinator.create(root / "c", name="test", address=f"127.0.0.1:{port}", listen=f"127.0.0.1:{port}")
    for name in NAMES:
        hospital(root / "sites", name)
    stages = (reserve_stage(PLAN), train_stage(aggregation=KRUM))
    told = {**json.loads(campaign(made.folder / OUT, *stages).to_json()), "out": ""}
    proposal = Proposal(code_digest=code or code_digest(), bundle_digest="0" * 64, campaign=told)
    (made.folder / PROPOSAL).write_bytes(sealed(proposal, made.key))
    return made


def said(capsys: pytest.CaptureFixture[str]) -> str:
    """Return the one line that was said."""
    shown = capsys.readouterr()
    assert "Traceback" not in shown.err
    (line,) = [line for line in shown.err.splitlines() if line.startswith("pericard:")]
    return line


def in_process(made: Coordinator) -> Callable[..., None]:
    """Return a `conduct` whose campaign runs here, and hears of its end as one that ran in another process."""

    def conduct(coordinator: Coordinator, progress: object, *, patience_seconds: float) -> None:
        told = fleet.proposed(coordinator)
        with pytest.raises(Exception):  # noqa: B017, PT011
            run_in_process(
                server_app, client_app, told.to_json(), [made.folder.parent / "sites" / name for name in NAMES]
            )
        failure = read_failure(Path(told.out))
        assert failure is not None
        raise failure

    return conduct


def test_a_campaign_that_cannot_go_on_ends_with_4_and_what_to_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = federation(tmp_path)
    monkeypatch.setattr(fleet, "conduct", in_process(made))
    assert run(["coordinate", "run", str(made.folder)]) == Exit.REFUSED
    assert "krum bears 1 of at least 5 sites, 3 answered" in said(capsys)


def test_a_campaign_whose_files_were_changed_ends_with_6_and_the_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = federation(tmp_path)
    monkeypatch.setattr(fleet, "conduct", in_process(made))
    assert run(["coordinate", "run", str(made.folder)]) == Exit.REFUSED
    (made.folder / OUT / "campaign" / "01-reserve" / "sites.json").write_text("{}")
    capsys.readouterr()
    assert run(["coordinate", "resume", str(made.folder)]) == Exit.INTEGRITY
    assert "sites.json was changed" in said(capsys)


def test_what_cannot_be_run_is_a_mistake_in_use(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = federation(tmp_path, code="0" * 64)
    assert run(["coordinate", "run", str(made.folder)]) == Exit.USAGE
    assert "propose again" in said(capsys)
    (made.folder / PROPOSAL).unlink()
    assert run(["coordinate", "run", str(made.folder)]) == Exit.USAGE
    assert "propose a campaign first" in said(capsys)


def test_an_address_at_which_nobody_can_listen_is_said_before_anything_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = federation(tmp_path)
    monkeypatch.setattr(fleet, "AGAIN_SECONDS", 0.1)
    host, _, port = made.listen.rpartition(":")
    with socket.create_server((host, int(port))):
        assert run(["coordinate", "run", str(made.folder)]) == Exit.USAGE
    assert f"{made.listen}: nobody can listen there: Address already in use" in said(capsys)


@pytest.mark.parametrize(
    ("error", "told", "code"),
    [
        (QuorumLost("2 of 3", {"aurora": "FAILED ref=1"}), QuorumLost, Exit.REFUSED),
        (CampaignFailed("kept none"), CampaignFailed, Exit.REFUSED),
        (CampaignChanged("it was changed"), CampaignChanged, Exit.INTEGRITY),
        (OSError(28, "No space left on device", "/out"), CampaignFailed, Exit.REFUSED),
        (ValueError("operands could not be broadcast"), RuntimeError, Exit.BUG),
    ],
)
def test_an_error_keeps_its_code_on_its_way_out_of_another_process(
    error: Exception, told: type[Exception], code: Exit, tmp_path: Path
) -> None:
    (tmp_path / "campaign").mkdir()
    write_failure(tmp_path / "campaign", error)
    found = read_failure(tmp_path)
    assert (type(found), exit_code(found or error)) == (told, code)
    assert str(error) in str(found)


def test_a_superlink_that_never_starts_ends_with_4_and_its_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    made = federation(tmp_path)

    def fail(*_: object) -> None:
        raise SimulationFailed("the SuperLink did not start\nIts log ends:\nOSError")

    monkeypatch.setattr(fleet, "link", fail)
    assert run(["coordinate", "run", str(made.folder), "--patience", "0"]) == Exit.REFUSED
    line = said(capsys)
    assert "the SuperLink did not start: see " in line
    assert "superlink.log" in line
    assert not (made.folder / OUT / "campaign").exists()  # nothing was begun, so the same command may be given again
    assert exit_code(LinkLost()) == Exit.REFUSED
    assert exit_code(InUse()) == Exit.USAGE


def test_what_became_of_the_superlink_stands_in_the_event_log_of_a_campaign_that_was_begun(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = federation(tmp_path)
    (made.folder / OUT / "campaign").mkdir(parents=True)

    def fail(*_: object) -> None:
        raise LinkLost("a process of the SuperLink ended with 1")

    monkeypatch.setattr(fleet, "link", fail)
    monkeypatch.setattr(fleet, "AGAIN_SECONDS", 0.01)
    with pytest.raises(LinkLost):
        fleet.conduct(made, lambda *_: None, patience_seconds=0.05)
    told = [
        event["words"] for event in map(json.loads, (made.folder / OUT / "campaign" / FILE).read_text().splitlines())
    ]
    assert told[:3] == ["the SuperLink starts", "a process of the SuperLink ended with 1; goes on in 0.01 s", told[0]]


def test_a_superlink_that_answers_late_is_asked_again_and_not_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers: list[object] = [SimulationFailed("timed out"), SimulationFailed("timed out"), {"nodes": []}]

    def flwr(self: Link, *words: str) -> object:
        answer = answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer

    monkeypatch.setattr(Link, "flwr", flwr)
    monkeypatch.setattr(fleet, "POLL_SECONDS", 0.0)
    running = Link(coordinator=federation(tmp_path), env={}, processes=[])
    assert running.nodes() == {}
    answers.extend([SimulationFailed("timed out")] * fleet.ASK_TRIES)
    with pytest.raises(SimulationFailed):
        running.nodes()
