"""The threats of a certificate, one by one. A certified folder is made once; each test spoils its own copy."""

import base64
import dataclasses
import shutil
import subprocess
import sys
import unicodedata
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation import certificate as c
from evaluation.certificate import CERTIFICATE, REPORT, TRUST, InvalidCertificate, verify
from evaluation.envelope import Envelope, Signature, pae, seal
from evaluation.evidence import Verdict
from evaluation.policy import Policy
from evaluation.statement import Subject
from evaluation.trust import SigningKey, Trust
from synthesis.canonical import dumps, loads
from synthesis.manifest import MANIFEST, Manifest
from tests.certified import EVIDENCE, NOW, SITES, Certified, certify, statement


@pytest.fixture(scope="session")
def original(tmp_path_factory: pytest.TempPathFactory) -> Certified:
    return certify(tmp_path_factory.mktemp("original"))


@pytest.fixture
def made(original: Certified, tmp_path: Path) -> Certified:
    return dataclasses.replace(original, folder=shutil.copytree(original.folder, tmp_path / "copy"))


def refused(made: Certified, kind: type[InvalidCertificate], *differs: str, **how: object) -> InvalidCertificate:
    with pytest.raises(InvalidCertificate) as error:
        verify(made.folder, **{"trust": made.trust, "now": NOW, **how})  # type: ignore[arg-type]
    assert (type(error.value), error.value.differs) == (kind, differs)
    return error.value


def test_an_untouched_folder_verifies(made: Certified) -> None:
    (made.folder / "run.json").write_text("{}")
    verified = verify(made.folder, trust=made.trust, now=NOW)
    assert verified.signers == ("consortium", *SITES)
    assert verified.statement.predicate.verdict is Verdict.PASS
    assert (verified.files_checked, verified.absent, verified.unsigned) == (9, (), ("run.json",))


# --- every bit ---


def test_no_bit_of_the_certificate_can_be_flipped(original: Certified) -> None:
    raw = original.envelope.canonical
    places = sorted({*range(0, len(raw), 97), *range(len(raw) - 420, len(raw), 5), *range(30)})
    for place in places:
        for bit in range(8):
            flipped = bytearray(raw)
            flipped[place] ^= 1 << bit
            with pytest.raises(InvalidCertificate) as error:
                verify(original.folder, trust=original.trust, now=NOW, raw=bytes(flipped))
            assert error.value.differs, f"byte {place} bit {bit}: {error.value}"


@settings(deadline=None)
@given(st.data())
def test_no_bit_of_the_payload_or_a_signature_can_be_flipped(original: Certified, data: st.DataObject) -> None:
    envelope = original.envelope
    bit = 1 << data.draw(st.integers(0, 7))
    which = data.draw(st.integers(-1, len(envelope.signatures) - 1))
    body = bytearray(envelope.payload if which < 0 else envelope.signatures[which].raw)
    body[data.draw(st.integers(0, len(body) - 1))] ^= bit
    if which < 0:
        changed = dataclasses.replace(envelope, payload=bytes(body))
        name = "payload"
    else:
        signatures = list(envelope.signatures)
        signatures[which] = dataclasses.replace(signatures[which], sig=base64.b64encode(bytes(body)).decode())
        changed = dataclasses.replace(envelope, signatures=tuple(signatures))
        name = f"signature of {original.trust.keys[signatures[which].keyid].name}"
    with pytest.raises(c.ForgedSignature) as error:
        c.authenticate(changed, trust=original.trust)
    assert error.value.differs == (name,)


@settings(deadline=None)
@given(st.data())
def test_a_mangled_file_is_refused_and_never_crashes(original: Certified, data: st.DataObject) -> None:
    raw = original.envelope.canonical
    start = data.draw(st.integers(0, len(raw)))
    end = data.draw(st.integers(start, min(len(raw), start + 500)))
    mangled = raw[:start] + data.draw(st.binary(max_size=8) | st.just(b"[" * 3000)) + raw[end:]
    if mangled != raw:
        with pytest.raises(InvalidCertificate):
            verify(original.folder, trust=original.trust, now=NOW, raw=mangled)


