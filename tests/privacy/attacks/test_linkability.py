from dataclasses import replace

import numpy as np
import pytest

from privacy.attacks.linkability import Linkability
from privacy.gallery import Gallery, joined
from privacy.risk import Attempts, Risk, risk
from tests.privacy.attacks.crowd import crowd

# two views of one heart are as unlike as two hearts: nothing but a copy of both joins them
MEMBERS, CONTROLS, REFERENCE, STRANGERS = (crowd(300, seed=s, own=30.0) for s in (1, 2, 3, 4))
BOTH = pytest.mark.parametrize("half", ["views", "labels"])


def _attempt(attack: Linkability, people: Gallery, released: Gallery) -> Attempts:
    return attack.attempt(people, released, REFERENCE, rng=np.random.default_rng(0))


def _risk(attack: Linkability, released: Gallery) -> Risk:
    main, control = (_attempt(attack, people, released) for people in (MEMBERS, CONTROLS))
    return risk(main, control, attack.naive(MEMBERS, REFERENCE, rng=np.random.default_rng(0)))


@BOTH
def test_a_copier_joins_the_halves_of_nearly_everybody(half: str) -> None:
    found = _risk(Linkability(half=half), MEMBERS)
    assert found.void == ""
    assert found.excess is not None
    assert found.excess.low > 0.9


@BOTH
def test_without_a_leak_the_interval_holds_zero_in_nearly_every_seed(half: str) -> None:
    held = 0
    for seed in range(60):
        members, controls, released = (crowd(120, seed=3000 + 3 * seed + i, own=0.5) for i in range(3))
        main, control = (_attempt(Linkability(half=half), people, released) for people in (members, controls))
        found = risk(main, control, main).excess
        assert found is not None
        held += found.low <= 0 <= found.high
    assert held >= 54


def test_a_release_that_shuffled_who_has_which_picture_joins_nobody() -> None:
    lot = np.random.default_rng(0).permutation(300)
    other = MEMBERS.view != 1
    mixed = replace(MEMBERS, subject=np.where(other, lot[MEMBERS.subject], MEMBERS.subject))
    found = _risk(Linkability(), mixed).excess
    assert found is not None
    assert found.low < 0 < found.high


def test_views_that_resemble_each_other_join_controls_as_well() -> None:
    found = []
    for seed in range(10):
        members, controls, released = (crowd(200, seed=4000 + 3 * seed + i, own=0.1) for i in range(3))
        main, control = (_attempt(Linkability(), people, released) for people in (members, controls))
        assert control.successes > 100
        found.append(risk(main, control, Attempts(successes=0, attempts=1)).excess)
    assert abs(np.mean([excess.value for excess in found if excess is not None])) < 0.1


def test_a_release_without_two_views_of_anybody_is_not_called_safe() -> None:
    single = crowd(300, seed=4, views=(1,))
    made = _attempt(Linkability(), MEMBERS, single)
    assert made.attempts == 0
    assert "not applicable" in made.note
    assert "not applicable" in _risk(Linkability(), single).void


def test_released_people_with_one_view_join_nothing_beside_others_with_two() -> None:
    alone = crowd(300, seed=1, views=(1,), own=0.0)
    leak = joined(alone, crowd(50, seed=8, own=30.0))
    assert _attempt(Linkability(), MEMBERS, leak).successes < 20


@pytest.mark.parametrize("k", [1, 5])
def test_people_with_one_half_are_not_asked_about(k: int) -> None:
    some = joined(MEMBERS.select(MEMBERS.subjects[:40]), crowd(60, seed=9, views=(1,)))
    assert _attempt(Linkability(k=k), some, MEMBERS).attempts == 40


def test_labels_that_nobody_has_are_no_half() -> None:
    made = _attempt(Linkability(half="labels"), replace(MEMBERS, attributes={}), MEMBERS)
    assert (made.attempts, "not applicable" in made.note) == (0, True)


@pytest.mark.parametrize(("wrong", "said"), [({"half": "face"}, "half='face'"), ({"k": 0}, "k=0")])
def test_impossible_settings_are_refused(wrong: dict[str, object], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Linkability(**wrong)  # type: ignore[arg-type]
