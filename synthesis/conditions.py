"""What a generator is asked for, in a campaign and by `pericard sample` alike.

Ejection fractions are spread evenly, so that what a label says is what was asked (`synthesis.shape`). Shapes are public
and cost no privacy; or public hearts, chosen by what hospitals said and paid for (`synthesis.likeness`).
"""

from dataclasses import replace

import numpy as np

from cohorts.frames import VIEWS, Frames
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
