"""`pericard COMMAND [OPTIONS] [OVERRIDE…]`: one file per command, imported when it is called.

`--help` and `verify` load neither torch nor flwr. Exit codes are those of `pericard.errors`.
"""

import sys
import traceback
from collections.abc import Callable, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import click
import typer

from pericard.errors import Exit, exit_code, one_line

app = typer.Typer(
    name="pericard",
    help="Train cardiac generators across hospitals without a study leaving, and certify what comes out.",
    epilog="Exit codes: 0 PASS · 1 FAIL · 2 usage · 3 INCONCLUSIVE · 4 refused · 5 unreadable input · 6 integrity.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
prior_app = typer.Typer(
    name="prior", help="Make the public priors again, from simulated hearts only.", no_args_is_help=True
)
app.add_typer(prior_app)
cohort_app = typer.Typer(
    name="cohort", help="A folder of studies: what is wrong with it, what is in it.", no_args_is_help=True
)
app.add_typer(cohort_app)
site_app = typer.Typer(
    name="site", help="One hospital: its account, and what partners saw of it.", no_args_is_help=True
)
app.add_typer(site_app)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout, for machines.")]


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"pericard {version('pericard')}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and stop.")
    ] = False,
) -> None:
    pass


@app.command()
def simulate(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the results.", file_okay=False)],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME=VALUE]…", help="Overrides of the experiment.")
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run that was stopped in DIR.")] = False,
    as_json: Json = False,
) -> int:
    """Run a whole federation on this machine: train, sample, screen, assess, certify.

    Writes DIR/release/, DIR/certificate.json, DIR/report.html and DIR/run.json. The exit code is the verdict.

    Any setting of the experiment can be given as NAME=VALUE: experiment=camus cohort.root=FOLDER budget.epsilon=4
    """
    from pericard import simulate as command

    return _until_stopped(
        lambda: command.command(overrides or [], out, resume, as_json),
        f"stopped; what was finished is kept. Add --resume to the same command to go on in {out}",
    )


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with certificate.json and release/.")],
    trust: Annotated[
        Path | None, typer.Option("--trust", metavar="FILE", help="Public keys you got by another way than DIR.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Check the signatures, the expiry and every file of a release; say which file differs."""
    from pericard import verify as command

    return _until_stopped(lambda: command.verify(folder, trust=trust, as_json=as_json))


@app.command()
def plan(
    subjects: Annotated[int | None, typer.Option("--subjects", metavar="N", help="Members at one site.")] = None,
    target: Annotated[
        float | None, typer.Option("--epsilon", metavar="ε", help="What one subject may pay for the training.")
    ] = None,
    rounds: Annotated[int | None, typer.Option("--rounds", metavar="R", help="Exchanges with the coordinator.")] = None,
    steps_per_round: Annotated[int, typer.Option(metavar="E", help="Local steps in each exchange.")] = 5,
    sampling_rate: Annotated[
        float | None, typer.Option(metavar="q", help="Chance of a subject to be drawn in a step.  [default: 64/N]")
    ] = None,
    noise_multiplier: Annotated[
        float | None, typer.Option(metavar="σ", help="Backwards: what these steps cost, with --steps.")
    ] = None,
    steps: Annotated[int | None, typer.Option(metavar="T", help="Backwards: number of local steps in all.")] = None,
    delta: Annotated[float, typer.Option(metavar="δ", help="The exceptional probability.")] = 1e-5,
    sites: Annotated[
        int | None, typer.Option(metavar="K", help="With --honest: were the noise shared by so many sites.")
    ] = None,
    honest: Annotated[int | None, typer.Option(metavar="h", help="Sites that really add their share of it.")] = None,
    ledger: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Would it fit into this site's account?", exists=True)
    ] = None,
    picture: Annotated[Path | None, typer.Option(metavar="PNG", help="Draw ε against exchanges.")] = None,
    as_json: Json = False,
) -> int:
    """Say what a private training will cost, and how it will be checked, before anybody spends anything.

    Forwards: --subjects, --epsilon and --rounds give the noise. Backwards: --sampling-rate, --noise-multiplier and
    --steps give ε.
    """
    from pericard import plan as command

    asked = command.Asked(
        subjects=subjects,
        target=target,
        rounds=rounds,
        steps_per_round=steps_per_round,
        sampling_rate=sampling_rate,
        noise_multiplier=noise_multiplier,
        steps=steps,
        delta=delta,
        sites=sites,
        honest=honest,
    )
    return _until_stopped(lambda: command.command(asked, ledger=ledger, picture=picture, as_json=as_json))


@prior_app.command("train")
def prior_train(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the priors.", file_okay=False)],
    device: Annotated[str, typer.Option("--device", help="Where torch computes: cpu, cuda or mps.")] = "cpu",
) -> int:
    """Train the autoencoder, the generator and the view classifier on the phantom."""
    from pericard import prior as command

    return _until_stopped(lambda: command.train(out, device))


@app.command()
def export(
    release: Annotated[
        Path, typer.Argument(metavar="RELEASE", help="Folder of a release, or of the run that made it.")
    ],
    layout: Annotated[
        str, typer.Option(metavar="NAME", help="echonet-dynamic, camus, acdc, plain, plain-npy or dicom.")
    ],
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="What will hold it; must not exist.")],
    licence: Annotated[
        str | None, typer.Option("--license", metavar="SPDX", help="Where no certificate names one.")
    ] = None,
    trust: Annotated[Path | None, typer.Option(metavar="FILE", help="Public keys you got by another way.")] = None,
    as_json: Json = False,
) -> int:
    """Write a release as the field's own loaders read it, with Croissant, a dataset card and a datasheet."""
    from pericard import export as command

    return _until_stopped(
        lambda: command.command(release, layout=layout, out=out, licence=licence, trust=trust, as_json=as_json)
    )


