"""What a training will cost is known before anybody spends anything."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from pericard.cli import run
from pericard.errors import Exit
from tests.hospitals import hospital

BACKWARDS = ["plan", "--sampling-rate", "0.1", "--noise-multiplier", "4", "--steps", "200", "--delta", "1e-5"]
FORWARDS = ["plan", "--subjects", "400", "--epsilon", "8", "--rounds", "4"]


def told(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> dict[str, Any]:
    assert run([*arguments, "--json"]) == Exit.PASS
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


def test_noise_and_steps_give_epsilon(capsys: pytest.CaptureFixture[str]) -> None:
    known = ["plan", "--sampling-rate", "0.05", "--noise-multiplier", "1.5", "--steps", "2000", "--delta", "1e-5"]
    facts = told(known, capsys)
    assert facts["epsilon"] == pytest.approx(8.231, abs=6e-4)
    assert facts["epsilon_by"]["prv"] == pytest.approx(8.242, abs=6e-4)
    assert facts["epsilon_at_2_sites"] == pytest.approx(12.469, abs=6e-4)
    assert facts["epsilon_under_2_names"] == pytest.approx(19.69, abs=6e-3)
    assert facts["certainty_from_even_odds"] == pytest.approx(0.9997, abs=5e-5)


def test_noise_that_sites_share_protects_as_far_as_they_are_honest(capsys: pytest.CaptureFixture[str]) -> None:
    alone = ["plan", "--sampling-rate", "0.1", "--noise-multiplier", "4", "--steps", "2000", "--sites", "5"]
    assert told([*alone, "--honest", "1"], capsys)["epsilon_if_noise_is_shared"] == pytest.approx(14.8, abs=0.05)
    assert run([*alone, "--honest", "6"]) == Exit.USAGE
    assert "honest=6" in capsys.readouterr().err
    assert run(alone) == Exit.USAGE


def test_a_budget_gives_the_noise_that_keeps_it(capsys: pytest.CaptureFixture[str]) -> None:
    facts = told(FORWARDS, capsys)
    assert 7.9 < facts["epsilon"] <= 8
    assert facts["sampling_rate"] == 64 / 400
    assert facts["steps"] == 20
    assert facts["audit_ceiling"] > facts["epsilon"]


def test_what_cannot_be_said_is_null_and_no_number(capsys: pytest.CaptureFixture[str]) -> None:
    facts = told(["plan", "--sampling-rate", "0.1", "--noise-multiplier", "0", "--steps", "2"], capsys)
    assert facts["epsilon"] is None


def test_people_get_a_table_and_a_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    picture = tmp_path / "plan.png"
    assert run([*FORWARDS, "--picture", str(picture)]) == Exit.PASS
    said = capsys.readouterr().out
    for words in ("PLD (decides)", "under 2 names", "canaries"):
        assert words in said
    with Image.open(picture) as drawn:
        assert drawn.size[0] > 600


def test_a_plan_that_the_account_cannot_pay_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rich, poor = hospital(tmp_path / "rich"), hospital(tmp_path / "poor", epsilon_cap=0.1)
    assert run([*BACKWARDS, "--ledger", str(rich.folder)]) == Exit.PASS
    assert run([*BACKWARDS, "--ledger", str(poor.folder)]) == Exit.REFUSED
    assert "does not fit" in " ".join(capsys.readouterr().out.split())


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--subjects", "0", "--epsilon", "8", "--rounds", "3"], "subjects=0"),
        (["--subjects", "10", "--epsilon", "-1", "--rounds", "3"], "epsilon=-1.0"),
        (["--subjects", "10", "--epsilon", "1", "--rounds", "0"], "steps=0"),
        (["--subjects", "10"], "--epsilon and --rounds"),
        (["--sampling-rate", "2", "--noise-multiplier", "1", "--steps", "3"], "sampling_rate=2.0"),
        (["--sampling-rate", "1", "--noise-multiplier", "1", "--steps", "3", "--delta", "2"], "delta=2.0"),
        (["--sampling-rate", "nan", "--noise-multiplier", "1", "--steps", "3"], "sampling_rate=nan"),
    ],
)
def test_impossible_plans_are_named_in_one_line(
    arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["plan", *arguments]) == Exit.USAGE
    (line,) = [one for one in capsys.readouterr().err.splitlines() if one.startswith("pericard:")]
    assert words in line
