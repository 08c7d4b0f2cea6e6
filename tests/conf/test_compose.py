import threading
from dataclasses import FrozenInstanceError, dataclass, field
from enum import StrEnum

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from conf.compose import UsageError, compose, digest, from_json, to_json
from conf.registry import Registry
from conf.schema import Budget, Lane

COHORTS, GENERATORS, LEARNERS = Registry("cohort"), Registry("generator"), Registry("learner")
GROUPS = {"cohort": COHORTS, "generator": GENERATORS, "views": LEARNERS, "segmenter": LEARNERS}


class Window(StrEnum):
    A2C = "two chambers"
    A4C = "four chambers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Scanner:
    gain: float = 1.0


@COHORTS("phantom")
@dataclass(frozen=True, slots=True, kw_only=True)
class Phantom:
    subjects: int = 40
    windows: tuple[Window, ...] = (Window.A2C, Window.A4C)
    scanner: Scanner = field(default_factory=Scanner)

    def __post_init__(self) -> None:
        if self.subjects < 1:
            raise ValueError(f"subjects={self.subjects} must be at least 1")


@COHORTS("manifest")
@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    root: str = ""
    columns: dict[str, str] = field(default_factory=lambda: {"subject": "patient"})


@GENERATORS("latent_flow")
@dataclass(frozen=True, slots=True, kw_only=True)
class Flow:
    width: int = 160
    prior: bool = True
    depth: int = 5
    heads: int = 5
    autoencoder_width: int = 24
    sample_steps: int = 8


@LEARNERS("view_classifier")
@LEARNERS("segmenter")
@dataclass(frozen=True, slots=True, kw_only=True)
class Network:
    width: int = 12


def test_the_default_is_three_phantom_sites_under_epsilon_8() -> None:
    experiment, _ = compose([], groups=GROUPS)
    assert (experiment.name, experiment.cohort, len(experiment.sites.names)) == ("phantom", Phantom(), 3)
    assert experiment.budget == Budget(epsilon=8.0, delta=1e-5)
    assert experiment.release.lane is Lane.FORMAL


def test_an_override_changes_one_value_and_the_digest() -> None:
    before, first = compose([], groups=GROUPS)
    after, second = compose(["budget.epsilon=4", "cohort.scanner.gain=2"], groups=GROUPS)
    assert (after.budget.epsilon, after.cohort.scanner.gain, before.budget.epsilon) == (4.0, 2.0, 8.0)
    assert first != second
    assert compose([], groups=GROUPS) == (before, first)


def test_a_file_chooses_parts_and_the_command_line_has_the_last_word() -> None:
    camus, _ = compose(["experiment=camus", "cohort.root=/a folder"], groups=GROUPS)
    assert camus.cohort == Manifest(root="/a folder")
    assert camus.sites.same_subject == ("patient0033+patient0068",)
    smoke, _ = compose(["experiment=smoke", "cohort=manifest", "cohort.root=x", "generator.width=3"], groups=GROUPS)
    assert (smoke.name, smoke.cohort.root, smoke.generator.width, smoke.generator.depth) == ("smoke", "x", 3, 1)


def test_the_experiment_is_frozen_and_its_lists_are_tuples() -> None:
    experiment, _ = compose(["cohort.windows=[A4C]", "sites.names=[a,b,c]"], groups=GROUPS)
    assert experiment.cohort.windows == (Window.A4C,)
    assert experiment.sites.names == ("a", "b", "c")
    with pytest.raises(FrozenInstanceError):
        experiment.seed = 3  # type: ignore[misc]


