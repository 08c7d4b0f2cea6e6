"""What a hospital's own commands say and leave behind: joining again, taking back, leaving."""

import json
import signal
from pathlib import Path

import pytest
import yaml

from client import approval
from client.admission import own_code
from client.node import NotReady, alone
from client.site import Site
from evaluation.proposal import sealed
from learning import schema
from learning.proposal import Proposal
from pericard import site as command
from pericard.cli import run
from pericard.errors import Exit
from pericard.options import until_stopped
from server.coordinator import Coordinator
from tests.hospitals import campaign, hospital


@pytest.fixture
def coordinator(tmp_path: Path) -> Coordinator:
    return Coordinator.create(tmp_path / "c", name="test", address="127.0.0.1:9092")


@pytest.fixture
def joined(tmp_path: Path, coordinator: Coordinator) -> Site:
    """A hospital that joined, and approved one run."""
    site = hospital(tmp_path / "sites", approval=True)
    _join(site, coordinator)
    told = json.loads(campaign(tmp_path).to_json())
    proposal = Proposal(code_digest=own_code(), bundle_digest="ab" * 32, campaign={**told, "out": ""})
    (tmp_path / "proposal.json").write_bytes(sealed(proposal, coordinator.key))
    assert run(["site", "approve", str(site.folder), str(tmp_path / "proposal.json"), "--yes"]) == Exit.PASS
    return site


def _join(site: Site, coordinator: Coordinator) -> None:
    path = coordinator.folder / "invitation.yaml"
    path.write_text(yaml.safe_dump(coordinator.invitation))
    assert run(["site", "join", str(site.folder), "--invitation", str(path)]) == Exit.PASS


def test_an_approval_is_taken_back_by_its_name(joined: Site, capsys: pytest.CaptureFixture[str]) -> None:
    (name,) = approval.given(joined)
    assert run(["site", "withdraw", str(joined.folder), "another"]) == Exit.USAGE
    assert name in capsys.readouterr().err
    assert run(["site", "withdraw", str(joined.folder), name]) == Exit.PASS
    assert approval.given(joined) == ()


def test_a_proposal_with_a_model_too_large_to_be_sent_is_refused(
    joined: Site, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(schema, "ARRAY_BYTES", 100)
    words = ["site", "approve", str(joined.folder), str(tmp_path / "proposal.json"), "--yes"]
    assert run(words) == Exit.REFUSED
    assert "more than 4096 arrays or 100 bytes" in capsys.readouterr().err


def test_a_site_that_left_keeps_its_account_and_may_join_again(joined: Site, coordinator: Coordinator) -> None:
    before = (joined.folder / "node.pub").read_text()
    assert run(["site", "leave", str(joined.folder)]) == Exit.PASS
    assert approval.given(joined) == ()
    assert not (joined.folder / "node.pub").exists()
    assert (joined.folder / "secrets" / "signing.pem").exists()
    assert run(["site", "run", str(joined.folder)]) == Exit.USAGE
    _join(joined, coordinator)
    assert (joined.folder / "node.pub").read_text() != before


def test_a_site_whose_node_does_not_stop_is_told_to_stop_it(
    joined: Site, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "LEAVE_SECONDS", 0.0)
    with alone(joined):
        assert run(["site", "leave", str(joined.folder)]) == Exit.USAGE
    assert "running already" in capsys.readouterr().err
    assert approval.given(joined) == ()  # even so nothing more is answered


def test_one_folder_has_one_node(joined: Site) -> None:
    with alone(joined), pytest.raises(NotReady, match="running already"), alone(joined):
        pass


def test_a_service_manager_stops_a_command_as_ctrl_c_does(capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGTERM)
    assert until_stopped(lambda: signal.raise_signal(signal.SIGTERM) or 0, "kept") == Exit.STOPPED
    assert "kept" in capsys.readouterr().err
    assert signal.getsignal(signal.SIGTERM) == before
