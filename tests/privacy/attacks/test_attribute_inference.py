from dataclasses import replace

import numpy as np
import pytest

from privacy.attacks.attribute_inference import AttributeInference
from privacy.gallery import Gallery, joined
from privacy.risk import Risk, risk
from tests.privacy.attacks.crowd import crowd

MEMBERS, CONTROLS, REFERENCE = (crowd(300, seed=s) for s in (1, 2, 3))


def _risk(
    attack: AttributeInference,
    released: Gallery,
    members: Gallery = MEMBERS,
    controls: Gallery = CONTROLS,
    *,
    seed: int = 0,
) -> Risk:
    rng = np.random.default_rng(seed)
    main, control = (attack.attempt(people, released, REFERENCE, rng=rng) for people in (members, controls))
    return risk(main, control, attack.naive(members, REFERENCE, rng=rng))


def _shares(found: Risk) -> tuple[float, float, float]:
    assert found.excess is not None
    return found.excess.low, found.excess.value, found.excess.high


def test_a_copier_of_records_puts_nearly_every_member_at_risk() -> None:
    low, value, _ = _shares(_risk(AttributeInference(), MEMBERS))
    assert value > 0.97
    assert low > 0.9


def test_without_a_leak_the_interval_holds_zero_in_nearly_every_seed() -> None:
    held = 0
    for seed in range(60):
        members, controls, released = (crowd(120, seed=1000 + 3 * seed + i, told=0.7) for i in range(3))
        low, _, high = _shares(_risk(AttributeInference(k=5), released, members, controls))
        held += low <= 0 <= high
    assert held >= 54  # of 60 at 95 %; fewer than 54 has probability 0.04


def test_what_pictures_tell_of_everybody_is_no_risk() -> None:
    """Every third control is guessed right by chance; here hearts show their EF, and half are, members or not."""
    members, controls, released = (crowd(600, seed=s, told=0.9) for s in (11, 12, 13))
    found = _risk(AttributeInference(k=5), released, members, controls)
    assert found.main is not None
    assert found.naive is not None
    assert found.main.low > found.naive.high
    assert found.void == ""
    low, _, high = _shares(found)
    assert low < 0 < high


def test_labels_that_were_shuffled_tell_nothing() -> None:
    held = 0
    for seed in range(20):
        words = np.random.default_rng(seed).permutation(MEMBERS.attributes["ef_class"])
        low, _, high = _shares(_risk(AttributeInference(), replace(MEMBERS, attributes={"ef_class": words})))
        held += low < 0 < high
    assert held >= 17


def test_a_few_copies_show_where_the_attacker_may_choose_whom_to_ask_about() -> None:
    leak = joined(crowd(300, seed=4), MEMBERS.select(MEMBERS.subjects[:15]))
    low, _, high = _shares(_risk(AttributeInference(), leak))
    assert low < 0.05 < high
    low, value, _ = _shares(_risk(AttributeInference(recall=0.05), leak))
    assert value > 0.8
    assert low > 0.5


def test_choosing_whom_to_ask_about_finds_nothing_where_there_is_nothing() -> None:
    low, _, high = _shares(_risk(AttributeInference(recall=0.05), crowd(300, seed=4)))
    assert low < 0 < high


def test_one_released_person_has_one_vote_however_many_pictures() -> None:
    target = crowd(1, seed=7, views=(1,))
    near = replace(crowd(1, seed=7, views=(1,) * 9), attributes={"ef_class": np.array(["low"], object)})
    others = [
        replace(crowd(1, seed=s, views=(1,)), attributes={"ef_class": np.array(["high"], object)}) for s in (8, 9)
    ]
    bank = joined(near, joined(*others))
    asked = replace(target, attributes={"ef_class": np.array(["high"], object)})
    rng = np.random.default_rng(0)
    assert AttributeInference(k=3).attempt(asked, bank, REFERENCE, rng=rng).successes == 1
    assert AttributeInference(k=1).attempt(asked, bank, REFERENCE, rng=rng).successes == 0


def test_the_view_of_a_picture_is_told_by_the_picture_most_like_it() -> None:
    found = AttributeInference(attribute="view").attempt(MEMBERS, MEMBERS, REFERENCE, rng=np.random.default_rng(0))
    assert (found.successes, found.attempts) == (300, 300)


@pytest.mark.parametrize("known", ["members", "release", "reference"])
def test_nobody_is_attacked_with_labels_that_are_not_there(known: str) -> None:
    parts = {"members": MEMBERS, "release": MEMBERS, "reference": REFERENCE}
    silent = {name: part if name == known else replace(part, attributes={}) for name, part in parts.items()}
    attack, rng = AttributeInference(), np.random.default_rng(0)
    main = attack.attempt(silent["members"], silent["release"], silent["reference"], rng=rng)
    naive = attack.naive(silent["members"], silent["reference"], rng=rng)
    found = risk(main, main, naive)
    assert "not applicable" in found.void
    assert "known" in found.note


def test_people_of_unknown_label_are_not_asked_about() -> None:
    words = MEMBERS.attributes["ef_class"].copy()
    words[100:] = ""
    asked = replace(MEMBERS, attributes={"ef_class": words})
    assert AttributeInference().attempt(asked, MEMBERS, REFERENCE, rng=np.random.default_rng(0)).attempts == 100


@pytest.mark.parametrize(
    ("wrong", "said"), [({"k": 0}, "k=0"), ({"recall": 0.0}, "recall=0.0"), ({"recall": 1.5}, "recall=1.5")]
)
def test_impossible_settings_are_refused(wrong: dict[str, float], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        AttributeInference(**wrong)  # type: ignore[arg-type]
