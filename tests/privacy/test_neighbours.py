"""Neighbours are those of brute force, in any blocks."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from privacy import neighbours
from privacy.neighbours import nearest


def _brute(a: np.ndarray, b: np.ndarray, barred: np.ndarray, k: int) -> np.ndarray:
    apart = np.linalg.norm(a[:, None].astype(np.float64) - b, axis=2)
    apart[barred] = np.inf
    found = np.sort(apart, axis=1)[:, :k]
    return np.pad(found, ((0, 0), (0, k - found.shape[1])), constant_values=np.inf)


@given(st.integers(0, 12), st.integers(0, 12), st.integers(1, 5), st.integers(0, 10_000))
def test_distances_are_those_of_brute_force(n: int, m: int, k: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = (rng.standard_normal((rows, 3)).astype(np.float32) for rows in (n, m))
    labels = rng.integers(0, 3, n), rng.integers(0, 3, m)
    distances, rows = nearest(a, b, k, exclude_same=labels)
    assert distances.shape == rows.shape == (n, k)
    np.testing.assert_allclose(distances, _brute(a, b, labels[0][:, None] == labels[1], k), rtol=1e-5, atol=1e-6)
    assert ((rows == -1) == np.isinf(distances)).all()
    there = rows >= 0
    away = np.linalg.norm(np.repeat(a[:, None], k, 1)[there] - b[rows[there]], axis=1)
    np.testing.assert_allclose(distances[there], away, rtol=1e-5)


def test_blocks_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    a, b = (np.random.default_rng(s).standard_normal((50, 4)).astype(np.float32) for s in (0, 1))
    whole = nearest(a, b, 3)
    monkeypatch.setattr(neighbours, "_QUERIES", 7)
    monkeypatch.setattr(neighbours, "_BANK", 11)
    for one, other in zip(whole, nearest(a, b, 3), strict=True):
        np.testing.assert_array_equal(one, other)


def test_a_copy_lies_at_zero() -> None:
    bank = np.random.default_rng(0).standard_normal((100, 256)).astype(np.float32)
    distances, rows = nearest(bank[40:60], bank)
    assert (distances == 0).all()
    assert (rows[:, 0] == np.arange(40, 60)).all()


@pytest.mark.parametrize(
    ("k", "d", "labels", "match"),
    [(0, 3, None, "k=0"), (1, 2, None, "one dimension"), (1, 3, (np.zeros(2), np.zeros(1)), "one label")],
)
def test_what_does_not_fit_is_refused(k: int, d: int, labels: tuple[np.ndarray, np.ndarray] | None, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        nearest(np.zeros((2, 3), np.float32), np.zeros((2, d), np.float32), k, exclude_same=labels)
