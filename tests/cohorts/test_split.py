import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cohorts.split import Split, split_of, splits
from cohorts.study import Cohort, Origin, SubjectKey

KEY = b"the key of site a stays there"
SUBJECTS = st.sets(st.text(min_size=1, max_size=20), max_size=60)


def cohort_of(subjects):
    return Cohort(subjects=tuple(sorted(SubjectKey(s) for s in subjects)), load=lambda _: (), origin=Origin.PHANTOM)


@given(subjects=SUBJECTS)
def test_a_subject_never_appears_in_two_splits_and_none_is_lost(subjects):
    cohort = cohort_of(subjects)
    parts = splits(cohort, key=KEY)
    assert set(parts) == set(Split)
    assert sorted(s for part in parts.values() for s in part) == sorted(cohort.subjects)


@given(subjects=SUBJECTS, others=SUBJECTS)
def test_a_subject_keeps_its_split_whoever_else_is_in_the_cohort(subjects, others):
    alone, together = splits(cohort_of(subjects), key=KEY), splits(cohort_of(subjects | others), key=KEY)
    for split in Split:
        assert set(alone[split]) == {s for s in together[split] if s in subjects}


def test_splits_are_the_same_in_every_run():
    names = [split_of(SubjectKey(f"{i:016x}"), key=KEY).value[0] for i in range(24)]
    assert "".join(names) == "cmmmtmmmmmmttmttmmmcmttm"


def test_half_are_members_and_a_quarter_each_calibration_and_test():
    n = 40_000
    parts = splits(cohort_of(f"{i:016x}" for i in range(n)), key=KEY)
    for split, p in ((Split.MEMBERS, 0.5), (Split.CALIBRATION, 0.25), (Split.TEST, 0.25)):
        assert abs(len(parts[split]) - n * p) < 4 * math.sqrt(n * p * (1 - p))


def test_counts_over_keys_spread_like_a_binomial_not_like_a_quota():
    n, keys = 100, 400
    cohort = cohort_of(f"{i:016x}" for i in range(n))
    members = [len(splits(cohort, key=i.to_bytes(16, "big"))[Split.MEMBERS]) for i in range(keys)]
    mean = sum(members) / keys
    variance = sum((m - mean) ** 2 for m in members) / (keys - 1)
    assert abs(mean - n / 2) < 4 * math.sqrt(n / 4 / keys)
    assert 0.7 < variance / (n / 4) < 1.4  # chi-square, 399 degrees of freedom: four standard deviations


def test_subjects_keep_the_order_of_the_cohort():
    parts = splits(cohort_of(f"{i:03d}" for i in range(50)), key=KEY)
    assert all(list(part) == sorted(part) for part in parts.values())


def test_the_splits_cannot_be_changed_afterwards():
    with pytest.raises(TypeError):
        splits(cohort_of({"a"}), key=KEY)[Split.MEMBERS] = ()


def test_a_short_key_is_refused():
    with pytest.raises(ValueError, match="key has 3 bytes"):
        split_of(SubjectKey("a"), key=b"key")
