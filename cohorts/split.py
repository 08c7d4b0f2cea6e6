"""Members, calibration and test: which subjects teach, which set thresholds, which judge.

Each subject draws its own lot from a keyed hash, so the split is fixed before anything runs, is the same in every run,
and no subject's lot depends on who else is in the cohort: the fair coin an audit of membership needs (Steinke et al.
2023, arXiv:2305.08846). The price is that sizes are binomial, not exact.
"""

from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType

from cohorts.deidentify import keyed_digest
from cohorts.study import Cohort, SubjectKey


class Split(StrEnum):
    """What a subject is for: training (one half), setting thresholds (a quarter), judging (a quarter)."""

    MEMBERS = "members"
    CALIBRATION = "calibration"
    TEST = "test"


LOTS = (Split.MEMBERS, Split.MEMBERS, Split.CALIBRATION, Split.TEST)  # two bits of the digest choose one


def split_of(subject: SubjectKey, *, key: bytes) -> Split:
    """Return the one split of `subject` under the site's `key` (at least 16 bytes)."""
    return LOTS[keyed_digest(key, "pericard/split", subject)[0] % len(LOTS)]


def splits(cohort: Cohort, *, key: bytes) -> Mapping[Split, tuple[SubjectKey, ...]]:
    """Return every split with its subjects, in the order of the cohort; a split may be empty."""
    lots = {subject: split_of(subject, key=key) for subject in cohort.subjects}
    return MappingProxyType({split: tuple(s for s in cohort.subjects if lots[s] is split) for split in Split})
