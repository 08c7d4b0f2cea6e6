"""What a killed process left running is ended by the next one, and only then."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from evaluation.orphans import InUse, alone


@pytest.fixture
def orphan(tmp_path: Path) -> Iterator["subprocess.Popen[bytes]"]:
    process = subprocess.Popen(["sleep", "300"], env={**os.environ, "FLWR_HOME": str(tmp_path / "home")})
    yield process
    process.kill()
    process.wait()


def test_what_works_in_the_same_home_is_ended(tmp_path: Path, orphan: "subprocess.Popen[bytes]") -> None:
    with alone(tmp_path, tmp_path / "home"):
        assert orphan.wait(60) == -signal.SIGKILL


def test_what_works_in_another_home_is_left_alone(tmp_path: Path, orphan: "subprocess.Popen[bytes]") -> None:
    with alone(tmp_path, tmp_path / "home2"):
        assert orphan.poll() is None


def test_who_comes_second_is_told_and_ends_nothing(tmp_path: Path, orphan: "subprocess.Popen[bytes]") -> None:
    with alone(tmp_path, tmp_path / "other"):
        with pytest.raises(InUse, match=str(tmp_path)), alone(tmp_path, tmp_path / "home"):
            pass
        assert orphan.poll() is None


def test_a_killed_process_holds_nothing(tmp_path: Path) -> None:
    words = (
        "import os, signal; from pathlib import Path; from evaluation.orphans import InUse, alone\n"
        f"with alone(Path({str(tmp_path)!r}), Path({str(tmp_path / 'home')!r})): os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", words], check=False).returncode == -signal.SIGKILL
    with alone(tmp_path, tmp_path / "home"):
        pass
