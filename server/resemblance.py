"""How the release resembles what is public, as a certificate says it. No real study is opened: nothing is charged."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from cohorts import clips as moving
from cohorts import frames as table
from evaluation.predicate import Fidelity
from server.campaign import State
from server.stages.film import PHANTOM_CLIPS
from server.stages.sample import PHANTOMS
from server.stages.screen import RELEASED, RELEASED_CLIPS

REFERENCE = "public phantoms"


def fidelity_section(state: State) -> Iterator[Fidelity]:
    """Yield how the release resembles the public phantoms, and whether its hearts could be hearts."""
    from evaluation import fidelity, plausibility

    kinds = [_read(state, table.read, RELEASED, PHANTOMS)]
    if any(stage.do == "film" for stage in state.campaign.stages):
        kinds.append(_read(state, moving.read, RELEASED_CLIPS, PHANTOM_CLIPS))
    for released, phantoms in kinds:
        yield from fidelity.describe(released, phantoms, called=REFERENCE, reads_real=False, seed=state.campaign.seed)
        yield from plausibility.describe(released, phantoms, called=REFERENCE, reads_real=False)


def _read(state: State, read: Callable[[Path], Any], released: str, phantoms: str) -> tuple[Any, Any]:
    return read(state.output("screen", released)), read(state.output("screen", phantoms))
