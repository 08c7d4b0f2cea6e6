import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthesis.canonical import dumps, loads

values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(exclude_categories=["Cs"])),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(st.characters(exclude_categories=["Cs"])), inner),
)


@settings(deadline=None)
@given(values)
def test_canonical_json_reads_back_as_it_was(value: object) -> None:
    assert loads(dumps(value)) == value
    assert dumps(loads(dumps(value))) == dumps(value)


def test_the_order_of_keys_leaves_no_trace() -> None:
    assert dumps({"b": 1, "a": {"d": 2, "c": 3}}) == b'{"a":{"c":3,"d":2},"b":1}'


@pytest.mark.parametrize(
    ("raw", "says"),
    [
        (b'{"a":1,"a":2}', "'a' is written twice"),
        (b'{"x":{"a":1,"a":1}}', "'a' is written twice"),
        (b"NaN", "NaN is not a number"),
        (b"[Infinity]", "Infinity is not a number"),
        (b"-Infinity", "-Infinity is not a number"),
        (b"1e999", "1e999 is not a finite number"),
        (b"1 2", "Extra data"),
        (b"{", "Expecting"),
        (b"", "Expecting"),
        (b"\xff", "decode"),
        (b"\xef\xbb\xbf1", "BOM"),
        (b"[" * 100_000, "nested too deeply"),
        (b"9" * 5000, "integer string conversion"),
    ],
)
def test_text_that_can_be_read_in_two_ways_is_refused(raw: bytes, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        loads(raw)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800"])
def test_what_json_cannot_say_is_not_written(value: object) -> None:
    with pytest.raises(ValueError, match=r"JSON|surrogates"):
        dumps(value)
