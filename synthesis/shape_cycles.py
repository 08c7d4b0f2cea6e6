"""A cycle of masks for clips that are asked for by their ejection fraction alone.

A number does not say where walls are; the public shape prior does, at no cost in privacy, and a generator that obeys
masks then obeys the number. It is a step of its own, before drawing, so that whoever draws sees what was added.
"""

from dataclasses import replace

import numpy as np

from cohorts.clips import Clips
from cohorts.frames import VIEWS
from cohorts.phantom import heart
from cohorts.study import UNLABELLED
from synthesis import shape


def completed(clips: Clips, *, seed: int) -> Clips:
    """Return `clips` where rows without any mask, but with LVEF, view and phases, have those of a synthetic heart.

    Rows of one subject that ask for the same are planes of one heart, so biplane volumes agree. A heart rate that is
    not known becomes the synthetic person's own, for the moment of end systole hangs on it. Row k depends on itself,
    its subject's number and `seed` only; other rows are left as they are.

    Raises:
        ValueError: an ejection fraction outside `shape.POSSIBLE_LVEF`.
    """
    real = clips.real
    outlined = ((clips.masks != UNLABELLED).any((2, 3)) & real).any(1)
    timed = np.isfinite(clips.phase).all(1, where=real)
    wanted = np.flatnonzero(~outlined & timed & np.isfinite(clips.lvef_percent) & (clips.view >= 0))
    masks, rates = clips.masks.copy(), clips.heart_rate_bpm.copy()
    for row in wanted:
        who, length, view = int(clips.subject[row]), int(clips.length[row]), VIEWS[clips.view[row]]
        exam = shape.examinations(clips.lvef_percent[row : row + 1], seed=seed, first=who)
        if np.isfinite(rates[row]):
            exam = replace(exam, who=replace(exam.who, heart_rate_bpm=rates[row : row + 1]))
        held = np.random.default_rng([seed, who, int(clips.view[row])])
        pose = held.random((1, heart.POSE_DRAWS), np.float32)
        drawn, _ = shape.outlines(exam, pose, view, clips.phase[row : row + 1, :length], size=clips.masks.shape[-1])
        masks[row, :length], rates[row] = drawn[0], exam.who.heart_rate_bpm[0]
    return replace(clips, masks=masks, heart_rate_bpm=rates)
