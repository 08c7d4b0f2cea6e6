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


@site_app.command("init")
def site_init(
    folder: Annotated[Path, typer.Argument(metavar="FOLDER", help="Folder to make.", file_okay=False)],
    name: Annotated[str, typer.Option(help="Of the hospital, public.")],
    invitation: Annotated[Path, typer.Option(metavar="FILE", help="Of the coordinator.", exists=True, dir_okay=False)],
    root: Annotated[Path | None, typer.Option(metavar="PATH", help="Where the studies lie.", exists=True)] = None,
    reader: Annotated[
        str | None, typer.Option(metavar="READER", help="Of the studies, where their folder does not say it.")
    ] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="NAME=VALUE", help="A setting of the reader.")
    ] = None,
    subjects: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Patients to declare; the only size that leaves.")
    ] = None,
) -> int:
    """Make a hospital's folder: its policy, its secrets, its account, the key of its node."""
    from pericard import site as command

    return until_stopped(
        lambda: command.init(
            folder, name=name, root=root, reader=reader, settings=settings or [], subjects=subjects,
            invitation=invitation,
        )
    )  # fmt: skip


@site_app.command("check")
def site_check(folder: Folder, as_json: Json = False) -> int:
    """Find every problem that would keep this site from taking part, at once. Exit code 4 where there is one."""
    from pericard import site as command

    return until_stopped(lambda: command.check(folder, as_json=as_json))


@site_app.command("approve")
def site_approve(
    folder: Folder,
    proposal: Annotated[
        Path, typer.Argument(metavar="FILE", help="proposal.json of the coordinator.", exists=True, dir_okay=False)
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Approve without asking, once the forecast was read.")] = False,
    as_json: Json = False,
) -> int:
    """Show what a campaign would do here, what would leave and what it would cost; sign it if you agree."""
    from pericard import site as command

    return until_stopped(lambda: command.approve(folder, proposal, yes=yes, as_json=as_json))


@site_app.command("run")
def site_run(
    folder: Folder,
    port: Annotated[
        int, typer.Option(metavar="PORT", min=1024, max=65535, help="Of loopback, for the node's own processes.")
    ] = 9094,
) -> int:
    """Keep this hospital's node connected until Ctrl-C; refuses to start where nothing was approved."""
    from pericard import site as command

    return until_stopped(lambda: command.run(folder, port=port), "the node is stopped; what was charged stays charged")


@site_app.command("join")
def site_join(
    folder: Folder,
    invitation: Annotated[Path, typer.Option(metavar="FILE", help="Of the coordinator.", exists=True, dir_okay=False)],
) -> int:
    """Join a coordinator with the folder of a hospital that left one, or take a renewed invitation."""
    from pericard import site as command

    return until_stopped(lambda: command.join(folder, invitation=invitation))


@site_app.command("withdraw")
def site_withdraw(
    folder: Folder, runs: Annotated[list[str], typer.Argument(metavar="RUN…", help="As `site approve` named them.")]
) -> int:
    """Take an approval back: nothing of that run is answered any more; what was charged stays charged."""
    from pericard import site as command

    return until_stopped(lambda: command.withdraw(folder, runs))


@site_app.command("leave")
def site_leave(folder: Folder) -> int:
    """Take every approval back, stop the node, destroy its key; account, log and the site's own keys stay."""
    from pericard import site as command

    return until_stopped(lambda: command.leave(folder))


@site_app.command("log")
def site_log(
    path: Annotated[
        Path,
        typer.Argument(metavar="FOLDER|FILE", help="Folder of the site, or a copy of its audit.jsonl.", exists=True),
    ],
    verify: Annotated[bool, typer.Option("--verify", help="Only say whether it is as it was written.")] = False,
    public_key: Annotated[
        str, typer.Option(metavar="HEX", help="Public key of the site, to verify a copy by; a folder has its own.")
    ] = "",
    head: Annotated[
        str, typer.Option(metavar="SEQ:HASH", help="Head that was kept earlier: a journal without it was cut off.")
    ] = "",
    last: Annotated[int, typer.Option("--last", metavar="N", min=1, help="Show the last N messages.")] = 20,
    as_json: Json = False,
) -> int:
    """Show what entered and left this hospital, from its signed journal; every line is verified.

    Exit code 6 where a line was edited, taken out, put in or moved; it is named.
    """
    from pericard import journal as command

    return until_stopped(
        lambda: command.show(path, only_verify=verify, public_key=public_key, head=head, last=last, as_json=as_json)
    )


@site_app.command("status")
def site_status(folder: Folder, as_json: Json = False) -> int:
    """Say what runs here, whom this site joined, what it approved and answered, what was spent, what was refused."""
    from pericard import site_status as command

    return until_stopped(lambda: command.status(folder, as_json=as_json))
