"""What the numbers of a certificate mean, in sentences for people who did not make them.

Sources: the certainty bound is Bayes' rule on even odds under (ε, δ) (Wasserman and Zhou 2010,
doi:10.1198/jasa.2009.tm08651); the best test against a Gaussian mechanism is that of Gaussian differential privacy
(Dong, Roth and Su 2022, doi:10.1111/rssb.12454), its profile that of Balle and Wang 2018 (arXiv 1805.06530).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from evaluation.evidence import Verdict
from evaluation.predicate import RELEASE, SERVER, Basis, Number
from evaluation.statement import Predicate

NORMAL = NormalDist()
SPOKEN = {
    "eps_lb": "ε proved", "auc": "AUC", "fid": "FID", "kid": "KID", "fvd": "FVD", "domias": "density ratio (DOMIAS)",
    "tpr_at_fpr_1pct": "members found at 1 % false alarms",
    "query.reserve": "admission and ledger head", "train": "updates of training",
    "query.keys": "keys of a secure sum", "query.shares": "sealed shares of masks",
    "train.masked": "updates of training, under masks", "query.unmask": "opened shares of masks",
    "query.guess": "guesses about canaries",
    "query.measure": "moments of shapes", "evaluate": "scores on test patients", "query.attack": "counts of an attack",
    "query.screen": "a bit per candidate", "query.assess": "counts of attacks",
}  # fmt: skip
HEADLINES = {
    Verdict.PASS: "Every required rule holds, each on the unfavourable end of its interval.",
    Verdict.FAIL: "At least one required rule is violated, even on the favourable end of its interval.",
    Verdict.INCONCLUSIVE: "No required rule is shown to be violated, but the evidence does not settle all of them.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ceiling:
    """The most that any membership test can reach against a Gaussian mechanism of some ε and δ."""

    auc: float
    tpr_at_1_percent: float


def certainty(epsilon: float) -> float:
    """Return how certain an observer can become who was undecided: e^ε / (1 + e^ε), up to δ."""
    return 1 / (1 + math.exp(-epsilon))


def ceiling(epsilon: float, delta: float) -> Ceiling:
    """Return the ceiling of the Gaussian mechanism that is exactly (ε, δ): orientation, not a second guarantee."""
    if epsilon > 300:  # beyond what a double can weigh, and beyond any meaning
        return Ceiling(auc=1.0, tpr_at_1_percent=1.0)
    low, high = 1e-6, 60.0
    for _ in range(200):
        mu = (low + high) / 2
        low, high = (mu, high) if _delta(mu, epsilon) < delta else (low, mu)
    return Ceiling(
        auc=NORMAL.cdf(low / math.sqrt(2)),
        tpr_at_1_percent=NORMAL.cdf(NORMAL.inv_cdf(0.01) + low),
    )


def reading_aid(epsilon: float, delta: float) -> str:
    """Return the sentence that stands beside every ε (privacy of one patient, even odds)."""
    at_most = f"{100 * certainty(epsilon):.{1 if certainty(epsilon) < 0.99 else 2}f} %"
    best = ceiling(epsilon, delta)
    return (
        "An observer who is undecided (50/50) about one patient’s participation can become at most "
        f"{at_most} certain, up to an exceptional probability of the order of δ = {power(delta)}. For orientation: "
        f"against a Gaussian mechanism of this ε the best possible membership test has an AUC of {best.auc:.2f} and "
        f"finds {100 * best.tpr_at_1_percent:.0f} % of the members at 1 % false alarms."
    )


def power(number: float) -> str:
    """Return a small number as people write it: `1 × 10⁻⁵`."""
    digits, _, exponent = f"{number:.1e}".partition("e")
    raised = str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{float(digits):g} × 10{raised}" if number else "0"


def plain(predicate: Predicate) -> tuple[str, ...]:
    """Return the paragraphs that say what this release is."""
    if predicate.basis is not None:
        return _of_an_audit(predicate, predicate.basis)
    release, n = predicate.release, len(predicate.sites)
    updates = "noised model updates" if predicate.dp.per_view[SERVER] is not None else "model updates"
    return (
        f"{_count(n).capitalize()} {'site' if n == 1 else 'sites'} trained an image generator together. No study left "
        f"a site: only {updates} and counted results did. The generator then drew hearts of people who do not exist.",
        f"This release holds {release.n_samples:,} synthetic samples ({_listed(release.views)}), labelled with "
        f"{_listed([label.replace('_', ' ') for label in release.labels])}. "
        f"Meant for: {_clause(release.intended_use)}. Not for: {_clause(release.forbidden_use)}. "
        f"Licence: {release.license}.",
        _privacy(predicate),
        "This report is evidence. Whether it suffices, and what the release is in law, is decided by people.",
    )


def _of_an_audit(predicate: Predicate, basis: Basis) -> tuple[str, ...]:
    release = predicate.release
    return (
        f"This is an audit of a release, whoever made it. On the table lay {_listed(basis.given)}: evidence of tier "
        f"{basis.tier}. That allows to conclude {basis.allows}.",
        f"The release holds {release.n_samples:,} files of pictures or clips"
        f"{f' ({_listed(release.views)})' if release.views else ''}. How they were made, and with which promise, an "
        "audit does not know: it states no ε.",
        "This report is evidence. Whether it suffices, and what the release is in law, is decided by people.",
    )


def verdict_of(predicate: Predicate) -> str:
    """Return the verdict in a sentence, with the rules it hangs on."""
    text = HEADLINES[predicate.verdict]
    if predicate.verdict is Verdict.PASS:
        return text
    rules = [r.rule for r in predicate.policy.evaluated_rules if r.required and r.verdict is predicate.verdict]
    return f"{text} {'Violated' if predicate.verdict is Verdict.FAIL else 'Open'}: {_listed(rules)}." if rules else text


def _privacy(predicate: Predicate) -> str:
    dp = predicate.dp
    released, trained = dp.per_view[RELEASE], dp.per_view[SERVER]
    at = f"per patient at δ = {power(dp.delta)}" if dp.delta is not None else "per patient"
    if released is not None:
        return (
            f"What one patient can change is bounded: ε = {released:.3g} {at}, over every step that opened the "
            "sites’ studies. The bound covers the released files themselves."
        )
    if trained is not None:
        return (
            "The released files have no ε: they were selected by a filter that reads the sites’ studies. The generator "
            f"they come from has ε = {trained:.3g} {at}. For the files, the measurements below are what there is."
        )
    return (
        "This certificate states no ε, neither of the generator nor of the released files. The measurements below are "
        "all there is."
    )


def opened(sentence: str) -> str:
    """Return a text with a capital at its beginning, and the rest as it was."""
    return f"{sentence[:1].upper()}{sentence[1:]}"


def weight(n_bytes: int) -> str:
    """Return a number of bytes in the unit that suits it."""
    size, unit = float(n_bytes), "B"
    for larger in ("kB", "MB", "GB", "TB"):
        if size < 1000:
            break
        size, unit = size / 1000, larger
    return f"{size:.3g} {unit}"


def _delta(mu: float, epsilon: float) -> float:
    """Return δ(ε) of the Gaussian mechanism with parameter μ (Balle and Wang 2018, theorem 8)."""
    return NORMAL.cdf(-epsilon / mu + mu / 2) - math.exp(epsilon) * NORMAL.cdf(-epsilon / mu - mu / 2)


def _listed(words: Sequence[str]) -> str:
    *most, last = words or ("nothing",)
    return f"{', '.join(most)} and {last}" if most else last


def _clause(sentence: str) -> str:
    """Return `sentence` so that it can go on after a colon."""
    return f"{sentence[:1].lower()}{sentence[1:]}".rstrip(". ")


def _count(n: int) -> str:
    names = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
    return names[n] if n < len(names) else str(n)


def number(value: float | None) -> str:
    """Return a number as a table wants it: three digits, a true minus, a dash for nothing."""
    if value is None:
        return "–"
    if value != 0 and not 1e-3 <= abs(value) < 1e6:
        return power(value) if value > 0 else f"−{power(-value)}"
    text = f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return text.replace("-", "−")


def interval(found: Number | None) -> str:
    """Return the ends of an interval, or that there is none to speak of."""
    if found is None:
        return "–"
    return "exact" if found.low == found.high else f"{number(found.low)} to {number(found.high)}"


def score(value: float | None) -> str:
    """Return a score with three decimals, a true minus, a dash for nothing."""
    return "–" if value is None else f"{value:.3f}".replace("-", "−")


def spoken(name: str) -> str:
    """Return the name of a field, a task or a metric as words."""
    return SPOKEN.get(name, name.replace("_", " ").replace("dice", "Dice"))
