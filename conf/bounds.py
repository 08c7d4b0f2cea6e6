"""Bounds of settings, refused in words that name the value."""

import math


def inside(name: str, value: float, low: float, high: float, *, closed: bool = False) -> None:
    """Refuse a value outside the open interval; `closed` includes `high`."""
    if not (low < value < high or (closed and value == high)):
        bound = f"above {low:g}" + (f" and {'at most' if closed else 'below'} {high:g}" if high < math.inf else "")
        raise ValueError(f"{name}={value} must be {bound}{'' if high < math.inf else ' and finite'}")


def at_least(name: str, value: int, bound: int) -> None:
    """Refuse a value below `bound`."""
    if value < bound:
        raise ValueError(f"{name}={value} must be at least {bound}")
