"""From what a suite of attacks found to the findings that a policy judges and the audits that a certificate states.

Whoever tells members from controls without the release, tells nothing about the release: then no number of an attack
that holds the one against the other becomes a finding (Das, Zhang and Tramèr 2024, arXiv:2406.16201). Lower bounds on ε
are valid only where a lot decided who is a member.

Several attacks are one finding: the worst of them, with intervals that hold for all at once (Bonferroni).
"""

import re
from collections.abc import Iterator, Mapping
from dataclasses import replace
from statistics import NormalDist

from evaluation.evidence import Finding, exact
from evaluation.predicate import At, Audit, Power, Rate
from privacy.attacks.attribute_inference import SUREST
from privacy.estimate import Estimate, clopper_pearson
from privacy.suite import POWER, RANDOM, Record, Suite

VERSION = "1"
KINDS = {"attribute_inference": "inference", "singling_out": "singling_out", "linkability": "linkability"}
TWO_SIDED = 0.90  # its ends are one-sided 95 % bounds, which is what rules are held against
AT_95 = NormalDist().inv_cdf(0.975)
ONE_PERCENT, FIVE_PERCENT = 0.01, 0.05
DECLARED, NOT_BY_LOT = "independent fair coins before training, as declared", "not by lot, or not declared"


def findings(suite: Suite) -> Iterator[Finding]:
    """Yield what a policy may judge: `disclosure.*`, `mia.auc`, `mia.tpr_at_fpr_1pct` and `risk.max`."""
    by_lot, void = suite.split == RANDOM, why_void(suite)
    held, judged = dict(suite.controls), suite.disclosure
    if judged:
        held["positive_control"] = bool(judged["positive_control_detected"])
        why = void or ("" if by_lot else "no lot told members from controls, so that no bound on ε follows")
        how = f"p = {judged['p_value']:.3g} of having learned nothing (exact counts)"
        yield _or_void(
            "disclosure.eps_lb", float(judged["eps_lb"] or 0), _number(judged, "members", "controls"), held, how, why
        )
        for kind, found, of in (
            ("members", "members_disclosed", "members"),
            ("controls", "controls_disclosed", "controls"),
            ("copies", "copies_found", "members"),
        ):
            if int(judged[of] or 0):
                share = clopper_pearson(int(judged[found] or 0), int(judged[of] or 0))
                yield Finding(metric=f"disclosure.{kind}", estimate=share)
        for kind in ("power_1_percent", "power_5_percent"):
            yield exact(f"disclosure.{kind}", float(judged[kind] or 0))
    ranked = [r for r in suite.records if r.auc is not None and "." not in r.name]
    yield _worst("mia.auc", {r.name: _wider(r.auc, len(ranked)) for r in ranked if r.auc}, suite.controls, void)
    hits = {r.name: r.tpr[ONE_PERCENT] for r in ranked if ONE_PERCENT in r.tpr}
    exactly = {
        name: clopper_pearson(round(e.value * e.n), e.n, 1 - (1 - TWO_SIDED) / len(hits)) for name, e in hits.items()
    }
    yield _worst("mia.tpr_at_fpr_1pct", exactly, suite.controls, void)
    # who may choose whom to ask about is told of for few people: reported, as no bound on everybody's risk
    made = [r for r in suite.records if r.risk is not None and not r.name.endswith(f".{SUREST}")]
    risks = {r.name: r.risk for r in made if r.risk}
    beaten = {r.name: r.risk for r in made if r.risk and not r.void}
    some = beaten or risks
    widened = {name: _wider(risk, len(some)) for name, risk in some.items()}
    yield _worst("risk.max", widened, {**suite.controls, "naive_beaten": bool(beaten)}, void)


def audits(suite: Suite, *, attempts: int = 1) -> Iterator[Audit]:
    """Yield every attack of the suite, those that found nothing too, as the certificate states it."""
    split = DECLARED if suite.split == RANDOM else NOT_BY_LOT
    if suite.disclosure:
        yield _disclosure(suite, split, attempts)
    for record in suite.records:
        yield _audit(record, split, attempts)
    if suite.chosen:
        yield _audit(replace(suite.chosen, blind_baseline=suite.blind_baseline), split, attempts)
    alike = suite.similarity
    yield Audit(
        name="similarity", kind="similarity", version=VERSION, n_member=suite.n_member, n_control=suite.n_control,
        split=split, estimate=alike.nndr_median, ci=None, metric="median NNDR",
        reason=f"distance to the closest record, members over controls {alike.dcr_p5_ratio:.3g}; share of pictures "
        f"closer to members {alike.closer_to_members:.3g}; reported because others do, it decides nothing",
        n_attempts=attempts,
    )  # fmt: skip


def smallest_leak(suite: Suite) -> float | None:
    """Return the least share of copied members that disclosure would have noticed with probability 0.8, if any."""
    least = suite.disclosure.get("smallest_share") if suite.disclosure else None
    return None if least is None else float(least)


def why_void(suite: Suite) -> str:
    """Return why members must not be held against controls, "" where they may."""
    if suite.blind is None:
        return "too few subjects to see whether members and controls differ without the release"
    if not suite.blind_baseline:
        return (
            f"members and controls can be told apart without the release (AUC {suite.blind.value:.2f}), "
            "so that nothing follows about it"
        )
    return ""


