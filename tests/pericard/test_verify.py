import json
import os
import shutil
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from evaluation import certificate, revocation
from evaluation.certificate import CERTIFICATE, REPORT, TRUST
from evaluation.envelope import seal
from evaluation.policy import Lane
from evaluation.trust import SigningKey
from pericard.verify import Asked, verify
from synthesis.manifest import MANIFEST, Manifest
from tests.certified import EVIDENCE, Certified, certify, statement

NOTE = "this proves that nothing changed since signing, not who signed; pass --trust"


@pytest.fixture
def made(tmp_path: Path) -> Certified:
    return certify(tmp_path / "X", issued=datetime.now(UTC))


def said(capsys: pytest.CaptureFixture[str]) -> str:
    streams = capsys.readouterr()
    assert "Traceback" not in streams.out + streams.err
    return streams.out + streams.err


def flip(path: Path, place: int = -3) -> None:
    raw = bytearray(path.read_bytes())
    raw[place] ^= 1
    path.write_bytes(raw)


def test_an_untouched_folder_exits_0_and_shows_what_was_certified(
    made: Certified, capsys: pytest.CaptureFixture[str]
) -> None:
    assert verify(made.folder, Asked(trust=None), as_json=False) == 0
    text = said(capsys)
    for word in ("PASS", "FORMAL", "6.5 per patient", "consortium, site-a, site-b, site-c", "authentic and whole"):
        assert word in text
    assert NOTE in text


def test_with_keys_of_ones_own_the_note_is_gone(made: Certified, capsys: pytest.CaptureFixture[str]) -> None:
    trust = made.folder.parent / "keys.json"
    (made.folder / TRUST).rename(trust)
    assert verify(made.folder, Asked(trust=trust), as_json=False) == 0
    assert NOTE not in said(capsys)


def test_a_certificate_that_failed_is_still_authentic(made: Certified, capsys: pytest.CaptureFixture[str]) -> None:
    subject = certificate.parse(made.envelope.payload).subject
    made.resign(statement(EVIDENCE[1:], subject=subject, issued=datetime.now(UTC)))
    assert verify(made.folder, Asked(trust=None), as_json=False) == 0
    assert "INCONCLUSIVE" in said(capsys)


def test_the_empirical_lane_shows_no_epsilon_of_the_release(
    made: Certified, capsys: pytest.CaptureFixture[str]
) -> None:
    subject = certificate.parse(made.envelope.payload).subject
    made.resign(statement(subject=subject, lane=Lane.EMPIRICAL, issued=datetime.now(UTC)), by=("site-a", "site-c"))
    assert verify(made.folder, Asked(trust=None), as_json=False) == 0
    text = said(capsys)
    assert "none; the generator's is 6.5" in text
    assert "named, did not sign" in text


def test_machines_get_one_json_document(made: Certified, capsys: pytest.CaptureFixture[str]) -> None:
    (made.folder / "run.json").write_text("{}")
    assert verify(made.folder, Asked(trust=None), as_json=True) == 0
    streams = capsys.readouterr()
    document = json.loads(streams.out)
    assert (document["ok"], document["verdict"], document["epsilon"]) == (True, "PASS", 6.5)
    assert (document["files_checked"], document["unsigned"], document["trust"]) == (9, ["run.json"], "folder")
    flip(made.folder / REPORT)
    assert verify(made.folder, Asked(trust=None), as_json=True) == 6
    document = json.loads(capsys.readouterr().out)
    assert (document["ok"], document["kind"], document["differs"]) == (False, "FilesDiffer", [REPORT])


def _payload(made: Certified) -> None:
    raw = (made.folder / CERTIFICATE).read_bytes()
    start = raw.index(b'"payload":"') + 800
    (made.folder / CERTIFICATE).write_bytes(raw[:start] + bytes([raw[start] ^ 1]) + raw[start + 1 :])


def _signature(made: Certified) -> None:
    raw = (made.folder / CERTIFICATE).read_bytes()
    start = raw.index(b'"sig":"', raw.index(made.sites["site-b"].key_id.encode())) + 20
    other = b"A" if raw[start : start + 1] != b"A" else b"B"
    (made.folder / CERTIFICATE).write_bytes(raw[:start] + other + raw[start + 1 :])


def _resign(made: Certified) -> None:
    thief = SigningKey.create()
    payload = made.envelope.payload
    envelope = certificate.issue(certificate.parse(payload), thief).with_signature(seal(payload, made.coordinator))
    (made.folder / CERTIFICATE).write_bytes(envelope.canonical)


def _link(made: Certified) -> None:
    (made.folder / "release/images/000002.png").unlink()
    (made.folder / "release/images/000002.png").symlink_to("/dev/zero")


@pytest.mark.parametrize(
    ("spoil", "named"),
    [
        (lambda m: flip(m.folder / "release/images/000004.png"), "release/images/000004.png"),
        (lambda m: flip(m.folder / "release/labels.csv"), "release/labels.csv"),
        (lambda m: flip(m.folder / "release" / MANIFEST, 40), f"release/{MANIFEST}"),
        (lambda m: (m.folder / "release/new.png").write_bytes(b""), "release/new.png"),
        (lambda m: (m.folder / "release/images/000000.png").unlink(), "release/images/000000.png"),
        (lambda m: flip(m.folder / REPORT), REPORT),
        (lambda m: flip(m.folder / TRUST, 120), TRUST),
        (lambda m: (m.folder / CERTIFICATE).write_bytes(b"{}"), "envelope"),
        (_payload, "payload"),
        (_signature, "signature of site-b"),
        (_resign, "signatures"),
        (_link, "release/images/000002.png"),
    ],
)
def test_whatever_changed_exits_6_and_is_named(
    made: Certified,
    capsys: pytest.CaptureFixture[str],
    spoil,
    named: str,  # type: ignore[no-untyped-def]
) -> None:
    spoil(made)
    assert verify(made.folder, Asked(trust=None), as_json=False) == 6
    assert f"differs: {named}\n" in said(capsys)


