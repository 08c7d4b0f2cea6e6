"""Weights of a common training that are a site's own: they never cross the wire, and wait here between exchanges.

Of the network that sites train in common each keeps the arrays whose names begin with a given word, such as its head
(Arivazhagan et al. 2019, "Federated Learning with Personalization Layers", arXiv:1912.00818).
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from client.site import Site
from learning import arrays

FOLDER = "personal"


def of(named: Mapping[str, NDArray[np.float32]], prefix: str) -> arrays.Arrays:
    """Return those of `named` that are personal: none where there is no `prefix`."""
    return {n: a for n, a in named.items() if prefix and n.startswith(prefix)}


def read(site: Site, run: str, stage: str, exchange: int | None = None) -> arrays.Arrays:
    """Return what was kept after that exchange of a training, or after its last; nothing where nothing was."""
    folder = site.folder / FOLDER / run / stage
    found = {int(path.stem): path for path in folder.glob("*.safetensors")}
    path = found.get(max(found, default=0) if exchange is None else exchange)
    return {n: a.astype(np.float32) for n, a in arrays.read(path).items()} if path else {}


def keep(site: Site, run: str, stage: str, exchange: int, own: arrays.Arrays) -> None:
    """Keep `own` as what came of that exchange; an exchange that is computed again writes the same place."""
    folder = site.folder / FOLDER / run / stage
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    arrays.write(folder / f"{exchange}.safetensors", own)
