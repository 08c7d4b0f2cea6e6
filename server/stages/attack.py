"""Attack: the sites try to find their members in the release; the counts are judged here.

Settings:
    name, config: which attack, and how.
    lane: FORMAL counts carry noise and were charged; EMPIRICAL counts are exact.
    screened: the stage that released.

Writes `attack.json`: the judgement, the numbers a policy decides by, and the audit as the certificate states it.
"""

from collections.abc import Mapping
from typing import Any

from cohorts import frames as table
from server.campaign import State
from server.stages.screen import RELEASED

RECORD = "attack.json"
VERSION = "1"


def run(state: State) -> None:
    """Have every site count, judge the counts together."""
    from learning.messages import Attack, Counts
    from privacy.attacks import ATTACKS
    from privacy.attacks.disclosure import DisclosureCounts
    from server.rounds import Answers, ask

    told: Mapping[str, Any] = state.stage.settings
    formal = told["lane"] == "FORMAL"
    request = Attack(
        run=state.campaign.run,
        stage=state.stage.name,
        name=told["name"],
        config=told["config"],
        formal=formal,
        released=table.as_images(table.read(state.output(told["screened"], RELEASED))),
    )
    state.tell(0.2, "every site looks for its members in the release")
    answers: Answers[Counts] = ask(
        state.grid,
        state.sites,
        lambda _: request,
        quorum=state.campaign.quorum,
        seconds=state.campaign.seconds,
    )
    state.tell(0.8, "judging the counts")
    attack = ATTACKS[told["name"]](**told["config"])
    found = attack.judge([DisclosureCounts.from_json(reply.counts) for reply in answers.replies.values()])
    state.write_json(RECORD, {"judged": found, **_evidence(told["name"], found)})


def _evidence(name: str, found: Mapping[str, Any]) -> dict[str, Any]:
    members, controls = int(found["members"]), int(found["controls"])
    blurred = "noised" if found["formal"] else "exact"
    detected = bool(found["positive_control_detected"])
    return {
        "decides": f"{name}.eps_lb",
        "controls": {"positive_control": detected},
        "findings": {
            f"{name}.eps_lb": _cell(
                found["eps_lb"],
                members + controls,
                how=f"largest ε rejected at 5 %; p = {found['p_value']:.3g} of no learning ({blurred} counts)",
            ),
            f"{name}.members": _rate(found["members_disclosed"], members),
            f"{name}.controls": _rate(found["controls_disclosed"], controls),
            f"{name}.copies": _rate(found["copies_found"], members),
        },
        "audit": {
            "name": name,
            "version": VERSION,
            "n_member": members,
            "n_control": controls,
            "split": "keyed lot, probability one half, fixed before training",
            "estimate": _share(found["members_disclosed"], members) - _share(found["controls_disclosed"], controls),
            "ci": None,
            "positive_control": detected,
            "eps_lb": found["eps_lb"],
            "eps_ceiling": found["eps_ceiling"],
            "reason": _reason(found),
        },
    }


def _reason(found: Mapping[str, Any]) -> str:
    least = found["smallest_share"]
    seen = f"copies of {100 * least:g} % of the members" if least is not None else "no share of copied members"
    return (
        f"with probability 0.8 this test would have found {seen}; "
        f"with probability {found['power_1_percent']:.2f} copies of 1 %, {found['power_5_percent']:.2f} of 5 %"
    )


def _rate(hits: int, n: int) -> dict[str, Any]:
    """Return a share with its exact interval; noised counts are first brought back into 0..n."""
    from privacy.estimate import clopper_pearson

    if n < 1:
        return {"value": float("nan"), "low": float("nan"), "high": float("nan"), "n": 0, "how": "too few to say"}
    estimate = clopper_pearson(min(max(hits, 0), n), n)
    return {"value": estimate.value, "low": estimate.low, "high": estimate.high, "n": n, "how": ""}


def _cell(value: float, n: int, *, how: str) -> dict[str, Any]:
    return {"value": value, "low": value, "high": value, "n": n, "how": how}


def _share(hits: int, n: int) -> float:
    return min(max(hits, 0), n) / n if n else 0.0
