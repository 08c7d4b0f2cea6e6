"""Does a picture that is shown beat as it is asked? The latent video EDM beside the phantom's own counterfactuals.

A phantom at end diastole looks the same whatever it is going to eject, so of every heart its film at any ejection
fraction is known. "Reconstruction" asks for the fraction of the source, "generation" for another, evenly over 15 to 75
percent, in A2C and A4C, with no mask and one draw a request (EchoDiffusion, Reynaud et al. 2023, arXiv 2303.12644, kept
the best of three). What was drawn is measured by `benchmarks.instrument`, whose own error on phantoms is the first row,
and compared with the film that the phantom would have made (SSIM, Wang et al. 2004): obedience and likeness can
disagree, so both stand in every row. Seeds are not those of the prior.

python -m benchmarks.animate [--write] [--hearts 12] [--strip FILE]
"""

import argparse
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from monai.metrics.regression import SSIMMetric
from numpy.typing import NDArray
from PIL import Image

from benchmarks import instrument
from benchmarks.results import table, write
from cohorts.clips import Clips, films
from cohorts.study import UNLABELLED
from learning.blocks import to_pixels, to_signal
from synthesis.generators.latent_video_edm import LatentVideoEdm
from synthesis.generators.latent_video_flow import LatentVideoFlow

SEED, FRAMES = 977, 16
SIZE = LatentVideoEdm().size
AIM_R, AIM_POINTS, AIM_SMALL = 0.9, 5.0, 0.8
Pixels = NDArray[np.uint8]


