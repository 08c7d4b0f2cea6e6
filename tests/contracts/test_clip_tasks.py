"""The contract of a downstream task of clips. Add one file under `evaluation/tasks/` and it is tested here."""

import dataclasses

import numpy as np
import pytest

from cohorts.clips import films
from evaluation.tasks import CLIP_TASKS, TASKS
from learning import arrays
from learning.learner import fit

SUBJECTS, FRAMES = 6, 6
UNIT = {"closeness", "near"}  # metrics that are shares
HOUSE = [name for name in CLIP_TASKS if CLIP_TASKS[name].__module__.startswith("evaluation.")]


@pytest.fixture(scope="module")
def phantoms():
    phase = np.tile(np.arange(FRAMES) / FRAMES, (SUBJECTS, 1))
    return films(SUBJECTS, phase=phase, seed=9, size=32, lvef_percent=np.linspace(20, 70, SUBJECTS))


@pytest.fixture(params=HOUSE)
def task(request):
    return CLIP_TASKS[request.param](width=4, stages=2, frames=FRAMES, steps=2, batch_size=4)


def test_every_arm_starts_from_the_same_weights(task):
    assert arrays.digest(arrays.state(task.learner().module)) == arrays.digest(arrays.state(task.learner().module))


def test_scores_are_per_subject_and_shares_lie_between_zero_and_one(task, phantoms):
    scores = task.scores(task.learner(), phantoms)
    assert task.primary in scores
    for metric, values in scores.items():
        assert values.shape == (SUBJECTS,)
        assert np.isfinite(values).all()
        assert metric not in UNIT or ((values >= 0) & (values <= 1)).all()


def test_only_the_asked_view_counts(task, phantoms):
    other = dataclasses.replace(
        phantoms, pixels=np.where((phantoms.view == 0)[:, None, None, None], 7, phantoms.pixels).astype(np.uint8)
    )
    learner = task.learner()
    for metric, values in task.scores(learner, phantoms).items():
        assert np.array_equal(values, task.scores(learner, other)[metric])


def test_a_subject_without_labels_has_no_score_rather_than_a_bad_one(task, phantoms):
    gone = phantoms.subject == 2
    clips = dataclasses.replace(phantoms, lvef_percent=np.where(gone, np.nan, phantoms.lvef_percent))
    for values in task.scores(task.learner(), clips).values():
        assert np.isnan(values[2])
        assert np.isfinite(np.delete(values, 2)).all()


def test_training_helps(task, phantoms):
    task = dataclasses.replace(task, steps=60, learning_rate=1e-2)
    learner, shown = task.learner(), task.shown(phantoms)
    before = task.scores(learner, phantoms)[task.primary].mean()
    fit(learner, shown, steps=task.steps, batch_size=task.batch_size, learning_rate=task.learning_rate, seed=0)
    assert task.scores(learner, phantoms)[task.primary].mean() > before


def test_the_mean_of_the_correlation_is_pearsons(phantoms):
    task = CLIP_TASKS["ejection_fraction_clip"](width=4, stages=2, frames=FRAMES)
    learner, shown = task.learner(), task.shown(phantoms.rows(np.flatnonzero(phantoms.view == 1)))
    expected = np.corrcoef(learner.predict(shown), shown.lvef_percent)[0, 1]
    assert task.scores(learner, phantoms)["correlation"].mean() == pytest.approx(expected)


def test_a_learner_of_frames_is_refused(task, phantoms):
    with pytest.raises(TypeError):
        task.scores(TASKS["view_recognition"](width=4).learner(), phantoms)
