"""What an auditor was given, and the strongest statement that it allows; more is never said.

privacy.md 3.8: a release alone can be caught in the act, but never cleared. Members tell what is near to whom, controls
whether that is more than chance, and a lot drawn before training whether it is the training that did it.
"""

from dataclasses import dataclass
from enum import IntEnum

from evaluation.predicate import Basis


class Tier(IntEnum):
    """How much there is to look at."""

    T0 = 0
    T1 = 1
    T2 = 2
    T3 = 3
    T4 = 4
    T5 = 5


ALLOWS = {
    Tier.T0: "nothing about privacy; what is wrong with the release by itself can fail it, nothing can pass it",
    Tier.T1: "a list of likenesses to look at; very pictures of members can fail the release, nothing can pass it, for "
    "how alike strangers are is not known",
    Tier.T2: "that the attacks named here found no leak, provided that nobody could tell members from controls without "
    "the release; a leak can fail the release, nothing can pass it",
    Tier.T3: "an empirical pass with the power stated, or a refutation with a p-value; it is no proof of privacy",
    Tier.T4: "the same as T3 against a stronger attacker, who holds the generator",
    Tier.T5: "that the code which trained the generator keeps the ε it claims, as far as canaries can tell",
}
ASKS = {
    Tier.T0: ("the studies that the release was made from", "--members PATH"),
    Tier.T1: ("studies of the same kind that it was not made from", "--controls PATH"),
    Tier.T2: ("members and controls that independent fair coins told apart before training", "--split random"),
    Tier.T3: ("the generator itself", "--weights PATH"),
    Tier.T4: ("the training code and the right to train: canaries in the training, shadow models", ""),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Given:
    """What lies on the auditor's table beside the release."""

    members: bool = False
    controls: bool = False
    reference: bool = False
    random: bool = False
    weights: bool = False
    canaries: bool = False

    def __post_init__(self) -> None:
        if self.controls and not self.members:
            raise ValueError("controls say nothing without members")
        if self.random and not self.controls:
            raise ValueError("random=True says how members and controls were told apart; it needs both")
        for name in ("reference", "weights"):
            if getattr(self, name) and not self.controls:
                raise ValueError(f"{name} are held against members and controls; both are needed")

    @property
    def tier(self) -> Tier:
        """The highest tier that is complete; canaries of a verified run of our own are reported, whatever the tier."""
        if not self.members:
            return Tier.T0
        if not self.controls:
            return Tier.T1
        if not self.random:
            return Tier.T2
        return Tier.T4 if self.weights else Tier.T3

    @property
    def basis(self) -> Basis:
        """The same for the certificate."""
        words = {
            "members": self.members,
            "controls": self.controls,
            "a reference of further people": self.reference,
            "a lot that told them apart before training, as declared": self.random,
            "the generator's weights": self.weights,
            "the canaries of the training, from its own certificate": self.canaries,
        }
        given = ("the release", *(word for word, there in words.items() if there))
        return Basis(tier=self.tier.name, given=given, allows=ALLOWS[self.tier])

    @property
    def asks(self) -> tuple[str, str]:
        """What would allow to say more, and the option that takes it."""
        return ASKS[self.tier]