MISTAKES = {
    "an unknown file": ("experiment=camu", "unknown experiment 'camu'; did you mean camus?"),
    "a file out of the folder": ("experiment=../camus", "unknown experiment '../camus'"),
    "an unknown part": ("generator=latent", "unknown generator 'latent'; did you mean latent_flow?"),
    "an unknown setting": ("budget.epsilom=4", "unknown setting 'budget.epsilom'; did you mean budget.epsilon?"),
    "an unknown word": ("x=4", "unknown setting 'x'; there are: assess, backend, budget"),
    "a setting of Hydra": ("hydra.run.dir=x", "unknown setting 'hydra.run.dir'"),
    "no value": ("seed", "'seed' is no override: write NAME=VALUE"),
    "an addition": ("+seed=1", "'+seed=1' is no override"),
    "a removal": ("~budget", "'~budget' is no override"),
    "a sweep": ("seed=1,2", "with one value"),
    "another package": ("experiment@x=camus", "is no override"),
    "a word for a number": ("budget.epsilon=much", "budget.epsilon: Value 'much'"),
    "a lane that is none": ("release.lane=CASUAL", "release.lane: Invalid value 'CASUAL', expected one of [FORMAL"),
    "a number below its bound": ("budget.epsilon=-1", "budget.epsilon=-1.0 must be above 0 and finite"),
    "a number above its bound": ("train_views.sampling_rate=2", "train_views.sampling_rate=2.0 must be above 0 and at"),
    "not a number": ("budget.epsilon=nan", "budget.epsilon=nan must be above 0"),
    "a bound of a part": ("cohort.subjects=0", "cohort.subjects=0 must be at least 1"),
    "null": ("budget=null", "'budget' is not Optional"),
    "a number for a folder of settings": ("budget=3", "budget: Invalid type assigned"),
    "more of a quorum than sites": ("sites.names=[a,b]", "sites.quorum=3 must be between 1 and the 2 sites"),
    "a dangling reference": ("name=${nobody}", "name: Interpolation key 'nobody' not found"),
    "a folder that is not given": ("experiment=camus", "cohort.root is missing: add cohort.root=VALUE"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_a_mistake_is_one_line_that_says_what_would_do(mistake: str) -> None:
    override, message = MISTAKES[mistake]
    with pytest.raises(UsageError) as refused:
        compose([override], groups=GROUPS)
    assert message in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_mistake_leaves_nothing_behind() -> None:
    with pytest.raises(UsageError):
        compose(["experiment=camus"], groups=GROUPS)
    assert compose([], groups=GROUPS)[0].name == "phantom"


def test_threads_may_compose_at_the_same_time() -> None:
    found: dict[int, int] = {}

    def one(seed: int) -> None:
        found[seed] = compose([f"seed={seed}"], groups=GROUPS)[0].seed

    threads = [threading.Thread(target=one, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {seed: seed for seed in range(8)}


@settings(deadline=None, max_examples=20)
@given(seed=st.integers(0, 2**31), epsilon=st.floats(1e-3, 1e3), gain=st.floats(allow_nan=False, allow_infinity=False))
def test_json_gives_back_the_same_experiment(seed: int, epsilon: float, gain: float) -> None:
    experiment, sha256 = compose([f"seed={seed}", f"budget.epsilon={epsilon!r}", f"cohort.scanner.gain={gain!r}"],
                                 groups=GROUPS)  # fmt: skip
    text = to_json(experiment, groups=GROUPS)
    assert from_json(text, groups=GROUPS) == experiment
    assert digest(text) == sha256
    assert len(sha256) == 64


def _with(old: str, new: str) -> str:
    text = to_json(compose([], groups=GROUPS)[0], groups=GROUPS)
    assert old in text
    return text.replace(old, new)


FORGERIES = {
    "nothing": lambda: "",
    "a list": lambda: "[]",
    "an unknown part": lambda: _with('{"phantom":', '{"patients":'),
    "an unknown setting": lambda: _with('"seed":', '"sesame":1,"seed":'),
    "a value of another type": lambda: _with('"seed":2026', '"seed":"tomorrow"'),
    "a value out of bounds": lambda: _with('"epsilon":8.0', '"epsilon":-8.0'),
    "a part that is not named": lambda: _with('"cohort":{"phantom":', '"cohort":{"manifest":{},"phantom":'),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_json_of_no_valid_experiment_is_refused_in_one_line(forgery: str) -> None:
    with pytest.raises(UsageError) as refused:
        from_json(FORGERIES[forgery](), groups=GROUPS)
    assert "\n" not in str(refused.value)
