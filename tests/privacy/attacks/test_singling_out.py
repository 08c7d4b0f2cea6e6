import math

import numpy as np
import pytest

from privacy.attacks.singling_out import SinglingOut, _isolated, _one_each
from privacy.gallery import Gallery, joined
from privacy.risk import Attempts, Risk, risk
from tests.privacy.attacks.crowd import crowd

MEMBERS, CONTROLS, REFERENCE, STRANGERS = (crowd(300, seed=s) for s in (1, 2, 3, 4))
USUAL = SinglingOut()


def _attempt(released: Gallery, people: Gallery = MEMBERS, *, attack: SinglingOut = USUAL) -> Attempts:
    return attack.attempt(people, released, REFERENCE, rng=np.random.default_rng(0))


def _risk(released: Gallery, *, attack: SinglingOut = USUAL) -> Risk:
    naive = attack.naive(MEMBERS, REFERENCE, rng=np.random.default_rng(0))
    return risk(_attempt(released, attack=attack), _attempt(released, CONTROLS, attack=attack), naive)


def test_a_claim_as_wide_as_one_person_in_n_is_true_by_chance_in_37_percent() -> None:
    """Cohen & Nissim 2020, the reason of the weight rule: nothing was released of these people at all."""
    points = _one_each(STRANGERS, np.random.default_rng(0), 300)
    members = crowd(300, seed=1, views=(1,))
    away = np.sort(np.linalg.norm(points.features[:, None] - crowd(4000, seed=9, views=(1,)).features[None], axis=2))
    radii = away[:, 4000 // 300 - 1]
    assert _isolated(points, radii.astype(np.float64), members) / 300 == pytest.approx(1 / math.e, abs=0.08)


@pytest.mark.parametrize("expected", [0.11, 1.0, 0.0])
def test_claims_that_chance_fulfils_do_not_count(expected: float) -> None:
    with pytest.raises(ValueError, match=f"expected={expected}"):
        SinglingOut(expected=expected)


@pytest.mark.parametrize("dimension", [4, 12, 40])
def test_even_the_widest_claim_that_counts_is_rarely_true_of_strangers(dimension: int) -> None:
    """At most n·w = 10 % by the rule; the estimate of w may be off by as much again."""
    people = [crowd(300, seed=20 + i, dimension=dimension) for i in range(3)]
    made = SinglingOut(expected=0.1).attempt(*people, rng=np.random.default_rng(0))
    assert made.attempts > 250
    assert made.successes / made.attempts < 0.2


def test_a_copier_singles_out_nearly_everybody() -> None:
    found = _risk(MEMBERS).excess
    assert found is not None
    assert found.value > 0.95
    assert found.low > 0.9


def test_without_a_leak_the_interval_holds_zero_in_nearly_every_seed() -> None:
    held = 0
    for seed in range(60):
        members, controls, reference, released = (crowd(100, seed=2000 + 4 * seed + i) for i in range(4))
        main, control = (
            SinglingOut(expected=0.1).attempt(people, released, reference, rng=np.random.default_rng(seed))
            for people in (members, controls)
        )
        found = risk(main, control, main).excess
        assert found is not None
        held += found.low <= 0 <= found.high
    assert held >= 54


def test_a_share_of_copies_is_the_share_of_claims_that_come_true() -> None:
    found = _risk(joined(crowd(270, seed=4), MEMBERS.select(MEMBERS.subjects[:30])))
    assert found.excess is not None
    assert found.excess.value == pytest.approx(0.1, abs=0.03)
    assert found.excess.low > 0.05


def test_copies_of_members_and_controls_alike_are_no_risk() -> None:
    both = joined(MEMBERS.select(MEMBERS.subjects[:100]), CONTROLS.select(CONTROLS.subjects[:100]))
    found = _risk(both).excess
    assert found is not None
    assert found.low < 0 < found.high


def test_the_same_claim_made_again_is_one_attempt() -> None:
    one = MEMBERS.select(MEMBERS.subjects[:1])
    many = one
    for _ in range(49):
        many = joined(many, one)
    assert _attempt(many).attempts <= 2  # its two pictures are two claims at most


def test_a_person_who_is_there_twice_is_not_singled_out() -> None:
    twice = joined(MEMBERS, MEMBERS)
    assert _attempt(MEMBERS, twice).successes == 0


def test_a_small_reference_says_nothing_of_rare_likenesses() -> None:
    few = REFERENCE.select(REFERENCE.subjects[:19])
    made = SinglingOut().attempt(MEMBERS, MEMBERS, few, rng=np.random.default_rng(0))
    assert (made.attempts, "19 people" in made.note) == (0, True)


def test_claims_are_bounded() -> None:
    assert _attempt(STRANGERS, attack=SinglingOut(claims=50)).attempts == 50
