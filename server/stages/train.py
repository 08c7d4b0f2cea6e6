"""Train: sites train one learner or generator in common, from its initial weights or public prior.

Settings:
    kind, name, config: which part, of which kind of `synthesis.parts`.
    frames: of a kind of clips, how many a clip has at most; absent for others.
    prior: the public prior its weights start from, "" for none (a generator's config says that itself).
    start: stage and file of all weights to start from, those that are not trained included; absent for none.
    only: the sites that train; absent for all.
    plan: the reserved DP plan as JSON, or null for the reference arm, which sites must allow.
    rounds, steps: exchanges, and local steps in each; with a plan, rounds · steps are the plan's steps.
    batch_size, learning_rate: local; `batch_size` counts without a plan only.
    personal: weights whose names begin so are each site's own; "" for none.
    public: whether simulated people can tell how well the weights do: not where classes are something else than views.
    people: the views of those people; absent for the apical ones.
    server_learning_rate, average: of `conf.aggregation.Aggregation`.
    aggregation: the other settings of that step, where they are not its defaults.
    minds: which groups of subjects the sites mind (`learning.messages.Train`); absent for none.

Writes `weights.safetensors` (what is trainable and not personal) and `round.json` (who took part in which exchange,
who stood apart).
"""

from collections.abc import Sequence
from math import ceil
from typing import Any

import numpy as np

from cohorts import clips
from cohorts.clips import Clips
from cohorts.frames import Frames
from cohorts.study import View
from conf.aggregation import Aggregation
from learning import arrays
from learning.messages import Train
from server.campaign import State
from server.failure import CampaignFailed
from server.federate import federate
from server.metrics import PEOPLE, Watch, spending
from server.rounds import Weights

WEIGHTS = "weights.safetensors"
PEOPLE_SEED = 7919


def run(state: State) -> None:
    """Train for all exchanges, from the last checkpoint of a killed run where there is one."""
    from synthesis.parts import build

    told: dict[str, Any] = dict(state.stage.settings)
    rounds, plan = told["rounds"], told["plan"]
    if plan is not None and plan["steps"] != rounds * told["steps"]:
        raise CampaignFailed(
            f"stage {state.stage.name!r}: the plan pays for {plan['steps']} steps, "
            f"rounds={rounds} of steps={told['steps']} are {rounds * told['steps']}"
        )
    seed = state.campaign.seed
    learner = build(told["kind"], told["name"], told["config"], seed=seed, prior=told["prior"])
    frozen: Weights = {}
    if told.get("start"):
        arrays.load_state(learner.module, arrays.read(state.output(*told["start"])))
        frozen = arrays.frozen(learner.module)
    sites, quorum = state.asked(told)
    own = told.get("personal", "")
    shared = {n: a for n, a in arrays.trainable(learner.module).items() if not (own and n.startswith(own))}
    if own and not 0 < len(shared) < len(arrays.trainable(learner.module)):
        raise CampaignFailed(f"personal={own!r} must be how some names of weights begin, and not all")
    step = Aggregation(
        learning_rate=told["server_learning_rate"], average=told["average"], **told.get("aggregation", {})
    )

    def request(number: int, weights: Weights) -> Train:
        return Train(
            run=state.campaign.run,
            stage=state.stage.name,
            round=number,
            kind=told["kind"],
            name=told["name"],
            config=told["config"],
            prior=told["prior"],
            plan=plan,
            size=state.campaign.size,
            steps=told["steps"],
            batch_size=told["batch_size"],
            learning_rate=told["learning_rate"],
            proximal=step.proximal,
            personal=own,
            seed=seed,
            arrays=weights,
            frozen=frozen,
            minds=told.get("minds", {}),
            frames=told.get("frames", 0),
        )

    end = federate(
        state.grid,
        sites,
        shared,
        request,
        rounds=rounds,
        quorum=quorum,
        seconds=state.campaign.seconds,
        step=step,
        folder=state.folder,
        watch=Watch(
            state.folder.parent,
            state.stage.name,
            learner,
            _people(state, told.get("people"), told.get("frames", 0)) if told.get("public") else None,
            spending(plan, told["steps"], state.campaign.delta),
        ),
        progress=lambda done, words: state.tell(done / rounds, f"exchange {ceil(done)} of {rounds}, {words}"),
    )
    arrays.write(state.folder / WEIGHTS, end.kept)


def _people(state: State, views: Sequence[str] | None, frames: int) -> Frames | Clips:
    """Return simulated people whom no training sees: another seed names them. Of a kind of clips, they move."""
    from cohorts.phantom.simulate import APICAL, stills

    seen = APICAL if views is None else [View(view) for view in views]
    if frames:
        phase = np.tile(np.arange(frames) / frames, (PEOPLE, 1))
        return clips.films(PEOPLE, phase=phase, seed=state.campaign.seed + PEOPLE_SEED, size=state.campaign.size)
    return stills(PEOPLE, seed=state.campaign.seed + PEOPLE_SEED, size=state.campaign.size, views=seen)
