"""A hospital that asks for approval admits what its people signed, to the letter, and nothing else."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from client import admission, approval
from client.admission import own_code
from client.site import Site
from evaluation import proposal as envelope
from evaluation.envelope import Envelope, seal
from evaluation.trust import SigningKey
from learning.messages import Code, Refusal
from learning.proposal import Approval, Proposal
from tests.hospitals import PLAN, Wire, campaign, hospital, reserve_request, reserve_stage, train_stage

KEY = SigningKey.create()


def proposal(tmp_path: Path, **changes: Any) -> Proposal:
    told = json.loads(campaign(tmp_path, reserve_stage(PLAN), train_stage(), **changes).to_json())
    return Proposal(code_digest=own_code(), bundle_digest="ab" * 32, campaign={**told, "out": ""})


def asked(of: Proposal, **changes: Any) -> Any:
    told = {
        "run": of.run, "code_digest": of.code_digest, "experiment_digest": of.experiment_digest,
        "plans": of.plans("aurora"), "delta": of.delta,
    }  # fmt: skip
    return reserve_request(**(told | changes))


@pytest.fixture
def site(tmp_path: Path) -> Site:
    return hospital(tmp_path / "sites", approval=True)


def answer(site: Site, request: Any) -> Any:
    wire = Wire(site)
    return wire.ask(request)


def test_what_nobody_approved_is_refused_and_costs_nothing(site: Site, tmp_path: Path) -> None:
    assert answer(site, asked(proposal(tmp_path))) is Code.REFUSED_POLICY
    assert site.ledger.spent() == (0.0, 0.0)


def test_what_was_approved_is_admitted_and_charged(site: Site, tmp_path: Path) -> None:
    approval.approve(site, proposal(tmp_path))
    assert answer(site, asked(proposal(tmp_path))).epsilon > 0


@pytest.mark.parametrize(
    "change",
    [
        {"run": "run-2"},
        {"experiment_digest": "0" * 64},
        {"plans": (dataclasses.replace(PLAN, noise_multiplier=1.5).to_json(),)},
        {"plans": (dataclasses.replace(PLAN, steps=5).to_json(),)},
        {"delta": 1e-6},
    ],
    ids=str,
)
def test_approval_of_one_digest_does_not_admit_another(site: Site, tmp_path: Path, change: dict[str, Any]) -> None:
    approval.approve(site, proposal(tmp_path))
    assert answer(site, asked(proposal(tmp_path), **change)) is Code.REFUSED_POLICY
    assert site.ledger.spent() == (0.0, 0.0)


def test_an_approval_is_void_once_the_policy_was_changed(site: Site, tmp_path: Path) -> None:
    approval.approve(site, proposal(tmp_path))
    document = yaml.safe_load((site.folder / "site.yaml").read_text())
    document["policy"]["min_cell"] += 1
    (site.folder / "site.yaml").write_text(yaml.safe_dump(document, sort_keys=False))
    assert answer(Site(site.folder), asked(proposal(tmp_path))) is Code.REFUSED_POLICY


def test_an_approval_that_was_taken_back_is_gone(site: Site, tmp_path: Path) -> None:
    approval.approve(site, proposal(tmp_path))
    assert approval.withdraw(site, "run-1")
    assert not approval.withdraw(site, "run-1")
    assert answer(site, asked(proposal(tmp_path))) is Code.REFUSED_POLICY


def test_a_run_that_was_admitted_is_over_once_its_approval_was_taken_back(site: Site, tmp_path: Path) -> None:
    approval.approve(site, proposal(tmp_path))
    assert answer(site, asked(proposal(tmp_path))).epsilon > 0
    admission.admitted(site, "run-1")
    approval.withdraw(site, "run-1")
    with pytest.raises(Refusal, match="taken back"):
        admission.admitted(site, "run-1")


def test_an_approval_signed_by_another_key_is_none(site: Site, tmp_path: Path) -> None:
    signed = approval.approve(site, proposal(tmp_path)).to_json().encode()
    forged = Envelope(payload=signed, payload_type=approval.TYPE, signatures=(seal(signed, KEY, approval.TYPE),))
    (site.folder / approval.FOLDER / "run-1.json").write_bytes(forged.canonical)
    with pytest.raises(ValueError, match="not signed by this site's key"):
        approval.approved(site, "run-1")
    assert answer(site, asked(proposal(tmp_path))) is Code.REFUSED_POLICY


def test_an_approval_of_one_run_does_not_stand_for_another(site: Site, tmp_path: Path) -> None:
    approval.approve(site, proposal(tmp_path))
    folder = site.folder / approval.FOLDER
    (folder / "run-1.json").rename(folder / "run-2.json")
    with pytest.raises(ValueError, match="is about"):
        approval.approved(site, "run-2")


def test_a_proposal_comes_back_as_it_was_written_and_only_from_its_coordinator(tmp_path: Path) -> None:
    told = proposal(tmp_path)
    raw = envelope.sealed(told, KEY)
    assert envelope.opened(raw, KEY.public) == told
    with pytest.raises(ValueError, match="not signed by the coordinator"):
        envelope.opened(raw, SigningKey.create().public)
    with pytest.raises(ValueError, match="not a signed proposal"):
        envelope.opened(raw[:-1], KEY.public)


def test_a_proposal_shows_a_site_only_the_plans_it_pays_for(tmp_path: Path) -> None:
    other = dataclasses.replace(PLAN, purpose="expert")
    stage = reserve_stage(PLAN, other)
    stage = dataclasses.replace(stage, settings={**stage.settings, "of": {"expert": ["corvus"]}})
    told = json.loads(campaign(tmp_path, stage).to_json())
    shown = Proposal(code_digest="0" * 64, bundle_digest="0" * 64, campaign=told)
    assert [plan["purpose"] for plan in shown.plans("aurora")] == ["tiny"]
    assert [plan["purpose"] for plan in shown.plans("corvus")] == ["tiny", "expert"]


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"schema":"pericard.proposal/2"}', '{"schema":1}'])
def test_what_is_no_proposal_and_no_approval_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a"):
        Proposal.parse(text)
    with pytest.raises(ValueError, match="not an approval"):
        Approval.parse(text)
