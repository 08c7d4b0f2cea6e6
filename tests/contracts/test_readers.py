"""How to write a reader.

A reader turns one format of files into a `Cohort`. It is one file, `cohorts/readers/<name>.py`:

    @READERS("<name>")
    @dataclass(frozen=True, slots=True, kw_only=True)
    class MyFormat:
        root: str = ""                      # every field public, simple, with a default: YAML fills it, records show it
        def read(self, *, pseudonyms: Pseudonyms) -> Cohort: ...

It is found by its name, `cohort=<name>` selects it, and everything below holds it to this contract:

- Making the config touches no disk and needs no argument; a wrong field raises `ValueError` with value and bound.
- `read` opens what is cheap (a table, headers) and refuses what will not do with one line that names the file:
  `UnreadableStudy`. Nothing is skipped in silence.
- Pixels are read when `Cohort.of(subject)` is called, each time anew, and nothing is kept.
- The hospital's identifiers end in the reader: subjects and studies are named by `pseudonyms` and by nothing else.
- A subject is a person. Studies of one person under two identifiers are one subject.
- What is not known is `None` or absent: views, phases and labels are never guessed. Quantities end in their unit.

Then add a line to `BUILDERS`: a function that writes a tiny cohort of your format and returns your config for it.
"""

import csv
import dataclasses
import re
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf
from PIL import Image

from cohorts.deidentify import Pseudonyms
from cohorts.frames import gather
from cohorts.readers import READERS
from cohorts.study import Clip, Cohort, Study, SubjectKey, UnreadableStudy

KEY, OTHER_KEY = b"the key of site a stays there", b"the key of site b stays there"


def manifest(folder):
    rng = np.random.default_rng(0)
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["patient", "view", "phase", "image", "mask", "ef_reported"])
        for row in ((p, v, ph) for p in ("p1", "p2", "p3") for v in ("2CH", "4CH") for ph in ("ED", "ES")):
            image, mask = ("_".join(row) + end for end in (".png", "_gt.png"))
            Image.fromarray(rng.integers(0, 256, (9, 7), dtype=np.uint8)).save(folder / image)
            Image.fromarray(rng.integers(0, 4, (9, 7), dtype=np.uint8)).save(folder / mask)
            writer.writerow([*row, image, mask, 55])
    return READERS["manifest"](root=str(folder))


def phantom(folder):
    return READERS["phantom"](subjects=2, seed=7, size=32, frames=3, studies_per_subject=2)


BUILDERS = {"manifest": manifest, "phantom": phantom}
readers = pytest.mark.parametrize("name", [n for n in READERS if READERS[n].__module__.startswith("cohorts.")])
file_readers = pytest.mark.parametrize(
    "name", [name for name in READERS if "root" in {field.name for field in dataclasses.fields(READERS[name])}]
)


@pytest.fixture
def config(name, tmp_path):
    return BUILDERS[name](tmp_path)


def read(config, key=KEY) -> Cohort:
    return config.read(pseudonyms=Pseudonyms(key))


def studies_of(cohort) -> list[Study]:
    return [study for subject in cohort.subjects for study in cohort.of(subject)]


def clips_of(cohort) -> list[Clip]:
    return [clip for study in studies_of(cohort) for clip in study.clips]


@readers
def test_a_reader_can_be_built_here(name):
    assert name in BUILDERS, f"write a builder for {name!r} in {Path(__file__).name}"


@readers
def test_the_config_is_frozen_public_and_made_without_touching_a_disk(name):
    part = READERS[name]
    assert part.__dataclass_params__.frozen
    assert not any(field.name.startswith("_") for field in dataclasses.fields(part))
    with pytest.raises((dataclasses.FrozenInstanceError, TypeError)):
        setattr(part(), dataclasses.fields(part)[0].name, None)


@readers
def test_the_config_survives_yaml(name, config):
    text = OmegaConf.to_yaml(OmegaConf.structured(config))
    assert READERS[name](**OmegaConf.to_object(OmegaConf.create(text))) == config


@readers
def test_reading_twice_gives_the_same_cohort(config):
    first, second = read(config), read(config)
    assert first.subjects == second.subjects
    assert len(first.subjects) >= 2
    assert first.columns == second.columns
    for one, other in zip(studies_of(first), studies_of(second), strict=True):
        assert (one.key, one.subject, one.labels) == (other.key, other.subject, other.labels)
        for clip, same in zip(one.clips, other.clips, strict=True):
            assert np.array_equal(clip.pixels, same.pixels)
            assert (clip.masks is None) == (same.masks is None)
            assert clip.masks is None or np.array_equal(clip.masks, same.masks)


@readers
def test_a_subject_is_read_anew_each_time(config):
    cohort = read(config)
    before = gather(cohort, size=16).pixels
    for clip in clips_of(cohort):
        if clip.pixels.flags.writeable:
            clip.pixels[:] = 0
    assert np.array_equal(gather(cohort, size=16).pixels, before)


@readers
def test_subjects_are_sorted_unique_and_named_by_the_key_alone(config):
    here, there = read(config), read(config, OTHER_KEY)
    assert list(here.subjects) == sorted(set(here.subjects))
    assert len(here.subjects) == len(there.subjects)
    names = [{*cohort.subjects, *(study.key for study in studies_of(cohort))} for cohort in (here, there)]
    assert not names[0] & names[1]
    assert all(re.fullmatch("[0-9a-f]{16}", name) for name in names[0] | names[1])


@readers
def test_every_study_belongs_to_its_subject_and_has_a_name_of_its_own(config):
    cohort = read(config)
    for subject in cohort.subjects:
        assert cohort.of(subject)
        assert all(study.subject == subject for study in cohort.of(subject))
    keys = [study.key for study in studies_of(cohort)]
    assert len(set(keys)) == len(keys)
    assert {study.origin for study in studies_of(cohort)} == {cohort.origin}


@readers
def test_clips_and_labels_keep_their_bounds(config):
    cohort = read(config)
    for clip in clips_of(cohort):
        assert clip.pixels.dtype == np.uint8
        assert clip.pixels.ndim == 3
        assert clip.pixels.max() > clip.pixels.min()
        if clip.masks is not None:
            assert clip.masks.shape == clip.pixels.shape
            assert set(np.unique(clip.masks)) <= {0, 1, 2, 3, 255}
        for at in (clip.ed_frame, clip.es_frame):
            assert at is None or 0 <= at < len(clip.pixels)
    for study in studies_of(cohort):
        assert 0 <= study.labels.get("lvef_percent", 50) <= 100


@readers
def test_a_subject_of_somebody_else_is_a_key_error(config):
    cohort = read(config)
    with pytest.raises(KeyError, match="is not in this cohort"):
        cohort.of(SubjectKey("0" * 16))
    first, *others = cohort.subjects
    with pytest.raises(KeyError, match="is not in this cohort"):
        cohort.restrict(others).of(first)


@readers
def test_the_index_speaks_of_its_own_subjects_only(config):
    cohort = read(config)
    assert set(cohort.columns) <= set(cohort.subjects)


@file_readers
def test_a_missing_root_is_refused_in_one_line_when_it_is_read(name, config, tmp_path):
    gone = dataclasses.replace(config, root=str(tmp_path / "gone"))
    with pytest.raises(UnreadableStudy, match="gone") as caught:
        read(gone)
    assert "\n" not in str(caught.value)


@file_readers
def test_no_pixel_is_kept_from_reading(name, config, tmp_path):
    cohort = read(config)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    with pytest.raises(UnreadableStudy):
        cohort.of(cohort.subjects[0])