@pytest.mark.parametrize("depth", [100, 900, 960, 990, 5000])
def test_deep_nesting_is_refused_and_never_crashes(made: Certified, depth: int) -> None:
    deep = b"[" * depth + b"]" * depth
    payload = made.envelope.payload
    assert b'"eps":6.5,"eps_if' in payload
    nested = payload.replace(b'"eps":6.5,"eps_if', b'"eps":%s,"eps_if' % deep)
    refused(made, c.MalformedCertificate, "payload", raw=signed_anyway(made, nested))
    refused(made, c.MalformedCertificate, "envelope", raw=b'{"payload":%s,"payloadType":1}' % deep)
    with pytest.raises(ValueError, match=r"version must be int|nested"):
        Trust.parse(b'{"keys":{},"thresholds":{},"version":%s}' % deep)
    (made.folder / "release" / MANIFEST).write_bytes(b'{"files":[{"path":%s,"sha256":"","size":1}],"version":1}' % deep)
    refused(made, c.FilesDiffer, f"release/{MANIFEST}")


def test_no_bit_of_the_manifest_can_be_flipped(made: Certified) -> None:
    path = made.folder / "release" / MANIFEST
    raw = path.read_bytes()
    for place in range(0, len(raw), 31):
        flipped = bytearray(raw)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        refused(made, c.FilesDiffer, f"release/{MANIFEST}")


def test_no_bit_of_a_released_file_can_be_flipped(made: Certified) -> None:
    path = made.folder / "release/images/000003.png"
    raw = path.read_bytes()
    for place in range(len(raw)):
        flipped = bytearray(raw)
        flipped[place] ^= 1 << place % 8
        path.write_bytes(flipped)
        refused(made, c.FilesDiffer, "release/images/000003.png")


# --- the files ---


def test_two_files_swapped_are_named(made: Certified) -> None:
    one, two = (made.folder / f"release/images/00000{k}.png" for k in (1, 2))
    held = one.read_bytes()
    one.write_bytes(two.read_bytes())
    two.write_bytes(held)
    refused(made, c.FilesDiffer, "release/images/000001.png", "release/images/000002.png")


def _add(release: Path) -> None:
    (release / "images/extra.png").write_bytes(b"extra")


def _remove(release: Path) -> None:
    (release / "images/000001.png").unlink()


def _rename(release: Path) -> None:
    (release / "images/000001.png").rename(release / "images/000001.PNG")


def _link(release: Path) -> None:
    held = (release / "images/000001.png").read_bytes()
    (release / "images/000001.png").unlink()
    (release.parent / "elsewhere").write_bytes(held)
    (release / "images/000001.png").symlink_to(release.parent / "elsewhere")


def _link_manifest(release: Path) -> None:
    (release / MANIFEST).rename(release.parent / "elsewhere")
    (release / MANIFEST).symlink_to(release.parent / "elsewhere")


