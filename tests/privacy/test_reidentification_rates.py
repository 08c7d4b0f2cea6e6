import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest

from privacy.reidentification_rates import (
    Rates,
    consistency,
    discoveries,
    kappa,
    moments,
    p_values,
    rates,
    refused_by,
    whole,
)

D = 12


def _people(n: int, rng: np.random.Generator) -> np.ndarray:
    return rng.standard_normal((n, D))


def _nearest(some: np.ndarray, members: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    apart = -((some[:, None, :] - members[None]) ** 2).sum(axis=2)
    return apart.max(axis=1), apart.argmax(axis=1)


def _rates(drawn: np.ndarray, members: np.ndarray, held: np.ndarray) -> Rates:
    return rates(_nearest(drawn, members), _nearest(held, members), members=len(members), seed=0)


def test_strangers_have_uniform_p_values() -> None:
    rng = np.random.default_rng(0)
    members = _people(300, rng)
    held, drawn = (_nearest(_people(2000, rng), members)[0] for _ in range(2))
    assert kstest(p_values(drawn, held), "uniform").pvalue > 0.01


@pytest.mark.parametrize("seed", range(3))
def test_fresh_people_are_flagged_at_q_and_cover_as_many_members_as_strangers(seed: int) -> None:
    rng = np.random.default_rng(seed)
    found = _rates(_people(800, rng), _people(200, rng), _people(400, rng))
    assert found.copy_share == pytest.approx(0.05, abs=0.035)  # both samples vary
    assert found.excess == pytest.approx(found.copy_share - 0.05)
    assert found.discovered <= 4
    assert found.coverage == pytest.approx(1.0, abs=0.15)
    assert found.resolution == 1 / 401


def test_a_copier_is_flagged_nearly_always() -> None:
    rng = np.random.default_rng(1)
    members = _people(200, rng)
    drawn = members[rng.integers(0, 200, 600)] + 0.05 * _people(600, rng)
    found = _rates(drawn, members, _people(300, rng))
    assert found.copy_share > 0.9
    assert found.discovered > 500
    assert found.memorised_share > 0.8


def test_principal_components_of_members_draw_strangers() -> None:
    rng = np.random.default_rng(2)
    members = _people(400, rng)
    centre, spread = members.mean(axis=0), np.linalg.cholesky(np.cov(members.T))
    found = _rates(centre + _people(800, rng) @ spread.T, members, _people(400, rng))
    assert abs(found.excess) < 0.05


def test_who_repeats_a_tenth_of_the_members_covers_few_of_them() -> None:
    """Each draw may pass, yet the release shows thirty people over and over."""
    rng = np.random.default_rng(3)
    members = _people(300, rng)
    drawn = members[rng.integers(0, 30, 900)] + 0.8 * _people(900, rng)
    repeated, fresh = (_rates(d, members, _people(400, rng)) for d in (drawn, _people(900, rng)))
    assert repeated.copy_share < 0.1
    assert repeated.coverage < 0.7 < 0.85 < fresh.coverage
    assert repeated.gini > fresh.gini
    assert repeated.most > fresh.most


def test_the_order_of_members_changes_nothing() -> None:
    rng = np.random.default_rng(4)
    members, drawn, held = _people(100, rng), _people(200, rng), _people(150, rng)
    assert _rates(drawn, members, held) == _rates(drawn, members[rng.permutation(100)], held)


def test_one_exact_copy_more_raises_the_copy_share_by_one_candidate() -> None:
    rng = np.random.default_rng(5)
    members, drawn, held = _people(100, rng), _people(200, rng), _people(150, rng)
    before = _rates(drawn, members, held)
    unflagged = int(np.flatnonzero(p_values(_nearest(drawn, members)[0], _nearest(held, members)[0]) > 0.05)[0])
    drawn[unflagged] = members[7]
    assert _rates(drawn, members, held).copy_share == pytest.approx(before.copy_share + 1 / 200)


@settings(max_examples=50, deadline=None)
@given(p=st.lists(st.floats(0, 1), min_size=1, max_size=30), q=st.floats(0.01, 0.5))
def test_discoveries_are_the_largest_set_of_small_p_values_below_the_line(p: list[float], q: float) -> None:
    values = np.array(p)
    found = discoveries(values, q)
    sizes = [k for k in range(1, len(p) + 1) if np.sort(values)[k - 1] <= q * k / len(p)]
    assert found.sum() >= max(sizes, default=0)
    assert not found.any() or values[found].max() <= q * found.sum() / len(p)


def test_groups_are_told_apart_and_nobodys_group_is_left_out() -> None:
    kept = np.array([True, False, False, True, True])
    found = refused_by(kept, ["A2C", "A2C", "A4C", "A4C", ""])
    assert {word: (e.value, e.n) for word, e in found.items()} == {"A2C": (0.5, 2), "A4C": (0.5, 2)}
    with pytest.raises(ValueError, match="verdicts"):
        refused_by(kept, ["A2C"])


def test_kappa_of_a_known_table() -> None:
    """Cohen's example: 20 and 15 agreed of 50, 5 and 10 not: observed 0.70, by chance 0.50."""
    first = np.repeat([True, True, False, False], [20, 5, 10, 15])
    second = np.repeat([True, False, True, False], [20, 5, 10, 15])
    assert kappa(first, second) == pytest.approx(0.4)
    assert kappa(first, first) == 1.0
    assert kappa(first, ~first) < 0
    assert kappa(np.ones(3, bool), np.ones(3, bool)) == 1.0


def test_filters_that_disagree_are_not_believed() -> None:
    rng = np.random.default_rng(0)
    score = rng.standard_normal(500)
    alike = [score + 0.05 * rng.standard_normal(500) for _ in range(3)]
    apart = [rng.standard_normal(500) for _ in range(3)]
    flags = [[s > 1.0 for s in some] for some in (alike, apart)]
    good, bad = consistency(flags[0], alike), consistency(flags[1], apart)
    assert good.enough
    assert good.rank_correlation > 0.95
    assert not bad.enough
    assert bad.kappa < 0.2
    with pytest.raises(ValueError, match="at least two"):
        consistency(flags[0][:1], alike[:1])


@given(frames=st.integers(1, 200), most=st.integers(1, 8))
def test_moments_hold_both_ends_of_a_clip_and_never_repeat(frames: int, most: int) -> None:
    at = moments(frames, most=most)
    assert at[0] == 0
    assert len(at) == min(frames, most)
    assert (np.diff(at) > 0).all()
    assert most == 1 or at[-1] == frames - 1


def test_a_candidate_falls_with_any_of_its_pictures() -> None:
    kept, owner = np.array([True, True, False, True, True]), np.array([0, 0, 1, 1, 3])
    np.testing.assert_array_equal(whole(kept, owner), [True, False, True, True])
    assert len(whole(np.zeros(0, bool), np.zeros(0, np.int64))) == 0


def test_nothing_to_compare_is_refused() -> None:
    none = (np.zeros(0), np.zeros(0, np.int64))
    with pytest.raises(ValueError, match="0 candidates"):
        rates(none, (np.ones(3), np.arange(3)), members=3, seed=0)
    with pytest.raises(ValueError, match="q=1"):
        discoveries(np.ones(3), 1.0)
