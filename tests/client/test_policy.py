import dataclasses
from pathlib import Path
from typing import Any

import pytest
import yaml

from client.policy import read_site_file
from learning.messages import Code, Refusal
from privacy.mechanism import DpPlan, LaplacePlan
from tests.hospitals import PLAN, hospital, policy


def test_a_plan_at_the_bounds_is_admitted() -> None:
    own = policy(min_noise_multiplier=2.0, max_sampling_rate=0.5, max_clip_norm=1.001, max_steps=6)
    own.admit([PLAN, LaplacePlan(purpose="count", epsilon=0.1)])


@pytest.mark.parametrize(
    "laxer",
    [
        {"noise_multiplier": 0.49},
        {"noise_multiplier": 0.0},
        {"sampling_rate": 0.51},
        {"clip_norm": 1.1},
        {"steps": 101},
    ],
    ids=str,
)
def test_a_server_that_asks_for_less_protection_than_the_policy_is_refused(laxer: dict[str, Any]) -> None:
    with pytest.raises(Refusal, match="laxer") as refusal:
        policy().admit([PLAN, dataclasses.replace(PLAN, **laxer)])
    assert refusal.value.code is Code.REFUSED_POLICY


def test_a_part_that_is_not_named_may_not_run() -> None:
    policy().allow("learner", "tiny")
    with pytest.raises(Refusal, match="not among"):
        policy().allow("generator", "tiny")


def test_a_site_file_comes_back_as_it_was_written(tmp_path: Path) -> None:
    site = hospital(tmp_path)
    assert read_site_file(site.folder / "site.yaml") == site.file


def test_a_site_file_from_before_there_were_groups_tells_none_apart(tmp_path: Path) -> None:
    path = changed(hospital(tmp_path, groups={"sex": ("female", "male")}).folder, "policy", "groups", value=None)
    assert read_site_file(path).policy == policy(groups={})


def changed(folder: Path, *path: str, value: Any) -> Path:
    document = yaml.safe_load((folder / "site.yaml").read_text())
    place = document
    for key in path[:-1]:
        place = place[key]
    if value is None:
        del place[path[-1]]
    else:
        place[path[-1]] = value
    (folder / "site.yaml").write_text(yaml.safe_dump(document))
    return folder / "site.yaml"


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        (("polcy",), {}, "unknown field 'polcy'"),
        (("policy", "epsilon_cap"), None, "'epsilon_cap' is missing"),
        (("policy", "epsilon_cap"), "8", "epsilon_cap must be a number"),
        (("policy", "epsilon_cap"), -1.0, "epsilon_cap=-1.0 must lie between"),
        (("policy", "epsilon_cap"), float("nan"), "epsilon_cap must be a finite number"),
        (("policy", "delta_cap"), 1.0, "delta_cap=1.0"),
        (("policy", "groups"), {"sex": ["Jane Doe"]}, "'Jane Doe' of 'sex' must match"),
        (("policy", "groups"), {"sex": []}, "sex must list different words"),
        (("policy", "groups"), {"sex": "female"}, "groups.sex must be a list"),
        (("policy", "min_noise_multiplier"), 0.0, "min_noise_multiplier=0.0"),
        (("policy", "max_sampling_rate"), 1.5, "max_sampling_rate=1.5"),
        (("policy", "allow_scores"), "yes please", "allow_scores must be bool"),
        (("policy", "min_cell"), 0, "min_cell=0 must be at least 1"),
        (("policy", "learners"), "tiny", "learners must be a list"),
        (("policy", "account"), None, "'account' is missing"),
        (("policy", "account", "composition"), "better of two", "is not one of 'basic', 'renyi'"),
        (("policy", "account", "per_purpose"), {"fun": 1.0}, "'fun' is not one of"),
        (("policy", "account", "per_run"), -1.0, "per_run=-1.0"),
        (("policy", "account", "officer"), "AAAA", "32 bytes in base64"),
        (("name",), "../x", "must match"),
        (("public_subjects",), 0, "public_subjects=0"),
        (("engine",), "ghost", "engine='ghost' must be one of auto, bookkeeping, hooks"),
        (("cohort",), [1], "'cohort'"),
        (("cohort", "reader"), None, "must name its reader"),
    ],
    ids=str,
)
def test_a_site_file_with_a_mistake_names_file_key_and_value(
    tmp_path: Path, path: tuple[str, ...], value: Any, words: str
) -> None:
    file = changed(hospital(tmp_path).folder, *path, value=value)
    with pytest.raises(ValueError, match=r"site\.yaml") as error:
        read_site_file(file)
    assert words in str(error.value)


@pytest.mark.parametrize("text", ["", "a: [", "!!python/object/apply:os.system ['true']", "\x00"])
def test_what_is_no_yaml_mapping_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "site.yaml").write_text(text)
    with pytest.raises(ValueError, match=r"site\.yaml"):
        read_site_file(tmp_path / "site.yaml")


def test_noise_multiplier_zero_can_never_be_admitted() -> None:
    with pytest.raises(ValueError, match="min_noise_multiplier"):
        policy(min_noise_multiplier=0.0)
    assert isinstance(PLAN, DpPlan)