Studies = Annotated[Path, typer.Argument(metavar="PATH", help="Folder of the studies.")]
Reader = Annotated[
    str | None, typer.Option("--reader", "-r", metavar="NAME", help="Its layout; known by itself if unmistakable.")
]
Settings = Annotated[
    list[str] | None, typer.Argument(metavar="[NAME=VALUE]…", help="Settings of the reader: subject=patient_id")
]


@cohort_app.command("check")
def cohort_check(
    folder: Studies,
    settings: Settings = None,
    reader: Reader = None,
    out: Annotated[Path | None, typer.Option("--out", "-o", metavar="FILE", help="Write the JSON here, too.")] = None,
    as_json: Json = False,
) -> int:
    """Name everything that is wrong with a folder of studies at once, worst first, with what to do about it.

    Exit code 0 where nothing does harm, 1 where identities or labels are wrong, 5 where a run would be refused.
    """
    from pericard import cohort as command

    return _until_stopped(
        lambda: command.check(folder, reader=reader, settings=settings or [], out=out, as_json=as_json)
    )


@cohort_app.command("describe")
def cohort_describe(
    folder: Studies,
    settings: Settings = None,
    reader: Reader = None,
    picture: Annotated[Path | None, typer.Option(metavar="PNG", help="Draw a contact sheet of the clips.")] = None,
    as_json: Json = False,
) -> int:
    """Count subjects, studies, views and labels, and say how their numbers are spread."""
    from pericard import cohort as command

    return _until_stopped(
        lambda: command.describe(folder, reader=reader, settings=settings or [], picture=picture, as_json=as_json)
    )


class Division(StrEnum):
    """How one data set becomes several simulated sites."""

    COLUMN = "column"
    DIRICHLET = "dirichlet"
    QUANTITY = "quantity"


@cohort_app.command("divide")
def cohort_divide(
    folder: Studies,
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="Where the partition is written.")],
    settings: Settings = None,
    reader: Reader = None,
    by: Annotated[Division, typer.Option(help="A site per value; labels skewed; sizes skewed.")] = Division.COLUMN,
    column: Annotated[str, typer.Option(metavar="NAME", help="Of the cohort, for column and dirichlet.")] = "",
    sites: Annotated[int, typer.Option(metavar="K", min=1, max=26, help="For dirichlet and quantity.")] = 3,
    alpha: Annotated[float, typer.Option(metavar="α", help="Small is skewed, large is even.")] = 0.5,
    seed: Annotated[int, typer.Option(help="Of who goes where.", min=0)] = 0,
) -> int:
    """Divide one data set into simulated sites, person by person; the file can be used again by others.

    It holds the identifiers of the data set: keep it where the studies are.
    """
    from pericard import cohort as command

    return _until_stopped(
        lambda: command.divide(
            folder,
            reader=reader,
            settings=settings or [],
            by=by.value,
            column=column,
            sites=sites,
            alpha=alpha,
            seed=seed,
            out=out,
        )
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
        return _until_stopped(lambda: command.act(folder, do, officer=officer_key))
    question = command.Question(
        epsilon=would_fit,
        delta=delta,
        purpose=purpose,
        sampling_rate=sampling_rate,
        noise_multiplier=noise_multiplier,
        steps=steps,
    )
    return _until_stopped(lambda: command.show(folder, question, verify=verify_all, events=events, as_json=as_json))


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

    return _until_stopped(lambda: command.command(folder, sign=sign, record=record))


def _until_stopped(command: Callable[[], int], advice: str = "stopped") -> int:
    try:
        return command()
    except KeyboardInterrupt:
        _say(advice)
        return Exit.STOPPED


def run(arguments: Sequence[str]) -> int:
    """Run the command line `arguments` and return the exit code; raises nothing."""
    try:
        code = app(list(arguments), prog_name="pericard", standalone_mode=False)
    except click.exceptions.NoArgsIsHelpError as shown:
        typer.echo(shown.format_message())
        return Exit.USAGE
    except click.ClickException as mistake:
        context = getattr(mistake, "ctx", None)
        where = f" (see {context.command_path} --help)" if context is not None else ""
        _say(f"{mistake.format_message()}{where}")
        return Exit.USAGE
    except SystemExit:  # how typer ends when whoever read our output has gone
        return Exit.STOPPED
    except Exception as error:  # the outermost frame: a known mistake becomes one line, a bug shows itself
        if (known := exit_code(error)) is Exit.BUG:
            traceback.print_exc()
            _say("this is a bug in pericard, not a mistake of yours")
        else:
            _say(one_line(error))
        return known
    return int(code or 0)


def main() -> None:
    """Run the command line of this process."""
    sys.exit(run(sys.argv[1:]))


def _say(line: str) -> None:
    typer.echo(f"pericard: {line}", err=True)
