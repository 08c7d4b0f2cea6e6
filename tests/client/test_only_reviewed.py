"""A hospital runs the bundle that its people reviewed, wherever another one would have had itself unpacked."""

import hashlib
import io
import zipfile
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


def test_it_stands_before_flowers_own_program(monkeypatch: pytest.MonkeyPatch) -> None:
    from flwr.supernode.runtime import run_clientapp

    before = (run_clientapp.pull_task_input, run_clientapp.install_from_fab)
    held: list[Any] = []
    monkeypatch.setattr("sys.argv", ["only_reviewed.py"])
    monkeypatch.setattr(
        "flwr.supernode.cli.flwr_clientapp",
        lambda: held.append((run_clientapp.pull_task_input, run_clientapp.install_from_fab)),
    )
    try:
        only_reviewed.main()
    finally:
        vars(run_clientapp).update(pull_task_input=before[0], install_from_fab=before[1])
    ((pulled, install),) = held
    assert pulled is not before[0]
    with pytest.raises(NotReviewed):
        install(b"", skip_prompt=True)
