"""Every way to tamper that the design lists, each with the tests that hold it; the ones that had none are here."""

import ast
import base64
import dataclasses
import os
import shutil
import unicodedata
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation import certificate as c
from evaluation import revocation as r
from evaluation.certificate import CERTIFICATE, InvalidCertificate, verify
from evaluation.envelope import Envelope, Signature, pae, seal
from evaluation.evidence import Finding, Verdict, decide
from evaluation.policy import Lane, Op, Policy
from evaluation.predicate import Number
from evaluation.statement import Contradiction
from evaluation.trust import FIELD_PRIME, SMALL_ORDER, TrustedKey
from synthesis.manifest import MANIFEST, Manifest
from tests.certified import NOW, Certified, certify, statement

ORDER = 2**252 + 27742317777372353535851937790883648493  # of the group that signatures live in (RFC 8032, 5.1)

LISTED = {  # what may be tried → the tests that try it, by file
    "every single-bit flip in payload, signature and manifest": {
        "test_certificate": [
            "test_no_bit_of_the_certificate_can_be_flipped",
            "test_no_bit_of_the_payload_or_a_signature_can_be_flipped",
            "test_no_bit_of_the_manifest_can_be_flipped",
            "test_no_bit_of_a_released_file_can_be_flipped",
        ],
        "test_tampering": [
            "test_no_bit_at_all_of_a_small_payload_or_its_signatures_can_be_flipped",
            "test_no_bit_at_all_of_a_small_manifest_can_be_flipped",
            "test_no_bit_at_all_of_a_certificate_can_be_flipped",
        ],
        "test_revocation": ["test_no_bit_of_a_list_can_be_flipped"],
    },
    "payloadType swap": {
        "test_certificate": [
            "test_a_swapped_payload_type_is_refused",
            "test_a_signature_over_another_type_does_not_fit",
        ],
        "test_revocation": ["test_neither_a_certificate_nor_a_list_can_pass_for_the_other"],
    },
    "re-signing with an embedded unknown key": {
        "test_certificate": [
            "test_an_unknown_key_that_signs_anew_is_refused",
            "test_an_unknown_signature_beside_good_ones_is_refused",
        ],
        "test_tampering": ["test_a_key_that_stands_in_the_certificate_itself_counts_for_nothing"],
    },
    "two files swapped": {"test_certificate": ["test_two_files_swapped_are_named"]},
    "file added, removed, renamed by case or Unicode; symlink; truncated manifest": {
        "test_certificate": [
            "test_a_spoiled_folder_is_refused_by_name",
            "test_a_name_in_another_unicode_form_is_another_file",
        ],
        "test_tampering": ["test_a_file_that_looks_like_a_released_one_is_refused"],
    },
    "duplicate JSON keys, NaN, Infinity, 1e999": {
        "test_certificate": ["test_even_the_true_keys_cannot_certify_nonsense"],
        "test_tampering": ["test_numbers_and_keys_that_can_be_read_in_two_ways_are_refused"],
    },
    "policy loosened with the old digest": {
        "test_certificate": ["test_even_the_true_keys_cannot_certify_nonsense"],
        "test_statement": ["test_a_policy_loosened_after_signing_is_noticed"],
    },
    "certificate of release A beside data B": {
        "test_certificate": ["test_a_certificate_beside_another_release_says_so"]
    },
    "expired; clock set back": {
        "test_certificate": ["test_a_certificate_lives_from_its_issue_to_its_expiry"],
        "test_tampering": ["test_a_clock_set_back_to_before_the_expiry_is_noticed_by_a_newer_list"],
        "test_revocation": ["test_a_clock_that_was_set_back_is_noticed"],
    },
    "revoked": {
        "test_revocation": ["test_a_withdrawn_certificate_is_refused_even_by_a_list_that_is_out_of_date"],
    },
    "older certificate replayed": {
        "test_revocation": [
            "test_an_older_certificate_shown_again_is_refused",
            "test_an_older_list_cannot_pass_for_the_newest_where_a_newer_one_was_kept",
        ],
        "test_tampering": ["test_the_older_certificate_of_the_same_release_is_noticed"],
    },
    "k-1 of K signatures": {"test_certificate": ["test_k_of_the_sites_must_have_signed"]},
    "non-canonical and small-order points": {
        "test_trust": ["test_the_refused_points_are_exactly_those_of_small_order", "test_weak_points_are_no_keys"],
        "test_tampering": [
            "test_a_signature_has_one_form_only",
            "test_a_signature_with_a_point_of_small_order_is_refused",
        ],
    },
    "issued while a required audit is missing": {
        "test_statement": ["test_a_statement_cannot_pass_while_a_required_finding_is_missing"],
        "test_tampering": [
            "test_whatever_the_evidence_a_certificate_passes_only_if_every_required_rule_holds",
            "test_no_part_of_the_evidence_gives_a_better_verdict_than_the_whole",
        ],
    },
}


