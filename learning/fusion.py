"""Weighted score fusion: experts are heard in every site's words, and each prediction says whom it rests on.

Of each expert i and each site j a linear head turns the features of i into the words of j: `z_j = sum_i A_i W_ji h_i`
(Bransby et al. 2024, arXiv:2407.21577). W_jj is expert j's own frozen head; the others, and the weights A, are learnt.
Three things differ from that paper: the learnt heads start at zero, so that fusion starts from pooled logits; the
discrepancy is in units of the expert's own spread and bounded; and features stay at the site that owns the pictures.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from cohorts.frames import Frames
from cohorts.study import UNLABELLED
from learning import arrays
from learning.augment import appearance, place
from learning.blocks import to_pixels, to_signal
from learning.experts import HEAD, ByProducts, FrozenExpert, observe
from learning.learner import fit
from learning.ontology import SiteLabelMap, pool

_FAR = 5.0  # spreads: further away is foreign, however far


class Attention(StrEnum):
    """From what the weights of the experts are told."""

    NOTHING = "nothing"  # score fusion: every expert counts alike
    FEATURES = "features"
    DISCREPANCY = "discrepancy"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fusion:
    """Config of the fusion of some experts.

    Attributes:
        attention: from what the weights are told.
        hidden: widths of the network that tells them.
    """

    attention: Attention = Attention.DISCREPANCY
    hidden: tuple[int, ...] = (64, 16)

    def build(self, experts: Sequence[FrozenExpert]) -> "FusionNet":
        """Return the heads of `experts`, in their order."""
        return FusionNet(self, experts)


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteFrames:
    """Pictures of a site and what the experts see in them: neither leaves it.

    Attributes:
        frames: whose `view` counts the classes of the ontology.
        seen: of the same pictures in the same order.
    """

    frames: Frames
    seen: ByProducts


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a picture was taken for, and on whom that rests.

    Attributes:
        name: the class.
        weights: of each site's expert; they sum to 1.
    """

    name: str
    weights: Mapping[str, float]

    def __str__(self) -> str:
        site = max(self.weights, key=lambda s: self.weights[s])
        return f"{self.name}, decided {self.weights[site]:.2f} by the expert of {site}"


class FusionNet(nn.Module):
    """The heads between K experts and the network of their weights; the experts themselves are no part of it."""

    def __init__(self, config: Fusion, experts: Sequence[FrozenExpert]) -> None:
        super().__init__()
        self.attention = config.attention
        self.maps: tuple[SiteLabelMap, ...] = tuple(e.label_map for e in experts)
        self.heads = nn.ModuleDict()
        for j, into in enumerate(experts):
            for i, of in enumerate(experts):
                head = nn.Linear(of.config.n_features, into.config.classes)
                if i == j:
                    arrays.load_state(head, {n: into.arrays[HEAD + n] for n in ("weight", "bias")})
                else:
                    nn.init.zeros_(head.weight)
                    nn.init.zeros_(head.bias)
                self.heads[f"{j}_{i}"] = head.requires_grad_(i != j)
        n_inputs = {
            Attention.NOTHING: 0,
            Attention.FEATURES: sum(e.config.n_features for e in experts),
            Attention.DISCREPANCY: sum(len(e.mean) for e in experts),
        }[config.attention]
        widths = [n_inputs, *config.hidden, len(experts)] if n_inputs else []
        layers: list[nn.Module] = []
        for inner, outer in pairwise(widths):
            layers += [nn.Linear(inner, outer), nn.ReLU()]
        self.weigh = nn.Sequential(*layers[:-1])

    def weights(self, seen: ByProducts) -> Tensor:
        """Return A, `(n, K)`: how much of each prediction rests on each expert; rows sum to 1.

        Without attention each expert weighs 1/K, by which all scores are alike divided: the scores themselves are sums.
        """
        k = len(self.maps)
        if self.attention is Attention.NOTHING:
            return torch.full((len(seen), k), 1 / k)
        if self.attention is Attention.FEATURES:
            told = torch.cat(seen.features, 1)
        else:
            told = torch.cat([d.clamp(-_FAR, _FAR) / _FAR for d in seen.discrepancy], 1)
        a: Tensor = self.weigh(told).softmax(1)
        return a

    def scores(self, seen: ByProducts) -> list[Tensor]:
        """Return the scores for the words of each site, `(n, its labels)` each."""
        a = self.weights(seen)
        factors = torch.ones_like(a) if self.attention is Attention.NOTHING else a
        everyone = range(len(self.maps))
        return [
            torch.stack([factors[:, i : i + 1] * self.heads[f"{j}_{i}"](seen.features[i]) for i in everyone]).sum(0)
            for j in everyone
        ]

    def forward(self, seen: ByProducts) -> Tensor:
        """Return the pooled scores `(n, classes)`, -inf for what nobody has a word for."""
        return pool(self.scores(seen), self.maps)


