"""A contact sheet: small pictures of as many clips as fit, taken evenly, and how the numbers of a cohort are spread."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from cohorts.survey import Seen

ROWS, COLUMNS = 6, 10


def draw(seen: Sequence[Seen], path: Path) -> None:
    """Write a PNG of up to 60 thumbnails above histograms of ejection fraction, frames and pixel size.

    Raises:
        ValueError: there is no clip to draw.
    """
    if not seen:
        raise ValueError("there is no clip to draw")
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    chosen = [seen[i] for i in np.unique(np.linspace(0, len(seen) - 1, min(ROWS * COLUMNS, len(seen))).astype(int))]
    rows = -(-len(chosen) // COLUMNS)
    figure = plt.figure(figsize=(COLUMNS, rows + 2.2), dpi=110, facecolor="white")
    grid = figure.add_gridspec(
        rows + 2, COLUMNS, hspace=0.35, wspace=0.05, left=0.02, right=0.98, top=0.97, bottom=0.06
    )
    for k, clip in enumerate(chosen):
        axes = figure.add_subplot(grid[k // COLUMNS, k % COLUMNS])
        axes.imshow(clip.thumb, cmap="gray", vmin=0, vmax=255)
        axes.set_title(clip.view.value if clip.view else "view?", fontsize=6, pad=1.5)
        axes.set_axis_off()
    fractions = {
        c.source.study: float(c.source.labels["lvef_percent"]) for c in seen if "lvef_percent" in c.source.labels
    }
    panels: tuple[tuple[str, list[float]], ...] = (
        ("ejection fraction, %", list(fractions.values())),
        ("frames of a clip", [clip.shape[0] for clip in seen]),
        ("height of a pixel, mm", [clip.pixel_mm[0] for clip in seen if clip.pixel_mm]),
    )
    for at, (title, values) in zip(((0, 3), (4, 6), (7, 10)), panels, strict=True):
        axes = figure.add_subplot(grid[rows:, at[0] : at[1]])
        axes.set_title(title if values else f"{title}: not known", fontsize=7)
        axes.tick_params(labelsize=6)
        for side in ("top", "right", "left"):
            axes.spines[side].set_visible(False)
        axes.set_yticks([])
        if values:
            axes.hist(values, bins=20, color="#5b7a9a")
        else:
            axes.set_xticks([])
    figure.savefig(path)
    plt.close(figure)
