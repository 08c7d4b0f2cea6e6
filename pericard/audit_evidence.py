"""What `pericard audit` reads and measures: folders become albums, albums become findings."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cohorts.album import Album
    from evaluation.tiers import Given
    from privacy.gallery import Gallery
    from privacy.suite import Suite
    from privacy.verbatim import Nearest

Tell = Callable[[float, str], None]

SIDE, FRAMES_OF_A_CLIP = 64, 8
ROLES = ("release", "members", "controls", "reference")
READING = 0.3  # share of the time


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What somebody wants audited.

    Attributes:
        folders: role (release, members, controls, reference) → folder.
        readers: role → name of the reader, where it is named.
        settings: NAME=VALUE of the reader of the release, ROLE.NAME=VALUE of another.
        random: fair coins told members from controls before training.
        policy: name of a shipped policy, or a file.
        attempts: how often a version of this release has been held against these people, this time included.
        seed: of everything drawn.
        weights: a run of ours or a bundle, whose generator made the release.
        key: the auditor's, made on first use; `None` for one beside the private files.
    """

    folders: Mapping[str, Path]
    readers: Mapping[str, str] = field(default_factory=dict)
    settings: Sequence[str] = ()
    random: bool = False
    policy: str = "audit"
    attempts: int = 1
    seed: int = 0
    weights: Path | None = None
    key: Path | None = None


def given_by(asked: Asked) -> "Given":
    """Return what lies on the table; raises `UsageError` where one thing is of no use without another."""
    from conf.compose import UsageError
    from evaluation.tiers import Given

    try:
        there = {role: role in asked.folders for role in ROLES[1:]}
        return Given(**there, random=asked.random, weights=asked.weights is not None)
    except ValueError as error:
        raise UsageError(str(error)) from error


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """What was found: findings, audits, the suite if it ran, and the likest pairs, which stay."""

    findings: tuple[Any, ...]
    audits: tuple[Any, ...]
    suite: "Suite | None" = None
    nearest: "Nearest | None" = None


def albums_of(asked: Asked, tell: Tell) -> "dict[str, Album]":
    """Read every folder that was given; two folders must not share a person or a picture."""
    from hashlib import sha256

    from cohorts.album import album
    from cohorts.deidentify import Pseudonyms
    from cohorts.recognise import opened

    albums: dict[str, Album] = {}
    for at, (role, folder) in enumerate(asked.folders.items()):
        option = "--reader" if role == "release" else f"--{role}-reader"
        settings = list(_settings(asked.settings, role))
        name, config = opened(folder, asked.readers.get(role), settings, override=option)
        if role == "release" and name == "pictures" and not any(s.startswith("person=") for s in settings):
            config = opened(folder, name, [*settings, "person=file"])[1]  # samples are nobody's
        key = sha256(f"pericard audit {asked.seed} {role == 'release'}".encode()).digest()
        albums[role] = album(
            config,
            pseudonyms=Pseudonyms(key),
            size=SIDE,
            frames=FRAMES_OF_A_CLIP,
            progress=_part(tell, role, at, len(asked.folders)),
        )
    _apart({role: one for role, one in albums.items() if role != "release"})
    return albums


def _part(tell: Tell, role: str, at: int, of_all: int) -> Callable[[int, int], None]:
    return lambda done, of: tell(READING * (at + done / of) / of_all, f"reading {role}")


def _settings(settings: Sequence[str], role: str) -> Iterator[str]:
    for setting in settings:
        of, dot, rest = setting.partition(".")
        if dot and of in ROLES:
            if of == role:
                yield rest
        elif role == "release":
            yield setting


def _apart(sides: "Mapping[str, Album]") -> None:
    """Refuse people, or pictures, that stand on two sides: then the attacks would measure nothing."""
    import hashlib

    from cohorts.study import UnreadableStudy

    names = list(sides)
    shown = {
        name: {hashlib.sha256(p.tobytes()).digest() for p in one.frames.pixels if p.max() > p.min()}
        for name, one in sides.items()
    }
    for at, first in enumerate(names):
        for second in names[at + 1 :]:
            people = set(sides[first].frames.subjects) & set(sides[second].frames.subjects)
            if people:
                raise UnreadableStudy(
                    f"{first} and {second}",
                    f"share the identifiers of {len(people)} people; nobody may be on two sides",
                )
            if alike := shown[first] & shown[second]:
                raise UnreadableStudy(f"{first} and {second}", f"share {len(alike)} pictures, bit for bit")


