"""Arrive: one site trains its expert, which is then frozen for good.

Settings, beside those of `train`:
    site, words: whose expert, and its words, as a label map in JSON.
    before: the stages of the experts that were there before; they are read, checked and left as they are.
    reference: simulated people whose pictures give the neural mean: a mean of patients would not be noised.

Writes what `train` writes, and the expert (`server.frozen`).
"""

from collections.abc import Mapping
from typing import Any

from learning import arrays
from learning.experts import Reference, freeze
from learning.learners.expert import Expert
from learning.ontology import from_json
from server import frozen
from server.campaign import State
from server.stages import train
from server.stages.tutor import people


def run(state: State) -> None:
    """Train, freeze, and see that nobody else's expert changed meanwhile."""
    told: Mapping[str, Any] = state.stage.settings
    older = frozen.unchanged(state, told["before"])
    train.run(state)
    learner = Expert(**told["config"]).build()
    arrays.load_state(learner.module, arrays.read(state.output(*told["start"])))
    arrays.load(learner.module, arrays.read(state.folder / train.WEIGHTS))
    (words,) = from_json(told["words"])
    pixels = people(state, told["reference"], list(words.means)).pixels
    private = told["plan"] is not None
    expert = freeze(learner, words, pixels, reference=Reference.PHANTOM, private=private)
    frozen.write(state.folder, expert, older=frozen.digests(older))
