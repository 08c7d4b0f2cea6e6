"""From what the stages wrote down to the sections of a certificate: no number is made here."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.stats import beta

from cohorts.frames import Frames
from evaluation import gaps, heard
from evaluation.evidence import Finding, judge
from evaluation.policy import BOTH, LOWER, Lane, Op, Policy, Rule
from evaluation.predicate import Audit, Decoys, Fairness, Filter, Gate, Group, Obeyed, Planted, Refused, Utility
from evaluation.tasks.expert_fusion import WEIGHT
from privacy.estimate import Estimate, holm, p_inferior
from server.campaign import State
from server.decoys import LEVEL
from server.stages.sample import COMMITMENT
from server.stages.screen import SCREENED
from server.stages.utility import FEDERATED, JOINED, LOCAL, PHANTOM, RELEASE, SCORES, TRIVIAL

TASKS = {"segmentation": "utility.segmentation", "recognition": "utility.view"}  # stage of a task and its rule
FEWEST_HEARTS = 3  # of which a correlation is said
EXPERTS = "experts"  # stage of the task that only campaigns with experts have
EJECTION = "ejection"  # and of the one that only hearts that move have
MORE_TASKS = {EXPERTS: "utility.experts", EJECTION: "utility.ejection_fraction"}
ARMS = {
    RELEASE: "release", PHANTOM: "phantom", FEDERATED: "real_federated", LOCAL: "real_local",
    JOINED: "real_and_release", TRIVIAL: "trivial",
}  # fmt: skip
TURNED = "real_on_release"  # trained on real studies, tested on the release


def utility_findings(state: State) -> Iterator[Finding]:
    """Yield, per task, release minus real and release minus phantom: paired by patient, pooled over sites.

    Beside them `..._kept`: release minus real plus a quarter of what real studies give over a predictor that looks at
    no picture. Where it is above 0, no more than that quarter is lost (privacy.md 4.2): whatever margin a policy fixes,
    it cannot be passed by a task that nobody has learnt.
    """
    for stage, metric in {**TASKS, **{s: m for s, m in MORE_TASKS.items() if s in _ran(state)}}.items():
        if stage not in _ran(state):
            for name in (metric, f"{metric}_gain"):
                yield Finding(metric=name, estimate=None, how=f"the experiment leaves {stage} out")
            continue
        scores = state.read_json(stage, SCORES)
        reference = _reference(scores)
        if (kept := scores.get("kept", {}).get(reference, {}).get(scores["primary"])) is not None:
            yield Finding(
                metric=f"{metric}_kept",
                estimate=_estimate(kept),
                how=f"{scores['primary']} of the arm release, minus ¾ of {ARMS[reference]} and ¼ of {ARMS[TRIVIAL]}",
            )
        for name, arm in ((metric, reference), (f"{metric}_gain", PHANTOM)):
            cell = scores["gains"][arm].get(scores["primary"])
            how = f"{scores['primary']} of the arm release minus that of {ARMS[arm]}, paired by patient"
            yield Finding(
                metric=name,
                estimate=None if cell is None else _estimate(cell),
                controls=_controls(scores, arm),
                how=how,
            )


def _controls(scores: Mapping[str, Any], arm: str) -> dict[str, bool]:
    """Say whether the arm that is held against learned to tell one patient from another, where that is measured.

    Whoever names the mean of all patients errs little, too: to be no worse than that proves nothing.
    """
    cell = scores["arms"].get(arm, {}).get("correlation")
    return {} if cell is None else {"reference_learned": bool(cell["low"] > 0)}


def utility_section(state: State, policy: Policy) -> Iterator[Utility]:
    """Yield every arm of every task under every metric; of the release's main ones, how the policy's margin is met."""
    ran = {stage: state.read_json(stage, SCORES) for stage in _ran(state)}
    tests = _tests(ran, policy)
    for stage, scores in ran.items():
        for arm in (a for a in ARMS if a in scores["arms"]):
            for metric, cell in scores["arms"][arm].items():
                if metric.startswith(WEIGHT):
                    continue  # whom each site's patients heard says more than a mean over sites
                trivial = scores["arms"].get(TRIVIAL, {}).get(metric, {})
                yield Utility(
                    task=scores["task"],
                    arm=ARMS[arm],
                    metric=metric,
                    n_patients=cell["n"],
                    n_seeds=1,
                    estimate=cell["value"],
                    ci=(cell["low"], cell["high"]),
                    test="patients pooled over sites, 95 % interval",
                    trivial=trivial.get("value"),
                    **(tests.get(stage, {}) if (arm, metric) == (RELEASE, scores["primary"]) else {}),
                )
        for metric, cell in scores.get("turned", {}).items():
            yield Utility(
                task=scores["task"],
                arm=TURNED,
                metric=metric,
                n_patients=cell["n"],
                n_seeds=1,
                estimate=cell["value"],
                ci=(cell["low"], cell["high"]),
                test="synthetic subjects of the release, 95 % interval: whether it shows what real studies teach",
            )
        yield from _heard(scores)


def _tests(ran: Mapping[str, Mapping[str, Any]], policy: Policy) -> dict[str, dict[str, Any]]:
    """Return, by stage, how release minus real meets the margin that `policy` fixed, p-values among all tasks."""
    margins = {r.metric: r for r in policy.rules if r.op is Op.ABOVE and r.bound == LOWER and r.threshold < 0}
    found: dict[str, dict[str, Any]] = {}
    for stage, scores in ran.items():
        rule, cell = margins.get({**TASKS, **MORE_TASKS}[stage]), _against_real(scores)
        if rule is None or cell is None:
            continue
        difference, margin = _estimate(cell), -rule.threshold
        both = Rule(id=rule.id, metric=rule.metric, op=Op.WITHIN, threshold=margin, bound=BOTH, min_n=rule.min_n)
        finding = Finding(metric=rule.metric, estimate=difference, controls=_controls(scores, _reference(scores)))
        found[stage] = {
            "margin": margin,
            "difference": difference.value,
            "difference_ci": (difference.low, difference.high),
            "p": p_inferior(difference, margin),
            "verdict": judge(rule, finding, required=False).verdict,
            "equivalent": judge(both, finding, required=False).verdict,
        }
    for cell, p_holm in zip(found.values(), holm([c["p"] for c in found.values()]), strict=True):
        cell["p_holm"] = p_holm
    return found


def _against_real(scores: Mapping[str, Any]) -> Mapping[str, Any] | None:
    cell: Mapping[str, Any] | None = scores["gains"][_reference(scores)].get(scores["primary"])
    return cell


def _reference(scores: Mapping[str, Any]) -> str:
    """Return the arm that did best of those on real studies, so that a weak reference flatters nobody."""
    real = [arm for arm in (FEDERATED, LOCAL) if scores["primary"] in scores["arms"].get(arm, {})]
    return max(real, key=lambda arm: float(scores["arms"][arm][scores["primary"]]["value"]), default=LOCAL)


def _heard(scores: Mapping[str, Any]) -> Iterator[Utility]:
    for site, experts in scores.get("heard", {}).items():
        for expert, cell in experts.items():
            yield Utility(
                task=scores["task"],
                arm=ARMS[FEDERATED],
                metric=heard.metric(expert, site),
                n_patients=cell["n"],
                n_seeds=1,
                estimate=cell["value"],
                ci=(cell["low"], cell["high"]),
                test="patients of one site, 95 % interval",
            )


def fairness_section(state: State) -> Iterator[Fairness]:
    """Yield, per task, column and arm, which group fares worst in the task's own metric, and by how much."""
    for stage in _ran(state):
        scores = state.read_json(stage, SCORES)
        metric, reference = scores["primary"], _reference(scores)
        for arm in (a for a in ARMS if a in scores.get("groups", {}) and a != TRIVIAL):
            for column, cells in scores["groups"][arm].items():
                known = _known(cells, metric)
                groups = [
                    Group(group=word, n_patients=c["n"], estimate=c["value"], ci=(c["low"], c["high"]))
                    for word, c in known.items()
                ]
                found = Fairness.among(groups, task=scores["task"], arm=ARMS[arm], metric=metric, by=column)
                if found is None:
                    continue
                changed = _change(scores, reference, column, found) if arm == RELEASE else None
                yield found if changed is None else replace(found, gap_change=changed[0], gap_change_ci=changed[1])