def _or_void(metric: str, value: float, n: int, controls: dict[str, bool], how: str, void: str) -> Finding:
    if void:
        return Finding(metric=metric, estimate=None, controls=controls, how=void)
    return Finding(metric=metric, estimate=exact(metric, value, n=n).estimate, controls=controls, how=how)


def _worst(metric: str, found: dict[str, Estimate], controls: dict[str, bool], void: str) -> Finding:
    if void or not found:
        return Finding(metric=metric, estimate=None, controls=controls, how=void or "no attack could be run")
    worst = max(found, key=lambda name: found[name].value)
    estimate = Estimate(
        value=found[worst].value,
        low=max(e.low for e in found.values()),
        high=max(e.high for e in found.values()),
        n=min(e.n for e in found.values()),
    )
    how = f"the worst of {len(found)} attacks ({worst}), with ends that hold for all of them at once"
    return Finding(metric=metric, estimate=estimate, confidence=TWO_SIDED, controls=controls, how=how)


def _wider(estimate: Estimate, attacks: int) -> Estimate:
    """Return a 95 % interval as one of several that hold together at `TWO_SIDED`."""
    factor = NormalDist().inv_cdf(1 - (1 - TWO_SIDED) / 2 / max(1, attacks)) / AT_95
    low, high = (estimate.value + factor * (end - estimate.value) for end in (estimate.low, estimate.high))
    return Estimate(value=estimate.value, low=low, high=high, n=estimate.n, unit=estimate.unit)


def _disclosure(suite: Suite, split: str, attempts: int) -> Audit:
    judged, by_lot = suite.disclosure, suite.split == RANDOM and suite.blind_baseline
    members, controls = _number(judged, "members"), _number(judged, "controls")
    counted = (
        ("main", "members_disclosed", members),
        ("control", "controls_disclosed", controls),
        ("copies", "copies_found", members),
    )
    rates = [_rate(of, _number(judged, name), n) for of, name, n in counted if n]
    least = smallest_leak(suite)
    seen = f"copies of {100 * least:g} % of the members" if least is not None else "no share of copied members"
    return Audit(
        name="disclosure", kind="disclosure", version=VERSION, n_member=members, n_control=controls, split=split,
        estimate=rates[0].rate - rates[1].rate if len(rates) == 3 else None, ci=None,
        metric="excess of members shown",
        positive_control=bool(judged["positive_control_detected"]), blind_baseline=suite.blind_baseline,
        eps_lb=float(judged["eps_lb"] or 0) if by_lot else None,
        eps_ceiling=float(judged["eps_ceiling"] or 0) if by_lot else None,
        p=float(judged["p_value"] or 0) if by_lot else None,
        power=tuple(
            Power(share=share, noticed=float(judged[name] or 0))
            for share, name in ((ONE_PERCENT, "power_1_percent"), (FIVE_PERCENT, "power_5_percent"))
        ),
        smallest_leak=least, rates=tuple(rates), n_attempts=attempts,
        reason=f"with probability {POWER:g} this test would have found {seen}",
    )  # fmt: skip


def _audit(record: Record, split: str, attempts: int) -> Audit:
    name, _, part = record.name.partition(".")
    deciding = None if record.void else record.risk if record.risk is not None else record.auc
    return Audit(
        name=name, kind=KINDS.get(name, record.kind), of=_of(part), version=VERSION, split=split,
        n_member=record.n_member, n_control=record.n_control,
        estimate=None if deciding is None else deciding.value,
        ci=None if deciding is None else (deciding.low, deciding.high),
        metric="excess over controls" if record.kind == "risk" else "auc",
        positive_control=record.positive_control.get(FIVE_PERCENT, 0.0) >= POWER if record.positive_control else None,
        negative_control=None if record.negative_control is None else record.negative_control >= ONE_PERCENT,
        blind_baseline=record.blind_baseline,
        p=record.p_value, p_holm=record.p_adjusted,
        auc=None if record.auc is None else record.auc.value,
        auc_ci=None if record.auc is None else (record.auc.low, record.auc.high),
        tpr=tuple(At(fpr=fpr, tpr=e.value, low=e.low, high=e.high) for fpr, e in sorted(record.tpr.items())),
        power=tuple(Power(share=share, noticed=noticed) for share, noticed in sorted(record.positive_control.items())),
        n_attempts=attempts, reason="; ".join(word for word in (record.void, record.note) if word),
    )  # fmt: skip


def _of(part: str) -> str:
    """Return in words on whom, or how, an attack was tried: `ef_class.k5` is about the class, by 5 neighbours."""
    words = [
        f"{word[1:]} nearest" if re.fullmatch(r"k\d+", word) else word.replace("_", " ") for word in part.split(".")
    ]
    return ", ".join(word for word in words if word)


def _rate(of: str, successes: int, attempts: int) -> Rate:
    share = clopper_pearson(successes, attempts)
    return Rate(of=of, successes=successes, attempts=attempts, rate=share.value, low=share.low, high=share.high)


def _number(judged: Mapping[str, int | float | bool | None], *names: str) -> int:
    return sum(int(judged[name] or 0) for name in names)
