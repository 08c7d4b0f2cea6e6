"""`pericard export`: a release in the layout that another data set's loaders read, with cards made of its certificate.

A release is opened only after every file of it was found as signed, or, where it comes without a certificate, as its
manifest says.
"""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import click
import typer

from pericard.errors import Exit, one_line

SHOWN = 20  # names of differing files before "and … more"

if TYPE_CHECKING:
    from evaluation.cards import Origins
    from synthesis.export import Exported, Show


def command(
    folder: Path,
    *,
    layout: str,
    out: Path,
    licence: str | None = None,
    trust: Path | None = None,
    as_json: bool = False,
) -> int:
    """Write the release in `folder` as `out` in another layout, and print what was written.

    Args:
        folder: what `pericard simulate` leaves, release/ and certificate.json, or a release alone.
        layout: one of `synthesis.export.LAYOUTS`.
        out: what will hold it; must not exist.
        licence: of a release whose certificate names none.
        trust: keys of the signers, where not those in `folder` are meant.
        as_json: print one JSON document.

    Returns:
        0 written; 4 the release does not fit the layout; 6 something is not as it was signed, and is named.

    Raises:
        click.UsageError: an unknown layout, `out` cannot be what is written, no release, another licence is signed.
        UnreadableStudy: the release cannot be read.
    """
    from evaluation import cards
    from evaluation.certificate import InvalidCertificate
    from synthesis.export import LAYOUTS, export
    from synthesis.layouts import Unsuitable

    if layout not in LAYOUTS:
        raise click.UsageError(f"--layout {layout!r} is unknown; known: {', '.join(LAYOUTS)}")
    release = _release(folder)
    _require_free(out, release)
    try:
        origins = _origins(folder, release, licence=licence, trust=trust)

        def finish(making: Path, exported: "Exported") -> None:
            cards.write(making, origins, layout=layout, exported=exported)

        out.parent.mkdir(parents=True, exist_ok=True)
        with _progress(f"writing {layout}", quiet=as_json) as show:
            exported = export(release, out, layout=layout, key=bytes.fromhex(origins.root), finish=finish, show=show)
    except InvalidCertificate as error:
        return _refuse(error, Exit.INTEGRITY, error.differs, as_json=as_json)
    except Unsuitable as error:
        return _refuse(error, Exit.REFUSED, (), as_json=as_json)
    facts = {
        "ok": True,
        "layout": layout,
        "clips": exported.clips,
        "files": len(exported.manifest.files),
        "manifest": exported.manifest.digest,
        "release": origins.root,
        "certificate": origins.predicate.id if origins.predicate else None,
        "licence": origins.licence,
        "notes": list(exported.notes),
    }
    if as_json:
        typer.echo(json.dumps(facts, ensure_ascii=True))
        return Exit.PASS
    typer.echo(f"{out}: {facts['files']} files as {layout}, from {exported.clips} clips")
    for note in exported.notes:
        typer.echo(f"  {note}")
    if origins.licence is None:
        typer.echo("  No licence is stated; --license states one.")
    return Exit.PASS


def _release(folder: Path) -> Path:
    """Return the folder of the release itself."""
    from evaluation.certificate import RELEASE
    from synthesis.manifest import MANIFEST

    for release in (folder / RELEASE, folder):
        if (release / MANIFEST).is_file():
            return release
    raise click.UsageError(f"{folder} holds no release: neither {RELEASE}/{MANIFEST} nor {MANIFEST} is there")


def _require_free(out: Path, release: Path) -> None:
    if out.exists() or out.is_symlink():
        raise click.UsageError(f"--out {out} exists already; an export is not written over anything")
    if out.resolve().is_relative_to(release.resolve()):
        raise click.UsageError(f"--out {out} lies in the release itself, which must not change")


def _origins(folder: Path, release: Path, *, licence: str | None, trust: Path | None) -> "Origins":
    """Check every file, by the certificate where there is one; raises `InvalidCertificate` and `OSError`."""
    from evaluation import certificate
    from evaluation.cards import Origins
    from evaluation.certificate import CERTIFICATE, MERKLE, RELEASE, TRUST, InvalidCertificate
    from evaluation.trust import Trust

    if release == folder or not (folder / CERTIFICATE).exists():
        if trust is not None:
            raise click.UsageError(f"--trust {trust} says who may sign, but {folder} holds no {CERTIFICATE}")
        return Origins(root=_whole(release), licence=licence)
    keys = trust or folder / TRUST
    if not keys.is_file():
        raise click.UsageError(f"{CERTIFICATE} cannot be checked without {keys}; --trust names the signers' keys")
    try:
        trusted = Trust.parse(keys.read_bytes())
    except ValueError as error:
        raise InvalidCertificate(f"{keys.name} is no trust file: {error}", keys.name) from error
    verified = certificate.verify(folder, trust=trusted, now=datetime.now(UTC))
    stated = verified.statement.predicate.release.license or None
    if licence is not None and stated is not None and licence != stated:
        raise click.UsageError(f"--license {licence!r} contradicts the signed licence {stated!r}")
    root = next(s.digest[MERKLE] for s in verified.statement.subject if s.name == RELEASE)
    return Origins(
        root=root, predicate=verified.statement.predicate, signers=verified.signers, licence=stated or licence
    )


def _whole(release: Path) -> str:
    """Return the Merkle root of a release that no certificate speaks about; raises `FilesDiffer`."""
    from evaluation.certificate import FilesDiffer
    from synthesis.manifest import MANIFEST, MalformedManifest, Manifest, StrangeFile

    try:
        manifest = Manifest.parse((release / MANIFEST).read_bytes())
        differences = manifest.compare(release)
    except StrangeFile as error:
        raise FilesDiffer(str(error), error.name) from error
    except MalformedManifest as error:
        raise FilesDiffer(f"{MANIFEST} is no manifest: {error}", MANIFEST) from error
    names = (*differences.changed, *differences.removed, *differences.added)
    if names:
        raise FilesDiffer(f"{len(names)} files are not as {MANIFEST} says", *names)
    return manifest.root


def _refuse(error: Exception, code: Exit, differs: tuple[str, ...], *, as_json: bool) -> int:
    if as_json:
        document = {"ok": False, "kind": type(error).__name__, "reason": one_line(error), "differs": list(differs)}
        typer.echo(json.dumps(document, ensure_ascii=True))
        return code
    typer.echo(f"pericard export: {one_line(error)}", err=True)
    for name in differs[:SHOWN]:
        typer.echo(f"  differs: {one_line(ValueError(name))}", err=True)
    if len(differs) > SHOWN:
        typer.echo(f"  and {len(differs) - SHOWN} more", err=True)
    return code


@contextmanager
def _progress(words: str, *, quiet: bool) -> Iterator["Show"]:
    if quiet or not sys.stderr.isatty():
        yield lambda done, of: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn(words), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task(words)
        yield lambda done, of: bar.update(task, completed=done, total=of)
