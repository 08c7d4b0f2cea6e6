import dataclasses

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from cohorts.frames import Frames
from learning.fairness import METHODS, Declared, GroupDro, Groups, Minded, balanced_rows, reweighed
from learning.learner import fit, fit_private
from privacy.mechanism import DpPlan
from privacy.randomness import SecureRandom


def test_the_weights_after_a_step_are_those_of_the_closed_form():
    after = GroupDro.of(3, rate=0.5).after(np.array([1.0, 2.0, 0.0]))
    raw = np.exp(0.5 * np.array([1.0, 2.0, 0.0]))
    assert np.allclose(after.weights, raw / raw.sum())


def test_the_harder_group_gains_weight_at_every_step():
    dro, found = GroupDro.of(2, rate=0.1), []
    for _ in range(20):
        dro = dro.after(np.array([0.2, 0.9]))
        found.append(dro.weights[1])
    assert np.all(np.diff([0.5, *found]) > 0)


def test_a_rate_of_zero_is_the_plain_mean_over_groups():
    dro = GroupDro.of(2, rate=0.0).after(np.array([9.0, 0.0]))
    groups, losses = np.array([0, 0, 0, 1]), np.array([1.0, 2.0, 3.0, 10.0])
    assert (dro.row_weights(groups) * losses).sum() == pytest.approx((2 + 10) / 2)


def test_a_group_nobody_was_drawn_of_keeps_its_weight_up_to_the_sum():
    dro = GroupDro(weights=(0.5, 0.3, 0.2), rate=1.0).after(np.array([0.7, np.nan, 0.7]))
    assert dro.weights[0] / dro.weights[2] == pytest.approx(2.5)
    assert dro.weights[1] < 0.3


@given(st.lists(st.floats(0, 50), min_size=2, max_size=6))
def test_weights_stay_a_distribution(losses):
    dro = GroupDro.of(len(losses), rate=0.3).after(np.array(losses))
    assert sum(dro.weights) == pytest.approx(1)
    assert min(dro.weights) >= 0


def test_reweighing_takes_its_frequencies_from_everybody_and_keeps_its_bounds():
    groups = np.array([0] * 75 + [1] * 25)
    assert reweighed(groups, n_groups=2).tolist() == pytest.approx([100 / 150, 2.0])
    assert reweighed(np.array([0] * 999 + [1]), n_groups=2).tolist() == pytest.approx([1000 / 1998, 5.0])


def test_balanced_draws_take_each_group_alike():
    groups = np.array([0] * 95 + [1] * 5)
    rows = balanced_rows(groups, 4000, np.random.default_rng(0))
    assert abs(float((groups[rows] == 1).mean()) - 0.5) < 0.03


def test_what_is_no_distribution_is_refused():
    with pytest.raises(ValueError, match="sum to 1"):
        GroupDro(weights=(0.5, 0.6))
    with pytest.raises(ValueError, match="losses of shape"):
        GroupDro.of(2).after(np.zeros(3))


def people(groups):
    """Return four frames of each person; the grey of a person's frames is the number of the group."""
    n = 4 * len(groups)
    return Frames(
        pixels=np.repeat(np.array(groups, np.uint8), 4)[:, None, None] * np.ones((1, 8, 8), np.uint8),
        masks=np.zeros((n, 8, 8), np.uint8),
        view=np.zeros(n, np.int64),
        phase=np.zeros(n, np.int64),
        lvef_percent=np.zeros(n, np.float32),
        subject=np.repeat(np.arange(len(groups)), 4),
        subjects=tuple(map(str, range(len(groups)))),
    )


class Level:
    """A learner of one number: the squared distance to the grey of each row."""

    def __init__(self):
        self.module = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(self.module.weight)
        self.drawn = []

    def losses(self, frames, rows, *, generator):
        grey = torch.from_numpy(frames.pixels[rows, 0, 0]).float()
        self.drawn += grey.tolist()
        return (self.module(torch.ones(len(rows), 1)).squeeze(1) - grey) ** 2


NINE_TO_ONE = np.array([0] * 18 + [1] * 2)


def level(method, *, groups=NINE_TO_ONE, rate=0.01, steps=300):
    learner = Level()
    told = None if method is None else Groups(of=groups, method=method, rate=rate)
    fit(learner, people(NINE_TO_ONE), steps=steps, batch_size=32, learning_rate=0.02, seed=3, groups=told)
    return learner


def test_minding_no_groups_gives_the_very_bits_that_no_groups_give():
    assert level("none").module.weight.item() == level(None).module.weight.item()


def test_plain_training_serves_the_many_and_each_method_the_few_as_well():
    """The loss of both groups is least at 0.1 where rows count alike, at 0.5 where groups do."""
    found = {method: level(method).module.weight.item() for method in METHODS}
    assert found["none"] == pytest.approx(0.1, abs=0.04)
    for method in ("balanced", "reweighed", "dro"):
        assert found[method] == pytest.approx(0.5, abs=0.08)


