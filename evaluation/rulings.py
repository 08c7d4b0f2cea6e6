"""Every rule of the signed policy with its evidence, as the report, the terminal and the figures show it."""

from dataclasses import dataclass

from evaluation import words
from evaluation.evidence import Verdict
from evaluation.policy import Policy, Rule
from evaluation.predicate import EvaluatedRule, Number
from evaluation.statement import Predicate

SIGNS = {"<=": "≤", "<": "<", ">=": "≥", ">": ">", "|.|<": "within ±"}


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
        must = f"{SIGNS[self.rule.op]} {words.number(self.rule.threshold)}"
        if self.outcome.bound_used is None:
            return f"must be {must}"
        joined = " " if self.outcome.verdict is Verdict.PASS else ", must be "
        return f"{words.number(self.outcome.bound_used)}{joined}{must}"

    @property
    def side(self) -> str:
        """The end of the interval that `held_against` names."""
        if self.outcome.bound_used is None or self.estimate is None or self.estimate.low == self.estimate.high:
            return ""
        return "lower end" if self.outcome.bound_used == self.estimate.low else "upper end"


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
