import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from evaluation.words import ceiling, certainty, power, reading_aid


@pytest.mark.parametrize(("epsilon", "share"), [(1, 0.73), (3, 0.95), (8, 0.9997)])
def test_the_certainty_of_an_observer_who_was_undecided(epsilon: float, share: float) -> None:
    assert certainty(epsilon) == pytest.approx(share, abs=5e-3 if epsilon < 8 else 5e-5)


@pytest.mark.parametrize(
    ("epsilon", "auc", "tpr"), [(1, 0.575, 0.020), (2, 0.639, 0.034), (4, 0.743, 0.081), (8, 0.881, 0.255)]
)
def test_the_ceiling_of_a_gaussian_mechanism_at_delta_1e_5(epsilon: float, auc: float, tpr: float) -> None:
    found = ceiling(epsilon, 1e-5)
    assert found.auc == pytest.approx(auc, abs=1e-3)
    assert found.tpr_at_1_percent == pytest.approx(tpr, abs=1e-3)


@given(epsilon=st.floats(1e-3, 1e6), delta=st.floats(1e-12, 1e-2), more=st.floats(1.01, 10))
def test_a_larger_epsilon_never_protects_better(epsilon: float, delta: float, more: float) -> None:
    less, greater = ceiling(epsilon, delta), ceiling(epsilon * more, delta)
    assert 0.5 <= less.auc <= greater.auc <= 1
    assert 0.01 <= less.tpr_at_1_percent <= greater.tpr_at_1_percent <= 1
    assert 0.5 <= certainty(epsilon) <= certainty(epsilon * more) <= 1


def test_the_reading_aid_says_both() -> None:
    aid = reading_aid(8, 1e-5)
    assert "at most 99.97 % certain" in aid
    assert "AUC of 0.88" in aid
    assert "25 % of the members" in aid


@given(st.floats(1e-300, 1e-3))
def test_a_small_number_is_written_with_a_raised_exponent(number: float) -> None:
    digits, _, raised = power(number).partition(" × 10")
    exponent = int(raised.translate(str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")))
    assert math.isclose(float(digits) * 10.0**exponent, number, rel_tol=0.06)


def test_zero_stays_zero() -> None:
    assert power(0.0) == "0"
