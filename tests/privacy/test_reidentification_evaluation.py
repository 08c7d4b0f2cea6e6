import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cohorts.phantom.simulate import stills
from privacy.embedding import Embedding, embed
from privacy.reidentification_evaluation import ONE_CLIP, ONE_STUDY, Kind, verify

ANY = Kind(name="any two pictures")


def _people(n: int, pictures: int, spread: float, seed: int, d: int = 16) -> tuple[Embedding, np.ndarray]:
    rng = np.random.default_rng(seed)
    subject = np.repeat(np.arange(n), pictures)
    rows = rng.standard_normal((n, d))[subject] + spread * rng.standard_normal((len(subject), d))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), subject


@pytest.mark.parametrize("seed", range(3))
def test_a_random_embedding_tells_nobody_apart(seed: int) -> None:
    """T-F1: the interval of the area holds one half, and copies are caught as often as strangers are rejected."""
    rng = np.random.default_rng(seed)
    subject = np.repeat(np.arange(150), 3)
    rows = rng.standard_normal((450, 32)).astype(np.float32)
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    found = verify(rows, subject, {}, ANY, seed=seed, resamples=300)
    assert found.auc.low <= 0.5 <= found.auc.high
    assert found.eer.value == pytest.approx(0.5, abs=0.05)
    tau = 0.25
    members, copies, strangers = rows[:150], rows[150:300], rows[300:]
    caught, rejected = ((part @ members.T).max(axis=1) >= tau for part in (copies, strangers))
    assert caught.mean() == pytest.approx(rejected.mean(), abs=0.17)  # three standard errors of the difference
    assert found.tpr[0.01].value < 0.06


def test_exact_copies_are_all_found() -> None:
    """T-F2: the pictures themselves as their own second pictures."""
    frames = stills(40, seed=1, size=32)
    rows = embed(frames.pixels[::4])
    found = verify(np.concatenate([rows, rows]), np.tile(np.arange(40), 2), {}, ANY, seed=0, resamples=200)
    assert (found.auc.value, found.eer.value, found.rank_1.value) == (1.0, 0.0, 1.0)
    assert set(found.tpr) == {0.01}
    assert found.tpr[0.01].value == 1.0


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), spread=st.floats(0.2, 3.0))
def test_the_area_is_the_share_of_pairs_in_right_order(seed: int, spread: float) -> None:
    rows, subject = _people(12, 3, spread, seed)
    found = verify(rows, subject, {}, ANY, seed=0, resamples=100)
    i, j = np.triu_indices(len(rows), 1)
    likeness, same = (rows @ rows.T)[i, j].astype(np.float64), subject[i] == subject[j]
    right = np.sign(likeness[same][:, None] - likeness[~same]).mean() / 2 + 0.5
    assert found.auc.value == pytest.approx(right, abs=1e-9)
    assert (found.n_same, found.n_other) == (12, int((~same).sum()))
    far = 1 - found.curve
    assert (np.diff(far, axis=1) <= 0).all()


def test_equal_likeness_is_chance() -> None:
    rows = np.tile(np.eye(4, dtype=np.float32)[:1], (40, 1))
    found = verify(rows, np.repeat(np.arange(20), 2), {}, ANY, seed=0, resamples=100)
    assert found.auc.value == 0.5
    assert found.eer.value == pytest.approx(0.5)
    assert found.tpr == {}
    assert found.rank_1.value < 0.2


def test_the_interval_is_of_people_and_covers_the_truth() -> None:
    truth = verify(*_people(1500, 2, 1.2, 99), {}, ANY, seed=0, resamples=100).auc.value
    covered = []
    for seed in range(60):
        found = verify(*_people(60, 2, 1.2, seed), {}, ANY, seed=0, resamples=200).auc
        covered.append(found.low <= truth <= found.high)
    assert np.mean(covered) >= 0.85


def test_kinds_of_pairs_are_told_apart() -> None:
    frames = stills(50, seed=3, size=32)
    columns = {"view": frames.view, "phase": frames.phase}
    clip, study = (
        verify(embed(frames.pixels), frames.subject, columns, kind, seed=0, resamples=200)
        for kind in (ONE_CLIP, ONE_STUDY)
    )
    assert clip.auc.value > study.auc.value
    assert clip.rank_1.value > 0.5
    assert clip.n_same == study.n_same == 50
    assert 0 < clip.eer.value < study.eer.value < 1


def test_unknown_entries_make_no_pair() -> None:
    rows, subject = _people(20, 3, 0.5, 0)
    view = np.tile([0, 1, -1], 20)
    found = verify(rows, subject, {"view": view}, ONE_STUDY, seed=0, resamples=100)
    assert found.n_other == 20 * 19


def test_blocks_do_not_change_a_number(monkeypatch: pytest.MonkeyPatch) -> None:
    rows, subject = _people(30, 3, 0.8, 1)
    whole = verify(rows, subject, {}, ANY, seed=0, resamples=100)
    monkeypatch.setattr("privacy.reidentification_evaluation._BLOCK", 7)
    parts = verify(rows, subject, {}, ANY, seed=0, resamples=100)
    assert (whole.n_other, whole.rank_1) == (parts.n_other, parts.rank_1)
    assert whole.auc.value == pytest.approx(parts.auc.value, abs=1e-4)


def test_too_little_is_refused() -> None:
    rows, subject = _people(4, 1, 0.5, 0)
    with pytest.raises(ValueError, match="too few"):
        verify(rows, subject, {}, ANY, seed=0)
    with pytest.raises(ValueError, match="needs the column 'view'"):
        verify(rows, subject, {}, ONE_CLIP, seed=0)
    with pytest.raises(ValueError, match="finite"):
        verify(rows * np.nan, subject, {}, ANY, seed=0)
