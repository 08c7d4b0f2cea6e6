"""Public priors are made from simulated hearts, say what they stand on, and can keep the autoencoder that is there."""

import numpy as np
import pytest

from cohorts.frames import VIEWS
from cohorts.phantom import simulate
from learning import arrays
from synthesis import priors
from synthesis.generators.latent_flow import LatentFlow
from synthesis.prior import Recipe, _mostly_apical, train

CONFIG = LatentFlow(prior=False, width=16, depth=1, heads=2, tune=".")
SHORT = Recipe(subjects=2, flow_steps=2, view_steps=1, view_batch_size=4, flow_batch_size=4)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("priors")
    told = []
    train(folder, recipe=SHORT, config=CONFIG, device="cpu", progress=lambda *step: told.append(step))
    return folder, told


def test_no_steps_keep_the_autoencoder_and_say_so(made, monkeypatch):
    installed, record = priors.load("autoencoder"), priors.record_of("autoencoder")
    folder, told = made
    assert "autoencoder" not in {what for what, _, _ in told}
    monkeypatch.setenv("PERICARD_PRIORS", str(folder))
    kept = priors.load("autoencoder")
    assert arrays.digest(kept) == arrays.digest(installed)
    assert priors.record_of("autoencoder")["recipe"] == record["recipe"]
    assert priors.provenance()["from"] == {"autoencoder": arrays.digest(kept)}
    assert priors.provenance()["recipe"]["autoencoder_steps"] == 0


def test_a_new_autoencoder_stands_on_nothing(tmp_path, monkeypatch):
    recipe = Recipe(
        subjects=1, autoencoder_steps=2, flow_steps=1, view_steps=1, batch_size=2, view_batch_size=2, flow_batch_size=2
    )
    train(tmp_path, recipe=recipe, config=CONFIG, device="cpu", progress=lambda *step: None)
    monkeypatch.setenv("PERICARD_PRIORS", str(tmp_path))
    assert priors.provenance()["from"] == {}
    assert priors.record_of("autoencoder")["recipe"]["autoencoder_steps"] == 2
    assert set(priors.provenance()["digests"]) == {"autoencoder", "latent_flow", "view_classifier"}


def test_every_prior_that_was_made_is_read_by_its_digest(made, monkeypatch):
    monkeypatch.setenv("PERICARD_PRIORS", str(made[0]))
    for name in priors.NAMES:
        assert priors.load(name)


def test_apical_views_are_taken_as_often_as_the_recipe_says():
    frames = simulate.stills(3, seed=1, views=VIEWS[1:])
    often = _mostly_apical(frames, 0.6).numpy()
    apical = np.isin(frames.view, [0, 1])
    assert often[apical].sum() == pytest.approx(0.6)
    assert often[~apical].sum() == pytest.approx(0.4)
