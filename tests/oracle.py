"""The oracle of the boundary: says what a reply must not have said, and where the replies of twins must not differ.

A byte that differs between twins is a byte that knows whether the person is there. Each place where that is allowed
stands in `MAY_DIFFER`, under the step of `privacy.coverage` that allows it; numbers that are noised under a charge are
also held against the clipped gradient of that person, and against other dice, for noise must be in each of them.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from fnmatch import fnmatchcase
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from cohorts.frames import Frames
from cohorts.split import Split
from privacy import moments
from synthesis import likeness
from tests.hospitals import TinyLearner
from tests.twins import PLAN, PUBLIC, RATE, SHAPES, Reply

# What one person less may change, by the steps of the coverage table.
LESS = {
    Split.MEMBERS: {
        "train.views", "shapes.moments", "reference.federated", "reference.local", "attack.disclosure", "attack.exact",
        "screening.votes", "screening.gate", "screening.reidentification",
    },
    Split.CALIBRATION: {"attack.disclosure", "attack.exact", "screening.gate", "screening.reidentification"},
    Split.TEST: {"scores.test", "reference.local", "attack.disclosure", "attack.exact", "screening.gate"},
}  # fmt: skip
# (case, field of the reply) and the step that lets it differ. Whatever is not here, must not.
MAY_DIFFER = {
    ("train", "arrays"): "train.views",
    ("train again", "arrays"): "train.views",
    ("query.measure", "arrays"): "shapes.moments",
    ("reference", "arrays"): "reference.federated",
    ("train.masked", "arrays"): "reference.federated",
    ("evaluate", "scores.release.*"): "scores.test",
    ("evaluate", "scores.local.*"): "reference.local",
    ("evaluate", "differences.local.release.*"): "reference.local",
    ("evaluate", "groups.release.*"): "scores.test",
    ("evaluate", "groups.local.*"): "reference.local",
    ("evaluate", "scores.trivial.*"): "reference.local",
    ("evaluate", "differences.local.trivial.*"): "reference.local",
    ("evaluate", "differences.release.trivial.*"): "reference.local",
    ("evaluate", "groups.trivial.*"): "reference.local",
    ("evaluate", "kept.local.*"): "reference.local",
    ("evaluate", "gained.local.*"): "reference.local",
    ("evaluate", "gained.trivial.*"): "reference.local",
    ("query.attack", "counts.members_disclosed"): "attack.disclosure",
    ("query.attack", "counts.controls_disclosed"): "attack.disclosure",
    ("query.attack", "counts.copies_found"): "attack.disclosure",
    ("exact attack", "counts.members"): "attack.exact",
    ("exact attack", "counts.controls"): "attack.exact",
    ("exact attack", "counts.members_disclosed"): "attack.exact",
    ("exact attack", "counts.controls_disclosed"): "attack.exact",
    ("exact attack", "counts.copies_found"): "attack.exact",
    ("query.screen", "bits"): "screening.votes",
    ("query.screen", "counts.members"): "screening.gate",
    ("query.screen", "counts.controls"): "screening.gate",
    ("exact screen", "bits"): "screening.reidentification",
}
COUNTS = {
    "members": "int", "controls": "int", "members_disclosed": "int", "controls_disclosed": "int",
    "copies_found": "int", "threshold": "float", "formal": "bool",
}  # fmt: skip
CELL = {"accuracy": {"mean": "float", "standard_error": "float", "n": "int"}}
WHOLE = {**CELL, "recall": CELL["accuracy"]}
CHANGE = {"arrays": {"2.weight": "<f4(2, 16)", "2.bias": "<f4(2,)"}}
GUESSES = {"canaries": "int", "guessed": "int", "right": "int"}
# All that a reply says, to the last name and type: schemas are wider, for attacks and tasks are plugins.
SAYS: dict[str, Any] = {
    "query.hello": {"site": "str", "public_subjects": "int", "public_key": "bytes[32]", "code_digest": "str"},
    "query.reserve": {"epsilon": "float", "delta": "float", "head": "str", "seq": "int"},
    "train": CHANGE,
    "train again": CHANGE,
    "query.guess": {"guesses": {"sum": GUESSES, "spread": GUESSES}},
    "query.measure": {"arrays": {"moments": f"<f4({moments.numbers(likeness.MODES)},)"}},
    "reference": CHANGE,
    "query.keys": {"parts": "bytes[160]"},
    "query.shares": {"parts": "bytes[320]"},
    "train.masked": {"arrays": {"2.weight": "<u8(2, 16)", "2.bias": "<u8(2,)"}},
    "query.unmask": {"parts": "bytes[198]"},
    "evaluate": {
        "scores": {"release": WHOLE, "local": WHOLE, "trivial": CELL},
        "differences": {"local": {"release": WHOLE, "trivial": CELL}, "release": {"trivial": CELL}, "trivial": {}},
        "groups": {arm: {"ward": {"east": CELL, "west": CELL}} for arm in ("local", "release", "trivial")},
        "kept": {"local": CELL},
        "gained": {arm: {"ward": {"east": CELL, "west": CELL}} for arm in ("local", "trivial")},
        "turned": {},
    },
    "query.attack": {"counts": COUNTS},
    "exact attack": {"counts": COUNTS},
    "query.screen": {"bits": "bytes[3]", "drawn_again": "float", "counts": {"members": "int", "controls": "int"}},
    "reserve exact": {"epsilon": "float", "delta": "float", "head": "str", "seq": "int"},
    "exact screen": {"bits": "bytes[1]", "drawn_again": "float", "counts": {}},
    "query.sign": {"public_key": "bytes[32]", "signature": "bytes[64]"},
}
KINDS = {
    "train again": "train",
    "reference": "train",
    "exact attack": "query.attack",
    "reserve exact": "query.reserve",
    "exact screen": "query.screen",
}  # the others are named after it


def shape(value: Any) -> Any:
    """Return names, types and sizes of what a reply says, without its values."""
    if isinstance(value, Mapping):
        return {name: shape(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [shape(inner) for inner in value]
    if isinstance(value, np.ndarray):
        return f"{value.dtype.str}{value.shape}"
    return f"bytes[{len(value)}]" if isinstance(value, bytes) else type(value).__name__


def leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield every number, text and set of arrays of a reply with its path."""
    if isinstance(value, Mapping) and not any(isinstance(inner, np.ndarray) for inner in value.values()):
        for name, inner in value.items():
            yield from leaves(inner, f"{path}.{name}" if path else name)
    else:
        yield path, value


