"""What a site measures on its own people: scores of models, attacks on a release.

Each is answered once per run and stage (see `client.outbox`), so that nobody learns about a patient by asking again in
other words. What leaves is rounded or noised; per-subject values, matches and distances stay.
"""

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from client import groups, scoring
from client.admission import admitted
from client.site import Site
from client.training import threads
from learning import wire
from learning.messages import Attack, Code, Counts, Refusal, Score, Scores

if TYPE_CHECKING:
    from cohorts.frames import Frames


def score(site: Site, request: Score) -> Scores:
    """Score the given models, and one trained here on members, on test subjects."""
    site.policy.allow("task", request.task)
    admitted(site, request.run)
    if not site.policy.allow_scores:
        raise Refusal(Code.REFUSED_POLICY, "scores are not allowed here")
    if own := scoring.OWN & request.arms.keys():
        raise Refusal(Code.UNREADABLE, f"the arm {min(own)!r} is this site's own")
    groups.understood(request.minds, private=False)
    if (released := request.released) and request.frames:
        raise Refusal(Code.UNREADABLE, "released images are for tasks of frames")
    key = f"score.{request.stage}.{request.task}"
    return site.outbox.answer(
        request,
        request.run,
        key,
        Scores,
        lambda: scoring.score(site, request, as_frames(released) if released else None),
    )


def attack(site: Site, request: Attack) -> Counts:
    """Attack released frames with members and controls; the counts are noised unless the lane is EMPIRICAL."""
    from privacy.attacks import ATTACKS
    from privacy.randomness import SecureRandom

    site.policy.allow("attack", request.name)
    admission = admitted(site, request.run)
    if not (request.formal or site.policy.allow_empirical):
        raise Refusal(Code.REFUSED_POLICY, "exact counts are not allowed here")
    part = ATTACKS[request.name](**request.config)
    key = f"attack.{request.stage}.{request.name}"

    def compute() -> Counts:
        from cohorts.split import Split

        if request.formal:
            for plan in part.plans():
                admission.reserved(plan.to_json())
                intent = f"{key}.{plan.purpose}.{wire.digest(request)[:16]}"
                site.ledger.intend(request.run, plan.purpose, intent, 1)
        released = as_frames(request.released)
        size = released.pixels.shape[1]
        members = site.frames(Split.MEMBERS, size=size)
        controls = site.frames(Split.CALIBRATION, Split.TEST, size=size)
        with threads(site.file.threads):
            found = part.count(
                released,
                members,
                controls,
                random=SecureRandom(),
                formal=request.formal,
                public_subjects=site.file.public_subjects,
            )
        return Counts(counts=_plain(asdict(found)))

    return site.outbox.answer(request, request.run, key, Counts, compute)


def as_frames(images: Mapping[str, NDArray[np.uint8]]) -> "Frames":
    """Return released or candidate images as frames of as many nameless subjects; 255 is an unknown view or phase."""
    from cohorts.frames import Frames

    if set(images) != {"pixels", "masks", "view", "phase"}:
        raise Refusal(Code.UNREADABLE, "images are pixels, masks, view and phase")
    pixels, n = images["pixels"], len(images["pixels"])
    square = pixels.ndim == 3 and n > 0 and 8 <= pixels.shape[1] == pixels.shape[2] <= 1024
    if not square or images["masks"].shape != pixels.shape or {images[k].shape for k in ("view", "phase")} != {(n,)}:
        raise Refusal(Code.UNREADABLE, "images must be (n, size, size), with a view and a phase each")
    return Frames(
        pixels=pixels,
        masks=images["masks"],
        view=np.where(images["view"] == 255, -1, images["view"].astype(np.int64)),
        phase=np.where(images["phase"] == 255, -1, images["phase"].astype(np.int64)),
        lvef_percent=np.full(n, np.nan, np.float32),
        subject=np.arange(n),
        subjects=tuple(f"released-{i}" for i in range(n)),  # type: ignore[misc]
    )


def _plain(value: Any) -> Any:
    """Return numbers as JSON has them."""
    if isinstance(value, Mapping):
        return {str(k): _plain(v) for k, v in value.items()}
    if isinstance(value, tuple | list | np.ndarray):
        return [_plain(v) for v in value]
    return value.item() if isinstance(value, np.generic) else value