def asked_otherwise(source: Clips) -> Clips:
    """Return the films of the same people had they ejected another fraction of those in `source`."""
    hearts = len(source) // 2
    rank = np.argsort(np.argsort(source.lvef_percent[::2]))
    wanted = np.sort(source.lvef_percent[::2])[(rank + hearts // 2) % hearts]
    made = films(hearts, phase=source.phase[::2].astype(np.float64), seed=SEED, size=SIZE, lvef_percent=wanted)
    if not np.array_equal(made.pixels[:, 0], source.pixels[:, 0]):
        raise ValueError("phantoms of other fractions must begin alike")
    return made


def rebuilt(clips: Clips, *, outlined: bool) -> Pixels:
    """Return the pictures of `clips` after the public autoencoder, whose decoder is told their masks or none."""
    autoencoder = LatentVideoEdm().build().autoencoder
    pixels = torch.from_numpy(clips.pixels.reshape(-1, SIZE, SIZE))
    masks = torch.from_numpy(clips.masks.reshape(-1, SIZE, SIZE))
    masks = masks if outlined else torch.full_like(masks, UNLABELLED)
    noise = torch.randn((len(pixels), 1, SIZE, SIZE), generator=torch.Generator().manual_seed(SEED))
    with torch.inference_mode():
        parts = [
            to_pixels(autoencoder.decode(autoencoder.encode(to_signal(x)), m, e))
            for x, m, e in zip(*(torch.split(a, 64) for a in (pixels, masks, noise)), strict=True)
        ]
    return torch.cat(parts).numpy().reshape(clips.pixels.shape)


def likeness(drawn: Pixels, truth: Pixels) -> float:
    """Return the mean structural similarity of frames, 1 where they are the same."""
    a, b = (torch.from_numpy(x.reshape(-1, 1, SIZE, SIZE)).float() / 255 for x in (drawn, truth))
    return float(SSIMMetric(spatial_dims=2, data_range=1.0)(a, b).mean())


def alike(drawn: Pixels, shown: Pixels) -> tuple[float, float]:
    """Return the correlation of frames with the pictures that were shown, one's own and those of others of the view."""
    own, others = [], []
    for view in (0, 1):
        a, b = (x[view::2].reshape(len(x[view::2]), -1).astype(np.float64) for x in (drawn, shown))
        r = np.corrcoef(a, b)[: len(a), len(a) :]
        own.append(np.diag(r).mean())
        others.append(r[~np.eye(len(r), dtype=bool)].mean())
    return float(np.mean(own)), float(np.mean(others))


def row(name: str, drawn: Pixels, wanted: Clips, frame: int = 0) -> list[object]:
    """Return obedience to the fractions of `wanted` and likeness to its films and to its picture at `frame`."""
    ejected = wanted.lvef_percent[::2].astype(np.float64)
    return [
        name,
        *instrument.agreement(instrument.measured(drawn, wanted), ejected),
        likeness(drawn, wanted.pixels),
        *alike(drawn[:, frame], wanted.pixels[:, frame]),
    ]


def main() -> None:
    """Measure, and print or write the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--write", action="store_true", help="write the section of RESULTS.md")
    parser.add_argument("--hearts", type=int, default=12)
    parser.add_argument("--strip", type=Path, help="where to draw a film strip")
    given = parser.parse_args()
    source = instrument.hearts(given.hearts, seed=SEED, size=SIZE, frames=FRAMES)
    wanted, systole = asked_otherwise(source), instrument.systolic_frame(FRAMES)
    diastolic = wanted.pixels[:, 0]

    def drawn(told: Clips, first: Pixels | None = diastolic, at: int = 0, **settings: float) -> Pixels:
        blind = replace(told, masks=np.full_like(told.masks, UNLABELLED), pixels=np.zeros_like(told.pixels))
        generator = LatentVideoEdm(**settings).build()  # type: ignore[arg-type]
        return generator.sample(blind, seed=SEED, first=first, first_phase=told.phase[:, at])

    unknown = replace(wanted, lvef_percent=np.full_like(wanted.lvef_percent, np.nan))
    blind = replace(wanted, masks=np.full_like(wanted.masks, UNLABELLED))
    shown = {
        "reconstruction, end diastole shown": (partial(drawn, source), source, 0),
        "generation, end diastole shown": (partial(drawn, wanted), wanted, 0),
        "generation, end systole shown": (partial(drawn, wanted, wanted.pixels[:, systole], systole), wanted, systole),
        "picture shown, fraction unknown": (partial(drawn, unknown), wanted, 0),
        "generation, guidance 2": (partial(drawn, wanted, guidance=2.0), wanted, 0),
        "latent video flow, end diastole shown, no mask": (
            lambda: LatentVideoFlow().build().sample(blind, seed=SEED, first=diastolic), wanted, 0
        ),
    }  # fmt: skip
    rows = [
        row("phantoms of the requests", wanted.pixels, wanted),
        row("phantoms of the source", source.pixels, wanted),
        row("rebuilt, decoder told masks", rebuilt(wanted, outlined=True), wanted),
        row("rebuilt, decoder told no mask", rebuilt(wanted, outlined=False), wanted),
    ]
    kept: dict[str, Pixels] = {}
    for name, (draw, truth, frame) in shown.items():
        kept[name] = draw()
        rows.append(row(name, kept[name], truth, frame))
    head = ["clips", "r", "MAE, points", "bias, points", "hearts", "SSIM", "r with the picture", "with others'"]
    text = (
        table(head, rows)
        + f"\n\nOne draw a request. Aims: r ≥ {AIM_R:g} and MAE ≤ {AIM_POINTS:g} points for video; r ≥ {AIM_SMALL:g} at"
        + f" {SIZE} px is what CI asks. SSIM is with the film that the phantom makes at the fraction asked for."
    )
    if given.strip:
        strip(
            given.strip,
            source,
            wanted,
            kept["reconstruction, end diastole shown"],
            kept["generation, end diastole shown"],
        )
    if given.write:
        write("A picture that beats", "python -m benchmarks.animate --write", text)
    else:
        print(text)


def strip(path: Path, source: Clips, wanted: Clips, again: Pixels, otherwise: Pixels) -> None:
    """Draw every second frame of two hearts: the source and its reconstruction, the counterfactual and its drawing."""
    lines = [
        np.concatenate(list(c[k, ::2]), 1) for k in (0, 3) for c in (source.pixels, again, wanted.pixels, otherwise)
    ]
    Image.fromarray(np.concatenate(lines)).save(path)


if __name__ == "__main__":
    main()