def masked(value: Any, hidden: Callable[[str], bool], path: str = "") -> Any:
    """Return `value` with every hidden leaf set to zeros of the same type and size."""
    if isinstance(value, np.ndarray):
        return np.zeros_like(value) if hidden(path) else value
    if isinstance(value, Mapping):
        arrays = any(isinstance(inner, np.ndarray) for inner in value.values())
        return {n: masked(v, hidden, path if arrays else f"{path}.{n}" if path else n) for n, v in value.items()}
    if not hidden(path):
        return value
    return bytes(len(value)) if isinstance(value, bytes) else type(value)()


def rule(case: str, path: str) -> str:
    """Return the step that lets this field of a reply differ, or nothing."""
    found = (step for (c, field), step in MAY_DIFFER.items() if c == case and fnmatchcase(path, field))
    return next(found, "")


def foreign(case: str, reply: Reply) -> list[str]:
    """Return what a reply says beyond what it is there to say."""
    if reply.code is not None:
        return [f"{case}: refused with {reply.code.name}"]
    if (said := shape(reply.plain())) != SAYS[case]:
        return [f"{case}: says {said}"]
    return [] if reply.written(reply.plain()) == reply.sent else [f"{case}: bytes that its schema does not read"]


def wordy(case: str, reply: Reply) -> list[str]:
    """Return whether a refusal says more than its code and a reference into the site's own log."""
    if reply.code is None or reply.arrived.has_content():
        return [f"{case}: answered"]
    said = re.fullmatch(rf"{reply.code.name} ref=[0-9a-f]{{12}}", reply.arrived.error.reason)
    return [] if said else [f"{case}: words in an error"]


def differing(case: str, one: Reply, other: Reply, allowed: set[str]) -> list[str]:
    """Return where the replies of twins differ although they must not."""
    if one.code is not None or other.code is not None:
        return [] if one.sent == other.sent else [f"{case}: failures differ"]
    mine, its = one.plain(), other.plain()
    pairs = zip(leaves(mine), leaves(its), strict=True)
    found = {path for (path, a), (_, b) in pairs if not same(a, b)}
    wrong = sorted(path for path in found if rule(case, path) not in allowed)
    hidden = found.difference(wrong).__contains__
    if not wrong and one.written(masked(mine, hidden)) != other.written(masked(its, hidden)):
        return [f"{case}: bytes differ around its fields"]
    if not found and one.sent != other.sent:
        return [f"{case}: bytes differ, fields do not"]
    return [f"{case}: {path} differs" for path in wrong]


