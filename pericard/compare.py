"""`pericard compare DIR`: the certificates of all runs below a folder, side by side."""

import json
from pathlib import Path
from typing import Any

import click
import typer

from evaluation import compare, words
from evaluation.compare import Run
from evaluation.trust import Trust
from pericard.errors import Exit
from pericard.options import say


def command(folder: Path, *, trust: Path | None, out: Path | None, as_json: bool) -> int:
    """Print a table of the runs; with `out`, write the page with the pictures of risk against utility.

    Raises:
        click.UsageError: there is no certificate below `folder`, or the trust file is none.
    """
    try:
        known = Trust.parse(trust.read_bytes()) if trust else None
    except ValueError as error:
        raise click.UsageError(f"{trust} is no trust file: {error}") from error
    runs, problems = compare.read(folder, trust=known)
    for problem in problems:
        say(f"not read: {problem}")
    if not runs:
        raise click.UsageError(f"no certificate below {folder}")
    runs = compare.ordered(runs)
    if as_json:
        typer.echo(json.dumps([_facts(i, run) for i, run in enumerate(runs, 1)], ensure_ascii=True, allow_nan=False))
    else:
        _print(runs)
    if out is not None:
        from evaluation.compare_page import draw

        out.write_text(draw(runs, problems), "utf-8")
        say(f"wrote {out}")
    return Exit.PASS


def _facts(number: int, run: Run) -> dict[str, Any]:
    return {
        "number": number,
        "run": run.name,
        "signed": run.signed,
        "lane": run.predicate.release.lane.value,
        "verdict": run.predicate.verdict.value,
        "epsilon": run.epsilon,
        "covers_release": run.predicate.dp.release_covered,
        "epsilon_proved": run.proved[0] if run.proved else None,
        "epsilon_ceiling": run.proved[1] if run.proved else None,
        "least_p": run.p,
        "attacks": run.outcome,
        "utility": [
            {"task": task, "metric": metric, "estimate": u.estimate, "ci": u.ci, "n_patients": u.n_patients}
            for (task, metric), u in run.scores.items()
        ],
    }


def _print(runs: tuple[Run, ...]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    shown = compare.tasks(runs)[:3]
    table = Table(title="Runs by ε", title_justify="left", caption_justify="left")
    table.add_column("", justify="right", no_wrap=True)
    table.add_column("run", overflow="fold", min_width=8)
    for name in ("ε", "proved", "least p"):
        table.add_column(name, justify="right", no_wrap=True)
    for task, metric in shown:
        table.add_column(f"{words.spoken(task)}: {words.spoken(metric)}", justify="right", min_width=5)
    table.add_column("verdict, attacks", no_wrap=True)
    styles = {"PASS": "green", "FAIL": "bold red", "INCONCLUSIVE": "yellow"}
    for number, run in enumerate(runs, 1):
        verdict, star = run.predicate.verdict.value, "" if run.predicate.dp.release_covered else "*"
        table.add_row(
            str(number),
            Text(run.name if run.signed else f"{run.name} (signatures do not fit)"),
            f"{words.number(run.epsilon)}{star if run.epsilon is not None else ''}",
            words.number(run.proved[0] if run.proved else None),
            words.number(run.p),
            *(words.score(run.scores[t].estimate if t in run.scores else None) for t in shown),
            Text.assemble((verdict, styles[verdict]), f"\n{run.outcome}"),
        )
    if any(run.epsilon is not None and not run.predicate.dp.release_covered for run in runs):
        table.caption = "* of the generator only"
    Console().print(table)
