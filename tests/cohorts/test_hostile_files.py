"""Damaged and hostile files of every layout: no crash, no hang, no flood of memory, always a refusal by name."""

import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from cohorts.readers import READERS
from tests.hostile import SECONDS_MAX

ROOT = Path(__file__).parents[2]
LAYOUTS = [name for name in READERS if hasattr(READERS[name], "index")]
ALL = 10_500  # cases over all layouts
MEMORY_MIB = 1024


def outcomes(reader, seed, count, folder):
    """Run cases in a process of their own and return what came of each."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.hostile", reader, str(seed), str(count), str(folder)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
        timeout=550,
    )
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    told, came = lines[::2], lines[1::2]
    assert done.returncode == 0, (
        f"died with {done.returncode} at {told[-1] if told else 'the start'}: {done.stderr[-2000:]}"
    )
    assert len(came) == count
    bugs = [(case, end["came"]) for case, end in zip(told, came, strict=True) if end["came"] not in ("read", "refused")]
    assert not bugs, f"{len(bugs)} cases: {bugs[0]}"
    return came


@pytest.mark.parametrize("reader", LAYOUTS)
def test_a_damaged_file_is_read_or_refused_by_name(reader, tmp_path):
    came = Counter(end["came"] for end in outcomes(reader, 1, 60, tmp_path))
    assert came["refused"] > 10


@pytest.mark.slow
@pytest.mark.parametrize("reader", LAYOUTS)
def test_thousands_of_damaged_files_neither_crash_nor_hang_nor_fill_the_memory(reader, tmp_path):
    came = outcomes(reader, 2, -(-ALL // len(LAYOUTS)), tmp_path)
    assert max(end["seconds"] for end in came) < SECONDS_MAX
    assert max(end["MiB"] for end in came) < MEMORY_MIB
