"""Sample: draw candidates from the trained generator. Post-processing: it opens no real study and costs no privacy.

Settings:
    name, config: of the generator.
    trained: the stage that trained it.
    subjects: synthetic subjects to draw, each with every released view at ED and ES, or two frames of one other class.
    classes: what frames are told apart by, and which are drawn.
    shapes: the stage in which sites said where their hearts lie; absent where shapes are public.

The shapes come from the public shape prior, which is asked for ejection fractions over the whole range: what a label
says is what was asked. The phantom's own pictures of the very same shapes are kept beside the candidates: the arm
"phantom" of every task differs from the arm "release" in appearance alone. Where sites have said where their hearts
lie, candidates are asked for by that, and the phantoms stay as public as they were: of the same fractions, of other
people.

Writes `candidates.safetensors` and `phantoms.safetensors`.
"""

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np

from cohorts import frames as table
from conf.schema import Classes
from learning import arrays
from server.campaign import State
from server.stages.shapes import LIKENESS
from server.stages.train import WEIGHTS

if TYPE_CHECKING:
    from synthesis.likeness import Likeness

CANDIDATES, PHANTOMS = "candidates.safetensors", "phantoms.safetensors"


def run(state: State) -> None:
    """Draw all candidates; candidate k depends on the seed and k alone."""
    from synthesis.conditions import conditions as asked_for
    from synthesis.conditions import pictures_of_one_heart
    from synthesis.generators import GENERATORS

    told: dict[str, Any] = dict(state.stage.settings)
    generator = GENERATORS[told["name"]](**told["config"]).build()
    arrays.load(generator.module, arrays.read(state.output(told["trained"], WEIGHTS)))
    state.tell(0.0, "shapes from the public prior")
    asked: dict[str, Any] = {"seed": state.campaign.seed, "size": state.campaign.size}
    phantoms = asked_for(Classes(**told["classes"]), told["subjects"], **asked, pictures=True)
    conditions = dataclasses.replace(phantoms, pixels=np.zeros_like(phantoms.pixels))
    if "shapes" in told:
        conditions = asked_for(
            Classes(**told["classes"]), told["subjects"], **asked, like=_likeness(state, told["shapes"])
        )
    pixels = generator.sample(
        conditions,
        seed=state.campaign.seed,
        of_one_heart=pictures_of_one_heart(Classes(**told["classes"])),
        progress=lambda k, n: state.tell(k / n, f"{k} of {n} frames"),
    )
    table.write(state.folder / PHANTOMS, phantoms)
    table.write(state.folder / CANDIDATES, dataclasses.replace(conditions, pixels=pixels))


def _likeness(state: State, stage: str) -> "Likeness":
    from synthesis.likeness import Likeness

    said = state.read_json(stage, LIKENESS)
    return Likeness(centre=np.array(said["centre"]), covariance=np.array(said["covariance"]))
