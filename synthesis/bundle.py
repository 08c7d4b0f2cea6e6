"""A trained generator that can be handed on: its weights, the priors it stands on, the plan that paid for it.

```
bundle/
├── bundle.json           which generator, its settings, the plan, and the digest of everything else
└── weights.safetensors   what was trained
```

Nothing that knows single subjects may ride along. A public demonstration once shipped a bank of embeddings of its
training patients, and a mesh generator a table with one row for each of its own: whoever holds such a tensor can ask
who was in it. So a bundle holds no tensor that its generator does not build from settings alone, and none that counts
as many rows as there were subjects, unless the public prior, which has seen nobody, has the same.
"""

import hashlib
import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from learning import arrays, durable
from learning.schema import canonical
from privacy.mechanism import plan_from_json
from synthesis import priors
from synthesis.generator import ClipGenerator, Generator
from synthesis.parts import build

SCHEMA = "pericard.bundle/2"
KINDS = ("generator", "clip_generator")
RECORD, WEIGHTS = "bundle.json", "weights.safetensors"
Weights = Mapping[str, NDArray[np.floating]]


class BundleChanged(ValueError):
    """A bundle is not what its record says, or stands on other priors than those here."""


class TellsOfSubjects(ValueError):
    """A tensor holds one row per training subject, or cannot be shown not to."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """A generator as it was trained.

    Attributes:
        kind: "generator", of images, or "clip_generator", of moving hearts.
        generator: name under which it is registered.
        config: its settings.
        weights: what was trained of it.
        seed: of its initial weights, which matter where it has no prior.
        classes: what it tells frames apart by and what it draws (`conf.schema.Classes`).
        size: height and width of its images.
        plan: the DP plan that its training charged, as JSON; `None`: no ε holds.
        epsilon, delta: what the whole run cost a subject at most; `None` without a plan.
        priors: public priors it stands on, by name, and their digests.
        beat: of moving hearts, what its run asks of each: `frames` of a beat, and the range `lvef_percent`.
    """

    kind: str = "generator"
    generator: str
    config: Mapping[str, Any]
    weights: Weights
    seed: int
    classes: Mapping[str, Any]
    size: int
    plan: Mapping[str, Any] | None
    epsilon: float | None
    delta: float | None
    priors: Mapping[str, str]
    beat: Mapping[str, Any] | None = None

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ValueError(f"kind={self.kind!r} must be one of {', '.join(KINDS)}")
        if self.plan is not None:
            plan_from_json(self.plan)
        if (self.plan is None) != (self.epsilon is None) or (self.plan is None) != (self.delta is None):
            raise ValueError(f"epsilon={self.epsilon}, delta={self.delta} belong to a plan; here is {self.plan}")

    @property
    def record(self) -> dict[str, Any]:
        """All but the weights, and their digest in their place."""
        plain = {name: getattr(self, name) for name in self.__slots__ if name != "weights"}
        if self.beat is None:  # as bundles were before hearts moved
            del plain["beat"]
        return {"schema": SCHEMA, **plain, "weights": arrays.digest(self.weights)}

    @property
    def digest(self) -> str:
        """SHA-256 over settings, plan, digests of priors and of weights: what names this generator."""
        return hashlib.sha256(canonical(self.record).encode()).hexdigest()

    def build(self) -> Generator | ClipGenerator:
        """Return the generator, trained; raises `ValueError` where weights and settings do not fit each other."""
        built = build(self.kind, self.generator, self.config, seed=self.seed)
        if self.weights:
            arrays.load(built.module, self.weights)
        return cast("Generator | ClipGenerator", built)


def installed(names: Collection[str]) -> dict[str, str]:
    """Return the digests of the public priors `names` as they are here."""
    return {name: arrays.digest(priors.load(name)) for name in sorted(names)}


def stood_on(kind: str, generator: str, config: Mapping[str, Any]) -> dict[str, str]:
    """Return the digests of the public priors that this generator reads when it is built, by name."""
    with priors.watched() as names:
        build(kind, generator, config, seed=0)
    return installed(names)


def write(folder: Path, bundle: Bundle, *, subjects: Collection[int]) -> None:
    """Write `bundle` into the new folder `folder`; `read(write(b)) == b`.

    Args:
        folder: must not exist.
        bundle: what to write.
        subjects: every number of subjects that took part, of a site or of all, as far as known.

    Raises:
        TellsOfSubjects: naming the tensors; nothing is written.
        FileExistsError: there is something in the way.
    """
    require_impersonal(bundle, subjects)
    folder.mkdir(parents=True)
    arrays.write(folder / WEIGHTS, bundle.weights)
    durable.write(
        folder / RECORD, canonical({**bundle.record, "digest": bundle.digest}).encode()
    )  # last: a bundle without its record is none


def read(folder: Path) -> Bundle:
    """Read what `write` wrote, and check it against its digests and the priors that are installed here.

    Raises:
        BundleChanged: naming what differs.
        ValueError: there is no bundle.
    """
    try:
        fields = json.loads((folder / RECORD).read_text(encoding="utf-8"))
        if fields.pop("schema") != SCHEMA:
            raise ValueError(f"its schema is not {SCHEMA}")  # noqa: TRY301
        stated, of_weights = fields.pop("digest"), fields.pop("weights")
        bundle = Bundle(**fields, weights=arrays.read(folder / WEIGHTS))
    except (AttributeError, KeyError, OSError, TypeError, ValueError) as error:
        raise ValueError(f"{folder} holds no bundle: {error}") from error
    if arrays.digest(bundle.weights) != of_weights:
        raise BundleChanged(f"{folder / WEIGHTS} is not what {RECORD} states")
    if bundle.digest != stated:
        raise BundleChanged(f"{folder / RECORD} is not what its own digest states")
    here = installed(bundle.priors)
    if other := sorted(name for name in bundle.priors if here[name] != bundle.priors[name]):
        raise BundleChanged(f"{folder} stands on other priors than those installed: {', '.join(other)}")
    return bundle


def require_impersonal(bundle: Bundle, subjects: Collection[int]) -> None:
    """Raise `TellsOfSubjects` where a tensor may hold a row of each subject.

    A tensor is innocent if the generator builds one of this name and shape from its settings, and either no side of it
    is a number of subjects or a public prior has the same.
    """
    built = build(bundle.kind, bundle.generator, bundle.config, seed=0)
    own = {name: array.shape for name, array in arrays.state(built.module).items()}
    strange = sorted(name for name, array in bundle.weights.items() if own.get(name) != array.shape)
    if strange:
        raise TellsOfSubjects(
            f"{bundle.generator!r} has no tensors {strange[:3]} of such shapes: they are not exported"
        )
    public = {(name, array.shape) for prior in bundle.priors for name, array in priors.load(prior).items()}
    counts = {count for count in subjects if count > 1}
    suspect = sorted(
        name
        for name, array in bundle.weights.items()
        if (name, array.shape) not in public and counts & set(array.shape)
    )
    if suspect:
        raise TellsOfSubjects(
            f"{suspect[:3]} ({len(suspect)}) have as many rows as there were subjects, {sorted(counts)}: not exported"
        )
