import json
from datetime import UTC, datetime
from pathlib import Path

import pytest

from evaluation.certificate import CERTIFICATE, TRUST
from pericard.cli import run
from tests.certified import Certified, certify


@pytest.fixture
def made(tmp_path: Path) -> Certified:
    made = certify(tmp_path / "X", issued=datetime.now(UTC))
    made.coordinator.write(tmp_path / "key.pem")
    return made


def revoke(made: Certified, command: str, *more: str) -> int:
    beside = made.folder.parent
    named = [] if command == "renew" else [str(made.folder)]
    return run(["revoke", command, *named, "--list", str(beside / "list"), "--key", str(beside / "key.pem"), *more])


def checked(made: Certified, capsys: pytest.CaptureFixture[str], *more: str) -> tuple[int, dict[str, object]]:
    capsys.readouterr()
    code = run(["verify", str(made.folder), "--json", *more])
    return code, json.loads(capsys.readouterr().out)


def test_a_certificate_is_entered_withdrawn_and_then_refused(
    made: Certified, capsys: pytest.CaptureFixture[str]
) -> None:
    listed = str(made.folder.parent / "list")
    assert checked(made, capsys)[1]["status"]["known"] is False
    assert revoke(made, "enter") == 0
    (made.folder.parent / "kept").write_bytes(Path(listed).read_bytes())
    code, found = checked(made, capsys, "--revocations", listed)
    assert (code, found["status"]["known"]) == (0, True)
    assert revoke(made, "withdraw", "--reason", "new_attack", "--says", "an attack of next year finds members") == 0
    code, found = checked(made, capsys, "--revocations", listed, "--kept", str(made.folder.parent / "kept"))
    assert (code, found["kind"], found["differs"]) == (6, "Withdrawn", ["status"])
    assert "an attack of next year" in str(found["reason"])
    older = checked(made, capsys, "--revocations", str(made.folder.parent / "kept"), "--kept", listed)
    assert (older[0], older[1]["kind"]) == (6, "BrokenChain")


def test_a_release_whose_files_are_spoiled_can_still_be_withdrawn(made: Certified) -> None:
    (made.folder / "release/labels.csv").write_text("x")
    assert revoke(made, "enter") == 6
    assert revoke(made, "withdraw", "--reason", "wrong_data", "--says", "labels were wrong") == 0


def test_a_list_is_made_fresh_and_signed_by_a_site(made: Certified, capsys: pytest.CaptureFixture[str]) -> None:
    beside, trust = made.folder.parent, str(made.folder / TRUST)
    assert revoke(made, "renew", "--trust", trust) == 2
    assert revoke(made, "enter") == 0
    capsys.readouterr()
    assert revoke(made, "renew", "--trust", trust, "--days", "7") == 0
    assert json.loads(capsys.readouterr().out)["number"] == 2
    made.sites["site-a"].write(beside / "site.pem")
    sign = ["revoke", "sign", "--list", str(beside / "list"), "--key", str(beside / "site.pem")]
    assert run(sign) == 0
    assert run(sign) == 2
    assert checked(made, capsys, "--revocations", str(beside / "list"))[0] == 0


@pytest.mark.parametrize("twice", [("enter",), ("withdraw", "--reason", "key_lost", "--says", "x")])
def test_nothing_is_done_twice(made: Certified, twice: tuple[str, ...]) -> None:
    assert revoke(made, *twice) == 0
    assert revoke(made, *twice) == 2


def test_mistakes_are_said_in_a_line(made: Certified, capsys: pytest.CaptureFixture[str]) -> None:
    assert revoke(made, "withdraw", "--reason", "mood", "--says", "x") == 2
    assert "new_attack" in capsys.readouterr().err
    (made.folder.parent / "key.pem").unlink()
    certify(made.folder.parent / "other").coordinator.write(made.folder.parent / "key.pem")
    assert revoke(made, "enter") == 2
    assert "nobody would accept the list" in capsys.readouterr().err


def test_the_chain_of_certificates_is_checked_where_the_older_one_is_given(
    made: Certified, capsys: pytest.CaptureFixture[str]
) -> None:
    code, found = checked(made, capsys, "--supersedes", str(made.folder / CERTIFICATE))
    assert (code, found["kind"], found["differs"]) == (6, "BrokenChain", ["older certificate"])
