"""Keyed pseudonyms, and what may be kept of a header: identifiers end at the reader, before anything else sees a study.

A plain digest of a patient number is no pseudonym: numbers are few, so whoever has the digest tries them all. With a
key that stays at the site the same search needs the key (ENISA 2019, "Pseudonymisation techniques and best practices",
section 5). Pseudonymised is still personal: nothing made here may leave the site.

The header lists follow DICOM PS3.15 table E.1-1, turned round: the basic profile says what to take away, `TECHNICAL`
says what may stay, and an element on no list is not even read.
"""

import hashlib
import hmac
import re
import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from cohorts.study import StudyKey, SubjectKey

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.ciphers.aead import AESSIV
    from pydicom import Dataset

KEY_BYTES_MIN = 16
PSEUDONYM_HEX = 16  # 64 bits: two of a million subjects meet with probability 3e-8

_TECHNICAL = """
    Modality SOPClassUID Rows Columns NumberOfFrames SamplesPerPixel PhotometricInterpretation PlanarConfiguration
    BitsAllocated BitsStored PixelRepresentation RescaleSlope RescaleIntercept PixelSpacing FrameTime FrameTimeVector
    CineRate RecommendedDisplayFrameRate SequenceOfUltrasoundRegions ViewCodeSequence InstanceNumber TriggerTime
    ImagePositionPatient ImageOrientationPatient Manufacturer
"""
_IDENTIFYING = """
    PatientID IssuerOfPatientID StudyInstanceUID SeriesInstanceUID SOPInstanceUID PatientName OtherPatientIDs
    OtherPatientNames PatientBirthName PatientMotherBirthName PatientBirthDate PatientAddress PatientTelephoneNumbers
    MedicalRecordLocator AccessionNumber StudyID AdmissionID InstitutionName InstitutionAddress
    InstitutionalDepartmentName StationName DeviceSerialNumber ReferringPhysicianName ConsultingPhysicianName
    PerformingPhysicianName PhysiciansOfRecord NameOfPhysiciansReadingStudy RequestingPhysician OperatorsName
    ResponsiblePerson StudyDate SeriesDate AcquisitionDate ContentDate AcquisitionDateTime RequestedProcedureID
    PerformedProcedureStepID FillerOrderNumberImagingServiceRequest
"""
TECHNICAL = frozenset(_TECHNICAL.split())  # how an image was taken and how it is stored
FREE_TEXT = ("SeriesDescription", "ProtocolName")  # looked through for a short axis, never kept
CLAIMS = ("PatientIdentityRemoved", "BurnedInAnnotation", "DeidentificationMethodCodeSequence")
IDENTIFYING = tuple(
    _IDENTIFYING.split()
)  # read to be kept out of messages; three of them tell people and studies apart
METHODS = {  # PS3.16 CID 7050: what a file may claim was done to it
    "113100": "basic application confidentiality profile",
    "113101": "clean pixel data",
    "113102": "clean recognisable visual features",
    "113103": "clean graphics",
    "113104": "clean structured content",
    "113105": "clean descriptors",
    "113106": "longitudinal temporal information with full dates kept",
    "113107": "longitudinal temporal information with modified dates kept",
    "113108": "patient characteristics kept",
    "113109": "device identity kept",
    "113110": "UIDs kept",
    "113111": "private elements kept where safe",
    "113112": "institution identity kept",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Claims:
    """What a file says of its own de-identification: a claim, which the gate does not believe without looking.

    Attributes:
        identity_removed: `PatientIdentityRemoved` is YES, is NO, or nothing is said.
        burned_in: `BurnedInAnnotation` is YES, is NO, or nothing is said.
        methods: codes of `METHODS`.
    """

    identity_removed: bool | None
    burned_in: bool | None
    methods: tuple[str, ...]


def claims_of(dataset: "Dataset") -> Claims:
    """Return what `dataset` claims; an unknown word or code claims nothing."""
    words = {"YES": True, "NO": False}
    removed, burned = (words.get(str(dataset.get(name) or "").strip().upper()) for name in CLAIMS[:2])
    codes = (str(item.get("CodeValue", "")).strip() for item in dataset.get(CLAIMS[2]) or ())
    return Claims(
        identity_removed=removed,
        burned_in=burned,
        methods=tuple(sorted({code for code in codes if code in METHODS})),
    )


def redact(text: str, identifiers: Iterable[str]) -> str:
    """Put … for every identifier in `text`, and for every part of one, whatever its case and its separators.

    Parts are what stands between blanks and punctuation; those of one character are left, or nothing would be. Dates
    are looked for in both orders. What is written otherwise than in the header is not found.
    """
    parts: set[str] = set()
    for identifier in identifiers:
        whole = unicodedata.normalize("NFC", identifier)
        found = [re.sub(r"[\W_]+", "", whole), *re.split(r"[\W_]+", whole)]
        if re.fullmatch(r"\d{8}.*", found[0]):
            found += [found[0][:8], found[0][6:8] + found[0][4:6] + found[0][:4]]
        parts |= {part for part in found if len(part) > 1}
    clean = unicodedata.normalize("NFC", text)
    bare = re.sub(r"[\W_]+", "", clean).casefold()  # most identifiers of a folder are in no path: those cost nothing
    for part in sorted((p for p in parts if p.casefold() in bare), key=lambda part: (-len(part), part)):
        clean = re.sub(r"[\W_]?".join(map(re.escape, part)), "…", clean, flags=re.IGNORECASE)
    return clean


class Pseudonyms:
    """Replaces identifiers by HMAC-SHA256 under one site's key, truncated to 64 bits (RFC 2104, section 5).

    The same key gives the same pseudonym in every run; under two keys the pseudonyms of one person do not match, so
    sites cannot be joined by them. Subjects and studies are named in separate domains.
    """

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        _require_key(key)
        self._key = key

    def __repr__(self) -> str:
        return "Pseudonyms(key=…)"

    def subject(self, raw: str) -> SubjectKey:
        """Return the pseudonym of the person whom the site calls `raw`."""
        return SubjectKey(self._of("subject", raw))

    def study(self, raw: str) -> StudyKey:
        """Return the pseudonym of the examination that the site calls `raw`."""
        return StudyKey(self._of("study", raw))

    def of_file(self, facts: str) -> str:
        """Return the name of a file in a cache: 128 bits of a keyed digest of what tells it apart."""
        return keyed_digest(self._key, "pericard/file", facts).hex()[: 2 * PSEUDONYM_HEX]

    def seal(self, text: str, *, about: str) -> str:
        """Encrypt `text` under the site's key, the same each time (AES-SIV, RFC 5297), for a cache that stays there.

        `about` is what the text belongs to; it opens nothing else.
        """
        return self._cipher().encrypt(text.encode(), [about.encode()]).hex()

    def unseal(self, sealed: str, *, about: str) -> str:
        """Return what `seal` was given; raises `ValueError` where another key or another hand wrote it."""
        from cryptography.exceptions import InvalidTag

        try:
            return self._cipher().decrypt(bytes.fromhex(sealed), [about.encode()]).decode()
        except InvalidTag:
            raise ValueError("was not sealed under this key") from None

    def _cipher(self) -> "AESSIV":
        from cryptography.hazmat.primitives.ciphers.aead import AESSIV

        return AESSIV(keyed_digest(self._key, "pericard/seal", ""))

    def _of(self, domain: str, raw: str) -> str:
        if not raw.strip():
            raise ValueError(f"the {domain} identifier {raw!r} is empty; a pseudonym needs at least one character")
        return keyed_digest(self._key, f"pericard/{domain}", raw).hex()[:PSEUDONYM_HEX]


def keyed_digest(key: bytes, domain: str, message: str) -> bytes:
    """Return HMAC-SHA256 of `message` under `key`: 32 bytes that mean nothing in another `domain`."""
    _require_key(key)
    return hmac.new(key, f"{domain}\0{message}".encode(), hashlib.sha256).digest()


def _require_key(key: bytes) -> None:
    if len(key) < KEY_BYTES_MIN:
        raise ValueError(f"key has {len(key)} bytes, a keyed pseudonym needs at least {KEY_BYTES_MIN}")
