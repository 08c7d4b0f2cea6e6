"""Sample: draw candidates from the trained generator. Post-processing: it opens no real study and costs no privacy.

Settings:
    name, config: of the generator.
    trained: the stage that trained it.
    subjects: synthetic subjects to draw, each with every released view at ED and ES, or two frames of one other class.
    classes: what frames are told apart by, and which are drawn.
    shapes: the stage in which sites said where their hearts lie; absent where shapes are public.
    rule: by what candidates will be judged; the coordinator commits itself to it before it draws.

The shapes come from the public shape prior, which is asked for ejection fractions over the whole range: what a label
says is what was asked. The phantom's own pictures of the very same shapes are kept beside the candidates: the arm
"phantom" of every task differs from the arm "release" in appearance alone. Where sites have said where their hearts
lie, candidates are asked for by that, and the phantoms stay as public as they were: of the same fractions, of other
people.

Writes `commitment.json` before anything is drawn, then `candidates.safetensors` and `phantoms.safetensors`.
"""

from typing import Any

from cohorts import frames as table
from learning import arrays
from server.campaign import State
from server.stages.shapes import LIKENESS
from server.stages.train import WEIGHTS
from synthesis.candidates import Recipe, commitment

LIKE = ("centre", "covariance")
CANDIDATES, PHANTOMS, COMMITMENT = "candidates.safetensors", "phantoms.safetensors", "commitment.json"


def run(state: State) -> None:
    """Draw all candidates; candidate k depends on the seed and k alone."""
    recipe, generator = committed(state, "generator")
    state.tell(0.0, "shapes from the public prior")
    phantoms = recipe.conditions(pictures=True)
    drawn = recipe.draw(
        generator,
        recipe.conditions() if recipe.like else phantoms,
        progress=lambda k, n: state.tell(k / n, f"{k} of {n} frames"),
    )
    table.write(state.folder / PHANTOMS, phantoms.stills)
    table.write(state.folder / CANDIDATES, drawn.stills)


def committed(state: State, kind: str) -> tuple[Recipe, Any]:
    """Write down all that candidates and verdicts will depend on; return the recipe and the generator."""
    told: dict[str, Any] = dict(state.stage.settings)
    recipe = Recipe(
        kind=kind,
        name=told["name"],
        config=told["config"],
        subjects=told["subjects"],
        seed=state.campaign.seed,
        size=state.campaign.size,
        classes=told["classes"],
        frames=told.get("frames", 0),
        lvef_percent=tuple(told.get("lvef_percent", ())),
        like={k: state.read_json(told["shapes"], LIKENESS)[k] for k in LIKE} if "shapes" in told else {},
    )
    weights = arrays.read(state.output(told["trained"], WEIGHTS))
    rule = told.get("rule", {})
    state.write_json(
        COMMITMENT, {"recipe": recipe.to_json(), "rule": rule, "digests": commitment(recipe, weights, rule)}
    )
    return recipe, recipe.generator(weights)
