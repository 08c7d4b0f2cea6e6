"""Audit: what the canaries of every private training prove about its ε, beside what it claims.

Settings:
    trainings: stage of each private training → its plan as JSON.

Writes `audit.json`: one record per training and site, as `evaluation.predicate.Audited` states it, and who was asked.
"""

import dataclasses
from typing import Any

import numpy as np

from learning.messages import Guess, Guessed
from privacy.audit.bounds import SIGNIFICANCE, Guesses, gaussian_bound, pure_bound
from privacy.audit.layer import CANARIES, STATISTICS
from privacy.audit.power import share_caught
from privacy.mechanism import DpPlan, epsilon, plan_from_json
from server.campaign import State
from server.failure import CampaignFailed
from server.rounds import Answers, ask

RECORD = "audit.json"


def run(state: State) -> None:
    """Ask every site for its guesses about its own canaries, and bound ε from below by each."""
    told: dict[str, Any] = dict(state.stage.settings)
    delta, trainings = state.campaign.delta, told["trainings"]
    # All bounds hold together: the significance is shared by every training, site and statistic.
    settings = {stage.name: stage.settings for stage in state.campaign.stages}
    asked = {stage: state.asked(settings[stage]) for stage in trainings}
    significance = SIGNIFICANCE / (sum(len(sites) for sites, _ in asked.values()) * len(STATISTICS))
    records, thrown = [], dict[str, list[str]]()
    for done, (stage, document) in enumerate(sorted(trainings.items())):
        state.tell(done / len(trainings), f"canaries of {stage}")
        plan = plan_from_json(document)
        if not isinstance(plan, DpPlan):
            raise TypeError(f"stage {stage!r}: {type(plan).__name__} is no plan to train by")
        rounds, (sites, quorum) = settings[stage]["rounds"], asked[stage]
        thrown[plan.purpose] = sorted({*thrown.get(plan.purpose, []), *sites})
        answers: Answers[Guessed] = ask(
            state.grid,
            sites,
            lambda _, stage=stage, rounds=rounds: Guess(run=state.campaign.run, stage=stage, rounds=rounds),  # type: ignore[misc]
            quorum=quorum,
            seconds=state.campaign.seconds,
        )
        claimed = epsilon([plan], delta)
        caught = share_caught(plan, claimed, delta, significance=significance, rng=np.random.default_rng(0))
        for site, reply in sorted(answers.replies.items()):
            found = {name: _expected(Guesses(**reply.guesses[name])) for name in STATISTICS}
            records.append(
                {
                    "training": plan.purpose,
                    "site": site,
                    "canaries": CANARIES,
                    "guessed": found["sum"].guessed,
                    "right": found["sum"].right,
                    "eps_claimed": claimed,
                    "eps_lb": max(gaussian_bound(g, delta, significance=significance) for g in found.values()),
                    "eps_lb_pure": max(pure_bound(g, delta, significance=significance) for g in found.values()),
                    "eps_ceiling": gaussian_bound(_all_right(found["sum"]), delta, significance=significance),
                    "halved_noise_caught": caught,
                }
            )
    state.write_json(RECORD, {"audited": records, "canaries": thrown, "significance": significance})


def _all_right(found: Guesses) -> Guesses:
    return dataclasses.replace(found, right=found.guessed)


def _expected(found: Guesses) -> Guesses:
    """Return the guesses; raises `CampaignFailed` where a site threw another number of coins than is fixed."""
    if found.canaries != CANARIES:
        raise CampaignFailed(f"a site threw {found.canaries} coins, not {CANARIES}")
    return found
