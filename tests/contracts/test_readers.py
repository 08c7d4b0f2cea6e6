"""How to write a reader.

A reader turns one format of files into a `Cohort`. It is one file, `cohorts/readers/<name>.py`:

    @READERS("<name>")
    @dataclass(frozen=True, slots=True, kw_only=True)
    class MyFormat:
        root: str = ""                      # every field public, simple, with a default: YAML fills it, records show it
        def index(self) -> Index: ...       # names, tables and headers; every problem at once; no pixel
        def read(self, *, pseudonyms: Pseudonyms) -> Cohort: ...
        @staticmethod
        def recognises(root: Path) -> bool: ...     # only where the layout is unmistakable

It is found by its name, `cohort=<name>` selects it, and everything below holds it to this contract:

- Making the config touches no disk and needs no argument; a wrong field raises `ValueError` with value and bound.
- `read` opens what is cheap (a table, headers) and refuses what will not do with one line that names the file:
  `UnreadableStudy`. Nothing is skipped in silence.
- Pixels are read when `Cohort.of(subject)` is called, each time anew, and nothing is kept.
- The hospital's identifiers end in the reader: subjects and studies are named by `pseudonyms` and by nothing else.
- A subject is a person. Studies of one person under two identifiers are one subject.
- What is not known is `None` or absent: views, phases and labels are never guessed. Quantities end in their unit.

Then add `builders/<name>.py` with `build(folder)`: it writes a tiny cohort of your format and returns your config.
"""

import dataclasses
import importlib.util
import re
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from cohorts.deidentify import Pseudonyms
from cohorts.frames import gather
from cohorts.partition import Partition
from cohorts.readers import READERS
from cohorts.study import Clip, Cohort, Study, SubjectKey, UnreadableStudy

KEY, OTHER_KEY = b"the key of site a stays there", b"the key of site b stays there"


BUILDERS = {path.stem: path for path in sorted((Path(__file__).parent / "builders").glob("*.py"))}


def build(name, folder):
    """Run the builder of `name`, found by its file name like the reader itself."""
    spec = importlib.util.spec_from_file_location(f"builder_of_{name}", BUILDERS[name])
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.build(folder)


readers = pytest.mark.parametrize("name", [n for n in READERS if READERS[n].__module__.startswith("cohorts.")])
file_readers = pytest.mark.parametrize(
    "name", [name for name in READERS if "root" in {field.name for field in dataclasses.fields(READERS[name])}]
)


@pytest.fixture
def config(name, tmp_path):
    return build(name, tmp_path)


def read(config, key=KEY) -> Cohort:
    return config.read(pseudonyms=Pseudonyms(key))


def studies_of(cohort) -> list[Study]:
    return [study for subject in cohort.subjects for study in cohort.of(subject)]


def clips_of(cohort) -> list[Clip]:
    return [clip for study in studies_of(cohort) for clip in study.clips]


@readers
def test_a_reader_can_be_built_here(name):
    assert name in BUILDERS, f"write tests/contracts/builders/{name}.py with build(folder) -> config"


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
            assert set(np.unique(clip.masks)) <= {0, 1, 2, 3, 4, 255}
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
def test_the_index_names_every_clip_and_no_problem(config):
    index = config.index()
    assert not index.problems
    assert len(index.sources) == len(clips_of(read(config)))
    assert all(source.where and "\n" not in source.where for source in index.sources)


@file_readers
def test_a_folder_of_this_layout_is_recognised_by_this_reader_alone(name, config):
    root = Path(config.root)
    assert READERS[name].recognises(root)
    others = [other for other in READERS if other != name and hasattr(READERS[other], "recognises")]
    assert [other for other in others if READERS[other].recognises(root)] == []


@file_readers
def test_nothing_is_recognised_where_there_is_nothing(name, tmp_path):
    assert not READERS[name].recognises(tmp_path / "gone")
    (tmp_path / "empty").mkdir()
    assert not READERS[name].recognises(tmp_path / "empty")
    (tmp_path / "file").write_text("not a folder")
    assert not READERS[name].recognises(tmp_path / "file")


@file_readers
def test_a_partition_keeps_the_subjects_of_its_site(config, tmp_path):
    here, *others = sorted(config.index().raw_columns())
    path = tmp_path / "partition.json"
    Partition(sites={"here": (here,), "there": tuple(others)}).write(path)
    cohort = read(dataclasses.replace(config, subjects_file=str(path), site="here"))
    assert cohort.subjects == (Pseudonyms(KEY).subject(here),)


@file_readers
def test_two_identifiers_of_one_person_are_one_subject(config):
    first, second, *others = sorted(config.index().raw_columns())
    assert len(read(dataclasses.replace(config, same_subject=([first, second],))).subjects) == 1 + len(others)


@file_readers
def test_no_pixel_is_kept_from_reading(name, config, tmp_path):
    cohort = read(config)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            path.write_bytes(b"")
    with pytest.raises(UnreadableStudy):
        cohort.of(cohort.subjects[0])
