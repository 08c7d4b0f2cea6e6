"""T-U5: a release whose labels were shuffled teaches nothing, and the task says so."""

import dataclasses

import numpy as np

from cohorts.phantom import simulate
from evaluation.tasks import TASKS
from learning.learner import fit
from privacy.estimate import bootstrap


def test_whoever_learns_from_shuffled_labels_does_no_better_than_the_most_usual_answer():
    task = TASKS["view_recognition"](width=4, steps=60)
    train, test = (simulate.stills(n, seed=seed, style="site-a") for n, seed in ((20, 1), (40, 2)))
    rng = np.random.default_rng(0)

    def learnt(frames):
        learner = task.learner()
        fit(learner, frames, steps=task.steps, batch_size=16, learning_rate=task.learning_rate, seed=0)
        return task.scores(learner, test)["accuracy"]

    trivial = float(task.trivial(train, test)["accuracy"].mean())
    shuffled = learnt(dataclasses.replace(train, view=rng.permutation(train.view)))
    honest = learnt(train)
    assert bootstrap(shuffled, rng=rng).low <= trivial
    assert bootstrap(honest - shuffled, rng=rng).low > 0  # the labels, not the task, are to blame
