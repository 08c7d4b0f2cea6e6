import dataclasses
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cohorts.frames import Frames, concatenate
from cohorts.phantom.simulate import stills
from cohorts.study import SubjectKey
from privacy.attacks.copies import Clue, Copies
from privacy.gallery import Gallery
from privacy.planted import altered_copy

CAMUS = Path(__file__).parents[3].parent / "shared" / "data" / "camus_224"
HONEST = stills(80, seed=3, style="site-b")  # of all public sites the one whose people are most alike


def _look(frames: Frames) -> dict[str, Clue]:
    return {clue.name: clue for clue in Copies().look(Gallery.of(frames), rng=np.random.default_rng(0))}


def _again(times: int, *, level: int, of: int = 1) -> Frames:
    """Return one picture of each of so many people as so many further people, altered each time."""
    rng = np.random.default_rng(0)
    rows = np.repeat([int(np.flatnonzero(HONEST.subject == person)[0]) for person in range(of)], times)
    pixels = HONEST.pixels[rows]
    if level:
        pixels = np.stack([altered_copy(picture, level=level, rng=rng) for picture in pixels])
    return Frames(
        pixels=pixels, masks=HONEST.masks[rows], view=HONEST.view[rows], phase=HONEST.phase[rows],
        lvef_percent=HONEST.lvef_percent[rows], subject=np.arange(len(rows)),
        subjects=tuple(SubjectKey(f"again-{i}") for i in range(len(rows))),
    )  # fmt: skip


def test_an_honest_release_shows_no_clue() -> None:
    assert [clue.name for clue in _look(HONEST).values() if clue.fails] == []


def test_one_picture_of_two_people_fails() -> None:
    found = _look(concatenate([HONEST, _again(1, level=0)]))["identical pictures"]
    assert (found.count, found.fails) == (2, True)


def test_the_pictures_of_one_person_may_be_identical_and_empty_ones_are_nobodys() -> None:
    still = replace(HONEST, pixels=HONEST.pixels[np.searchsorted(HONEST.subject, HONEST.subject)])
    assert _look(still)["identical pictures"].count == 0
    assert _look(replace(HONEST, pixels=np.zeros_like(HONEST.pixels)))["identical pictures"].count == 0


def test_a_memorised_picture_drawn_for_many_people_has_many_twins() -> None:
    found = _look(concatenate([HONEST, _again(8, level=1)]))
    assert found["identical pictures"].count == 0
    assert found["twins of one person"].count >= 4
    assert found["twins of one person"].fails


def test_many_pairs_of_twins_fail_where_nobody_has_two() -> None:
    found = _look(concatenate([HONEST, _again(1, level=1, of=10)]))
    assert found["pairs of twins"].fails
    assert found["twins of one person"].count == 1
    assert not found["twins of one person"].fails


def test_a_generator_with_one_picture_fails() -> None:
    found = _look(_again(120, level=1))
    assert found["pairs of twins"].count > 100
    assert found["twins of one person"].fails


def test_a_name_that_stayed_behind_fails_and_is_not_repeated() -> None:
    named = replace(HONEST, subjects=(SubjectKey("DOE^JANE 1957-03-02"), *HONEST.subjects[1:]))
    found = _look(named)["identifying words"]
    assert (found.count, found.fails) == (1, True)
    assert "DOE" not in str(dataclasses.asdict(found))


def test_clues_have_no_word_for_acquittal() -> None:
    """Nothing that is seen in a release alone can pass it: there is only `fails`."""
    assert {field.name for field in dataclasses.fields(Clue)} == {"name", "count", "of", "expected", "fails", "note"}


def test_no_release_and_nobody_in_it_are_looked_at_as_well() -> None:
    for n in (0, 1):
        assert not any(clue.fails for clue in _look(HONEST.select(HONEST.subjects[:n])).values())


@pytest.mark.parametrize("name", ["similarity", "rate", "crowded"])
def test_impossible_settings_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name}=1.0"):
        Copies(**{name: 1.0})


@pytest.mark.skipif(not CAMUS.is_dir(), reason="CAMUS is not on this machine")
def test_camus_holds_one_patient_twice() -> None:
    """patient0033 and patient0068 are one study (correlation 0.998): found with no other study to hand."""
    from benchmarks.disclosure_threshold import camus

    frames = camus(CAMUS)
    assert _look(frames)["pairs of twins"].count == 1
    once = frames.select([s for s in frames.subjects if s != "patient0068"])
    assert _look(once)["pairs of twins"].count == 0
