"""What every attack must do, whoever wrote it; a new file in `privacy/attacks/` is tested here the moment it exists.

An attack is a frozen config dataclass under a name in `ATTACKS`; its `kind` says what it is given and returns:

- "counts": at the site, `count(released, members, controls, *, random, formal, public_subjects)` returns a dataclass of
  plain numbers, which is all that leaves; `from_json` of that class reads it back. At the server, `judge(counts)` turns
  the counts of all sites into findings: `eps_lb` (0 where nothing was learnt), `p_value`, and
  `positive_control_detected`, without which no null result may pass. `plans()` says what a member is charged when
  `formal` adds noise; the sizes beside it are then those of the declared cohort.
- "membership": `score(targets, released, reference, *, rng)` returns one number a picture, higher for members.
- "model": the same with the generator's loss and those of other models in place of the release.
- "risk": `attempt(targets, released, reference, *, rng)` returns `Attempts`; `naive(targets, reference, *, rng)`
  likewise, without the release; `forms(known)` what to run where those attributes are known, by words for its name.
- "alone": `look(released, *, rng)` returns findings, with no real picture at all.

The people here are smooth random fields, so no two resemble each other and a leak can only be a copy.
"""

import dataclasses
import json
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.stats import fisher_exact

from cohorts.frames import Frames
from cohorts.study import SubjectKey
from privacy.attacks import of_kind
from privacy.gallery import Gallery
from privacy.mechanism import LaplacePlan
from privacy.membership import Exchange
from privacy.randomness import SecureRandom
from privacy.risk import risk
from privacy.suite import plain


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


