"""Figures of the report: inline SVG and PNG that depend on nothing but their numbers.

Text stays text (it prints sharply and can be copied), identifiers are unique in the page, and neither a date nor a
random salt goes in: the same numbers draw the same bytes.
"""

import base64
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cohorts.study import ATRIUM, CAVITY, MYOCARDIUM

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

INK, MUTED, HAIRLINE = "#1d2733", "#5d6875", "#dfe4ea"
TONES: Mapping[str, str] = {"release": "#0b6e7f", "real": "#1d2733", "public": "#98a2ae", "alarm": "#b5482a"}
TINTS: Mapping[int, tuple[int, int, int]] = {
    CAVITY: (38, 166, 154),
    MYOCARDIUM: (240, 173, 78),
    ATRIUM: (126, 132, 214),
}
STYLE = {
    "svg.hashsalt": "pericard",
    "svg.fonttype": "none",
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9,
    "text.color": INK,
    "axes.edgecolor": HAIRLINE,
    "axes.labelcolor": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "xtick.color": MUTED,
    "xtick.labelsize": 8,
    "axes.axisbelow": True,
    "grid.color": HAIRLINE,
    "grid.linewidth": 0.8,
}
WIDTH_INCHES, ROW_INCHES = 7.2, 0.3


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One estimate between its bounds, with the words beside it; `tone` is a key of `TONES`."""

    label: str
    value: float
    low: float
    high: float
    tone: str = "release"
    note: str = ""


def forest(groups: Mapping[str, Sequence[Row]], *, axis: str, name: str, zero: bool = False) -> str:
    """Draw estimates with their intervals, one line each, group under group; `zero` marks no difference."""
    lines = sum(len(rows) + 1 for rows in groups.values())
    with _figure(lines, name) as (figure, axes, drawn):
        _heads(axes, groups)
        for y, row in _rows(groups):
            tone = TONES[row.tone]
            axes.plot([row.low, row.high], [y, y], color=tone, linewidth=1.6, solid_capstyle="butt")
            axes.plot([row.value], [y], marker="o" if row.tone != "public" else "D", markersize=5, color=tone)
            axes.annotate(row.note, (1.01, y), xycoords=("axes fraction", "data"), va="center", fontsize=8, color=MUTED)
        axes.locator_params(axis="x", nbins=6)
        if zero:
            axes.axvline(0, color=MUTED, linewidth=0.8)
        axes.set_xlabel(axis)
        axes.grid(axis="x")
        drawn.append(svg(figure, name))
    return drawn[0]


def bars(rows: Sequence[Row], *, axis: str, name: str) -> str:
    """Draw shares in [0, 1] as bars with their intervals."""
    groups = {"": rows}
    with _figure(len(rows) + 0.6, name) as (figure, axes, drawn):
        for y, row in _rows(groups):
            axes.barh(y, row.value, height=0.56, color=TONES[row.tone], alpha=0.9)
            axes.plot([row.low, row.high], [y, y], color=INK, linewidth=1.1)
            axes.annotate(row.note, (1.01, y), xycoords=("axes fraction", "data"), va="center", fontsize=8, color=MUTED)
        _heads(axes, groups)
        axes.set_xlim(0, max(0.05, min(1.0, 1.08 * max(row.high for row in rows))))
        axes.xaxis.set_major_formatter(lambda share, _: f"{100 * share:g} %")
        axes.set_xlabel(axis)
        axes.grid(axis="x")
        drawn.append(svg(figure, name))
    return drawn[0]


def sheet(pixels: NDArray[np.uint8], masks: NDArray[np.uint8] | None = None) -> str:
    """Lay frames side by side, each with its outlined structures tinted below it; return a `data:` address.

    Args:
        pixels: grey values, `(n, height, width)`.
        masks: labels of `Clip.masks`, the same shape, or `None` for a single row.
    """
    if pixels.ndim != 3 or pixels.dtype != np.uint8 or not len(pixels):
        raise ValueError(f"pixels must be uint8 (n, height, width) with n > 0, not {pixels.dtype} {pixels.shape}")
    if masks is not None and masks.shape != pixels.shape:
        raise ValueError(f"masks have shape {masks.shape}, the pixels {pixels.shape}")
    grey = np.repeat(pixels[..., None], 3, axis=-1)
    rows = [grey] if masks is None else [grey, _tinted(grey, masks)]
    return _png(np.concatenate([_strip(frames) for frames in rows]))


def film(clips: NDArray[np.uint8], frames: int = 8) -> str:
    """Lay `frames` moments of every clip side by side, evenly spread over it, clip below clip; a `data:` address.

    Args:
        clips: grey values, `(n, frames, height, width)`.
        frames: how many moments of each.
    """
    if clips.ndim != 4 or clips.dtype != np.uint8 or not clips.size:
        raise ValueError(f"clips must be uint8 (n, frames, height, width), not {clips.dtype} {clips.shape}")
    at = np.unique(np.arange(frames) * clips.shape[1] // frames)
    grey = np.repeat(clips[:, at, ..., None], 3, axis=-1)
    return _png(np.concatenate([_strip(clip) for clip in grey]))


def _tinted(grey: NDArray[np.uint8], masks: NDArray[np.uint8]) -> NDArray[np.uint8]:
    tinted = grey.astype(np.float32)
    for label, tint in TINTS.items():
        tinted[masks == label] = 0.55 * tinted[masks == label] + 0.45 * np.array(tint, np.float32)
    return tinted.round().astype(np.uint8)


def _strip(frames: NDArray[np.uint8]) -> NDArray[np.uint8]:
    gap = max(1, frames.shape[2] // 32)
    padded = [np.pad(frame, ((0, gap), (0, gap), (0, 0)), constant_values=255) for frame in frames]
    return np.concatenate(padded, axis=1)[:, :-gap]


def _png(image: NDArray[np.uint8]) -> str:
    out = io.BytesIO()
    Image.fromarray(image).save(out, "PNG", optimize=True)
    return "data:image/png;base64," + base64.b64encode(out.getvalue()).decode()


def _rows(groups: Mapping[str, Sequence[Row]]) -> Iterator[tuple[float, Row]]:
    """Yield every row with its height on the axis, leaving a line for the head of each group."""
    y = 0.0
    for head, rows in groups.items():
        y -= 1.0 if head else 0.0
        for row in rows:
            yield y, row
            y -= 1.0


def _heads(axes: "Axes", groups: Mapping[str, Sequence[Row]]) -> None:
    placed = list(_rows(groups))
    axes.set_yticks([])
    for y, row in placed:
        axes.annotate(row.label, (0.012, y), xycoords=("figure fraction", "data"), va="center")
    top = 0.0
    for head, rows in groups.items():
        if head:
            axes.annotate(head, (0, top), xycoords=("figure fraction", "data"), va="center", weight="bold")
        top -= len(rows) + (1.0 if head else 0.0)
    axes.set_ylim(top + 0.4, 0.6)


@contextmanager
def _figure(lines: float, name: str) -> Iterator[tuple["Figure", "Axes", list[str]]]:
    if not re.fullmatch(r"[a-z][a-z0-9-]*", name):
        raise ValueError(f"name={name!r} must be lower-case letters, digits and hyphens: it becomes an id of the page")
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context(STYLE):  # type: ignore[arg-type]
        figure = Figure(figsize=(WIDTH_INCHES, ROW_INCHES * lines + 0.55))
        axes = figure.subplots()
        figure.subplots_adjust(
            left=0.36, right=0.76, top=1 - 0.06 / figure.get_figheight(), bottom=0.46 / figure.get_figheight()
        )
        yield figure, axes, []


def svg(figure: Any, name: str) -> str:
    """Return a figure as SVG whose identifiers carry `name`, so that several fit on one page."""
    out = io.StringIO()
    figure.savefig(
        out, format="svg", metadata={"Date": None, "Creator": None, "Format": None, "Type": None}, transparent=True
    )
    text = out.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r'\bid="', f'id="{name}-', text)
    text = re.sub(r"url\(#", f"url(#{name}-", text)
    text = re.sub(r'href="#', f'href="#{name}-', text)
    return text.strip()
