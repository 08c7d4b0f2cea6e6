import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import beta, t
from scipy.stats import bootstrap as scipy_bootstrap

from privacy.estimate import (
    Estimate,
    bootstrap,
    clopper_pearson,
    equivalent,
    holm,
    needed,
    non_inferior,
    p_inferior,
    paired,
    pool,
    standard_error,
)


@given(st.integers(1, 400), st.data(), st.sampled_from([0.8, 0.95, 0.99]))
def test_clopper_pearson_is_the_beta_quantile(n: int, data: st.DataObject, confidence: float) -> None:
    hits = data.draw(st.integers(0, n))
    estimate = clopper_pearson(hits, n, confidence)
    tail = (1 - confidence) / 2
    assert estimate.low == pytest.approx(beta.ppf(tail, hits, n - hits + 1) if hits else 0.0, abs=1e-6)
    assert estimate.high == pytest.approx(beta.ppf(1 - tail, hits + 1, n - hits) if hits < n else 1.0, abs=1e-6)
    assert estimate.low <= estimate.value <= estimate.high


@pytest.mark.parametrize(("hits", "n", "lower"), [(300, 300, 0.990), (297, 300, 0.974), (190, 200, 0.917)])
def test_planted_copy_bounds_are_those_of_the_design(hits: int, n: int, lower: float) -> None:
    # one-sided 95 % bounds: the lower end of a 90 % interval
    assert clopper_pearson(hits, n, confidence=0.90).low == pytest.approx(lower, abs=0.002)


def test_bootstrap_agrees_with_scipy_bca() -> None:
    scores = np.random.default_rng(0).gamma(2.0, size=800)  # so many that both kinds of quantiles are one
    ours = bootstrap(scores, rng=np.random.default_rng(1), resamples=20_000)
    theirs = scipy_bootstrap((scores,), np.mean, n_resamples=20_000, rng=np.random.default_rng(2)).confidence_interval
    assert ours.value == pytest.approx(scores.mean())
    assert ours.low == pytest.approx(theirs.low, abs=0.01)
    assert ours.high == pytest.approx(theirs.high, abs=0.01)


def test_bootstrap_covers_the_mean_as_often_as_it_says() -> None:
    rng = np.random.default_rng(3)
    covered = 0
    for _ in range(400):
        estimate = bootstrap(rng.exponential(size=60), rng=rng, resamples=500)
        covered += estimate.low <= 1.0 <= estimate.high
    assert 0.90 <= covered / 400 <= 0.99


def test_bootstrap_repeats_under_the_same_seed_and_has_no_width_without_spread() -> None:
    scores = np.random.default_rng(4).normal(size=30)
    first, second = (bootstrap(scores, rng=np.random.default_rng(5)) for _ in range(2))
    assert first == second
    flat = bootstrap(np.full(10, 0.3), rng=np.random.default_rng(6))
    assert flat.low == flat.high == flat.value


def test_paired_differences_are_narrower_than_the_difference_of_strangers() -> None:
    rng = np.random.default_rng(7)
    skill = rng.normal(size=100)
    a, b = skill + 0.1 + 0.01 * rng.normal(size=100), skill
    estimate = paired(a, b, rng=rng)
    assert estimate.low > 0.09
    assert estimate.high < 0.11


def test_pooling_weights_sites_by_their_subjects() -> None:
    estimate = pool([(0.8, 0.01, 300), (0.6, 0.02, 100)])
    error = np.hypot(0.75 * 0.01, 0.25 * 0.02)
    assert estimate.value == pytest.approx(0.75)
    assert estimate.n == 400
    freedom = error**4 / ((0.75 * 0.01) ** 4 / 299 + (0.25 * 0.02) ** 4 / 99)
    assert estimate.high == pytest.approx(0.75 + t.ppf(0.975, freedom) * error)


def test_pooling_one_site_twice_as_two_halves_keeps_the_mean_and_shrinks_the_error() -> None:
    one, two = pool([(0.5, 0.1, 10)]), pool([(0.5, 0.1, 10), (0.5, 0.1, 10)])
    assert one.value == two.value
    assert (two.high - two.low) / t.ppf(0.975, 18) == pytest.approx((one.high - one.low) / t.ppf(0.975, 9) / 2**0.5)


RUNS = 1000
CHANCE = 0.05 + 1.65 * np.sqrt(0.05 * 0.95 / RUNS)  # one-sided: a test of 5 % is seldom above it


@pytest.mark.parametrize("n", [20, 60])
def test_non_inferiority_and_equivalence_err_at_most_one_time_in_twenty_at_the_margin(n: int) -> None:
    """T-U7."""
    rng = np.random.default_rng(8)
    lost = [
        paired(a, a + rng.normal(0.02, 0.04, n), rng=rng, resamples=500, confidence=0.90)
        for a in rng.normal(0.8, 0.1, (RUNS, n))
    ]
    assert np.mean([non_inferior(d, 0.02) for d in lost]) <= CHANCE
    assert np.mean([equivalent(d, 0.02) for d in lost]) <= CHANCE


