"""Screening of candidates by a site: it draws them again, looks at its own people, and says one bit for each, once.

What a server could make of verdicts is why each line here is as it is. Who may slip in a picture of its own learns
whether that patient is there: so a site draws candidates itself, all or a part that nobody can foresee, and refuses
whatever is foreign. Who may ask again, of other candidates or by another threshold, finds a patient by bisection: so a
generator is screened once, whatever comes of it, and what was asked is on disk before anybody's record is opened.
"""

import hashlib
import hmac
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from client.admission import Admission, admitted
from client.site import Site
from client.training import threads
from learning import durable, wire
from learning.messages import Code, Kept, Refusal, Screen
from learning.schema import canonical

if TYPE_CHECKING:
    from privacy.embedding import Embedding
    from privacy.votes import Gate, VoteFilter
    from synthesis.candidates import Recipe

ASKED = "screened"  # folder of what was asked, one file per generator
FEWEST = 3  # subjects that a spot check draws again


def screen(site: Site, request: Screen) -> Kept:
    """Say of each candidate whether it may be released: by the votes of members, or exactly, which no ε covers."""
    admission, exact = admitted(site, request.run), "exact" in request.rule
    if exact and not site.policy.allow_empirical:
        raise Refusal(Code.REFUSED_POLICY, "screening against patients is not allowed here")
    recipe, numbers = _understood(site, request)

    def compute() -> Kept:
        _once(site, request)
        with threads(site.file.threads):
            _own(site, request, recipe, numbers)
            pixels = request.candidates["pixels"]
            decoys = request.decoys.get("pixels", np.zeros((0, *pixels.shape[2:]), np.uint8))
            if exact:
                return _exactly(site, request.rule, pixels, decoys)
            return _by_votes(site, request, admission, pixels, decoys)

    return site.outbox.answer(request, request.run, "screen", Kept, compute)


def _understood(site: Site, request: Screen) -> "tuple[Recipe, list[int]]":
    """Return recipe and numbers; raises `Refusal` unless they fit each other, the pictures and what was committed."""
    from privacy import embedding
    from synthesis.candidates import Recipe, commitment

    try:
        recipe = Recipe.from_json(request.recipe)
        due = commitment(recipe, request.weights, request.rule)["committed"]
    except (ValueError, TypeError) as error:
        raise Refusal(Code.UNREADABLE, f"a recipe that cannot be read: {error}") from error
    site.policy.allow(recipe.kind, recipe.name)
    if request.rule.get("embedding") != embedding.digest():
        raise Refusal(Code.REFUSED_CODE, "the rule is of another embedding than the one that is installed")
    if due != request.committed:
        raise Refusal(Code.REFUSED_FOREIGN, "generator, recipe and rule are not those that were committed")
    numbers, pixels = request.numbers.get("of"), request.candidates.get("pixels")
    whole = isinstance(numbers, list) and all(type(k) is int for k in numbers) and sorted(set(numbers)) == numbers
    if not whole or not numbers or not 0 <= numbers[0] <= numbers[-1] < recipe.subjects:
        raise Refusal(Code.UNREADABLE, f"numbers must ascend within the {recipe.subjects} subjects")
    if pixels is None or len(request.candidates) != 1 or pixels.ndim != 4 or len(pixels) != len(numbers):
        raise Refusal(Code.UNREADABLE, "candidates must be (numbers, pictures, size, size) pixels and nothing else")
    decoys = request.decoys.get("pixels")
    if request.decoys and (decoys is None or len(request.decoys) != 1 or decoys.shape[1:] != pixels.shape[2:]):
        raise Refusal(Code.UNREADABLE, "decoys must be (decoys, size, size) pixels and nothing else")
    return recipe, list(numbers)


def _once(site: Site, request: Screen) -> None:
    """Note durably that this generator is screened now; raises `Refusal` if it was, in another way or another run."""
    from learning import arrays

    folder = site.folder / ASKED
    path = folder / f"{arrays.digest(request.weights)}.json"
    asking = {
        "run": request.run,
        "request": wire.digest(request),
        "committed": request.committed,
        "exact": "exact" in request.rule,
    }
    folder.mkdir(exist_ok=True, mode=0o700)
    if path.exists():
        if json.loads(path.read_text(encoding="utf-8")) != asking:
            raise Refusal(Code.REFUSED_POLICY, "candidates of this generator were screened before")
        return
    if asking["exact"] and _exact_ones(folder) >= site.policy.exact_screenings:
        raise Refusal(Code.REFUSED_POLICY, f"{site.policy.exact_screenings} generators were screened exactly before")
    durable.write(path, canonical(asking).encode())


def _exact_ones(folder: Path) -> int:
    return sum(json.loads(path.read_text(encoding="utf-8"))["exact"] for path in folder.glob("*.json"))


def _own(site: Site, request: Screen, recipe: "Recipe", numbers: list[int]) -> None:
    """Draw a part of the candidates again; raises `Refusal` where one of them is another picture than it should be.

    Which part hangs on a secret of the site and on the request, so nobody foresees it and asking again moves nothing.
    """
    from synthesis.candidates import by_subject, same

    some = _part(site, request, len(numbers))
    generator = recipe.generator(request.weights)
    for first, last in _stretches([numbers[k] for k in some]):
        n = last - first + 1
        asked = recipe.conditions(first, n)
        drawn = by_subject(recipe.draw(generator, asked, first=first).looked_at())
        here = [k for k in some if first <= numbers[k] <= last]
        found = same(request.candidates["pixels"][here], drawn[[numbers[k] - first for k in here]])
        if not found.all():
            strange = [numbers[k] for k, ok in zip(here, found, strict=True) if not ok]
            raise Refusal(Code.REFUSED_FOREIGN, f"candidates {strange} are not what the generator draws")


