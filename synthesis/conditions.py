"""What a generator is asked for, in a campaign and by `pericard sample` alike.

Ejection fractions are spread evenly, so that what a label says is what was asked (`synthesis.shape`). Shapes are public
and cost no privacy; or public hearts, chosen by what hospitals said and paid for (`synthesis.likeness`).
"""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from cohorts.clips import Clips, films, stills
from cohorts.frames import PHASES, VIEWS, Frames
from cohorts.phantom import motion, simulate
from cohorts.study import UNLABELLED
from conf.schema import Classes
from synthesis import likeness, shape


def conditions(
    classes: Classes,
    n: int,
    *,
    seed: int,
    size: int,
    first: int = 0,
    pictures: bool = False,
    like: likeness.Likeness | None = None,
) -> Frames:
    """Return `n` synthetic subjects of every released class: shapes of views; of anything else, no shape.

    Subject `first + k` depends on the seed and that number alone. Subjects of views have each released view at ED and
    ES; of other classes, where no shape, phase or ejection fraction is known, they have two frames of one class.

    Args:
        classes: what frames are told apart by, and which are drawn.
        n: subjects.
        seed: names them.
        size: side in pixels.
        first: number of the first subject.
        pictures: with the phantom's pictures of these very shapes; else black pixels.
        like: where the hearts of some hospitals lie; `None` leaves them where the public ones do.
    """
    places = [classes.names.index(name) for name in classes.released]
    views = [VIEWS[place] for place in places] if classes.of == "view" else VIEWS[:1]
    lvef = shape.spread(first + n, seed=seed)[first:]
    people = None if like is None else likeness.chosen(like, lvef, seed=seed, first=first)
    if pictures:
        hearts = shape.stills(lvef, seed=seed, size=size, views=views, first=first, people=people)
    else:
        drawn = shape.draw(lvef, seed=seed, size=size, views=views, first=first, people=people)
        hearts = shape.as_frames(drawn, seed=seed, first=first)
    if classes.of == "view":
        return hearts
    return replace(
        hearts,
        masks=np.full_like(hearts.masks, UNLABELLED),
        view=np.array(places, np.int64)[(first + hearts.subject) % len(places)],
        phase=np.full_like(hearts.phase, -1),
        lvef_percent=np.full_like(hearts.lvef_percent, np.nan),
    )


def pictures_of_one_heart(classes: Classes) -> int:
    """Return how many rows of `conditions`, side by side, show one heart in one plane: ED and ES, or each alone."""
    return len(PHASES) if classes.of == "view" else 1


def beats(
    classes: Classes,
    n: int,
    *,
    seed: int,
    size: int,
    frames: int,
    lvef_percent: tuple[float, float] = shape.LVEF_PERCENT,
    first: int = 0,
    pictures: bool = False,
) -> tuple[Clips, NDArray[np.int64]]:
    """Return one beat of `n` synthetic hearts in every released view, and each clip's end systole, heart by heart.

    Heart `first + k` depends on the seed and that number alone; it has one volume curve in all its views.

    Args:
        classes: views, and which are drawn.
        n: hearts.
        seed: names them.
        size: side in pixels.
        frames: of each clip, from end diastole on over one whole beat; one of them is end systole itself.
        lvef_percent: lowest and highest ejection fraction that is asked for; hearts fill the range evenly.
        first: number of the first heart.
        pictures: with the phantom's pictures of these very hearts; else black pixels.
    """
    views = [VIEWS[classes.names.index(name)] for name in classes.released]
    exam = simulate.examinations(range(first, first + n), seed=seed, style=shape.STYLE)
    end_systole = motion.systole(exam.who.heart_rate_bpm)
    at = np.rint(end_systole * frames).astype(np.int64)
    # Frames before and after end systole are evenly spaced.
    phase = np.stack(
        [np.interp(np.arange(frames), [0, k, frames], [0, s, 1]) for k, s in zip(at, end_systole, strict=True)]
    )
    asked = shape.spread(first + n, seed=seed, lvef=lvef_percent)[first:]
    clips = films(
        n, phase=phase, seed=seed, size=size, style=shape.STYLE, views=views, lvef_percent=asked, first=first,
        pictures=pictures,
    )  # fmt: skip
    rate = (frames * clips.heart_rate_bpm / 60).astype(np.float32)
    return replace(clips, frame_rate_hz=rate), np.repeat(at, len(views))


def ends(clips: Clips, systole: NDArray[np.int64]) -> Frames:
    """Return end diastole, where each clip begins, and end systole of every clip."""
    return stills(clips, np.stack([np.zeros_like(systole), systole], 1), np.arange(2))
