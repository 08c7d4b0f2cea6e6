"""Known answers of distances between sets of features, and independent formulas for the same numbers."""

import numpy as np
import pytest
from scipy.linalg import sqrtm

from evaluation import distances


def draws(n, d, *, seed, mean=0.0, scale=1.0):
    return mean + scale * np.random.default_rng(seed).normal(size=(n, d))


def test_frechet_of_two_gaussians_apart_by_mu_is_mu_squared():
    """T-U2: of N(0, I) and N(mu, I) it is |mu|², but for a bias of order d / n."""
    mu = np.array([3.0, 0.0, -4.0, 1.0])
    found = distances.frechet(draws(40_000, 4, seed=1), draws(40_000, 4, seed=2, mean=mu))
    assert found == pytest.approx(mu @ mu, rel=0.01)


def test_frechet_of_diagonal_gaussians_is_the_squared_difference_of_their_spreads():
    base = draws(500, 3, seed=3)
    assert distances.frechet(2 * base, 5 * base) == pytest.approx(
        9 * np.trace(np.cov(base.T)) + 9 * float((base.mean(0) ** 2).sum())
    )


def test_frechet_is_what_the_square_root_of_the_product_gives():
    one = draws(200, 12, seed=4) @ draws(12, 12, seed=5)
    other = draws(150, 12, seed=6, mean=0.3) @ draws(12, 12, seed=7)
    covariance, other_covariance = np.cov(one.T), np.cov(other.T)
    root = np.trace(sqrtm(covariance @ other_covariance).real)
    expected = ((one.mean(0) - other.mean(0)) ** 2).sum() + np.trace(covariance) + np.trace(other_covariance) - 2 * root
    assert distances.frechet(one, other) == pytest.approx(expected, rel=1e-8)


@pytest.mark.slow
def test_frechet_is_what_monai_says():
    from monai.metrics import FIDMetric
    from torch import from_numpy

    one, other = draws(300, 8, seed=8), draws(300, 8, seed=9, mean=0.2)
    assert distances.frechet(one, other) == pytest.approx(
        float(FIDMetric()(from_numpy(one), from_numpy(other))), rel=1e-4
    )


def test_frechet_of_fewer_rows_than_numbers_is_finite_and_zero_for_the_same_rows():
    rows = draws(10, 50, seed=10)
    assert distances.frechet(rows, rows[::-1]) == pytest.approx(0, abs=1e-9)
    assert 0 < distances.frechet(rows, draws(12, 50, seed=11)) < np.inf


def test_kernel_distance_of_one_distribution_has_zero_inside_its_interval():
    """T-U2: unbiased, so it may be negative."""
    found = distances.kernel(draws(1500, 16, seed=1), draws(1500, 16, seed=2), rng=np.random.default_rng(0))
    assert found.low < 0 < found.high
    apart = distances.kernel(draws(1500, 16, seed=1), draws(1500, 16, seed=2, mean=0.3), rng=np.random.default_rng(0))
    assert apart.low > 0


def test_kernel_distance_is_the_same_made_subset_by_subset(monkeypatch):
    one, other = draws(300, 8, seed=1), draws(200, 8, seed=2, mean=0.2)

    def found():
        return distances.kernel(one, other, rng=np.random.default_rng(3), subsets=5, subset=50)

    each = found()
    monkeypatch.setattr(distances, "_sums_of_each", distances._sums)
    assert found().value == pytest.approx(each.value, rel=1e-4)
    assert found().low == pytest.approx(each.low, rel=1e-4)


def test_kernel_distance_is_unbiased():
    """The mean over independent draws of one distribution is zero within three standard errors."""
    found = [
        distances.kernel(draws(40, 4, seed=k), draws(40, 4, seed=900 + k), rng=np.random.default_rng(k)).value
        for k in range(150)
    ]
    assert abs(np.mean(found)) < 3 * np.std(found) / np.sqrt(len(found))


