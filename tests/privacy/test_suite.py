"""The suite on pictures: who is refused, who is set apart, and what its records say."""

import json
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter

from cohorts.frames import Frames
from cohorts.study import SubjectKey
from privacy.attacks import of_kind
from privacy.blind import blind_auc
from privacy.gallery import Gallery, joined
from privacy.suite import RANDOM, Suite, examine


def _people(name: str, n: int, seed: int) -> Frames:
    field = gaussian_filter(np.random.default_rng(seed).standard_normal((2 * n, 32, 32)), (0, 2, 2))
    pixels = np.asarray(128 + 40 * (field / field.std()).clip(-3, 3), np.uint8)
    return Frames(
        pixels=pixels,
        masks=np.zeros_like(pixels),
        view=np.tile([0, 1], n),
        phase=np.zeros(2 * n, np.int64),
        lvef_percent=np.repeat(np.linspace(30, 65, n), 2).astype(np.float32),
        subject=np.repeat(np.arange(n), 2),
        subjects=tuple(SubjectKey(f"{name}-{i}") for i in range(n)),
    )


MEMBERS, CONTROLS, RELEASED = _people("m", 40, 1), _people("c", 45, 2), _people("r", 40, 3)


@pytest.fixture(scope="module")
def suite() -> Suite:
    return examine(RELEASED, MEMBERS, CONTROLS, split=RANDOM, seed=1)


def test_every_attack_leaves_a_record(suite: Suite) -> None:
    named = {r.name.partition(".")[0] for r in suite.records}
    assert named == {*of_kind("membership"), *of_kind("risk")}
    assert set(suite.alone) == set(of_kind("alone"))
    assert {r.kind for r in suite.records} == {"membership", "risk"}


def test_all_p_values_are_adjusted_together(suite: Suite) -> None:
    tested = [r for r in suite.records if r.p_value is not None]
    assert tested
    assert all(r.p_value <= r.p_adjusted for r in tested)
    least = min(tested, key=lambda r: r.p_value)
    assert least.p_adjusted == pytest.approx(min(1, len(tested) * least.p_value))


def test_without_a_reference_some_controls_become_one_and_no_member_does(suite: Suite) -> None:
    assert suite.n_member == 40
    assert suite.n_control + suite.n_reference == 45
    assert 5 <= suite.n_reference <= 25
    assert suite.disclosure["controls"] == 45  # which needs no reference, so nobody is lost to it


def test_the_same_seed_gives_the_same_record(suite: Suite) -> None:
    assert examine(RELEASED, MEMBERS, CONTROLS, split=RANDOM, seed=1) == suite


def test_it_is_plain_json(suite: Suite) -> None:
    document = suite.to_json()
    assert json.loads(json.dumps(document, allow_nan=False)) == document
    assert set(document["positive_control"]) == {"0.01", "0.05"}


def test_a_lot_is_needed_and_said(suite: Suite) -> None:
    assert suite.controls["random_split"]
    by_date = replace(suite, split="members are those before 2021")
    assert not by_date.controls["random_split"]


def test_a_blind_baseline_that_could_not_be_run_is_no_blind_baseline(suite: Suite) -> None:
    assert not replace(suite, blind=None).blind_baseline


@pytest.mark.parametrize(
    ("sides", "match"),
    [
        ({"controls": MEMBERS}, "40 subjects are both members and controls"),
        ({"reference": CONTROLS}, "45 subjects are both controls and reference"),
        ({"reference": MEMBERS}, "40 subjects are both members and reference"),
        ({"released": RELEASED.select([])}, "released has 0 pictures"),
    ],
)
def test_who_stands_on_two_sides_is_refused(sides: dict[str, Any], match: str) -> None:
    told = {"released": RELEASED, "members": MEMBERS, "controls": CONTROLS} | sides
    released, members, controls = (told.pop(name) for name in ("released", "members", "controls"))
    with pytest.raises(ValueError, match=match):
        examine(released, members, controls, split=RANDOM, seed=0, **told)


def test_weights_are_attacked_where_they_are_handed_in() -> None:
    def loss(knows: set[str]) -> Any:
        def losses(gallery: Gallery) -> NDArray[np.float64]:
            known = np.isin(np.array(gallery.subjects), list(knows))[gallery.subject]
            hard = 1 + gallery.features[:, :2].astype(np.float64) ** 2
            return hard * np.where(known, 0.7, 1.0)[:, None]

        return losses

    suite = examine(
        RELEASED, MEMBERS, CONTROLS, loss=loss(set(MEMBERS.subjects)), other_losses=[loss(set())], split=RANDOM, seed=1
    )
    record = next(r for r in suite.records if r.name == "flow_loss")
    assert record.kind == "model"
    assert record.auc is not None
    assert record.auc.low > 0.9
    assert record.p_adjusted is not None
    assert record.p_adjusted < 0.05
    assert record.negative_control is not None
    assert record.negative_control > 0.05
    assert record.positive_control == {}
    assert "no positive control" in record.note


def test_gain_is_seen_by_whoever_sees_no_release() -> None:
    brighter = replace(CONTROLS, pixels=np.asarray((CONTROLS.pixels * 1.15).clip(0, 255), np.uint8))
    members = Gallery.of(MEMBERS)
    assert blind_auc(members, Gallery.of(CONTROLS), seed=0).low <= 0.5
    assert blind_auc(members, Gallery.of(brighter), seed=0).low > 0.5


def test_galleries_keep_who_is_who() -> None:
    told = {s: {"sex": "FM"[i % 2]} for i, s in enumerate(MEMBERS.subjects)}
    whole = Gallery.of(MEMBERS, attributes=told)
    some = whole.select([MEMBERS.subjects[7], MEMBERS.subjects[2]])
    assert some.attributes["sex"].tolist() == ["M", "F"]
    np.testing.assert_array_equal(some.features, whole.features[[4, 5, 14, 15]])
    assert some.subject.tolist() == [1, 1, 0, 0]
    both = joined(some, Gallery.of(replace(CONTROLS, lvef_percent=np.full(90, np.nan, np.float32))))
    assert len(both.subjects) == 47
    assert both.attributes["sex"].tolist() == ["M", "F", *[""] * 45]
    assert both.attributes["ef_class"].tolist()[:3] == ["below 40", "below 40", ""]
    with pytest.raises(ValueError, match="not in this gallery"):
        whole.select(["nobody"])
