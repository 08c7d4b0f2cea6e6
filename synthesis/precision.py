"""Which numbers a processor is fast in: bfloat16 where it multiplies matrices of them, float32 elsewhere.

bfloat16 has the range of float32 and 8 bits of precision (Kalamkar et al. 2019, arXiv 1905.12322). Only products of
matrices and convolutions run in it; sums, norms and the solver's state stay float32. It is for drawing alone:
gradients under differential privacy are never taken in it.
"""

from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path

import torch

PRECISIONS = ("auto", "bf16", "fp32")
FAST = frozenset({"avx512_bf16", "amx_bf16"})
_PROCESSOR = Path("/proc/cpuinfo")


def is_fast_in_bfloat16(cpuinfo: str) -> bool:
    """Say whether every core of a processor has AVX-512 BF16 or AMX, from the text of Linux' `/proc/cpuinfo`."""
    flags = [set(line.partition(":")[2].split()) for line in cpuinfo.splitlines() if line.startswith("flags")]
    return bool(flags) and all(FAST & core for core in flags)


@cache
def of_this_processor() -> str:
    """Return "bf16" or "fp32"; float32 where nothing is known of the processor."""
    try:
        text = _PROCESSOR.read_text(encoding="utf-8")
    except OSError:
        return "fp32"
    return "bf16" if is_fast_in_bfloat16(text) else "fp32"


def chosen(precision: str) -> str:
    """Return what `precision` means on this machine: "bf16" or "fp32"."""
    if precision not in PRECISIONS:
        raise ValueError(f"precision={precision!r} must be one of {', '.join(PRECISIONS)}")
    return of_this_processor() if precision == "auto" else precision


def computing_in(precision: str) -> AbstractContextManager[object]:
    """Return the context in which products run in `precision`."""
    return torch.autocast("cpu", torch.bfloat16) if chosen(precision) == "bf16" else nullcontext()