def _gallery(kind: str, pixels: NDArray[np.uint8], pictures: int = 1) -> Gallery:
    frames = _people(kind, pixels)
    n = len(pixels) // pictures
    told = {f"{kind}-{i}": {"sex": "FM"[i % 2], "age_band": f"{40 + i % 3}"} for i in range(n)}
    grouped = dataclasses.replace(frames, subject=np.arange(len(pixels)) // pictures, subjects=frames.subjects[:n])
    return Gallery.of(grouped, attributes=told)


PATIENTS, STRANGERS = _gallery("member", _pictures(60, seed=1)), _gallery("control", _pictures(60, seed=2))
OTHERS, UNRELATED = _gallery("other", _pictures(80, seed=5)), _gallery("released", _pictures(80, seed=3))
COPIES = _gallery("released", np.concatenate([_pictures(20, seed=4), *3 * [PATIENTS.pixels]]))
NULL = Exchange(60, 60, seed=0)


def _rng() -> np.random.Generator:
    return np.random.default_rng(7)


def _part(kind: str, name: str) -> Any:
    return of_kind(kind)[name]()


def _told_apart(attack: Any, released: Gallery) -> float:
    scores = [attack.score(people, released, OTHERS, rng=_rng()) for people in (PATIENTS, STRANGERS)]
    return NULL.p_value(*scores)


@pytest.mark.parametrize("name", _house("membership"))
class TestMembership:
    def test_it_tells_members_of_a_copier_from_controls(self, name: str) -> None:
        assert _told_apart(_part("membership", name), COPIES) < 0.01

    def test_it_tells_nobody_apart_in_an_independent_release(self, name: str) -> None:
        assert _told_apart(_part("membership", name), UNRELATED) > 0.05

    def test_every_picture_has_a_finite_score_that_hangs_on_no_other_picture(self, name: str) -> None:
        attack = _part("membership", name)
        whole = attack.score(PATIENTS, COPIES, OTHERS, rng=_rng())
        some = attack.score(PATIENTS.select(PATIENTS.subjects[5:9]), COPIES, OTHERS, rng=_rng())
        assert whole.shape == (60,)
        assert whole.dtype == np.float64
        assert np.isfinite(whole).all()
        np.testing.assert_allclose(some, whole[5:9], rtol=1e-5, atol=1e-6)

    def test_it_copes_with_two_released_and_two_reference_pictures(self, name: str) -> None:
        few = [gallery.select(gallery.subjects[:2]) for gallery in (COPIES, OTHERS)]
        assert np.isfinite(_part("membership", name).score(PATIENTS, *few, rng=_rng())).all()


@pytest.mark.parametrize("name", _house("model"))
@pytest.mark.parametrize("public", [True, False], ids=["with the public prior", "with the population alone"])
class TestModel:
    def test_it_tells_apart_whom_the_model_knows_too_well(self, name: str, public: bool) -> None:
        assert self._p_value(name, public, gain=0.3) < 0.01

    def test_it_tells_nobody_apart_by_how_hard_a_picture_is(self, name: str, public: bool) -> None:
        assert self._p_value(name, public, gain=0.0) > 0.05

    def test_a_loss_that_is_none_is_refused(self, name: str, public: bool) -> None:
        with pytest.raises(ValueError, match="positive and finite"):
            _part("model", name).score(PATIENTS, lambda g: -np.ones((len(g), 3)), [], OTHERS, rng=_rng())

    @staticmethod
    def _p_value(name: str, public: bool, gain: float) -> float:
        def loss(gain: float) -> Any:
            def losses(gallery: Gallery) -> NDArray[np.float64]:
                hard = gallery.features[:, :1].astype(np.float64) ** 2 + 0.1  # some pictures are harder for any model
                known = np.isin(np.array(gallery.subjects), PATIENTS.subjects)[gallery.subject]
                return hard * np.array([[1.0, 2.0, 3.0]]) * np.exp(-gain * known[:, None])

            return losses

        attack, others = _part("model", name), [loss(0.0)] if public else []
        scores = [attack.score(p, loss(gain), others, OTHERS, rng=_rng()) for p in (PATIENTS, STRANGERS)]
        return NULL.p_value(*scores)


@pytest.mark.parametrize("name", _house("risk"))
class TestRisk:
    def test_what_it_achieves_is_counted_and_repeats(self, name: str) -> None:
        attack = _part("risk", name)
        made = [attack.attempt(PATIENTS, COPIES, OTHERS, rng=_rng()) for _ in range(2)]
        assert made[0] == made[1]
        assert 0 <= made[0].successes <= made[0].attempts
        assert made[0].attempts or made[0].note

    def test_it_sees_a_release_of_the_people_themselves(self, name: str) -> None:
        lows = []
        for attack in of_kind("risk")[name].forms(sorted(PATIENTS.attributes)).values():
            main, control = (attack.attempt(people, PATIENTS, OTHERS, rng=_rng()) for people in (PATIENTS, STRANGERS))
            excess = risk(main, control, attack.naive(PATIENTS, OTHERS, rng=_rng())).excess
            lows += [] if excess is None else [excess.low]
        assert not lows or max(lows) > 0.2  # nobody here has two views that linking could join

    def test_without_a_release_it_still_guesses(self, name: str) -> None:
        naive = _part("risk", name).naive(PATIENTS, OTHERS, rng=_rng())
        assert naive.attempts or naive.note

    def test_it_fares_no_better_on_members_of_an_independent_release(self, name: str) -> None:
        attack = _part("risk", name)
        made = [attack.attempt(people, UNRELATED, OTHERS, rng=_rng()) for people in (PATIENTS, STRANGERS)]
        if all(m.attempts for m in made):
            counted = [[m.successes, m.attempts - m.successes] for m in made]
            assert fisher_exact(counted, alternative="greater").pvalue > 0.01

    def test_nothing_known_of_anybody_is_said_and_not_guessed(self, name: str) -> None:
        bare = [dataclasses.replace(g, attributes={}) for g in (PATIENTS, COPIES, OTHERS)]
        made = _part("risk", name).attempt(*bare, rng=_rng())
        assert made.attempts or made.note


@pytest.mark.parametrize("name", _house("alone"))
class TestAlone:
    def test_what_it_saw_is_plain_json_and_repeats(self, name: str) -> None:
        seen = [_part("alone", name).look(COPIES, rng=_rng()) for _ in range(2)]
        assert seen[0] == seen[1]
        json.dumps(plain(seen[0]), allow_nan=False)
