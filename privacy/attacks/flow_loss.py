"""Loss under the generator's own weights: whoever was trained on is denoised better than he deserves.

For auditors who hold the weights, or a worst case inside the house. Every picture is noised with the same noise on one
grid of times, and its loss is held against what it would be had it not been trained on: under reference models, the
public prior or shadows trained without it, as LiRA does (Carlini et al. 2022, arXiv:2112.03570, offline); without any,
under this model on the pictures of the population that look most like it. Either difference is stated in standard
deviations of the population, whose place in it is what RMIA ranks by (Zarifzadeh et al. 2024, arXiv:2312.03262).
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from privacy.attacks import ATTACKS
from privacy.gallery import Gallery
from privacy.neighbours import nearest

Loss = Callable[[Gallery], NDArray[np.float64]]
"""Losses of the pictures of a gallery, `(n, times)`, positive: at each time under noise that is the same for all."""

_LEAST = 1e-12


@ATTACKS("flow_loss")
@dataclass(frozen=True, slots=True, kw_only=True)
class FlowLoss:
    """The loss under the generator, calibrated.

    Attributes:
        neighbours: pictures of the population that stand for a picture where there is no reference model.
    """

    kind: ClassVar[str] = "model"

    neighbours: int = 10

    def __post_init__(self) -> None:
        if self.neighbours < 1:
            raise ValueError(f"neighbours={self.neighbours} must be at least 1")

    def score(
        self, targets: Gallery, loss: Loss, others: Sequence[Loss], reference: Gallery, *, rng: np.random.Generator
    ) -> NDArray[np.float64]:
        """Score each picture of `targets`, `(n,)`; higher is more like a member.

        Args:
            targets: pictures in question.
            loss: of the generator that is attacked.
            others: of models that did not train on any of them.
            reference: the population, at least 2 pictures.
            rng: not used; all noise is the loss's own.

        Raises:
            ValueError: a loss is not positive, finite and `(n, times)`.
        """
        del rng
        asked, known = _logs(loss, targets), _logs(loss, reference)
        if others:
            theirs = [np.stack([_logs(other, gallery) for other in others]) for gallery in (targets, reference)]
            gain, usual = theirs[0].mean(axis=0) - asked, theirs[1].mean(axis=0) - known
        else:
            own = np.arange(len(reference))
            apart = (np.full(len(targets), -1), own), (own, own)
            gain, usual = (
                self._like(gallery, reference, known, labels) - logs
                for gallery, logs, labels in zip((targets, reference), (asked, known), apart, strict=True)
            )
        spread = np.maximum(usual.std(axis=0), _LEAST)
        return np.asarray(((gain - usual.mean(axis=0)) / spread).mean(axis=1), np.float64)

    def _like(
        self,
        gallery: Gallery,
        reference: Gallery,
        known: NDArray[np.float64],
        labels: tuple[NDArray[np.int64], NDArray[np.int64]],
    ) -> NDArray[np.float64]:
        """Return the mean log loss of the pictures of the population that look most like each, `(n, times)`."""
        k = min(self.neighbours, len(reference) - 1)
        _, rows = nearest(gallery.features, reference.features, k, exclude_same=labels)
        return np.asarray(known[rows].mean(axis=1), np.float64)


def _logs(loss: Loss, gallery: Gallery) -> NDArray[np.float64]:
    losses = np.asarray(loss(gallery), np.float64)
    if losses.ndim != 2 or len(losses) != len(gallery):
        raise ValueError(f"a loss must return ({len(gallery)}, times), not {losses.shape}")
    if not (np.isfinite(losses).all() and (losses > 0).all()):
        raise ValueError("a loss must be positive and finite")
    return np.log(losses)
