"""Subjects in the layout of M&Ms, the last of them unlabelled; `build_second` writes that of M&Ms-2."""

import csv

import nibabel
import numpy as np

from cohorts.readers import READERS

WIDTH, HEIGHT, SLICES, FRAMES = 20, 18, 2, 5
ED, ES = 1, 3  # frames, from 0
MM = (1.4, 1.2, 9.0)


def heart(frame):
    """Grey values and labels `(x, y, z)`: 1 cavity, 2 myocardium, 3 right ventricle."""
    x, y, _ = np.mgrid[:WIDTH, :HEIGHT, :SLICES]
    away = np.hypot(x - 10, y - 9)
    radius = 5 - abs(frame - ED)
    label = np.select([away < radius, away < radius + 2, x < 2], [1, 2, 3], 0)
    return (np.choose(label, [20, 200, 80, 240]) + frame).astype(np.int16), label.astype(np.uint8)


def save(path, array):
    image = nibabel.Nifti1Image(array, np.diag([*MM, 1.0]))
    image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, path)


def table(path, rows):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows(rows)


def build(folder):
    header = ["", "External code", "VendorName", "Vendor", "Centre", "ED", "ES", "Age", "Pathology", "Sex"]
    subjects = (("A0S9V9", "Siemens", "A", 1, "HCM", "F"), ("B1K2L3", "Philips", "B", 2, "NOR", "M"))
    rows = [header]
    for k, (code, name, vendor, centre, pathology, sex) in enumerate((*subjects, ("C9", "GE", "C", 3, "", ""))):
        rows.append([k, code, name, vendor, centre, ED, ES, 50 + k, pathology, sex])
        home = folder / "Training" / ("Unlabeled" if code == "C9" else "Labeled") / code
        home.mkdir(parents=True)
        images, labels = zip(*(heart(frame) for frame in range(FRAMES)), strict=True)
        kept = [label if at in (ED, ES) and code != "C9" else 0 * label for at, label in enumerate(labels)]
        save(home / f"{code}_sa.nii.gz", np.stack(images, axis=3))
        save(home / f"{code}_sa_gt.nii.gz", np.stack(kept, axis=3))
    table(folder / "information.csv", rows)
    return READERS["mnms"](root=str(folder))


def build_second(folder):
    rows = [["SUBJECT_CODE", "DISEASE", "VENDOR", "SCANNER", "FIELD"]]
    for code in (1, 2):
        rows.append([code, "LV", "SIEMENS", "Avanto", 1.5])
        home = folder / "dataset" / f"{code:03d}"
        home.mkdir(parents=True)
        for phase, at in (("ED", ED), ("ES", ES)):
            for end, array in zip(("", "_gt"), heart(at), strict=True):
                save(home / f"{code:03d}_SA_{phase}{end}.nii.gz", array)
    table(folder / "dataset_information.csv", rows)
    return READERS["mnms"](root=str(folder))
