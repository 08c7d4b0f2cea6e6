"""`pericard COMMAND [OPTIONS] [OVERRIDE…]`: one file per command, imported when it is called.

`--help` and `verify` load neither torch nor flwr. Exit codes are those of `pericard.errors`.
"""

import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import click
import typer

from pericard.cli_audit import audit
from pericard.cli_cohort import cohort_app
from pericard.cli_coordinate import coordinate_app
from pericard.cli_revoke import revoke_app
from pericard.cli_site import site_app
from pericard.errors import Exit, exit_code, one_line
from pericard.options import Json, say, until_stopped

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
app.add_typer(cohort_app)
app.add_typer(site_app)
app.add_typer(coordinate_app)
app.add_typer(revoke_app)


def _version(asked: bool) -> None:
    if asked:
        from importlib.metadata import version

        typer.echo(f"pericard {version('pericard')}")
        raise typer.Exit


def _layout(asked: bool) -> None:
    if asked:
        import json

        from evaluation.layout import statement_schema

        typer.echo(json.dumps(statement_schema(), indent=2, ensure_ascii=False))
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

    return until_stopped(
        lambda: command.command(overrides or [], out, resume, as_json),
        f"stopped; what was finished is kept. Add --resume to the same command to go on in {out}",
    )


@app.command()
def verify(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder with certificate.json and release/.")],
    trust: Annotated[
        Path | None, typer.Option("--trust", metavar="FILE", help="Public keys you got by another way than DIR.")
    ] = None,
    revocations: Annotated[
        Path | None, typer.Option("--revocations", metavar="FILE", help="The newest list of withdrawals.")
    ] = None,
    kept: Annotated[
        Path | None, typer.Option("--kept", metavar="FILE", help="An earlier list, which the newest must extend.")
    ] = None,
    older: Annotated[
        Path | None, typer.Option("--supersedes", metavar="FILE", help="The certificate that this one must replace.")
    ] = None,
    release: Annotated[
        Path | None, typer.Option("--release", metavar="PATH", help="What an audit in DIR is about, wherever it lies.")
    ] = None,
    layout: Annotated[
        bool, typer.Option("--schema", callback=_layout, is_eager=True, help="Print the JSON Schema of what is signed.")
    ] = False,
    as_json: Json = False,
) -> int:
    """Check the signatures, the expiry, withdrawals and every file of a release; say which file differs."""
    from pericard import verify as command

    asked = command.Asked(trust=trust, revocations=revocations, kept=kept, supersedes=older, release=release)
    return until_stopped(lambda: command.verify(folder, asked, as_json=as_json))


app.command()(audit)


