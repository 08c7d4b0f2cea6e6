"""`pericard coordinate …`: the commands of whoever runs a federation of hospitals."""

from pathlib import Path
from typing import Annotated

import typer

from pericard.options import Json, until_stopped

coordinate_app = typer.Typer(
    name="coordinate", help="Run a federation of hospitals over their own machines.", no_args_is_help=True
)

Folder = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the coordinator.", file_okay=False)]
Begun = Annotated[Path, typer.Argument(metavar="DIR", help="Folder of the coordinator.", file_okay=False, exists=True)]
Patience = Annotated[
    float, typer.Option("--patience", metavar="HOURS", min=0, help="How long to wait for sites that are away.")
]


@coordinate_app.command("init")
def coordinate_init(
    folder: Folder,
    address: Annotated[str, typer.Option(metavar="HOST:PORT", help="What hospitals will dial.")],
    name: Annotated[str, typer.Option(help="Of the federation, public.")] = "federation",
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where to listen, where that is not what hospitals dial.")
    ] = "",
    ca_certificate: Annotated[
        Path | None, typer.Option(metavar="PEM", help="Of your own authority, where you have one.", exists=True)
    ] = None,
    server_certificate: Annotated[
        Path | None, typer.Option(metavar="PEM", help="That it signed for HOST.", exists=True)
    ] = None,
    server_key: Annotated[Path | None, typer.Option(metavar="PEM", help="Of that certificate.", exists=True)] = None,
) -> int:
    """Make a folder with an authority, a certificate, keys, and an invitation for hospitals."""
    from pericard import coordinate as command

    own = (ca_certificate, server_certificate, server_key)
    return until_stopped(lambda: command.init(folder, name=name, address=address, listen=listen, own=own))


@coordinate_app.command("renew")
def coordinate_renew(
    folder: Begun,
    server_certificate: Annotated[
        Path | None, typer.Option(metavar="PEM", help="Where your own authority signs it.", exists=True)
    ] = None,
    server_key: Annotated[Path | None, typer.Option(metavar="PEM", help="Of that certificate.", exists=True)] = None,
) -> int:
    """Make the certificate that hospitals see anew, before it ends; they trust its authority and need do nothing."""
    from pericard import coordinate as command

    return until_stopped(lambda: command.renew(folder, certificate=server_certificate, key=server_key))


@coordinate_app.command("admit")
def coordinate_admit(
    folder: Begun,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Of the hospital, public.")],
    key: Annotated[Path, typer.Argument(metavar="FILE", help="Public key of its node.", exists=True, dir_okay=False)],
) -> int:
    """Let the node with this key connect, and no other under that name."""
    from pericard import coordinate as command

    return until_stopped(lambda: command.admit(folder, name, key))


@coordinate_app.command("propose")
def coordinate_propose(
    folder: Begun,
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME=VALUE]…", help="Overrides of the experiment.")
    ] = None,
) -> int:
    """Write and sign the campaign that hospitals are asked to approve."""
    from pericard import coordinate as command

    return until_stopped(lambda: command.propose(folder, overrides or []))


@coordinate_app.command("run")
def coordinate_run(folder: Begun, patience: Patience = 24.0, as_json: Json = False) -> int:
    """Run the proposed campaign until it is certified; the exit code is the verdict."""
    from pericard import coordinate as command

    return until_stopped(
        lambda: command.run(folder, resume=False, patience_hours=patience, as_json=as_json),
        f"stopped; what was finished is kept. To go on: pericard coordinate resume {folder}",
    )


@coordinate_app.command("resume")
def coordinate_resume(folder: Begun, patience: Patience = 24.0, as_json: Json = False) -> int:
    """Go on with a campaign that was stopped, from its last checkpoint; nobody is charged twice."""
    from pericard import coordinate as command

    return until_stopped(
        lambda: command.run(folder, resume=True, patience_hours=patience, as_json=as_json),
        f"stopped; what was finished is kept. To go on: pericard coordinate resume {folder}",
    )


@coordinate_app.command("status")
def coordinate_status(
    folder: Begun,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Also write it as a page without scripts.", dir_okay=False)
    ] = None,
    follow: Annotated[
        bool, typer.Option("--follow", help="Say it again until it is done, or nobody works on it.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Say how the campaign stands: sites, stages, exchanges, ε, bytes, failures. Asks no site and changes nothing."""
    from pericard import status as command

    return until_stopped(lambda: command.status(folder, html=html, follow=follow, as_json=as_json))
