from pathlib import Path

import numpy as np
import pytest

from client.site import Site, find
from cohorts.split import Split
from tests.hospitals import CANARY, SIZE, hospital, policy


def test_secrets_are_readable_by_their_owner_only_and_differ_between_sites(tmp_path: Path) -> None:
    a, b = hospital(tmp_path, "aurora"), hospital(tmp_path, "borealis")
    for path in (a.folder / "secrets").iterdir():
        assert path.stat().st_mode & 0o077 == 0
        assert path.read_bytes() != (b.folder / "secrets" / path.name).read_bytes()
    assert (a.folder / "secrets").stat().st_mode & 0o077 == 0


def test_a_site_is_made_once(tmp_path: Path) -> None:
    hospital(tmp_path)
    with pytest.raises(ValueError, match="exists"):
        hospital(tmp_path)


def test_a_creation_that_was_killed_goes_on_with_the_keys_it_made(tmp_path: Path) -> None:
    site = hospital(tmp_path)
    key, public = (site.folder / "secrets" / "split.key").read_bytes(), site.signing_key.public
    (site.folder / "site.yaml").unlink()
    again = hospital(tmp_path)
    assert (again.folder / "secrets" / "split.key").read_bytes() == key
    assert again.signing_key.public == public


def test_a_folder_without_its_keys_is_no_site(tmp_path: Path) -> None:
    site = hospital(tmp_path)
    (site.folder / "secrets" / "split.key").unlink()
    with pytest.raises(ValueError, match=r"split\.key is missing"):
        Site(site.folder)


def test_splits_share_no_subject_and_lose_none(tmp_path: Path) -> None:
    site = hospital(tmp_path)
    parts = [set(site.frames(split, size=SIZE).subjects) for split in Split]
    assert sum(map(len, parts)) == len(set.union(*parts)) == 40
    both = site.frames(Split.CALIBRATION, Split.TEST, size=SIZE)
    assert set(both.subjects) == parts[1] | parts[2]


def test_frames_are_read_from_the_studies_once(tmp_path: Path) -> None:
    site = hospital(tmp_path)
    first = site.frames(Split.MEMBERS, size=SIZE)
    again = Site(site.folder)
    object.__setattr__(again.cohort, "load", None)
    second = again.frames(Split.MEMBERS, size=SIZE)
    assert np.array_equal(first.pixels, second.pixels)
    assert first.subjects == second.subjects
    assert again.frames(Split.MEMBERS, size=SIZE).pixels.dtype == np.uint8


def test_the_cache_of_frames_holds_no_identifier(tmp_path: Path) -> None:
    site = hospital(tmp_path)
    site.frames(Split.MEMBERS, size=SIZE)
    held = [path for path in site.folder.rglob("*") if path.is_file()]
    assert not [path for path in held if CANARY.encode() in path.read_bytes() or CANARY in path.name]


def test_a_reader_setting_that_does_not_exist_is_named(tmp_path: Path) -> None:
    site = hospital(tmp_path, cohort={"reader": "canary", "beds": 3})
    with pytest.raises(ValueError, match="beds"):
        _ = site.cohort


def test_a_node_finds_the_site_that_its_operator_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("aurora", "borealis"):
        hospital(tmp_path, name)
    monkeypatch.delenv("PERICARD_SITES", raising=False)
    assert find({"site": str(tmp_path / "borealis")}).name == "borealis"
    with pytest.raises(ValueError, match="no site"):
        find({"partition-id": 0})
    monkeypatch.setenv("PERICARD_SITES", str(tmp_path))
    assert [find({"partition-id": k}).name for k in (0, 1)] == ["aurora", "borealis"]
    for wrong in (-1, 2):
        with pytest.raises(ValueError, match="outside the 2 sites"):
            find({"partition-id": wrong})


def test_an_edited_site_file_counts_at_the_next_message(tmp_path: Path) -> None:
    site = hospital(tmp_path)
    before = find({"site": str(site.folder)})
    text = (site.folder / "site.yaml").read_text()
    (site.folder / "site.yaml").write_text(text.replace("min_cell: 3", "min_cell: 7"))
    assert (before.policy, find({"site": str(site.folder)}).policy.min_cell) == (policy(), 7)


def test_clips_are_of_the_same_subjects_and_read_once(tmp_path: Path) -> None:
    site = hospital(tmp_path, cohort={"reader": "phantom", "subjects": 6, "size": SIZE, "frames": 6})
    clips = site.clips(*Split, size=SIZE, frames=4)
    assert clips.subjects == site.frames(*Split, size=SIZE).subjects
    assert clips.pixels.shape == (12, 4, SIZE, SIZE)
    again = Site(site.folder)
    object.__setattr__(again.cohort, "load", None)
    assert np.array_equal(again.clips(*Split, size=SIZE, frames=4).pixels, clips.pixels)
