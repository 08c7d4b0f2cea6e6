"""The honest machinery is not refuted by its own canaries, and each known way to break it is."""

import pytest

from benchmarks import audit_self
from benchmarks.audit_self import DELTA, Case
from privacy.mechanism import epsilon

HONEST = audit_self.honest_cases()
MUTANTS = audit_self.mutants()


@pytest.mark.parametrize("case", HONEST, ids=[case.name for case in HONEST])
def test_canaries_prove_less_than_the_honest_machinery_claims(case: Case) -> None:
    claimed = epsilon([case.plan], DELTA)
    assert 0 < case.audit(case.plan, 100, case.broken) <= claimed


@pytest.mark.parametrize("mutant", MUTANTS, ids=[mutant.name for mutant in MUTANTS])
def test_canaries_refute_what_broken_machinery_claims(mutant: Case) -> None:
    assert mutant.audit(mutant.plan, 100, mutant.broken) > epsilon([mutant.plan], DELTA)


def test_averaging_over_who_was_drawn_shows_in_the_size_of_the_noise() -> None:
    plan = audit_self.plan_of(1.0, 2.0, steps=1)
    claimed = epsilon([plan], DELTA)
    assert audit_self.audit_denominator(plan, 7, audit_self.nothing, runs=60) <= claimed
    assert audit_self.audit_denominator(plan, 7, audit_self.realised_batch, runs=60) > claimed
