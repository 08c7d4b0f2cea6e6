from pathlib import Path

import pytest

from privacy.coverage import STEPS, Cost, Reads, formal, page, uncovered

PIPELINE = (
    "cohort", "split", "normalisation.constant", "prior.public", "train.views", "train.generator", "aggregate.public",
    "checkpoint.last", "hyperparameters.public", "labels.public", "conditions.public", "sampling", "embedding.public",
    "screening.self_similarity", "screening.view", "attack.disclosure", "scores.test", "reference.local",
    "reference.federated", "statistics.declared", "report.phantom", "failures",
)  # fmt: skip


def test_the_page_is_made_from_the_table() -> None:
    stored = Path(__file__).parents[2] / "docs" / "epsilon-coverage.md"
    assert stored.read_text(encoding="utf-8") == page()


def test_the_pipeline_may_claim_its_epsilon() -> None:
    assert formal(PIPELINE) == []


@pytest.mark.parametrize("name", [name for name, step in STEPS.items() if step.cost is Cost.BLOCKS])
def test_one_blocking_step_forbids_the_claim(name: str) -> None:
    problems = formal([*PIPELINE, name])
    assert len(problems) == 1
    assert problems[0].startswith(name)


def test_a_step_nobody_listed_forbids_the_claim() -> None:
    assert formal([*PIPELINE, "train.video"]) == ["step 'train.video' is not in the coverage table"]
    with pytest.raises(ValueError, match=r"train\.video"):
        uncovered([*PIPELINE, "train.video"])


def test_without_steps_nothing_can_be_claimed() -> None:
    assert len(formal([])) == 1


def test_what_stands_beside_the_release_is_said() -> None:
    said = uncovered(PIPELINE)
    assert len(said) == 5
    assert any("test subjects" in one for one in said)
    assert not uncovered(["train.generator", "sampling"])


def test_whoever_opens_members_records_is_charged_flagged_or_blocked() -> None:
    for name, step in STEPS.items():
        assert step.cost is not Cost.FREE or step.reads in (Reads.NOBODY, Reads.OWN), name
        assert step.cost is not Cost.CHARGED or step.reads is Reads.MEMBERS, name


def test_every_row_is_one_line_of_a_table() -> None:
    for step in STEPS.values():
        assert "|" not in step.what + step.rule
        assert "\n" not in step.what + step.rule
