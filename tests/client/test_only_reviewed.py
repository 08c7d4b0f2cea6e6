"""A hospital runs the bundle that its people reviewed, wherever another one would have had itself unpacked."""

import hashlib
import io
import signal
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from client import only_reviewed
from client.only_reviewed import APP, BUNDLE, VERSION, NotReviewed, guarded, is_reviewed

REVIEWED = b"what somebody read"
DIGEST = hashlib.sha256(REVIEWED).hexdigest()


@pytest.fixture(autouse=True)
def site(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(BUNDLE, DIGEST)
    monkeypatch.setenv(VERSION, "0.1.0")


def bundle(version: str) -> bytes:
    """Return a bundle of Flower's with a program of one line."""
    head = f'[project]\nname = "pericard"\nversion = "{version}"\n[tool.flwr.app]\npublisher = "pericard"\n'
    parts = '[tool.flwr.app.components]\nserverapp = "evil:app"\nclientapp = "evil:app"\n'
    files = {"pyproject.toml": head + parts, "evil.py": "app = print('run')\n"}
    listed = [f"{name},{hashlib.sha256(text.encode()).hexdigest()},{8 * len(text)}" for name, text in files.items()]
    raw = io.BytesIO()
    with zipfile.ZipFile(raw, "w") as archive:
        for name, text in {**files, ".info/CONTENT": "\n".join(listed)}.items():
            archive.writestr(name, text)
    return raw.getvalue()


def answered(content: bytes, *, named: str = DIGEST, app: str = APP, version: str = "0.1.0") -> Any:
    """Let a coordinator send this, and the installer obey."""
    told = (
        "message", "context", SimpleNamespace(fab_id=app, fab_version=version),
        SimpleNamespace(content=content, hash_str=named),
    )  # fmt: skip
    pulled, install = guarded(lambda client: told)
    assert pulled(None) is not None
    return install(content, skip_prompt=True)


def test_the_reviewed_bundle_is_run() -> None:
    assert answered(REVIEWED) is None


@pytest.mark.parametrize(
    "lie",
    [
        {"content": REVIEWED + b" and a line more"},
        {"content": b"", "named": hashlib.sha256(b"").hexdigest()},
        {"named": "0" * 64},
        {"version": "0.2.0"},
        {"version": "0.1.0.abcdef12/../../evil"},
        {"app": "pericard/other"},
        {"app": "../pericard"},
    ],
    ids=str,
)
def test_another_bundle_or_the_reviewed_one_under_another_name_is_not_run(lie: dict[str, Any]) -> None:
    with pytest.raises(NotReviewed) as refused:
        answered(**{"content": REVIEWED, **lie})
    assert str(refused.value) == ""  # Flower sends the words of an exception to the coordinator


def test_nothing_is_installed_before_anything_was_pulled() -> None:
    _, install = guarded(lambda client: None)
    with pytest.raises(NotReviewed):
        install(REVIEWED, skip_prompt=True)


@pytest.mark.parametrize("version", ["0.1.0.abcdef12/../../evil", "0.1.0.abcdef12/../../../../evil"])
def test_flower_alone_would_unpack_a_bundle_wherever_its_version_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str
) -> None:
    """Why a read-only folder is not enough; once this fails, Flower has mended it."""
    from flwr.cli.install import install_from_fab

    home = tmp_path / "site" / "node" / "home"
    (home / "apps" / "pericard.pericard.0.1.0.abcdef12").mkdir(parents=True)
    monkeypatch.setenv("FLWR_HOME", str(home))
    evil = bundle(version)
    assert not is_reviewed(evil, hashlib.sha256(evil).hexdigest(), APP, version)
    unpacked = install_from_fab(evil, skip_prompt=True).resolve()
    assert unpacked.is_relative_to(tmp_path)
    assert not unpacked.is_relative_to(home / "apps")
    assert (unpacked / "evil.py").exists()


def test_it_stands_before_flowers_own_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from flwr.supernode.runtime import run_clientapp

    before = (run_clientapp.pull_task_input, run_clientapp.install_from_fab)
    held: list[Any] = []
    words = ["--runtime-api-address", "127.0.0.1:1", "--token", "t", "--insecure", "--parent-pid", "1"]
    monkeypatch.setattr("sys.argv", ["only_reviewed.py", *words])
    monkeypatch.setenv("FLWR_HOME", str(tmp_path))
    monkeypatch.setattr(
        run_clientapp,
        "run_clientapp",
        lambda **told: held.append((told, run_clientapp.pull_task_input, run_clientapp.install_from_fab)),
    )
    try:
        only_reviewed.main()
    finally:
        vars(run_clientapp).update(pull_task_input=before[0], install_from_fab=before[1])
    ((told, pulled, install),) = held
    assert told == {
        "runtime_api_address": "127.0.0.1:1", "token": "t", "insecure": True, "certificates": None, "parent_pid": 1,
        "runtime_dependency_install": False,
    }  # fmt: skip
    assert pulled is not before[0]
    with pytest.raises(NotReviewed):
        install(b"", skip_prompt=True)


def test_it_says_to_flower_what_flowers_own_program_says(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Once this fails, Flower's program says more, or something else."""
    from flwr.supernode.cli import flwr_clientapp
    from flwr.supernode.runtime import run_clientapp

    monkeypatch.setattr("sys.argv", ["flwr-clientapp", "--runtime-api-address", "h:1", "--token", "t", "--insecure"])
    monkeypatch.setenv("FLWR_HOME", str(tmp_path))
    said: list[dict[str, Any]] = []
    monkeypatch.setattr(run_clientapp, "run_clientapp", lambda **told: said.append(told))
    monkeypatch.setitem(flwr_clientapp.__globals__, "run_clientapp", lambda **told: said.append(told))
    flwr_clientapp()
    before = (run_clientapp.pull_task_input, run_clientapp.install_from_fab)
    try:
        only_reviewed.main()
    finally:
        vars(run_clientapp).update(pull_task_input=before[0], install_from_fab=before[1])
    assert said[0] == said[1]


@contextmanager
def _beginner(home: Path, then: str) -> "Iterator[subprocess.Popen[str]]":
    """Start a ClientApp that has begun, and said so."""
    words = f"from client.only_reviewed import *; done = begin(Path({str(home)!r}) / BEGINNING); {then}"
    program = f"{words}; print('begun', flush=True); time.sleep(60)"
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as begun:
        try:
            assert begun.stdout
            assert begun.stdout.readline() == "begun\n"
            yield begun
        finally:
            begun.kill()


def test_a_clientapp_that_begins_ends_one_that_has_no_message_yet(tmp_path: Path) -> None:
    with _beginner(tmp_path, "pass") as first, _beginner(tmp_path, "pass") as second:
        assert first.wait(30) == -signal.SIGKILL
        assert second.poll() is None


def test_a_clientapp_that_begins_leaves_one_alone_that_serves_its_message(tmp_path: Path) -> None:
    with _beginner(tmp_path, "done()") as first, _beginner(tmp_path, "pass"):
        assert first.poll() is None


def test_a_clientapp_begins_where_nothing_can_be_written(tmp_path: Path) -> None:
    only_reviewed.begin(tmp_path / "absent" / "file")()
    assert not (tmp_path / "absent").exists()
