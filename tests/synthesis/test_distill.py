"""A student jumps where its teacher walks, takes over what sites tuned, and never changes its teacher."""

import dataclasses

import numpy as np
import pytest
import torch

from cohorts.phantom import simulate
from learning import arrays
from synthesis import bundle, distill, flow, priors
from synthesis.distill import Lesson, student_of, teach
from synthesis.generators.latent_flow import LatentFlow

TINY = LatentFlow(prior=False, width=16, depth=1, heads=2, autoencoder_width=8, tune=r"site\.weight|modulation\.bias")
SHORT = Lesson(ways=128, steps=150, batch_size=32, learning_rate=5e-3, precision="fp32")


@pytest.fixture(scope="module")
def conditions():
    return simulate.conditions(64, seed=2)


@pytest.fixture(scope="module")
def teacher():
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(1)
        built = TINY.build()
        for parameter in built.module.parameters():  # a field that bends: one step of Euler misses its end
            parameter.data = torch.randn_like(parameter) * 0.25
    return built


@pytest.fixture(scope="module")
def student(teacher, conditions):
    return teach(teacher, conditions, SHORT)


def _ends(generator, conditions, steps):
    """Return where 64 noises end: by the student in `steps` jumps, or by the teacher's own long walk."""
    rows, noise = np.arange(64), torch.randn(64, *distill.LATENT, generator=torch.Generator().manual_seed(9))
    masks = torch.from_numpy(conditions.masks[rows])
    with torch.inference_mode():
        if steps is None:
            return flow.integrate(generator.field(conditions, rows, at_sites=True), noise, steps=16)
        network = generator._network(conditions, rows, masks, at_sites=True)
        return flow.jump(lambda z, t, until: network(z, t, until=until), noise, steps=steps)


@pytest.mark.parametrize("steps", [1, 2])
def test_a_student_arrives_nearer_to_where_its_teacher_walks_than_without_a_lesson(teacher, student, conditions, steps):
    right = _ends(teacher, conditions, None)
    taught, untaught = ((_ends(s, conditions, steps) - right).square().mean() for s in (student, student_of(teacher)))
    assert taught < 0.7 * untaught


def test_before_its_lesson_a_student_takes_the_velocity_for_the_mean(teacher, conditions):
    rows, z = np.arange(8), torch.ones(8, *distill.LATENT)
    t, until = torch.full((8,), 0.9), torch.full((8,), 0.2)
    with torch.inference_mode():
        velocity = teacher.field(conditions, rows, at_sites=True)(z, t)
        masks = torch.from_numpy(conditions.masks[rows])
        mean = student_of(teacher)._network(conditions, rows, masks, at_sites=True)(z, t, until=until)
    torch.testing.assert_close(mean, velocity)


def test_what_sites_tune_is_taken_over_from_the_teacher(teacher, student):
    tuned = arrays.trainable(teacher.module)
    assert tuned
    for name, array in arrays.trainable(student.module).items():
        np.testing.assert_array_equal(array, tuned[name])
    taught = arrays.state(student.module)
    assert not np.array_equal(taught["blocks.0.mlp.0.weight"], arrays.state(teacher.module)["blocks.0.mlp.0.weight"])


def test_a_teacher_is_only_read(teacher, conditions):
    before = arrays.digest(arrays.state(teacher.module)), arrays.digest(arrays.state(teacher.autoencoder))
    teach(teacher, conditions, dataclasses.replace(SHORT, ways=32, steps=2))
    assert before == (arrays.digest(arrays.state(teacher.module)), arrays.digest(arrays.state(teacher.autoencoder)))


def test_the_same_lesson_gives_the_same_student(teacher, conditions):
    lesson = dataclasses.replace(SHORT, ways=32, steps=3)
    one, two = (arrays.digest(arrays.state(teach(teacher, conditions, lesson).module)) for _ in range(2))
    assert one == two
    other = teach(teacher, conditions, dataclasses.replace(lesson, seed=1))
    assert arrays.digest(arrays.state(other.module)) != one