@app.command()
def compare(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of runs, to any depth.", exists=True)],
    out: Annotated[
        Path | None, typer.Option("--out", "-o", metavar="HTML", help="Write the pictures of risk against utility.")
    ] = None,
    trust: Annotated[
        Path | None, typer.Option("--trust", metavar="FILE", help="Public keys; those beside each run if not given.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Lay the certificates of all runs below DIR side by side: ε, what attacks proved, what the release is good for."""
    from pericard import compare as command

    return until_stopped(lambda: command.command(folder, trust=trust, out=out, as_json=as_json))


@app.command()
def metrics(
    out: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of a run, finished or not.", file_okay=False)],
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on until the run is done.")] = False,
    tensorboard: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="Also write event files for TensorBoard here.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Show what each exchange of each training measured: loss on simulated people, ε so far, step, agreement.

    No patient is read for it. DIR/campaign/metrics.jsonl has the same rows.
    """
    from pericard import metrics as command

    return until_stopped(lambda: command.command(out, follow=follow, tensorboard=tensorboard, as_json=as_json))


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
    return until_stopped(lambda: command.command(asked, ledger=ledger, picture=picture, as_json=as_json))


@app.command()
def sample(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the results.", file_okay=False)],
    count: Annotated[
        int, typer.Option("--count", "-n", metavar="N", help="Images or clips to draw; any number.", min=1)
    ],
    folder: Annotated[
        Path | None, typer.Argument(metavar="[FOLDER]", help="A finished run, its release, or a bundle.")
    ] = None,
    prior: Annotated[bool, typer.Option("--prior", help="Draw from the public prior alone.")] = False,
    moving: Annotated[bool, typer.Option("--moving", help="With --prior: clips of whole beats, not images.")] = False,
    seed: Annotated[int, typer.Option(metavar="S", help="Of shapes and noise.", min=0)] = 0,
    solver: Annotated[
        str | None, typer.Option(metavar="NAME", help="euler, midpoint, heun, or jump: the distilled student.")
    ] = None,
    steps: Annotated[int | None, typer.Option(metavar="T", help="Intervals; jump was taught 1, 2 and 4.")] = None,
    precision: Annotated[str, typer.Option(metavar="NAME", help="bf16, fp32, or auto: what is fast here.")] = "auto",
    bundle: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Also write the generator there, to be handed on.")
    ] = None,
    as_json: Json = False,
) -> int:
    """Draw images with their masks, or clips, as a release that is not certified. Drawing costs no privacy.

    Image or clip k depends on the generator, the seed and k alone. The same command goes on where it was stopped.
    """
    from pericard import sample as command

    asked = command.Asked(count=count, seed=seed, solver=solver, steps=steps, precision=precision)
    return until_stopped(
        lambda: command.command(folder, asked, prior=prior, moving=moving, out=out, bundle=bundle, as_json=as_json),
        f"stopped; what was drawn is kept. Give the same command to go on in {out}",
    )


@prior_app.command("animate")
def prior_animate(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the priors.", file_okay=False)],
) -> int:
    """Teach the public generator to make a picture beat at any ejection fraction, on films of the phantom."""
    from pericard import prior as command

    return until_stopped(lambda: command.animate(out))


@prior_app.command("distill")
def prior_distill(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the priors.", file_okay=False)],
) -> int:
    """Teach a student of the public generator to draw in one, two or four jumps."""
    from pericard import prior as command

    return until_stopped(lambda: command.distill(out))


@prior_app.command("gamma")
def prior_gamma(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the priors.", file_okay=False)],
) -> int:
    """Train the autoencoder of Γ latents, which semantic diffusion works on."""
    from pericard import prior as command

    return until_stopped(lambda: command.gamma(out))


@prior_app.command("identity")
def prior_identity(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the priors.", file_okay=False)],
) -> int:
    """Teach the embedding that knows people and copies again, on phantoms, and calibrate it."""
    from pericard import prior as command

    return until_stopped(lambda: command.identity(out))


@prior_app.command("train")
def prior_train(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the priors.", file_okay=False)],
    device: Annotated[str, typer.Option("--device", help="Where torch computes: cpu, cuda or mps.")] = "cpu",
) -> int:
    """Train the generator, on the autoencoder that is there, and the view classifier on the phantom."""
    from pericard import prior as command

    return until_stopped(lambda: command.train(out, device))


@prior_app.command("video")
def prior_video(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="Folder of the priors.", file_okay=False)],
) -> int:
    """Teach the public generator to move, on films of the phantom."""
    from pericard import prior as command

    return until_stopped(lambda: command.video(out))


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

    return until_stopped(
        lambda: command.command(release, layout=layout, out=out, licence=licence, trust=trust, as_json=as_json)
    )


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
        say(f"{mistake.format_message()}{where}")
        return Exit.USAGE
    except SystemExit:  # how typer ends when whoever read our output has gone
        return Exit.STOPPED
    except Exception as error:  # the outermost frame: a known mistake becomes one line, a bug shows itself
        if (known := exit_code(error)) is Exit.BUG:
            traceback.print_exc()
            say("this is a bug in pericard, not a mistake of yours")
        else:
            say(one_line(error))
        return known
    return int(code or 0)


def main() -> None:
    """Run the command line of this process."""
    sys.exit(run(sys.argv[1:]))
