"""One story, told twice: three hospitals train in common, and the engine behind them leaves no trace in the bits."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from client.app import app as client_app
from learning import arrays
from server.app import app as server_app
from server.campaign import Campaign
from server.grid import run_in_process
from server.simulation import run_simulation
from tests.hospitals import NAMES, campaign, hospital, reserve_stage, train_stage


def phantoms(root: Path) -> Path:
    for seed, name in enumerate(NAMES):
        hospital(root, name, cohort={"reader": "phantom", "subjects": 8, "seed": seed, "site": "site-a"})
    return root


def reference(out: Path) -> Campaign:
    stage = train_stage(
        "reference", plan=None, name="view_classifier", config={"width": 8}, rounds=2, learning_rate=1e-2
    )
    return campaign(out, reserve_stage(), stage, size=64)


@pytest.mark.slow
def test_in_process_and_simulation_give_the_same_aggregated_arrays_bit_for_bit_with_noise_off(tmp_path: Path) -> None:
    sites = phantoms(tmp_path / "sites")
    shutil.copytree(sites, tmp_path / "twins")
    told: list[tuple[str, float, str]] = []
    run_in_process(server_app, client_app, reference(tmp_path / "a").to_json(), sorted(sites.iterdir()))
    run_simulation(reference(tmp_path / "b"), tmp_path / "twins", progress=lambda *step: told.append(step), seconds=300)
    here, there = (arrays.read(tmp_path / out / "campaign/02-reference/weights.safetensors") for out in ("a", "b"))
    assert here.keys() == there.keys()
    assert all(np.array_equal(here[name], there[name]) for name in here)
    assert told[-1] == ("reference", 1.0, "done")
