"""One list of classes for all sites, each site's own words for some of them, and how the scores of experts meet there.

The most confident expert speaks for a class (Bransby et al. 2024, arXiv:2407.21577).
"""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from learning.schema import canonical, parse


@dataclass(frozen=True, slots=True, kw_only=True)
class Ontology:
    """The classes that are told apart anywhere, in the order of the pooled scores."""

    names: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.names or len(set(self.names)) != len(self.names) or not all(self.names):
            raise ValueError(f"names={list(self.names)} must be different words, at least one")

    @property
    def digest(self) -> str:
        """Return the SHA-256 of the names and their order."""
        return hashlib.sha256(canonical(list(self.names)).encode()).hexdigest()


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteLabelMap:
    """What a site's own words mean.

    Attributes:
        site: whose words.
        labels: the words, in the order of the outputs of the site's expert.
        means: the class of the ontology that each means; two words may mean one class.
        ontology: the classes of all sites.
    """

    site: str
    labels: tuple[str, ...]
    means: tuple[str, ...]
    ontology: Ontology

    def __post_init__(self) -> None:
        if not self.labels or len(set(self.labels)) != len(self.labels):
            raise ValueError(f"labels={list(self.labels)} of {self.site} must be different words, at least one")
        if len(self.means) != len(self.labels):
            raise ValueError(f"means={list(self.means)} of {self.site} must say one class for each of its labels")
        if strange := sorted(set(self.means) - set(self.ontology.names)):
            raise ValueError(f"means={strange} of {self.site} are no classes of the ontology")

    @property
    def indices(self) -> NDArray[np.int64]:
        """Return the place in the ontology of each label, `(labels,)`."""
        return np.array([self.ontology.names.index(name) for name in self.means], np.int64)

    def to_ontology(self, own: NDArray[np.int64]) -> NDArray[np.int64]:
        """Turn indices of the site's labels into indices of the ontology; -1 stays unknown.

        Law: `to_site(to_ontology(x)) == x` where no two labels mean one class.
        """
        return np.append(self.indices, -1)[own]

    def to_site(self, shared: NDArray[np.int64]) -> NDArray[np.int64]:
        """Turn indices of the ontology into the site's: the first label of that meaning, -1 where it has none."""
        own = np.full(len(self.ontology.names) + 1, -1, np.int64)
        own[self.indices[::-1]] = np.arange(len(self.labels))[::-1]
        return own[shared]


def to_json(maps: Sequence[SiteLabelMap]) -> str:
    """Write `{"classes", "digest", "order", "sites": {site: {"labels", "means"}}}`; `from_json(to_json(m)) == m`."""
    ontology = maps[0].ontology
    _require_one_ontology(maps)
    sites = {m.site: {"labels": list(m.labels), "means": list(m.means)} for m in maps}
    if len(sites) != len(maps):
        raise ValueError("maps hold a site twice")
    order = [m.site for m in maps]
    return canonical({"classes": list(ontology.names), "digest": ontology.digest, "order": order, "sites": sites})


def from_json(text: str) -> tuple[SiteLabelMap, ...]:
    """Read what `to_json` wrote; raises `ValueError` where it is something else or the digest is another's."""
    try:
        found = parse("label maps", text)
        ontology = Ontology(names=tuple(map(str, found["classes"])))
        maps = tuple(
            SiteLabelMap(
                site=str(site),
                labels=tuple(map(str, found["sites"][site]["labels"])),
                means=tuple(map(str, found["sites"][site]["means"])),
                ontology=ontology,
            )
            for site in found["order"]
        )
    except (KeyError, TypeError) as error:
        raise ValueError(f"these are no label maps: {error}") from error
    if found["digest"] != ontology.digest:
        raise ValueError(f"digest={found['digest']} is not that of the classes listed")
    return maps


def pool(scores: Sequence[Tensor], maps: Sequence[SiteLabelMap]) -> Tensor:
    """Return for each class the largest score that any expert gives any word for it; -inf where nobody has a word.

    Args:
        scores: of each expert, `(n, its labels)`.
        maps: of each expert, in the same order.

    Returns:
        `(n, classes)`, each row from its own scores alone.
    """
    _require_one_ontology(maps)
    beside = torch.cat(list(scores), 1)
    where = np.concatenate([m.indices for m in maps])
    if beside.shape[1] != len(where):
        raise ValueError(f"scores have {beside.shape[1]} columns, the maps {len(where)} labels")
    nobody = torch.full((len(beside),), -torch.inf, dtype=beside.dtype)
    columns = [np.flatnonzero(where == c) for c in range(len(maps[0].ontology.names))]
    return torch.stack([beside[:, torch.from_numpy(c)].amax(1) if len(c) else nobody for c in columns], 1)


def _require_one_ontology(maps: Sequence[SiteLabelMap]) -> None:
    if len({m.ontology for m in maps}) != 1:
        raise ValueError("maps must be at least one, and all of one ontology")
