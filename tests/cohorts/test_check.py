from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from cohorts.check import Harm, faults
from cohorts.index import Index, Source
from cohorts.likeness import ALIKE, alike, descriptor
from cohorts.phantom import simulate
from cohorts.readers.manifest import Manifest
from cohorts.study import CAVITY, Clip, UnreadableStudy, View
from cohorts.survey import survey

CAMUS = Path(__file__).parents[2].parent / "shared" / "data" / "camus_224"
PEOPLE = simulate.stills(12, seed=3, size=64, views=(View.A4C,))


def picture(person, phase=0):
    return PEOPLE.pixels[2 * person + phase]


def clip(person, **fields):
    shot = {"pixels": np.stack([picture(person), picture(person, 1)]), "view": View.A4C, "ed_frame": 0, "es_frame": 1}
    return Clip(**{**shot, **fields})


def index_of(*clips, **fields):
    sources = (
        Source(where=f"{name}.png", subject=name, study=name, load=lambda made=made: made, **known)
        for name, made, known in clips
    )
    return Index(sources=tuple(sources), **fields)


def found(*clips, **fields):
    index = index_of(*clips, **fields)
    return [fault for fault in faults(index, *survey(index)) if fault.harm is not Harm.BALANCE]


def test_different_people_have_no_fault_in_common():
    assert found(*((f"p{k}", clip(k), {}) for k in range(12))) == []


@pytest.mark.parametrize(
    "again",
    [
        lambda p: p,
        lambda p: np.clip(p.astype(int) + 20, 0, 255).astype(np.uint8),
        lambda p: (p * 0.6).astype(np.uint8),
        lambda p: np.kron(p, np.ones((3, 3), np.uint8)),
    ],
    ids=["copied", "brighter", "flatter", "enlarged"],
)
def test_one_person_under_two_identifiers_is_found_by_the_picture(again):
    twin = clip(4, pixels=np.stack([again(picture(4)), again(picture(4, 1))]))
    (fault,) = found(("a", clip(4), {}), ("b", clip(5), {}), ("c", twin, {}))
    assert fault.harm is Harm.IDENTITY
    assert "'a'" in fault.reason
    assert "'c'" in fault.reason
    assert "same_subject=[[a,c]]" in fault.remedy


def test_two_clips_of_one_person_are_no_twins():
    index = Index(sources=tuple(Source(where=f"{k}", subject="a", study="s", load=lambda: clip(1)) for k in range(2)))
    assert not [f for f in faults(index, *survey(index)) if f.harm is Harm.IDENTITY]


def test_outlines_of_somebody_else_are_found():
    masks = np.stack([PEOPLE.masks[0], PEOPLE.masks[1]])
    (fault,) = found(("a", clip(0, masks=masks), {}), ("b", clip(1, masks=masks), {}))
    assert (fault.harm, fault.kind) == (Harm.LABEL, "same outlines")
    assert "a.png" in fault.reason


def test_exchanged_phases_are_found():
    masks = np.stack([PEOPLE.masks[0], PEOPLE.masks[1]])
    assert (masks[0] == CAVITY).sum() > (masks[1] == CAVITY).sum()
    (fault,) = found(("a", clip(0, masks=masks[::-1].copy()), {}))
    assert fault.kind == "phases"


def test_an_ejection_fraction_that_the_outlines_refute_is_found():
    masks = np.stack([PEOPLE.masks[0], PEOPLE.masks[1]])
    assert found(("a", clip(0, masks=masks), {"labels": {"lvef_percent": float(PEOPLE.lvef_percent[0])}})) == []
    (fault,) = found(("a", clip(0, masks=masks), {"labels": {"lvef_percent": 99.0}}))
    assert fault.kind == "ejection fraction"
    assert fault.reason.startswith("99 % is reported")


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"pixel_mm": (30.0, 30.0)}, "spacing"),
        ({"pixel_mm": (0.3e-3, 0.3e-3)}, "spacing"),
        ({"frame_seconds": 25.0}, "frame time"),
        ({"pixels": np.full((2, 64, 64), 9, np.uint8)}, "empty picture"),
        ({"pixels": np.stack([picture(0)] * 2)}, "frozen clip"),
    ],
)
def test_what_cannot_be_is_named(fields, kind):
    assert kind in {fault.kind for fault in found(("a", clip(0, **fields), {}))}


def test_what_cannot_be_read_and_what_is_left_out_are_listed_with_their_reasons():
    def broken():
        raise UnreadableStudy("b.avi", "ends after 3 of 9 frames")

    index = Index(
        sources=(Source(where="b.avi", subject="b", study="b", load=broken),),
        problems=(UnreadableStudy("labels.csv line 7", "column 'patient' is empty"),),
        left_out=(UnreadableStudy("report.dcm", "holds no picture"),),
    )
    listed = [(f.harm, f.where) for f in faults(index, *survey(index)) if f.harm is not Harm.BALANCE]
    assert listed == [
        (Harm.STOPS, "labels.csv line 7"), (Harm.STOPS, "b.avi"), (Harm.LEFT_OUT, "report.dcm"),
    ]  # fmt: skip


def test_the_worst_comes_first():
    people = [(f"p{k}", clip(k % 11, pixel_mm=(30.0, 30.0)), {}) for k in range(12)]
    harms = [fault.harm for fault in found(*people, left_out=(UnreadableStudy("x", "y"),))]
    assert harms == sorted(harms)
    assert harms[0] is Harm.IDENTITY


def test_a_rare_class_and_a_small_cohort_are_told():
    people = [(f"p{k}", clip(k), {"labels": {"diagnosis": "rare" if k == 0 else "often"}}) for k in range(12)]
    index = index_of(*people)
    told = {fault.kind: fault.reason for fault in faults(index, *survey(index)) if fault.harm is Harm.BALANCE}
    assert told == {
        "few subjects": "12 subjects, at least 40 leave ten to judge by",
        "rare class": "'rare': 1 subjects, 'often': 11",
    }


def test_every_pair_of_owners_is_told_once_by_its_best_pictures():
    base = descriptor(picture(0))
    near = base + 0.02 * np.random.default_rng(0).normal(size=base.shape).astype(np.float32) / 32
    near /= np.linalg.norm(near)
    pairs = list(alike(np.stack([base, near, base, near]), np.array([0, 0, 1, 1])))
    assert len(pairs) == 1
    assert pairs[0].correlation == pytest.approx(1.0)


def test_a_picture_of_nothing_resembles_nobody():
    assert descriptor(np.zeros((40, 40), np.uint8)) is None


@pytest.mark.slow
@pytest.mark.skipif(not CAMUS.is_dir(), reason="no real studies in ../shared/data")
def test_the_one_person_with_two_identifiers_in_camus_is_found_and_nobody_else():
    index = Manifest(root=str(CAMUS)).index()
    twins = [fault for fault in faults(index, *survey(index)) if fault.harm is Harm.IDENTITY]
    assert [("patient0033" in t.reason, "patient0068" in t.reason) for t in twins] == [(True, True)]
    assert ALIKE < 0.998


def test_burned_in_writing_asks_for_somebodys_eyes_whatever_the_format():
    shot = np.pad(np.kron(picture(3), np.ones((6, 6), np.uint8)), ((60, 0), (0, 0)))
    told = Image.fromarray(shot)
    ImageDraw.Draw(told).text((20, 20), "QUASTENFLOSSER 90210777", fill=255, font_size=18)
    kinds = {f.kind: f.harm for f in found(("a", clip(3, pixels=np.stack([np.asarray(told)] * 2)), {}))}
    assert kinds["burned in"] is Harm.LOOK