def test_an_expired_certificate_exits_6(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = certify(tmp_path / "X", issued=datetime.now(UTC) - timedelta(days=400))
    assert verify(made.folder, Asked(trust=None), as_json=False) == 6
    assert "expired" in said(capsys)


@pytest.mark.parametrize("gone", [".", CERTIFICATE, TRUST])
def test_what_cannot_be_read_exits_5(made: Certified, capsys: pytest.CaptureFixture[str], gone: str) -> None:
    if gone == ".":
        shutil.rmtree(made.folder)
    else:
        (made.folder / gone).unlink()
    assert verify(made.folder, Asked(trust=None), as_json=False) == 5
    text = said(capsys)
    assert "No such file or directory" in text
    assert (gone if gone != "." else made.folder.name) in text


def test_a_file_in_place_of_the_folder_exits_5(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "X").write_text("")
    assert verify(tmp_path / "X", Asked(trust=None), as_json=False) == 5
    assert "Not a directory" in said(capsys)


def test_a_file_without_permission_exits_5_and_is_named(
    made: Certified, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    opens = os.open

    def guarded(path: str | Path, *rest: int) -> int:
        if Path(path).name == "labels.csv":  # the superuser, who may run this test, could read it
            raise PermissionError(13, "Permission denied", str(path))
        return opens(path, *rest)

    monkeypatch.setattr(os, "open", guarded)
    assert verify(made.folder, Asked(trust=None), as_json=False) == 5
    assert "release/labels.csv: Permission denied" in said(capsys)


def test_a_trust_file_elsewhere_that_is_none_exits_6(made: Certified, capsys: pytest.CaptureFixture[str]) -> None:
    own = made.folder.parent / "keys.json"
    own.write_text('{"keys":{},"keys":{}}')
    assert verify(made.folder, Asked(trust=own), as_json=False) == 6
    assert "keys.json is no trust file" in said(capsys)


def test_a_files_name_cannot_steer_the_terminal(made: Certified, capsys: pytest.CaptureFixture[str]) -> None:
    (made.folder / "release" / "\x1b[2J\u202egnp.png").write_bytes(b"")
    (made.folder / os.fsdecode(b"release/\xff.png")).write_bytes(b"")
    assert verify(made.folder, Asked(trust=None), as_json=False) == 6
    text = said(capsys)
    assert not {"\x1b", "\u202e", "\udcff"} & set(text)
    assert r"\x1b[2J\u202egnp.png" in text
    assert r"\udcff.png" in text


def test_many_differences_are_counted_not_poured_out(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = certify(tmp_path / "X", n_files=60, issued=datetime.now(UTC))
    shutil.rmtree(made.folder / "release/images")
    assert verify(made.folder, Asked(trust=None), as_json=False) == 6
    text = said(capsys)
    assert "60 removed" in text
    assert "and 40 more" in text


def test_a_release_of_thousands_of_files_is_checked_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = certify(tmp_path / "X", n_files=2000, issued=datetime.now(UTC))
    assert verify(made.folder, Asked(trust=None), as_json=True) == 0
    assert json.loads(capsys.readouterr().out)["files_checked"] == 2003
    assert len(Manifest.of(made.folder / "release").files) == 2001


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_the_command_loads_no_array_library_and_survives_a_poor_terminal(made: Certified, encoding: str) -> None:
    heavy = ("torch", "numpy", "scipy", "pandas", "PIL", "monai", "matplotlib", "flwr", "opacus", "hydra", "omegaconf")
    program = (
        "import sys; from pathlib import Path; from pericard.verify import Asked, verify;"
        f"code = verify(Path({str(made.folder)!r}), Asked(), as_json=False);"
        f"print([m for m in {heavy} if m in sys.modules], code)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"},
        check=False,
    )
    assert done.stdout.decode().rstrip().endswith("[] 0"), done.stderr.decode()


def test_the_whole_command_loads_no_heavy_library_even_with_a_list_and_an_older_certificate(made: Certified) -> None:
    """What a reader without torch installs is enough: the command line, signatures, YAML, and a table for people."""
    verified = certificate.verify(made.folder, trust=made.trust, now=datetime.now(UTC))
    newer = statement(subject=verified.statement.subject, issued=datetime.now(UTC), supersedes=verified.digest)
    older, listed = made.folder.parent / "older.json", made.folder.parent / "list.json"
    older.write_bytes((made.folder / CERTIFICATE).read_bytes())
    made.resign(newer)
    listed.write_bytes(revocation.sealed(revocation.updated(None, now=datetime.now(UTC)), made.coordinator).canonical)
    heavy = ("torch", "numpy", "scipy", "pandas", "PIL", "monai", "matplotlib", "flwr", "opacus", "hydra", "omegaconf",
             "sklearn", "jinja2", "cohorts", "privacy", "learning", "server", "client", "asyncio")  # fmt: skip
    program = (
        "import sys; from pericard.cli import run;"
        f"code = run(['verify', {str(made.folder)!r}, '--revocations', {str(listed)!r},"
        f" '--supersedes', {str(older)!r}]);"
        f"print([m for m in {heavy} if m in sys.modules], code)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False, text=True)
    assert done.stdout.rstrip().endswith("[] 0"), done.stdout + done.stderr
    assert "status unknown since" in done.stdout
