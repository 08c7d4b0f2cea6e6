"""`pericard cohort …`: the commands about a folder of studies."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from pericard.options import Json, until_stopped

cohort_app = typer.Typer(
    name="cohort", help="A folder of studies: what is wrong with it, what is in it.", no_args_is_help=True
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

    return until_stopped(
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

    return until_stopped(
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

    return until_stopped(
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


@cohort_app.command("rehearse")
def cohort_rehearse(
    out: Annotated[Path, typer.Option("--out", "-o", metavar="DIR", help="What will hold it.", file_okay=False)],
    people: Annotated[int, typer.Option(metavar="N", min=20, help="Members and controls together.")] = 600,
    copies: Annotated[float, typer.Option(metavar="SHARE", min=0, max=1, help="Of the members, in the release.")] = 0.0,
    seed: Annotated[int, typer.Option(metavar="S", min=0, help="Of people and coins.")] = 0,
) -> int:
    """Draw simulated members, controls and a release, to rehearse an audit on: nobody in them is real.

    Fair coins tell members from controls, so the audit may be told --split random.
    """
    from pericard import rehearsal as command

    return until_stopped(lambda: command.command(out, people=people, copies=copies, seed=seed))
