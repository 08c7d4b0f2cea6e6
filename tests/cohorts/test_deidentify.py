import hashlib
import hmac

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cohorts.deidentify import KEY_BYTES_MIN, Pseudonyms

KEY = b"the key of site a stays there"
RAW = st.text(min_size=1).filter(lambda raw: bool(raw.strip()))


def test_a_pseudonym_is_the_published_construction():
    expected = hmac.new(KEY, b"pericard/subject\0patient0001", hashlib.sha256).hexdigest()[:16]
    assert Pseudonyms(KEY).subject("patient0001") == expected


@given(raw=RAW)
def test_the_same_key_gives_the_same_pseudonym(raw):
    assert Pseudonyms(KEY).subject(raw) == Pseudonyms(bytes(KEY)).subject(raw)


@given(raw=RAW)
def test_a_pseudonym_is_sixteen_hex_digits_whatever_it_hides(raw):
    pseudonym = Pseudonyms(KEY).subject(raw)
    assert len(pseudonym) == 16
    assert set(pseudonym) <= set("0123456789abcdef")


@given(raw=RAW)
def test_two_sites_do_not_share_a_pseudonym(raw):
    assert Pseudonyms(KEY).subject(raw) != Pseudonyms(b"the key of site b stays there").subject(raw)


@given(raw=RAW)
def test_a_subject_and_a_study_of_one_name_have_two_pseudonyms(raw):
    assert Pseudonyms(KEY).subject(raw) != Pseudonyms(KEY).study(raw)


@given(raws=st.sets(RAW, max_size=200))
def test_two_people_do_not_share_a_pseudonym(raws):
    assert len({Pseudonyms(KEY).subject(raw) for raw in raws}) == len(raws)


def test_the_key_is_not_in_the_representation():
    assert "key of site" not in repr(Pseudonyms(KEY))


@pytest.mark.parametrize("key", [b"", b"short", bytes(KEY_BYTES_MIN - 1)])
def test_a_short_key_is_refused_with_its_length(key):
    with pytest.raises(ValueError, match=f"key has {len(key)} bytes, a keyed pseudonym needs at least 16"):
        Pseudonyms(key)


@pytest.mark.parametrize("raw", ["", "  ", "\t"])
def test_an_empty_identifier_is_refused(raw):
    with pytest.raises(ValueError, match=r"subject identifier .* is empty"):
        Pseudonyms(KEY).subject(raw)
