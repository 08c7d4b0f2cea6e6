"""Three patients with two slices of four phases, a disc that beats, and its outlines."""

import csv

import numpy as np
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from cohorts.readers import READERS

PHASES, SLICES, SIDE = 4, 2, 24
SUBJECTS = {"SCD0000101": "SC-HF-I-1", "SCD0000201": "SC-N-2", "SCD0000301": "SC-HYP-3"}
RADII = (8.1, 6.1, 5.2, 7.1)  # by phase: ED first, ES third


def image(values, *, name, n, **tags):
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.4"
    dataset.SOPInstanceUID = dataset.file_meta.MediaStorageSOPInstanceUID = generate_uid(entropy_srcs=[name, str(n)])
    dataset.PatientID = dataset.PatientName = name
    dataset.StudyInstanceUID = generate_uid(entropy_srcs=[name])
    dataset.SeriesInstanceUID = generate_uid(entropy_srcs=[name, "series"])
    dataset.Modality, dataset.InstanceNumber = "MR", n
    dataset.Rows, dataset.Columns = values.shape
    dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
    dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 1
    dataset.PixelSpacing = [1.5, 1.25]
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    dataset.PixelData = values.astype("<i2").tobytes()
    return dataset


def circle(radius, at=SIDE / 2, points=90):
    angle = np.arange(points) * 2 * np.pi / points
    return np.stack([at + radius * np.cos(angle), at + radius * np.sin(angle)], axis=1)


def outline(folder, n, kind, points):
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"IM-0001-{n:04d}-{kind}contour-manual.txt"
    path.write_text("".join(f"{x:.2f} {y:.2f}\n" for x, y in points))


def build(folder):
    y, x = np.mgrid[:SIDE, :SIDE]
    away = np.hypot(x - SIDE / 2, y - SIDE / 2)
    with (folder / "link.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("patient_id", "original_id"), *SUBJECTS.items()])
    for k, (name, original) in enumerate(SUBJECTS.items()):
        (folder / "dicoms" / name).mkdir(parents=True)
        for n in range(1, PHASES * SLICES + 1):
            phase = (n - 1) % PHASES
            values = np.where(away < RADII[phase] + k / 4, 900, 100) + x
            shot = image(values, name=name, n=n, TriggerTime=phase * 40.0)
            shot.save_as(folder / "dicoms" / name / f"{n}.dcm", enforce_file_format=True)
            if phase in (0, 2):
                outline(folder / "contourfiles" / original / "i-contours", n, "i", circle(RADII[phase] + k / 4))
            if phase == 0:
                outline(folder / "contourfiles" / original / "o-contours", n, "o", circle(RADII[phase] + 3 + k / 4))
    return READERS["sunnybrook"](root=str(folder), phases=PHASES)