class SiteFusion:
    """Fusion as one site trains it: a learner that knows what the experts see in this site's own pictures.

    `frames.view` counts the classes of the ontology. What is nobody's word, or -1, is worth nothing.
    """

    def __init__(self, net: FusionNet, seen: ByProducts) -> None:
        self.net, self.seen = net, seen
        self.module: nn.Module = net

    def losses(self, frames: Frames, rows: NDArray[np.int64], *, generator: torch.Generator) -> Tensor:
        """Return the cross entropy of each row; nothing is drawn from `generator`."""
        if len(frames) != len(self.seen):
            raise ValueError(f"{len(self.seen)} pictures were seen, not the {len(frames)} of these frames")
        n_classes = len(self.net.maps[0].ontology.names)
        named = np.isin(np.arange(n_classes), np.concatenate([m.indices for m in self.net.maps]))
        view = frames.view[rows]
        wanted = torch.from_numpy(np.where((view >= 0) & named[view], view, -1))
        return F.cross_entropy(self.module(self.seen.rows(rows)), wanted, reduction="none", ignore_index=-1)


def augmented(frames: Frames, passes: int, *, generator: torch.Generator) -> Frames:
    """Return `frames` and `passes` more copies, each varied as experts were trained; a copy is its subject's."""
    x, blank = to_signal(torch.from_numpy(frames.pixels)), torch.zeros(frames.pixels.shape, dtype=torch.uint8)
    varied = [
        to_pixels(appearance(place(x, blank, generator=generator)[0], generator=generator)).numpy()
        for _ in range(passes)
    ]
    times = passes + 1
    return Frames(
        pixels=np.concatenate([frames.pixels, *varied]),
        masks=np.full((times * len(frames), *frames.masks.shape[1:]), UNLABELLED, np.uint8),
        view=np.tile(frames.view, times),
        phase=np.tile(frames.phase, times),
        lvef_percent=np.tile(frames.lvef_percent, times),
        subject=np.tile(frames.subject, times),
        subjects=frames.subjects,
    )


def federate(
    net: FusionNet,
    sites: Mapping[str, SiteFrames],
    *,
    rounds: int,
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
) -> int:
    """Train `net` in place by federation, features kept local.

    Each round every site sends the mean gradient of `steps` batches of what the experts saw in its own pictures; they
    are averaged, every site alike, whatever it owns, and the common heads take one step of Adam, whose memory stays
    with them (federated SGD, McMahan et al. 2017, arXiv:1602.05629; adaptive server steps, Reddi et al. 2021,
    arXiv:2003.00295). No site walks off alone, for none has every class.

    Args:
        net: the fusion of the experts that every site ran.
        sites: what each site has.
        rounds: of averaging; the step length falls to zero over them by a cosine.
        steps: batches of each site in each round.
        batch_size: rows a batch.
        learning_rate: of the first round.
        seed: of the rows that are drawn.

    Returns:
        How many bytes moved: heads to the sites, gradients back.
    """
    if not sites:
        raise ValueError("there is no site")
    parameters = [p for p in net.parameters() if p.requires_grad]
    if not parameters:
        return 0
    optimiser = torch.optim.Adam(parameters, lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, rounds)
    net.train()
    for turn in range(rounds):
        optimiser.zero_grad(set_to_none=True)
        for k, (_, own) in enumerate(sorted(sites.items())):
            dice = np.random.default_rng((seed, turn, k))
            learner, blank = SiteFusion(net, own.seen), torch.Generator()  # nothing is drawn from it
            for _ in range(steps):
                rows = dice.integers(0, len(own.frames), batch_size)
                loss = learner.losses(own.frames, rows, generator=blank).mean()
                (loss / (steps * len(sites))).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    net.eval()
    return 2 * rounds * len(sites) * sum(4 * p.numel() for p in parameters)


def fit_released(
    net: FusionNet,
    experts: Sequence[FrozenExpert],
    released: Frames,
    *,
    steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
) -> None:
    """Train `net` in place on pictures that anyone may see, such as a synthetic release: no patient is touched."""
    if arrays.trainable(net):
        own = SiteFusion(net, observe(experts, released.pixels))
        fit(own, released, steps=steps, batch_size=batch_size, learning_rate=learning_rate, seed=seed)


@torch.no_grad()
def decide(net: FusionNet, seen: ByProducts) -> list[Decision]:
    """Return for each picture the class, and by whose expert it was decided."""
    if not len(seen):
        return []
    weights, best = net.weights(seen), net(seen).argmax(1)
    names = net.maps[0].ontology.names
    return [
        Decision(name=names[int(c)], weights={m.site: float(w) for m, w in zip(net.maps, row, strict=True)})
        for c, row in zip(best, weights, strict=True)
    ]
