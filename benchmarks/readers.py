"""How fast studies are read, and with how much memory, beside the loop that a user of the data set would write.

Both decode every frame of every study into grey values, uint8 `(frames, height, width)`, one study at a time; ours also
checks tables and headers, refuses what will not do, and names subjects by keyed pseudonyms. Each way runs in a process
of its own; studies per second are the median of three passes in turn, memory is the growth of the resident set's
high-water mark. The index is everything before the first pixel; of DICOM it is kept in a file beside the account.

python -m benchmarks.readers [--write] [--studies N] [--index N]
"""

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks import results

FRAMES = 60
Pixels = NDArray[np.uint8]


def film(seed: int, shape: tuple[int, int, int]) -> Pixels:
    """Return soft noise that moves: compresses as ultrasound does, more or less."""
    from scipy.ndimage import gaussian_filter

    dice = np.random.default_rng(seed)
    soft = gaussian_filter(dice.normal(size=shape), (2, 4, 4), mode="wrap")
    return np.clip(100 + soft * (40 / soft.std()), 5, 200).astype(np.uint8)


def make_avi(folder: Path, studies: int) -> None:
    """Write videos in the layout of EchoNet-Dynamic: 112x112, MJPG, 50 frames a second."""
    import av

    (folder / "Videos").mkdir()
    rows = ["FileName,EF,ESV,EDV,FrameHeight,FrameWidth,FPS,NumberOfFrames,Split"]
    for k in range(studies):
        with av.open(str(folder / "Videos" / f"v{k:05d}.avi"), "w") as container:
            stream = container.add_stream("mjpeg", rate=50)
            stream.height = stream.width = 112
            stream.pix_fmt = "yuvj420p"
            for picture in film(k, (FRAMES, 112, 112)):
                frame = av.VideoFrame.from_ndarray(picture, format="gray").reformat(format="yuvj420p")
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
        rows.append(f"v{k:05d},55,40,100,112,112,50,{FRAMES},TRAIN")
    (folder / "FileList.csv").write_text("\n".join(rows) + "\n")
    (folder / "VolumeTracings.csv").write_text("FileName,X1,Y1,X2,Y2,Frame\n")


def loop_avi(folder: Path) -> Iterator[Pixels]:
    """Read as a user of EchoNet-Dynamic does: the table by pandas, frames by OpenCV."""
    import cv2
    import pandas as pd

    for name in pd.read_csv(folder / "FileList.csv")["FileName"]:
        capture, frames = cv2.VideoCapture(str(folder / "Videos" / f"{name}.avi")), []
        while True:
            good, frame = capture.read()
            if not good:
                break
            frames.append(cv2.cvtColor(frame, cv2.COLOR_BGR2GRAY))
        yield np.stack(frames)