def test_non_inferiority_over_sites_errs_at_most_one_time_in_twenty_at_the_margin() -> None:
    """T-U7, as sites say it: mean, standard error and number of their own patients."""
    rng = np.random.default_rng(9)

    def site(n: int) -> tuple[float, float, int]:
        differences = rng.normal(-0.02, 0.04, n)
        return float(differences.mean()), standard_error(differences, rng=rng, resamples=300), n

    wrong = [non_inferior(pool([site(12), site(20), site(30)], confidence=0.90), 0.02) for _ in range(RUNS)]
    assert np.mean(wrong) <= CHANCE


@pytest.mark.parametrize(
    ("spread", "margin", "at_90", "at_80"),
    [
        (3.0, 1.0, 78, 56),
        (3.0, 0.5, 309, 223),
        (0.04, 0.02, 35, 25),
        (0.04, 0.01, 138, 99),
        (np.sqrt(0.1), 0.05, 343, 248),
        (np.sqrt(0.1), 0.03, 952, 687),
    ],
)
def test_so_many_patients_are_needed_as_the_design_says(spread: float, margin: float, at_90: int, at_80: int) -> None:
    assert (needed(spread, margin, 0.9), needed(spread, margin, 0.8)) == (at_90, at_80)


def test_of_so_many_patients_four_of_five_studies_of_equals_pass() -> None:
    rng = np.random.default_rng(10)
    differences = rng.normal(0, 0.04, (400, needed(0.04, 0.02)))
    passed = [non_inferior(bootstrap(d, rng=rng, resamples=400, confidence=0.90), 0.02) for d in differences]
    assert 0.72 <= np.mean(passed) <= 0.88


def test_no_difference_seen_in_a_few_is_not_equivalence() -> None:
    few = bootstrap([-0.1, 0.1, 0.05, -0.06], rng=np.random.default_rng(0), confidence=0.90)
    assert few.low < 0 < few.high
    assert not equivalent(few, 0.02)
    assert equivalent(Estimate(value=0.0, low=-0.019, high=0.019, n=99), 0.02)
    assert non_inferior(Estimate(value=0.1, low=0.09, high=0.11, n=99), 0.02)
    assert not equivalent(Estimate(value=0.1, low=0.09, high=0.11, n=99), 0.02)


def test_the_p_value_is_one_in_twenty_where_the_one_sided_bound_meets_the_margin() -> None:
    at = Estimate(value=0.01, low=-0.02, high=0.04, n=99)
    assert p_inferior(at, 0.02, confidence=0.90) == pytest.approx(0.05)
    assert p_inferior(at, 0.01, confidence=0.90) > 0.05 > p_inferior(at, 0.03, confidence=0.90)
    sure = Estimate(value=0.01, low=0.01, high=0.01, n=99)
    assert (p_inferior(sure, 0.02), p_inferior(Estimate(value=-0.1, low=-0.1, high=-0.1, n=9), 0.02)) == (0, 1)


def test_holms_correction_is_that_of_the_textbook() -> None:
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx((0.03, 0.06, 0.06, 0.02))
    assert holm([0.5, 0.9]) == (1.0, 1.0)
    assert holm([]) == ()


REFUSED = {
    "more hits than tries": lambda: clopper_pearson(3, 2),
    "no tries": lambda: clopper_pearson(0, 0),
    "certainty": lambda: clopper_pearson(1, 2, confidence=1.0),
    "one subject": lambda: bootstrap([0.1], rng=np.random.default_rng(0)),
    "not a number": lambda: bootstrap([0.1, np.nan], rng=np.random.default_rng(0)),
    "pairs of other length": lambda: paired([0.1, 0.2], [0.1, 0.2, 0.3], rng=np.random.default_rng(0)),
    "no sites": lambda: pool([]),
    "negative error": lambda: pool([(0.5, -0.1, 10)]),
    "ends exchanged": lambda: Estimate(value=0.5, low=0.6, high=0.4, n=3),
    "no value": lambda: Estimate(value=float("nan"), low=0.4, high=0.6, n=3),
    "no subjects": lambda: Estimate(value=0.5, low=0.4, high=0.6, n=0),
    "no margin for equivalence": lambda: equivalent(Estimate(value=0.5, low=0.4, high=0.6, n=3), -1.0),
    "certain power": lambda: needed(1.0, 0.1, 1.0),
    "negative spread": lambda: needed(-1.0, 0.1),
    "no probability": lambda: holm([0.1, 1.1]),
    "no margin": lambda: non_inferior(Estimate(value=0.5, low=0.4, high=0.6, n=3), 0.0),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_no_evidence_is_refused(case: str) -> None:
    with pytest.raises(ValueError, match=r"\w"):
        REFUSED[case]()


def test_the_bootstrap_standard_error_is_that_of_a_mean():
    values = np.random.default_rng(1).normal(size=400)
    found = standard_error(values, rng=np.random.default_rng(2))
    assert found == pytest.approx(values.std() / 20, rel=0.08)
    assert found == standard_error(values, rng=np.random.default_rng(2))
