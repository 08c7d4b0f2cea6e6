"""One federation over hospitals whose files differ: each site its own reader, and classes that are not views."""

import csv
import importlib
import json

import numpy as np
import pytest

from cohorts import frames as table
from cohorts.phantom import simulate
from pericard.cli import run
from pericard.errors import Exit

SMALL = ["experiment=smoke", "assess.federated=false", "release.least_view_probability=0", "cohort.subjects=20"]


def diagnoses(folder, people=24):
    """Write videos of two diagnoses at two places."""
    pixels = simulate.stills(people, seed=5, size=32, views=("A4C",)).pixels
    (folder / "clips").mkdir(parents=True)
    with (folder / "labels.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["patient_id", "file", "label", "site"])
        for k in range(people):
            np.save(folder / "clips" / f"{k}.npy", np.stack([pixels[2 * k], pixels[2 * k + 1]] * 3))
            writer.writerow([f"p{k}", f"clips/{k}.npy", ("ill", "well")[k % 2], ("north", "south")[k // 2 % 2]])
    return folder


@pytest.fixture(scope="module")
def lung(tmp_path_factory):
    folder = tmp_path_factory.mktemp("lung")
    told = [
        "experiment=lung", f"cohort.root={diagnoses(folder / 'studies')}", "sites.names=[north,south]",
        "sites.quorum=2",
        "classes.names=[ill,well]", "classes.released=[ill,well]", "generator.prior=false", "generator.width=32",
        "generator.depth=1", "generator.heads=2", "generator.autoencoder_width=8", "generator.sample_steps=2",
        "recognition.steps=4", "recognition.width=4", "views.width=4", "release.subjects=12", "release.candidates=16",
        "train_views.draws=1", "train_generator.draws=1", "threads=1",
    ]  # fmt: skip
    assert run(["simulate", *told, "--json", "--out", str(folder / "out")]) in (Exit.FAIL, Exit.INCONCLUSIVE)
    return folder / "out"


@pytest.mark.slow
def test_videos_of_diagnoses_come_to_a_verdict(lung):
    rows = list(csv.DictReader((lung / "release" / "labels.csv").read_text().splitlines()))
    assert {row["diagnosis"] for row in rows} == {"ill", "well"}
    assert {(row["view"], row["phase"], row["mask"], row["ef_reported"]) for row in rows} == {("", "", "", "")}
    assert run(["verify", str(lung)]) == Exit.PASS


@pytest.mark.slow
def test_a_task_that_was_not_measured_is_inconclusive_and_never_passed(lung):
    statement = json.loads(next((lung / "campaign").glob("*certify*/statement.json")).read_text())
    verdicts = {rule["rule"]: rule["verdict"] for rule in statement["predicate"]["policy"]["evaluated_rules"]}
    assert verdicts["utility.segmentation"] == "INCONCLUSIVE"
    assert "lung ultrasound" in statement["predicate"]["release"]["intended_use"]


@pytest.mark.slow
def test_a_site_used_frames_of_its_clips_though_none_names_a_phase(lung):
    (path,) = (lung / "sites" / "north" / "frames").iterdir()
    assert path.stat().st_size > 12 * 4 * 64 * 64


@pytest.mark.slow
def test_two_hospitals_with_files_of_their_own_meet_in_one_federation(tmp_path):
    for name in ("acdc_hdf5", "manifest"):
        (tmp_path / name).mkdir()
        importlib.import_module(f"tests.contracts.builders.{name}").build(tmp_path / name)
    told = [
        *SMALL, "sites.names=[dijon,lyon]", "sites.quorum=2",
        f"sites.cohorts={{dijon:{{reader:acdc_hdf5,root:'{tmp_path}/acdc_hdf5'}},"
        f"lyon:{{reader:manifest,root:'{tmp_path}/manifest'}}}}",
        "classes.names=[A2C,A4C,PLAX,SAX]", "classes.released=[SAX,A4C]",
    ]  # fmt: skip
    assert run(["simulate", *told, "--json", "--out", str(tmp_path / "out")]) in (Exit.FAIL, Exit.INCONCLUSIVE)
    released = next((tmp_path / "out" / "campaign").glob("*screen*/released.safetensors"))
    assert set(table.read(released).view.tolist()) == {1, 3}
    limits = json.loads(next((tmp_path / "out" / "campaign").glob("*certify*/statement.json")).read_text())
    assert any("each from its own folder" in limit for limit in limits["predicate"]["limits"])
