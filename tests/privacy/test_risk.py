import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest

from privacy.risk import Attempts, rate, risk

NOBODY = Attempts(successes=0, attempts=100)


def _made(successes: int, attempts: int) -> Attempts:
    return Attempts(successes=successes, attempts=attempts)


@st.composite
def runs(draw: st.DrawFn) -> Attempts:
    attempts = draw(st.integers(1, 2000))
    return _made(draw(st.integers(0, attempts)), attempts)


@given(runs())
def test_the_rate_is_the_interval_of_wilson(made: Attempts) -> None:
    found, known = rate(made), binomtest(made.successes, made.attempts).proportion_ci(method="wilson")
    assert (found.low, found.high) == (pytest.approx(known.low, abs=1e-12), pytest.approx(known.high, abs=1e-12))
    assert found.value == pytest.approx((found.low + found.high) / 2, abs=1e-9)


@pytest.mark.parametrize(
    ("main", "control", "value", "low", "high"),
    [  # by hand from r = (N_s + z²/2)/(N_a + z²) and the limits of Donner & Zou
        (_made(0, 50), _made(0, 50), 0.0, -0.0768, 0.0713),
        (_made(50, 50), _made(0, 50), 0.9630, 0.9285, 1.0),
        (_made(100, 200), _made(20, 200), 0.4398, 0.3605, 0.5229),
        (_made(20, 500), _made(20, 500), 0.0, -0.0267, 0.0260),
        (_made(0, 500), _made(0, 100), -0.0150, -0.0384, 0.0076),
    ],
)
def test_the_risk_of_known_runs(main: Attempts, control: Attempts, value: float, low: float, high: float) -> None:
    found = risk(main, control, NOBODY).excess
    assert found is not None
    assert (found.value, found.low, found.high) == pytest.approx((value, low, high), abs=1e-4)
    assert found.n == main.attempts


@given(runs(), runs())
def test_the_interval_holds_the_risk_and_never_passes_one(main: Attempts, control: Attempts) -> None:
    found = risk(main, control, NOBODY).excess
    assert found is not None
    assert found.low <= found.value <= found.high <= 1


@given(runs(), runs())
def test_one_more_success_on_members_never_lowers_the_risk(main: Attempts, control: Attempts) -> None:
    if main.successes == main.attempts:
        return
    more = risk(_made(main.successes + 1, main.attempts), control, NOBODY).excess
    less = risk(main, control, NOBODY).excess
    assert more is not None
    assert less is not None
    assert more.value > less.value
    assert more.high >= less.high - 1e-12


@pytest.mark.parametrize(("n", "m"), [(200, 200), (500, 100), (100, 500)])
@pytest.mark.parametrize("chance", [0.02, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("added", [0.0, 0.09])
def test_the_upper_end_lies_below_the_truth_in_at_most_4_percent_of_runs(
    n: int, m: int, chance: float, added: float
) -> None:
    """Every possible outcome weighted by its probability: the end on which PASS depends is not too low."""
    of_members = chance + added * (1 - chance)
    weights = (
        [(i, binom.pmf(i, n, of_members)) for i in range(n + 1)],
        [(j, binom.pmf(j, m, chance)) for j in range(m + 1)],
    )
    likely = [[(k, w) for k, w in side if w > 1e-5] for side in weights]
    missed = 0.0
    for i, p in likely[0]:
        for j, q in likely[1]:
            found = risk(_made(i, n), _made(j, m), NOBODY).excess
            missed += p * q * (found is not None and found.high < added - 1e-12)
    assert missed <= 0.04


def test_an_attack_that_needs_no_release_is_void() -> None:
    assert "no better" in risk(_made(30, 100), _made(5, 100), _made(30, 100)).void
    assert risk(_made(31, 100), _made(5, 100), _made(30, 100)).void == ""


def test_an_attack_that_finds_planted_copies_is_believed_when_it_finds_nothing() -> None:
    nothing = _made(0, 300)
    assert risk(nothing, nothing, nothing).void != ""
    assert risk(nothing, nothing, nothing, planted=_made(12, 300)).void == ""


def test_more_attempts_without_success_are_not_a_weaker_attack() -> None:
    """The centre of Wilson's interval moves with the attempts; who beats whom is asked of the shares."""
    assert risk(_made(0, 30), _made(0, 30), _made(0, 3000)).void != ""


def test_an_attack_that_does_not_apply_is_no_evidence() -> None:
    silent = Attempts(successes=0, attempts=0, note="no views to join")
    found = risk(silent, _made(3, 9), _made(1, 9))
    assert found.excess is None
    assert found.main is None
    assert "not applicable" in found.void
    assert found.note == "no views to join"


@pytest.mark.parametrize(
    ("successes", "attempts", "said"), [(3, 2, "successes=3"), (-1, 2, "successes=-1"), (0, 0, "note")]
)
def test_impossible_attempts_are_refused(successes: int, attempts: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        _made(successes, attempts)


def test_where_every_control_succeeds_the_interval_says_that_nothing_is_known() -> None:
    found = risk(_made(50, 50), _made(50, 50), NOBODY).excess
    assert found is not None
    assert (found.low, found.high) == (-1.0, 1.0)
    assert math.isfinite(found.value)