def look_at(asked: Asked, given: "Given", albums: "Mapping[str, Album]", tell: Tell) -> Looked:
    """Measure what the tier allows to measure; raises `UnreadableStudy` where there is too little to do it."""
    from cohorts.study import UnreadableStudy
    from evaluation import attacked
    from privacy.gallery import Gallery
    from privacy.suite import RANDOM, examine

    released = albums["release"]
    tell(READING, "looking at the release alone")
    pictures = Gallery.of(released.frames)
    findings, audits = _alone(asked, pictures, told_apart=released.people)
    if not given.members:
        return Looked(findings=findings, audits=audits)
    members = albums["members"]
    tell(READING + 0.03, "looking for very pictures of members")
    more, audit, nearest = _verbatim(asked, members, pictures)
    findings, audits = (*findings, *more), (*audits, audit)
    if not given.controls:
        return Looked(findings=findings, audits=audits, nearest=nearest)
    loss, others = _losses(asked.weights) if asked.weights is not None else (None, ())
    try:
        suite = examine(
            released.frames,
            members.frames,
            albums["controls"].frames,
            reference=albums["reference"].frames if given.reference else None,
            attributes={s: words for one in albums.values() for s, words in one.attributes.items()},
            loss=loss,
            other_losses=others,
            split=RANDOM if given.random else "not random",
            seed=asked.seed,
            progress=lambda share, what: tell(READING + 0.05 + 0.6 * share, what),
        )
    except ValueError as error:
        raise UnreadableStudy("this audit", str(error)) from error
    return Looked(
        findings=(*findings, *attacked.findings(suite)),
        audits=(*audits, *attacked.audits(suite, attempts=asked.attempts)),
        suite=suite,
        nearest=nearest,
    )


def _losses(folder: Path) -> tuple[Any, tuple[Any, ...]]:
    """Return the loss under the generator in `folder`, and under the public prior, which has seen nobody."""
    from conf.compose import UsageError
    from pericard import sources
    from synthesis.exposed import loss_under

    try:
        bundle = sources.found(folder).bundle
        attacked, prior = (one.build() for one in (bundle, sources.public(moving=False).bundle))
    except ValueError as error:
        raise UsageError(f"--weights: {error}") from error
    if bundle.kind != "generator":
        raise UsageError(f"--weights: {folder} draws clips; only the weights of generators of images are attacked")
    return loss_under(attacked, size=bundle.size), (loss_under(prior, size=bundle.size),)  # type: ignore[arg-type]


def _alone(asked: Asked, released: "Gallery", *, told_apart: bool) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """Look at the release with nothing real beside it; who is who must be known to call two people twins."""
    import numpy as np

    from evaluation.attacked import VERSION
    from evaluation.evidence import exact
    from evaluation.predicate import Audit
    from privacy.attacks.copies import Copies
    from privacy.traces import traces

    clues = Copies().look(released, rng=np.random.default_rng(asked.seed))
    counted = [c for c in clues if c.name == "identical pictures" or (told_apart and "twins" in c.name)]
    failing = [c for c in counted if c.fails]
    said = "; ".join(f"{c.name}: {c.count}, expected {c.expected:.2g}" for c in counted)
    unknown = "" if told_apart else "; no table says which files show one person, so likenesses were not counted"
    audit = Audit(
        name="copies", kind="copies", version=VERSION, n_member=0, n_control=0, split="not needed", metric="clues",
        estimate=float(len(failing)), ci=None, n_attempts=asked.attempts, reason=f"{said}{unknown}",
    )  # fmt: skip
    words = len(traces(asked.folders["release"]))
    return (
        exact("copies.clues", float(len(failing)), n=len(released.subjects), how=said),
        exact("release.traces", float(words), how="words that look like names, dates, numbers of a person, or paths"),
    ), (audit,)


def _verbatim(asked: Asked, members: "Album", released: "Gallery") -> "tuple[tuple[Any, ...], Any, Nearest]":
    """Look for the very pictures of members, and for their identifiers."""
    from cohorts.betrayed import betrayed
    from evaluation.attacked import VERSION
    from evaluation.evidence import exact
    from evaluation.predicate import Audit
    from privacy.gallery import Gallery
    from privacy.verbatim import compressed, likest

    people = Gallery.of(members.frames)
    nearest = likest(people, released)
    n, found = len(nearest.verbatim), int(nearest.verbatim.sum())
    named = len(betrayed(asked.folders["release"], members.names.values()))
    known = compressed(people)
    audit = Audit(
        name="very_pictures", kind="verbatim", version=VERSION, n_member=n, n_control=0, split="not needed",
        metric="members", estimate=float(found), ci=None, n_attempts=asked.attempts, positive_control=known >= 0.8,
        reason="members one of whose very pictures, but for resizing and compression, is in the release; what was "
        f"altered more is not counted here. Of members' own pictures as JPEG, {100 * known:.0f} % are known for theirs",
    )  # fmt: skip
    return (
        (
            exact("release.very_pictures", float(found), n=n, how="members whose very picture is in the release"),
            exact("release.identifiers", float(named), n=n, how="in names, tables and headers of its files"),
        ),
        audit,
        nearest,
    )
