"""`pericard cohort rehearse`: members, controls and a release of simulated people, to try an audit on."""

import csv
from pathlib import Path
from typing import TYPE_CHECKING

from pericard.errors import Exit

if TYPE_CHECKING:
    import numpy as np

    from cohorts.frames import Frames

SIDE = 64
COPY_LEVEL = 1


def command(out: Path, *, people: int, copies: float, seed: int) -> int:
    """Write OUT/members, OUT/controls and OUT/release, each a labels.csv with PNG beside it.

    Fair coins tell members from controls. The release shows as many other people as there are members, which is what
    an honest generator could do at best, and altered copies of the share `copies` of the members.

    Raises:
        UsageError: `out` is in use.
    """
    import numpy as np

    from cohorts.phantom.simulate import stills
    from conf.compose import UsageError
    from privacy.planted import altered_copy

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"--out {out} is in use")
    rng = np.random.default_rng(seed)
    drawn = stills(people + people // 2, seed=seed + 1, size=SIDE, style="site-a")
    candidates, others = drawn.subjects[:people], drawn.subjects[people:]
    heads = rng.random(people) < 0.5
    members, controls = ([s for s, h in zip(candidates, heads, strict=True) if h == side] for side in (True, False))
    trained = drawn.select(members)
    _write(out / "members", trained, "person", range(len(members)))
    _write(out / "controls", drawn.select(controls), "person", range(len(members), people))
    released = drawn.select(others)
    copied = rng.choice(len(members), round(copies * len(members)), replace=False)
    rows = [int(rng.choice(np.flatnonzero(trained.subject == k))) for k in copied]
    pictures = [altered_copy(trained.pixels[row], level=COPY_LEVEL, rng=rng) for row in rows]
    _write(out / "release", released, "sample", range(len(others)), pictures)
    return Exit.PASS


def _write(
    folder: Path, frames: "Frames", word: str, numbers: range, more: "list[np.ndarray] | tuple[()]" = ()
) -> None:
    from PIL import Image

    from cohorts.frames import PHASES, VIEWS

    (folder / "images").mkdir(parents=True)
    with (folder / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["patient", "view", "phase", "image", "ef_reported"])
        for k, pixels in enumerate(frames.pixels):
            Image.fromarray(pixels).save(folder / "images" / f"{k:05d}.png")
            who = numbers[int(frames.subject[k])]
            view, phase = VIEWS[frames.view[k]].value, PHASES[frames.phase[k]]
            rows.writerow([f"{word}{who}", view, phase, f"images/{k:05d}.png", f"{frames.lvef_percent[k]:.1f}"])
        for k, pixels in enumerate(more, len(frames.pixels)):
            Image.fromarray(pixels).save(folder / "images" / f"{k:05d}.png")
            rows.writerow([f"{word}{numbers.stop + k}", "", "", f"images/{k:05d}.png", ""])
