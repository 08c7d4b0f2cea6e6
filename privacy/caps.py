"""The terms an account is kept under, and the caps that no charge may pass.

Only the lifetime cap is a guarantee. The others are governance, and are called so wherever they are shown: privacy
loss does not expire when a year is over, and does not vanish when it is booked under another purpose.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from privacy.charge import BASIC, EXACT, PURPOSES, RENYI, ZERO, Charge, conversion, decimal, rounded_down

YEAR_DAYS = 365


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """How an account counts, fixed for its life.

    Attributes:
        composition: "basic" or "renyi" (`privacy.charge`).
        order: α of a renyi account, above 1.
        shards: B, into how many parts the keyed hash of a subject divides the site's subjects.
    """

    composition: str = BASIC
    order: float = 6.0
    shards: int = 1

    def __post_init__(self) -> None:
        if self.composition not in (BASIC, RENYI):
            raise ValueError(f"composition={self.composition!r} is not one of {BASIC!r}, {RENYI!r}")
        if not 1 < self.order <= 1024:
            raise ValueError(f"order={self.order} must lie above 1 and be at most 1024")
        if isinstance(self.shards, bool) or not 1 <= self.shards <= 1024:
            raise ValueError(f"shards={self.shards} must lie in 1..1024")

    @property
    def unit(self) -> str:
        """What the account adds up: "epsilon" or "rho"."""
        return "rho" if self.composition == RENYI else "epsilon"

    def to_json(self) -> dict[str, Any]:
        """Return the terms as a JSON object; `Terms(**t.to_json()) == t`."""
        return {"composition": self.composition, "order": self.order, "shards": self.shards}


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Governance beside the lifetime cap, in the account's own unit: ε of a basic account, ρ of a renyi one.

    Attributes:
        per_run: most that one run may reserve; `None` for no such cap.
        per_year: most that may be charged within 365 days and today.
        per_purpose: most that each of `privacy.charge.PURPOSES` may cost over the whole life.
    """

    per_run: float | None = None
    per_year: float | None = None
    per_purpose: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caps:
    """The caps of an account: (ε, δ) over its whole life, and its limits."""

    epsilon: Decimal
    delta: Decimal
    per_run: Decimal | None = None
    per_year: Decimal | None = None
    per_purpose: Mapping[str, Decimal] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not 0 <= self.delta < 1:
            raise ValueError(f"delta_cap={self.delta} must be below 1 and not negative")
        if unknown := sorted(set(self.per_purpose) - set(PURPOSES)):
            raise ValueError(f"per_purpose: {unknown[0]!r} is not one of {', '.join(PURPOSES)}")

    @classmethod
    def of(cls, epsilon: float, delta: float, limits: Limits) -> "Caps":
        """Return the caps with these numbers; raises `ValueError` for one that is not finite or negative."""

        def some(name: str, value: float | None) -> Decimal | None:
            return None if value is None else decimal(name, value)

        return cls(
            epsilon=decimal("epsilon_cap", epsilon),
            delta=decimal("delta_cap", delta),
            per_run=some("per_run", limits.per_run),
            per_year=some("per_year", limits.per_year),
            per_purpose={name: decimal(f"per_purpose {name}", v) for name, v in sorted(limits.per_purpose.items())},
        )

    def lifetime(self, terms: Terms) -> Decimal:
        """Return the lifetime cap in the account's unit; raises `ValueError` where a renyi order leaves nothing."""
        if terms.composition == BASIC:
            return self.epsilon
        if not self.delta:
            raise ValueError("delta_cap=0 must be positive in a renyi account")
        offset = conversion(terms.order, float(self.delta))
        if float(self.epsilon) < offset:
            raise ValueError(
                f"epsilon_cap={self.epsilon} leaves nothing at order {terms.order:g}: at delta={self.delta} the "
                f"conversion alone costs {offset:.4f}"
            )
        return rounded_down("rho", float(self.epsilon) - offset)

    def looser_than(self, other: "Caps") -> list[str]:
        """Return the names of the caps that are larger than those of `other`; no cap is larger than any."""
        pairs: dict[str, tuple[Decimal | None, Decimal | None]] = {
            "epsilon_cap": (self.epsilon, other.epsilon),
            "delta_cap": (self.delta, other.delta),
            "per_run": (self.per_run, other.per_run),
            "per_year": (self.per_year, other.per_year),
        }
        for name in sorted({*self.per_purpose, *other.per_purpose}):
            pairs[f"per_purpose {name}"] = (self.per_purpose.get(name), other.per_purpose.get(name))
        return [n for n, (mine, its) in pairs.items() if its is not None and (mine is None or mine > its)]

    def to_json(self) -> dict[str, Any]:
        """Return the caps as a JSON object of decimal strings; `Caps.from_json(c.to_json()) == c`."""
        return {
            "epsilon_cap": text(self.epsilon),
            "delta_cap": text(self.delta),
            "per_run": None if self.per_run is None else text(self.per_run),
            "per_year": None if self.per_year is None else text(self.per_year),
            "per_purpose": {name: text(value) for name, value in sorted(self.per_purpose.items())},
        }

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> "Caps":
        """Read what `to_json` wrote."""

        def some(value: str | None) -> Decimal | None:
            return None if value is None else Decimal(value)

        return cls(
            epsilon=Decimal(document["epsilon_cap"]),
            delta=Decimal(document["delta_cap"]),
            per_run=some(document["per_run"]),
            per_year=some(document["per_year"]),
            per_purpose={name: Decimal(value) for name, value in document["per_purpose"].items()},
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """One cap and what is left under it, for the worst off of the shards asked about.

    Attributes:
        name: "lifetime", "lifetime delta", "year", "run", or "purpose …".
        most, spent, reserved: in the account's unit, `lifetime delta` in δ.
    """

    name: str
    most: Decimal
    spent: Decimal
    reserved: Decimal

    @property
    def left(self) -> Decimal:
        """What a new run may cost."""
        return max(ZERO, EXACT.subtract(EXACT.subtract(self.most, self.spent), self.reserved))

    def asked(self, charge: Charge) -> Decimal:
        """Return what a charge asks of this cap."""
        if self.name == "lifetime delta":
            return charge.delta_amount
        if self.name.startswith("purpose "):
            return charge.groups.get(self.name.removeprefix("purpose "), ZERO)
        return charge.amount


def text(amount: Decimal) -> str:
    """Return an amount as an event holds it: plain digits, no exponent, at least one decimal."""
    digits = f"{amount:f}"
    return digits if "." in digits else f"{digits}.0"
