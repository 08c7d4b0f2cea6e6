"""Sample: draw candidates from the trained generator. Post-processing: it opens no real study and costs no privacy.

Settings:
    name, config: of the generator.
    trained: the stage that trained it.
    subjects: synthetic subjects to draw, each with every released view at ED and ES, or two frames of one other class.
    classes: what frames are told apart by, and which are drawn.

The shapes come from the phantom's public shape model. The phantom's own pictures of the very same shapes are kept
beside the candidates: the arm "phantom" of every task differs from the arm "release" in appearance alone.

Writes `candidates.safetensors` and `phantoms.safetensors`.
"""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np

from cohorts import frames as table
from cohorts.frames import VIEWS, Frames
from cohorts.study import UNLABELLED
from learning import arrays
from server.campaign import State
from server.stages.train import WEIGHTS

CANDIDATES, PHANTOMS = "candidates.safetensors", "phantoms.safetensors"


def run(state: State) -> None:
    """Draw all candidates; candidate k depends on the seed and k alone."""
    from synthesis.generators import GENERATORS

    told: dict[str, Any] = dict(state.stage.settings)
    generator = GENERATORS[told["name"]](**told["config"]).build()
    arrays.load(generator.module, arrays.read(state.output(told["trained"], WEIGHTS)))
    state.tell(0.0, "shapes from the public shape model")
    phantoms = _phantoms(told, seed=state.campaign.seed, size=state.campaign.size)
    conditions = dataclasses.replace(phantoms, pixels=np.zeros_like(phantoms.pixels))
    pixels = generator.sample(
        conditions,
        seed=state.campaign.seed,
        progress=lambda k, n: state.tell(k / n, f"{k} of {n} frames"),
    )
    table.write(state.folder / PHANTOMS, phantoms)
    table.write(state.folder / CANDIDATES, dataclasses.replace(conditions, pixels=pixels))


def _phantoms(told: Mapping[str, Any], *, seed: int, size: int) -> Frames:
    """Return what the public simulator has to show of every class: shapes of views; of anything else, no shape."""
    from cohorts.phantom import simulate

    classes = told["classes"]
    places = [classes["names"].index(name) for name in classes["released"]]
    if classes["of"] == "view":
        return simulate.stills(told["subjects"], seed=seed, size=size, views=[VIEWS[place] for place in places])
    hearts = simulate.stills(told["subjects"], seed=seed, size=size, views=(VIEWS[0],))
    return dataclasses.replace(
        hearts,
        masks=np.full_like(hearts.masks, UNLABELLED),
        view=np.array(places, np.int64)[hearts.subject % len(places)],
        phase=np.full_like(hearts.phase, -1),
        lvef_percent=np.full_like(hearts.lvef_percent, np.nan),
    )