def _change(
    scores: Mapping[str, Any], reference: str, column: str, found: Fairness
) -> tuple[float, tuple[float, float]] | None:
    """Return how much wider the gap of the release is than that of real studies, over the groups that are judged."""
    metric = scores["primary"]
    cells = [
        _known(scores.get(of, {}).get(arm, {}).get(column, {}), metric)
        for of, arm in (("groups", RELEASE), ("groups", reference), ("gained", reference))
    ]
    judged = {g.group for g in found.groups}
    new, old, gained = ({word: cell for word, cell in some.items() if word in judged} for some in cells)
    return gaps.change(new, old, gained) if judged == new.keys() & old.keys() & gained.keys() else None


def _known(cells: Mapping[str, Any], metric: str) -> dict[str, Any]:
    return {word: cell[metric] for word, cell in cells.items() if metric in cell}


def _ran(state: State) -> list[str]:
    """Return the tasks that this campaign measured."""
    planned = {stage.name for stage in state.campaign.stages}
    return [stage for stage in (*TASKS, EJECTION, EXPERTS) if stage in planned]


def attack_section(state: State) -> Audit:
    """Return the disclosure attack as it was run."""
    record: Mapping[str, Any] = state.read_json("attack", "attack.json")
    return Audit(**{**record["audit"], "ci": tuple(record["audit"]["ci"]) if record["audit"]["ci"] else None})


