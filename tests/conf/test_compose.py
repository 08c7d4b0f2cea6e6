import threading
from dataclasses import FrozenInstanceError, dataclass, field, replace
from enum import StrEnum
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import conf
from conf.compose import UsageError, compose, digest, from_json, to_json
from conf.registry import Registry
from conf.schema import Lane
from pericard.simulate import groups

EXPERIMENTS = Path(conf.__file__).parent / "experiment"
# The parts of the house itself: the files in conf/experiment are written for them.
GROUPS = groups()
SMALL = ["cohort.subjects=7"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    gain: float = 1.0
    word: str | None = None


class Colour(StrEnum):
    RED = "a warm one"
    BLUE = "a cold one"


def _with_a_part() -> dict[str, Registry]:
    """The house with one more reader, whose fields are of every kind a part may have."""
    cohorts = Registry("cohort")

    @cohorts("phantom")
    @dataclass(frozen=True, slots=True, kw_only=True)
    class Everything:
        inner: Inner = field(default_factory=Inner)
        colours: tuple[Colour, ...] = (Colour.RED,)
        groups: tuple[list[str], ...] = (["a", "b"],)
        names: dict[str, str] = field(default_factory=lambda: {"2CH": "A2C"})
        ratio: float = 0.5
        on: bool = True

        def __post_init__(self) -> None:
            if not 0 < self.ratio < 1:
                raise ValueError(f"ratio={self.ratio} must be between 0 and 1")

    return {**GROUPS, "cohort": cohorts}


def test_the_default_is_three_phantom_sites_under_epsilon_8_in_the_formal_lane() -> None:
    experiment, _ = compose([], groups=GROUPS)
    assert (experiment.name, type(experiment.cohort).__name__) == ("phantom", "Phantom")
    assert len(experiment.sites.names) == 3
    assert 0 < experiment.budget.epsilon <= 8
    assert experiment.release.lane is Lane.FORMAL


@pytest.mark.parametrize("file", sorted(path.stem for path in EXPERIMENTS.glob("*.yaml")))
def test_every_file_is_a_whole_experiment_under_its_own_name(file: str) -> None:
    root = ["cohort.root=somewhere"] if file in ("camus", "lung") else []
    assert compose([f"experiment={file}", *root], groups=GROUPS)[0].name == file


def test_an_override_changes_one_value_and_the_digest() -> None:
    before, first = compose(SMALL, groups=GROUPS)
    after, second = compose([*SMALL, "budget.epsilon=4"], groups=GROUPS)
    assert (after.budget.epsilon, after.cohort.subjects) == (4.0, 7)
    assert replace(after, budget=before.budget) == before
    assert first != second
    assert compose(SMALL, groups=GROUPS) == (before, first)


def test_a_file_chooses_parts_and_the_command_line_has_the_last_word() -> None:
    camus, _ = compose(["experiment=camus", "cohort.root=/a folder"], groups=GROUPS)
    assert (type(camus.cohort).__name__, camus.cohort.root) == ("Manifest", "/a folder")
    assert camus.sites.same_subject == ("patient0033+patient0068",)
    smoke, _ = compose(["experiment=smoke", "generator.width=48", "seed=3"], groups=GROUPS)
    assert (smoke.name, smoke.generator.width, smoke.generator.depth, smoke.seed) == ("smoke", 48, 1, 3)


def test_the_experiment_is_frozen_and_its_lists_are_tuples() -> None:
    experiment, _ = compose(["cohort.colours=[BLUE,RED]", "cohort.groups=[[x,y]]"], groups=_with_a_part())
    assert experiment.cohort.colours == (Colour.BLUE, Colour.RED)
    assert experiment.cohort.groups == (("x", "y"),)
    assert experiment.cohort.names == {"2CH": "A2C"}
    with pytest.raises(FrozenInstanceError):
        experiment.seed = 3  # type: ignore[misc]


def test_a_setting_may_share_its_name_with_a_folder_of_conf() -> None:
    assert (Path(conf.__file__).parent / "policy").is_dir()
    experiment, _ = compose(["policy=pilot", "seed=4"], groups=GROUPS)
    assert (experiment.policy, experiment.seed) == ("pilot", 4)
    with pytest.raises(UsageError, match="policy"):
        compose(["policy=[a,b]"], groups=GROUPS)


MISTAKES = {
    "an unknown file": ("experiment=camu", "unknown experiment 'camu'; did you mean camus?"),
    "a file out of the folder": ("experiment=../camus", "unknown experiment '../camus'"),
    "an unknown part": ("generator=latent", "unknown generator 'latent'; did you mean latent_flow?"),
    "an unknown setting": ("budget.epsilom=4", "unknown setting 'budget.epsilom'; did you mean budget.epsilon?"),
    "an unknown word": ("x=4", "unknown setting 'x'; there are: about, aggregation, assess"),
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
    "a reference": ("name=${oc.env:HOME}", "name holds ${…}"),
    "a folder that is not given": ("experiment=camus", "cohort.root is missing: add cohort.root=VALUE"),
}


def test_a_bound_of_a_part_names_the_setting_as_one_would_write_it() -> None:
    with pytest.raises(UsageError, match=r"^cohort\.ratio=2\.0 must be between 0 and 1$"):
        compose(["cohort.ratio=2"], groups=_with_a_part())


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


@settings(deadline=None, max_examples=10)
@given(
    seed=st.integers(0, 2**31),
    epsilon=st.floats(1e-3, 1e3),
    gain=st.floats(allow_nan=False, allow_infinity=False),
    word=st.text(st.characters(exclude_characters="?$")) | st.none(),
    colours=st.lists(st.sampled_from(Colour)),
)
def test_json_gives_back_the_same_experiment(
    seed: int, epsilon: float, gain: float, word: str | None, colours: list[Colour]
) -> None:
    groups = _with_a_part()
    plain, _ = compose([], groups=groups)
    cohort = replace(plain.cohort, inner=Inner(gain=gain, word=word), colours=tuple(colours), groups=(("a", "b"),))
    experiment = replace(plain, seed=seed, budget=replace(plain.budget, epsilon=epsilon), cohort=cohort)
    text = to_json(experiment, groups=groups)
    assert from_json(text, groups=groups) == experiment
    assert len(digest(text)) == 64


def test_the_digest_is_that_of_the_json() -> None:
    experiment, found = compose([], groups=GROUPS)
    assert found == digest(to_json(experiment, groups=GROUPS))


def _with(old: str, new: str) -> str:
    text = to_json(compose([], groups=GROUPS)[0], groups=GROUPS)
    assert old in text
    return text.replace(old, new)


FORGERIES = {
    "nothing": lambda: "",
    "a list": lambda: "[]",
    "an unknown part": lambda: _with('{"phantom":', '{"patients":'),
    "an unknown setting": lambda: _with('"seed":', '"sesame":1,"seed":'),
    "a value of another type": lambda: _with('"threads":2', '"threads":"many"'),
    "a value out of bounds": lambda: _with('"epsilon":8.0', '"epsilon":-8.0'),
    "a reference to the environment": lambda: _with('"name":"phantom"', '"name":"${oc.env:HOME}"'),
    "a part that is not named": lambda: _with('"cohort":{"phantom":', '"cohort":{"manifest":{},"phantom":'),
}


@pytest.mark.parametrize("forgery", FORGERIES)
def test_json_of_no_valid_experiment_is_refused_in_one_line(forgery: str) -> None:
    with pytest.raises(UsageError) as refused:
        from_json(FORGERIES[forgery](), groups=GROUPS)
    assert "\n" not in str(refused.value)