def test_a_guided_teacher_has_a_student_that_needs_no_guidance(teacher, conditions):
    guided = dataclasses.replace(TINY, guidance=2.0, view_guidance=1.5).build()
    guided.module.load_state_dict(teacher.module.state_dict())
    student = teach(guided, conditions, dataclasses.replace(SHORT, ways=32, steps=2))
    assert student.config.guidance == student.config.view_guidance == 1.0
    with pytest.raises(ValueError, match="guidance"):
        dataclasses.replace(student.config, guidance=2.0)


def test_a_student_teaches_nobody(student, conditions):
    with pytest.raises(ValueError, match="student"):
        teach(student, conditions, SHORT)


def test_a_student_of_another_teacher_goes_on_with_the_weights_that_sites_tuned(teacher, student, conditions):
    elsewhere = dataclasses.replace(TINY).build()
    elsewhere.module.load_state_dict(teacher.module.state_dict())
    tuned = {name: array + 0.1 for name, array in arrays.trainable(teacher.module).items()}
    arrays.load(elsewhere.module, tuned)
    lesson = dataclasses.replace(SHORT, ways=32, steps=1, learning_rate=1e-9)
    gone_on = teach(elsewhere, conditions, lesson, start=student)
    for name, array in arrays.trainable(gone_on.module).items():
        np.testing.assert_array_equal(array, tuned[name])
    taught = arrays.state(student.module)["blocks.0.mlp.0.weight"]
    np.testing.assert_allclose(arrays.state(gone_on.module)["blocks.0.mlp.0.weight"], taught, atol=1e-6)
    with pytest.raises(ValueError, match="start must be a student"):
        teach(elsewhere, conditions, lesson, start=teacher)


def test_a_student_draws_images_by_jumps(student, conditions):
    images = student.sample(conditions, seed=1)
    assert images.shape == (64, 64, 64)
    assert images.std() > 0


def test_the_public_student_stands_on_the_prior_that_is_installed_and_left_alone_what_sites_tune():
    assert priors.provenance("distilled")["teacher"] == bundle.installed(["latent_flow"])
    student, teacher = (dataclasses.replace(LatentFlow(), sample_solver=s).build() for s in ("jump", "heun"))
    tuned = arrays.trainable(teacher.module)
    for name, array in arrays.trainable(student.module).items():
        np.testing.assert_array_equal(array, tuned[name])


def test_two_jumps_of_the_public_student_end_near_where_its_teacher_walks(conditions):
    student, teacher = (dataclasses.replace(LatentFlow(), sample_solver=s).build() for s in ("jump", "heun"))
    right = _ends(teacher, conditions, None)
    off = (_ends(student, conditions, 2) - right).square().mean().sqrt()
    euler = dataclasses.replace(LatentFlow(), sample_solver="euler", sample_steps=2).build()
    rows, noise = np.arange(64), torch.randn(64, *distill.LATENT, generator=torch.Generator().manual_seed(9))
    with torch.inference_mode():
        field = euler.field(conditions, rows, at_sites=True)
        clumsy = (flow.integrate(field, noise, steps=2, solver="euler") - right).square().mean().sqrt()
    assert off < 0.2
    assert off < 0.5 * clumsy


def test_a_written_student_is_read_by_its_digest(tmp_path, monkeypatch, student):
    distill.write(tmp_path, student, lesson=SHORT, teacher_digest="0" * 64)
    monkeypatch.setenv("PERICARD_PRIORS", str(tmp_path))
    assert set(priors.load("distilled")) == set(arrays.state(student.module))
    arrays.write(tmp_path / "distilled.safetensors", {"a": np.zeros(1, np.float16)})
    with pytest.raises(ValueError, match="its provenance states"):
        priors.load("distilled")
