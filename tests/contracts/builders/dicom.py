"""Three people: a clip and a still of ultrasound each, and a cine of two slices of magnetic resonance."""

import importlib.util
from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset
from pydicom.uid import generate_uid

from cohorts.readers import READERS

_spec = importlib.util.spec_from_file_location("builder_of_sunnybrook", Path(__file__).with_name("sunnybrook.py"))
_sunnybrook = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(_sunnybrook)
image = _sunnybrook.image

SUBJECTS = ("one", "two", "three")


def sector(frames=3, height=48, width=56, seed=0):
    """Return a fan of soft speckle, uint8 `(frames, height, width)`."""
    y, x = np.mgrid[:height, :width]
    inside = (np.abs(x - width / 2) < 4 + y * 0.5) & (np.hypot(y, x - width / 2) < height - 4)
    noise = np.random.default_rng(seed).normal(60, 20, (frames, height // 8, width // 8))
    rough = np.repeat(np.repeat(noise, 8, axis=1), 8, axis=2)
    smooth = (np.roll(rough, 3, axis=1) + np.roll(rough, 3, axis=2) + rough + np.roll(rough, (2, 2), axis=(1, 2))) / 4
    return np.where(inside, np.clip(smooth, 5, 200), 0).astype(np.uint8)


def ultrasound(frames, *, name, n, **tags):
    """Return a dataset of grey `(frames, height, width)` with a region that is the whole image."""
    dataset = image(frames[0].astype(np.int16), name=name, n=n)
    dataset.SOPClassUID = dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.3.1"
    dataset.Modality, dataset.StudyInstanceUID = "US", generate_uid(entropy_srcs=[name, "echo"])
    dataset.BitsAllocated = dataset.BitsStored = 8
    dataset.HighBit, dataset.PixelRepresentation = 7, 0
    dataset.NumberOfFrames, dataset.FrameTime = len(frames), 25.0
    del dataset.PixelSpacing
    region = Dataset()
    region.RegionSpatialFormat, region.RegionDataType, region.RegionFlags = 1, 1, 0
    region.RegionLocationMinX0, region.RegionLocationMinY0 = 2, 1
    region.RegionLocationMaxX1, region.RegionLocationMaxY1 = frames.shape[2] - 3, frames.shape[1] - 2
    region.PhysicalUnitsXDirection = region.PhysicalUnitsYDirection = 3
    region.PhysicalDeltaX, region.PhysicalDeltaY = 0.03, 0.04
    dataset.SequenceOfUltrasoundRegions = [region]
    dataset.Manufacturer = "Phantom Works"
    for keyword, value in tags.items():
        setattr(dataset, keyword, value)
    dataset.PixelData = frames.tobytes()
    return dataset


def view(code):
    item = Dataset()
    item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code, "SCT", "a view"
    return [item]


def save(dataset, path):
    path.parent.mkdir(parents=True, exist_ok=True)
    dataset.save_as(path, enforce_file_format=True)
    return path


def build(folder):
    y, x = np.mgrid[:24, :24]
    for k, name in enumerate(SUBJECTS):
        place = folder / f"export{k}"
        save(ultrasound(sector(seed=k), name=name, n=1, ViewCodeSequence=view("399214001")), place / "IM1")
        save(ultrasound(sector(1, seed=9 + k), name=name, n=2), place / "IM2.dcm")
        for n in range(6):
            soft = 400 + 300 * np.sin(x / 9 + n) * np.cos(y / 11 + k)
            turned = {"ImageOrientationPatient": [1, 0, 0, 0, 1, 0], "ImagePositionPatient": [0, 0, 8.0 * (n // 3)]}
            tags = {"SeriesDescription": "FIESTA SAX", "TriggerTime": 30.0 * (n % 3), "Manufacturer": "Phantom Works"}
            save(image(soft, name=name, n=6 - n, **turned, **tags), place / "cine" / f"{n}.dcm")
    return READERS["dicom"](root=str(folder))
