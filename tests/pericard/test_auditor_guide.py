"""The example of docs/auditor.md, run as it is written."""

import re
import shlex
from pathlib import Path

import pytest

from pericard.cli import run
from pericard.errors import Exit

GUIDE = (Path(__file__).parents[2] / "docs" / "auditor.md").read_text(encoding="utf-8")
COMMANDS = [
    shlex.split(line)[1:] for block in re.findall(r"```sh\n(.*?)```", GUIDE, re.DOTALL) for line in block.splitlines()
]
ENDS = [
    {Exit.PASS},
    {Exit.INCONCLUSIVE},
    {Exit.PASS, Exit.INCONCLUSIVE},
    {Exit.PASS},
    {Exit.FAIL},
    {Exit.PASS},
]


@pytest.mark.slow
def test_the_example_of_the_guide_ends_as_the_guide_says(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for command, ends in zip(COMMANDS, ENDS, strict=True):
        assert run(command) in ends, command


def test_every_option_that_the_guide_names_exists(capsys):
    assert run(["audit", "--help"]) == Exit.PASS
    known = re.sub(r"\s", "", capsys.readouterr().out)
    named = set(re.findall(r"`(--[a-z-]+)", GUIDE)) - {"--release", "--people", "--copies"}
    assert {option for option in named if option not in known} == set()
