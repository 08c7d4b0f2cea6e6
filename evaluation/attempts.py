"""The attacks of a certificate in a reader's words: what each asked, what came of it, and what its silence is worth."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from evaluation.evidence import Verdict
from evaluation.tried import Audit, Filter

SIGNIFICANT = 0.05
QUESTIONS: Mapping[str, str] = {
    "disclosure": "Is the release closer to its members than to people it never saw?",
    "membership": "Can somebody tell whether a person took part?",
    "inference": "Can something unknown about a person be guessed from it?",
    "singling_out": "Can one person be picked out?",
    "linkability": "Can two records of one person be joined?",
    "copies": "Are there copies among the released, or crowds of the same? No patient is looked at.",
    "verbatim": "Is the very picture of a member among the released?",
    "similarity": "How near do released pictures come to members? Reported; it decides nothing.",
}
WP29: Mapping[str, tuple[str, ...]] = {  # who took part is a fourth question, which the opinion does not ask
    "singling out": ("singling_out",),
    "linkability": ("linkability",),
    "inference": ("inference",),
}
GUESSES = ("singling_out", "linkability", "inference")
NOTHING, SOMETHING = "found nothing", "found something"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One attack as a row: the question it asked, how its controls behaved, and its outcome with a tone of the page."""

    audit: Audit
    question: str
    controls: str
    outcome: str
    tone: str
    figure: str = ""
    powers: tuple[tuple[str, float], ...] = ()


def kind_of(audit: Audit) -> str:
    """Return what an attack is about; certificates from before it was written say so by its name."""
    return audit.kind or audit.name


def outcome(audit: Audit) -> tuple[str, str]:
    """Return what came of an attack, and the tone it is shown in. Silence counts only where the controls allow it."""
    kind, p = kind_of(audit), audit.p_holm if audit.p_holm is not None else audit.p
    if audit.estimate is None:
        return "no result", Verdict.INCONCLUSIVE
    if kind == "similarity":
        return "described", ""
    if audit.blind_baseline is False:
        return "split is not fair", Verdict.INCONCLUSIVE
    if audit.negative_control is False:
        return "accuses anything", Verdict.INCONCLUSIVE
    counted = kind in ("copies", "verbatim") and audit.estimate > 0
    counted = counted or (kind in GUESSES and audit.ci is not None and audit.ci[0] > 0)
    if counted or (p is not None and p < SIGNIFICANT) or (p is None and (audit.eps_lb or 0) > 0):
        return SOMETHING, Verdict.FAIL
    if kind == "copies" and audit.positive_control is None:
        return NOTHING, ""  # what is seen without any patient can accuse a release, but never clear it
    return (NOTHING, Verdict.PASS) if audit.positive_control else ("says nothing", Verdict.INCONCLUSIVE)


def controls(audit: Audit) -> str:
    """Return how the planted copies fared, in a word or two."""
    if audit.positive_control is None:
        return "none planted"
    return "found" if audit.positive_control else "missed"


def line(audit: Audit, *, figure: str, powers: Iterable[tuple[str, float]]) -> Line:
    """Return an attack as a row of the report."""
    word, tone = outcome(audit)
    return Line(
        audit=audit, question=QUESTIONS.get(kind_of(audit), ""), controls=controls(audit), outcome=word, tone=tone,
        figure=figure, powers=tuple(powers),
    )  # fmt: skip


def summary(audits: Sequence[Audit]) -> str:
    """Return what all attacks together say, in a sentence or two."""
    words = [outcome(audit)[0] for audit in audits]
    found, silent = words.count(SOMETHING), sum(outcome(audit) == (NOTHING, Verdict.PASS) for audit in audits)
    parts = [f"{len(words)} {'attack was' if len(words) == 1 else 'attacks were'} tried."]
    if found:
        parts.append(f"{found} found something that chance does not explain.")
    if silent:
        parts.append(
            f"{silent} found nothing, though {'it' if silent == 1 else 'they'} would have found planted copies."
        )
    if rest := len(words) - found - silent:
        parts.append(f"{rest} cannot say: no result, nobody fair to compare with, or not shown to see copies at all.")
    return " ".join(parts)


def questions(audits: Iterable[Audit]) -> tuple[tuple[str, str], ...]:
    """Return the three questions of WP29 opinion 05/2014, each with what was tried about it."""
    told = [(kind_of(audit), outcome(audit)[0]) for audit in audits]
    return tuple((name, _state([word for kind, word in told if kind in kinds])) for name, kinds in WP29.items())


def _state(words: list[str]) -> str:
    if not words:
        return "not tried"
    if SOMETHING in words:
        return "tried, and something was found"
    return "tried, nothing found" if NOTHING in words else "tried, without a result that says anything"


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """The share of planted copies that was caught, its lower bound, and the tint it is drawn in."""

    share: float
    lcb95: float
    tint: tuple[int, int, int]


def planted(screened: Filter) -> Mapping[str, Any]:
    """Return the planted copies as a table: levels, rows of cells by family, and on how many patients."""
    levels = sorted({p.level for p in screened.planted})
    there = {(p.family, p.level): p for p in screened.planted}
    families = dict.fromkeys(p.family for p in screened.planted)
    sizes = sorted({p.n for p in screened.planted})
    return {
        "levels": levels,
        "rows": [
            (family, [_cell(there[family, level]) if (family, level) in there else None for level in levels])
            for family in families
        ],
        "n": " to ".join(str(n) for n in dict.fromkeys((sizes[0], sizes[-1]))) if sizes else "",
    }


def _cell(found: Any) -> Cell:
    missed = 1 - found.lcb95
    tint = tuple(round(255 + (full - 255) * missed) for full in (226, 152, 128))
    return Cell(share=found.caught / found.n, lcb95=found.lcb95, tint=(tint[0], tint[1], tint[2]))