def test_balanced_draws_and_dro_take_the_few_as_often_and_reweighing_as_rarely_as_they_are():
    drawn = {method: np.mean(level(method, steps=100).drawn) for method in METHODS}
    assert drawn["balanced"] == pytest.approx(0.5, abs=0.03)
    assert drawn["dro"] == pytest.approx(0.5, abs=0.03)
    assert drawn["reweighed"] == pytest.approx(0.1, abs=0.03)


def test_dro_moves_its_weight_to_the_group_that_fares_worse():
    minded = Minded(people(NINE_TO_ONE), Groups(of=NINE_TO_ONE, method="dro", rate=1.0))
    rows = minded.draw(40, np.random.default_rng(0))
    first = minded.weights(rows, np.where(NINE_TO_ONE[rows // 4] == 1, 2.0, 1.0))
    assert minded.dro.weights[1] == pytest.approx(np.e / (1 + np.e))
    assert first.sum() == pytest.approx(1)


def test_people_of_an_unknown_group_are_a_group_of_their_own():
    groups = Groups.named(["f", "", "m", ""], method="balanced")
    assert groups.of.tolist() == [0, -1, 1, -1]
    rows = Minded(people([0, 1, 2, 3]), groups).draw(3000, np.random.default_rng(0))
    assert np.bincount(rows // 4)[[1, 3]].sum() / 3000 == pytest.approx(1 / 3, abs=0.03)


def test_a_group_for_every_person_or_none_at_all():
    with pytest.raises(ValueError, match="groups of 2 subjects, but frames of 20"):
        fit(Level(), people(NINE_TO_ONE), steps=1, batch_size=2, learning_rate=0.1, seed=0,
            groups=Groups(of=np.array([0, 1]), method="dro"))  # fmt: skip
    with pytest.raises(ValueError, match="must be one of none, balanced"):
        Groups(of=NINE_TO_ONE, method="reweigh")


# --- Under ε: weights that everybody may know, and no others ---

PLAN = DpPlan(purpose="t", sampling_rate=1.0, noise_multiplier=1e-9, clip_norm=100.0, steps=1, draws=2)


def privately(words, *, declared, clip=100.0, groups=None):
    learner = Level()
    frames = people(np.ones(len(words), int) if groups is None else groups)
    plan = dataclasses.replace(PLAN, clip_norm=clip)
    told = {"declared": declared, "words": words} if declared is not None else {}
    fit_private(learner, frames, plan, steps=1, public_subjects=10, learning_rate=1.0, random=SecureRandom(), **told)
    return learner.module.weight.item()


def test_a_declared_weight_multiplies_the_gradient_of_its_subjects():
    """Each subject's gradient is -2: five of weight 1 and five of weight 0.5, over ten."""
    words = ["m"] * 5 + ["f"] * 5
    assert privately(words, declared=None) == pytest.approx(2.0, abs=1e-4)
    assert privately(words, declared=Declared(weights={"m": 0.5})) == pytest.approx(1.5, abs=1e-4)
    assert privately([""] * 10, declared=Declared(weights={"m": 0.5})) == pytest.approx(2.0, abs=1e-4)


@pytest.mark.parametrize("weight", [0.2, 1.0, 5.0])
def test_whatever_a_subject_weighs_it_adds_its_clip_at_most(weight):
    """The weight comes before the clip: adding one subject moves the weights by C / N whatever it weighs."""
    declared = Declared(weights={"m": weight})
    moved = privately(["m"] * 4, declared=declared, clip=0.25) - privately(["m"] * 3, declared=declared, clip=0.25)
    assert moved == pytest.approx(0.25 / 10, abs=1e-4)


def counted(words):
    """A mutant: weights from the frequencies of the hospital's own people, dressed as declared ones."""
    number = np.array([sorted(set(words)).index(w) for w in words])
    return dict(zip(sorted(set(words)), reweighed(number, n_groups=len(set(words))).tolist(), strict=True))


def test_weights_counted_among_subjects_would_break_the_bound_and_have_no_way_in():
    """With them one subject more changes what all others weigh, and so moves the sum by more than its clip."""
    words, clip = ["f"] * 2 + ["m"] * 8, 1.3

    def moved(weigh):
        with_one, without = (
            privately(some, declared=Declared(weights=weigh(some)), clip=clip) for some in (words, words[1:])
        )
        return with_one - without

    assert moved(lambda _: {"f": 2.5, "m": 0.625}) <= clip / 10 + 1e-4
    assert moved(counted) > 1.5 * clip / 10
    with pytest.raises(TypeError, match="no ε covers"):
        privately(words, declared=reweighed(np.array([0] * 2 + [1] * 8), n_groups=2))


def test_declared_weights_keep_their_bounds_and_need_a_word_for_everybody():
    with pytest.raises(ValueError, match="weight 9 of 'f' must be in"):
        Declared(weights={"f": 9})
    with pytest.raises(ValueError, match="words of 1 subjects, but frames of 2"):
        fit_private(Level(), people([0, 1]), PLAN, steps=1, public_subjects=2, learning_rate=1.0,
                    random=SecureRandom(), declared=Declared(weights={}), words=["f"])  # fmt: skip
