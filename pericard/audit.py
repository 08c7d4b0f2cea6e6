"""`pericard audit`: attack any release with what one holds beside it, and certify what that allows to say, no more.

DIR holds what may be shown: certificate.json, trust.json, report.html, audit.json, manifest.json. DIR/private holds
what may not: which patients look like which released files, the pictures side by side, and the auditor's key.
"""

import json
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pericard.audit_evidence import FRAMES_OF_A_CLIP, ROLES, SIDE, Asked, Looked, Tell, albums_of, given_by, look_at
from pericard.errors import Exit

if TYPE_CHECKING:
    from cohorts.album import Album
    from evaluation.predicate import Audited, Fidelity
    from evaluation.statement import Statement
    from evaluation.tiers import Given

RECORD, PRIVATE, KEY = "audit.json", "private", "auditor.pem"
SHOWN = 12
CODES = {"PASS": Exit.PASS, "FAIL": Exit.FAIL, "INCONCLUSIVE": Exit.INCONCLUSIVE}


def command(asked: Asked, *, out: Path, as_json: bool) -> int:
    """Audit a release and write DIR; the exit code is the verdict.

    Raises:
        UsageError: an `out` that is in use, an unknown policy, or a layout that nobody knows for certain.
        UnreadableStudy: a folder that cannot be read, or people who stand on two sides.
    """
    from conf.compose import UsageError
    from evaluation.policy import Policy

    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UsageError(f"--out {out} is in use; an audit is kept, and the next one gets a folder of its own")
    given = given_by(asked)
    try:
        policy = Policy.load(asked.policy)
    except ValueError as error:
        raise UsageError(f"--policy: {error}") from error
    with _progress(quiet=as_json) as tell:
        statement, record = _audit(asked, given, policy, out, tell)
    if as_json:
        sys.stdout.write(json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n")
    else:
        _show(statement, record, out)
    return CODES[statement.predicate.verdict.value]


def _audit(asked: Asked, given: "Given", policy: Any, out: Path, tell: Tell) -> "tuple[Statement, dict[str, Any]]":
    from datetime import UTC, datetime

    from evaluation.audit import audit_statement, trust_in
    from evaluation.certificate import CERTIFICATE as SIGNED
    from evaluation.certificate import REPORT, TRUST, issue
    from learning import durable
    from synthesis.manifest import MANIFEST

    asked = replace(asked, folders={**asked.folders, "release": _inner(asked.folders["release"])})
    manifest = _manifest(asked.folders["release"])
    own = _own_certificate(asked.folders["release"])
    given = replace(given, canaries=bool(own.canaries))
    albums = albums_of(asked, tell)
    released = albums["release"]
    looked = look_at(asked, given, albums, tell)
    private = out / PRIVATE
    private.mkdir(parents=True, mode=0o700)
    key = _own_key(asked.key or private / KEY)
    record = _record(asked, given, looked)
    statement = audit_statement(
        manifest=manifest,
        documents={},
        given=given,
        policy=policy,
        findings=looked.findings,
        audits=looked.audits,
        fidelity=_resemblance(albums, asked.seed),
        canaries=own.canaries,
        pictures=released.frames,
        samples=released.clips,
        views=released.views,
        limits=(*_limits(asked, given), *own.says),
        key=key,
        seed=asked.seed,
        replay=_replay(asked),
        issued=datetime.now(UTC),
    )
    tell(0.97, "writing")
    record |= {"verdict": statement.predicate.verdict.value, "rules": _rules(statement)}
    text = (json.dumps(record, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode()
    report = _report(statement, released)
    documents = {REPORT: report, RECORD: text}
    statement = _about(statement, manifest, documents)
    for name, raw in documents.items():
        durable.write(out / name, raw)
    durable.write(out / MANIFEST, manifest.canonical)
    durable.write(out / TRUST, trust_in(key).canonical)
    durable.write(out / SIGNED, issue(statement, key).canonical)
    if looked.nearest is not None:
        from evaluation import inspection

        inspection.write(private, albums["members"], released, looked.nearest)
    return statement, record


def _resemblance(albums: "Mapping[str, Album]", seed: int) -> "tuple[Fidelity, ...]":
    """Return how the release resembles the controls, and whether its hearts could be hearts; nothing without them."""
    from evaluation import fidelity, plausibility

    if (controls := albums.get("controls")) is None:
        return ()
    released, real = albums["release"].frames, controls.frames
    return (
        *fidelity.describe(released, real, called="controls", reads_real=True, seed=seed),
        *plausibility.describe(released, real, called="controls", reads_real=True),
    )


def _record(asked: Asked, given: "Given", looked: Looked) -> dict[str, Any]:
    """Return what machines read: numbers only, nothing of a patient."""
    from evaluation.attacked import smallest_leak, why_void

    suite = looked.suite
    return {
        "tier": given.tier.name,
        "given": list(given.basis.given),
        "allows": given.basis.allows,
        "to_say_more": ": ".join(word for word in given.asks if word),
        "nothing_follows": "" if suite is None else why_void(suite),
        "smallest_leak": None if suite is None else smallest_leak(suite),
        "attempts": asked.attempts,
        "formal": False,
        "suite": None if suite is None else _finite(suite.to_json()),
    }


def _finite(value: Any) -> Any:
    """Return a JSON document without numbers that JSON has no words for."""
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not abs(value) < float("inf") else value


def _rules(statement: "Statement") -> list[dict[str, Any]]:
    from evaluation.schema import encode

    rules: list[dict[str, Any]] = encode(statement.predicate.policy.evaluated_rules)
    return rules


def _limits(asked: Asked, given: "Given") -> Iterator[str]:
    from evaluation.tiers import Tier

    if given.tier < Tier.T5:
        yield f"To say more, this audit would have needed {given.asks[0]}."
    if asked.random:
        yield "That fair coins told members from controls is declared; the audit only failed to see otherwise."
    if asked.attempts > 1:
        yield f"Versions of this release were held against these people {asked.attempts} times: no fresh look any more."
    yield (
        f"Pictures were compared at {SIDE}x{SIDE} pixels, clips by up to {FRAMES_OF_A_CLIP} frames and by end diastole "
        "and end systole."
    )


def _replay(asked: Asked) -> list[str]:
    words = ["pericard", "audit", "RELEASE"]
    for role in ROLES[1:]:
        words += [f"--{role}", "PATH"] if role in asked.folders else []
    words += ["--split", "random"] if asked.random else []
    words += ["--weights", "PATH"] if asked.weights is not None else []
    return [*words, "--seed", str(asked.seed), "--out", "DIR"]


def _report(statement: "Statement", released: "Album") -> bytes:
    """Draw the report; a release that failed is not shown, for then it may show patients."""
    from evaluation.report import AUDITED, Pictures, draw

    failed = statement.predicate.verdict.value == "FAIL"
    shown = {} if failed else {AUDITED: Pictures(pixels=released.frames.pixels[:SHOWN])}
    return draw(statement.predicate, shown).encode()


def _about(statement: "Statement", manifest: Any, documents: Mapping[str, bytes]) -> "Statement":
    from evaluation.certificate import subjects

    return replace(statement, subject=subjects(manifest, documents))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Own:
    """What the certificate that lies beside a release of ours adds to an audit of it."""

    canaries: "tuple[Audited, ...]" = ()
    says: tuple[str, ...] = ()


def _own_certificate(release: Path) -> _Own:
    """Read the certificate beside the release, if there is one; only one that verifies says anything."""
    from datetime import UTC, datetime

    from evaluation.certificate import CERTIFICATE, TRUST, InvalidCertificate, verify
    from evaluation.trust import Trust

    folder = release.parent
    if release.name != "release" or not (folder / CERTIFICATE).is_file():
        return _Own()
    try:
        trust = Trust.parse((folder / TRUST).read_bytes())
        claimed = verify(folder, trust=trust, now=datetime.now(UTC)).statement.predicate
    except (InvalidCertificate, ValueError, OSError):
        return _Own(says=("A certificate lies beside the release and does not verify: nothing of it was taken over.",))
    eps = "no ε of its own" if claimed.dp.eps is None else f"ε = {claimed.dp.eps:.3g} per patient"
    return _Own(
        canaries=claimed.dp.audited,
        says=(
            f"The release has a certificate ({claimed.id}, {claimed.verdict}, lane {claimed.release.lane}, {eps}) that "
            "verifies with the keys beside it. What its makers claim is theirs; what their canaries found is repeated "
            "here.",
        ),
    )


def _inner(release: Path) -> Path:
    """Return the release in the folder of a run of ours, else the folder itself."""
    from synthesis.manifest import MANIFEST

    inner = release / "release"
    return inner if (inner / MANIFEST).is_file() and not (release / MANIFEST).exists() else release


def _manifest(release: Path) -> Any:
    from cohorts.study import UnreadableStudy
    from synthesis.manifest import Manifest

    if not release.is_dir():
        raise UnreadableStudy(str(release), "is not a folder")
    try:
        return Manifest.of(release)
    except ValueError as error:
        raise UnreadableStudy(str(release), str(error)) from error


def _own_key(path: Path) -> Any:
    from evaluation.trust import SigningKey

    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        SigningKey.create().write(path)
    return SigningKey.read(path)


def _show(statement: "Statement", record: Mapping[str, Any], out: Path) -> None:
    from rich.console import Console

    from evaluation.report import findings_table

    console = Console()
    console.print(f"Tier {record['tier']}: {', '.join(record['given'])}", highlight=False)
    console.print(findings_table(statement.predicate))
    console.print(f"This allows to conclude {record['allows']}.", highlight=False)
    if record["suite"] is not None:
        least = record["smallest_leak"]
        seen = f"copies of {100 * least:g} % of the members" if least is not None else "no share of copied members"
        console.print(f"With probability 0.8, {seen} would have been noticed.", highlight=False)
    if record["nothing_follows"]:
        console.print(f"But {record['nothing_follows']}.", highlight=False, style="yellow")
    console.print(f"To say more: {record['to_say_more']}", highlight=False)
    console.print(
        f"{out / 'report.html'} is for people; {out / PRIVATE} names patients and must not leave.", highlight=False
    )


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Tell]:
    if quiet:
        yield lambda share, what: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (BarColumn(bar_width=24), TimeElapsedColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("reading", total=1.0)
        yield lambda share, what: bar.update(task, completed=share, description=what)
