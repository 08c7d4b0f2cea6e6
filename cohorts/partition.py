"""One data set becomes several simulated sites: by what is written beside its studies, or with a skew that is said.

Real sites differ in who comes and in what the machine does; a random partition has neither and flatters whatever is
federated over it (Rieke et al. 2020, doi:10.1038/s41746-020-00323-1). Rules are data, tried in order; a person's
records stay together whatever their columns say, because one person must meet one ledger.

A partition holds the hospital's own identifiers: its file belongs into the folder of the site, and nowhere else.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from cohorts.study import UnreadableStudy

SCHEMA = "pericard.partition.v1"


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A column is one of some words, or a number `at_least <= value < below`."""

    column: str
    one_of: tuple[str, ...] = ()
    at_least: float | None = None
    below: float | None = None

    def __post_init__(self) -> None:
        if bool(self.one_of) == (self.at_least is not None or self.below is not None):
            raise ValueError(f"a condition on {self.column!r} needs either one_of or a range of at_least and below")

    def holds(self, cells: Mapping[str, str]) -> bool:
        """Say whether `cells` meet the condition; raises `ValueError` where the column is missing or no number."""
        if self.column not in cells:
            raise ValueError(
                f"no column {self.column!r} to partition by; there are: {', '.join(sorted(cells)) or 'none'}"
            )
        if self.one_of:
            return cells[self.column] in self.one_of
        try:
            value = float(cells[self.column])
        except ValueError:
            raise ValueError(f"{self.column}={cells[self.column]!r} is not a number to compare with a bound") from None
        return (self.at_least is None or value >= self.at_least) and (self.below is None or value < self.below)


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteRule:
    """A site takes whoever meets all conditions and was not taken before; with no condition, all the rest."""

    site: str
    where: tuple[Condition, ...] = ()


