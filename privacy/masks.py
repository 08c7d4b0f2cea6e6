"""Masks that vanish in a sum: fixed-point numbers modulo 2^64, hidden under an AES-256 key stream.

A change x becomes round(x · 2^40) modulo 2^64, clipped to ±2^15. At most 128 sites are in one sum, so it cannot wrap
around: the mean of n sites is off by at most `ERROR` = 2^-41, beside what clipping and the last bit of a float64 take.
A site whose noise is full and was added before stays as private as it was: rounding and clipping come after.

A mask is the key stream of AES-256 in counter mode (NIST SP 800-38A) under its whole 32-byte seed, over all arrays in
the order of their names. A number under one unknown mask is uniform, whatever it was.
"""

from collections.abc import Mapping

import numpy as np
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from numpy.typing import NDArray

FRACTION_BITS = 40
BOUND = 2.0**15
MOST_SITES = 128
ERROR = 2.0 ** -(FRACTION_BITS + 1)
SEED_BYTES = 32

Hidden = dict[str, NDArray[np.uint64]]


def encode(changes: Mapping[str, NDArray[np.float32]]) -> Hidden:
    """Return changes as fixed-point numbers, clipped to ±`BOUND`.

    Raises:
        ValueError: for a value that is not finite; names the array.
    """
    found: Hidden = {}
    for name, change in changes.items():
        if not np.isfinite(change).all():
            raise ValueError(f"array {name!r} holds a value that is not finite")
        # A float32 has 24 bits, so the product is exact in float64.
        scaled = np.rint(np.clip(change.astype(np.float64), -BOUND, BOUND) * 2.0**FRACTION_BITS)
        found[name] = scaled.astype(np.int64).view(np.uint64)
    return found


def decode(total: Mapping[str, NDArray[np.uint64]], *, sites: int) -> dict[str, NDArray[np.float64]]:
    """Return the mean of the `sites` changes whose sum `total` is.

    Raises:
        ValueError: if a number is no sum of so many changes, as where masks are left over; names the array.
    """
    found = {}
    for name, numbers in total.items():
        signed = numbers.view(np.int64)
        if np.any(np.abs(signed.astype(np.float64)) > sites * BOUND * 2.0**FRACTION_BITS):
            raise ValueError(f"array {name!r} is no sum of {sites} changes: masks are left over in it")
        found[name] = signed.astype(np.float64) / (sites * 2.0**FRACTION_BITS)
    return found


def blind(numbers: Hidden, seed: bytes, *, add: bool) -> None:
    """Add to `numbers`, or take from them, the mask of `seed`; in place, modulo 2^64.

    Raises:
        ValueError: for a seed of another length than `SEED_BYTES`.
    """
    if len(seed) != SEED_BYTES:
        raise ValueError(f"a seed has {SEED_BYTES} bytes, not {len(seed)}")
    stream = Cipher(algorithms.AES(seed), modes.CTR(bytes(16))).encryptor()
    for name in sorted(numbers):
        array = numbers[name]
        mask = np.frombuffer(stream.update(bytes(8 * array.size)), "<u8").reshape(array.shape)
        numbers[name] = array + mask if add else array - mask


def derive(secret: bytes, about: bytes) -> bytes:
    """Return 32 bytes that belong to `secret` and to what they are `about`: HKDF-SHA256 (RFC 5869), no salt."""
    return HKDF(algorithm=hashes.SHA256(), length=SEED_BYTES, salt=None, info=about).derive(secret)
