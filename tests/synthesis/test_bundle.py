"""A generator is handed on whole and unchanged, and with no tensor that tells of single subjects."""

import dataclasses
import json

import numpy as np
import pytest

from learning import arrays
from privacy.mechanism import DpPlan
from synthesis import bundle as bundles
from synthesis.bundle import Bundle, BundleChanged, TellsOfSubjects
from synthesis.parts import build

TINY = {"prior": False, "width": 16, "depth": 1, "heads": 2, "autoencoder_width": 8, "sample_steps": 2}
PLAN = DpPlan(purpose="train.generator", sampling_rate=0.5, noise_multiplier=2.0, clip_norm=0.1, steps=4, draws=2)


def _bundle(**changes):
    weights = {"site.weight": np.ones((1, 32), np.float32)}
    fields = {
        "generator": "latent_flow", "config": {**TINY, "tune": "site"}, "weights": weights, "seed": 3,
        "classes": {"of": "view"}, "size": 64, "plan": PLAN.to_json(), "epsilon": 4.0, "delta": 1e-5, "priors": {},
    }  # fmt: skip
    return Bundle(**fields | changes)


def test_what_was_written_is_read_again_and_builds_the_trained_generator(tmp_path):
    bundles.write(tmp_path / "b", _bundle(), subjects=[40])
    found = bundles.read(tmp_path / "b")
    assert found.digest == _bundle().digest
    assert dataclasses.replace(found, weights={}) == _bundle(weights={})
    assert (arrays.trainable(found.build().module)["site.weight"] == 1).all()


def test_a_generator_on_the_public_prior_names_its_digests(tmp_path):
    tuned = arrays.trainable(_public().build().module)
    bundles.write(tmp_path / "b", _public(weights=tuned), subjects=[160, 960])  # sides of public tensors
    assert set(bundles.read(tmp_path / "b").priors) == {"autoencoder", "latent_flow"}


def _public(**changes):
    return _bundle(**{
        "config": {}, "weights": {}, "priors": bundles.stood_on("generator", "latent_flow", {})
    } | changes)  # fmt: skip


MOVING = {**TINY, "size": 32, "phases": 4, "precision": "fp32", "tune": "site"}


def _moving(**changes):
    weights = arrays.trainable(build("clip_generator", "latent_video_flow", MOVING, seed=3).module)
    return _bundle(**{
        "kind": "clip_generator", "generator": "latent_video_flow", "config": MOVING, "size": 32,
        "weights": {name: array + 1 for name, array in weights.items()},
    } | changes)  # fmt: skip


def test_a_generator_of_moving_hearts_is_handed_on_as_one_of_images_is(tmp_path):
    bundles.write(tmp_path / "b", _moving(), subjects=[40])
    found = bundles.read(tmp_path / "b")
    assert found.digest == _moving().digest
    assert all((array == 1).all() for array in arrays.trainable(found.build().module).values())


def test_a_bank_beside_a_generator_of_moving_hearts_is_refused(tmp_path):
    for planted in ({"bank": np.zeros((40, 64))}, {"site.weight": np.zeros((40, 32))}):
        with pytest.raises(TellsOfSubjects, match=next(iter(planted))):
            bundles.write(tmp_path / "b", _moving(weights={**_moving().weights, **planted}), subjects=[40])
    with pytest.raises(TellsOfSubjects, match=r"site\.weight"):
        bundles.write(tmp_path / "b", _moving(), subjects=[_moving().weights["site.weight"].shape[1]])
    assert not (tmp_path / "b").exists()


def test_whatever_a_generator_reads_when_it_is_built_is_what_it_stands_on():
    of = bundles.stood_on
    assert set(of("generator", "latent_flow", {})) == {"autoencoder", "latent_flow"}
    assert set(of("generator", "latent_flow", {"sample_solver": "jump"})) == {"autoencoder", "distilled"}
    assert set(of("clip_generator", "latent_video_flow", {})) == {"autoencoder", "latent_video_flow"}
    assert set(of("generator", "semantic_diffusion", {})) == {"gamma"}
    assert of("generator", "latent_flow", TINY) == of("clip_generator", "latent_video_flow", MOVING) == {}


def test_a_bundle_of_something_else_is_refused():
    with pytest.raises(ValueError, match="kind='learner' must be one of generator, clip_generator"):
        _bundle(kind="learner")


@pytest.mark.parametrize("planted", [(40, 64), (64, 40), (40,)])
def test_a_bank_of_embeddings_of_subjects_is_refused(tmp_path, planted):
    weights = {**_bundle().weights, "bank": np.zeros(planted, np.float32)}
    with pytest.raises(TellsOfSubjects, match="bank"):
        bundles.write(tmp_path / "b", _bundle(weights=weights), subjects=[40])
    assert not (tmp_path / "b").exists()


def test_a_bank_under_the_name_of_an_honest_tensor_is_refused(tmp_path):
    with pytest.raises(TellsOfSubjects, match=r"site\.weight"):
        bundles.write(tmp_path / "b", _bundle(weights={"site.weight": np.zeros((40, 32))}), subjects=[40])


def test_a_table_that_the_settings_themselves_ask_for_is_refused_where_it_counts_subjects(tmp_path):
    weights = {"scanner.0.weight": np.zeros((16, 40), np.float32)}
    bundle = _bundle(config={**TINY, "descriptors": 40, "tune": r"scanner\.0\.weight"}, weights=weights)
    with pytest.raises(TellsOfSubjects, match="scanner"):
        bundles.write(tmp_path / "b", bundle, subjects=[7, 40])
    bundles.write(tmp_path / "b", bundle, subjects=[7, 41])


@pytest.mark.parametrize("name", ["config", "plan", "epsilon", "seed"])
def test_a_changed_record_is_named(tmp_path, name):
    bundles.write(tmp_path / "b", _bundle(), subjects=[])
    path = tmp_path / "b" / bundles.RECORD
    record = json.loads(path.read_text())
    record[name] = {"config": {**TINY, "depth": 2}, "plan": PLAN.to_json() | {"steps": 5}}.get(name, 2)
    path.write_text(json.dumps(record))
    with pytest.raises(BundleChanged, match=r"bundle\.json"):
        bundles.read(tmp_path / "b")


def test_changed_weights_are_named(tmp_path):
    bundles.write(tmp_path / "b", _bundle(), subjects=[])
    arrays.write(tmp_path / "b" / bundles.WEIGHTS, {"site.weight": np.zeros((1, 32), np.float32)})
    with pytest.raises(BundleChanged, match="weights"):
        bundles.read(tmp_path / "b")


def test_other_priors_than_those_it_stands_on_are_named(tmp_path):
    bundles.write(tmp_path / "b", _public(priors={"autoencoder": "0" * 64}), subjects=[])
    with pytest.raises(BundleChanged, match="autoencoder"):
        bundles.read(tmp_path / "b")


def test_without_a_plan_no_epsilon_can_be_stated():
    with pytest.raises(ValueError, match="epsilon"):
        _bundle(plan=None)


def test_a_folder_without_a_record_is_no_bundle(tmp_path):
    with pytest.raises(ValueError, match="no bundle"):
        bundles.read(tmp_path)
