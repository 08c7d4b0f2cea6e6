"""Two patients in the layout of CAMUS, as NIfTI with half sequences, and one with stills alone."""

import nibabel
import numpy as np

from cohorts.readers import READERS

HEIGHT, WIDTH, FRAMES = 40, 30, 5
MM = (0.3, 0.15)  # width, height
CFG = "ED: 1\nES: 5\nNbFrame: 5\nSex: {sex}\nAge: {age}\nImageQuality: {quality}\nEF: 55\nFrameRate: 50.0\n"


def heart(frame, k=0):
    """Grey values and labels `(height, width)`: a cavity in muscle above an atrium, the probe bright at the top."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    away = np.hypot((x - WIDTH / 2), (y - HEIGHT / 2) / 1.5)
    radius = 8 - 0.8 * frame - k
    mask = np.select([away < radius, away < radius + 3, (y > 34) & (abs(x - WIDTH / 2) < 5)], [1, 2, 3], 0)
    grey = np.choose(mask, [60, 10, 180, 20]) + 2 * frame
    grey[:3] = 250
    return grey.astype(np.uint8), mask.astype(np.uint8)


def save(path, array):
    """Write `(frames, height, width)` or `(height, width)` as CAMUS does: width first."""
    image = nibabel.Nifti1Image(array.T, np.diag([*MM, 1, 1]))
    image.header.set_xyzt_units("mm", "sec")
    nibabel.save(image, path)


def build(folder):
    for k, name in enumerate(("patient0001", "patient0002", "patient0003")):
        home = folder / "database_nifti" / name
        home.mkdir(parents=True)
        for view, quality in (("2CH", "Good"), ("4CH", "Poor")):
            frames = [heart(frame, k) for frame in range(FRAMES)]
            for phase, at in (("ED", 0), ("ES", -1)):
                for end, array in zip(("", "_gt"), frames[at], strict=True):
                    save(home / f"{name}_{view}_{phase}{end}.nii.gz", array)
            if name != "patient0003":
                for end, arrays in zip(("", "_gt"), zip(*frames, strict=True), strict=True):
                    save(home / f"{name}_{view}_half_sequence{end}.nii.gz", np.stack(arrays))
            (home / f"Info_{view}.cfg").write_text(CFG.format(sex="FM"[k % 2], age=60 + k, quality=quality))
    return READERS["camus"](root=str(folder))