def test_every_way_to_tamper_that_the_design_lists_has_its_tests() -> None:
    there = {
        file: {
            node.name for node in ast.parse(_beside(file).read_text("utf-8")).body if isinstance(node, ast.FunctionDef)
        }
        for file in ("test_certificate", "test_revocation", "test_statement", "test_tampering", "test_trust")
    }
    named = {(file, name) for tests in LISTED.values() for file, names in tests.items() for name in names}
    assert {(file, name) for file, name in named if name not in there[file]} == set()


def _beside(file: str) -> Path:
    return Path(__file__).with_name(f"{file}.py")


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Certified:
    return certify(tmp_path_factory.mktemp("original"), n_files=1)


@pytest.fixture
def made(original: Certified, tmp_path: Path) -> Certified:
    return dataclasses.replace(original, folder=shutil.copytree(original.folder, tmp_path / "copy"))


def test_no_bit_at_all_of_a_small_payload_or_its_signatures_can_be_flipped(original: Certified) -> None:
    keys = (original.coordinator, *original.sites.values())
    small = Envelope(payload=b'{"a":1}', signatures=tuple(seal(b'{"a":1}', key) for key in keys))
    assert c.authenticate(small, trust=original.trust)
    for flipped in _flips(small.payload):
        with pytest.raises(c.ForgedSignature):
            c.authenticate(dataclasses.replace(small, payload=flipped), trust=original.trust)
    for i, signature in enumerate(small.signatures):
        for flipped in _flips(signature.raw):
            changed = dataclasses.replace(signature, sig=base64.b64encode(flipped).decode())
            signatures = (*small.signatures[:i], changed, *small.signatures[i + 1 :])
            with pytest.raises(c.ForgedSignature):
                c.authenticate(dataclasses.replace(small, signatures=signatures), trust=original.trust)


def test_no_bit_at_all_of_a_small_manifest_can_be_flipped(made: Certified) -> None:
    path = made.folder / "release" / MANIFEST
    for flipped in _flips(path.read_bytes()):
        path.write_bytes(flipped)
        with pytest.raises(c.FilesDiffer) as error:
            verify(made.folder, trust=made.trust, now=NOW)
        assert error.value.differs == (f"release/{MANIFEST}",)


@pytest.mark.slow
def test_no_bit_at_all_of_a_certificate_can_be_flipped(original: Certified) -> None:
    for flipped in _flips(original.envelope.canonical):
        with pytest.raises(InvalidCertificate):
            verify(original.folder, trust=original.trust, now=NOW, raw=flipped)


def _flips(raw: bytes) -> list[bytes]:
    whole = int.from_bytes(raw, "big")
    return [(whole ^ 1 << bit).to_bytes(len(raw), "big") for bit in range(8 * len(raw))]


def test_a_key_that_stands_in_the_certificate_itself_counts_for_nothing(made: Certified) -> None:
    document = made.envelope.canonical.replace(b'{"payload":', b'{"keys":{"x":"y"},"payload":')
    with pytest.raises(c.MalformedCertificate, match="exactly payload, payloadType and signatures"):
        verify(made.folder, trust=made.trust, now=NOW, raw=document)


ALIKE: dict[str, Callable[[str], str]] = {
    "case": str.upper,
    "space": lambda name: f"{name} ",
    "Cyrillic letter": lambda name: name.replace("p", "\u0440"),
    "dot that is none": lambda name: name.replace(".", "\u2024"),
    "other Unicode form": lambda name: unicodedata.normalize("NFD", f"é{name}"),
    "nothing to be seen": lambda name: f"\u200b{name}",
}


