"""`pericard audit …`: the options of an audit."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pericard.options import Json, until_stopped


class Split(StrEnum):
    """How members were told from controls."""

    UNKNOWN = "unknown"
    RANDOM = "random"


def audit(
    release: Annotated[Path, typer.Argument(metavar="RELEASE", help="Folder of the release, whoever made it.")],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the results.", file_okay=False)],
    settings: Annotated[
        list[str] | None,
        typer.Argument(metavar="[NAME=VALUE]…", help="Settings of a reader: view=A4C members.subject=patient_id"),
    ] = None,
    members: Annotated[Path | None, typer.Option(metavar="PATH", help="Studies it was made from.")] = None,
    controls: Annotated[Path | None, typer.Option(metavar="PATH", help="Studies of others, of the same kind.")] = None,
    reference: Annotated[
        Path | None, typer.Option(metavar="PATH", help="Of still others; else a third of the controls.")
    ] = None,
    split: Annotated[
        Split, typer.Option(help="random: fair coins told members from controls before training.")
    ] = Split.UNKNOWN,
    weights: Annotated[
        Path | None, typer.Option(metavar="PATH", help="The generator: a run of Pericard, or a bundle.")
    ] = None,
    reader: Annotated[
        str | None, typer.Option("--reader", "-r", metavar="NAME", help="Layout of RELEASE; known if unmistakable.")
    ] = None,
    members_reader: Annotated[str | None, typer.Option(metavar="NAME", help="The same of the members.")] = None,
    controls_reader: Annotated[str | None, typer.Option(metavar="NAME", help="Of the controls.")] = None,
    reference_reader: Annotated[str | None, typer.Option(metavar="NAME", help="Of the reference.")] = None,
    policy: Annotated[str, typer.Option(metavar="NAME|FILE", help="By which it is decided.")] = "audit",
    attempts: Annotated[
        int, typer.Option(metavar="N", min=1, help="How often these people judged a version of this release.")
    ] = 1,
    seed: Annotated[int, typer.Option(metavar="S", min=0, help="Of everything drawn.")] = 0,
    key: Annotated[
        Path | None, typer.Option(metavar="FILE", help="The auditor's key, made on first use.", dir_okay=False)
    ] = None,
    as_json: Json = False,
) -> int:
    """Attack any release with what you hold, and certify what that allows to say, and no more.

    With RELEASE alone nothing can pass. With --members likenesses are listed; with --controls the attacks run; with
    --split random they can decide. Nothing leaves this machine; what names a patient stays in DIR/private.

    Exit code 0 PASS, 1 FAIL, 3 INCONCLUSIVE, 5 where a folder cannot be read.
    """
    from pericard import audit as command
    from pericard.audit_evidence import Asked

    folders = {"release": release, "members": members, "controls": controls, "reference": reference}
    readers = dict(zip(folders, (reader, members_reader, controls_reader, reference_reader), strict=True))
    asked = Asked(
        folders={role: folder for role, folder in folders.items() if folder is not None},
        readers={role: name for role, name in readers.items() if name is not None},
        settings=settings or [],
        random=split is Split.RANDOM,
        policy=policy,
        attempts=attempts,
        seed=seed,
        weights=weights,
        key=key,
    )
    return until_stopped(lambda: command.command(asked, out=out, as_json=as_json))
