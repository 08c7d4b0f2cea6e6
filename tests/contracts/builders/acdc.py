"""Patients in the layout of ACDC: a ring that contracts, with a crescent beside it; the last has stills alone."""

import nibabel
import numpy as np

from cohorts.readers import READERS

WIDTH, HEIGHT, SLICES, FRAMES = 26, 22, 3, 6
ED, ES = 1, 4  # as Info.cfg counts, from 1
MM = (1.5, 1.25, 10.0)  # x, y, z
INFO = "ED: 1\nES: 4\nGroup: {group}\nHeight: {height}\nNbFrame: 6\nWeight: 70.5\n"


def heart(frame, k=0):
    """Grey values and ACDC labels `(x, y, z)` of one frame, counted from 1."""
    x, y, z = np.mgrid[:WIDTH, :HEIGHT, :SLICES]
    away = np.hypot(x - WIDTH / 2, y - HEIGHT / 2)
    radius = 6 - 0.5 * abs(frame - ED) - z - 0.3 * k
    label = np.select([away < radius, away < radius + 3, (x < 4) & (y > 5)], [3, 2, 1], 0)
    return (np.choose(label, [30, 240, 90, 300]) + 3 * frame + x).astype(np.int16), label.astype(np.uint8)


def save(path, array, seconds=None):
    image = nibabel.Nifti1Image(array, np.diag([*MM, 1.0]))
    if array.ndim == 4:
        image.header.set_zooms((*MM, seconds or 1.0))
    image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, path)


def build(folder):
    for k, (name, group) in enumerate((("patient001", "DCM"), ("patient002", "NOR"), ("patient003", "RV"))):
        home = folder / name
        home.mkdir(parents=True)
        for frame in (ED, ES):
            for end, array in zip(("", "_gt"), heart(frame, k), strict=True):
                save(home / f"{name}_frame{frame:02d}{end}.nii.gz", array)
        if name != "patient003":
            cine = np.stack([heart(frame, k)[0] for frame in range(1, FRAMES + 1)], axis=3)
            save(home / f"{name}_4d.nii.gz", cine, seconds=0.03 if k else None)
        (home / "Info.cfg").write_text(INFO.format(group=group, height=170 + k))
    return READERS["acdc"](root=str(folder))
