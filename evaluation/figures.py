"""The figures of the report, drawn from the signed predicate: what to draw in which tone; `plots` does the drawing."""

from collections.abc import Iterator, Mapping, Sequence

from evaluation import heard, plots, words
from evaluation.plots import Row
from evaluation.predicate import Audit, Utility
from evaluation.rulings import SIGNS, rule_lines
from evaluation.statement import Predicate
from evaluation.useful import OVERALL, UNITS

ARMS: Mapping[str, tuple[str, str]] = {  # how an arm of a task is called, and the tone it is drawn in
    "TSTR": ("the release", "release"),
    "release": ("the release", "release"),
    "synthetic": ("the release", "release"),
    "TS+R": ("the release and the sites’ studies", "release"),
    "TRTR": ("the sites’ studies", "real"),
    "real": ("the sites’ studies", "real"),
    "real_federated": ("the sites’ studies, in common", "real"),
    "real_local": ("the sites’ studies, each alone", "real"),
    "real_and_release": ("the sites’ studies and the release", "real"),
    "real_on_release": ("the sites’ studies, tried on the release", "real"),
    "phantom": ("public phantoms alone", "public"),
    "trivial": ("nothing: the most usual answer", "public"),
}
RATES: Mapping[str, tuple[str, str]] = {  # findings `<attack>.<this>`: shares of subjects beside its estimate
    "members": ("members", "release"),
    "controls": ("people it never saw", "public"),
    "copies": ("altered copies of members", "alarm"),
}
RATES_OF: Mapping[str, str] = {  # what `Rate.of` says
    "main": "Members",
    "control": "People it never saw",
    "naive": "Guessing without it",
    "copies": "Planted copies",
}
TONES: Mapping[str, str] = {"control": "public", "naive": "real", "copies": "alarm"}
POWERS: Mapping[str, str] = {"power_1_percent": "1 %", "power_5_percent": "5 %"}  # of members copied, and noticed


Task = tuple[str, str]  # name and metric


def is_release(arm: str) -> bool:
    """Say whether an arm was trained on the release alone."""
    return ARMS.get(arm, ("", ""))[0] == "the release"


def is_real(arm: str) -> bool:
    """Say whether an arm was trained on real studies alone."""
    return ARMS.get(arm, ("", ""))[1] == "real"


def main(results: Sequence[Utility]) -> Iterator[Utility]:
    """Yield each task's main metrics; those that detail one (`dice_atrium` beside `dice`) stand in the table.

    So do errors and distances, whose units are others, and what is said of all patients together.
    """
    metrics = {(r.task, r.metric) for r in results}
    for result in results:
        details = any(t == result.task and result.metric.startswith(f"{m}_") for t, m in metrics)
        details = details or result.metric.endswith(UNITS) or result.metric in OVERALL
        if result.estimate is not None and result.ci is not None and not details and not heard.is_weight(result.metric):
            yield result


def utility(results: Sequence[Utility]) -> str:
    """Draw each task's main metrics, arm below arm."""
    groups: dict[str, list[Row]] = {}
    for result in main(results):
        estimate, (low, high) = result.estimate or 0.0, result.ci or (0.0, 0.0)
        label, tone = arm(result.arm), ARMS.get(result.arm, ("", "real"))[1]
        note = f"{words.score(estimate)}  ({words.score(low)} to {words.score(high)})"
        row = Row(label=label, value=estimate, low=low, high=high, tone=tone, note=note)
        groups.setdefault(f"{words.spoken(result.task).capitalize()}: {words.spoken(result.metric)}", []).append(row)
    return (
        plots.forest(groups, axis="on the sites’ test patients, by what was trained on", name="utility")
        if groups
        else ""
    )


def differences(predicate: Predicate) -> str:
    """Draw the differences that rules of the policy hang on."""
    rows = [
        Row(
            label=_compared(line.rule.metric),
            value=line.estimate.value,
            low=line.estimate.low,
            high=line.estimate.high,
            note=f"{line.outcome.verdict}, if {SIGNS[line.rule.op]} {words.number(line.rule.threshold)}",
        )
        for line in rule_lines(predicate)
        if line.rule.metric.startswith("utility.") and line.estimate
    ]
    if not rows:
        return ""
    return plots.forest(
        {"": rows},
        axis="difference, paired by patient (right of 0: the release is better)",
        name="difference",
        zero=True,
    )


def rates(predicate: Predicate, audit: Audit, name: str) -> str:
    """Draw with which share of whom an attack succeeds, as the audit says it, or the findings beside it."""
    found = {f.metric: f.estimate for f in predicate.findings}
    rows = [
        Row(label=RATES_OF.get(r.of, r.of), value=r.rate, low=r.low, high=r.high, tone=TONES.get(r.of, "release"),
            note=f"{words.number(100 * r.rate)} % of {r.attempts:,}")
        for r in audit.rates
    ] or [
        Row(label=label, value=e.value, low=e.low, high=e.high, tone=tone,
            note=f"{words.number(100 * e.value)} % of {e.n}")
        for kind, (label, tone) in RATES.items()
        if (e := found.get(f"{audit.name}.{kind}")) is not None
    ]  # fmt: skip
    return plots.bars(rows, axis="share for whom the attack succeeds", name=name) if rows else ""


def powers(predicate: Predicate, audit: Audit) -> list[tuple[str, float]]:
    """Return with which probability the attack would have noticed copies of so many members."""
    if audit.power:
        return [(f"{100 * p.share:g} %", p.noticed) for p in audit.power]
    found = {f.metric: f.estimate for f in predicate.findings}
    measured = ((share, found.get(f"{audit.name}.{kind}")) for kind, share in POWERS.items())
    return [(share, number.value) for share, number in measured if number is not None]


def arm(name: str) -> str:
    """Return what an arm of a task was trained on."""
    return ARMS.get(name, (words.spoken(name), ""))[0]


def _compared(metric: str) -> str:
    task = metric.removeprefix("utility.")
    other = "phantoms" if task.endswith("_gain") else "sites’ studies"
    return f"{words.spoken(task.removesuffix('_gain'))}, against {other}"
