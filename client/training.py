"""Local training: on members only, charged before the first gradient, answered once."""

import hashlib
from contextlib import contextmanager
from dataclasses import asdict
from typing import TYPE_CHECKING

from client import groups, personal
from client.admission import admitted
from client.site import Site
from learning import durable, wire
from learning.messages import Code, Guess, Guessed, Refusal, Train, Trained

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from cohorts.clips import Clips
    from cohorts.frames import Frames
    from learning.learner import Learner
    from privacy.mechanism import DpPlan

REFERENCE = "reference"
MASKING = "masking"  # folder of the secrets of `client.masking`, by run and stage


def train(site: Site, request: Train) -> Trained:
    """Answer what `changed` returns, in clear; refused where it may leave under masks only."""
    if site.policy.secure_aggregation.required or (site.folder / MASKING / request.run / request.stage).exists():
        raise Refusal(Code.REFUSED_POLICY, f"stage {request.stage!r}: changes leave under secure aggregation only")
    return changed(site, request)


def changed(site: Site, request: Train) -> Trained:
    """Train from the given arrays and return what changed: noised under the reserved plan, or as a reference arm."""
    from synthesis.parts import of_clips

    site.policy.allow(request.kind, request.name)
    if of_clips(request.kind) != (request.frames > 0):
        raise Refusal(Code.UNREADABLE, f"frames={request.frames} does not fit kind={request.kind!r}")
    admission = admitted(site, request.run)
    if request.steps > site.policy.max_steps:
        raise Refusal(Code.REFUSED_POLICY, f"steps={request.steps} exceeds {site.policy.max_steps}")
    plan = None if request.plan is None else admission.dp_plan(request.plan)
    if plan is None and not (
        site.policy.allow_non_dp_reference and request.kind == "learner" and request.stage.startswith(REFERENCE)
    ):
        raise Refusal(Code.REFUSED_POLICY, f"stage {request.stage!r}: training without noise is not allowed here")
    groups.understood(request.minds, private=plan is not None)
    if personal.of(request.arrays, request.personal):
        raise Refusal(Code.UNREADABLE, f"arrays hold weights that personal={request.personal!r} says are this site's")
    key = f"train.{request.stage}.{request.round}"

    def compute() -> Trained:
        if plan is not None:
            # Another request under this key is another charge: only what is in the outbox can be had again for nothing.
            intent = f"{key}.{wire.digest(request)[:16]}"
            site.ledger.intend(request.run, plan.purpose, intent, request.steps)
        return _fit(site, request, plan)

    return site.outbox.answer(request, request.run, key, Trained, compute)


def guess(site: Site, request: Guess) -> Guessed:
    """Guess which canaries were in, from what `rounds` exchanges of a private training left of them."""
    admitted(site, request.run)

    def compute() -> Guessed:
        path = _audit_path(site, request.run, request.stage, request.rounds)
        if not path.exists():
            raise Refusal(Code.UNREADABLE, f"stage {request.stage!r} left no canaries after exchange {request.rounds}")
        from privacy.audit.layer import AuditLayer

        return Guessed(
            guesses={name: asdict(g) for name, g in AuditLayer.from_bytes(path.read_bytes()).guesses().items()}
        )

    return site.outbox.answer(request, request.run, f"guess.{request.stage}", Guessed, compute)


def _fit(site: Site, request: Train, plan: "DpPlan | None") -> Trained:
    from cohorts.split import Split
    from learning import arrays
    from learning.learner import fit
    from synthesis.parts import build

    learner = build(request.kind, request.name, request.config, seed=request.seed, prior=request.prior)
    arrays.load_frozen(learner.module, request.frozen)
    first = personal.of(arrays.trainable(learner.module), request.personal)
    own = personal.read(site, request.run, request.stage, request.round - 1) if first else {}
    arrays.load(learner.module, {**first, **own, **request.arrays})
    members: Frames | Clips
    if request.frames:
        members = site.clips(Split.MEMBERS, size=request.size, frames=request.frames)
    else:
        members = site.frames(Split.MEMBERS, size=request.size)
    with threads(site.file.threads):
        if plan is None and not len(members):
            pass  # the lot gave this site nobody to train on: its arrays stay as they came
        elif plan is None:
            fit(
                learner,
                members,
                steps=request.steps,
                batch_size=request.batch_size,
                learning_rate=request.learning_rate,
                seed=seed_of(request.seed, site.name, request.stage, request.round),
                proximal=request.proximal,
                groups=groups.minded(site, members, request.minds),
            )
        else:
            _fit_private(site, request, learner, members, plan)
    after = arrays.trainable(learner.module)
    if first:
        personal.keep(site, request.run, request.stage, request.round, personal.of(after, request.personal))
    return Trained(arrays={name: after[name] - request.arrays[name] for name in request.arrays})


def _fit_private(site: Site, request: Train, learner: "Learner", members: "Frames | Clips", plan: "DpPlan") -> None:
    """Train with canaries aboard; what they left is on disk before the answer is.

    An exchange that is computed again, because its answer never got there, starts from the canaries of the one before.
    """
    from learning.learner import fit_private
    from privacy.audit.layer import CANARIES, AuditLayer
    from privacy.audit.power import guesses_for
    from privacy.randomness import SecureRandom

    random = SecureRandom()
    before = _audit_path(site, request.run, request.stage, request.round - 1)
    audit = None
    if request.round == 1:
        delta = admitted(site, request.run).delta
        audit = AuditLayer.throw(CANARIES, random, guessed=guesses_for(plan, delta))
    elif before.exists():
        audit = AuditLayer.from_bytes(before.read_bytes())
    weights, words = groups.declared(site, members, request.minds)
    fit_private(
        learner,
        members,
        plan,
        steps=request.steps,
        public_subjects=max(1, site.file.public_subjects // 2),  # half are members, by a lot that is public
        learning_rate=request.learning_rate,
        random=random,
        audit=audit,
        mode=site.file.engine,
        proximal=request.proximal,
        declared=weights,
        words=words,
    )
    if audit is not None:  # an exchange whose past is lost is not audited: its training stays without a finding
        after = _audit_path(site, request.run, request.stage, request.round)
        after.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        durable.write(after, audit.to_bytes())


def _audit_path(site: Site, run: str, stage: str, exchange: int) -> "Path":
    return site.folder / "canaries" / run / f"{stage}.{exchange}.safetensors"


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
