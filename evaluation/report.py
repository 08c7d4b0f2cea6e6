"""The certificate drawn for people: one HTML file without scripts or outside resources, and a table for the terminal.

Everything shown is read off the signed predicate; the report adds words and figures, never numbers of its own.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from cohorts.study import STRUCTURES
from evaluation import attempts, figures, heard, plots, words
from evaluation.evidence import Verdict
from evaluation.page import PAGES
from evaluation.predicate import FEWEST, RELEASE, SERVER, Left
from evaluation.rulings import rule_lines
from evaluation.schema import decode
from evaluation.statement import Predicate

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Pictures:
    """Frames to show, grey, uint8, `(n, height, width)`, with their masks where there are any."""

    pixels: NDArray[np.uint8]
    masks: NDArray[np.uint8] | None = None


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
    dp, epsilon = predicate.dp, _epsilon(predicate)
    return _page().render(
        p=predicate,
        verdict=words.verdict_of(predicate),
        plain=words.plain(predicate),
        aid=words.reading_aid(epsilon, dp.delta) if epsilon is not None and dp.delta is not None else "",
        sure=None if epsilon is None else words.certainty(epsilon),
        proved=_proved(predicate),
        attempts=attempts.summary(predicate.audits),
        questions=attempts.questions(predicate.audits),
        audits=[
            attempts.line(
                audit, figure=figures.rates(predicate, audit, f"audit-{i}"), powers=figures.powers(predicate, audit)
            )
            for i, audit in enumerate(predicate.audits)
        ],
        planted=attempts.planted(predicate.filter),
        screened=math.exp((predicate.filter.eps or 0.0) / (predicate.filter.votes or 1)),
        rules=rule_lines(predicate),
        sheets=[
            (CAPTIONS[origin], plots.sheet(pictures[origin].pixels, pictures[origin].masks))
            for origin in CAPTIONS
            if origin in pictures
        ],
        films=[(CAPTIONS[origin], plots.film(films[origin])) for origin in CAPTIONS if films and origin in films],
        tints=[(STRUCTURES[label], f"rgb{tint}") for label, tint in plots.TINTS.items()],
        stays_at_site=stays_at_site,
        utility=figures.utility(predicate.utility),
        differences=figures.differences(predicate),
        parity=[u for u in predicate.utility if u.difference is not None or u.verdict or u.equivalent],
        heard=heard.lines(predicate.utility),
        left=_left(predicate.left),
        least=min((a.smallest_leak for a in predicate.audits if a.smallest_leak is not None), default=None),
        SERVER=SERVER,
        RELEASE=RELEASE,
        FEWEST=FEWEST,
        RATES=figures.RATES_OF,
        SHOWN={Verdict.PASS: "shown", Verdict.FAIL: "refuted", Verdict.INCONCLUSIVE: "open"},
    )


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
            words.number(line.estimate.value) if line.estimate else "–",
            words.interval(line.estimate),
            f"{line.side} {line.held_against}".strip(),
            Text(line.outcome.verdict.value, styles[line.outcome.verdict]),
        )
    return table


def _page() -> "Template":
    import jinja2

    pages = jinja2.Environment(
        loader=jinja2.DictLoader(PAGES),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    pages.filters.update(
        number=words.number,
        interval=words.interval,
        power=words.power,
        words=words.spoken,
        opened=words.opened,
        score=words.score,
        bytes=words.weight,
        arm=figures.arm,
    )
    return pages.get_template("page")


def _epsilon(predicate: Predicate) -> float | None:
    """Return ε of the release; where it has none, that of the updates which the server saw."""
    per_view = predicate.dp.per_view
    return per_view[RELEASE] if per_view[RELEASE] is not None else per_view[SERVER]


def _proved(predicate: Predicate) -> tuple[float, float] | None:
    """Return the largest ε that anything in the certificate proves, and the most that it could have proved."""
    found = [(a.eps_lb, a.eps_ceiling) for a in predicate.audits]
    found += [(a.eps_lb, a.eps_ceiling) for a in predicate.dp.audited]
    bounds = [(low, ceiling) for low, ceiling in found if low is not None and ceiling is not None]
    return (max(low for low, _ in bounds), max(ceiling for _, ceiling in bounds)) if bounds else None


def _left(left: Sequence[Left]) -> Mapping[str, Any]:
    """Return what left the sites as a table: a row a kind, a column a site, and the bytes of each site together."""
    sites = sorted({cell.site for cell in left})
    there = {(cell.kind, cell.charged, cell.site): cell for cell in left}
    kinds = dict.fromkeys((cell.kind, cell.charged) for cell in left)
    return {
        "sites": sites,
        "rows": [(*kind, [there.get((*kind, site)) for site in sites]) for kind in kinds],
        "totals": [sum(cell.bytes for cell in left if cell.site == site) for site in sites],
    }
