"""The certificate drawn for people: one HTML file without scripts or outside resources, and a table for the terminal.

Everything shown is read off the signed predicate; the report adds words and figures, never numbers of its own.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cohorts.study import STRUCTURES
from evaluation import heard, plots, words
from evaluation.evidence import Verdict
from evaluation.page import PAGE
from evaluation.plots import Row
from evaluation.policy import Policy, Rule
from evaluation.predicate import FEWEST, RELEASE, SERVER, Audit, EvaluatedRule, Number, Utility
from evaluation.schema import decode
from evaluation.statement import Predicate
from evaluation.useful import OVERALL, UNITS

if TYPE_CHECKING:
    from jinja2 import Template
    from rich.table import Table

PHANTOM, REAL, SYNTHETIC, AUDITED = "phantom", "real", "synthetic", "audited"
CAPTIONS: Mapping[str, str] = {
    PHANTOM: "Public phantoms, simulated: no patient",
    REAL: "Real studies of this site",
    SYNTHETIC: "The release: people who do not exist",
    AUDITED: "The release, as it was found",
}
ARMS: Mapping[str, tuple[str, str]] = {  # how an arm of a task is called, and the tone it is drawn in
    "TSTR": ("the release", "release"),
    "release": ("the release", "release"),
    "synthetic": ("the release", "release"),
    "TRTR": ("the sites’ studies", "real"),
    "real": ("the sites’ studies", "real"),
    "real_federated": ("the sites’ studies, in common", "real"),
    "real_local": ("the sites’ studies, each alone", "real"),
    "phantom": ("public phantoms alone", "public"),
}
RATES: Mapping[str, tuple[str, str]] = {  # findings `<attack>.<this>`: shares of subjects beside its estimate
    "members": ("members", "release"),
    "controls": ("people it never saw", "public"),
    "copies": ("altered copies of members", "alarm"),
}
POWERS: Mapping[str, str] = {"power_1_percent": "1 %", "power_5_percent": "5 %"}  # of members copied, and noticed


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """Frames to show, grey, uint8, `(n, height, width)`, with their masks where there are any."""

    pixels: NDArray[np.uint8]
    masks: NDArray[np.uint8] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RuleLine:
    """One rule of the policy with its evidence, as a row of the table."""

    rule: Rule
    outcome: EvaluatedRule
    estimate: Number | None
    how: str

    @property
    def held_against(self) -> str:
        """The number that decides, and the bound it must meet."""
        must = f"{SIGNS[self.rule.op]} {_number(self.rule.threshold)}"
        if self.outcome.bound_used is None:
            return f"must be {must}"
        joined = " " if self.outcome.verdict is Verdict.PASS else ", must be "
        return f"{_number(self.outcome.bound_used)}{joined}{must}"

    @property
    def side(self) -> str:
        """The end of the interval that `held_against` names."""
        if self.outcome.bound_used is None or self.estimate is None or self.estimate.low == self.estimate.high:
            return ""
        return "lower end" if self.outcome.bound_used == self.estimate.low else "upper end"


SIGNS = {"<=": "≤", "<": "<", ">=": "≥", ">": ">", "|.|<": "within ±"}


def draw(
    predicate: Predicate | Mapping[str, Any],
    pictures: Mapping[str, Pictures],
    *,
    films: Mapping[str, NDArray[np.uint8]] | None = None,
    stays_at_site: bool = False,
) -> str:
    """Return the report as HTML; the same arguments give the same bytes.

    Args:
        predicate: the certificate's predicate, as an object or as its JSON.
        pictures: frames by origin: `phantom`, `real`, `synthetic`, or `audited`.
        films: clips by origin, uint8, `(n, frames, height, width)`, each a strip in the report.
        stays_at_site: real studies may be shown, and the report says on every page that it must not leave the site.

    Raises:
        ValueError: the predicate contradicts itself, a picture has an unknown origin, or real studies were given to a
            report that may leave the site.
    """
    if not isinstance(predicate, Predicate):
        predicate = decode(Predicate, dict(predicate), "predicate")
    shown = {**pictures, **(films or {})}
    if unknown := sorted(set(shown) - set(CAPTIONS)):
        raise ValueError(f"pictures of {unknown[0]!r}; a report shows {', '.join(CAPTIONS)}")
    if REAL in shown and not stays_at_site:
        raise ValueError("real studies are shown only in a report that stays_at_site")
    return _page().render(
        p=predicate,
        verdict=words.verdict_of(predicate),
        plain=words.plain(predicate),
        aid=_reading_aid(predicate),
        rules=rule_lines(predicate),
        sheets=[
            (CAPTIONS[origin], plots.sheet(pictures[origin].pixels, pictures[origin].masks))
            for origin in CAPTIONS
            if origin in pictures
        ],
        films=[(CAPTIONS[origin], plots.film(films[origin])) for origin in CAPTIONS if films and origin in films],
        tints=[(STRUCTURES[label], f"rgb{tint}") for label, tint in plots.TINTS.items()],
        stays_at_site=stays_at_site,
        utility=_utility(predicate.utility),
        differences=_differences(predicate),
        heard=heard.lines(predicate.utility),
        audits=[
            (audit, _rates(predicate, audit, f"audit-{i}"), _powers(predicate, audit))
            for i, audit in enumerate(predicate.audits)
        ],
        SERVER=SERVER,
        RELEASE=RELEASE,
        least=max((a.smallest_leak for a in predicate.audits if a.smallest_leak is not None), default=None),
        FEWEST=FEWEST,
    )


def rule_lines(predicate: Predicate) -> tuple[RuleLine, ...]:
    """Return every rule of the signed policy with its evidence, required rules first."""
    found = {finding.metric: finding for finding in predicate.findings}
    outcomes = {outcome.rule: outcome for outcome in predicate.policy.evaluated_rules}
    lines = []
    for rule in Policy.parse(predicate.policy.text).rules:
        finding = found.get(rule.metric)
        lines.append(
            RuleLine(
                rule=rule,
                outcome=outcomes[rule.id],
                estimate=finding.estimate if finding else None,
                how=finding.how if finding else "",
            )
        )
    return tuple(sorted(lines, key=lambda line: not line.outcome.required))


def findings_table(predicate: Predicate) -> "Table":
    """Return the rules and their evidence as a table for the terminal."""
    from rich.table import Table
    from rich.text import Text

    styles = {Verdict.PASS: "green", Verdict.FAIL: "bold red", Verdict.INCONCLUSIVE: "yellow"}
    table = Table(
        title=f"Findings · {predicate.release.lane} lane",
        title_justify="left",
        caption_justify="left",
        caption=Text.assemble((predicate.verdict.value, styles[predicate.verdict]), " overall"),
    )
    for heading, justify in (
        ("rule", "left"),
        ("found", "right"),
        ("interval", "right"),
        ("held against", "left"),
        ("verdict", "left"),
    ):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    for line in rule_lines(predicate):
        table.add_row(
            Text(line.rule.id if line.outcome.required else f"{line.rule.id} (not required)"),
            _number(line.estimate.value) if line.estimate else "–",
            _interval(line.estimate),
            f"{line.side} {line.held_against}".strip(),
            Text(line.outcome.verdict.value, styles[line.outcome.verdict]),
        )
    return table


def _page() -> "Template":
    import jinja2

    pages = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    pages.filters.update(number=_number, interval=_interval, power=words.power, words=_words, arm=_arm, score=_score)
    return pages.from_string(PAGE)


def _reading_aid(predicate: Predicate) -> str:
    dp = predicate.dp
    epsilon = dp.per_view[RELEASE] if dp.per_view[RELEASE] is not None else dp.per_view[SERVER]
    return words.reading_aid(epsilon, dp.delta) if epsilon is not None and dp.delta is not None else ""


def _utility(results: Sequence[Utility]) -> str:
    """Draw each task's main metrics; those that detail one (`dice_atrium` beside `dice`) stand in the table.

    So do errors and distances, whose units are others, and what is said of all patients together.
    """
    metrics = {(r.task, r.metric) for r in results}
    groups: dict[str, list[Row]] = {}
    for result in results:
        details = any(t == result.task and result.metric.startswith(f"{m}_") for t, m in metrics)
        details = details or result.metric.endswith(UNITS) or result.metric in OVERALL
        details = details or heard.is_weight(result.metric)
        if result.estimate is None or result.ci is None or details:
            continue
        label, tone = _arm(result.arm), ARMS.get(result.arm, ("", "real"))[1]
        note = f"{_score(result.estimate)}  ({_score(result.ci[0])} to {_score(result.ci[1])})"
        row = Row(label=label, value=result.estimate, low=result.ci[0], high=result.ci[1], tone=tone, note=note)
        groups.setdefault(f"{_words(result.task).capitalize()}: {_words(result.metric)}", []).append(row)
    return (
        plots.forest(groups, axis="on the sites’ test patients, by what was trained on", name="utility")
        if groups
        else ""
    )


def _differences(predicate: Predicate) -> str:
    rows = [
        Row(
            label=_compared(line.rule.metric),
            value=line.estimate.value,
            low=line.estimate.low,
            high=line.estimate.high,
            note=f"{line.outcome.verdict}, if {SIGNS[line.rule.op]} {_number(line.rule.threshold)}",
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


def _rates(predicate: Predicate, audit: Audit, name: str) -> str:
    found = {f.metric: f.estimate for f in predicate.findings}
    rows = [
        Row(label=label, value=e.value, low=e.low, high=e.high, tone=tone, note=f"{_number(100 * e.value)} % of {e.n}")
        for kind, (label, tone) in RATES.items()
        if (e := found.get(f"{audit.name}.{kind}")) is not None
    ]
    return plots.bars(rows, axis="share of subjects that the attack finds", name=name) if rows else ""


def _powers(predicate: Predicate, audit: Audit) -> list[tuple[str, float]]:
    """Return with which probability the attack would have noticed copies of so many members."""
    found = {f.metric: f.estimate for f in predicate.findings}
    measured = ((share, found.get(f"{audit.name}.{kind}")) for kind, share in POWERS.items())
    return [(share, number.value) for share, number in measured if number is not None]


def _number(value: float | None) -> str:
    """Return a number as a table wants it: three digits, a true minus, a dash for nothing."""
    if value is None:
        return "–"
    if value != 0 and not 1e-3 <= abs(value) < 1e6:
        return words.power(value) if value > 0 else f"−{words.power(-value)}"
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return text.replace("-", "−")


def _interval(number: Number | None) -> str:
    if number is None:
        return "–"
    return "exact" if number.low == number.high else f"{_number(number.low)} to {_number(number.high)}"


def _score(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}".replace("-", "−")


def _arm(name: str) -> str:
    return ARMS.get(name, (_words(name), ""))[0]


def _compared(metric: str) -> str:
    task = metric.removeprefix("utility.")
    other = "phantoms" if task.endswith("_gain") else "sites’ studies"
    return f"{_words(task.removesuffix('_gain'))}, against {other}"


def _words(name: str) -> str:
    return name.replace("_", " ").replace("dice", "Dice")
