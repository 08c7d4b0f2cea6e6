"""Randomness nobody can replay: the noise and the sampling of differential privacy.

Whoever knows the seed of the noise can subtract it, so there is none: every `SecureRandom` keys a stream cipher from
the operating system and forgets the key. Recorded seeds belong to sampling from a trained generator, never here.
"""

import builtins
import math
import os
from fractions import Fraction
from typing import NoReturn

import numpy as np
from cryptography.hazmat.primitives.ciphers import Cipher, CipherContext, algorithms, modes
from numpy.typing import DTypeLike, NDArray


class SecureRandom:
    """Normal, Bernoulli and discrete Laplace variates from an AES-256 key stream.

    The stream is AES-256 in counter mode under a fresh key (NIST SP 800-38A); it is as hard to predict as AES is to
    break. An instance cannot be seeded, copied or written to disk, and a forked process takes a new key: no two noise
    vectors ever come from the same stretch of stream.

    Attributes:
        NAME: what the certificate says about the source of the noise.
    """

    NAME = "AES-256-CTR key stream keyed from os.urandom; normal by Box-Muller in binary64; discrete Laplace exact"

    def __init__(self) -> None:
        self._stream = _key_stream()
        self._process = os.getpid()

    def __reduce__(self) -> NoReturn:
        raise TypeError("SecureRandom must not be copied or written: two holders of one key stream share their noise")

    def normal(self, shape: int | tuple[int, ...], *, dtype: DTypeLike = np.float32) -> NDArray[np.floating]:
        """Draw standard normal variates by Box and Muller 1958 (10.1214/aoms/1177706645), in binary64.

        The uniform under the logarithm has 53 bits, so no variate exceeds 8.6; the tail cut off has probability 1e-17.
        Rounded to float32 the variates are for tests and tools: `privacy.gradients.noisy_mean` adds them in float64 and
        rounds the *sum*, because the low bits of a floating-point sum betray what was added (Mironov 2012,
        10.1145/2382196.2382264).
        """
        n = math.prod((shape,) if isinstance(shape, int) else shape)
        half = (n + 1) // 2
        bits = self._bits(2 * half) >> np.uint64(11)
        radius = np.sqrt(-2.0 * np.log((bits[:half] + np.uint64(1)) * 2.0**-53))
        angle = bits[half:] * (2.0 * np.pi * 2.0**-53)
        pairs = np.concatenate([radius * np.cos(angle), radius * np.sin(angle)])
        return pairs[:n].reshape(shape).astype(dtype, copy=False)

    def bernoulli(self, n: int, p: float) -> NDArray[np.bool_]:
        """Draw `n` independent coins that are true with probability `p`, exact to 2⁻⁵³."""
        if not 0.0 <= p <= 1.0:
            raise ValueError(f"p={p} is not a probability, 0 ≤ p ≤ 1")
        return (self._bits(n) >> np.uint64(11)) < np.uint64(round(p * 2**53))

    def discrete_laplace(self, epsilon: float, *, sensitivity: int = 1) -> int:
        """Draw an integer z with probability ∝ exp(-epsilon·|z|/sensitivity): noise for a count.

        Exact in integer arithmetic (Canonne, Kamath and Steinke 2020, arXiv:2004.00010, algorithm 2). There is no
        continuous Laplace here: in floating point it lacks the privacy it claims (Mironov 2012,
        10.1145/2382196.2382264), and a count does not need it.
        """
        if not (math.isfinite(epsilon) and epsilon > 0.0):
            raise ValueError(f"epsilon={epsilon} must be positive and finite")
        if sensitivity < 1:
            raise ValueError(f"sensitivity={sensitivity} must be at least 1")
        rate = Fraction(epsilon) / sensitivity
        while True:
            remainder = self._below(rate.denominator)
            if not self._exp_coin(Fraction(remainder, rate.denominator)):
                continue
            whole = 0
            while self._exp_coin(Fraction(1)):
                whole += 1
            magnitude = (remainder + rate.denominator * whole) // rate.numerator
            negative = self._below(2) == 1
            if not (negative and magnitude == 0):
                return -magnitude if negative else magnitude

    def _exp_coin(self, gamma: Fraction) -> bool:
        """Toss a coin that is true with probability exp(-gamma), 0 ≤ gamma ≤ 1 (ibid., algorithm 1)."""
        k = 1
        while self._below(gamma.denominator * k) < gamma.numerator:
            k += 1
        return k % 2 == 1

    def _below(self, n: int) -> int:
        """Draw a uniform integer 0 ≤ k < n by rejection."""
        bits = (n - 1).bit_length()
        while True:
            k = int.from_bytes(self.bytes((bits + 7) // 8)) >> (-bits % 8)
            if k < n:
                return k

    def _bits(self, n: int) -> NDArray[np.uint64]:
        return np.frombuffer(self.bytes(8 * n), dtype=np.uint64)

    def bytes(self, n: int) -> builtins.bytes:
        """Take the next `n` bytes of the stream, for instance to key another generator."""
        if self._process != os.getpid():
            self.__init__()  # type: ignore[misc]  # a forked child would repeat its parent's stream
        return self._stream.update(builtins.bytes(n))


def _key_stream() -> CipherContext:
    return Cipher(algorithms.AES(os.urandom(32)), modes.CTR(os.urandom(16))).encryptor()
