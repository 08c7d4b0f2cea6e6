"""A processor is trusted with bfloat16 only where its own flags say that it is fast in it."""

import pytest
import torch

from synthesis import precision

AMX = "processor\t: 0\nflags\t\t: fpu sse avx512f amx_bf16 amx_tile\nbugs\t: none\n"
PLAIN = "processor\t: 1\nflags\t\t: fpu sse avx2 bmi2\n"


@pytest.mark.parametrize(
    ("cpuinfo", "fast"),
    [(AMX, True), (AMX.replace("amx_bf16", "avx512_bf16"), True), (PLAIN, False), (AMX + PLAIN, False), ("", False)],
)
def test_the_flags_of_every_core_decide(cpuinfo, fast):
    assert precision.is_fast_in_bfloat16(cpuinfo) == fast


def test_a_flag_that_only_contains_the_name_is_none():
    assert not precision.is_fast_in_bfloat16("flags : no_amx_bf16_here")


def test_what_is_asked_for_is_what_is_computed_in():
    x = torch.ones(4, 4)
    with precision.computing_in("bf16"):
        assert (x @ x).dtype == torch.bfloat16
    with precision.computing_in("fp32"):
        assert (x @ x).dtype == torch.float32
    assert precision.chosen("auto") in ("bf16", "fp32")


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="precision='fp8'"):
        precision.chosen("fp8")
