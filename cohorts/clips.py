"""Moving pictures of a cohort as arrays: frames of clips, each at its phase of the cycle, padded to one length.

Phase is counted in cycles, 0 at end diastole, and lies on a circle: 1 is 0 again. So a clip has neither a first nor a
last frame, and frames of several beats lie side by side.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.numpy import save_file

from cohorts.frames import VIEWS, Frames, resize
from cohorts.phantom import scanner, simulate
from cohorts.study import ATRIUM, BACKGROUND, UNLABELLED, Clip, Cohort, SubjectKey, View

Floats = NDArray[np.floating[Any]]

BEAT_SECONDS = (0.35, 1.6)  # of one beat: 170 to 38 a minute
_ALIKE = 24  # side of the thumbnails that are compared to find a beat
_CHUNK = 16  # subjects filmed at a time


@dataclass(frozen=True, slots=True, kw_only=True)
class Clips:
    """Clips of some subjects, padded behind to a common number of frames `T`; what pads is black and unlabelled.

    Attributes:
        pixels: uint8, `(n, T, size, size)`.
        masks: uint8, `(n, T, size, size)`: 0 background, 1 LV cavity, 2 myocardium, 3 left atrium, 255 unlabelled.
        phase: of each frame in cycles, `(n, T)` in [0, 1), NaN where unknown.
        view: index into `VIEWS`, `(n,)`, -1 where unknown.
        lvef_percent: `(n,)`, NaN where unknown.
        heart_rate_bpm: `(n,)`, NaN where unknown.
        frame_rate_hz: at which it was recorded, `(n,)`, NaN where unknown; `phase` says when the frames kept were.
        length: real frames, `(n,)`, 1 to `T`.
        subject: index into `subjects`, `(n,)`.
        subjects: the subjects, in the order of the cohort.
    """

    pixels: NDArray[np.uint8]
    masks: NDArray[np.uint8]
    phase: NDArray[np.float32]
    view: NDArray[np.int64]
    lvef_percent: NDArray[np.float32]
    heart_rate_bpm: NDArray[np.float32]
    frame_rate_hz: NDArray[np.float32]
    length: NDArray[np.int64]
    subject: NDArray[np.int64]
    subjects: tuple[SubjectKey, ...]

    def __post_init__(self) -> None:
        n, frames = self.phase.shape
        if self.pixels.shape != self.masks.shape or self.pixels.shape[:2] != (n, frames):
            raise ValueError(f"pixels {self.pixels.shape}, masks {self.masks.shape} and phase {(n, frames)} disagree")
        if np.any((self.length < 1) | (self.length > frames)):
            raise ValueError(f"length={self.length.tolist()} must lie in 1..{frames}")

    def __len__(self) -> int:
        return len(self.pixels)

    @property
    def real(self) -> NDArray[np.bool_]:
        """Which frames are no padding, `(n, T)`."""
        return np.arange(self.phase.shape[1]) < self.length[:, None]

    def rows(self, rows: NDArray[np.int64]) -> "Clips":
        """Return the clips at `rows`, repeats allowed, of the same subjects."""
        columns = {name: getattr(self, name)[rows] for name in COLUMNS}
        return Clips(**columns, subjects=self.subjects)

    def select(self, subjects: Sequence[SubjectKey]) -> "Clips":
        """Return the clips of `subjects` only, re-indexed in the order given."""
        position = {s: i for i, s in enumerate(subjects)}
        new = np.array([position.get(s, -1) for s in self.subjects], dtype=np.int64)[self.subject]
        kept = self.rows(np.flatnonzero(new >= 0))
        return replace(kept, subject=new[new >= 0], subjects=tuple(subjects))

    def from_diastole(self) -> "Clips":
        """Return the same clips, each in the order of its phases: recordings begin anywhere, these at end diastole.

        A clip of unknown phase keeps its order.
        """
        order = np.argsort(np.where(np.isfinite(self.phase), self.phase, np.inf), axis=1, kind="stable")
        rows = np.arange(len(self))[:, None]
        columns = {name: getattr(self, name)[rows, order] for name in ("pixels", "masks", "phase")}
        return replace(self, **columns)

    def pad(self, frames: int) -> "Clips":
        """Return the same clips with room for `frames` frames; raises `ValueError` where that would drop a real one."""
        now = self.phase.shape[1]
        if frames < int(self.length.max(initial=0)):
            raise ValueError(f"frames={frames} must be at least the longest clip's {int(self.length.max())}")
        more = [(0, 0), (0, max(0, frames - now))]
        return replace(
            self,
            pixels=np.pad(self.pixels[:, :frames], [*more, (0, 0), (0, 0)]),
            masks=np.pad(self.masks[:, :frames], [*more, (0, 0), (0, 0)], constant_values=UNLABELLED),
            phase=np.pad(self.phase[:, :frames], more, constant_values=np.nan),
        )


COLUMNS = (
    "pixels", "masks", "phase", "view", "lvef_percent", "heart_rate_bpm", "frame_rate_hz", "length", "subject",
)  # fmt: skip


def films(
    n_subjects: int,
    *,
    phase: Floats,
    seed: int,
    size: int = 112,
    style: str = "wide",
    views: Sequence[View] = simulate.APICAL,
    lvef_percent: Floats | None = None,
    first: int = 0,
    pictures: bool = True,
) -> Clips:
    """Film phantoms at given phases, one clip of every view: subject by subject, view by view.

    Args:
        n_subjects: how many; subject `k` does not depend on it.
        phase: of each subject's frames, `(n_subjects, T)`.
        seed: names the population.
        size: side of the pictures.
        style: the site.
        views: of each subject, in the same heart.
        lvef_percent: what each heart is asked to eject, `(n_subjects,)`; otherwise its own.
        first: number of the first subject.
        pictures: else masks alone, and black pixels.
    """
    if phase.ndim != 2 or len(phase) != n_subjects:
        raise ValueError(f"phase of shape {phase.shape} must be (n_subjects={n_subjects}, frames)")
    parts: list[dict[str, NDArray[Any]]] = []
    for start in range(0, n_subjects, _CHUNK):
        some = np.arange(start, min(start + _CHUNK, n_subjects))
        numbers = (first + some).tolist()
        exam = simulate.examinations(numbers, seed=seed, style=style)
        if lvef_percent is not None:
            exam = replace(exam, who=replace(exam.who, lvef_percent=lvef_percent[some].astype(np.float32)))
        turned = phase[some] % 1
        seen = [simulate.film(exam, numbers, v, turned, seed=seed, size=size, pictures=pictures)[:2] for v in views]
        each = len(views)
        parts.append(
            {
                "pixels": np.stack([s[0] for s in seen], 1).reshape(-1, phase.shape[1], size, size),
                "masks": np.stack([s[1] for s in seen], 1).reshape(-1, phase.shape[1], size, size),
                "phase": np.repeat(turned, each, 0).astype(np.float32),
                "view": np.tile([VIEWS.index(v) for v in views], len(some)).astype(np.int64),
                "lvef_percent": np.repeat(exam.who.lvef_percent, each).astype(np.float32),
                "heart_rate_bpm": np.repeat(exam.who.heart_rate_bpm, each).astype(np.float32),
                "subject": np.repeat(some, each).astype(np.int64),
            }
        )
    joined = {name: np.concatenate([p[name] for p in parts]) for name in parts[0]}
    n = len(joined["view"])
    return Clips(
        **joined,
        frame_rate_hz=np.full(n, scanner.site(style).frames_per_second, np.float32),
        length=np.full(n, phase.shape[1], np.int64),
        subjects=tuple(SubjectKey(simulate.subject_name(style, seed, first + k)) for k in range(n_subjects)),
    )


def gather(cohort: Cohort, *, size: int, frames: int) -> Clips:
    """Read the moving clips of `cohort`: of each, up to `frames` frames spread evenly over one beat.

    Where end diastole and the heart rate are labelled, or the beat shows in the pictures (`beat_frames`), the beat
    begins at end diastole and frames know their phase; otherwise frames of the whole clip are taken, of no phase.
    Clips of fewer than three frames do not move, and are left out.
    """
    found = [
        (*_taken(clip, float(study.labels.get("heart_rate_bpm", np.nan)), size, frames), clip, study.labels, i)
        for i, subject in enumerate(cohort.subjects)
        for study in cohort.of(subject)
        for clip in study.clips
        if len(clip.pixels) > 2
    ]
    n, labels = len(found), [f[4] for f in found]
    pixels, masks = np.zeros((n, frames, size, size), np.uint8), np.full((n, frames, size, size), UNLABELLED, np.uint8)
    phase = np.full((n, frames), np.nan, np.float32)
    for k, (grey, outlined, at, *_) in enumerate(found):
        pixels[k, : len(grey)], masks[k, : len(grey)], phase[k, : len(grey)] = grey, outlined, at
    return Clips(
        pixels=pixels,
        masks=masks,
        phase=phase,
        view=np.array([VIEWS.index(f[3].view) if f[3].view in VIEWS else -1 for f in found], np.int64),
        lvef_percent=np.array([float(label.get("lvef_percent", np.nan)) for label in labels], np.float32),
        heart_rate_bpm=np.array([float(label.get("heart_rate_bpm", np.nan)) for label in labels], np.float32),
        frame_rate_hz=np.array([1 / (f[3].frame_seconds or np.nan) for f in found], np.float32),
        length=np.array([len(f[0]) for f in found], np.int64),
        subject=np.array([f[5] for f in found], np.int64),
        subjects=cohort.subjects,
    )


def stills(clips: Clips, at: NDArray[np.int64], phase: NDArray[np.int64]) -> Frames:
    """Return the frames `at` of every clip, clip by clip, `(n, k)`, called `phase`, `(k,)`: 0 for ED, 1 for ES."""
    k = at.shape[1]
    rows = np.arange(len(clips))[:, None]
    return Frames(
        pixels=clips.pixels[rows, at].reshape(-1, *clips.pixels.shape[2:]),
        masks=clips.masks[rows, at].reshape(-1, *clips.masks.shape[2:]),
        view=np.repeat(clips.view, k),
        phase=np.tile(phase, len(clips)),
        lvef_percent=np.repeat(clips.lvef_percent, k),
        subject=np.repeat(clips.subject, k),
        subjects=clips.subjects,
    )


def write(path: Path, clips: Clips) -> None:
    """Write `clips` as one safetensors file, the names of subjects in its header; `read(write(c)) == c`."""
    columns = {name: np.ascontiguousarray(getattr(clips, name)) for name in COLUMNS}
    part = path.with_name(path.name + ".part")
    save_file(columns, part, metadata={"subjects": json.dumps(list(clips.subjects))})
    part.replace(path)


def read(path: Path) -> Clips:
    """Read what `write` wrote; raises `ValueError` naming the file where it is nothing of the kind."""
    try:
        with safe_open(path, framework="numpy") as file:
            columns = {name: file.get_tensor(name) for name in COLUMNS}
            subjects = json.loads(file.metadata()["subjects"])
    except (SafetensorError, KeyError, TypeError) as error:
        raise ValueError(f"{path} holds no clips: {error}") from error
    return Clips(**columns, subjects=tuple(SubjectKey(s) for s in subjects))


def beat_frames(pixels: NDArray[np.uint8], frame_seconds: float) -> float:
    """Return after how many frames a clip is most like itself again, within `BEAT_SECONDS`; NaN if it does not show.

    It is the lag at which thumbnails correlate best, where that is at least a half, and more than before and after;
    two beats must be in the clip.
    """
    small = np.stack([resize(p, _ALIKE, nearest=False) for p in pixels]).reshape(len(pixels), -1).astype(np.float64)
    small -= small.mean(0)
    lags = np.arange(1, len(pixels) // 2 + 1)
    alike = np.array([_correlation(small[lag:], small[:-lag]) for lag in lags])
    low, high = (round(s / frame_seconds) for s in BEAT_SECONDS)
    inside = [
        i for i in range(1, len(lags) - 1) if low <= lags[i] <= high and alike[i] >= max(0.5, *alike[i - 1 : i + 2])
    ]
    return float(lags[max(inside, key=lambda i: alike[i])]) if inside else np.nan


def _taken(
    clip: Clip, heart_rate_bpm: float, size: int, frames: int
) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.float32]]:
    """Return pixels, masks and phases of the frames to use of one clip."""
    n, period = len(clip.pixels), np.nan
    if clip.frame_seconds is not None and clip.ed_frame is not None:
        period = 60 / heart_rate_bpm / clip.frame_seconds
        period = period if np.isfinite(period) else beat_frames(clip.pixels, clip.frame_seconds)
    if np.isfinite(period):
        beat = min(n, max(3, round(period)))
        ed = int(clip.ed_frame or 0)
        along = np.unique(np.linspace(0, beat, min(frames, beat), endpoint=False).astype(int))
        # Of a recording of one beat, which begins anywhere in it, what came before follows on what came last.
        at = np.sort((ed + along) % n) if beat == n else min(ed, n - beat) + along
        phase = ((at - ed) / period % 1).astype(np.float32)
    else:
        at = np.unique(np.linspace(0, n - 1, min(frames, n)).astype(int))
        phase = np.full(len(at), np.nan, np.float32)
    return _resized(clip.pixels, at, size, nearest=False), _outlined(clip, at, size), phase


def _resized(images: NDArray[np.uint8], at: NDArray[np.int64], size: int, *, nearest: bool) -> NDArray[np.uint8]:
    return np.stack([resize(images[i], size, nearest=nearest) for i in at])


def _outlined(clip: Clip, at: NDArray[np.int64], size: int) -> NDArray[np.uint8]:
    if clip.masks is None:
        return np.full((len(at), size, size), UNLABELLED, np.uint8)
    masks = _resized(clip.masks, at, size, nearest=True)
    return np.where((masks > ATRIUM) & (masks != UNLABELLED), np.uint8(BACKGROUND), masks)


def _correlation(one: NDArray[np.float64], other: NDArray[np.float64]) -> float:
    return float((one * other).sum() / max(np.sqrt((one**2).sum() * (other**2).sum()), 1e-9))
