"""Volumes of NIfTI-1 and MetaImage files: header first, then no byte more than the header promised.

NIfTI-1 (`.nii`, `.nii.gz`) is read after nifti.nimh.nih.gov/nifti-1, MetaImage (`.mhd` beside `.raw` or `.zraw`) after
itk.org/Wiki/MetaIO. Both store x fastest: arrays come as `(x, y[, z[, t]])`, as both formats count. The decoders are
our own, because a file is hostile until decoded: what it asks for is bounded before anything is decompressed, and a
MetaImage names no file outside its folder.
"""

import gzip
import math
import struct
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from cohorts.decode import reasons, require_modest
from cohorts.study import UnreadableStudy

SUFFIXES = (".nii.gz", ".nii", ".mhd")
OFFSET_MAX = 2**20  # of the voxels behind a NIfTI header: room for extensions, none for a bomb
TEXT_BYTES_MAX = 2**16
KINDS = {2: "u1", 4: "i2", 8: "i4", 16: "f4", 64: "f8", 256: "i1", 512: "u2", 768: "u4", 1024: "i8", 1280: "u8"}
ELEMENTS = {"UCHAR": "u1", "CHAR": "i1", "USHORT": "u2", "SHORT": "i2", "UINT": "u4", "INT": "i4", "FLOAT": "f4"}
MM_PER = {1: 1e3, 2: 1.0, 3: 1e-3}  # NIfTI codes of metre, millimetre, micrometre
SECONDS_PER = {8: 1.0, 16: 1e-3, 24: 1e-6}
LONGEST_FRAME = 0.2  # seconds; where a converter knew no frame time it wrote 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """What a header says.

    Attributes:
        shape: voxels along x, y and, where they are, z and time.
        mm: side of a voxel along x, y and z in millimetres, `None` where the header gives no length or no unit.
        frame_seconds: time from one volume of four axes to the next, `None` where it is not known.
        dtype: of the stored values.
        source: the file that holds them.
        offset: where in it they begin.
        packing: "" or "gzip" or "zlib".
        scale: slope and intercept, `None` where values are stored as they are.
    """

    shape: tuple[int, ...]
    mm: tuple[float, ...] | None
    frame_seconds: float | None
    dtype: np.dtype[Any]
    source: Path
    offset: int
    packing: str
    scale: tuple[float, float] | None

    def __post_init__(self) -> None:
        if not 2 <= len(self.shape) <= 4 or min(self.shape) < 1:
            raise ValueError(f"has shape {self.shape}; two to four axes of at least 1 are read")
        require_modest(math.prod(self.shape) * max(self.dtype.itemsize, 4 if self.scale else 1))


def grid_of(path: Path) -> Grid:
    """Read the header of `path`.

    Raises:
        UnreadableStudy: no such file, no header of either format, or it asks for more than is read.
    """
    with reasons(path):
        return _metaimage(path) if path.suffix.lower() == ".mhd" else _nifti(path)


def read_values(path: Path) -> NDArray[Any]:
    """Return the values of `path`, `(x, y[, z[, t]])`, scaled where its header says so, else of the stored type.

    Raises:
        UnreadableStudy: as `grid_of`; or the values end early, go on too long, or are not finite.
    """
    grid = grid_of(path)
    with reasons(path):
        n_bytes = math.prod(grid.shape) * grid.dtype.itemsize
        with _unpacked(grid) as file:
            file.read(grid.offset)
            content = file.read(n_bytes)
            if len(content) < n_bytes:
                raise ValueError(f"ends after {len(content)} of {n_bytes} bytes of values")
            if file.read(1):
                raise ValueError(f"goes on after the {n_bytes} bytes of values that its header promises")
        values: NDArray[Any] = np.frombuffer(content, grid.dtype).reshape(grid.shape, order="F")
        if grid.scale:
            values = values.astype(np.float32) * np.float32(grid.scale[0]) + np.float32(grid.scale[1])
        if values.dtype.kind == "f" and not np.isfinite(values).all():
            raise ValueError("holds values that are not finite")
        return values


def whole(values: NDArray[Any], low: int, high: int, what: str) -> NDArray[np.uint8]:
    """Return values that are whole numbers of `low..high`, whatever type stores them; else raise `ValueError`."""
    least, most = values.min(), values.max()
    if not (low <= least and most <= high):
        raise ValueError(f"holds {what} {least if least < low else most:g}; must lie in {low}..{high}")
    exact = values.astype(np.uint8)
    if values.dtype.kind == "f" and (exact != values).any():
        raise ValueError(f"holds {what} {values[exact != values][0]}, which is no whole number")
    return exact


def _nifti(path: Path) -> Grid:
    packing = "gzip" if path.name.lower().endswith(".gz") else ""
    with _opened(path, packing) as file:
        head = file.read(348)
    if len(head) < 348 or head[344:348] != b"n+1\0":
        raise ValueError("is not a NIfTI-1 file with its voxels in it")
    order = next((o for o in "<>" if struct.unpack(o + "i", head[:4])[0] == 348), "")
    if not order:
        raise ValueError("is not a NIfTI-1 file: its header has another size")
    axes, *shape = struct.unpack(order + "8h", head[40:56])
    code = struct.unpack(order + "h", head[70:72])[0]
    steps = struct.unpack(order + "8f", head[76:108])
    offset, slope, intercept = struct.unpack(order + "3f", head[108:120])
    if not 1 <= axes <= 7 or any(n != 1 for n in shape[4:axes]):
        raise ValueError(f"has shape {tuple(shape[: max(axes, 0)])}; two to four axes are read")
    if code not in KINDS:
        raise ValueError(f"stores values of type {code}; known: {', '.join(map(str, KINDS))}")
    if not 348 <= offset <= OFFSET_MAX:
        raise ValueError(f"its values begin at byte {offset:g}; must lie in 348..{OFFSET_MAX}")
    scaled = math.isfinite(slope) and math.isfinite(intercept) and slope != 0 and (slope, intercept) != (1, 0)
    frame = abs(steps[4]) * SECONDS_PER.get(head[123] & 0x38, 0.0)
    return Grid(
        shape=tuple(shape[: min(axes, 4)]),
        mm=_lengths(steps[1 : 1 + min(axes, 3)], MM_PER.get(head[123] & 7, 0.0)),
        frame_seconds=frame if axes >= 4 and 0 < frame <= LONGEST_FRAME else None,
        dtype=np.dtype(order + KINDS[code]),
        source=path,
        offset=int(offset),
        packing=packing,
        scale=(slope, intercept) if scaled else None,
    )


def _metaimage(path: Path) -> Grid:
    with path.open("rb") as file:
        lines = file.read(TEXT_BYTES_MAX).decode("ascii", "replace").splitlines()
    said = {key.strip(): value.strip() for key, found, value in (line.partition("=") for line in lines) if found}
    missing = [key for key in ("DimSize", "ElementType", "ElementDataFile") if not said.get(key)]
    if missing:
        raise ValueError(f"is not a MetaImage: it has no {missing[0]}")
    kind, beside = said["ElementType"].removeprefix("MET_"), said["ElementDataFile"]
    if kind not in ELEMENTS or said.get("ElementNumberOfChannels", "1") != "1":
        raise ValueError(f"ElementType={said['ElementType']} of several channels or unknown; known: {list(ELEMENTS)}")
    if Path(beside).name != beside or beside in ("LOCAL", "LIST", "..") or "%" in beside:
        raise ValueError(f"ElementDataFile={beside!r} must be one file beside it")
    if not path.with_name(beside).is_file():
        raise UnreadableStudy(str(path.with_name(beside)), "no such file")
    shape = tuple(int(n) for n in said["DimSize"].split())
    steps = tuple(float(n) for n in said.get("ElementSpacing", "").split())
    big = said.get("BinaryDataByteOrderMSB", said.get("ElementByteOrderMSB", "False")).lower() == "true"
    return Grid(
        shape=shape,
        mm=_lengths(steps[:3], 1.0) if len(steps) == len(shape) else None,
        frame_seconds=None,
        dtype=np.dtype((">" if big else "<") + ELEMENTS[kind]),
        source=path.with_name(beside),
        offset=0,
        packing="zlib" if said.get("CompressedData", "False").lower() == "true" else "",
        scale=None,
    )


def _lengths(steps: tuple[float, ...], unit: float) -> tuple[float, ...] | None:
    lengths = tuple(abs(step) * unit for step in steps)
    return lengths if lengths and all(0 < length < math.inf for length in lengths) else None


@contextmanager
def _opened(path: Path, packing: str) -> Iterator[gzip.GzipFile | IO[bytes]]:
    with gzip.open(path, "rb") if packing == "gzip" else path.open("rb") as file:
        yield file


@contextmanager
def _unpacked(grid: Grid) -> Iterator[Any]:
    with _opened(grid.source, grid.packing) as file:
        yield _Inflated(file) if grid.packing == "zlib" else file


class _Inflated:
    """A zlib stream that is read in bounded pieces; `zlib.decompress` would follow it wherever it leads."""

    def __init__(self, file: gzip.GzipFile | IO[bytes]) -> None:
        self._file, self._inflate = file, zlib.decompressobj()

    def read(self, n: int) -> bytes:
        """Return at most `n` bytes, fewer only at the end."""
        found = bytearray()
        while len(found) < n and not self._inflate.eof:
            packed = self._inflate.unconsumed_tail or self._file.read(2**16)
            if not packed:
                break
            found += self._inflate.decompress(packed, n - len(found))
        return bytes(found)