def _part(site: Site, request: Screen, n: int) -> list[int]:
    """Return which of `n` candidates are drawn again: neighbours, for generators draw many at once."""
    k = min(n, max(FEWEST, math.ceil(site.policy.drawn_again * n)))
    lot = hmac.new(site.secret(), f"{ASKED}\0{wire.digest(request)}".encode(), hashlib.sha256).digest()
    start = int.from_bytes(lot) % n
    return sorted((start + i) % n for i in range(k))


def _stretches(numbers: list[int]) -> list[tuple[int, int]]:
    """Return first and last of the stretches of ascending numbers that are worth drawing whole."""
    found: list[tuple[int, int]] = []
    for k in numbers:
        if found and k - found[-1][1] <= 2 * FEWEST:
            found[-1] = (found[-1][0], k)
        else:
            found.append((k, k))
    return found


def _exactly(site: Site, rule: Mapping[str, Any], pixels: NDArray[np.uint8], decoys: NDArray[np.uint8]) -> Kept:
    """Keep whoever keeps the distance that calibration subjects keep, with every picture."""
    from cohorts.split import Split
    from privacy.embedding import embed
    from privacy.reidentification import ReidentificationFilter

    sieve = ReidentificationFilter(**rule["exact"])
    n, each, size, _ = pixels.shape
    near, owner = _posed(site, Split.MEMBERS, size=size)
    calibration = site.frames(Split.CALIBRATION, size=size)
    tau = sieve.calibrate(near, owner, embed(calibration.pixels), calibration.subject)
    images = embed(pixels.reshape(n * each, size, size))
    near, _ = _joined(near, owner, decoys)
    keep = sieve.screen(images, near, tau).reshape(n, each).all(1)
    return Kept(bits=np.packbits(keep).tobytes(), drawn_again=site.policy.drawn_again)


def _by_votes(
    site: Site, request: Screen, admission: Admission, pixels: NDArray[np.uint8], decoys: NDArray[np.uint8]
) -> Kept:
    """Let members vote against candidates under noise; count, under noise, whom any candidate resembles."""
    from cohorts.split import Split
    from privacy.embedding import embed
    from privacy.randomness import SecureRandom
    from privacy.votes import ballots, touched

    sieve, gate, tau = _votes(request.rule)
    for plan in (sieve.plan(), *((gate.plan(),) if gate else ())):
        admission.reserved(plan.to_json())
        site.ledger.intend(request.run, plan.purpose, f"screen.{plan.purpose}.{wire.digest(request)[:16]}", 1)
    n, each, size, _ = pixels.shape
    images, image = embed(pixels.reshape(n * each, size, size)), np.repeat(np.arange(n), each)
    near, owner = _posed(site, Split.MEMBERS, size=size)
    random = SecureRandom()
    keep = sieve.accept(ballots(*_joined(near, owner, decoys), images, image, tau=tau), random)
    counts = {}
    if gate:
        others, theirs = _posed(site, Split.CALIBRATION, Split.TEST, size=size)
        counts = {
            name: gate.release(touched(rows, of, images, tau=tau), random)
            for name, rows, of in (("members", near, owner), ("controls", others, theirs))
        }
    return Kept(bits=np.packbits(keep).tobytes(), drawn_again=site.policy.drawn_again, counts=counts)


def _votes(rule: Mapping[str, Any]) -> "tuple[VoteFilter, Gate | None, float]":
    from privacy.votes import Gate, VoteFilter

    try:
        gate = Gate(epsilon=rule["gate_epsilon"]) if rule.get("gate_epsilon") else None
        return VoteFilter(**rule["votes"]), gate, float(rule["tau"])
    except (KeyError, TypeError, ValueError) as error:
        raise Refusal(Code.UNREADABLE, f"a rule that cannot be read: {error}") from error


def _posed(site: Site, *splits: Any, size: int) -> "tuple[Embedding, NDArray[np.int64]]":
    """Return all pictures of these subjects, turned and moved, and whose they are."""
    frames = site.frames(*splits, size=size)
    return _turned(frames.pixels, frames.subject)


def _joined(
    near: "Embedding", owner: NDArray[np.int64], decoys: NDArray[np.uint8]
) -> "tuple[Embedding, NDArray[np.int64]]":
    """Add made-up patients of one picture each: they vote as patients do, and move no patient's vote."""
    more, whose = _turned(decoys, np.arange(len(decoys)) + owner.max(initial=-1) + 1)
    return np.concatenate([near, more]), np.concatenate([owner, whose])


def _turned(pixels: NDArray[np.uint8], owner: NDArray[np.int64]) -> "tuple[Embedding, NDArray[np.int64]]":
    from privacy.embedding import embed_poses

    posed = embed_poses(pixels)
    return posed.reshape(-1, posed.shape[-1]), np.repeat(owner, posed.shape[1])
