"""The risk that a release adds: what an attacker achieves on members, beyond what he achieves on people never used.

Three runs of one attack (Giomi et al. 2023, arXiv:2211.10459, after the three risks of WP29 opinion 05/2014): `main` on
members, `control` on people whom the generator never saw, `naive` on members without the release. What succeeds on
controls too is knowledge of the population, which is what a release is for; only the excess is risk:
R = (r_main - r_control) / (1 - r_control), the share of the failures on controls that membership turns into successes.
An attack that does no better with the release than without was too weak to say anything: it is void, whatever R says.
A good attack on a safe release finds nothing either, so the same attack is also run on the release with copies of some
members added (`planted`): beating `naive` there shows its strength as well.

The unit of an attempt is a subject, or a guess about one subject; two attempts never share their evidence.
"""

import math
from dataclasses import dataclass

from privacy.estimate import Estimate

CONFIDENCE = 0.95
_LOWEST = -1.0  # where nearly every control succeeds, R has no lower bound; nobody needs to know it further
_Z = 1.959963984540054  # quantile of the normal distribution at (1 + CONFIDENCE) / 2


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempts:
    """What one run of an attack achieved.

    Attributes:
        successes: attempts that succeeded.
        attempts: attempts made; zero where the attack does not apply, and then `note` says why.
        note: what a reader has to know, in words.
    """

    successes: int
    attempts: int
    note: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.successes <= self.attempts:
            raise ValueError(f"successes={self.successes} must lie between 0 and attempts={self.attempts}")
        if not self.attempts and not self.note:
            raise ValueError("note is empty: an attack that made no attempt says why")


@dataclass(frozen=True, slots=True, kw_only=True)
class Risk:
    """The risk of one attack.

    Attributes:
        excess: R with its two-sided 95 % interval, negative where controls fared worse than members; `n` counts the
            attempts on members. `None` where the attack does not apply.
        main: success rate on members.
        control: success rate on people whom the generator never saw.
        naive: success rate on members without the release.
        void: why nothing may be concluded, empty where something may. A void attack supports no PASS.
        note: what the attack said of itself.
    """

    excess: Estimate | None
    main: Estimate | None
    control: Estimate | None
    naive: Estimate | None
    void: str = ""
    note: str = ""


def rate(made: Attempts) -> Estimate:
    """Return the success rate r = (N_s + z²/2) / (N_a + z²) with its interval (Wilson 1927, doi:10.2307/2276774).

    Half width `z / (N_a + z²) · sqrt(N_s (N_a - N_s) / N_a + z²/4)`, equation 2 of Giomi et al. 2023.

    Raises:
        ValueError: if no attempt was made.
    """
    if not made.attempts:
        raise ValueError(f"attempts=0 must be at least 1 ({made.note})")
    n, z2 = made.attempts, _Z**2
    centre = (made.successes + z2 / 2) / (n + z2)
    half = _Z / (n + z2) * math.sqrt(made.successes * (n - made.successes) / n + z2 / 4)
    return Estimate(value=centre, low=max(0.0, centre - half), high=min(1.0, centre + half), n=n)


def risk(main: Attempts, control: Attempts, naive: Attempts, *, planted: Attempts | None = None) -> Risk:
    """Return the risk that the runs of one attack show.

    Args:
        main: against members, with the release.
        control: against people whom the generator never saw, with the release.
        naive: against members, without the release.
        planted: against members, with the release and copies of some of them.

    The interval joins those of the two rates (MOVER-R: Donner & Zou 2012, doi:10.1177/0962280210383082) instead of
    propagating errors to first order, which at 500 attempts on members, 100 on controls and rates near one puts R too
    high in 45 % of runs where it should in 2.5 %.
    """
    runs = {"members": main, "controls": control, "nobody's release": naive}
    notes = "; ".join(dict.fromkeys(made.note for made in runs.values() if made.note))
    rates = {name: rate(made) if made.attempts else None for name, made in runs.items()}
    r_main, r_control, r_naive = rates.values()
    missing = [name for name, found in rates.items() if found is None]
    excess = None if r_main is None or r_control is None else _excess(main, control, r_main, r_control)
    void = ""
    if missing:
        void = f"not applicable: no attempt on {', '.join(missing)}"
    elif not any(_share(made) > _share(naive) for made in (main, planted) if made is not None):
        void = f"no better with the release ({_share(main):.3f}) than without ({_share(naive):.3f})"
    return Risk(excess=excess, main=r_main, control=r_control, naive=r_naive, void=void, note=notes)


def _share(made: Attempts) -> float:
    return made.successes / made.attempts if made.attempts else 0.0


def _excess(main: Attempts, control: Attempts, r_main: Estimate, r_control: Estimate) -> Estimate:
    """Return R: one minus the ratio of the two shares of failures, whose limits the limits of the shares make."""
    value = (r_main.value - r_control.value) / (1 - r_control.value)
    failed, failed_control = 1 - _share(main), 1 - _share(control)
    least = _limit(failed, failed_control, 1 - r_main.high, 1 - r_control.low, -1)
    most = _limit(failed, failed_control, 1 - r_main.low, 1 - r_control.high, 1)
    return Estimate(value=value, low=max(1 - most, min(value, _LOWEST)), high=1 - least, n=r_main.n)


def _limit(above: float, below: float, end_above: float, end_below: float, side: int) -> float:
    """Return one limit of `above / below`, from the far limits of both (Donner & Zou 2012, equations 9 and 10)."""
    spread = (above * below) ** 2 - end_above * end_below * (2 * above - end_above) * (2 * below - end_below)
    bottom = end_below * (2 * below - end_below)
    if bottom <= 0:  # controls may all have succeeded: nothing bounds the ratio but zero
        return 0.0 if side < 0 else math.inf
    return max(0.0, (above * below + side * math.sqrt(max(0.0, spread))) / bottom)
