"""A learned public embedding with two heads: one knows a person again, one knows a picture again.

Learned from phantoms alone (`privacy.identity_training`, `pericard prior identity`), so it costs no privacy, and
reported beside the hand-made embedding, which it does not replace (`benchmarks/reidentification.py`). After Packhaeuser
et al. 2022 (arXiv:2103.08562) and LCMem (Dombrowski et al. 2025, arXiv:2512.14421): the two tasks differ, and what is
good at one is poor at the other.

Every picture is resized, cleared of what was written beside its sector and normalised by itself, and goes through the
network by itself: its embedding is the same bytes whatever else is embedded with it. Embeddings are rounded to 1/2048,
as those of `privacy.embedding` are: products and their sums are exact in float32.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from hashlib import sha256
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from cohorts.frames import resize
from privacy import embedding

if TYPE_CHECKING:
    from torch import Tensor

NAME = "identity"
SIDE, DIMENSION = 64, 96
HEADS = ("identity", "copy")
MEASURES = ("handmade", *HEADS)
CALIBRATED = (*MEASURES, "motion")  # that of `privacy.motion`, for clips
CHANNELS = (2, 24, 48, 64, 64)  # of the picture's two forms, then after each convolution of the trunk
NARROW = 32  # channels of a head on its 4 x 4 grid
RARITIES = (0.0, 0.3, 0.6, 1.0, 1.5, 2.0, 2.5, 3.0, 3.5, 4.0)

_LIT, _PART = 8.0, 0.1  # mean grey of a lit spot; share of the largest lit part below which a part was written
_STEP = np.float32(2048)
_LEAST_CONTRAST = 0.5  # grey values: below it there is nothing to compare

Embedding = NDArray[np.float32]
Weights = Mapping[str, "Tensor"]
Looks = Mapping[str, Embedding]  # by measure


def shapes() -> dict[str, tuple[int, ...]]:
    """Return the name and shape of every weight."""
    layers = {f"trunk.{i}": (b, a, 3, 3) for i, (a, b) in enumerate(pairwise(CHANNELS))}
    layers |= {f"{head}.narrow": (NARROW, CHANNELS[-1], 3, 3) for head in HEADS}
    found: dict[str, tuple[int, ...]] = {}
    for name, shape in layers.items():
        found |= {f"{name}.weight": shape, f"{name}.gain": shape[:1], f"{name}.shift": shape[:1]}
    return found | {f"{head}.out": (DIMENSION, NARROW * 16) for head in HEADS}


def trunk(weights: Weights, pictures: "Tensor") -> "Tensor":
    """Return what both heads look at, `(n, c, 8, 8)`, of pictures `(n, 1, SIDE, SIDE)` in [0, 1]."""
    x = _forms(pictures)
    for i in range(3):
        x = _layer(weights, f"trunk.{i}", x, stride=2)
    return x + _layer(weights, "trunk.3", x, stride=1)


def seen(weights: Weights, features: "Tensor", head: str) -> "Tensor":
    """Return unit vectors `(n, DIMENSION)` of what `trunk` found, as one of `HEADS` sees it."""
    import torch.nn.functional as F

    narrow = _layer(weights, f"{head}.narrow", features, stride=2)
    return F.normalize(narrow.flatten(1) @ weights[f"{head}.out"].T, dim=1)


def _layer(weights: Weights, name: str, x: "Tensor", *, stride: int) -> "Tensor":
    import torch.nn.functional as F

    x = F.conv2d(x, weights[f"{name}.weight"], stride=stride, padding=1)
    return F.silu(F.group_norm(x, x.shape[1] // 8, weights[f"{name}.gain"], weights[f"{name}.shift"]))


def _forms(pictures: "Tensor") -> "Tensor":
    """Return each picture in two forms, `(n, 2, h, w)`: standardised, and its detail over its local contrast."""
    import torch
    import torch.nn.functional as F

    at = torch.arange(-6, 7, dtype=torch.float32)
    bell = torch.exp(-0.5 * (at / 2.5) ** 2)
    bell = bell / bell.sum()

    def blur(x: "Tensor") -> "Tensor":
        x = F.pad(x, (6, 6, 6, 6), mode="reflect")
        return F.conv2d(F.conv2d(x, bell.reshape(1, 1, 1, -1)), bell.reshape(1, 1, -1, 1))

    plain = pictures - pictures.mean((2, 3), keepdim=True)
    plain = plain / (plain.square().mean((2, 3), keepdim=True) + 1e-4).sqrt()
    detail = pictures - blur(pictures)
    return torch.cat([plain, detail / (blur(detail.square()) + 4e-4).sqrt()], 1)


def prepared(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return pictures `(n, height, width)` as the network takes them, `(n, SIDE, SIDE)`, each treated alone.

    What is lit beside the largest lit part and smaller than a tenth of it, or thinner than five pixels, is writing, a
    logo or an ECG, which would name its owner: all beside what the sector spans of each row becomes black. Of an ECG
    that runs along the lower arc itself, a quarter stays.
    """
    if pixels.ndim != 3 or pixels.dtype != np.uint8:
        raise ValueError(f"pixels must be uint8 (n, height, width), not {pixels.dtype} {pixels.shape}")
    small = np.empty((len(pixels), SIDE, SIDE), np.uint8)
    for row, picture in zip(small, pixels, strict=True):
        row[:] = resize(picture, SIDE, nearest=False)
        row[~_sector(row)] = 0
    return small


