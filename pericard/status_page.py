"""The status of a campaign as one page: no script, nothing loaded from elsewhere, fit to be printed."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import TYPE_CHECKING

from pericard.status import site_cells, stage_cells

if TYPE_CHECKING:
    from server.status import Status

STYLE = """
body { font: 14px/1.45 system-ui, sans-serif; color: #1c1c1c; background: #fff; margin: 2rem auto; max-width: 72rem;
  padding: 0 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
table { border-collapse: collapse; width: 100%; } thead { display: table-header-group; }
th, td { text-align: left; padding: .3rem .6rem; border-bottom: 1px solid #ccc; vertical-align: top; }
td { font-variant-numeric: tabular-nums; } .failure { color: #8c1515; }
@media print { body { margin: 0; max-width: none; font-size: 10pt; } tr { break-inside: avoid; } }
"""


def page(seen: "Status") -> str:
    """Return the page."""
    title = f"{seen.federation}: {seen.run or 'no campaign'}"
    link = "the SuperLink answers" if seen.link else "the SuperLink does not run"
    failure = f'<p class="failure">{escape(seen.failure)}</p>' if seen.failure else ""
    return (
        f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(title)}</title>'
        f"<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">"
        f"<style>{STYLE}</style></head><body>\n<h1>{escape(title)}</h1>\n"
        f"<p><strong>{escape(seen.state)}</strong>; {link}; as of {escape(seen.utc)}</p>\n{failure}"
        + _table(
            "Sites",
            ("site", "node", "since", "last answer", "answers", "sent", "ε charged", "last failure"),
            map(site_cells, seen.sites),
        )
        + _table("Stages", ("stage", "state", "exchange", "ε", "says"), map(stage_cells, seen.stages))
        + _table("Events", ("UTC", "stage", "says"), seen.events)
        + "</body></html>\n"
    )


def _table(title: str, names: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    body = "\n".join("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows)
    if not body:
        return ""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in names)
    return f"<h2>{title}</h2>\n<table><thead><tr>{head}</tr></thead><tbody>\n{body}\n</tbody></table>\n"
