"""Tutor: one network of all classes is trained here, on simulated people, and gives every expert its first weights.

Settings:
    config: of the network, one output for each of `views`.
    views: the classes that any site has words for.
    words: site → its words, as a label map in JSON.
    subjects, steps, batch_size, learning_rate: how many people are simulated, and how it is trained on them.

Writes `<site>.safetensors`: all weights, of the head only the rows of the site's own words. No patient is touched.
"""

from typing import Any

import numpy as np

from cohorts.frames import VIEWS, Frames
from cohorts.study import View
from learning import arrays
from learning.experts import HEAD
from learning.ontology import from_json
from server.campaign import State

PEOPLE_SEED = 104729  # beside the seed of the campaign: these people are in no release and in no measurement


def run(state: State) -> None:
    """Train it, and cut its head to the words of each site."""
    from learning.learner import fit
    from synthesis.parts import build

    told: dict[str, Any] = dict(state.stage.settings)
    seed, places = state.campaign.seed, [VIEWS.index(View(view)) for view in told["views"]]
    learner = build("learner", "expert", {**told["config"], "places": places}, seed=seed)
    fit(
        learner,
        people(state, told["subjects"], told["views"]),
        steps=told["steps"],
        batch_size=told["batch_size"],
        learning_rate=told["learning_rate"],
        seed=seed,
        progress=lambda i, n: state.tell(i / n, f"step {i} of {n} on simulated people"),
    )
    whole = arrays.state(learner.module)
    for site, text in told["words"].items():
        (words,) = from_json(text)
        rows = np.array([told["views"].index(name) for name in words.means])
        own = {n: a[rows] if n.startswith(HEAD) else a for n, a in whole.items()}
        arrays.write(state.folder / f"{site}.safetensors", own)


def people(state: State, subjects: int, views: list[str]) -> Frames:
    """Return simulated people on whom experts and heads are brought to their first weights."""
    from cohorts.phantom.simulate import stills

    wanted = [View(view) for view in views]
    return stills(subjects, seed=state.campaign.seed + PEOPLE_SEED, size=state.campaign.size, views=wanted)
