"""Who decided: how much each site's expert is heard about the patients of a site, as a certificate says it."""

import re
from collections.abc import Iterable

from evaluation.predicate import Utility

_METRIC = re.compile(r"weight of (?P<expert>\S+) at (?P<site>\S+)")


def metric(expert: str, site: str) -> str:
    """Return the name under which the weight of an expert at a site stands among the scores."""
    return f"weight of {expert} at {site}"


def is_weight(name: str) -> bool:
    """Say whether a metric is such a weight, and not a score."""
    return _METRIC.fullmatch(name) is not None


def lines(results: Iterable[Utility]) -> tuple[str, ...]:
    """Return one sentence a site, the expert that is heard most first; none where there are no experts."""
    found: dict[str, list[tuple[float, str]]] = {}
    for result in results:
        if (named := _METRIC.fullmatch(result.metric)) is not None and result.estimate is not None:
            found.setdefault(named["site"], []).append((result.estimate, named["expert"]))
    return tuple(_line(site, sorted(weights, key=lambda w: (-w[0], w[1]))) for site, weights in sorted(found.items()))


def _line(site: str, weights: list[tuple[float, str]]) -> str:
    (most, expert), *others = weights
    rest = "".join(f", {weight:.2f} by that of {other}" for weight, other in others)
    return f"patients of {site}: decided {most:.2f} by the expert of {expert}{rest}"
