"""Campaigns that are killed, cut off and filled up: they end, and nobody is charged too much or too little."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.faults import schedule

SCHEDULES = 4


def test_a_schedule_is_the_same_for_the_same_seed() -> None:
    assert schedule(7) == schedule(7) != schedule(8)


@pytest.mark.slow
def test_disturbed_campaigns_end_and_their_accounts_are_right(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tests.chaos", "0", str(SCHEDULES - 1), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = [json.loads(line) for line in done.stdout.splitlines()]
    assert [trial["wrong"] for trial in found] == [[]] * SCHEDULES
    assert {trial["attempts"][-1].partition(":")[0] for trial in found} <= {"finished", "refused"}
    assert any(trial["faults"] for trial in found)