@pytest.mark.parametrize("alike", ALIKE)
@pytest.mark.parametrize("rename", [True, False])
def test_a_file_that_looks_like_a_released_one_is_refused(made: Certified, alike: str, rename: bool) -> None:
    images = made.folder / "release/images"
    one = images / "000000.png"
    other = images / ALIKE[alike](one.name)
    one.rename(other) if rename else shutil.copy(one, other)
    with pytest.raises(c.FilesDiffer) as error:
        verify(made.folder, trust=made.trust, now=NOW)
    assert f"release/images/{other.name}" in error.value.differs


@pytest.mark.parametrize(
    "written", [b"NaN", b"Infinity", b"-Infinity", b"1e999", b"-1e999", b'6.5,"eps":6.5', b"6.50", b"65e-1"]
)
@pytest.mark.parametrize("where", ["payload", "manifest", "envelope"])
def test_numbers_and_keys_that_can_be_read_in_two_ways_are_refused(made: Certified, written: bytes, where: str) -> None:
    raw = None
    if where == "payload":
        payload = made.envelope.payload.replace(b'"eps":6.5,"eps_if', b'"eps":%s,"eps_if' % written)
        keys = (made.coordinator, *made.sites.values())
        raw = Envelope(payload=payload, signatures=tuple(seal(payload, k) for k in keys)).canonical
        if written in (b"6.50", b"65e-1"):  # the same number in other words: signed anew by the true keys, it is theirs
            return
    elif where == "manifest":
        path = made.folder / "release" / MANIFEST
        path.write_bytes(path.read_bytes().replace(b'"version":1', b'"version":%s' % written))
    else:
        raw = made.envelope.canonical[:-1] + b',"x":%s}' % written
    with pytest.raises(InvalidCertificate):
        verify(made.folder, trust=made.trust, now=NOW, raw=raw)


# --- time ---


def test_a_clock_set_back_to_before_the_expiry_is_noticed_by_a_newer_list(made: Certified) -> None:
    """An expired certificate verifies on a clock set back; a list of a later day shows that the clock is wrong."""
    back = NOW + timedelta(days=100)
    verified = verify(made.folder, trust=made.trust, now=back)
    listed = r.updated(None, now=NOW + timedelta(days=500), enter=[r.entry_of(verified.statement, verified.digest)])
    with pytest.raises(c.NotYetValid):
        r.status(verified, listed, now=back)


def test_the_older_certificate_of_the_same_release_is_noticed(made: Certified, tmp_path: Path) -> None:
    older = verify(made.folder, trust=made.trust, now=NOW)
    newer = dataclasses.replace(made, folder=shutil.copytree(made.folder, tmp_path / "newer"))
    subject = older.statement.subject
    newer.resign(statement(subject=subject, issued=NOW + timedelta(days=1), supersedes=older.digest))
    later = NOW + timedelta(days=2)
    second = verify(newer.folder, trust=made.trust, now=later)
    listed = r.updated(None, now=later, enter=[r.entry_of(v.statement, v.digest) for v in (older, second)])
    assert r.status(second, listed, now=later).known
    shutil.copy(made.folder / CERTIFICATE, newer.folder / CERTIFICATE)
    with pytest.raises(r.Superseded):
        r.status(verify(newer.folder, trust=made.trust, now=later), listed, now=later)


# --- points of the curve ---


def _signed(made: Certified, signature: bytes) -> Envelope:
    key = made.coordinator
    others = tuple(s for s in made.envelope.signatures if s.keyid != key.key_id)
    return dataclasses.replace(made.envelope, signatures=(Signature.of(key.public, signature), *others))


@pytest.mark.parametrize("times", [1, 2, 8])
def test_a_signature_has_one_form_only(made: Certified, times: int) -> None:
    signature = made.coordinator.sign(pae(made.envelope.payload))
    assert c.authenticate(_signed(made, signature), trust=made.trust)
    scalar = int.from_bytes(signature[32:], "little") + times * ORDER
    with pytest.raises(c.ForgedSignature):
        c.authenticate(_signed(made, signature[:32] + scalar.to_bytes(32, "little")), trust=made.trust)


@pytest.mark.parametrize("sign", [0, 1])
@pytest.mark.parametrize("y", [*SMALL_ORDER, FIELD_PRIME, FIELD_PRIME + 1])
@pytest.mark.parametrize("scalar", [0, 1, ORDER])
def test_a_signature_with_a_point_of_small_order_is_refused(made: Certified, y: int, sign: int, scalar: int) -> None:
    point = (y + (sign << 255)).to_bytes(32, "little")
    with pytest.raises(c.ForgedSignature):
        c.authenticate(_signed(made, point + scalar.to_bytes(32, "little")), trust=made.trust)
    with pytest.raises(ValueError, match="weak point"):
        TrustedKey(name="x", role="site", public_key=base64.b64encode(point).decode())


