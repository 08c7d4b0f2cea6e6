"""Words of sites find their classes, and the most confident expert speaks."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from learning.ontology import Ontology, SiteLabelMap, from_json, pool, to_json

# The label spaces of Bransby et al. 2024 (arXiv:2407.21577): 15 classes, four sites of 8, 2, 11 and 4 words.
FIFTEEN = Ontology(names=tuple(f"class {i}" for i in range(15)))
PLACES = {"base": range(4, 12), "second": (4, 6), "third": range(4, 15), "fourth": range(4)}


def _map(site: str, places, ontology: Ontology = FIFTEEN) -> SiteLabelMap:
    return SiteLabelMap(
        site=site,
        labels=tuple(f"{site} {i}" for i in places),
        means=tuple(ontology.names[i] for i in places),
        ontology=ontology,
    )


MAPS = tuple(_map(site, places) for site, places in PLACES.items())


def test_twenty_five_scores_pool_to_fifteen_as_by_hand():
    scores = torch.tensor([[1, 2, 3, 4, 5, 6, 7, 8, 9, -1, 0, 9, 2, 9, 4, 9, 6, 9, 11, 12, 13, -4, -3, -2, -1]]).float()
    by_hand = [-4, -3, -2, -1, 9, 9, 3, 9, 5, 9, 7, 9, 11, 12, 13]
    assert pool(scores.split([8, 2, 11, 4], 1), MAPS).tolist() == [by_hand]


def test_a_class_that_nobody_has_scores_minus_infinity():
    pooled = pool([torch.zeros(3, 2)], MAPS[1:2])
    assert pooled[:, [4, 6]].eq(0).all()
    assert torch.isinf(pooled).sum() == 3 * 13


@given(st.permutations(range(4)))
def test_the_order_of_the_experts_does_not_matter(order):
    scores = torch.randn(5, 25, generator=torch.Generator().manual_seed(0)).split([8, 2, 11, 4], 1)
    moved = pool([scores[i] for i in order], [MAPS[i] for i in order])
    assert torch.equal(moved, pool(scores, MAPS))


def test_words_survive_the_way_to_the_ontology_and_back():
    for one in MAPS:
        own = np.arange(-1, len(one.labels))
        assert one.to_site(one.to_ontology(own)).tolist() == own.tolist()
    assert MAPS[1].to_site(np.array([5])).tolist() == [-1]


def test_two_words_may_mean_one_class():
    short = Ontology(names=("apical", "other"))
    one = SiteLabelMap(site="s", labels=("4CH", "AP4", "else"), means=("apical", "apical", "other"), ontology=short)
    assert one.to_ontology(np.array([0, 1, 2, -1])).tolist() == [0, 0, 1, -1]
    assert one.to_site(np.array([0, 1])).tolist() == [0, 2]
    assert pool([torch.tensor([[1.0, 3.0, 2.0]])], [one]).tolist() == [[3.0, 2.0]]


def test_maps_are_read_as_they_were_written():
    assert from_json(to_json(MAPS)) == MAPS


def test_a_map_under_another_ontology_is_refused():
    with pytest.raises(ValueError, match="digest"):
        from_json(to_json(MAPS).replace("class 14", "class 99"))
    with pytest.raises(ValueError, match="no label maps"):
        from_json("{}")
    with pytest.raises(ValueError, match="one ontology"):
        pool([torch.zeros(1, 2)] * 2, [MAPS[1], _map("x", (0, 1), Ontology(names=("a", "b")))])


def test_the_digest_knows_the_order_of_the_names():
    assert Ontology(names=("a", "b")).digest != Ontology(names=("b", "a")).digest


@pytest.mark.parametrize(
    ("labels", "means", "said"),
    [((), (), "labels"), (("a", "a"), ("class 1",) * 2, "labels"), (("a",), ("lung",), "lung"), (("a",), (), "means")],
)
def test_words_that_cannot_be_understood_are_refused(labels, means, said):
    with pytest.raises(ValueError, match=said):
        SiteLabelMap(site="s", labels=labels, means=means, ontology=FIFTEEN)


def test_scores_that_are_not_the_maps_are_refused():
    with pytest.raises(ValueError, match="columns"):
        pool([torch.zeros(1, 3)], MAPS[1:2])
