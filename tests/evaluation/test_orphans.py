"""What a killed process left running is ended by the next one, and only then."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from evaluation.orphans import InUse, alone, newest_alone


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


def test_of_several_that_began_for_one_task_the_last_is_left(tmp_path: Path) -> None:
    program = tmp_path / "flwr-serverapp"
    program.symlink_to(shutil.which("sleep") or "")
    told = {**os.environ, "FLWR_HOME": str(tmp_path / "home")}
    elsewhere = {**told, "FLWR_HOME": str(tmp_path / "home2")}
    started = [
        subprocess.Popen(words, env=env)
        for words, env in (
            ([program, "300"], elsewhere), (["sleep", "300"], told), ([program, "301"], told), ([program, "302"], told),
        )
        if time.sleep(0.05) is None  # a tick of the kernel between any two
    ]  # fmt: skip
    try:
        newest_alone(tmp_path / "home", "flwr-serverapp")
        assert started[2].wait(60) == -signal.SIGKILL
        assert [process.poll() for at, process in enumerate(started) if at != 2] == [None] * 3
    finally:
        for process in started:
            process.kill()
            process.wait()