# --- evidence ---

POLICIES = tuple(Policy.load(name) for name in Policy.shipped())
MEASURED = sorted({rule.metric for p in POLICIES for rule in p.rules if not rule.metric.startswith("dp.")})
CONTROLS = sorted({name for p in POLICIES for rule in p.rules for name in rule.needs})
EDGES = (-0.1, -0.03, -0.02, -0.01, 0.0, 0.01, 0.05, 0.09, 0.6, 0.95, 1.0)


@st.composite
def findings(draw: st.DrawFn) -> list[Finding]:
    """Draw evidence about any of the metrics, much of it good enough to pass."""
    drawn = []
    for metric in draw(st.lists(st.sampled_from(MEASURED), unique=True)):
        low, high = sorted((draw(st.sampled_from(EDGES)), draw(st.sampled_from(EDGES))))
        number = Number(value=low, low=low, high=high, n=draw(st.sampled_from([0, 24, 60, 199, 1000])))
        controls = {name: draw(st.booleans()) for name in CONTROLS if draw(st.booleans())}
        drawn.append(Finding(metric=metric, estimate=draw(st.sampled_from([number, number, None])), controls=controls))
    return drawn


@settings(deadline=None, max_examples=200)
@given(findings(), st.sampled_from(POLICIES), st.sampled_from([Lane.FORMAL, Lane.EMPIRICAL, Lane.NONE]))
def test_whatever_the_evidence_a_certificate_passes_only_if_every_required_rule_holds(
    evidence: list[Finding], policy: Policy, lane: Lane
) -> None:
    predicate = statement(evidence, policy=policy, lane=lane).predicate
    found = {f.metric: f for f in predicate.findings}
    required = [rule for rule in policy.rules if lane in rule.required]
    holds = bool(required) and all(_holds(rule, found.get(rule.metric)) for rule in required)
    assert (predicate.verdict is Verdict.PASS) == holds
    for other in set(Verdict) - {predicate.verdict}:
        with pytest.raises(Contradiction):
            dataclasses.replace(predicate, verdict=other)


def _holds(rule, found) -> bool:
    """Judge a rule without looking at how the house does it."""
    if found is None or found.estimate is None:
        return False
    compare = {Op.AT_MOST: float.__le__, Op.BELOW: float.__lt__, Op.AT_LEAST: float.__ge__, Op.ABOVE: float.__gt__}
    ends = {"lcb95": [found.estimate.low], "ucb95": [found.estimate.high]}.get(
        rule.bound, [found.estimate.low, found.estimate.high]
    )
    kept = all(compare[rule.op](float(end), rule.threshold) for end in ends)
    controlled = found.estimate.n >= rule.min_n and all(found.controls.get(name) for name in rule.needs)
    exact = rule.bound != "exact" or found.estimate.low == found.estimate.high
    return exact and kept and (controlled or rule.refutes)


@settings(deadline=None, max_examples=200)
@given(findings(), st.sampled_from(POLICIES), st.sampled_from(Lane), st.data())
def test_no_part_of_the_evidence_gives_a_better_verdict_than_the_whole(
    evidence: list[Finding], policy: Policy, lane: Lane, data: st.DataObject
) -> None:
    """Of less evidence is said what is said of the whole, or that it does not suffice; never PASS for anything else."""
    whole = decide(policy, evidence, lane=lane).verdict
    kept = [
        dataclasses.replace(f, controls={n: held for n, held in f.controls.items() if data.draw(st.booleans())})
        for f in evidence
        if data.draw(st.booleans())
    ]
    assert decide(policy, kept, lane=lane).verdict in {whole, Verdict.INCONCLUSIVE}


def test_a_manifest_of_files_that_one_disk_takes_for_one_is_refused(tmp_path: Path) -> None:
    for name in ("a.png", "A.png"):
        (tmp_path / name).write_bytes(b"x")
    if len(os.listdir(tmp_path)) == 2:  # noqa: PTH208 - on a disk that tells them apart
        with pytest.raises(ValueError, match="differ by case only"):
            Manifest.of(tmp_path)
