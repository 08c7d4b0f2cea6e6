import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cohorts import partition
from cohorts.partition import (
    RULES,
    Condition,
    Partition,
    SiteRule,
    by_column,
    by_columns,
    by_dirichlet,
    by_quantity,
)  # fmt: skip
from cohorts.study import UnreadableStudy

GOOD_FIRST = (
    SiteRule(site="a", where=(Condition(column="quality", one_of=("Good",)),)),
    SiteRule(site="b", where=(Condition(column="rate", at_least=56.0),)),
    SiteRule(site="c"),
)
CELLS = st.fixed_dictionaries(
    {"quality": st.sampled_from(["Good", "Medium", "Poor"]), "rate": st.floats(20, 80).map(lambda x: f"{x:.1f}")}
)
WORD = st.text(min_size=1, max_size=8)


def columns_of(**subjects):
    return {raw: {"quality": quality, "rate": str(rate)} for raw, (quality, rate) in subjects.items()}


def test_a_subject_goes_to_the_first_site_that_takes_it():
    columns = columns_of(p1=("Good", 70), p2=("Poor", 56.0), p3=("Poor", 55.9))
    assert by_columns(columns, GOOD_FIRST).sites == {"a": ("p1",), "b": ("p2",), "c": ("p3",)}


def test_rules_say_which_columns_a_reader_must_keep():
    assert partition.columns_of(GOOD_FIRST) == ("quality", "rate")
    assert partition.columns_of(RULES["quality_and_rate"]) == ("image_quality_4ch", "frame_rate_hz_4ch")


def test_several_conditions_must_all_hold_and_below_is_exclusive():
    rules = (
        SiteRule(
            site="slow-good",
            where=(Condition(column="rate", below=50.0), Condition(column="quality", one_of=("Good", "Medium"))),
        ),
        SiteRule(site="rest"),
    )
    columns = columns_of(p1=("Good", 49.9), p2=("Medium", 50), p3=("Poor", 40))
    assert by_columns(columns, rules).sites == {"slow-good": ("p1",), "rest": ("p2", "p3")}


@given(columns=st.dictionaries(WORD, CELLS, min_size=1))
def test_every_subject_is_at_exactly_one_site(columns):
    rules = (SiteRule(site="all"),)
    assert by_columns(columns, rules).sites["all"] == tuple(sorted(columns))
    parts = by_column(columns, "quality").sites
    assert sorted(raw for subjects in parts.values() for raw in subjects) == sorted(columns)


def test_records_of_one_person_stay_together_whatever_their_columns_say():
    columns = columns_of(p0=("Good", 50), p1=("Medium", 50), p2=("Medium", 70), p3=("Poor", 50), p4=("Medium", 60))
    alone, together = (by_columns(columns, GOOD_FIRST, same_subject=s) for s in ((), (("p2", "p1"),)))
    assert alone.sites == {"a": ("p0",), "b": ("p2", "p4"), "c": ("p1", "p3")}
    assert together.sites == {"a": ("p0",), "b": ("p4",), "c": ("p1", "p2", "p3")}


def test_a_group_stays_together_even_if_some_of_its_records_are_elsewhere():
    columns = columns_of(p2=("Good", 50), p3=("Poor", 70))
    parts = by_columns(columns, (GOOD_FIRST[0],), same_subject=(("p1", "p2", "p3"),))
    assert parts.sites == {"a": ("p2", "p3")}


def test_the_rule_for_camus_uses_image_quality_and_frame_rate():
    columns = {
        raw: {"image_quality_4ch": quality, "frame_rate_hz_4ch": rate}
        for raw, quality, rate in (("p1", "Good", "40"), ("p2", "Medium", "56.5"), ("p3", "Poor", "55.4"))
    }
    sites = by_columns(columns, RULES["quality_and_rate"]).sites
    assert sites == {"site-a": ("p1",), "site-b": ("p2",), "site-c": ("p3",)}


@given(sites=st.dictionaries(WORD, st.sets(WORD, min_size=1), min_size=1))
def test_reading_gives_back_what_was_written(tmp_path_factory, sites):
    taken = {subject: site for site, subjects in sites.items() for subject in subjects}
    owned = {site: tuple(s for s in taken if taken[s] == site) for site in set(taken.values())}
    path = tmp_path_factory.mktemp("p") / "partition.json"
    Partition(sites=owned).write(path)
    assert partition.read(path) == Partition(sites=owned)


def test_a_site_can_be_given_its_own_subjects_and_no_others():
    whole = Partition(sites={"a": ("p2", "p1"), "b": ("p3",)})
    assert whole.only("a").sites == {"a": ("p1", "p2")}
    with pytest.raises(ValueError, match=r"unknown site 'z'; the partition has: a, b"):
        whole.only("z")


def test_a_subject_at_two_sites_is_refused():
    with pytest.raises(ValueError, match="subject 'p1' is at two sites, 'a' and 'b'"):
        Partition(sites={"a": ("p1",), "b": ("p1",)})


def test_an_empty_site_is_refused():
    with pytest.raises(ValueError, match="site 'b' has no subjects"):
        by_columns(columns_of(p1=("Good", 50), p2=("Poor", 50)), GOOD_FIRST)


