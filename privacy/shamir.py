"""Shares of a 32-byte secret: any `threshold` of them give it back, fewer say nothing about it (Shamir 1979).

Over the prime field of 2^521 − 1; the share of x is the value at x of a random polynomial whose constant is the secret.
"""

from collections.abc import Mapping

from privacy.randomness import SecureRandom

PRIME = 2**521 - 1
SECRET_BYTES, SHARE_BYTES = 32, 66


def split(secret: bytes, *, threshold: int, shares: int, random: SecureRandom) -> list[bytes]:
    """Return the shares of x = 1, 2, … `shares`, each `SHARE_BYTES` long.

    Raises:
        ValueError: for a secret of another length, or a threshold outside 1..`shares`.
    """
    if len(secret) != SECRET_BYTES:
        raise ValueError(f"a secret has {SECRET_BYTES} bytes, not {len(secret)}")
    if not 1 <= threshold <= shares:
        raise ValueError(f"threshold={threshold} must be in 1..{shares}")
    polynomial = [int.from_bytes(secret, "big"), *(_element(random) for _ in range(threshold - 1))]
    return [_value(polynomial, x).to_bytes(SHARE_BYTES, "big") for x in range(1, shares + 1)]


def combine(shares: Mapping[int, bytes]) -> bytes:
    """Return the secret of the shares by x, which must be as many as the threshold, or more.

    Raises:
        ValueError: if what they give is no secret: too few, or one of them is of something else.
    """
    points = {x: int.from_bytes(share, "big") for x, share in shares.items()}
    total = 0
    for x, y in points.items():
        above, below = 1, 1
        for other in points:
            if other != x:
                above, below = above * other % PRIME, below * (other - x) % PRIME
        total = (total + y * above * pow(below, -1, PRIME)) % PRIME
    if total >= 1 << (8 * SECRET_BYTES):
        raise ValueError("these shares are not of one secret, or too few")
    return total.to_bytes(SECRET_BYTES, "big")


def _element(random: SecureRandom) -> int:
    """Draw a uniform element of the field by rejection: of 2^521 numbers one is too many."""
    while (number := int.from_bytes(random.bytes(SHARE_BYTES), "big") >> 7) >= PRIME:
        pass
    return number


def _value(polynomial: list[int], x: int) -> int:
    value = 0
    for coefficient in reversed(polynomial):
        value = (value * x + coefficient) % PRIME
    return value