def _sector(picture: NDArray[np.uint8]) -> NDArray[np.bool_]:
    lit = ndimage.uniform_filter(picture.astype(np.float32), 3) > _LIT
    parts, n = ndimage.label(ndimage.binary_opening(lit, np.ones((5, 5))), np.ones((3, 3)))
    if not n:
        return np.ones(picture.shape, np.bool_)
    areas = np.bincount(parts.ravel(), minlength=n + 1)
    areas[0] = 0
    body = ndimage.binary_dilation(areas[parts] >= max(1, _PART * areas.max()), np.ones((5, 5)))
    after, before = (np.logical_or.accumulate(body[:, ::step], axis=1)[:, ::step] for step in (1, -1))
    return np.asarray(after & before)


@dataclass(frozen=True, slots=True, kw_only=True)
class Recognition:
    """The network with its calibration.

    Attributes:
        weights: of `shapes`.
        calibration: for each of `CALIBRATED`, the similarities `(len(RARITIES),)` that a picture of a stranger of the
            same site, view and phase reaches with the chances 10^-`RARITIES`; on phantoms.
    """

    weights: Weights
    calibration: Mapping[str, NDArray[np.float32]]

    def embed(self, pixels: NDArray[np.uint8], head: str) -> Embedding:
        """Embed pictures `(n, height, width)`: float32 `(n, DIMENSION)`; one without contrast is all zero."""
        if head not in HEADS:
            raise ValueError(f"head={head!r} must be one of {HEADS}")
        return self._embedded(prepared(pixels))[head]

    def look(self, pixels: NDArray[np.uint8]) -> Looks:
        """Return pictures `(n, height, width)` as each of `MEASURES` sees them."""
        return {"handmade": embedding.embed(pixels), **self._embedded(prepared(pixels))}

    def rarity(self, one: Looks, other: Looks) -> NDArray[np.float32]:
        """Return -log10 of how often a stranger's picture would look so alike, to the measure that it says most to.

        What is rarer than calibration could see is extrapolated along the end of its curve: an order, no probability.

        Returns:
            `(n, m)`, at least 0.
        """
        return np.asarray(np.max([self.rarity_by(name, one[name] @ other[name].T) for name in MEASURES], axis=0))

    def rarity_by(self, measure: str, similarity: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return `rarity` of similarities of one of `CALIBRATED`, of any shape."""
        knots = self.calibration[measure].astype(np.float64)
        slope = (RARITIES[-1] - RARITIES[-4]) / max(knots[-1] - knots[-4], 1e-3)
        beyond = np.maximum(similarity - knots[-1], 0) * slope
        return np.asarray(np.interp(similarity, knots, RARITIES) + beyond, np.float32)

    def _embedded(self, small: NDArray[np.uint8]) -> dict[str, Embedding]:
        import torch

        out = {head: np.zeros((len(small), DIMENSION), np.float32) for head in HEADS}
        with torch.inference_mode():
            for i, picture in enumerate(small):
                if picture.std() > _LEAST_CONTRAST:  # one at a time: no kernel is chosen by the size of the batch
                    one = trunk(self.weights, torch.from_numpy(picture.astype(np.float32) / 255)[None, None])
                    for head, rows in out.items():
                        rows[i] = seen(self.weights, one, head)[0].numpy()
        return {head: np.asarray(np.round(rows * _STEP) / _STEP, np.float32) for head, rows in out.items()}


def calibrated(strangers: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float32]]:
    """Return `Recognition.calibration` from similarities of different people, for each of `CALIBRATED`."""
    chances = 1 - 10.0 ** -np.array(RARITIES)
    return {name: np.quantile(strangers[name], chances).astype(np.float32) for name in CALIBRATED}


def shipped(folder: Path | None = None) -> Recognition:
    """Return the public embedding that lies in `folder`: by default among the public priors.

    Raises:
        ValueError: naming the file, where it is missing or is not what its provenance says.
    """
    beside = Path(__file__).parents[1] / "synthesis" / "priors"
    return _read(folder or Path(os.environ.get("PERICARD_PRIORS", beside)))


@lru_cache(maxsize=2)
def _read(folder: Path) -> Recognition:
    from safetensors.torch import load

    path, record = folder / f"{NAME}.safetensors", folder / f"{NAME}.json"
    if not path.is_file() or not record.is_file():
        raise ValueError(f"{path} or {record.name} is missing; make them with: pericard prior {NAME}")
    content, stated = path.read_bytes(), json.loads(record.read_text())["digests"][path.name]
    if (found := sha256(content).hexdigest()) != stated:
        raise ValueError(f"{path} has SHA-256 {found[:12]}, its provenance states {str(stated)[:12]}")
    arrays = {name: tensor.float() for name, tensor in load(content).items()}
    expected = shapes() | {f"calibration.{name}": (len(RARITIES),) for name in CALIBRATED}
    if {name: tuple(a.shape) for name, a in arrays.items()} != expected:
        raise ValueError(f"{path} holds other weights than those of this version")
    return Recognition(
        weights={name: arrays[name] for name in shapes()},
        calibration={name: arrays[f"calibration.{name}"].numpy() for name in CALIBRATED},
    )


def embed_identity(pixels: NDArray[np.uint8]) -> Embedding:
    """Embed pictures `(n, height, width)` so that those of one person are alike: float32 `(n, DIMENSION)`."""
    return shipped().embed(pixels, "identity")


def embed_copy(pixels: NDArray[np.uint8]) -> Embedding:
    """Embed pictures `(n, height, width)` so that copies of one picture are alike: float32 `(n, DIMENSION)`."""
    return shipped().embed(pixels, "copy")
