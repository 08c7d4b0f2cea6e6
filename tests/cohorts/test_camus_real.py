"""CAMUS (Leclerc et al. 2019, doi:10.1109/TMI.2019.2900516) as it lies in `../shared/data/camus_224`, where it does."""

from pathlib import Path

import numpy as np
import pytest

from cohorts import partition
from cohorts.deidentify import Pseudonyms
from cohorts.frames import VIEWS, gather
from cohorts.partition import RULES, by_columns
from cohorts.readers.manifest import Manifest
from cohorts.split import Split, splits
from cohorts.study import View

ROOT = Path(__file__).parents[2].parent / "shared" / "data" / "camus_224"
KEY = b"the key of site a stays there"
INDEX = ("image_quality_4ch", "frame_rate_hz_4ch")
TWINS = ("patient0033", "patient0068")  # one study under two identifiers, images correlated at 0.998 to 1.000

pytestmark = pytest.mark.skipif(not (ROOT / "labels.csv").is_file(), reason="no real studies in ../shared/data")


def camus(**fields):
    return Manifest(root=str(ROOT), keep=INDEX, **fields)


@pytest.fixture(scope="module")
def sites():
    return by_columns(camus().index().raw_columns(), RULES["quality_and_rate"], same_subject=(TWINS,))


@pytest.fixture(scope="module")
def frames():
    return gather(camus(same_subject=(list(TWINS),)).read(pseudonyms=Pseudonyms(KEY)), size=32)


def test_the_table_is_read_as_it_is():
    cohort = Manifest(root=str(ROOT)).read(pseudonyms=Pseudonyms(KEY))
    assert len(cohort.subjects) == 349
    (study,) = cohort.of(Pseudonyms(KEY).subject("patient0001"))
    assert [clip.view for clip in study.clips] == [View.A2C, View.A4C]
    assert all(clip.pixels.shape == (2, 224, 224) for clip in study.clips)
    assert study.labels == {"lvef_percent": 54.0}


def test_two_identifiers_of_one_person_are_one_subject(frames):
    assert len(frames.subjects) == 348
    twins = frames.subjects.index(Pseudonyms(KEY).subject(TWINS[0]))
    counts = np.bincount(frames.subject, minlength=348)
    assert counts[twins] == 8
    assert set(np.delete(counts, twins)) == {4}
    assert sorted(set(frames.lvef_percent[frames.subject == twins])) == [56.0, 60.0]


def test_every_image_has_a_view_a_phase_and_a_mask_of_the_four_labels(frames):
    assert len(frames) == 1396
    assert {VIEWS[view]: int(n) for view, n in enumerate(np.bincount(frames.view)) if n} == {"A2C": 698, "A4C": 698}
    assert np.bincount(frames.phase).tolist() == [698, 698]
    assert set(np.unique(frames.masks)) == {0, 1, 2, 3}
    assert 6 <= frames.lvef_percent.min() <= frames.lvef_percent.max() <= 81


def test_three_sites_differ_in_quality_and_frame_rate_and_lose_nobody(sites):
    assert {site: len(raws) for site, raws in sites.sites.items()} == {"site-a": 157, "site-b": 109, "site-c": 83}
    columns = camus().index().raw_columns()
    rate = {s: np.mean([float(columns[raw]["frame_rate_hz_4ch"]) for raw in sites.sites[s]]) for s in sites.sites}
    assert rate["site-b"] - rate["site-c"] > 3
    quality = {s: {columns[raw]["image_quality_4ch"] for raw in sites.sites[s]} for s in sites.sites}
    assert quality == {"site-a": {"Good"}, "site-b": {"Medium", "Poor"}, "site-c": {"Medium", "Poor"}}


def test_the_person_with_two_identifiers_is_at_one_site_as_one_subject(sites, tmp_path):
    (home,) = [site for site, raws in sites.sites.items() if set(TWINS) & set(raws)]
    assert set(TWINS) <= set(sites.sites[home])
    people = {}
    for site in sites.sites:
        sites.only(site).write(tmp_path / f"{site}.json")
        assert partition.read(tmp_path / f"{site}.json").sites == {site: sites.sites[site]}
        here = camus(same_subject=(list(TWINS),), subjects_file=str(tmp_path / f"{site}.json"), site=site)
        people[site] = here.read(pseudonyms=Pseudonyms(KEY))
    assert sum(len(cohort.subjects) for cohort in people.values()) == 348
    assert all(len(cohort.subjects) >= 60 for cohort in people.values())
    assert len(people[home].subjects) == len(sites.sites[home]) - 1


def test_every_split_of_every_site_has_enough_people_to_judge_by(sites, tmp_path):
    for site in sites.sites:
        sites.only(site).write(tmp_path / "p.json")
        here = camus(same_subject=(list(TWINS),), subjects_file=str(tmp_path / "p.json"), site=site)
        parts = splits(here.read(pseudonyms=Pseudonyms(KEY)), key=KEY)
        assert min(len(parts[split]) for split in Split) >= 10
