"""What may be chosen about experts: who has which words, how experts are built, and what they may cost."""

import math
import re
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from conf.bounds import at_least, inside

if TYPE_CHECKING:
    from conf.schema import Budget, Classes, Sites


@dataclass(frozen=True, slots=True, kw_only=True)
class Experts:
    """Networks that each name what one site has words for, and the fusion that hears them all.

    Sites join in the order of `sites.names`. A newcomer trains its expert by `train_expert` of the experiment, from
    weights found on public phantoms; no older one is ever trained again. All sites then train the heads between the
    experts by `train_fusion`.

    Attributes:
        words: site → the names of `classes` that it tells apart; a site without words has no expert, and no site with
            words means that there are no experts.
        older: of these sites, those whose expert comes from an earlier campaign → the folder of its outputs.
        width, stages, blocks: of every expert (`learning.learners.expert`).
        tune: regular expression of the weights of an expert that its site trains.
        attention: from what the weights of the experts are told: nothing, features or discrepancy.
        hidden: widths of the network that tells them.
        train_share, fuse_share: parts of ε for a site's own expert and for the heads, in (0, 1).
        subjects: phantoms that experts and heads start from, of every class.
        steps, batch_size, learning_rate: of what starts from phantoms: the network all experts start as.
        head_steps, head_rate: of heads that are trained without noise: on phantoms, on the release, at a site alone.
    """

    words: dict[str, Any] = field(default_factory=dict)
    older: dict[str, Any] = field(default_factory=dict)
    width: int = 8
    stages: int = 4
    blocks: int = 1
    tune: str = r"^head\."
    attention: str = "discrepancy"
    hidden: tuple[int, ...] = (16,)
    train_share: float = 0.1
    fuse_share: float = 0.1
    subjects: int = 200
    steps: int = 400
    batch_size: int = 32
    learning_rate: float = 3e-3
    head_steps: int = 200
    head_rate: float = 1e-2

    def __post_init__(self) -> None:
        for name in ("width", "stages", "blocks", "subjects", "steps", "batch_size", "head_steps"):
            at_least(name, getattr(self, name), 1)
        for name in ("train_share", "fuse_share"):
            inside(name, getattr(self, name), 0, 1)
        for name in ("learning_rate", "head_rate"):
            inside(name, getattr(self, name), 0, math.inf)
        for site, names in self.words.items():
            if isinstance(names, str) or not names or len(set(names)) != len(names):
                raise ValueError(f"words={names} of {site} must be a list of different names, at least one")
        if strange := sorted(set(self.older) - set(self.words)):
            raise ValueError(f"older={strange} have no words")
        try:
            re.compile(self.tune)
        except re.error as error:
            raise ValueError(f"tune={self.tune!r} is no regular expression: {error}") from error

    def require(self, sites: "Sites", classes: "Classes", budget: "Budget") -> None:
        """Refuse words of nobody or of no class, and shares that leave the generator nothing; nothing without words."""
        if not self.words:
            return
        if strange := sorted(set(self.words) - set(sites.names)):
            raise ValueError(f"experts.words are of {strange}, but sites.names={list(sites.names)}")
        if strange := sorted({n for names in self.words.values() for n in names} - set(classes.names)):
            raise ValueError(f"experts.words={strange} are no classes.names={list(classes.names)}")
        if classes.of != "view":
            raise ValueError(f"classes.of={classes.of}: experts start from simulated people, who have views only")
        if (total := budget.views_share + budget.shapes_share + self.train_share + self.fuse_share) >= 1:
            raise ValueError(
                f"views_share, shapes_share, experts.train_share and experts.fuse_share are {total:g} together, not "
                "below 1"
            )