def same(a: Any, b: Any) -> bool:
    """Say whether two leaves are equal, types included."""
    if isinstance(a, Mapping):
        return all(np.array_equal(a[name], b[name]) for name in a)
    return type(a) is type(b) and bool(a == b)


def unlike_a_person(case: str, one: Reply, other: Reply, person: Frames, at: Mapping[str, NDArray[Any]]) -> list[str]:
    """Return whether noised arrays of twins differ by anything but one clipped gradient of that person."""
    a, b = (_flat(reply.plain()["arrays"]) for reply in (one, other))
    difference = a - b
    bound = RATE * PLAN.clip_norm / (PLAN.sampling_rate * (PUBLIC // 2))
    if np.linalg.norm(difference) > bound * (1 + 1e-6):
        return [f"{case}: differs by {np.linalg.norm(difference) / bound:.3g} times what one person may add"]
    own = [-bound * g / max(PLAN.clip_norm, float(np.linalg.norm(g))) for g in gradients(person, at)]
    if min(float(np.linalg.norm(difference - one_of)) for one_of in own) > 1e-3 * bound:
        return [f"{case}: differs by something else than the clipped gradient"]
    return []


def unlike_a_heart(case: str, one: Reply, other: Reply, person: Frames) -> list[str]:
    """Return whether noised moments of twins differ by anything but the clipped row of that person's heart."""
    difference = _flat(one.plain()["arrays"]) - _flat(other.plain()["arrays"])
    bound, reach = SHAPES.clip_norm, likeness.RADIUS
    if np.linalg.norm(difference) > bound * (1 + 1e-4):
        return [f"{case}: differs by {np.linalg.norm(difference) / bound:.3g} times what one person may add"]
    (x,) = likeness.coefficients(person.masks[None])
    pairs = [(i, j) for i in range(len(x)) for j in range(i, len(x))]
    row = np.array([reach / 2, *x, *(x[i] * x[j] / reach * (1 if i == j else 2**0.5) for i, j in pairs)])
    row *= min(1, bound / float(np.linalg.norm(row)))
    if np.linalg.norm(difference - row) > 1e-3 * bound:
        return [f"{case}: differs by something else than the clipped row"]
    return []


def gradients(person: Frames, at: Mapping[str, NDArray[Any]]) -> list[NDArray[np.float64]]:
    """Return the gradient of each picture by autograd alone, in the order of the arrays."""
    learner = TinyLearner("")
    for name, parameter in learner.module.named_parameters():
        parameter.data = torch.from_numpy(at[name].copy())
    found = []
    for row in range(len(person)):
        loss = learner.losses(person, np.array([row]), generator=torch.Generator()).sum()
        own = torch.autograd.grad(loss, list(learner.module.parameters()))
        names = [name for name, _ in learner.module.named_parameters()]
        found.append(_flat({n: g.numpy() for n, g in zip(names, own, strict=True)}))
    return found


def _flat(arrays: Mapping[str, NDArray[Any]]) -> NDArray[np.float64]:
    return np.concatenate([arrays[name].astype(np.float64).ravel() for name in sorted(arrays)])


def silent(case: str, again: list[Reply]) -> list[str]:
    """Return which noised numbers are the same, or nearly, whatever the dice."""
    said = [reply.plain() for reply in again]
    if case in ("query.attack", "query.screen"):
        paths = [path for path, _ in leaves(said[0]) if rule(case, path)]
        seen = {path: {dict(leaves(one))[path] for one in said} for path in paths}
        return [f"{case}: {path} has no noise" for path in paths if len(seen[path]) == 1]
    per = RATE / (PLAN.sampling_rate * (PUBLIC // 2))
    noise = {"query.measure": SHAPES.noise_multiplier * SHAPES.clip_norm}
    scale = np.sqrt(2) * noise.get(case, per * PLAN.noise_multiplier * PLAN.clip_norm)
    wrong = []
    for name in said[0]["arrays"]:
        gaps = np.stack([(a["arrays"][name] - b["arrays"][name]) / scale for a, b in combinations(said, 2)])
        least, spread = np.abs(gaps).max(0).min(), np.sqrt((gaps**2).mean())
        if least < 0.05 or not 0.65 < spread < 1.5:
            wrong.append(f"{case}: {name} has {spread:.2g} of its noise, somewhere {least:.2g}")
    return wrong
