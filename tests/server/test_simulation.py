import os
import socket
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from evaluation.orphans import marked
from evaluation.provenance import PACKAGES, code_root, digest_of
from evaluation.reviewed import OFFLINE, write_bundle
from server.simulation import _environment, run_simulation
from server.superlink import MARK, PORTS, SimulationFailed, SuperLink, _end, free_ports, superlink
from tests.hospitals import campaign

ROOT = Path(__file__).parents[2]


def test_the_bundle_holds_the_digested_code_and_nothing_else(tmp_path: Path) -> None:
    write_bundle(tmp_path / "app")
    assert digest_of(tmp_path / "app") == digest_of.__wrapped__(code_root())  # not the cached one of an older file
    held = {path.relative_to(tmp_path / "app").parts[0] for path in (tmp_path / "app").rglob("*") if path.is_file()}
    assert held == {*PACKAGES, "pyproject.toml"}
    flower = tomllib.loads((tmp_path / "app" / "pyproject.toml").read_text())["tool"]["flwr"]["app"]
    own = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["flwr"]["app"]
    assert flower["components"] == own["components"]
    assert flower["config"] == own["config"]


def test_nothing_of_the_callers_flower_reaches_the_simulation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {"FLWR_HOME": "/elsewhere", "FLWR_TELEMETRY_ENABLED": "1", "PYTHONPATH": "/foreign"}.items():
        monkeypatch.setenv(name, value)
    env = _environment(tmp_path, tmp_path / "sites", 2)
    assert OFFLINE.items() <= env.items()
    assert env["FLWR_HOME"] == str(tmp_path / "home")
    assert "PYTHONPATH" not in env
    assert env["PERICARD_SITES"] == str((tmp_path / "sites").resolve())
    assert Path(env["PERICARD_PRIORS"]).is_absolute()
    assert env["PATH"].startswith(str(Path(sys.executable).parent))


def test_a_relative_folder_of_outputs_is_refused() -> None:
    with pytest.raises(ValueError, match="must be absolute"):
        run_simulation(campaign(Path("out")), Path("sites"))


def test_a_superlink_that_does_not_start_says_why_and_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    fake = tmp_path / "bin" / "flower-superlink"
    fake.write_text("#!/bin/sh\necho the port is taken\nexit 3\n")
    fake.chmod(0o755)
    with (
        pytest.raises(SimulationFailed, match="the port is taken"),
        superlink(tmp_path, {"PATH": f"{tmp_path / 'bin'}{os.pathsep}{os.environ['PATH']}"}),
    ):
        pytest.fail("it did start")


@pytest.mark.skipif(not Path("/proc").is_dir(), reason="other systems have no /proc; there the process group must do")
def test_a_child_that_left_the_process_group_is_ended_by_its_mark() -> None:
    mark = "0123456789abcdef"
    script = "import subprocess, sys; subprocess.run(['sleep', '60'], start_new_session=True)"
    process = subprocess.Popen([sys.executable, "-c", script], env={**os.environ, MARK: mark}, start_new_session=True)
    while len(marked(MARK, mark)) < 2:
        assert process.poll() is None
    _end(process, mark)
    assert marked(MARK, mark) == []


def test_words_of_the_command_line_are_passed_on_when_it_fails(tmp_path: Path) -> None:
    (tmp_path / "flwr").write_text("#!/bin/sh\necho no such connection >&2\nexit 1\n")
    (tmp_path / "flwr").chmod(0o755)
    link = SuperLink(root=tmp_path, env={"PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"})
    with pytest.raises(SimulationFailed, match="no such connection"):
        link.flwr("ls")


def test_a_port_is_told_once_and_is_none_that_linux_gives_away_unasked() -> None:
    told = free_ports(5) + free_ports(5)
    assert len(set(told)) == 10
    assert set(told) < set(PORTS)
    assert PORTS[-1] < 32768


def test_a_port_that_somebody_listens_at_is_passed_over() -> None:
    (before,) = free_ports(1)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", before + 1))
        assert before + 1 not in free_ports(3)


def test_where_no_port_is_free_it_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    (port,) = free_ports(1)
    monkeypatch.setattr("server.superlink._ports", lambda _: iter([port]))
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", port))
        with pytest.raises(OSError, match="0 of 1 ports are free"):
            free_ports(1)
