import numpy as np
import pytest

from privacy.gallery import Gallery
from privacy.resemblance import apart, nearest_people
from tests.privacy.attacks.crowd import crowd


def _brute(queries: Gallery, bank: Gallery) -> np.ndarray:
    pairs = np.linalg.norm(queries.features[:, None].astype(float) - bank.features[None].astype(float), axis=2)
    return np.array(
        [
            [
                pairs[np.ix_(queries.subject == i, bank.subject == j)].min(initial=np.inf)
                for j in range(len(bank.subjects))
            ]
            for i in range(len(queries.subjects))
        ]
    )


@pytest.mark.parametrize("n", [1, 40, 700])
def test_two_people_are_as_near_as_their_nearest_pictures(n: int) -> None:
    queries, bank = crowd(n, seed=1, views=(1, 0, 0)), crowd(30, seed=2)
    mixed = np.random.default_rng(0).permutation(len(queries))
    queries = Gallery(
        features=queries.features[mixed], subject=queries.subject[mixed], subjects=(*queries.subjects, "nobody"),
        view=queries.view, phase=queries.phase,
    )  # fmt: skip
    found = np.concatenate([away for _, away in apart(queries, bank)])
    np.testing.assert_allclose(found, _brute(queries, bank), atol=1e-3)


def test_the_nearest_come_first_and_only_who_may_be_one() -> None:
    queries, bank = crowd(50, seed=1), crowd(40, seed=2)
    among = np.arange(40) % 2 == 0
    distances, who = nearest_people(queries, bank, 3, among=among)
    known = np.where(among, _brute(queries, bank), np.inf)
    np.testing.assert_allclose(distances, np.sort(known, axis=1)[:, :3], atol=1e-3)
    np.testing.assert_array_equal(who, np.argsort(known, axis=1)[:, :3])


def test_who_is_not_there_is_nobodys_neighbour() -> None:
    distances, who = nearest_people(crowd(2, seed=1), crowd(1, seed=2), 3)
    assert np.isinf(distances[:, 1:]).all()
    assert (who[:, 1:] == -1).all()
    nobody = crowd(4, seed=3).select(())
    assert (nearest_people(crowd(2, seed=1), nobody, 1)[1] == -1).all()
