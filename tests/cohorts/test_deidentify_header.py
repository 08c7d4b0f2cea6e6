"""What may be kept of a header, and what must not reach a message (DICOM PS3.15 table E.1-1)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydicom.datadict import dictionary_VR, keyword_dict
from pydicom.dataset import Dataset

from cohorts.deidentify import CLAIMS, FREE_TEXT, IDENTIFYING, METHODS, TECHNICAL, Pseudonyms, claims_of, redact

KEY, OTHER = b"the key of site a stays there", b"the key of site b stays there"


def test_every_element_on_a_list_is_one_of_dicom_and_on_one_list_only():
    every = [*TECHNICAL, *FREE_TEXT, *CLAIMS, *IDENTIFYING]
    assert len(set(every)) == len(every)
    assert set(every) <= set(keyword_dict)


def test_no_name_date_time_or_address_may_stay():
    kinds = {dictionary_VR(keyword) for keyword in TECHNICAL}
    assert not kinds & {"PN", "DA", "DT", "TM", "AE", "LT", "ST", "UT", "UN"}
    assert {dictionary_VR(k) for k in ("PatientName", "StudyDate")} == {"PN", "DA"}


@pytest.mark.parametrize(
    ("path", "identifiers", "said"),
    [
        ("a/Smith_JOHN/1.dcm", ["SMITH^JOHN"], "a/…/1.dcm"),
        ("a/smithjohn.dcm", ["Smith^John"], "a/….dcm"),
        ("a/pat-40-213/1.dcm", ["40213"], "a/pat-…/1.dcm"),
        ("a/2012-01-31/x", ["20120131"], "a/…/x"),
        ("a/31.01.2012/x", ["20120131"], "a/…/x"),
        ("a/mu\u0308ller/x", ["M\u00fcller"], "a/…/x"),
        ("a/plain/x", [], "a/plain/x"),
        ("a/plain/x", ["", "^", "Q"], "a/plain/x"),
    ],
)
def test_identifiers_become_dots_whatever_their_case_and_separators(path, identifiers, said):
    assert redact(path, identifiers) == said


@given(name=st.text("abcXYZ019", min_size=2, max_size=12), before=st.text("-/_.", max_size=3))
def test_no_identifier_survives(name, before):
    assert name.lower() not in redact(f"{before}{name.upper()}/x/{name}.dcm", [name]).lower()


def test_what_a_file_claims_is_read_and_strange_claims_are_none():
    dataset, code, strange = Dataset(), Dataset(), Dataset()
    assert claims_of(dataset).identity_removed is None
    code.CodeValue, strange.CodeValue = "113101", "999"
    dataset.PatientIdentityRemoved, dataset.BurnedInAnnotation = "YES", "PERHAPS"
    dataset.DeidentificationMethodCodeSequence = [code, strange]
    claims = claims_of(dataset)
    assert (claims.identity_removed, claims.burned_in, claims.methods) == (True, None, ("113101",))
    assert METHODS["113101"] == "clean pixel data"


@given(text=st.text(max_size=40))
def test_what_is_sealed_is_opened_by_its_key_for_its_file_alone(text):
    sealed = Pseudonyms(KEY).seal(text, about="a")
    assert Pseudonyms(KEY).unseal(sealed, about="a") == text
    assert sealed == Pseudonyms(KEY).seal(text, about="a")
    for who, about in ((KEY, "b"), (OTHER, "a")):
        with pytest.raises(ValueError, match="not sealed"):
            Pseudonyms(who).unseal(sealed, about=about)


@pytest.mark.parametrize("sealed", ["", "zz", "00", "00" * 40])
def test_what_nobody_sealed_is_refused(sealed):
    with pytest.raises(ValueError, match=r"sealed|hex|empty|.*"):
        Pseudonyms(KEY).unseal(sealed, about="a")