RULES: Mapping[str, tuple[SiteRule, ...]] = MappingProxyType(
    {
        # Shift in appearance (image quality) and in acquisition (frame rate) on CAMUS: 157, 109 and 83 of 349 records.
        "quality_and_rate": (
            SiteRule(site="site-a", where=(Condition(column="image_quality_4ch", one_of=("Good",)),)),
            SiteRule(site="site-b", where=(Condition(column="frame_rate_hz_4ch", at_least=56.0),)),
            SiteRule(site="site-c"),
        ),
    }
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Partition:
    """Raw subject identifiers by site: sorted, disjoint, no site empty."""

    sites: Mapping[str, tuple[str, ...]]

    def __post_init__(self) -> None:
        owner: dict[str, str] = {}
        for site, subjects in self.sites.items():
            if not subjects:
                raise ValueError(f"site {site!r} has no subjects; a partition needs at least one at each site")
            for subject in subjects:
                if owner.setdefault(subject, site) != site:
                    raise ValueError(f"subject {subject!r} is at two sites, {owner[subject]!r} and {site!r}")
        sites = {site: tuple(sorted(set(subjects))) for site, subjects in sorted(self.sites.items())}
        object.__setattr__(self, "sites", MappingProxyType(sites))

    def only(self, site: str) -> "Partition":
        """Return the partition of one `site` alone: what that site may know."""
        return Partition(sites={site: self.subjects(site)})

    def subjects(self, site: str) -> tuple[str, ...]:
        """Return the raw identifiers at `site`; raises `ValueError` for an unknown one."""
        if site not in self.sites:
            raise ValueError(f"unknown site {site!r}; the partition has: {', '.join(self.sites)}")
        return self.sites[site]

    def write(self, path: Path) -> None:
        """Write the partition as JSON; `read(write(p)) == p`."""
        sites = {site: list(subjects) for site, subjects in self.sites.items()}
        path.write_text(json.dumps({"schema": SCHEMA, "sites": sites}, indent=1, ensure_ascii=False) + "\n", "utf-8")


def read(path: Path) -> Partition:
    """Read a partition that `Partition.write` wrote.

    Raises:
        UnreadableStudy: no such file, no JSON, another schema, or a partition that breaks the law of `Partition`.
    """
    try:
        return _partition(json.loads(path.read_text("utf-8")))
    except FileNotFoundError:
        raise UnreadableStudy(str(path), "no such partition file") from None
    except (OSError, ValueError) as error:
        raise UnreadableStudy(str(path), str(error)) from error


def columns_of(rules: Sequence[SiteRule]) -> tuple[str, ...]:
    """Return the columns that `rules` look at: what a reader must keep for them."""
    return tuple(dict.fromkeys(condition.column for rule in rules for condition in rule.where))


def by_columns(
    columns: Mapping[str, Mapping[str, str]],
    rules: Sequence[SiteRule],
    *,
    same_subject: Sequence[Sequence[str]] = (),
) -> Partition:
    """Send every subject to the first site whose rule takes it.

    Args:
        columns: the index columns by raw subject identifier, `Index.raw_columns()`.
        rules: tried in order; the last is usually without a condition.
        same_subject: groups of identifiers that are one person, who goes where the smallest identifier goes.

    Raises:
        ValueError: a column is missing or no number, nobody takes a subject, or a site stays empty.
    """
    present = [sorted(set(group) & set(columns)) for group in same_subject]
    first = {raw: group[0] for group in present for raw in group}
    sites: dict[str, list[str]] = {rule.site: [] for rule in rules}
    for raw in columns:
        cells = columns[first.get(raw, raw)]
        site = next((rule.site for rule in rules if all(c.holds(cells) for c in rule.where)), None)
        if site is None:
            raise ValueError(f"no rule takes subject {raw!r} with {dict(cells)}; add a last rule without conditions")
        sites[site].append(raw)
    return Partition(sites={site: tuple(subjects) for site, subjects in sites.items()})


def by_column(
    columns: Mapping[str, Mapping[str, str]],
    column: str,
    *,
    same_subject: Sequence[Sequence[str]] = (),
) -> Partition:
    """Make one site of every value of `column`, named by the value; raises `ValueError` where a subject has none."""
    for raw, cells in columns.items():
        if not cells.get(column):
            raise ValueError(
                f"subject {raw!r} has no {column!r} to name its site by; it has: {', '.join(sorted(cells))}"
            )
    values = sorted({cells[column] for cells in columns.values()})
    rules = [SiteRule(site=value, where=(Condition(column=column, one_of=(value,)),)) for value in values]
    return by_columns(columns, rules, same_subject=same_subject)


def by_dirichlet(
    columns: Mapping[str, Mapping[str, str]],
    column: str,
    *,
    sites: Sequence[str],
    alpha: float,
    seed: int,
    same_subject: Sequence[Sequence[str]] = (),
) -> Partition:
    """Skew labels: of every value of `column`, sites get shares drawn from a Dirichlet distribution.

    Hsu, Qi and Brown 2019, arXiv:1909.06335. A small `alpha` gives each label to few sites, a large one to all alike.
    The same arguments give the same partition.

    Args:
        columns: the index columns by raw subject identifier.
        column: whose values are shared out.
        sites: their names.
        alpha: concentration, > 0.
        seed: of the shares and of who goes where.
        same_subject: groups of identifiers that are one person, who goes as one.

    Raises:
        ValueError: an argument out of bounds, a subject without a value, or fewer people than sites.
    """
    people = _people(columns, same_subject)
    blank = [raw for raw in people if not columns[raw].get(column)]
    if blank:
        raise ValueError(f"subject {blank[0]!r} has no {column!r} to share out by")
    dice = np.random.default_rng(seed)
    shared: dict[str, list[str]] = {site: [] for site in sites}
    for value in sorted({columns[raw][column] for raw in people}):
        those = [raw for raw in people if columns[raw][column] == value]
        _share_out(those, _shares(len(sites), alpha, dice), shared, dice)
    return _settled(shared, people)


def by_quantity(
    columns: Mapping[str, Mapping[str, str]],
    *,
    sites: Sequence[str],
    alpha: float,
    seed: int,
    same_subject: Sequence[Sequence[str]] = (),
) -> Partition:
    """Skew sizes alone: sites get shares of all people drawn from one Dirichlet distribution.

    Li et al. 2022, arXiv:2102.02079, section IV. Arguments and errors as of `by_dirichlet`.
    """
    people = _people(columns, same_subject)
    dice = np.random.default_rng(seed)
    shared: dict[str, list[str]] = {site: [] for site in sites}
    _share_out(list(people), _shares(len(sites), alpha, dice), shared, dice)
    return _settled(shared, people)


def _people(columns: Mapping[str, object], same_subject: Sequence[Sequence[str]]) -> dict[str, list[str]]:
    """Return the identifiers of every person, by the smallest of them."""
    first = {raw: min(here) for group in same_subject if (here := set(group) & set(columns)) for raw in here}
    people: dict[str, list[str]] = {}
    for raw in sorted(columns):
        people.setdefault(first.get(raw, raw), []).append(raw)
    return people


def _shares(n: int, alpha: float, dice: np.random.Generator) -> NDArray[np.float64]:
    if n < 1 or not 0 < alpha < np.inf:
        raise ValueError(f"alpha={alpha} must be greater than 0 and finite, and sites at least one, not {n}")
    return dice.dirichlet(np.full(n, alpha))


def _share_out(
    people: list[str], shares: NDArray[np.float64], shared: Mapping[str, list[str]], dice: np.random.Generator
) -> None:
    """Deal `people` in random order, each site the part of `shares` that is its own."""
    order = [people[i] for i in dice.permutation(len(people))]
    ends = np.rint(np.cumsum(shares) * len(order)).astype(int)
    for site, start, end in zip(shared, [0, *ends[:-1]], ends, strict=True):
        shared[site].extend(order[start:end])


def _settled(shared: Mapping[str, list[str]], people: Mapping[str, list[str]]) -> Partition:
    """Let no site stay empty, where there are people enough: the largest gives one of its own."""
    if len(people) < len(shared):
        raise ValueError(f"{len(people)} people cannot make {len(shared)} sites; each needs at least one")
    for those in shared.values():
        if not those:
            those.append(max(shared.values(), key=len).pop())
    return Partition(sites={site: tuple(raw for who in those for raw in people[who]) for site, those in shared.items()})


def _partition(content: object) -> Partition:
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise ValueError(f"is not a {SCHEMA}")
    sites = content.get("sites")
    if not isinstance(sites, dict) or not sites or not all(_is_list_of_words(s) for s in sites.values()):
        raise ValueError("sites must map each site to a list of subjects")
    return Partition(sites={site: tuple(subjects) for site, subjects in sites.items()})


def _is_list_of_words(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) and word for word in value)
