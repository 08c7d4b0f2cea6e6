"""The contract of a downstream task. Add one file under `evaluation/tasks/` and it is tested here."""

import dataclasses

import numpy as np
import pytest

from cohorts.phantom import simulate
from evaluation.measures import dice
from evaluation.task import per_subject
from evaluation.tasks import TASKS
from evaluation.useful import OVERALL, UNITS
from learning import arrays
from learning.learner import fit


@pytest.fixture(scope="module")
def phantoms():
    return simulate.stills(6, seed=9, style="site-a")


HOUSE = [name for name in TASKS if TASKS[name].__module__.startswith("evaluation.")]


@pytest.fixture(params=HOUSE)
def task(request):
    return TASKS[request.param](width=4, steps=2, batch_size=4)


def test_every_arm_starts_from_the_same_weights(task):
    assert arrays.digest(arrays.state(task.learner().module)) == arrays.digest(arrays.state(task.learner().module))


def test_scores_are_per_subject_and_shares_lie_between_zero_and_one(task, phantoms):
    scores = task.scores(task.learner(), phantoms)
    assert task.primary in scores
    assert not task.primary.endswith(UNITS)
    for metric, values in scores.items():
        assert values.shape == (6,)
        assert (values >= 0).all()
        assert metric.endswith(UNITS) or (values <= 1).all()


def test_a_subject_without_labels_has_no_score_rather_than_a_bad_one(task, phantoms):
    gone = phantoms.subject == 2
    frames = dataclasses.replace(
        phantoms,
        masks=np.where(gone[:, None, None], 255, phantoms.masks).astype(np.uint8),
        view=np.where(gone, -1, phantoms.view),
        lvef_percent=np.where(gone, np.nan, phantoms.lvef_percent),
    )
    for values in task.scores(task.learner(), frames).values():
        assert np.isnan(values[2])
        assert np.isfinite(np.delete(values, 2)).all()


def test_whoever_looks_at_no_picture_is_scored_in_the_same_metrics_and_not_perfectly(task, phantoms):
    train = simulate.stills(8, seed=8, style="site-a")
    found = task.trivial(train, phantoms)
    assert found[task.primary].shape == (6,)
    assert 0 <= np.nanmean(found[task.primary]) < 1
    assert set(found) <= set(task.scores(task.learner(), phantoms))
    black = dataclasses.replace(phantoms, pixels=np.zeros_like(phantoms.pixels))
    assert all(np.array_equal(v, found[m], equal_nan=True) for m, v in task.trivial(train, black).items())


def test_what_is_said_of_all_together_is_resampled_by_subject(task, phantoms):
    overall = task.overall(task.learner(), phantoms)
    found, again = (overall.sampled(seed=3, resamples=5) for _ in range(2))
    assert set(found) <= set(OVERALL)
    for name, draws in found.items():
        assert draws.shape == (6,)
        assert np.array_equal(draws, again[name], equal_nan=True)


def test_training_helps(task, phantoms):
    task = dataclasses.replace(task, steps=80, batch_size=8)
    learner = task.learner()
    before = task.scores(learner, phantoms)[task.primary].mean()
    fit(learner, phantoms, steps=task.steps, batch_size=task.batch_size, learning_rate=task.learning_rate, seed=0)
    assert task.scores(learner, phantoms)[task.primary].mean() > before


def test_a_learner_of_another_task_is_refused(phantoms):
    tasks = [TASKS[name](width=4) for name in HOUSE]
    with pytest.raises(TypeError):
        tasks[0].scores(tasks[1].learner(), phantoms)


def test_dice_agrees_with_its_definition_and_with_empty_masks():
    empty, full = np.zeros((1, 4, 4), bool), np.ones((1, 4, 4), bool)
    half = full.copy()
    half[:, :2] = False
    assert dice(empty, empty) == 1
    assert dice(empty, full) == 0
    assert dice(full, half) == pytest.approx(2 * 8 / (16 + 8))


def test_the_mean_of_a_subject_ignores_what_is_unknown(phantoms):
    values = np.arange(24, dtype=float)
    values[0] = np.nan
    assert per_subject(values, phantoms)[0] == pytest.approx(2.0)