def _truncate_manifest(release: Path) -> None:
    raw = (release / MANIFEST).read_bytes()
    (release / MANIFEST).write_bytes(raw[: len(raw) // 2])


def _drop_from_manifest(release: Path) -> None:
    files = Manifest.of(release).files
    (release / files[0].path).unlink()
    (release / MANIFEST).write_bytes(Manifest(files=files[1:]).canonical)


@pytest.mark.parametrize(
    ("spoil", "kind", "differs"),
    [
        (_add, c.FilesDiffer, ("release/images/extra.png",)),
        (_remove, c.FilesDiffer, ("release/images/000001.png",)),
        (_rename, c.FilesDiffer, ("release/images/000001.png", "release/images/000001.PNG")),
        (_link, c.FilesDiffer, ("release/images/000001.png",)),
        (_link_manifest, c.FilesDiffer, (f"release/{MANIFEST}",)),
        (_truncate_manifest, c.FilesDiffer, (f"release/{MANIFEST}",)),
        (lambda r: (r / MANIFEST).unlink(), c.FilesDiffer, (f"release/{MANIFEST}",)),
        (shutil.rmtree, c.FilesDiffer, (f"release/{MANIFEST}",)),
        (_drop_from_manifest, c.WrongRelease, (f"release/{MANIFEST}",)),
        (lambda r: (r.parent / REPORT).write_text("<p>PASS"), c.FilesDiffer, (REPORT,)),
        (lambda r: (r.parent / REPORT).unlink(), c.FilesDiffer, (REPORT,)),
    ],
)
def test_a_spoiled_folder_is_refused_by_name(
    made: Certified, spoil: Callable[[Path], None], kind: type[InvalidCertificate], differs: tuple[str, ...]
) -> None:
    spoil(made.folder / "release")
    refused(made, kind, *differs)


def test_a_name_in_another_unicode_form_is_another_file(tmp_path: Path) -> None:
    composed, decomposed = (unicodedata.normalize(form, "é.png") for form in ("NFC", "NFD"))
    folder = tmp_path / "one"
    (folder / "release").mkdir(parents=True)
    (folder / "release" / composed).write_bytes(b"x")
    manifest = Manifest.of(folder / "release")
    (folder / "release" / composed).rename(folder / "release" / decomposed)
    assert manifest.compare(folder / "release").removed == (composed,)


def test_a_report_that_nobody_signed_is_refused(tmp_path: Path) -> None:
    made = certify(tmp_path, report=False)
    verify(made.folder, trust=made.trust, now=NOW)
    (made.folder / REPORT).write_text("<p>PASS")
    refused(made, c.FilesDiffer, REPORT)


def test_a_certificate_beside_another_release_says_so(made: Certified, tmp_path: Path) -> None:
    other = certify(tmp_path / "other", content="b")
    shutil.copy(made.folder / CERTIFICATE, other.folder / CERTIFICATE)
    refused(dataclasses.replace(other, trust=made.trust), c.WrongRelease, f"release/{MANIFEST}")


# --- the signatures ---


def test_an_unknown_key_that_signs_anew_is_refused(made: Certified) -> None:
    thief = dataclasses.replace(
        made, coordinator=SigningKey.create(), sites={name: SigningKey.create() for name in SITES}
    )
    thief.resign(c.parse(made.envelope.payload))
    refused(made, c.UnknownKey, "signatures")


def test_an_unknown_signature_beside_good_ones_is_refused(made: Certified) -> None:
    envelope = made.envelope
    stranger = seal(envelope.payload, SigningKey.create())
    (made.folder / CERTIFICATE).write_bytes(envelope.with_signature(stranger).canonical)
    refused(made, c.UnknownKey, "signatures")


@pytest.mark.parametrize(
    ("by", "passes"), [(SITES, True), (SITES[:2], True), (SITES[1:], True), (SITES[:1], False), ((), False)]
)
def test_k_of_the_sites_must_have_signed(made: Certified, by: tuple[str, ...], passes: bool) -> None:
    made.resign(c.parse(made.envelope.payload), by=by)
    if passes:
        assert verify(made.folder, trust=made.trust, now=NOW).absent == tuple(sorted(set(SITES) - set(by)))
    else:
        assert f"signed by {len(by)} of role site" in str(refused(made, c.TooFewSignatures, "signatures"))


def test_the_sites_cannot_do_without_the_coordinator(made: Certified) -> None:
    envelope = made.envelope
    kept = tuple(s for s in envelope.signatures if s.keyid != made.coordinator.key_id)
    (made.folder / CERTIFICATE).write_bytes(dataclasses.replace(envelope, signatures=kept).canonical)
    refused(made, c.TooFewSignatures, "signatures")


def test_one_site_signing_twice_does_not_count_twice(made: Certified) -> None:
    envelope = made.envelope
    (one,) = (s for s in envelope.signatures if s.keyid == made.sites["site-a"].key_id)
    coordinator = next(s for s in envelope.signatures if s.keyid == made.coordinator.key_id)
    raw = dataclasses.replace(envelope, signatures=(coordinator, one, one)).canonical
    refused(made, c.ForgedSignature, "signature of site-a", raw=raw)


def test_two_keys_of_one_site_do_not_count_as_two_sites(made: Certified) -> None:
    second = SigningKey.create()
    document = loads(made.trust.canonical)
    assert isinstance(document, dict)
    document["keys"][second.key_id] = {
        "name": "site-a", "role": "site", "public_key": base64.b64encode(second.public).decode()
    }  # fmt: skip
    made.resign(c.parse(made.envelope.payload), by=("site-a",))
    raw = made.envelope.with_signature(seal(made.envelope.payload, second)).canonical
    refused(made, c.ForgedSignature, "signature of site-a", raw=raw, trust=Trust.parse(dumps(document)))


def test_a_signature_of_another_payload_does_not_fit(made: Certified, tmp_path: Path) -> None:
    other = dataclasses.replace(made, folder=shutil.copytree(made.folder, tmp_path / "other"))
    other.resign(statement(EVIDENCE[:2], subject=c.parse(made.envelope.payload).subject))
    mixed = dataclasses.replace(other.envelope, signatures=made.envelope.signatures)
    refused(made, c.ForgedSignature, "payload", raw=mixed.canonical)


def test_a_signature_over_another_type_does_not_fit(made: Certified) -> None:
    envelope = made.envelope
    signatures = tuple(
        Signature.of(k.public, k.sign(pae(envelope.payload, "application/json")))
        for k in (made.coordinator, *made.sites.values())
    )
    refused(made, c.ForgedSignature, "payload", raw=dataclasses.replace(envelope, signatures=signatures).canonical)


def test_a_swapped_payload_type_is_refused(made: Certified) -> None:
    raw = made.envelope.canonical.replace(b"vnd.in-toto+json", b"vnd.in-toto+text")
    refused(made, c.MalformedCertificate, "payloadType", raw=raw)


def test_a_bare_payload_is_no_certificate(made: Certified) -> None:
    refused(made, c.MalformedCertificate, "envelope", raw=made.envelope.payload)


# --- what was signed, if the right people sign the wrong thing ---


def signed_anyway(made: Certified, payload: bytes) -> bytes:
    """Return an envelope around `payload` signed with the true keys, past every check of `certificate.sign`."""
    keys = (made.coordinator, *made.sites.values())
    return Envelope(payload=payload, signatures=tuple(seal(payload, key) for key in keys)).canonical


@pytest.mark.parametrize(
    ("old", "new", "kind", "differs"),
    [
        (b'"verdict":"PASS","version"', b'"verdict":"FAIL","version"', c.ContradictoryStatement, "payload"),
        (b'"eps":6.5,"eps_if', b'"eps":NaN,"eps_if', c.MalformedCertificate, "payload"),
        (b'"eps":6.5,"eps_if', b'"eps":1e999,"eps_if', c.MalformedCertificate, "payload"),
        (b'"eps":6.5,"eps_if', b'"eps":9,"eps":6.5,"eps_if', c.MalformedCertificate, "payload"),
        (b'"eps":6.5,"eps_if', b'"eps":"6.5","eps_if', c.MalformedCertificate, "payload"),
        (b'"adjacency":"add_remove",', b"", c.MalformedCertificate, "payload"),
        (b'"predicateType":"urn:pericard', b'"predicateType":"urn:other', c.MalformedCertificate, "payload"),
        (b"margin: 0.02", b"margin: 0.20", c.PolicyMismatch, "policy"),
        (b'"name":"release"', b'"name":"../../x"', c.MalformedCertificate, "payload"),
        (b'"name":"report.html"', b'"name":"../../../etc/passwd"', c.MalformedCertificate, "payload"),
        (b'"name":"report.html"', b'"name":"release"', c.MalformedCertificate, "payload"),
    ],
)
def test_even_the_true_keys_cannot_certify_nonsense(
    made: Certified, old: bytes, new: bytes, kind: type[InvalidCertificate], differs: str
) -> None:
    payload = made.envelope.payload
    assert old in payload
    refused(made, kind, differs, raw=signed_anyway(made, payload.replace(old, new)))


def test_nobody_is_asked_to_sign_a_contradiction(made: Certified) -> None:
    payload = made.envelope.payload
    with pytest.raises(c.ContradictoryStatement):
        c.sign(payload.replace(b'"verdict":"PASS","version"', b'"verdict":"FAIL","version"'), made.coordinator)
    with pytest.raises(c.MalformedCertificate):
        c.sign(b"anything", made.coordinator)


def test_another_policy_than_the_one_asked_for_is_refused(made: Certified) -> None:
    verify(made.folder, trust=made.trust, now=NOW, policy_digest=Policy.load("default").digest)
    refused(made, c.PolicyMismatch, "policy", policy_digest=Policy.load("pilot").digest)


def test_a_certificate_lives_from_its_issue_to_its_expiry(made: Certified) -> None:
    year = timedelta(days=365)
    verify(made.folder, trust=made.trust, now=NOW + year - timedelta(seconds=1))
    verify(made.folder, trust=made.trust, now=NOW - timedelta(minutes=4))
    refused(made, c.Expired, "expires", now=NOW + year)
    refused(made, c.NotYetValid, "issued", now=NOW - timedelta(minutes=6))


@pytest.mark.parametrize("name", ["", "..", "a/b", "release", CERTIFICATE, TRUST])
def test_only_files_beside_the_release_can_be_signed_as_documents(made: Certified, name: str) -> None:
    with pytest.raises(ValueError, match="cannot be signed"):
        c.subjects(Manifest.of(made.folder / "release"), {name: b""})


def test_a_statement_about_no_release_is_refused(made: Certified) -> None:
    made.resign(statement(subject=(Subject(name="x", digest={"sha256": "0"}),)))
    refused(made, c.MalformedCertificate, "payload")


def test_a_verifier_needs_no_array_library() -> None:
    heavy = ("torch", "numpy", "scipy", "pandas", "PIL", "monai", "matplotlib", "flwr", "opacus", "hydra", "omegaconf")
    look = f"import sys, evaluation.certificate, evaluation.provenance; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
