import dataclasses
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from cohorts.frames import Frames
from cohorts.phantom.simulate import stills
from cohorts.study import SubjectKey
from privacy.attacks.disclosure import Disclosure, DisclosureCounts, _likeness
from privacy.embedding import embed
from privacy.planted import altered_copy
from privacy.randomness import SecureRandom
from privacy.zero_learning import ZeroLearning

ATTACK = Disclosure()


def _textures(n: int, *, seed: int, frames: int = 1, size: int = 32) -> NDArray[np.uint8]:
    """Images of nobody: smooth random fields, any two of which are strangers."""
    field = gaussian_filter(np.random.default_rng(seed).standard_normal((n * frames, size, size)), (0, 1.5, 1.5))
    return np.asarray(128 + 40 * (field / field.std()).clip(-3, 3), np.uint8)


def _people(pixels: NDArray[np.uint8], names: Sequence[str], *, frames: int = 1) -> Frames:
    n = len(pixels)
    return Frames(
        pixels=pixels,
        masks=np.zeros_like(pixels),
        view=np.zeros(n, np.int64),
        phase=np.zeros(n, np.int64),
        lvef_percent=np.zeros(n, np.float32),
        subject=np.repeat(np.arange(n // frames), frames),
        subjects=tuple(SubjectKey(name) for name in names),
    )


def _cohorts(n: int, *, seed: int = 0, frames: int = 1) -> tuple[Frames, Frames]:
    pixels = _textures(2 * n, seed=seed, frames=frames)
    members = _people(pixels[: n * frames], [f"m{i}" for i in range(n)], frames=frames)
    return members, _people(pixels[n * frames :], [f"c{i}" for i in range(n)], frames=frames)


def _release(pixels: NDArray[np.uint8]) -> Frames:
    return _people(pixels, [f"released-{i}" for i in range(len(pixels))])


def _exact(released: Frames, members: Frames, controls: Frames) -> DisclosureCounts:
    return ATTACK.count(released, members, controls, random=SecureRandom(), formal=False, public_subjects=40)


@pytest.mark.parametrize(
    ("disclosed", "members", "bound"),
    [(5, 5, 0.20), (10, 10, 1.05), (20, 20, 1.82), (20, 18, 0.93), (59, 59, 2.95), (100, 100, 3.49), (100, 60, 0.05)],
)
def test_the_table_of_the_design_is_reproduced(disclosed: int, members: int, bound: float) -> None:
    counts = DisclosureCounts(
        members=500, controls=500, members_disclosed=members, controls_disclosed=disclosed - members,
        copies_found=500, threshold=0.92, formal=False,
    )  # fmt: skip
    assert ATTACK.judge([counts])["eps_lb"] == pytest.approx(bound, abs=0.006)


def test_an_independent_release_discloses_no_more_members_than_chance() -> None:
    members, controls = _cohorts(60)
    found = ATTACK.judge([_exact(_release(_textures(200, seed=9)), members, controls)])
    assert found["eps_lb"] == 0.0
    assert found["p_value"] > 0.05


def test_a_copier_is_detected() -> None:
    members, controls = _cohorts(60)
    counts = _exact(_release(members.pixels), members, controls)
    assert (counts.members_disclosed, counts.controls_disclosed) == (60, 0)
    assert ATTACK.judge([counts])["eps_lb"] > 2.9


def test_a_copier_that_alters_its_copies_is_detected() -> None:
    people = stills(60, seed=7)
    members, controls = people.select(people.subjects[:30]), people.select(people.subjects[30:])
    rng = np.random.default_rng(1)
    altered = np.stack([altered_copy(image, level=2, rng=rng) for image in members.pixels[::4]])
    counts = _exact(_release(altered), members, controls)
    assert counts.members_disclosed > 24
    assert counts.copies_found > 24
    assert counts.controls_disclosed < 3
    assert ATTACK.judge([counts])["eps_lb"] > 1.0


def test_copies_of_four_percent_are_detected_where_averages_see_nothing() -> None:
    members, controls = _cohorts(250, seed=3)
    novel = _textures(240, seed=4)
    released = _release(np.concatenate([novel, members.pixels[:10]]))
    counts = _exact(released, members, controls)
    assert (counts.members_disclosed, counts.controls_disclosed) == (10, 0)
    assert ATTACK.judge([counts])["eps_lb"] == pytest.approx(1.05, abs=0.006)
    images = embed(released.pixels)
    near, far = (_likeness(people, images)[0] for people in (members, controls))
    area = np.mean(near[:, None] > far)
    deviation = np.sqrt((250 + 250 + 1) / (12 * 250 * 250))
    assert abs(area - 0.5) < 1.96 * deviation


def test_exchanged_labels_give_the_null() -> None:
    members, controls = _cohorts(60)
    images = embed(members.pixels)
    likeness = np.concatenate([_likeness(people, images)[0] for people in (members, controls)])
    shown = likeness >= ATTACK.threshold
    test, rng = ZeroLearning(), np.random.default_rng(5)
    rejected = 0
    for _ in range(200):
        member = rng.random(len(shown)) < 0.5
        rejected += test.p_value(int((shown & member).sum()), int((shown & ~member).sum())) < 0.05
    assert rejected <= 10 + 2.3 * np.sqrt(200 * 0.05 * 0.95)


def test_chance_likenesses_of_one_scanner_are_no_evidence() -> None:
    people = stills(80, seed=1, style="site-a")
    released = stills(80, seed=2, style="site-a")
    shown = _likeness(people, embed(released.pixels))[0] >= 0.88
    assert shown.sum() > 5  # at so low a threshold many subjects are matched by strangers
    test, rng = ZeroLearning(), np.random.default_rng(6)
    rejected = 0
    for _ in range(200):
        member = rng.random(80) < 0.5
        rejected += test.p_value(int((shown & member).sum()), int((shown & ~member).sum())) < 0.05
    assert rejected <= 10 + 2.3 * np.sqrt(200 * 0.05 * 0.95)


@pytest.mark.parametrize("leaver", [0, 7, 19])
def test_one_subject_changes_every_count_by_at_most_one(leaver: int) -> None:
    members, controls = _cohorts(20)
    twin = dataclasses.replace(members, pixels=np.concatenate([members.pixels[:-1], members.pixels[leaver][None]]))
    released = _release(np.concatenate([twin.pixels[:12], _textures(20, seed=8)]))
    fewer = twin.select([s for i, s in enumerate(twin.subjects) if i != leaver])
    before, after = _exact(released, twin, controls), _exact(released, fewer, controls)
    assert 0 <= before.members_disclosed - after.members_disclosed <= 1
    assert 0 <= before.copies_found - after.copies_found <= 1
    assert before.controls_disclosed == after.controls_disclosed


def test_formal_counts_carry_noise_of_the_planned_size_and_state_declared_cohorts() -> None:
    members, controls = _cohorts(23)
    released = _release(_textures(5, seed=8))
    drawn: list[float] = []

    class Spy(SecureRandom):
        def discrete_laplace(self, epsilon: float, *, sensitivity: int = 1) -> int:
            drawn.append(epsilon)
            assert sensitivity == 1
            return 100

    exact = _exact(released, members, controls)
    formal = ATTACK.count(released, members, controls, random=Spy(), formal=True, public_subjects=40)
    spent = [plan.epsilon for plan in ATTACK.plans()]
    assert drawn == [spent[0], pytest.approx(sum(spent)), spent[1]]  # members, controls, copies
    assert sum(spent) == pytest.approx(1.0)
    assert (formal.members, formal.controls) == (20, 20)
    assert (exact.members, exact.controls) == (23, 23)
    assert formal.members_disclosed == exact.members_disclosed + 100
    assert formal.copies_found == exact.copies_found + 100


def test_the_same_attack_run_formally_differs_from_run_to_run() -> None:
    members, controls = _cohorts(10)
    released = _release(_textures(5, seed=8))
    told: dict[str, Any] = {"random": SecureRandom(), "formal": True, "public_subjects": 20}
    runs = {ATTACK.count(released, members, controls, **told) for _ in range(6)}
    assert len(runs) > 1


def _sites(n: int, *, members_disclosed: int, controls_disclosed: int) -> list[DisclosureCounts]:
    return [
        DisclosureCounts(
            members=n, controls=n, members_disclosed=members_disclosed, controls_disclosed=controls_disclosed,
            copies_found=round(0.93 * n), threshold=0.92, formal=True,
        )
        for _ in range(3)
    ]  # fmt: skip


def test_three_sites_of_two_hundred_see_one_copy_in_twenty_through_the_noise() -> None:
    found = ATTACK.judge(_sites(200, members_disclosed=2, controls_disclosed=2))
    assert found["power_5_percent"] > 0.9
    assert found["positive_control_detected"]
    assert found["eps_lb"] == 0.0
    assert found["smallest_share"] <= 0.05
    assert found["eps_ceiling"] > 4.0


def test_three_sites_of_sixty_say_that_they_are_too_few() -> None:
    found = ATTACK.judge(_sites(60, members_disclosed=0, controls_disclosed=0))
    assert found["power_5_percent"] < 0.5
    assert not found["positive_control_detected"]
    assert found["smallest_share"] > 0.05


def test_a_leak_is_seen_through_the_noise() -> None:
    assert ATTACK.judge(_sites(200, members_disclosed=14, controls_disclosed=1))["eps_lb"] > 0.5


def test_copies_that_nobody_finds_leave_no_power() -> None:
    blind = [dataclasses.replace(c, copies_found=2) for c in _sites(200, members_disclosed=0, controls_disclosed=0)]
    found = ATTACK.judge(blind)
    assert found["power_5_percent"] < 0.05
    assert found["smallest_share"] is None
    assert not found["positive_control_detected"]


def test_counts_survive_the_wire_and_nothing_else_does() -> None:
    counts = _sites(60, members_disclosed=-1, controls_disclosed=3)[0]
    assert DisclosureCounts.from_json(counts.to_json()) == counts
    exact = dataclasses.replace(counts, formal=False, members_disclosed=1)
    bad = [
        counts.to_json() | {"nearest": 3},
        counts.to_json() | {"members": 3.5},
        counts.to_json() | {"members": -10},
        exact.to_json() | {"members_disclosed": 61},
        exact.to_json() | {"controls_disclosed": -1},
        {k: v for k, v in counts.to_json().items() if k != "formal"},
    ]
    for document in bad:
        with pytest.raises(ValueError, match=r"\w"):
            DisclosureCounts.from_json(document)


def test_sites_that_counted_by_other_rules_are_not_pooled() -> None:
    one, two, three = _sites(60, members_disclosed=0, controls_disclosed=0)
    for other in (dataclasses.replace(two, threshold=0.9), dataclasses.replace(two, formal=False)):
        with pytest.raises(ValueError, match="different rules"):
            ATTACK.judge([one, other, three])
    with pytest.raises(ValueError, match="no site"):
        ATTACK.judge([])


def test_a_subject_cannot_be_member_and_control() -> None:
    members, _ = _cohorts(5)
    with pytest.raises(ValueError, match="members and controls"):
        _exact(_release(_textures(3, seed=1)), members, members)


@pytest.mark.parametrize("field", ["threshold", "copies_share", "inclusion", "epsilon"])
@pytest.mark.parametrize("value", [0.0, -1.0, float("inf"), float("nan")])
def test_settings_out_of_range_are_refused(field: str, value: float) -> None:
    with pytest.raises(ValueError, match=field):
        Disclosure(**{field: value})
