"""The Flower bundle of the code that is installed here: what a hospital reviews, and what its node is sent.

The same packages give the same bytes, so a hospital makes the bundle from the code that it installed and reviewed, and
compares digests; no file has to be trusted on its way. Flower is asked to do nothing else while it builds or installs:
no telemetry, no update checks, no packages from the network.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from evaluation.provenance import PACKAGES, SUFFIXES, code_root

OFFLINE = {  # for everything of Flower's, whoever starts it
    "FLWR_TELEMETRY_ENABLED": "0",
    "FLWR_DISABLE_UPDATE_CHECK": "1",
    "FLWR_DISABLE_RUNTIME_DEPENDENCY_INSTALLATION": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
}
BUNDLE = """[project]
name = "pericard"
version = "{version}"
description = "Pericard"
license = "Apache-2.0"

[tool.flwr.app]
publisher = "pericard"
fab-include = {include}

[tool.flwr.app.components]
serverapp = "server.app:app"
clientapp = "client.app:app"

[tool.flwr.app.config]
campaign = ""
"""


class NoBundle(ValueError):
    """Flower could not build it, or would not take it."""


def write_bundle(app: Path) -> None:
    """Put our packages into `app` as a Flower app: the files that the code digest covers, and no others."""
    from importlib.metadata import version

    source = code_root()
    for package in PACKAGES:
        for path in (source / package).rglob("*"):
            if path.suffix in SUFFIXES and path.is_file():
                target = app / path.relative_to(source)
                target.parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(path, target)
    patterns = [f"/{p}/**/*{s}" for p in PACKAGES for s in SUFFIXES if any((app / p).rglob(f"*{s}"))]
    (app / "pyproject.toml").write_text(BUNDLE.format(version=version("pericard"), include=json.dumps(patterns)))


def programs() -> str:
    """Return a PATH on which Flower's programs of this Python come first."""
    return f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"


def build_bundle() -> bytes:
    """Return Flower's bundle of the installed packages; the same packages give the same bytes.

    Raises:
        NoBundle: with Flower's words.
    """
    with tempfile.TemporaryDirectory(prefix="pericard-") as scratch:
        app = Path(scratch) / "pericard"
        app.mkdir()
        write_bundle(app)
        _flwr("build", folder=app, home=Path(scratch) / "home")
        (built,) = app.glob("*.fab")
        return built.read_bytes()


def install_bundle(bundle: bytes, home: Path) -> None:
    """Put a bundle into a new home of Flower's, and make it read-only; raises `NoBundle`."""
    from importlib.metadata import version

    unlock(home)
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(mode=0o700)
    # Flower reads publisher, name, version and digest off the file's name.
    named = f"pericard.pericard.{version('pericard').replace('.', '-')}.{hashlib.sha256(bundle).hexdigest()[:8]}.fab"
    (home / named).write_bytes(bundle)
    _flwr("install", named, folder=home, home=home)
    (home / named).unlink()
    for path in sorted((home / "apps").rglob("*"), reverse=True):
        path.chmod(0o500 if path.is_dir() else 0o400)
    (home / "apps").chmod(0o500)


def unlock(home: Path) -> None:
    """Make a home writable again, so that it can be taken away."""
    for path in [home, *home.rglob("*")] if home.is_dir() else []:
        if path.is_dir():
            path.chmod(0o700)


def _flwr(*words: str, folder: Path, home: Path) -> None:
    env = {**os.environ, **OFFLINE, "FLWR_HOME": str(home.resolve()), "PATH": programs(), "NO_COLOR": "1"}
    done = subprocess.run(["flwr", *words], cwd=folder, env=env, capture_output=True, text=True, check=False)
    if done.returncode:
        raise NoBundle(f"flwr {words[0]}: {' '.join((done.stdout + done.stderr).split())[-500:]}")
