"""Which code, which libraries, which kind of machine: enough to run it again, nothing that names a person or a place.

The code digest covers the packages that ride to a hospital in the bundle, so that coordinator and sites compute the
same one, whatever folder they were unpacked into. It refuses to be computed if those packages were imported from
several places: then nobody could say which code ran.
"""

import hashlib
import importlib.util
import os
import platform
import shlex
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path, PurePosixPath, PureWindowsPath

from evaluation.predicate import Repro
from synthesis.manifest import Entry, Manifest

PACKAGES = ("conf", "cohorts", "privacy", "learning", "synthesis", "evaluation", "client", "server")
LIBRARIES = ("cryptography", "dp-accounting", "flwr", "monai", "numpy", "opacus", "pericard", "pillow", "torch")
SUFFIXES = (".py", ".yaml")
LOCKFILE = "uv.lock"


class ScatteredCode(RuntimeError):
    """Our packages do not share one parent folder: a foreign one has slipped in front of ours."""


def code_root(packages: Sequence[str] = PACKAGES) -> Path:
    """Return the one folder that holds all of `packages`.

    Raises:
        ScatteredCode: they lie in several folders, or one of them is missing.
    """
    parents: dict[Path, str] = {}
    for package in packages:
        spec = importlib.util.find_spec(package)
        places = list(spec.submodule_search_locations or ()) if spec else []
        if len(places) != 1:
            raise ScatteredCode(f"package {package!r} lies in {len(places)} folders, not in one")
        parents.setdefault(Path(places[0]).resolve().parent, package)
    if len(parents) != 1:
        raise ScatteredCode(f"{' and '.join(map(repr, parents.values()))} come from different folders")
    return next(iter(parents))


def code_digest() -> str:
    """Return the Merkle root over every `.py` and `.yaml` file of our packages by name, hexadecimal.

    Raises:
        ScatteredCode: as `code_root`.
    """
    return digest_of(code_root())


@cache
def digest_of(root: Path, packages: tuple[str, ...] = PACKAGES) -> str:
    """Return the digest of the code of `packages` in the folder `root`; computed once per process."""
    entries = (Entry(name, len(raw), hashlib.sha256(raw).hexdigest()) for name, raw in _sources(root, packages))
    return Manifest(files=tuple(sorted(entries))).root


def collect(
    *,
    seeds: Mapping[str, int],
    config_digest: str,
    model_digest: str,
    determinism_level: str,
    replay: Sequence[str],
    accelerator: str = "",
) -> Repro:
    """Return the reproduction section of a certificate.

    Args:
        seeds: seeds of sampling and evaluation by name; never of noise or subsampling.
        config_digest: of the resolved experiment.
        model_digest: of the generator's arrays.
        determinism_level: which of these numbers come out the same again, in a few words.
        replay: the words of the command that runs it again; absolute paths in them are left out.
        accelerator: product name of the device that trained, empty for a CPU.

    Raises:
        ScatteredCode: as `code_root`.
    """
    root = code_root()
    lockfile = root / LOCKFILE
    return Repro(
        code_digest=digest_of(root),
        config_digest=config_digest,
        model_digest=model_digest,
        seeds=dict(seeds),
        versions=versions(),
        hardware=hardware(accelerator),
        determinism_level=determinism_level,
        replay_command=shlex.join(map(without_path, replay)),
        code_commit=_commit(root),
        lockfile_digest=hashlib.sha256(lockfile.read_bytes()).hexdigest() if lockfile.is_file() else None,
    )


def versions() -> dict[str, str]:
    """Return the version of Python and of each library that touches a number, without importing any."""
    found = {"python": platform.python_version()}
    for name in LIBRARIES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = "absent"
    return found


def hardware(accelerator: str = "") -> dict[str, str]:
    """Return the kind of machine: system, architecture, cores, accelerator. No host, user or serial number."""
    return {
        "system": platform.system(),
        "machine": platform.machine(),
        "cores": str(os.cpu_count() or 0),
        "accelerator": accelerator or "none",
    }


def without_path(word: str) -> str:
    """Return a word of a command line with an absolute path in it replaced: such a path names a machine or a person."""
    name, equals, value = word.rpartition("=")
    absolute = PurePosixPath(value).is_absolute() or PureWindowsPath(value).is_absolute() or value.startswith("~")
    return f"{name}{equals}PATH" if absolute else word


def _sources(root: Path, packages: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    for package in packages:
        for path in (root / package).rglob("*"):
            if path.suffix in SUFFIXES and path.is_file():
                yield path.relative_to(root).as_posix(), path.read_bytes()


def _commit(root: Path) -> str | None:
    """Return the commit if `root` is a checkout whose packages are as committed; the code digest is what counts."""
    if not (root / ".git").exists():
        return None
    try:
        clean = subprocess.run(
            ["git", "-C", str(root), "status", "--porcelain", "--", *PACKAGES],
            capture_output=True, text=True, timeout=10, check=True,
        )  # fmt: skip
        head = subprocess.run(
            ["git", "-C", str(root), "rev-parse", "HEAD"], capture_output=True, text=True, timeout=10, check=True
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return None if clean.stdout.strip() else head.stdout.strip()