def obeyed_section(released: Frames) -> Iterator[Obeyed]:
    """Yield how the ejection fractions that were asked for agree with the released masks, where those show any."""
    from evaluation import volumes

    found, first = volumes.biplane_lvef(released), np.unique(released.subject, return_index=True)[1]
    asked = released.lvef_percent[first].astype(np.float64)
    whole = np.isfinite(found) & np.isfinite(asked)
    off, asked = (found - asked)[whole], asked[whole]
    if len(off) < FEWEST_HEARTS or not np.ptp(asked) or not np.ptp(asked + off):
        return
    yield Obeyed(
        label="lvef_percent",
        measured="biplane method of disks in the masks of A2C and A4C at ED and ES",
        n=len(off),
        low=float(asked.min()),
        high=float(asked.max()),
        correlation=float(np.corrcoef(asked, asked + off)[0, 1]),
        bias=float(off.mean()),
        error=float(np.abs(off).mean()),
    )


def filter_section(state: State, lane: Lane) -> Filter:
    """Return how candidates were screened, and how many stayed, in steps of five percent."""
    told = next(s for s in state.campaign.stages if s.name == "screen").settings
    found = state.read_json("screen", SCREENED)
    commitment = state.read_json("sample", COMMITMENT)
    rule = commitment["rule"]
    shared: dict[str, Any] = {
        "embedding_digest": rule["embedding"],
        "acceptance_rounded": found["acceptance_rounded"],
        "committed": commitment["digests"]["committed"],
        "refused": tuple(Refused(**cell) for cell in found["refused"]),
        "decoys": tuple(Decoys(site=s, **cell) for s, cell in found["decoys"].items() if cell["honest"] is not None),
        "planted": tuple(_planted(found["decoys"].values(), altered="votes" in rule)),
    }
    first = "self-similarity and view, by public and differentially private means"
    if "votes" in rule:
        return Filter(
            mode=f"{first}; then members vote against candidates under noise, and what any site drops is dropped",
            tau=rule["tau"],
            tau_method="fixed before the run, found in public: one vote a member, against the nearest candidate within",
            eps=rule["votes"]["epsilon"],
            votes=rule["votes"]["votes"],
            gate=_gate(state, rule, found["counts"]),
            regenerated=found["drawn_again"],
            **shared,
        )
    if lane is Lane.EMPIRICAL:
        return Filter(
            mode=f"{first}; then the exact re-identification filter of every site",
            tau_method=f"conformal at each site, which keeps it; of strangers {rule['exact']['alpha']:g} fall",
            regenerated=found["drawn_again"],
            **shared,
        )
    return Filter(
        mode=first,
        tau=told["similarity"],
        tau_method="fixed before the run; correlation in the public embedding, candidates against each other",
        **shared,
    )


def _planted(decoys: Iterable[Mapping[str, Any]], *, altered: bool) -> Iterator[Planted]:
    """Yield the share of decoys' copies that sites refused, each asked by itself: the filter's own positive control."""
    n, caught = (sum(cell[name] for cell in decoys) for name in ("n", "caught"))
    if n:
        least = float(beta.ppf(0.05, caught, n - caught + 1)) if caught else 0.0
        family, level = ("decoys: all kinds at once", LEVEL) if altered else ("decoys: identical", 1)
        yield Planted(family=family, level=level, n=n, caught=caught, lcb95=least)


def _gate(state: State, rule: Mapping[str, Any], counts: Mapping[str, Any]) -> Gate | None:
    """Return the noised counts of all sites together, beside the declared numbers."""
    if "gate_epsilon" not in rule:
        return None
    sites = state.read_json("reserve", "sites.json")
    everybody = sum(sites[name]["public_subjects"] for name in counts)
    members, controls = (float(sum(told[who] for told in counts.values())) for who in ("members", "controls"))
    half = everybody // 2
    return Gate(eps=rule["gate_epsilon"], members=members, controls=controls, n_member=half, n_control=everybody - half)


def _strongest(scores: Mapping[str, Any], arms: list[str]) -> str:
    return max(arms, key=lambda arm: float(scores["arms"][arm][scores["primary"]]["value"]), default=LOCAL)


def _estimate(cell: Mapping[str, Any]) -> Estimate:
    return Estimate(value=cell["value"], low=cell["low"], high=cell["high"], n=cell["n"])
