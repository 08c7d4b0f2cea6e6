"""How the coordinator joins what sites changed: by which rule, and whether it sees them one by one."""

from dataclasses import dataclass

from conf.bounds import at_least, inside

ROBUST = ("median", "trimmed_mean", "krum", "multi_krum")
ADAPTIVE = ("fedadam", "fedyogi")
STRATEGIES = ("fedavg", *ROBUST, *ADAPTIVE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Aggregation:
    """How the coordinator makes one step of what the sites changed, in every training.

    Attributes:
        strategy: `fedavg`; or `median`, `trimmed_mean`, `krum`, `multi_krum`, which bear hostile sites; or `fedadam`,
            `fedyogi`.
        tolerated: sites that may send anything, of the robust strategies; the quorum must be large enough for it.
        learning_rate: length of the step in units of the aggregate, in (0, 10].
        adaptive_rate: length of the step of one number in `fedadam` and `fedyogi`, in (0, 10]; they do not use
            `learning_rate`.
        average: weight in [0, 1) of the past in an exponential mean of the weights; 0 keeps the last weights.
        proximal: μ of FedProx, at least 0: how much sites hold on to the weights they are given, under any strategy.
        secure: the coordinator sees the sum of what sites changed, and no single change. Against a curious one, not
            against poisoning, which it hides; it replaces no noise and adds nothing to ε (`learning.masked`). Takes
            three sites, four exchanges for one, and 8 bytes a number.
    """

    strategy: str = "fedavg"
    tolerated: int = 1
    learning_rate: float = 1.0
    adaptive_rate: float = 0.01
    average: float = 0.0
    proximal: float = 0.0
    secure: bool = False

    def __post_init__(self) -> None:
        if self.secure and self.strategy in ROBUST:
            raise ValueError(
                f"secure=true hides what strategy={self.strategy} compares, the change of each site; take fedavg, "
                f"{' or '.join(ADAPTIVE)}, or leave out one of the two"
            )
        if self.strategy not in STRATEGIES:
            hint = "; FedProx is fedavg with proximal=…" if self.strategy == "fedprox" else ""
            raise ValueError(f"strategy={self.strategy!r} must be one of {', '.join(STRATEGIES)}{hint}")
        if not 0 <= self.proximal <= 1000:
            raise ValueError(f"proximal={self.proximal} must be in 0..1000")
        at_least("tolerated", self.tolerated, 1)
        for name in ("learning_rate", "adaptive_rate"):
            inside(name, getattr(self, name), 0, 10, closed=True)
        if not 0 <= self.average < 1:
            raise ValueError(f"average={self.average} must be at least 0 and below 1")


def fewest_sites(strategy: str, tolerated: int) -> int:
    """Return with how many sites `strategy` still bears `tolerated` hostile ones: a majority; krums want two more."""
    if strategy not in ROBUST:
        return 1
    return 2 * tolerated + (3 if strategy.endswith("krum") else 1)
