"""Expert: a residual network that names what one site tells apart, and shows what it saw on the way."""

import re
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from cohorts.frames import Frames
from learning.augment import appearance, place
from learning.blocks import norm, to_signal
from learning.learners import LEARNERS


@LEARNERS("expert")
@dataclass(frozen=True, slots=True, kw_only=True)
class Expert:
    """Config of a residual network for small pictures (He et al. 2016, arXiv:1512.03385, section 4.2).

    `Expert(width=64, stages=4, blocks=2, stride=1)` has the 17 convolutions of the experts of Bransby et al. 2024
    (arXiv:2407.21577), with GroupNorm where they have batch statistics, which would mix patients, and no dropout.

    Attributes:
        classes: how many names the site has, the outputs of the head.
        width: channels of the first stage; each later one has twice as many.
        stages: number of resolutions.
        blocks: residual blocks a stage.
        stride: of the first convolution; 2 costs a quarter.
        places: what each output stands for among the classes that `frames.view` counts, where those are shared by all
            sites; empty where `frames.view` counts the site's own names.
        tune: regular expression of the parameter names that are trained; "." trains all.
    """

    classes: int = 4
    width: int = 8
    stages: int = 4
    blocks: int = 1
    stride: int = 2
    places: tuple[int, ...] = ()
    tune: str = "."

    def __post_init__(self) -> None:
        object.__setattr__(self, "places", tuple(self.places))
        for name in ("classes", "width", "stages", "blocks", "stride"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}={getattr(self, name)} must be at least 1")
        if self.places and not len(set(self.places)) == len(self.places) == self.classes:
            raise ValueError(
                f"places={list(self.places)} must be {self.classes} different classes, one for each output"
            )
        if min(self.places, default=0) < 0:
            raise ValueError(f"places={list(self.places)} must count from 0")

    @property
    def n_features(self) -> int:
        """Return the length of the pooled features."""
        return int(self.width * 2 ** (self.stages - 1))

    def build(self) -> "ExpertLearner":
        """Return the learner with random weights."""
        return ExpertLearner(self)


class Block(nn.Module):
    """Two 3x3 convolutions around a shortcut, the first with a stride."""

    def __init__(self, inner: int, outer: int, stride: int) -> None:
        super().__init__()
        self.conv1, self.norm1 = nn.Conv2d(inner, outer, 3, stride=stride, padding=1, bias=False), norm(outer)
        self.conv2, self.norm2 = nn.Conv2d(outer, outer, 3, padding=1, bias=False), norm(outer)
        same = inner == outer and stride == 1
        self.shortcut = nn.Identity() if same else nn.Conv2d(inner, outer, 1, stride=stride, bias=False)

    def forward(self, x: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Return the output and what both convolutions gave, before it was normalised."""
        first = self.conv1(x)
        second = self.conv2(F.relu(self.norm1(first)))
        return F.relu(self.shortcut(x) + self.norm2(second)), (first, second)


class ResidualNet(nn.Module):
    """Stem, stages of `Block`s, average over space, linear head."""

    def __init__(self, config: Expert) -> None:
        super().__init__()
        widths = [config.width * 2**i for i in range(config.stages)]
        self.stem, self.norm = nn.Conv2d(1, widths[0], 3, stride=config.stride, padding=1, bias=False), norm(widths[0])
        shapes = [
            (widths[max(i - 1, 0)] if j == 0 else widths[i], widths[i], 2 if i > 0 and j == 0 else 1)
            for i in range(config.stages)
            for j in range(config.blocks)
        ]
        self.blocks = nn.ModuleList(Block(*shape) for shape in shapes)
        self.head = nn.Linear(widths[-1], config.classes)

    def observe(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return pooled features `(n, d)` and the mean of every channel of every 3x3 convolution, `(n, channels)`."""
        h = self.stem(x)
        outputs = [h]
        h = F.relu(self.norm(h))
        for block in self.blocks:
            h, inside = block(h)
            outputs += inside
        return h.mean((2, 3)), torch.cat([o.mean((2, 3)) for o in outputs], 1)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits `(n, classes)` of images `(n, 1, h, w)`."""
        y: Tensor = self.head(self.observe(x)[0])
        return y


class ExpertLearner:
    """A `ResidualNet` under the cross entropy of each row alone."""

    def __init__(self, config: Expert) -> None:
        self.config = config
        self.net = ResidualNet(config)
        self.module: nn.Module = self.net
        for name, parameter in self.net.named_parameters():
            parameter.requires_grad_(re.search(config.tune, name) is not None)

    def losses(self, frames: Frames, rows: NDArray[np.int64], *, generator: torch.Generator) -> Tensor:
        """Return the cross entropy of each row; -1, and what the site has no name for, is worth nothing."""
        x = to_signal(torch.from_numpy(frames.pixels[rows]))
        x, _ = place(x, torch.zeros((len(x), *x.shape[2:]), dtype=torch.uint8), generator=generator)
        logits = self.module(appearance(x, generator=generator))
        named = torch.from_numpy(self._named(frames.view[rows]))
        return F.cross_entropy(logits, named, reduction="none", ignore_index=-1)

    @torch.inference_mode()
    def predict(self, pixels: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return probabilities over the site's own names, `(n, classes)`, of uint8 images `(n, h, w)`."""
        self.module.eval()
        parts = [
            self.module(to_signal(torch.from_numpy(pixels[i : i + 256]))).softmax(1).numpy()
            for i in range(0, len(pixels), 256)
        ]
        return np.concatenate(parts) if parts else np.zeros((0, self.config.classes), np.float32)

    def _named(self, view: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return which output names each row, -1 for none."""
        if not self.config.places:
            return view
        own = np.full(max(*self.config.places, int(view.max(initial=0))) + 2, -1, np.int64)
        own[list(self.config.places)] = np.arange(self.config.classes)
        return own[view]  # -1 reads the last, which no place reaches
