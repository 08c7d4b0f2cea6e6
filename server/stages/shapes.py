"""Shapes: ask every site once where its members' hearts lie, under the plan that it has charged.

Settings:
    plan: of the noised moments, as JSON.

Writes `likeness.json`: centre and covariance along the public modes (`synthesis.likeness`), and which sites spoke.
"""

import dataclasses

from learning.messages import Measure, Measured
from server.campaign import State
from server.rounds import Answers, ask

LIKENESS = "likeness.json"


def run(state: State) -> None:
    """Ask, and fit; raises `QuorumLost` if too few sites answer."""
    from privacy.mechanism import DpPlan, plan_from_json
    from synthesis import likeness

    plan = plan_from_json(state.stage.settings["plan"])
    if not isinstance(plan, DpPlan):
        raise TypeError(f"plan {plan.purpose!r} is none of moments")
    request = Measure(run=state.campaign.run, stage=state.stage.name, size=state.campaign.size, plan=plan.to_json())

    def check(reply: Measured) -> None:
        if set(reply.arrays) != {"moments"}:
            raise ValueError("it has other arrays than moments")
        likeness.fitted([reply.arrays["moments"]], plan)

    answers: Answers[Measured] = ask(
        state.grid,
        state.sites,
        lambda _: request,
        quorum=state.campaign.quorum,
        seconds=state.campaign.seconds,
        check=check,
    )
    found = likeness.fitted([reply.arrays["moments"] for reply in answers.replies.values()], plan)
    told = {name: array.tolist() for name, array in dataclasses.asdict(found).items()}
    state.write_json(LIKENESS, {**told, "sites": list(answers.replies)})
