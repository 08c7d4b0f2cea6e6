"""Frozen experts of several sites, what they see in a picture, and the ways to hear them that need no training."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from learning import arrays
from learning.blocks import to_signal
from learning.ontology import SiteLabelMap, pool

if TYPE_CHECKING:  # a learner of fused experts imports this module, and the package of learners imports it
    from learning.learners.expert import Expert, ExpertLearner

HEAD = "head."
_AT_ONCE = 256


class Reference(StrEnum):
    """Whose pictures an expert's neural mean was taken of."""

    OWN = "own"
    PHANTOM = "phantom"


@dataclass(frozen=True, slots=True, kw_only=True)
class FrozenExpert:
    """An expert as it moves between sites: it is never trained again.

    Attributes:
        label_map: the words of its outputs.
        config: its network.
        arrays: its weights.
        mean: neural mean feature: of each channel of each 3x3 convolution, over space and the reference, `(channels,)`
            (Dong et al. 2022, "Neural Mean Discrepancy for Efficient Out-of-Distribution Detection").
        spread: standard deviation of the same over the reference, > 0.
    """

    label_map: SiteLabelMap
    config: "Expert"
    arrays: arrays.Arrays
    mean: NDArray[np.float32]
    spread: NDArray[np.float32]

    @property
    def digest(self) -> str:
        """Return the SHA-256 of weights, mean and spread."""
        return arrays.digest({**self.arrays, "_mean": self.mean, "_spread": self.spread})

    @property
    def n_bytes(self) -> int:
        """Return how many bytes of numbers move when the expert does."""
        return sum(a.nbytes for a in (*self.arrays.values(), self.mean, self.spread))

    def build(self) -> "ExpertLearner":
        """Return the expert as a learner of its own weights, none of them trainable."""
        learner = self.config.build()
        arrays.load_state(learner.module, self.arrays)
        learner.module.requires_grad_(False).eval()
        return learner


@dataclass(frozen=True, slots=True, kw_only=True)
class ByProducts:
    """What K frozen experts see in n pictures; it need not leave the site of the pictures.

    Attributes:
        features: pooled features of each expert, `(n, d)` each.
        logits: scores of each expert for its own words, `(n, labels)` each.
        discrepancy: neural mean discrepancy of each expert in units of its spread, `(n, channels)` each.
    """

    features: tuple[Tensor, ...]
    logits: tuple[Tensor, ...]
    discrepancy: tuple[Tensor, ...]

    def __len__(self) -> int:
        return len(self.features[0])

    def rows(self, rows: NDArray[np.int64]) -> "ByProducts":
        """Return what was seen in some of the pictures."""
        some = torch.from_numpy(rows)
        return ByProducts(
            features=tuple(t[some] for t in self.features),
            logits=tuple(t[some] for t in self.logits),
            discrepancy=tuple(t[some] for t in self.discrepancy),
        )

    def beside(self, others: "ByProducts") -> "ByProducts":
        """Return what these experts and then `others` see in the same pictures: nobody looks twice."""
        if len(self) != len(others):
            raise ValueError(f"{len(self)} and {len(others)} pictures cannot be the same")
        return ByProducts(
            features=self.features + others.features,
            logits=self.logits + others.logits,
            discrepancy=self.discrepancy + others.discrepancy,
        )


def freeze(
    learner: "ExpertLearner",
    label_map: SiteLabelMap,
    pixels: NDArray[np.uint8],
    *,
    reference: Reference,
    private: bool,
) -> FrozenExpert:
    """Freeze a trained expert together with the neural mean of `pixels`, uint8 `(n, h, w)`.

    Args:
        learner: the trained expert.
        label_map: what its outputs mean.
        pixels: the reference of the neural mean.
        reference: whose pictures they are.
        private: whether the expert is protected by differential privacy, which a mean of patients' pictures is not.

    Raises:
        ValueError: if a private expert would take the mean of its own pictures, or labels and outputs differ in number.
    """
    if private and reference is not Reference.PHANTOM:
        raise ValueError(f"reference={reference.value!r} of a private expert must be 'phantom': a mean is not noised")
    if len(label_map.labels) != learner.config.classes:
        raise ValueError(f"label_map has {len(label_map.labels)} labels, the expert {learner.config.classes} outputs")
    if not len(pixels):
        raise ValueError("pixels are none: a neural mean needs at least one picture")
    seen = _look(learner, pixels)[2].double()
    spread = seen.std(0, correction=0).clamp_min(1e-4)
    return FrozenExpert(
        label_map=label_map,
        config=learner.config,
        arrays=arrays.state(learner.module),
        mean=seen.mean(0).numpy().astype(np.float32),
        spread=spread.numpy().astype(np.float32),
    )


def warm_start(learner: "ExpertLearner", base: FrozenExpert) -> None:
    """Put the weights of `base`, its head excepted, into `learner`, whose network has the same shape."""
    own = arrays.state(learner.module)
    arrays.load_state(learner.module, {**base.arrays, **{n: a for n, a in own.items() if n.startswith(HEAD)}})


def observe(experts: Sequence[FrozenExpert], pixels: NDArray[np.uint8]) -> ByProducts:
    """Run every expert over uint8 pictures `(n, h, w)`, each picture alone."""
    if not experts:
        raise ValueError("there is no expert")
    seen = [_look(e.build(), pixels) for e in experts]
    means = [(torch.from_numpy(e.mean), torch.from_numpy(e.spread)) for e in experts]
    return ByProducts(
        features=tuple(features for features, _, _ in seen),
        logits=tuple(logits for _, logits, _ in seen),
        discrepancy=tuple((s - mean) / spread for (_, _, s), (mean, spread) in zip(seen, means, strict=True)),
    )


def max_logit(seen: ByProducts, maps: Sequence[SiteLabelMap]) -> Tensor:
    """Pool raw logits: `(n, classes)`."""
    return pool(seen.logits, maps)


def max_probability(seen: ByProducts, maps: Sequence[SiteLabelMap]) -> Tensor:
    """Pool each expert's own softmax: `(n, classes)` (Hendrycks & Gimpel 2017, arXiv:1610.02136)."""
    return pool([z.softmax(1) for z in seen.logits], maps)


def most_confident(seen: ByProducts, maps: Sequence[SiteLabelMap]) -> Tensor:
    """Hear only the expert with the largest softmax: `(n, classes)`, -inf for what it has no word for."""
    beliefs = [z.softmax(1) for z in seen.logits]
    chosen = torch.stack([p.amax(1) for p in beliefs], 1).argmax(1, keepdim=True)
    return pool([p.where(chosen == k, -torch.inf) for k, p in enumerate(beliefs)], maps)


@torch.no_grad()
def _look(learner: "ExpertLearner", pixels: NDArray[np.uint8]) -> tuple[Tensor, Tensor, Tensor]:
    """Return features, logits and channel means of pictures."""
    learner.module.eval()
    parts = []
    for start in range(0, max(len(pixels), 1), _AT_ONCE):
        features, means = learner.net.observe(to_signal(torch.from_numpy(pixels[start : start + _AT_ONCE])))
        parts.append((features, learner.net.head(features), means))
    return torch.cat([p[0] for p in parts]), torch.cat([p[1] for p in parts]), torch.cat([p[2] for p in parts])
