"""Fused experts: the frozen experts of several sites in one network, of which only the heads between them are trained.

Every site runs all experts on its own pictures, here, inside the learner: features never leave it, and what does is the
change of the heads and of the weights that say who is believed (`learning.fusion`).
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from cohorts.frames import Frames
from learning import arrays
from learning.augment import appearance, place
from learning.blocks import to_signal
from learning.experts import HEAD, ByProducts, FrozenExpert
from learning.fusion import Attention, Fusion
from learning.learners import LEARNERS
from learning.learners.expert import Expert
from learning.ontology import Ontology, SiteLabelMap, from_json, to_json

_AT_ONCE = 256


def shared_words(classes: Sequence[str], words: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Write label maps for sites that use the shared names themselves: `words` are (site, its names), in order."""
    ontology = Ontology(names=tuple(classes))
    own = ((site, tuple(names)) for site, names in words)
    return to_json([SiteLabelMap(site=site, labels=names, means=names, ontology=ontology) for site, names in own])


_TWO = shared_words(("A2C", "A4C", "PLAX", "PSAX"), (("site-a", ("A2C", "A4C")), ("site-b", ("A4C", "PLAX", "PSAX"))))


@LEARNERS("fused_experts")
@dataclass(frozen=True, slots=True, kw_only=True)
class FusedExperts:
    """Config of the fusion of experts of one shape.

    Attributes:
        maps: the words of all experts, in the order of the experts, as `ontology.to_json` writes them.
        width, stages, blocks, stride: of every expert.
        attention: from what the weights of the experts are told, a value of `Attention`.
        hidden: widths of the network that tells them.
    """

    maps: str = _TWO
    width: int = 8
    stages: int = 4
    blocks: int = 1
    stride: int = 2
    attention: str = Attention.DISCREPANCY.value
    hidden: tuple[int, ...] = (16,)

    def __post_init__(self) -> None:
        object.__setattr__(self, "hidden", tuple(self.hidden))
        if self.attention not in set(Attention):
            raise ValueError(f"attention={self.attention!r} must be one of {', '.join(Attention)}")
        if min(self.hidden, default=1) < 1:
            raise ValueError(f"hidden={list(self.hidden)} must be at least 1 each")
        for words in self.words:
            self.expert(words)  # its bounds are checked there

    @property
    def words(self) -> tuple[SiteLabelMap, ...]:
        """Return the words of each expert."""
        return from_json(self.maps)

    def expert(self, words: SiteLabelMap) -> Expert:
        """Return the network of the expert of these words."""
        return Expert(
            classes=len(words.labels), width=self.width, stages=self.stages, blocks=self.blocks, stride=self.stride
        )

    def build(self) -> "FusedLearner":
        """Return the learner: experts with random weights until theirs are put in, heads between them at zero."""
        return FusedLearner(self)


class FusedNet(nn.Module):
    """Experts that are never trained, and the heads and weights between them that are."""

    def __init__(self, config: FusedExperts) -> None:
        super().__init__()
        untrained = []
        self.experts = nn.ModuleList()
        for k, words in enumerate(config.words):
            learner = config.expert(words).build()
            self.experts.append(learner.net.requires_grad_(False))
            with torch.no_grad():
                channels = learner.net.observe(torch.zeros(1, 1, 16, 16))[1].shape[1]
            self.register_buffer(f"mean_{k}", torch.zeros(channels))
            self.register_buffer(f"spread_{k}", torch.ones(channels))
            untrained.append(
                FrozenExpert(
                    label_map=words,
                    config=learner.config,
                    arrays=arrays.state(learner.net),
                    mean=np.zeros(channels, np.float32),
                    spread=np.ones(channels, np.float32),
                )
            )
        self.fusion = Fusion(attention=Attention(config.attention), hidden=config.hidden).build(untrained)

    def observe(self, x: Tensor) -> ByProducts:
        """Return what the experts see in signals `(n, 1, h, w)`, each alone; nothing here has a gradient."""
        with torch.no_grad():
            seen = [expert.observe(x) for expert in self.experts]  # type: ignore[operator]
            return ByProducts(
                features=tuple(features for features, _ in seen),
                logits=tuple(expert.head(h) for expert, (h, _) in zip(self.experts, seen, strict=True)),  # type: ignore[operator]
                discrepancy=tuple(
                    (means - self.get_buffer(f"mean_{k}")) / self.get_buffer(f"spread_{k}")
                    for k, (_, means) in enumerate(seen)
                ),
            )

    def forward(self, x: Tensor) -> Tensor:
        """Return the pooled scores `(n, classes)`, -inf for what nobody has a word for."""
        scores: Tensor = self.fusion(self.observe(x))
        return scores


class FusedLearner:
    """A `FusedNet` under the cross entropy of each row alone; `frames.view` counts the classes of the ontology."""

    def __init__(self, config: FusedExperts) -> None:
        self.config = config
        self.net = FusedNet(config)
        self.module: nn.Module = self.net
        names = self.net.fusion.maps[0].ontology.names
        self._named = np.isin(np.arange(len(names)), np.concatenate([m.indices for m in self.net.fusion.maps]))

    def losses(self, frames: Frames, rows: NDArray[np.int64], *, generator: torch.Generator) -> Tensor:
        """Return the cross entropy of each row, varied as experts are trained; nobody's word is worth nothing."""
        x = to_signal(torch.from_numpy(frames.pixels[rows]))
        x, _ = place(x, torch.zeros((len(x), *x.shape[2:]), dtype=torch.uint8), generator=generator)
        view = frames.view[rows]
        wanted = torch.from_numpy(np.where((view >= 0) & self._named[view], view, -1))
        return F.cross_entropy(
            self.module(appearance(x, generator=generator)), wanted, reduction="none", ignore_index=-1
        )

    @torch.inference_mode()
    def predict(self, pixels: NDArray[np.uint8]) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
        """Return the class of uint8 images `(n, h, w)`, and how much that rests on each expert, `(n, experts)`."""
        self.module.eval()
        named, weights = [], []
        for start in range(0, len(pixels), _AT_ONCE):
            seen = self.net.observe(to_signal(torch.from_numpy(pixels[start : start + _AT_ONCE])))
            named.append(self.net.fusion(seen).argmax(1).numpy())
            weights.append(self.net.fusion.weights(seen).numpy())
        if not named:
            return np.zeros(0, np.int64), np.zeros((0, len(self.net.experts)), np.float32)
        return np.concatenate(named), np.concatenate(weights)


def put_in(learner: FusedLearner, experts: Sequence[FrozenExpert]) -> None:
    """Put `experts` into `learner`; its trained heads stay what they are.

    Raises:
        ValueError: if their words or shapes are not those of its config.
    """
    if tuple(e.label_map for e in experts) != learner.net.fusion.maps:
        raise ValueError("these experts have other words than the fusion, or come in another order")
    found: arrays.Arrays = {}
    for k, expert in enumerate(experts):
        found |= {f"experts.{k}.{n}": a for n, a in expert.arrays.items()}
        found |= {f"fusion.heads.{k}_{k}.{n}": expert.arrays[HEAD + n] for n in ("weight", "bias")}
        found |= {f"mean_{k}": expert.mean, f"spread_{k}": expert.spread}
    arrays.load_frozen(learner.module, found)