def test_kernel_distance_of_all_rows_is_the_double_sum():
    one, other = draws(9, 3, seed=1), draws(9, 3, seed=2, mean=0.5)

    def k(x, y):
        return (x @ y / 3 + 1) ** 3

    n = 4  # half of nine, in one subset: drawn again here as the function draws it
    rng = np.random.default_rng(5)
    rows, others = (rng.permutation(9)[:n] for _ in range(2))
    a, b = one[rows], other[others]
    within = sum(k(s[i], s[j]) for s in (a, b) for i in range(n) for j in range(n) if i != j) / (n * (n - 1))
    across = sum(k(x, y) for x in a for y in b) / n**2
    found = distances.kernel(one, other, rng=np.random.default_rng(5), subsets=1)
    assert found.value == pytest.approx(within - 2 * across, rel=1e-5)


def test_identical_sets_have_precision_recall_and_coverage_one():
    """T-U3."""
    rows = draws(300, 10, seed=1)
    found = distances.manifold(rows, rows[::-1])
    assert (found.precision, found.recall, found.coverage) == (1, 1, 1)


def test_one_mode_is_precise_and_covers_nothing():
    """T-U6: what collapsed to one patient looks real and shows nobody else."""
    reference = draws(400, 8, seed=1)
    collapsed = reference[7] + 1e-3 * draws(400, 8, seed=2)
    found = distances.manifold(collapsed, reference)
    assert found.precision > 0.99
    assert found.recall < 0.05
    assert found.coverage < 0.05
    assert distances.distinct(collapsed) < 1.1 < 6 < distances.distinct(reference)


def test_manifold_measures_are_those_of_loops():
    new, reference, k = draws(30, 3, seed=1, mean=0.4), draws(30, 3, seed=2), 3

    def radius(rows):
        return np.array([np.sort(np.linalg.norm(rows - row, axis=1))[k] for row in rows])

    apart = np.linalg.norm(new[:, None] - reference, axis=2)
    balls = apart <= radius(reference)
    found = distances.manifold(new, reference, k=k)
    assert found.precision == pytest.approx(balls.any(1).mean())
    assert found.recall == pytest.approx((apart <= radius(new)[:, None]).any(0).mean())
    assert found.density == pytest.approx(balls.sum() / (k * 30))
    assert found.coverage == pytest.approx(balls.any(0).mean())


def test_density_of_two_draws_of_one_distribution_is_about_one():
    found = distances.manifold(draws(2000, 4, seed=1), draws(2000, 4, seed=2))
    assert found.density == pytest.approx(1, abs=0.05)


def test_blocks_change_nothing(monkeypatch):
    new, reference = draws(70, 5, seed=1), draws(70, 5, seed=2)

    def all_of_them():
        return distances.manifold(new, reference), distances.kernel(new, reference, rng=np.random.default_rng(3)).value

    whole, kernel = all_of_them()
    monkeypatch.setattr(distances, "_ROWS", 13)
    assert all_of_them() == (whole, pytest.approx(kernel, rel=1e-4))


def test_orthogonal_rows_are_as_many_as_they_are():
    assert distances.distinct(np.eye(7)) == pytest.approx(7)
    assert distances.distinct(np.ones((7, 3))) == pytest.approx(1)
    assert distances.distinct(np.zeros((7, 3))) == 1


REFUSED = {
    "one row": lambda: distances.frechet(np.ones((1, 3)), np.ones((5, 3))),
    "two widths": lambda: distances.frechet(np.ones((5, 3)), np.ones((5, 4))),
    "no number": lambda: distances.frechet(np.full((5, 3), np.nan), np.ones((5, 3))),
    "too few for subsets": lambda: distances.kernel(np.ones((3, 3)), np.ones((9, 3)), rng=np.random.default_rng(0)),
    "unequal n": lambda: distances.manifold(np.ones((9, 3)), np.ones((8, 3))),
    "no k-th neighbour": lambda: distances.manifold(np.ones((5, 3)), np.ones((5, 3)), k=5),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_be_compared_is_refused(what):
    with pytest.raises(ValueError, match=r"features|must be"):
        REFUSED[what]()
