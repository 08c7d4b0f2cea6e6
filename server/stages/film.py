"""Film: draw moving hearts from the trained generator. Post-processing: it opens no real study and costs no privacy.

Settings:
    name, config: of the generator of clips.
    trained: the stage that trained it.
    subjects: synthetic hearts to draw, each in every released view.
    frames: of each clip, over one whole beat that begins at end diastole.
    lvef_percent: lowest and highest ejection fraction that is asked for; hearts fill the range evenly.
    classes: views, and which are released.

One heart has one volume curve in all its views. Shapes and their motion come from the phantom's public shape model; the
phantom's own pictures of the very same hearts are kept beside the candidates, so that the arm "phantom" of every task
differs from the arm "release" in appearance alone.

Writes `candidate_clips.safetensors` and `phantom_clips.safetensors`, of the same clips the frames at end diastole and
end systole, as the stage `sample` does, and `film.json`: how near biplane disks in the masks come to what was asked.
"""

import dataclasses
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cohorts import clips as moving
from cohorts import frames as table
from cohorts.clips import Clips
from conf.schema import Classes
from learning import arrays
from server.campaign import State
from server.stages.sample import CANDIDATES, PHANTOMS
from server.stages.train import WEIGHTS

FILM = "film.json"
CANDIDATE_CLIPS, PHANTOM_CLIPS = "candidate_clips.safetensors", "phantom_clips.safetensors"


def run(state: State) -> None:
    """Draw all clips; clip k depends on the seed and k alone."""
    from synthesis.conditions import beats, ends
    from synthesis.parts import build

    told: dict[str, Any] = dict(state.stage.settings)
    generator: Any = build("clip_generator", told["name"], told["config"], seed=state.campaign.seed)
    arrays.load(generator.module, arrays.read(state.output(told["trained"], WEIGHTS)))
    state.tell(0.0, "hearts from the public shape model")
    phantoms, systole = beats(
        Classes(**told["classes"]),
        told["subjects"],
        seed=state.campaign.seed,
        size=state.campaign.size,
        frames=told["frames"],
        lvef_percent=tuple(told["lvef_percent"]),
        pictures=True,
    )
    conditions = dataclasses.replace(phantoms, pixels=np.zeros_like(phantoms.pixels))
    state.write_json(FILM, _obeyed(phantoms, systole))
    pixels = generator.sample(
        conditions,
        seed=state.campaign.seed,
        progress=lambda k, n: state.tell(k / n, f"{k} of {n} clips"),
    )
    for clips, whole, still in (
        (phantoms, PHANTOM_CLIPS, PHANTOMS),
        (dataclasses.replace(conditions, pixels=pixels), CANDIDATE_CLIPS, CANDIDATES),
    ):
        moving.write(state.folder / whole, clips)
        table.write(state.folder / still, ends(clips, systole))


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
