"""Of every part that hospitals train, what leaves is what was trained, all of it and nothing else.

A frozen backbone that went along would cost a thousand times the bytes of an adapter, and a trained weight that stayed
would be lost. Each part is trained at a site, privately, so that noise moves every weight that is trained.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from learning import arrays
from learning.learners import CLIP_LEARNERS, LEARNERS
from learning.messages import Trained
from synthesis import parts
from synthesis.generators import CLIP_GENERATORS, GENERATORS
from tests.contracts import test_clip_learners, test_generators, test_learners
from tests.hospitals import PLAN, Wire, hospital, reserve_request, train_request

KINDS = {
    "learner": (LEARNERS, test_learners.TINY),
    "clip_learner": (CLIP_LEARNERS, test_clip_learners.TINY),
    "generator": (GENERATORS, test_generators.TINY),
    "clip_generator": (CLIP_GENERATORS, test_generators.TINY_MOVING),
}
CASES = [
    (kind, name) for kind, (known, _) in KINDS.items() for name in known if known[name].__module__[0:6] != "tests."
]


@pytest.mark.parametrize(("kind", "name"), CASES)
def test_what_leaves_is_what_was_trained(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, name: str) -> None:
    moving, config = kind.startswith("clip_"), KINDS[kind][1][name]
    size, frames = (32, 8) if moving else (64, 0)
    cohort = {"reader": "phantom", "subjects": 8, "seed": 1, "site": "site-a", "frames": frames or 2}
    allowed = "generators" if kind.endswith("generator") else "learners"
    site = hospital(tmp_path, cohort=cohort, **{allowed: (name,)})
    module = parts.build(kind, name, config, seed=3, prior="").module
    before, shared = arrays.state(module), arrays.trainable(module)
    built: list[Any] = []
    build = parts.build

    def kept(*args: Any, **told: Any) -> Any:
        built.append(build(*args, **told))
        return built[-1]

    monkeypatch.setattr(parts, "build", kept)
    wire = Wire(site)
    assert wire.ask(reserve_request(PLAN)).epsilon > 0
    told: dict[str, Any] = {"kind": kind, "name": name, "config": config, "size": size, "frames": frames}
    reply = wire.ask(train_request(**told, steps=1, learning_rate=1e-2, arrays=shared))
    assert isinstance(reply, Trained), reply
    after = arrays.state(built[-1].module)
    moved = {n for n in after if not np.array_equal(after[n], before[n])}
    assert set(reply.arrays) == set(shared) == moved