def make_nifti(folder: Path, studies: int) -> None:
    """Write half sequences and masks in the layout of CAMUS."""
    import nibabel

    for k in range(studies):
        name = f"patient{k + 1:04d}"
        home = folder / "database_nifti" / name
        home.mkdir(parents=True)
        for view in ("2CH", "4CH"):
            frames = film(k, (20, 320, 256))
            masks = (frames // 86).astype(np.uint8)
            for end, array in (
                ("half_sequence", frames), ("half_sequence_gt", masks), ("ED", frames[0]), ("ED_gt", masks[0]),
                ("ES", frames[-1]), ("ES_gt", masks[-1]),
            ):  # fmt: skip
                image = nibabel.Nifti1Image(array.T, np.diag([0.3, 0.3, 1, 1]))
                nibabel.save(image, home / f"{name}_{view}_{end}.nii.gz")
            (home / f"Info_{view}.cfg").write_text(
                "ED: 1\nES: 20\nNbFrame: 20\nSex: F\nAge: 50\nImageQuality: Good\nEF: 55\n"
            )


def loop_nifti(folder: Path) -> Iterator[Pixels]:
    """Read as a user of CAMUS does: nibabel, sequence and masks."""
    import nibabel

    for home in sorted((folder / "database_nifti").iterdir()):
        views = []
        for view in ("2CH", "4CH"):
            pixels, masks = (
                np.asarray(nibabel.load(home / f"{home.name}_{view}_half_sequence{end}.nii.gz").dataobj).T
                for end in ("", "_gt")
            )
            views += [pixels, masks]
        yield np.concatenate(views[::2])


def make_dicom(folder: Path, studies: int, frames: int = FRAMES, side: int = 240) -> None:
    """Write ultrasound clips, uncompressed grey multi-frame, one file a study."""
    from pydicom.dataset import Dataset, FileMetaDataset
    from pydicom.sequence import Sequence
    from pydicom.uid import ExplicitVRLittleEndian, UltrasoundMultiFrameImageStorage, generate_uid

    picture = np.zeros((frames, side, side), np.uint8)
    y, x = np.mgrid[:side, :side]
    films = [film(seed, (frames, side, side)) for seed in range(min(studies, 8))]
    sector = (np.hypot(y, x - side / 2) < side * 0.95) & (np.abs(x - side / 2) < y * 0.6)
    for k in range(studies):
        picture[:, sector] = films[k % len(films)][:, sector]
        data = Dataset()
        data.file_meta = FileMetaDataset()
        data.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        data.file_meta.MediaStorageSOPClassUID = data.SOPClassUID = UltrasoundMultiFrameImageStorage
        data.file_meta.MediaStorageSOPInstanceUID = data.SOPInstanceUID = generate_uid()
        data.StudyInstanceUID, data.SeriesInstanceUID = generate_uid(), generate_uid()
        data.PatientID, data.PatientName, data.Modality = f"P{k:06d}", f"P^{k}", "US"
        data.Rows = data.Columns = side
        data.NumberOfFrames, data.FrameTime = frames, 20.0
        data.SamplesPerPixel, data.PhotometricInterpretation = 1, "MONOCHROME2"
        data.BitsAllocated = data.BitsStored = 8
        data.HighBit, data.PixelRepresentation = 7, 0
        data.BurnedInAnnotation = "NO"
        region = Dataset()
        region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = 1, 1, 0
        region.RegionLocationMinX0, region.RegionLocationMinY0 = 0, 0
        region.RegionLocationMaxX1 = region.RegionLocationMaxY1 = side - 1
        region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
        region.PhysicalDeltaX = region.PhysicalDeltaY = 0.05
        data.SequenceOfUltrasoundRegions = Sequence([region])
        data.PixelData = picture.tobytes()
        data.save_as(folder / f"{k:06d}.dcm", enforce_file_format=True)


def loop_dicom(folder: Path) -> Iterator[Pixels]:
    """Read as a user of a hospital's export does: pydicom, file by file."""
    import pydicom

    for path in sorted(folder.glob("*.dcm")):
        yield pydicom.dcmread(path).pixel_array


LAYOUTS: dict[str, tuple[str, str, Callable[[Path, int], None], Callable[[Path], Iterator[Pixels]]]] = {
    "AVI": ("echonet_dynamic", "cv2 and pandas", make_avi, loop_avi),
    "NIfTI": ("camus", "nibabel", make_nifti, loop_nifti),
    "DICOM": ("dicom", "pydicom and numpy", make_dicom, loop_dicom),
}


def ours(reader: str, folder: Path, index_file: str = "") -> Iterator[Pixels]:
    """Read as `pericard` does."""
    cohort = _config(reader, folder, index_file).read(pseudonyms=_pseudonyms())
    for subject in cohort.subjects:
        for study in cohort.of(subject):
            yield np.concatenate([clip.pixels for clip in study.clips])


def _config(reader: str, folder: Path, index_file: str) -> Any:
    from cohorts.readers import READERS

    return READERS[reader](root=str(folder), **({"index_file": index_file} if reader == "dicom" else {}))


def _pseudonyms() -> Any:
    from cohorts.deidentify import Pseudonyms

    return Pseudonyms(b"the key of a benchmark is no secret")


def measure(layout: str, way: str, folder: Path) -> tuple[float, float]:
    """Return studies per second and the growth of memory in MiB, of one pass; to be called in a fresh process."""
    reader, _, _, loop = LAYOUTS[layout]
    (next(iter(loop(folder))) if way == "theirs" else next(ours(reader, folder, str(folder) + ".index"))).sum()  # warm
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    before, start, n = _kilobytes("VmRSS"), time.perf_counter(), 0
    for pixels in loop(folder) if way == "theirs" else ours(reader, folder, str(folder) + ".index"):
        n += 1
        del pixels
    return n / (time.perf_counter() - start), (_kilobytes("VmHWM") - before) / 1024


def _kilobytes(key: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{key}:"))


def _elsewhere(*words: str) -> list[float]:
    command = [sys.executable, "-m", "benchmarks.readers", *words]
    return [float(x) for x in subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()]


def opening(folder: Path) -> float:
    """Return how long the index of a folder of DICOM takes, in seconds; to be called in a fresh process."""
    config, start = _config("dicom", folder, str(folder) + ".index"), time.perf_counter()
    config.read(pseudonyms=_pseudonyms())
    return time.perf_counter() - start


def main() -> None:
    """Measure, print, and with `--write` keep it in RESULTS.md."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--write", action="store_true", help="replace the section of benchmarks/RESULTS.md")
    arguments.add_argument("--studies", type=int, default=40, help="studies of each layout")
    arguments.add_argument("--index", type=int, default=10_000, help="studies of the index")
    arguments.add_argument("--measure", nargs=3, help=argparse.SUPPRESS)
    arguments.add_argument("--opening", help=argparse.SUPPRESS)
    given = arguments.parse_args()
    if given.measure:
        layout, way, folder = given.measure
        print(*measure(layout, way, Path(folder)))
        return
    if given.opening:
        print(opening(Path(given.opening)))
        return
    rows: list[list[object]] = []
    with tempfile.TemporaryDirectory() as scratch:
        for layout, (_, theirs, make, _) in LAYOUTS.items():
            folder = Path(scratch) / layout
            folder.mkdir()
            make(folder, given.studies)
            found: dict[str, list[list[float]]] = {"ours": [], "theirs": []}
            for _ in range(3):
                for way, passes in found.items():
                    passes.append(_elsewhere("--measure", layout, way, str(folder)))
            speed, memory = (
                {way: statistics.median(p[k] for p in passes) for way, passes in found.items()} for k in (0, 1)
            )
            row = [layout, theirs, speed["theirs"], speed["ours"], f"{speed['ours'] / speed['theirs']:.2f} x"]
            rows.append([*row, f"{memory['theirs']:.0f}", f"{memory['ours']:.0f}"])
            print(rows[-1], flush=True)
        folder = Path(scratch) / "many"
        folder.mkdir()
        make_dicom(folder, given.index, frames=1, side=48)
        first, second = (_elsewhere("--opening", str(folder))[0] for _ in range(2))
    head = ["layout", "theirs", "theirs, studies/s", "ours, studies/s", "ours/theirs", "theirs, MiB", "ours, MiB"]
    said = (
        f"Index of {given.index:,} studies in DICOM: {first:.1f} s at the first opening, {second:.1f} s at the second."
    )
    text = f"{' '.join(__doc__.split(chr(10) * 2)[1].split())}\n\n{results.table(head, rows)}\n\n{said}"
    if given.write:
        results.write("Readers", "python -m benchmarks.readers --write", text)
    else:
        print(text)


if __name__ == "__main__":
    main()
