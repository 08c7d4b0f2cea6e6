"""What the gate blocks is listed and not used: nothing of it reaches cache, log, error text, site or wire."""

import logging

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw

from cohorts.deidentify import Pseudonyms
from cohorts.readers.dicom import Dicom
from learning import arrays
from pericard.cli import run
from pericard.errors import Exit
from tests.contracts.builders import dicom as built
from tests.contracts.builders import manifest

KEY = b"the key of site a stays there"
WORDS = st.text("ghijklmnopqrstuvwxyzäöüßéñ", min_size=3, max_size=9).map("zqx".__add__)  # in no message by chance


def drawn(frames, words):
    """Burn words into every frame, where the sector is black."""
    pictures = []
    for frame in np.repeat(np.repeat(frames, 4, axis=1), 4, axis=2):
        picture = Image.fromarray(frame)
        ImageDraw.Draw(picture).text((4, 4), words, fill=255)
        pictures.append(np.asarray(picture))
    return np.stack(pictures)


def plant(folder, given_name, family, number, hospital, *, how="text"):
    """Write one study that must be blocked, its identifiers in header, pixels, file and folder names."""
    frames = built.sector(3, seed=77)
    tags = {"PatientID": number, "InstitutionName": hospital, "PatientName": f"{family}^{given_name}"}
    if how == "text":
        shot = built.ultrasound(drawn(frames, f"{family} {number}"), name="planted", n=1, **tags)
        region = shot.SequenceOfUltrasoundRegions[0]
        region.RegionLocationMinY0 = 40
    else:
        shot = built.ultrasound(frames, name="planted", n=1, BurnedInAnnotation="YES", **tags)
    built.save(shot, folder / f"{family}_{number}" / f"{given_name}.dcm")


def texts(index, cache):
    """Return everything that a reader says or keeps, as one text."""
    said = [repr(index), *map(str, index.left_out), *map(str, index.problems)]
    said += [f"{s.where} {s.labels} {s.columns}" for s in index.sources]
    return "\n".join(said) + cache.read_bytes().decode("utf-8", "replace")


NUMBERS = st.integers(10**15, 10**16)  # seven digits in a row are met now and then in the digests of an index


@pytest.mark.parametrize("how", ["text", "said so"])
@settings(max_examples=15, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(given_name=WORDS, family=WORDS, number=NUMBERS, hospital=WORDS)
def test_no_planted_name_is_said_or_kept(tmp_path_factory, caplog, capfd, how, given_name, family, number, hospital):
    folder = tmp_path_factory.mktemp("export")
    cache = folder.parent / f"{folder.name}.index"
    built.build(folder)
    plant(folder, given_name, family, str(number), hospital, how=how)
    config = Dicom(root=str(folder), index_file=str(cache))
    with caplog.at_level(logging.DEBUG):
        index = config.index(pseudonyms=Pseudonyms(KEY))
        cohort = config.read(pseudonyms=Pseudonyms(KEY))
    assert len(index.left_out) == 1
    assert len(cohort.subjects) == len(built.SUBJECTS)
    told = capfd.readouterr()
    everything = (texts(index, cache) + repr(cohort) + caplog.text + told.out + told.err).casefold()
    for word in (given_name, family, str(number), hospital):
        assert word.casefold() not in everything
    assert Pseudonyms(KEY).subject(str(number)) not in cohort.subjects


@pytest.mark.slow
def test_a_whole_campaign_with_a_blocked_study_leaves_no_trace_of_it(tmp_path, capfd, caplog):
    planted = ("Hieronymus", "Quastenflosser", "90210777", "Klinikum Wolkenkuckucksheim")
    (tmp_path / "north").mkdir()
    (tmp_path / "south").mkdir()
    built.build(tmp_path / "north")
    plant(tmp_path / "north", *planted)
    manifest.build(tmp_path / "south")
    told = [
        "experiment=smoke", "sites.names=[north,south]", "sites.quorum=2", "assess.federated=false",
        "release.least_view_probability=0", "classes.frames=2",
        f"sites.cohorts={{north:{{reader:dicom,root:'{tmp_path}/north',index_file:'{tmp_path}/north.index'}},"
        f"south:{{reader:manifest,root:'{tmp_path}/south'}}}}",
    ]  # fmt: skip
    out = tmp_path / "out"
    with caplog.at_level(logging.INFO):
        assert run(["simulate", *told, "--json", "--out", str(out)]) in (Exit.FAIL, Exit.INCONCLUSIVE)
    screen = capfd.readouterr()
    kept = [tmp_path / "north.index", *(path for path in out.rglob("*") if path.is_file())]
    signature = built.sector(3, seed=77)[0, 24].tobytes()
    for path in kept:
        raw = path.read_bytes()
        assert signature not in raw
        for word in planted:
            assert word.casefold().encode() not in raw.lower(), path
    for word in planted:
        assert word.casefold() not in (screen.out + screen.err + caplog.text).casefold()
    (frames,) = (out / "sites" / "north" / "frames").iterdir()
    assert set(arrays.read(frames)["subject"].tolist()) == {0, 1, 2}  # whoever was blocked is nobody here
