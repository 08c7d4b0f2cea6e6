"""A hospital signs a statement only if what it says of the hospital is true."""

import base64
import dataclasses
from pathlib import Path
from typing import Any

import pytest

from client.admission import admitted
from client.site import Site
from evaluation.envelope import PAYLOAD_TYPE, pae
from evaluation.predicate import Repro
from evaluation.predicate import Site as Entry
from evaluation.trust import TrustedKey, key_id
from learning.messages import Code, Sign, Signature
from synthesis.canonical import dumps
from tests import certified
from tests.hospitals import PLAN, Wire, hospital, reserve_request, train_request


def payload(
    site: Site, entry: dict[str, Any] | None = None, repro: dict[str, Any] | None = None, **other: Any
) -> bytes:
    """Return the statement of a campaign in which `site` took part, with one of its claims changed."""
    admission = admitted(site, "run-1")
    own = Entry(
        pseudonym=site.name,
        key_id=site.signing_key.key_id,
        n_rounded=site.file.public_subjects,
        ledger_head=admission.receipt.head,
        eps_spent_lifetime=admission.receipt.epsilon,
    )
    made = Repro(
        code_digest=admission.code_digest, config_digest=admission.experiment_digest, model_digest="c2",
        seeds={}, versions={}, hardware={}, determinism_level="bytes", replay_command="pericard simulate",
    )  # fmt: skip
    neighbour = dataclasses.replace(own, key_id="00", pseudonym="corvus")
    changed = {
        "sites": (dataclasses.replace(own, **(entry or {})), neighbour),
        "repro": dataclasses.replace(made, **(repro or {})),
    }
    return dumps(certified.statement(**(changed | other)).to_json())


@pytest.fixture
def wire(tmp_path: Path) -> Wire:
    line = Wire(hospital(tmp_path))
    line.ask(reserve_request(dataclasses.replace(PLAN, noise_multiplier=4.0)))
    return line


@pytest.fixture
def site(wire: Wire, tmp_path: Path) -> Site:
    return Site(tmp_path / "aurora")


def test_a_countersigned_run_is_over_and_takes_no_more_steps(wire: Wire, site: Site) -> None:
    request = Sign(run="run-1", payload_type=PAYLOAD_TYPE, payload=payload(site))
    spent = site.ledger.spent()
    for _ in range(2):
        assert isinstance(wire.ask(request), Signature)
    assert [event["kind"] for event in site.ledger.events()] == ["open", "reserve", "commit"]
    assert site.ledger.spent() == spent
    plan = dataclasses.replace(PLAN, noise_multiplier=4.0).to_json()
    assert wire.ask(train_request(plan=plan)) is Code.REFUSED_BUDGET


def test_a_true_statement_is_signed_with_the_key_of_the_greeting(wire: Wire, site: Site) -> None:
    text = payload(site)
    reply = wire.ask(Sign(run="run-1", payload_type=PAYLOAD_TYPE, payload=text))
    assert isinstance(reply, Signature)
    assert key_id(reply.public_key) == site.signing_key.key_id
    trusted = TrustedKey(name="aurora", role="site", public_key=base64.b64encode(reply.public_key).decode())
    assert trusted.verifies(reply.signature, pae(text))


@pytest.mark.parametrize(
    "lie",
    [
        {"entry": {"key_id": "11"}}, {"entry": {"n_rounded": 4000}}, {"entry": {"ledger_head": "0" * 64}},
        {"entry": {"eps_spent_lifetime": 0.01}}, {"repro": {"code_digest": "c0"}}, {"repro": {"config_digest": "c1"}},
        {"dp": certified.formal(eps=0.01, per_view={"server": 0.01, "public": 0.01, "release": 0.01})},
    ],
    ids=str,
)  # fmt: skip
def test_a_statement_that_misreports_the_site_is_not_signed(wire: Wire, site: Site, lie: dict[str, Any]) -> None:
    assert wire.ask(Sign(run="run-1", payload_type=PAYLOAD_TYPE, payload=payload(site, **lie))) is Code.REFUSED_POLICY


@pytest.mark.parametrize("text", [b"", b"{}", b"[]", b"\xff", b"a ledger head", b'{"_type": 1}'])
def test_what_is_no_statement_is_not_signed(wire: Wire, site: Site, text: bytes) -> None:
    """The key is no oracle: it signs the DSSE encoding of what the site could read, and nothing else."""
    assert wire.ask(Sign(run="run-1", payload_type=PAYLOAD_TYPE, payload=text)) is Code.UNREADABLE


def test_a_statement_of_a_run_that_was_not_admitted_is_not_signed(wire: Wire, site: Site) -> None:
    assert wire.ask(Sign(run="run-2", payload_type=PAYLOAD_TYPE, payload=payload(site))) is Code.REFUSED_POLICY