def test_a_subject_that_no_rule_takes_is_refused():
    with pytest.raises(ValueError, match="no rule takes subject 'p2'"):
        by_columns(columns_of(p1=("Good", 50), p2=("Poor", 50)), GOOD_FIRST[:1])


def test_a_missing_column_is_refused_with_those_there_are():
    with pytest.raises(ValueError, match="no column 'quality' to partition by; there are: age, sex"):
        by_columns({"p1": {"sex": "f", "age": "5"}}, GOOD_FIRST)
    with pytest.raises(ValueError, match="subject 'p1' has no 'quality' to name its site by; it has: age, sex"):
        by_column({"p1": {"sex": "f", "age": "5"}}, "quality")


def test_a_word_where_a_number_is_compared_is_refused():
    with pytest.raises(ValueError, match="rate='fast' is not a number"):
        by_columns(columns_of(p1=("Poor", "fast")), GOOD_FIRST)


@pytest.mark.parametrize("bounds", [{}, {"one_of": ("x",), "below": 1.0}])
def test_a_condition_is_words_or_a_range_never_both_or_neither(bounds):
    with pytest.raises(ValueError, match="needs either one_of or a range"):
        Condition(column="x", **bounds)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "Expecting property name"),
        ("[]", "is not a pericard.partition.v1"),
        (json.dumps({"schema": "other", "sites": {}}), "is not a pericard.partition.v1"),
        (json.dumps({"schema": partition.SCHEMA, "sites": {}}), "sites must map each site"),
        (json.dumps({"schema": partition.SCHEMA, "sites": {"a": [1]}}), "sites must map each site"),
        (json.dumps({"schema": partition.SCHEMA, "sites": {"a": []}}), "site 'a' has no subjects"),
        ("\xff", "codec can't decode"),
    ],
)
def test_a_broken_partition_file_is_refused_by_name(tmp_path, text, reason):
    path = tmp_path / "partition.json"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UnreadableStudy, match=reason) as caught:
        partition.read(path)
    assert str(path) in str(caught.value)


def test_a_missing_partition_file_is_refused_by_name(tmp_path):
    with pytest.raises(UnreadableStudy, match="no such partition file"):
        partition.read(tmp_path / "partition.json")


def people(n, values=("a", "b", "c")):
    return {f"p{k:03d}": {"label": values[k % len(values)]} for k in range(n)}


SITES = ("north", "south", "east", "west")


@given(
    n=st.integers(4, 60),
    alpha=st.floats(0.01, 100),
    seed=st.integers(0, 2**32),
    twins=st.lists(st.integers(0, 3), max_size=3, unique=True),
)
@settings(max_examples=60, deadline=None)
def test_a_skewed_partition_loses_nobody_parts_nobody_and_leaves_no_site_empty(n, alpha, seed, twins):
    same = [[f"p{k:03d}" for k in twins]] if len(twins) > 1 and n - len(twins) + 1 >= 4 else []
    for divided in (
        by_dirichlet(people(n), "label", sites=SITES, alpha=alpha, seed=seed, same_subject=same),
        by_quantity(people(n), sites=SITES, alpha=alpha, seed=seed, same_subject=same),
    ):
        assert sorted(raw for raws in divided.sites.values() for raw in raws) == sorted(people(n))
        assert set(divided.sites) == set(SITES)
        for group in same:
            assert sum(bool(set(group) & set(raws)) for raws in divided.sites.values()) == 1


def test_the_same_seed_gives_the_same_sites_and_another_seed_others():
    one, same, other = (by_dirichlet(people(60), "label", sites=SITES, alpha=0.5, seed=s) for s in (1, 1, 2))
    assert one == same
    assert one != other


def labels_at(divided, columns):
    return np.array([[sum(columns[r]["label"] == v for r in raws) for v in "abc"] for raws in divided.sites.values()])


def test_a_small_alpha_parts_the_labels_and_a_large_one_mixes_them():
    columns = people(600)
    apart, mixed = (
        labels_at(by_dirichlet(columns, "label", sites=SITES, alpha=a, seed=4), columns) for a in (0.05, 1000)
    )
    assert (apart.max(0) / apart.sum(0)).min() > 0.6
    assert (mixed.max(0) / mixed.sum(0)).max() < 0.3


def test_quantity_skew_changes_sizes_and_not_who_comes():
    columns = people(600)
    divided = by_quantity(columns, sites=SITES, alpha=0.5, seed=1)
    counts = labels_at(divided, columns)
    assert counts.sum(1).max() > 2 * counts.sum(1).min()
    shares = counts / counts.sum(1, keepdims=True)
    assert np.abs(shares[counts.sum(1) > 60] - 1 / 3).max() < 0.12


def test_a_skew_that_cannot_be_is_refused_with_the_bound():
    with pytest.raises(ValueError, match=r"alpha=0 must be greater than 0"):
        by_quantity(people(9), sites=SITES, alpha=0, seed=1)
    with pytest.raises(ValueError, match="3 people cannot make 4 sites"):
        by_quantity(people(3), sites=SITES, alpha=1, seed=1)
    with pytest.raises(ValueError, match=r"'p000' has no 'device' to share out by"):
        by_dirichlet(people(9), "device", sites=SITES, alpha=1, seed=1)
