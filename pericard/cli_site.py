"""`pericard site …`: the commands about one hospital's account."""

from pathlib import Path
from typing import Annotated

import typer

from pericard.options import Json, until_stopped

site_app = typer.Typer(
    name="site", help="One hospital: its account, and what partners saw of it.", no_args_is_help=True
)

Folder = Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder of the site.", exists=True, file_okay=False)]


@site_app.command("ledger")
def site_ledger(
    folder: Folder,
    verify_all: Annotated[
        bool, typer.Option("--verify", help="Compare journal, witness and file, too, not the events alone.")
    ] = False,
    events: Annotated[int, typer.Option("--events", metavar="N", min=0, help="Show the last N events.")] = 0,
    would_fit: Annotated[
        float | None, typer.Option("--would-fit", metavar="ε", help="Would a run of this ε fit, and how often?")
    ] = None,
    sampling_rate: Annotated[float | None, typer.Option(metavar="q", help="Would these training steps fit?")] = None,
    noise_multiplier: Annotated[float | None, typer.Option(metavar="σ", help="Their noise.")] = None,
    steps: Annotated[int | None, typer.Option(metavar="T", help="Their number.")] = None,
    delta: Annotated[float, typer.Option(metavar="δ", help="At which the ε of the question is meant.")] = 1e-6,
    purpose: Annotated[str, typer.Option(help="Under which the ε of the question would count.")] = "train",
    recover: Annotated[
        str | None, typer.Option(metavar="RUN", help="Close a run that died; never refunds what is in doubt.")
    ] = None,
    abort: Annotated[str | None, typer.Option(metavar="RUN", help="Close a run that will not go on.")] = None,
    adopt: Annotated[
        bool, typer.Option("--adopt", help="Give the account the caps of site.yaml; raising one needs --officer-key.")
    ] = False,
    officer_key: Annotated[
        Path | None, typer.Option(metavar="PEM", help="The second key, of whom site.yaml names as officer.")
    ] = None,
    new_witness: Annotated[
        bool, typer.Option("--new-witness", help="Begin the file that site.yaml names as witness.")
    ] = False,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="Make a lost ledger.db again from ledger.jsonl; open runs cost in full.")
    ] = False,
    close: Annotated[
        str | None, typer.Option(metavar="NAME", help="End the account of the site NAME for good.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Show what is spent, reserved and left, why something was refused, and what would still fit.

    Exit code 6 where the account is not as it was written; the event is named. 4 where the run asked about would not
    fit.
    """
    from pericard import ledger as command

    flags = {
        "adopt": "yes" if adopt else None,
        "witness": "yes" if new_witness else None,
        "rebuild": "yes" if rebuild else None,
    }
    do = {n: v for n, v in {"recover": recover, "abort": abort, "close": close, **flags}.items() if v is not None}
    if do:
        return until_stopped(lambda: command.act(folder, do, officer=officer_key))
    question = command.Question(
        epsilon=would_fit,
        delta=delta,
        purpose=purpose,
        sampling_rate=sampling_rate,
        noise_multiplier=noise_multiplier,
        steps=steps,
    )
    return until_stopped(lambda: command.show(folder, question, verify=verify_all, events=events, as_json=as_json))


@site_app.command("head")
def site_head(
    folder: Folder,
    sign: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Sign a partner's head, with this site's key.", exists=True)
    ] = None,
    record: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write down that a partner signed ours.", exists=True)
    ] = None,
) -> int:
    """Print the newest head of the account; partners who sign it can tell an older copy from the account itself."""
    from pericard import head as command

    return until_stopped(lambda: command.command(folder, sign=sign, record=record))
