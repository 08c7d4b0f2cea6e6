"""`pericard site ledger` and `site head`: what a hospital sees of its account, and does to it."""

import base64
import json
from pathlib import Path
from typing import Any

import pytest
import yaml

from client.site import Site
from evaluation.trust import SigningKey
from pericard.cli import run
from pericard.errors import Exit
from privacy.ledger import BudgetExceeded
from privacy.mechanism import LaplacePlan
from tests.accounts import TRAINING, copy, edit, restore
from tests.hospitals import hospital


def _count(amount: float) -> list[LaplacePlan]:
    return [LaplacePlan(purpose="disclosure.members", epsilon=amount)]


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Return a hospital with a cap of 8, one run closed, one open, and one refused."""
    site = hospital(tmp_path, epsilon_cap=8.0)
    site.ledger.authorise("first", _count(1.0), delta=1e-6)
    site.ledger.commit("first")
    site.ledger.authorise("second", [TRAINING], delta=1e-6)
    site.ledger.intend("second", "train", "round 1", 50)
    with pytest.raises(BudgetExceeded):
        site.ledger.authorise("third", _count(7.0), delta=1e-6)
    return site


def _json(capsys: pytest.CaptureFixture[str], site: Site, *options: str, code: Exit = Exit.PASS) -> dict[str, Any]:
    assert run(["site", "ledger", str(site.folder), "--json", *options]) == code
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_it_says_what_is_spent_reserved_and_left(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    shown = _json(capsys, site)
    lifetime = shown["caps"][0]
    assert (lifetime["name"], lifetime["governance"], lifetime["most"]) == ("lifetime", False, 8.0)
    assert lifetime["spent"] == pytest.approx(1.0, abs=1e-3)
    assert lifetime["left"] == pytest.approx(8.0 - lifetime["spent"] - lifetime["reserved"])
    assert shown["epsilon"] == pytest.approx(lifetime["spent"] + lifetime["reserved"])
    first, second = shown["runs"]
    assert (first["ended"], first["steps"], first["of"]) == ("commit", 0, 1)
    assert (second["ended"], second["steps"], second["of"]) == (None, 50, 200)
    assert shown["head"]["head"] == site.ledger.head()


def test_people_get_tables(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["site", "ledger", str(site.folder), "--events", "9", "--verify"]) == Exit.PASS
    shown = " ".join(capsys.readouterr().out.split())
    for words in ("Account of aurora: basic composition", "lifetime", "second", "50 of 200", "step_intent",
                  "Verified: journal, witness and file, too", "Last refusal"):  # fmt: skip
        assert words in shown


def test_it_explains_the_last_refusal(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    refusal = _json(capsys, site)["last_refusal"]
    assert refusal["run"] == "third"
    assert "of the lifetime cap 8.0" in refusal["reason"]


def test_it_plans_what_would_still_fit(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    left = _json(capsys, site)["caps"][0]["left"]
    fits = _json(capsys, site, "--would-fit", "0.5")["fits"]
    assert (fits["times"], fits["first_reached"]) == (int(left / 0.5), "lifetime")
    assert "of the lifetime cap" in _json(capsys, site, "--would-fit", "9", code=Exit.REFUSED)["fits"]["why_not"]
    plan = ("--sampling-rate", "0.1", "--noise-multiplier", "4", "--steps", "200")
    steps = _json(capsys, site, *plan)["fits"]
    assert steps["epsilon"] == pytest.approx(_json(capsys, site)["runs"][1]["epsilon"])
    assert steps["times"] == int(left / steps["epsilon"])
    before = len(site.ledger.events())
    assert run(["site", "ledger", str(site.folder), "--would-fit", "9"]) == Exit.REFUSED
    assert "does not fit" in capsys.readouterr().out
    assert len(site.ledger.events()) == before  # a question is no request


@pytest.mark.parametrize(
    "options",
    [
        ["--would-fit", "1", "--steps", "5"],
        ["--steps", "5"],
        ["--would-fit", "1", "--purpose", "fun"],
        ["--sampling-rate", "2", "--noise-multiplier", "1", "--steps", "1"],
    ],
    ids=" ".join,
)
def test_half_a_question_is_a_mistake(site: Site, options: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["site", "ledger", str(site.folder), *options]) == Exit.USAGE
    assert capsys.readouterr().err.count("\n") == 1


def test_a_hospital_that_was_never_charged_sees_its_caps_and_gets_no_account(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    site = hospital(tmp_path)
    shown = _json(capsys, site, "--would-fit", "1")
    assert (shown["caps"][0]["left"], shown["head"], shown["fits"]["times"]) == (20.0, None, 20)
    assert run(["site", "ledger", str(site.folder), "--recover", "x"]) == Exit.USAGE
    assert not (site.folder / "ledger.db").exists()


def test_a_corrupt_account_ends_with_6_and_names_the_event(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    edit(site.ledger, "UPDATE events SET body = replace(body, 'second', 'fourth') WHERE seq = 4")
    assert run(["site", "ledger", str(site.folder)]) == Exit.INTEGRITY
    shown = capsys.readouterr().err
    assert "event 4 was edited" in shown
    assert shown.count("\n") == 1


def test_an_account_that_was_put_back_ends_with_6(
    site: Site, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    backup = copy(site.ledger, tmp_path / "backup")
    for name in ("four", "five"):
        site.ledger.authorise(name, _count(0.1), delta=1e-6)
    restore(site.ledger, backup, ".db")
    assert run(["site", "ledger", str(site.folder), "--verify"]) == Exit.INTEGRITY
    assert "older copy was put back" in capsys.readouterr().err


def test_a_dead_run_is_recovered_when_somebody_says_so(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["site", "ledger", str(site.folder), "--recover", "second"]) == Exit.PASS
    assert "the whole reserve" in capsys.readouterr().out
    assert _json(capsys, site)["runs"][1]["ended"] == "recover"
    assert run(["site", "ledger", str(site.folder), "--abort", "second"]) == Exit.REFUSED
    assert "closed by recover" in capsys.readouterr().err


def test_a_lost_database_is_made_again_when_somebody_says_so(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    (site.folder / "ledger.db").unlink()
    assert run(["site", "ledger", str(site.folder)]) == Exit.INTEGRITY
    assert "ledger.db is gone" in capsys.readouterr().err
    assert run(["site", "ledger", str(site.folder), "--rebuild"]) == Exit.PASS
    capsys.readouterr()
    assert [entry["doubt"] for entry in _json(capsys, site)["runs"]] == [False, True]


def test_an_account_is_closed_by_the_name_of_its_site_only(site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["site", "ledger", str(site.folder), "--close", "borealis"]) == Exit.USAGE
    assert run(["site", "ledger", str(site.folder), "--close", "aurora"]) == Exit.PASS
    capsys.readouterr()
    assert _json(capsys, site, "--would-fit", "0.1", code=Exit.REFUSED)["closed"]


def _settings(site: Site, **changes: Any) -> Site:
    path = site.folder / "site.yaml"
    document = yaml.safe_load(path.read_text())
    for name, value in changes.items():
        place = document["policy"] if name in document["policy"] else document["policy"]["account"]
        place[name] = value
    path.write_text(yaml.safe_dump(document))
    return Site(site.folder)


def test_caps_of_the_site_file_hold_when_adopted_and_are_raised_by_two_keys_only(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    officer = SigningKey.create()
    officer.write(tmp_path / "officer.pem")
    site = _settings(hospital(tmp_path, epsilon_cap=8.0), officer=base64.b64encode(officer.public).decode())
    site.ledger.authorise("first", _count(1.0), delta=1e-6)
    site = _settings(site, epsilon_cap=2.0)
    assert _json(capsys, site)["site_yaml_differs"] == ["epsilon_cap"]
    with pytest.raises(ValueError, match="revised to epsilon_cap=8"):
        _ = site.ledger
    adopt = ["site", "ledger", str(site.folder), "--adopt"]
    assert run(adopt) == Exit.PASS
    assert site.ledger.rooms()[0].most == 2  # tighter: at once
    site = _settings(site, epsilon_cap=4.0)
    assert run(adopt) == Exit.REFUSED
    assert "second key" in capsys.readouterr().err
    assert run([*adopt, "--officer-key", str(tmp_path / "officer.pem")]) == Exit.PASS
    assert site.ledger.rooms()[0].most == 4


def test_heads_travel_between_sites_and_a_rolled_back_one_is_found_out(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    ours = _settings(hospital(tmp_path), witness="../witness/heads.json")
    partner = hospital(tmp_path, "borealis")
    ours.ledger.authorise("first", _count(1.0), delta=1e-6)
    backup = copy(ours.ledger, tmp_path / "backup")
    ours.ledger.authorise("second", _count(1.0), delta=1e-6)

    def head(site: Site, *options: str) -> str:
        assert run(["site", "head", str(site.folder), *options]) == Exit.PASS
        return capsys.readouterr().out

    (tmp_path / "head.json").write_text(head(ours))
    (tmp_path / "signed.json").write_text(head(partner, "--sign", str(tmp_path / "head.json")))
    head(ours, "--record", str(tmp_path / "signed.json"))
    assert [e["kind"] for e in ours.ledger.events()] == ["open", "reserve", "reserve", "cosign"]
    assert run(["site", "ledger", str(ours.folder), "--verify"]) == Exit.PASS
    restore(ours.ledger, backup, ".db", ".jsonl")
    assert run(["site", "ledger", str(ours.folder)]) == Exit.PASS  # a whole account, by itself
    assert run(["site", "ledger", str(ours.folder), "--verify"]) == Exit.INTEGRITY
    assert run(["site", "head", str(ours.folder), "--record", str(tmp_path / "signed.json")]) == Exit.INTEGRITY
    capsys.readouterr()
    assert run(["site", "head", str(ours.folder), "--record", str(tmp_path / "head.json")]) == Exit.USAGE


def test_a_folder_that_is_no_site_is_a_mistake(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for folder in (tmp_path, tmp_path / "nowhere"):
        assert run(["site", "ledger", str(folder)]) == Exit.USAGE
        assert capsys.readouterr().err.count("\n") == 1
