"""ACDC: short-axis stacks at end diastole and end systole as NIfTI (Bernard et al. 2018).

```
patient001/patient001_frameNN[_gt].nii.gz    (width, height, slices); NN counts frames from 1
patient001/patient001_4d.nii.gz              (width, height, slices, frames), of clips whose frames follow each other
patient001/Info.cfg                          ED, ES and NbFrame
patients.csv                                 which subject of the release each one is
```

All short-axis clips of a subject that are equally large are its slices, in the order of the release. Labels become
those of the layout: 1 right ventricle, 2 myocardium, 3 LV cavity. Group, Height and Weight are not known of a synthetic
subject and are absent; Info.cfg has no word for the ejection fraction, patients.csv has.

Source of the layout: doi:10.1109/TMI.2018.2837502.
"""

from collections.abc import Iterable, Sequence
from itertools import groupby
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from cohorts.study import CAVITY, MYOCARDIUM, RIGHT_VENTRICLE, Clip, View
from synthesis.layouts import Take, Unsuitable, counted, masks_of, nifti, outlined, table

SHORT_AXIS = (View.SAX, View.PSAX)
THEIRS = {CAVITY: 3, MYOCARDIUM: 2, RIGHT_VENTRICLE: 1}


def write(folder: Path, takes: Iterable[Take], key: bytes) -> tuple[str, ...]:
    """Write the short-axis stack of every subject; the layout has no splits, so `key` decides nothing.

    Raises:
        Unsuitable: there is no short-axis clip, slices of a subject differ, or a left atrium is outlined.
    """
    patients: list[tuple[str, ...]] = []
    other, bare = 0, 0
    for subject, group in groupby(takes, key=lambda take: take.subject):
        clips, lvef = list[Clip](), ""
        for take in group:
            clip = take.load()
            if clip.view in SHORT_AXIS and clip.ed_frame is not None and clip.es_frame is not None:
                clips.append(clip)
                lvef = lvef or take.lvef
            else:
                other += 1
        if clips:
            name = f"patient{len(patients) + 1:03d}"
            bare += _write_patient(folder / name, subject, clips)
            patients.append((name, subject, lvef))
    if not patients:
        raise Unsuitable("acdc holds short-axis views (SAX, PSAX) with ED and ES; this release has none")
    table(folder / "patients.csv", ("patient", "subject", "ef_reported"), patients)
    return (
        "Group, Height and Weight are not known and absent.",
        *counted(other, "clip that is no short axis with ED and ES is left out.",
                 "clips that are no short axis with ED and ES are left out."),
        *counted(bare, "frame without complete masks has no _gt.", "frames without complete masks have no _gt."),
    )  # fmt: skip


def _write_patient(folder: Path, subject: str, clips: Sequence[Clip]) -> int:
    """Write one stack; return how many of its frames could not be given their masks."""
    first = clips[0]
    for clip in clips:
        if (clip.pixels.shape, clip.ed_frame, clip.es_frame) != (first.pixels.shape, first.ed_frame, first.es_frame):
            raise Unsuitable(f"the short-axis clips of {subject} differ in size or phases; acdc has one stack of each")
    folder.mkdir()
    pixels = np.stack([clip.pixels for clip in clips])  # slices, frames, height, width
    masks = np.stack([masks_of(clip) for clip in clips])
    bare = 0
    for at in dict.fromkeys((first.ed_frame, first.es_frame)):
        stem = f"{folder.name}_frame{(at or 0) + 1:02d}"
        _volume(folder / f"{stem}.nii.gz", pixels[:, at or 0], first)
        if outlined(masks[:, at or 0]):
            _volume(folder / f"{stem}_gt.nii.gz", _theirs(masks[:, at or 0], subject), first)
        else:
            bare += 1
    if first.frame_seconds is not None:
        _volume(folder / f"{folder.name}_4d.nii.gz", pixels, first)
    said = {"ED": (first.ed_frame or 0) + 1, "ES": (first.es_frame or 0) + 1, "NbFrame": pixels.shape[1]}
    (folder / "Info.cfg").write_text("".join(f"{name}: {value}\n" for name, value in said.items()), "utf-8")
    return bare


def _theirs(masks: NDArray[np.uint8], subject: str) -> NDArray[np.uint8]:
    strange = sorted(set(np.unique(masks).tolist()) - {0, *THEIRS})
    if strange:
        raise Unsuitable(f"a short-axis mask of {subject} holds label {strange[0]}, for which acdc has no number")
    table = np.zeros(256, np.uint8)
    table[list(THEIRS)] = list(THEIRS.values())
    return table[masks]


def _volume(path: Path, array: NDArray[np.uint8], clip: Clip) -> None:
    """Write `(slices, height, width)` or `(slices, frames, height, width)`; how far slices lie apart is not known."""
    turned = array.transpose(2, 1, 0) if array.ndim == 3 else array.transpose(3, 2, 0, 1)
    nifti(path, turned, mm=clip.pixel_mm, seconds=None if array.ndim == 3 else clip.frame_seconds)
