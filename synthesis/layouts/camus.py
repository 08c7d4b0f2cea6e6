"""CAMUS: two- and four-chamber views of each patient as NIfTI, with what is known of them beside (Leclerc et al. 2019).

```
database_nifti/patient0001/patient0001_{2CH,4CH}_{ED,ES}[_gt].nii.gz
database_nifti/patient0001/patient0001_{2CH,4CH}_half_sequence[_gt].nii.gz    of a clip whose frames follow each other
database_nifti/patient0001/Info_{2CH,4CH}.cfg                                 ED, ES, NbFrame, EF, FrameRate as known
database_split/subgroup_{training,validation,testing}.txt                     by keyed lot: 8, 1 and 1 in ten
patients.csv                                                                  which subject of the release each one is
```

Labels are ours: 1 cavity, 2 myocardium, 3 left atrium. The layout has no word for an unlabelled pixel, so a frame with
one has no `_gt`, and none for a second examination, so only the first of a subject is written. ED, ES and NbFrame count
the frames of the half sequence from 1; of two stills they are 1, 2 and 2. Sex, Age and ImageQuality are not known of a
synthetic subject and are absent.

Source of the layout: doi:10.1109/TMI.2019.2900516.
"""

from collections.abc import Iterable
from itertools import groupby
from pathlib import Path

from cohorts.study import Clip, View
from synthesis.layouts import Take, Unsuitable, counted, lot, masks_of, nifti, outlined, table

VIEWS = {View.A2C: "2CH", View.A4C: "4CH"}
SPLITS = ("training",) * 8 + ("validation", "testing")


def write(folder: Path, takes: Iterable[Take], key: bytes) -> tuple[str, ...]:
    """Write the apical views of the first examination of every subject.

    Raises:
        Unsuitable: there is no such view, or an examination has two clips of one.
    """
    patients: list[tuple[str, ...]] = []
    split: dict[str, list[str]] = {name: [] for name in dict.fromkeys(SPLITS)}
    other, later, bare = 0, 0, 0
    for subject, group in groupby(takes, key=lambda take: take.subject):
        name, first, written = f"patient{len(patients) + 1:04d}", "", dict[View, Take]()
        for take in group:
            clip = take.load()
            if clip.view not in VIEWS:
                other += 1
                continue
            first = first or take.study
            if take.study != first:
                later += 1
                continue
            if clip.view in written:
                raise Unsuitable(f"{take.name} has two clips of view {clip.view}; camus has one of each")
            written[clip.view] = take
            bare += _write_view(folder / "database_nifti" / name, f"{name}_{VIEWS[clip.view]}", take, clip)
        if written:
            patients.append((name, subject, next(iter(written.values())).lvef))
            split[SPLITS[lot(key, subject, len(SPLITS))]].append(name)
    if not patients:
        raise Unsuitable("camus holds apical views (A2C, A4C); this release has none")
    (folder / "database_split").mkdir()
    for part, names in split.items():
        (folder / "database_split" / f"subgroup_{part}.txt").write_text("".join(f"{n}\n" for n in names), "utf-8")
    table(folder / "patients.csv", ("patient", "subject", "ef_reported"), patients)
    return (
        "Sex, Age and ImageQuality are not known and absent.",
        *counted(other, "clip of another view is left out.", "clips of other views are left out."),
        *counted(later, "clip of a later examination is left out.", "clips of later examinations are left out."),
        *counted(bare, "frame without a complete mask has no _gt.", "frames without a complete mask have no _gt."),
    )


def _write_view(folder: Path, stem: str, take: Take, clip: Clip) -> int:
    """Write one view; return how many of its frames could not be given their mask."""
    folder.mkdir(parents=True, exist_ok=True)
    masks, bare = masks_of(clip), 0
    for phase, at in (("ED", clip.ed_frame), ("ES", clip.es_frame)):
        if at is not None:
            nifti(folder / f"{stem}_{phase}.nii.gz", clip.pixels[at].T, mm=clip.pixel_mm)
            if outlined(masks[at]):
                nifti(folder / f"{stem}_{phase}_gt.nii.gz", masks[at].T, mm=clip.pixel_mm)
            else:
                bare += 1
    half = _half(clip)
    if half:
        nifti(folder / f"{stem}_half_sequence.nii.gz", clip.pixels[half].transpose(2, 1, 0), mm=clip.pixel_mm)
        if outlined(masks[half]):
            nifti(folder / f"{stem}_half_sequence_gt.nii.gz", masks[half].transpose(2, 1, 0), mm=clip.pixel_mm)
    stills = sum(at is not None for at in (clip.ed_frame, clip.es_frame))
    n = half.stop - half.start if half else stills
    said = {
        "ED": "1" if clip.ed_frame is not None else "",
        "ES": str(n) if clip.es_frame is not None else "",
        "NbFrame": str(n),
        "EF": take.lvef,
        "FrameRate": "" if not half or clip.frame_seconds is None else f"{1 / clip.frame_seconds:g}",
    }
    lines = "".join(f"{name}: {value}\n" for name, value in said.items() if value)
    (folder / f"Info_{stem.rpartition('_')[2]}.cfg").write_text(lines, "utf-8")
    return bare


def _half(clip: Clip) -> slice | None:
    """Return the frames from end diastole to end systole, where they follow each other in time."""
    if clip.ed_frame is None or clip.es_frame is None or clip.frame_seconds is None or clip.es_frame <= clip.ed_frame:
        return None
    return slice(clip.ed_frame, clip.es_frame + 1)
