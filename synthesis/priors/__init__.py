"""Weights learned from the phantom alone: public, so they cost no privacy. Remade by `pericard prior train`."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from learning import arrays

_READ: ContextVar[set[str] | None] = ContextVar("priors that were read", default=None)
NAMES = ("autoencoder", "latent_flow", "view_classifier")
_MADE_BY = {"latent_video_flow": "video", "latent_video_edm": "animate"}


def folder() -> Path:
    """Return where the priors lie: beside this file, or where `PERICARD_PRIORS` says (bundles have no weights)."""
    return Path(os.environ.get("PERICARD_PRIORS", Path(__file__).parent))


def load(name: str) -> dict[str, NDArray[np.floating]]:
    """Read one prior; raises `ValueError` naming the file where it is missing or is not what its provenance says."""
    path = folder() / f"{name}.safetensors"
    if not path.is_file():
        raise ValueError(f"{path} is missing; make it with: pericard prior {_MADE_BY.get(name, 'train')}")
    found = arrays.read(path)
    if arrays.digest(found) != (stated := record_of(name)["digests"].get(name)):
        raise ValueError(f"{path} has digest {arrays.digest(found)[:12]}, its provenance states {str(stated)[:12]}")
    if (read := _READ.get()) is not None:
        read.add(name)
    return found


@contextmanager
def watched() -> Iterator[set[str]]:
    """Yield the names of all priors that are read meanwhile: what is built under it says itself what it stands on."""
    read: set[str] = set()
    token = _READ.set(read)
    try:
        yield read
    finally:
        _READ.reset(token)


def provenance(of: str = "provenance") -> dict[str, Any]:
    """Return how the priors were made: command, code, phantom seeds, steps, digests; `of` one that was made later."""
    path = folder() / f"{of}.json"
    if not path.is_file():
        raise ValueError(f"{path} is missing; make it with: pericard prior train")
    record: dict[str, Any] = json.loads(path.read_text())
    return record


def record_of(name: str) -> dict[str, Any]:
    """Return the record of what was made on its own, beside it, or the common one."""
    return provenance(name if (folder() / f"{name}.json").is_file() else "provenance")
