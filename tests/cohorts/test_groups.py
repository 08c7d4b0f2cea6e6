"""What a cell of a table may become: a listed word, a listed band, or nothing."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cohorts.groups import check, group_of

BANDS = ("18-39", "40-64", "65-120")


@pytest.mark.parametrize(
    ("cell", "listed", "word"),
    [
        ("female", ("female", "male"), "female"), (" male ", ("female", "male"), "male"),
        ("Female", ("female", "male"), ""), ("", ("female",), ""),
        ("18", BANDS, "18-39"), ("39.9", BANDS, "18-39"), ("64", BANDS, "40-64"), ("65.0", BANDS, "65-120"),
        ("40-64", BANDS, "40-64"), ("50-59", BANDS, "40-64"), ("60-69", BANDS, ""),
        ("59-50", BANDS, ""), ("17", BANDS, ""), ("121", BANDS, ""), ("nan", BANDS, ""), ("inf", BANDS, ""),
        ("unknown", BANDS, ""), ("50", ("female", "male"), ""),
    ],
)  # fmt: skip
def test_a_cell_becomes_its_word_or_its_band_or_nothing(cell, listed, word):
    assert group_of(cell, listed) == word


@given(cell=st.text(max_size=40))
def test_whatever_a_table_says_only_listed_words_come_out(cell):
    assert group_of(cell, ("female", *BANDS)) in ("", "female", *BANDS)


@pytest.mark.parametrize(
    ("column", "listed"),
    [
        ("sex", ()), ("sex", ("f", "f")), ("sex", ("Jane Doe",)), ("sex", ("",)), ("", ("f",)), ("sex", ("x" * 33,)),
        ("sex", ("65+",)), ("sex", (1,)),
    ],
    ids=str,
)  # fmt: skip
def test_words_that_are_no_names_or_stand_twice_are_refused(column, listed):
    with pytest.raises(ValueError, match="groups: "):
        check(column, listed)
