"""Assembly: the experts of all sites are put side by side, and the heads between them get their first weights.

Settings:
    kind, name, config: of the fusion.
    experts: the stages of the experts, in the order of the fusion.
    views, subjects, steps, batch_size, learning_rate: the simulated people on whom the heads start.

Writes `start.safetensors`: all weights of the fusion; and `assembly.json`: site → digest of its expert.
"""

from typing import Any

from learning import arrays
from learning.learners.fused_experts import FusedLearner, put_in
from server import frozen
from server.campaign import State
from server.experts import START
from server.stages.tutor import people


def run(state: State) -> None:
    """Check every expert, put it in, and train the heads on what is public."""
    from learning.learner import fit
    from synthesis.parts import build

    told: dict[str, Any] = dict(state.stage.settings)
    experts = frozen.unchanged(state, told["experts"])
    learner = build(told["kind"], told["name"], told["config"], seed=state.campaign.seed)
    if not isinstance(learner, FusedLearner):
        raise TypeError(f"{told['name']!r} fuses no experts")
    put_in(learner, experts)
    fit(
        learner,
        people(state, told["subjects"], told["views"]),
        steps=told["steps"],
        batch_size=told["batch_size"],
        learning_rate=told["learning_rate"],
        seed=state.campaign.seed,
        progress=lambda i, n: state.tell(i / n, f"heads: step {i} of {n} on simulated people"),
    )
    arrays.write(state.folder / START, arrays.state(learner.module))
    state.write_json("assembly.json", frozen.digests(experts))
