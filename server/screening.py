"""The part of a campaign that concerns screening against patients: by what rule they are judged, and what it costs."""

from collections.abc import Mapping
from typing import Any

from conf.schema import Experiment, Lane
from privacy import embedding
from privacy.mechanism import LaplacePlan
from privacy.votes import Gate, VoteFilter


def rule(experiment: Experiment) -> dict[str, Any]:
    """Return what decides about a candidate at a site; without `votes` or `exact`, no site is asked."""
    told = experiment.screening
    found: dict[str, Any] = {"embedding": embedding.digest()}
    if experiment.release.lane is Lane.EMPIRICAL:
        return {**found, "exact": {"alpha": told.alpha}}
    if not told.votes_epsilon:
        return found
    votes = {"epsilon": told.votes_epsilon, "threshold": told.votes_threshold, "votes": 1}
    gate = {"gate_epsilon": told.gate_epsilon} if told.gate_epsilon else {}
    return {**found, "votes": votes, "tau": told.tau, "apart": told.apart, **gate}


def plans(experiment: Experiment) -> tuple[LaplacePlan, ...]:
    """Return what every member, and for the gate every control, is charged for screening."""
    told = rule(experiment)
    votes = (VoteFilter(**told["votes"]).plan(),) if "votes" in told else ()
    return (*votes, *((Gate(epsilon=told["gate_epsilon"]).plan(),) if "gate_epsilon" in told else ()))


def steps(rule: Mapping[str, Any]) -> list[str]:
    """Name the steps by which a rule judged candidates, as the coverage table knows them."""
    found = ["screening.committed", "screening.refused"]
    if "votes" in rule:
        found += ["screening.apart", "screening.tau.public", "screening.again", "screening.votes"]
    if "gate_epsilon" in rule:
        found.append("screening.gate")
    if "exact" in rule:
        found += ["screening.again", "screening.reidentification"]
    return found
