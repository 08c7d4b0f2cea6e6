"""What every attack must do, whoever wrote it; a new file in `privacy/attacks/` is tested here the moment it exists.

An attack is a frozen config dataclass under a name in `ATTACKS`. At the site, `count(released, members, controls, *,
random, formal, public_subjects)` returns a dataclass of plain numbers, which is all that leaves; `from_json` of that
class reads it back. At the server, `judge(counts)` turns the counts of all sites into findings: `eps_lb` (0 where
nothing was learnt), `p_value`, and `positive_control_detected`, without which no null result may pass. `plans()` says
what a member is charged when `formal` adds noise; the sizes beside it are then those of the declared cohort.

The people here are smooth random fields, so no two resemble each other and a leak can only be a copy.
"""

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from cohorts.frames import Frames
from cohorts.study import SubjectKey
from privacy.attacks import of_kind
from privacy.mechanism import LaplacePlan
from privacy.randomness import SecureRandom


def _house(kind: str) -> list[str]:
    return [name for name in of_kind(kind) if of_kind(kind)[name].__module__.startswith("privacy.")]


def _pictures(n: int, *, seed: int) -> NDArray[np.uint8]:
    field = gaussian_filter(np.random.default_rng(seed).standard_normal((n, 32, 32)), (0, 2, 2))
    return np.asarray(128 + 40 * (field / field.std()).clip(-3, 3), np.uint8)


def _people(kind: str, pixels: NDArray[np.uint8]) -> Frames:
    n = len(pixels)
    return Frames(
        pixels=pixels,
        masks=np.zeros_like(pixels),
        view=np.zeros(n, np.int64),
        phase=np.zeros(n, np.int64),
        lvef_percent=np.zeros(n, np.float32),
        subject=np.arange(n),
        subjects=tuple(SubjectKey(f"{kind}-{i}") for i in range(n)),
    )


MEMBERS, CONTROLS = _people("member", _pictures(100, seed=1)), _people("control", _pictures(100, seed=2))
INDEPENDENT = _people("released", _pictures(100, seed=3))
LEAK = _people("released", np.concatenate([_pictures(80, seed=4), MEMBERS.pixels[:20]]))


@pytest.fixture(params=_house("counts"))
def attack(request: pytest.FixtureRequest) -> Any:
    return of_kind("counts")[request.param]()


def _exactly(attack: Any, released: Frames, members: Frames = MEMBERS, controls: Frames = CONTROLS) -> Any:
    return attack.count(released, members, controls, random=SecureRandom(), formal=False, public_subjects=200)


def test_it_finds_a_planted_leak(attack: Any) -> None:
    found = attack.judge([_exactly(attack, LEAK)])
    assert found["eps_lb"] > 0.5
    assert found["p_value"] < 0.001


def test_it_finds_nothing_in_an_independent_release(attack: Any) -> None:
    found = attack.judge([_exactly(attack, INDEPENDENT)])
    assert found["eps_lb"] == 0
    assert found["p_value"] > 0.05


def test_it_finds_nothing_where_members_and_controls_are_mixed(attack: Any) -> None:
    mixed = np.arange(100) % 2 == 0
    pixels = [np.where(m[:, None, None], MEMBERS.pixels, CONTROLS.pixels) for m in (mixed, ~mixed)]
    copies = _people("released", np.concatenate([MEMBERS.pixels[:10], CONTROLS.pixels[:10]]))
    found = attack.judge([_exactly(attack, copies, _people("member", pixels[0]), _people("control", pixels[1]))])
    assert found["eps_lb"] == 0


def test_it_says_when_it_had_too_few_people_to_see_anything(attack: Any) -> None:
    few = [people.select(people.subjects[:8]) for people in (MEMBERS, CONTROLS)]
    found = attack.judge([_exactly(attack, INDEPENDENT, *few)])
    assert found["eps_lb"] == 0
    assert not found["positive_control_detected"]


def test_what_leaves_a_site_is_numbers_and_survives_the_way(attack: Any) -> None:
    counts = attack.count(INDEPENDENT, MEMBERS, CONTROLS, random=SecureRandom(), formal=True, public_subjects=200)
    document = dataclasses.asdict(counts)
    assert all(type(value) in (int, float, bool) for value in document.values())
    assert type(counts).from_json(json.loads(json.dumps(document))) == counts


def test_findings_are_plain_json(attack: Any) -> None:
    found = attack.judge([_exactly(attack, INDEPENDENT)])
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_what_it_costs_is_said_and_its_formal_counts_are_noised(attack: Any) -> None:
    plans = attack.plans()
    assert plans
    assert all(isinstance(plan, LaplacePlan) and plan.purpose for plan in plans)
    assert len({plan.purpose for plan in plans}) == len(plans)
    runs = [
        attack.count(LEAK, MEMBERS, CONTROLS, random=SecureRandom(), formal=True, public_subjects=200) for _ in range(5)
    ]
    assert len({json.dumps(dataclasses.asdict(run)) for run in runs}) > 1


def test_formal_sizes_are_the_declared_ones_whoever_is_there(attack: Any) -> None:
    fewer = MEMBERS.select(MEMBERS.subjects[1:])
    told: dict[str, Any] = {"random": SecureRandom(), "formal": True, "public_subjects": 160}
    whole, lacking = (attack.count(INDEPENDENT, people, CONTROLS, **told) for people in (MEMBERS, fewer))
    assert (whole.members, whole.controls) == (lacking.members, lacking.controls)
    assert whole.members + whole.controls == 160


def test_exact_counts_do_not_depend_on_chance(attack: Any) -> None:
    assert _exactly(attack, LEAK) == _exactly(attack, LEAK)


def test_one_person_more_changes_each_exact_count_by_at_most_one(attack: Any) -> None:
    fewer = MEMBERS.select(MEMBERS.subjects[1:])  # the one who leaves has a copy in the release
    before, after = (dataclasses.asdict(_exactly(attack, LEAK, people)) for people in (MEMBERS, fewer))
    assert all(abs(before[name] - after[name]) <= 1 for name in before)


def test_sites_are_judged_together(attack: Any) -> None:
    halves = [slice(0, 50), slice(50, 100)]
    counts = [
        _exactly(attack, LEAK, MEMBERS.select(MEMBERS.subjects[half]), CONTROLS.select(CONTROLS.subjects[half]))
        for half in halves
    ]
    whole = attack.judge([_exactly(attack, LEAK)])
    assert attack.judge(counts) == whole == attack.judge(counts[::-1])
