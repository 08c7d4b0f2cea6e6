"""The private loop does what its plan says, and nothing leaves it that the plan did not pay for."""

import numpy as np
import pytest
import torch
from torch import nn

from cohorts.frames import Frames
from learning import arrays
from learning.learner import Pull, fit, fit_private
from privacy.mechanism import DpPlan
from privacy.randomness import SecureRandom

SIZE = 8


class Mean:
    """A learner whose gradient is known: it moves a weight towards each row's mean grey value."""

    def __init__(self) -> None:
        self.module: nn.Module = nn.Sequential(nn.Flatten(), nn.Linear(1, 1, bias=False))
        nn.init.zeros_(self.module[1].weight)

    def losses(self, frames, rows, *, generator):
        # dloss/dw = -(mean grey value) at every weight: linear, so that steps add up.
        grey = torch.from_numpy(frames.pixels[rows]).float().mean((1, 2)).unsqueeze(1) / 255
        return -self.module(grey).squeeze(1)


def _frames(n_subjects: int, grey: int = 255) -> Frames:
    n = 2 * n_subjects
    return Frames(
        pixels=np.full((n, SIZE, SIZE), grey, np.uint8),
        masks=np.zeros((n, SIZE, SIZE), np.uint8),
        view=np.zeros(n, np.int64),
        phase=np.arange(n) % 2,
        lvef_percent=np.zeros(n, np.float32),
        subject=np.arange(n) // 2,
        subjects=tuple(map(str, range(n_subjects))),
    )


def _plan(**changes) -> DpPlan:
    settings = {"purpose": "test", "sampling_rate": 1.0, "noise_multiplier": 1e-6, "clip_norm": 1.0, "steps": 5}
    return DpPlan(**{**settings, "draws": 2, **changes})


def _moved(plan: DpPlan, frames: Frames, *, steps: int = 5, public: int = 10) -> float:
    learner = Mean()
    fit_private(learner, frames, plan, steps=steps, public_subjects=public, learning_rate=0.1, random=SecureRandom())
    return float(arrays.trainable(learner.module)["1.weight"].item())


def test_without_noise_to_speak_of_it_is_the_mean_gradient_over_the_public_size():
    assert _moved(_plan(), _frames(10)) == pytest.approx(5 * 0.1, abs=1e-3)
    assert _moved(_plan(), _frames(5)) == pytest.approx(5 * 0.1 / 2, abs=1e-3)


def test_one_subject_moves_the_weights_by_at_most_its_clip():
    with_one, without = (_moved(_plan(clip_norm=0.25), _frames(n)) for n in (10, 9))
    assert with_one - without == pytest.approx(5 * 0.1 * 0.25 / 10, abs=1e-4)


def test_draws_of_a_subject_are_averaged_before_the_clip_not_after():
    assert _moved(_plan(draws=8), _frames(10)) == pytest.approx(_moved(_plan(draws=1), _frames(10)), abs=1e-3)


def test_a_cohort_of_nobody_still_gets_its_noise():
    moved = [_moved(_plan(noise_multiplier=5.0), _frames(0)) for _ in range(3)]
    assert len(set(moved)) == 3
    assert all(m != 0 for m in moved)


def test_two_runs_never_have_the_same_noise():
    plan = _plan(noise_multiplier=1.0, sampling_rate=0.5)
    assert _moved(plan, _frames(10)) != _moved(plan, _frames(10))


def test_every_engine_moves_the_parameters_alike():
    moved = []
    for mode in ("auto", "bookkeeping", "hooks"):
        learner = Mean()
        fit_private(
            learner,
            _frames(6),
            _plan(),
            steps=2,
            public_subjects=6,
            learning_rate=0.1,
            random=SecureRandom(),
            mode=mode,
        )
        moved.append(torch.cat([p.detach().flatten() for p in learner.module.parameters()]))
    assert torch.allclose(moved[0], moved[1], atol=1e-5)
    assert torch.allclose(moved[0], moved[2], atol=1e-5)


def test_the_module_is_given_back_without_hooks():
    learner = Mean()
    fit_private(learner, _frames(3), _plan(), steps=1, public_subjects=3, learning_rate=0.1, random=SecureRandom())
    assert not any(m._forward_hooks or m._backward_hooks for m in learner.module.modules())
    assert not learner.module.training


@pytest.mark.parametrize("private", [True, False], ids=["private", "plain"])
def test_a_proximal_term_holds_the_weights_near_those_that_were_given(private):
    def far(proximal: float) -> float:
        learner, frames = Mean(), _frames(10)
        if private:
            fit_private(
                learner, frames, _plan(steps=50), steps=50, public_subjects=10, learning_rate=0.1,
                random=SecureRandom(), proximal=proximal,
            )  # fmt: skip
        else:
            fit(learner, frames, steps=200, batch_size=8, learning_rate=0.05, seed=0, proximal=proximal)
        return float(arrays.trainable(learner.module)["1.weight"].item())

    # The gradient is -1, so with mu the weights settle where mu w = 1.
    assert far(2.0) == pytest.approx(0.5, abs=0.05)
    assert far(0.0) > 3


def test_a_proximal_step_is_exactly_the_gradient_step_and_the_pull_before_it():
    learner = Mean()
    fit_private(
        learner, _frames(10), _plan(steps=2), steps=2, public_subjects=10, learning_rate=0.1,
        random=SecureRandom(), proximal=3.0,
    )  # fmt: skip
    # w1 = 0.1; w2 = w1 - 0.1 * 3 * w1 + 0.1
    assert float(arrays.trainable(learner.module)["1.weight"].item()) == pytest.approx(0.17, abs=1e-4)


def test_a_negative_proximal_term_is_refused_by_name():
    with pytest.raises(ValueError, match="proximal=-1"):
        Pull(Mean().module, -1)
