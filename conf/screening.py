"""What may be chosen about screening candidates against patients, beside the data-free checks of `release`."""

import math
from dataclasses import dataclass

from conf.bounds import at_least, inside


@dataclass(frozen=True, slots=True, kw_only=True)
class Screening:
    """How sites judge candidates.

    In the FORMAL lane members vote against candidates under noise (`privacy.votes`), where any ε is given for it. In
    the EMPIRICAL one the exact filter judges (`privacy.reidentification`), which no ε covers.

    Attributes:
        votes_epsilon: ε of all verdicts of a site, for any one member; 0 asks no member.
        votes_threshold: a candidate stays where its votes plus noise are below this.
        gate_epsilon: ε of the count of subjects whom any candidate resembles; 0 counts nobody.
        tau: similarity at which a member votes, public, in (0, 1).
        apart: of two candidates at least this alike one goes before members vote, in (0, 1). At 2τ² - 1 no picture of a
            member would be within τ of two; above it, a member's one vote falls on the nearest of them.
        alpha: share of strangers that the exact filter may drop, in (0, 1).
        decoys: made-up patients handed to every site, half of them copies of candidates, which are given up; or 0.
    """

    votes_epsilon: float = 0.0
    votes_threshold: int = 1
    gate_epsilon: float = 0.0
    tau: float = 0.92
    apart: float = 0.85
    alpha: float = 0.05
    decoys: int = 20

    def __post_init__(self) -> None:
        for name in ("votes_epsilon", "gate_epsilon"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name}={getattr(self, name)} must be finite and at least 0")
        for name in ("tau", "apart", "alpha"):
            inside(name, getattr(self, name), 0, 1)
        at_least("decoys", self.decoys, 0)
        if self.gate_epsilon and not self.votes_epsilon:
            raise ValueError(f"gate_epsilon={self.gate_epsilon} counts whom voters see: votes_epsilon must be above 0")
