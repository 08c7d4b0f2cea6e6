"""The bytes of one DICOM file as elements, each checked when it is asked for; a file is hostile until parsed.

What is read of a header is bounded, a deflated data set is refused before it is inflated, elements that nobody may ask
for are skipped by the parser, and what the parser says of a damaged file becomes one line without a value of it.
"""

import io
import logging
import math
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from PIL import Image

from cohorts.deidentify import CLAIMS, FREE_TEXT, IDENTIFYING, TECHNICAL
from cohorts.study import UnreadableStudy

if TYPE_CHECKING:
    from pydicom import Dataset

HEADER_BYTES_MAX, ITEMS_MAX, NUMBERS_MAX = 2**23, 64, 2**16
_CAUSES = (  # what the parser raises over damaged bytes, found by damaging them
    OSError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    RuntimeError,  # too deep a nest, or a value of a kind that the parser does not know
    AssertionError,
    ArithmeticError,
    EOFError,
    SyntaxError,
    MemoryError,
    struct.error,
    Image.DecompressionBombError,
)


@contextmanager
def reasons(path: Path) -> Iterator[None]:
    """Turn whatever the library says of the bytes of `path` into one line, and its warnings into nothing."""
    from pydicom.errors import BytesLengthException, InvalidDicomError

    log = logging.getLogger("pydicom")
    before, log.disabled = log.disabled, True  # it would write values of the header to whoever listens
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except UnreadableStudy:
        raise
    except FileNotFoundError:
        raise UnreadableStudy(str(path), "no such file") from None
    except InvalidDicomError:
        raise UnreadableStudy(str(path), "is not a DICOM file") from None
    except (*_CAUSES, BytesLengthException) as error:
        raise UnreadableStudy(str(path), _line(error)) from None  # a chain would show values of the header
    finally:
        log.disabled = before


class _Bounded(io.RawIOBase):
    """A file that gives no more than `HEADER_BYTES_MAX` bytes, and never all at once, which inflating would need."""

    def __init__(self, file: BinaryIO) -> None:
        super().__init__()
        self._file, self._left = file, HEADER_BYTES_MAX

    def read(self, size: int = -1) -> bytes:
        if size is None or size < 0:
            raise ValueError("is deflated; inflate it first")
        if size > self._left:
            raise ValueError(f"has a header of more than {HEADER_BYTES_MAX} bytes")
        self._left -= size
        return self._file.read(size)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True


def parsed(file: BinaryIO) -> tuple["Dataset", int]:
    """Return the elements that may be asked for, and where in `file` the pixel data begins."""
    from pydicom.filereader import dcmread

    bounded = _Bounded(file)
    asked = sorted({*TECHNICAL, *FREE_TEXT, *IDENTIFYING, *CLAIMS})
    return dcmread(bounded, stop_before_pixels=True, specific_tags=asked), bounded.tell()


def identifiers(dataset: "Dataset") -> Iterator[str]:
    """Yield whatever the header says that must not reach a message."""
    from pydicom.errors import BytesLengthException

    for name in IDENTIFYING:
        try:
            value = dataset.get(name)
        except (*_CAUSES, BytesLengthException):
            continue  # what cannot be decoded cannot be looked for either
        for part in value if isinstance(value, (list, tuple)) or type(value).__name__ == "MultiValue" else (value,):
            if said := str(part or "").strip():
                yield said


def items(dataset: "Dataset", name: str) -> tuple["Dataset", ...]:
    """Return the first items of a sequence, none where it is absent; raises `ValueError` where it is no sequence."""
    found = dataset.get(name)
    if found is None:
        return ()
    if type(found).__name__ != "Sequence":
        raise ValueError(f"{name} is no sequence")
    return tuple(found)[:ITEMS_MAX]


def text(dataset: "Dataset", name: str) -> str:
    """Return a value as text without padding, "" where it is absent."""
    value = dataset.get(name)
    return "" if value is None else str(value).strip("\0 ")


def numbers(dataset: "Dataset", name: str) -> list[float]:
    """Return all values as numbers, none where they are absent; raises `ValueError` where one is not finite."""
    value = dataset.get(name)
    if value is None or value == "":
        return []
    several = value if not isinstance(value, (str, bytes, int, float)) and hasattr(value, "__len__") else [value]
    found = [float(each) for each in list(several)[:NUMBERS_MAX]]
    if not all(map(math.isfinite, found)):
        raise ValueError(f"{name} is not finite")
    return found


def number(dataset: "Dataset", name: str) -> float | None:
    """Return the first value as a number; raises `ValueError` where it is none."""
    found = numbers(dataset, name)
    return found[0] if found else None


def pair(dataset: "Dataset", name: str) -> tuple[float, float] | None:
    """Return two positive values, `None` where there are not two."""
    found = numbers(dataset, name)
    return (found[0], found[1]) if len(found) == 2 and min(found) > 0 else None


def whole(dataset: "Dataset", name: str, low: int, high: int) -> int | None:
    """Return the first value as a whole number; raises `ValueError` outside `low..high`."""
    found = number(dataset, name)
    if found is None:
        return None
    if found != int(found) or not low <= found <= high:
        raise ValueError(f"{name} is not a whole number in {low}..{high}")
    return int(found)


def _line(error: BaseException) -> str:
    """Say what is wrong without values of the header: only our own sentences are passed on."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    ours = type(error) is ValueError and error.__traceback__ is not None and _raised_here(error)
    return " ".join(str(error).split()) if ours else f"is damaged ({type(error).__name__})"


def _raised_here(error: BaseException) -> bool:
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    return trace is not None and str(trace.tb_frame.f_globals.get("__name__", "")).startswith("cohorts.")
