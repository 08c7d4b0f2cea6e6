"""Local training: on members only, charged before the first gradient, answered once."""

import hashlib
from contextlib import contextmanager
from typing import TYPE_CHECKING

from client.admission import admitted
from client.site import Site
from learning import wire
from learning.messages import Code, Refusal, Train, Trained

if TYPE_CHECKING:
    from collections.abc import Iterator

    from learning.arrays import Arrays
    from learning.learner import Learner

REFERENCE = "reference"


def train(site: Site, request: Train) -> Trained:
    """Train from the given arrays and return what changed: noised under the reserved plan, or as a reference arm."""
    site.policy.allow(request.kind, request.name)
    admission = admitted(site, request.run)
    if request.steps > site.policy.max_steps:
        raise Refusal(Code.REFUSED_POLICY, f"steps={request.steps} exceeds {site.policy.max_steps}")
    plan = None if request.plan is None else admission.dp_plan(request.plan)
    if plan is None and not (
        site.policy.allow_non_dp_reference and request.kind == "learner" and request.stage.startswith(REFERENCE)
    ):
        raise Refusal(Code.REFUSED_POLICY, f"stage {request.stage!r}: training without noise is not allowed here")
    key = f"train.{request.stage}.{request.round}"

    def compute() -> Trained:
        if plan is not None:
            # Another request under this key is another charge: only what is in the outbox can be had again for nothing.
            intent = f"{key}.{wire.digest(request)[:16]}"
            site.ledger.intend(request.run, plan.purpose, intent, request.steps)
        return _fit(site, request)

    return site.outbox.answer(request, request.run, key, Trained, compute)


def _fit(site: Site, request: Train) -> Trained:
    from cohorts.split import Split
    from learning import arrays
    from learning.learner import fit, fit_private
    from privacy.mechanism import DpPlan, plan_from_json
    from privacy.randomness import SecureRandom
    from synthesis.parts import build

    learner = build(request.kind, request.name, request.config, seed=request.seed, prior=request.prior)
    arrays.load(learner.module, request.arrays)
    members = site.frames(Split.MEMBERS, size=request.size)
    with threads(site.file.threads):
        if request.plan is None:
            fit(
                learner,
                members,
                steps=request.steps,
                batch_size=request.batch_size,
                learning_rate=request.learning_rate,
                seed=seed_of(request.seed, site.name, request.stage, request.round),
            )
        else:
            plan = plan_from_json(request.plan)
            if not isinstance(plan, DpPlan):
                raise TypeError(f"{type(plan).__name__} is no plan to train by")
            fit_private(
                learner,
                members,
                plan,
                steps=request.steps,
                public_subjects=max(1, site.file.public_subjects // 2),  # half are members, by a lot that is public
                learning_rate=request.learning_rate,
                random=SecureRandom(),
            )
    return Trained(arrays=_change(learner, request))


def _change(learner: "Learner", request: Train) -> "Arrays":
    from learning import arrays

    after = arrays.trainable(learner.module)
    return {name: after[name] - request.arrays[name] for name in after}


def seed_of(*words: object) -> int:
    """Return the seed that belongs to these words: the same on every machine, different for different words."""
    return int.from_bytes(hashlib.sha256("\0".join(map(str, words)).encode()).digest()[:7], "big")


@contextmanager
def threads(n: int) -> "Iterator[None]":
    """Let torch use `n` threads, and give back what it had: equal threads give equal bits (flower.md 6)."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(n)
    try:
        yield
    finally:
        torch.set_num_threads(before)
