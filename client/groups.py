"""Groups of a site's own subjects: whom a training minds, and whose scores are said apart.

Words of the hospital's table leave only where its policy lists them and the coordinator asked for them. A group of
fewer subjects than the policy's cell is not said, nor could it be reckoned: whoever subtracted the groups that are said
from the whole would find at least a cell of subjects left, or nobody.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from client.site import Site
from learning.messages import Code, Refusal

if TYPE_CHECKING:
    from cohorts.clips import Clips
    from cohorts.frames import Frames
    from learning.fairness import Declared, Groups

Cell = dict[str, float]


def allowed(site: Site, asked: Mapping[str, Any]) -> dict[str, tuple[str, ...]]:
    """Return the columns and words that were asked for and that the policy lists, in the policy's order."""
    if not all(isinstance(words, list | tuple) for words in asked.values()):
        raise Refusal(Code.UNREADABLE, "groups are lists of words by column")
    both = {c: tuple(w for w in site.policy.groups.get(c, ()) if w in asked[c]) for c in sorted(asked)}
    return {column: words for column, words in both.items() if words}


def told_apart(
    values: NDArray[np.float64],
    members: Mapping[str, NDArray[np.bool_]],
    least: int,
    cell: Callable[[NDArray[np.float64], int], Cell | None],
) -> dict[str, Cell]:
    """Return the cell of each group that may be said.

    Args:
        values: of one metric, `(subjects,)`, NaN where a subject has none.
        members: which subjects are in each group, `(subjects,)`; no subject is in two.
        least: fewest subjects of a cell, and of those outside all groups that are said, unless they are none.
        cell: makes the cell of some values, or nothing of too few.
    """
    known = ~np.isnan(values)
    sizes = {word: int((known & inside).sum()) for word, inside in members.items()}
    said = sorted((word for word in members if sizes[word] >= least), key=lambda word: (sizes[word], word))
    while said and 0 < known.sum() - sum(sizes[word] for word in said) < least:
        said.pop(0)
    cells = {word: cell(values[known & members[word]], least) for word in sorted(said)}
    return {word: found for word, found in cells.items() if found is not None}


def membership(site: Site, frames: "Frames | Clips", columns: Iterable[str]) -> dict[str, dict[str, NDArray[np.bool_]]]:
    """Return, per column and word of the policy, which subjects of `frames` belong to it, `(subjects,)`."""
    found = {column: np.array(site.groups(column, frames.subjects)) for column in columns}
    return {c: {word: words == word for word in site.policy.groups[c]} for c, words in found.items()}


def understood(told: Mapping[str, Any], *, private: bool) -> None:
    """Raise `Refusal` unless `told` is what a training may mind: under ε declared weights, which nobody counted."""
    from learning.fairness import METHODS, Declared

    if not told:
        return
    names = {"by", "weights"} if private else {"by", "method", "rate"}
    if set(told) != names:
        raise Refusal(Code.UNREADABLE, f"minds must say {', '.join(sorted(names))}, not {', '.join(sorted(told))}")
    if not private and told["method"] not in METHODS:
        raise Refusal(Code.UNREADABLE, f"method={told['method']!r} must be one of {', '.join(METHODS)}")
    if private:
        try:
            Declared(weights=told["weights"])
        except (ValueError, TypeError, AttributeError) as error:
            raise Refusal(Code.UNREADABLE, f"minds: {error}") from error


def minded(site: Site, frames: "Frames | Clips", told: Mapping[str, Any]) -> "Groups | None":
    """Return the groups that a training without privacy minds: `by` a column, by a `method`, DRO with a `rate`."""
    from learning.fairness import Groups

    if not told:
        return None
    return Groups.named(site.groups(str(told["by"]), frames.subjects), method=told["method"], rate=told["rate"])


def declared(site: Site, frames: "Frames | Clips", told: Mapping[str, Any]) -> "tuple[Declared | None, list[str]]":
    """Return the weights that training under ε may use: those that came with the request, `by` a column; and words."""
    from learning.fairness import Declared

    if not told:
        return None, []
    return Declared(weights=told["weights"]), site.groups(str(told["by"]), frames.subjects)
