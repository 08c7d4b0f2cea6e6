"""Film: draw moving hearts from the trained generator. Post-processing: it opens no real study and costs no privacy.

Settings:
    name, config: of the generator of clips.
    trained: the stage that trained it.
    subjects: synthetic hearts to draw, each in every released view.
    frames: of each clip, over one whole beat that begins at end diastole.
    lvef_percent: lowest and highest ejection fraction that is asked for; hearts fill the range evenly.
    classes: views, and which are released.
    rule: as of the stage `sample`.

One heart has one volume curve in all its views. Shapes and their motion come from the phantom's public shape model; the
phantom's own pictures of the very same hearts are kept beside the candidates, so that the arm "phantom" of every task
differs from the arm "release" in appearance alone.

Writes `candidate_clips.safetensors` and `phantom_clips.safetensors`; of the same clips the frames at end diastole and
end systole, and `commitment.json`, as the stage `sample` does; and `film.json`: how near biplane disks in the masks
come to what was asked.
"""

import numpy as np
from numpy.typing import NDArray

from cohorts import clips as moving
from cohorts import frames as table
from cohorts.clips import Clips
from server.campaign import State
from server.stages.sample import CANDIDATES, PHANTOMS, committed

FILM = "film.json"
CANDIDATE_CLIPS, PHANTOM_CLIPS = "candidate_clips.safetensors", "phantom_clips.safetensors"


def run(state: State) -> None:
    """Draw all clips; clip k depends on the seed and k alone."""
    recipe, generator = committed(state, "clip_generator")
    state.tell(0.0, "hearts from the public shape model")
    phantoms = recipe.conditions(pictures=True)
    if phantoms.clips is None or phantoms.systole is None:
        raise ValueError(f"frames={recipe.frames} is no film")
    state.write_json(FILM, _obeyed(phantoms.clips, phantoms.systole))
    drawn = recipe.draw(generator, phantoms, progress=lambda k, n: state.tell(k / n, f"{k} of {n} clips"))
    for candidates, whole, still in (
        (phantoms, PHANTOM_CLIPS, PHANTOMS),
        (drawn, CANDIDATE_CLIPS, CANDIDATES),
    ):
        if candidates.clips is not None:
            moving.write(state.folder / whole, candidates.clips)
        table.write(state.folder / still, candidates.stills)


def _obeyed(clips: Clips, systole: NDArray[np.int64]) -> dict[str, float | int]:
    """Return error in points and correlation of the fractions that are in the masks against those asked for."""
    from evaluation.volumes import biplane_lvef
    from synthesis.conditions import ends

    found, asked = biplane_lvef(ends(clips, systole)), np.full(len(clips.subjects), np.nan)
    asked[clips.subject] = clips.lvef_percent
    known = np.isfinite(found)
    if known.sum() < 3:
        return {"hearts": int(known.sum())}
    return {
        "hearts": int(known.sum()),
        "error_points": round(float(np.abs(found - asked)[known].mean()), 2),
        "correlation": round(float(np.corrcoef(found[known], asked[known])[0, 1]), 3),
    }
