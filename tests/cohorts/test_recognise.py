import dataclasses
import importlib.util
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cohorts.deidentify import Pseudonyms
from cohorts.recognise import candidates, opened, recognise
from cohorts.study import UnreadableStudy, View
from conf.compose import UsageError
from conf.registry import Registry

NAMES = Pseudonyms(b"the key of site a stays there")


def picture(path, seed=0, size=12):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, (size, size), dtype=np.uint8)).save(path)


def table(folder, header, *rows):
    for k in range(len(rows)):
        picture(folder / "images" / f"{k}.png", k)
    (folder / "labels.csv").write_text("\n".join([header, *rows]))
    return folder


def read(folder):
    name, config = opened(folder)
    return name, config.read(pseudonyms=NAMES)


def clips(cohort):
    return [clip for subject in cohort.subjects for study in cohort.of(subject) for clip in study.clips]


def test_a_table_with_patient_and_image_alone_opens_without_configuration(tmp_path):
    name, cohort = read(table(tmp_path, "patient,image", "p1,images/0.png", "p2,images/1.png"))
    assert (name, len(cohort.subjects)) == ("manifest", 2)
    assert {clip.view for clip in clips(cohort)} == {None}


def test_a_table_may_say_subject_and_what_else_is_obvious(tmp_path):
    folder = table(
        tmp_path,
        "subject,image,view,phase,sex,lvef_percent",
        "s1,images/0.png,A4C,ED,female,61",
        "s1,images/1.png,A4C,ES,female,61",
        "s2,images/2.png,2CH,ED,male,35",
    )
    _, cohort = read(folder)
    assert len(cohort.subjects) == 2
    assert sorted(clip.view for clip in clips(cohort)) == [View.A2C, View.A4C]
    labels = sorted(
        (study.labels["sex"], study.labels["lvef_percent"]) for s in cohort.subjects for study in cohort.of(s)
    )
    assert labels == [("female", 61.0), ("male", 35.0)]


def test_what_is_said_wins_over_what_is_obvious(tmp_path):
    folder = table(tmp_path, "patient,person,image", "visit1,p1,images/0.png", "visit2,p1,images/1.png")
    _, config = opened(folder, settings=["subject=person"])
    assert len(config.read(pseudonyms=NAMES).subjects) == 1


def test_a_list_and_videos_are_the_layout_of_echonet_dynamic_without_tracings(tmp_path):
    builder = Path(__file__).parents[1] / "contracts" / "builders" / "echonet_dynamic.py"
    spec = importlib.util.spec_from_file_location("builder_echonet_dynamic", builder)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.build(tmp_path)
    (tmp_path / "VolumeTracings.csv").unlink()
    name, cohort = read(tmp_path)
    assert name == "echonet_dynamic"
    assert all(clip.masks is None for clip in clips(cohort))
    assert "no ventricle is outlined" in str(cohort.left_out[-1])


def test_pictures_in_a_folder_a_person_need_no_table(tmp_path):
    for person in ("p1", "p2"):
        for k in range(2):
            picture(tmp_path / person / f"{k}.png", k)
    name, cohort = read(tmp_path)
    assert (name, len(cohort.subjects), len(clips(cohort))) == ("pictures", 2, 4)


def test_pictures_that_lie_in_no_folder_are_refused_until_somebody_says_whose_they_are(tmp_path):
    for k in range(3):
        picture(tmp_path / f"{k}.png", k)
    name, config = opened(tmp_path)
    assert name == "pictures"
    with pytest.raises(UnreadableStudy, match="person=file"):
        config.read(pseudonyms=NAMES)
    assert len(opened(tmp_path, settings=["person=file"])[1].read(pseudonyms=NAMES).subjects) == 3


def test_a_folder_named_after_a_view_says_the_view(tmp_path):
    picture(tmp_path / "p1" / "A4C" / "0.png")
    assert [clip.view for clip in clips(read(tmp_path)[1])] == [View.A4C]


def test_a_link_out_of_the_folder_is_not_followed(tmp_path):
    picture(tmp_path / "outside" / "secret.png")
    picture(tmp_path / "in" / "p1" / "0.png")
    (tmp_path / "in" / "p2").symlink_to(tmp_path / "outside")
    assert len(read(tmp_path / "in")[1].subjects) == 1


def test_two_readers_that_know_a_folder_are_named_with_the_override(tmp_path):
    @dataclasses.dataclass(frozen=True)
    class Sure:
        root: str = ""

        @staticmethod
        def recognises(root):
            return True

    readers = Registry("reader")
    readers("one")(Sure)
    readers("two")(dataclasses.make_dataclass("Other", [], bases=(Sure,), frozen=True))
    assert candidates(tmp_path, readers) == ("one", "two")
    with pytest.raises(UsageError, match=r"one and two all know it; name one of them: --members-reader one\|two"):
        recognise(tmp_path, readers, override="--members-reader")


def test_a_folder_that_nobody_knows_says_what_would_be_known(tmp_path):
    (tmp_path / "notes.txt").write_text("nothing")
    with pytest.raises(UsageError, match=r"labels\.csv"):
        recognise(tmp_path)
    with pytest.raises(UnreadableStudy, match="is not a folder"):
        recognise(tmp_path / "gone")


def test_a_reader_of_no_folder_is_refused(tmp_path):
    with pytest.raises(UsageError, match="reads no folder"):
        opened(tmp_path, "phantom")
