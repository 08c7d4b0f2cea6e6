"""Simulated studies: public, seeded, the embedded default wherever nobody names data of their own."""

from dataclasses import dataclass

import numpy as np

from cohorts.deidentify import Pseudonyms
from cohorts.frames import VIEWS
from cohorts.phantom import motion, scanner, simulate
from cohorts.readers import READERS
from cohorts.study import Clip, Cohort, Origin, Study, SubjectKey, View


@READERS("phantom")
@dataclass(frozen=True, slots=True, kw_only=True)
class Phantom:
    """One simulated hospital.

    Attributes:
        subjects: how many subjects it has.
        seed: names its people; another seed, other people.
        site: its style: wide, site-a, site-b or site-c.
        views: the views of every study.
        size: side of the pictures in pixels.
        frames: 2 for end diastole and end systole alone; more for that many frames of one cycle, from a random moment
            on; 0 for as many as the site's frame rate gives.
        clips_per_view: how often each view is filmed in a study.
        studies_per_subject: how often each subject comes.
    """

    subjects: int = 400
    seed: int = 0
    site: str = "site-a"
    views: tuple[str, ...] = (View.A2C.value, View.A4C.value)
    size: int = 64
    frames: int = 2
    clips_per_view: int = 1
    studies_per_subject: int = 1

    def __post_init__(self) -> None:
        object.__setattr__(self, "views", tuple(self.views))
        scanner.site(self.site)
        lowest = {"subjects": 1, "seed": 0, "size": 16, "clips_per_view": 1, "studies_per_subject": 1}
        for name, bound in lowest.items():
            if getattr(self, name) < bound:
                raise ValueError(f"{name}={getattr(self, name)} must be at least {bound}")
        if self.frames != 0 and self.frames < 2:
            raise ValueError(f"frames={self.frames} must be 0 or at least 2")
        unknown = [v for v in self.views if v not in VIEWS]
        if unknown or not self.views:
            raise ValueError(f"views={self.views} must be some of {', '.join(VIEWS)}")

    def read(self, *, pseudonyms: Pseudonyms) -> Cohort:
        """List the subjects; each is simulated when asked for, each time the same."""
        everybody = simulate.examinations(range(self.subjects), seed=self.seed, style=self.site)
        number = {pseudonyms.subject(simulate.subject_name(self.site, self.seed, k)): k for k in range(self.subjects)}
        columns = {
            key: {
                "site": self.site,
                "sex": _sex(bool(everybody.female[k])),
                "age_band": _decade(float(everybody.age_years[k])),
                "lvef_percent": f"{everybody.who.lvef_percent[k]:.1f}",
            }
            for key, k in number.items()
        }

        def load(subject: SubjectKey) -> tuple[Study, ...]:
            k = number[subject]
            return tuple(self._study(k, study, subject, pseudonyms) for study in range(self.studies_per_subject))

        return Cohort(subjects=tuple(sorted(number)), load=load, origin=Origin.PHANTOM, columns=columns)

    def _study(self, k: int, study: int, subject: SubjectKey, pseudonyms: Pseudonyms) -> Study:
        exam = simulate.examinations([k], seed=self.seed, style=self.site, study=study)
        words = scanner.site(self.site).view_labels
        filmed = [View(v) for v in self.views for _ in range(self.clips_per_view)]
        return Study(
            key=pseudonyms.study(f"{simulate.subject_name(self.site, self.seed, k)}-{study}"),
            subject=subject,
            clips=tuple(
                self._clip(exam, k, View(view), study, clip)
                for view in self.views
                for clip in range(self.clips_per_view)
            ),
            origin=Origin.PHANTOM,
            labels={
                "lvef_percent": float(exam.who.lvef_percent[0]),
                "heart_rate_bpm": float(exam.who.heart_rate_bpm[0]),
                "age_years": float(exam.age_years[0]),
                "sex": _sex(bool(exam.female[0])),
                "site": self.site,
                "view_label": "; ".join(words[VIEWS.index(view)] for view in filmed),
            },
        )

    def _clip(self, exam: simulate.Examinations, k: int, view: View, study: int, clip: int) -> Clip:
        beat_seconds = 60 / float(exam.who.heart_rate_bpm[0])
        rate = scanner.site(self.site).frames_per_second
        frames = self.frames or max(8, round(beat_seconds * rate))
        end_systole = float(motion.systole(exam.who.heart_rate_bpm)[0])
        es = 1 if frames == 2 else round(end_systole * frames)
        at = np.arange(frames)
        phase = np.interp(at, [0, es, frames], [0, end_systole, 1])
        # Nobody starts to record at end diastole; which moment it is belongs to the clip, not to its length.
        first = 0 if frames == 2 else (7 * k + 3 * clip + 5 * VIEWS.index(view) + 11 * study) % frames
        phase = np.roll(phase, -first)
        pixels, masks, mm = simulate.film(
            exam, [k], view, phase[None], seed=self.seed, size=self.size, study=study, clip=clip
        )
        return Clip(
            pixels=pixels[0],
            masks=masks[0],
            view=view,
            ed_frame=-first % frames,
            es_frame=(es - first) % frames,
            frame_seconds=beat_seconds * (end_systole if frames == 2 else 1 / frames),
            pixel_mm=(float(mm[0, 0]), float(mm[0, 1])),
        )


def _sex(female: bool) -> str:
    return "female" if female else "male"


def _decade(age_years: float) -> str:
    low = int(age_years) // 10 * 10
    return f"{low}-{low + 9}"
